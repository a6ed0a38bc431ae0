//! Client tracking: hearing of writes that nobody published.

use cache_core::{Error, ErrorKind, Line, Result};

use crate::connect::Link;
use crate::error::{config, fault};

/// How a subscription hears of writes by programs that publish nothing: another language, `redis-cli`, expiry,
/// eviction, `FLUSHALL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tracking {
    /// Not at all: only changes made through this library are heard.
    #[default]
    Off,
    /// The server pushes the name of every key written under the subscription's prefix
    /// (`CLIENT TRACKING ON BCAST`), over one connection more, in RESP3.
    ///
    /// Costs no memory on the server and nothing on reads; each write under the prefix, fills and leases included, is
    /// one push to each subscriber. On Redis 6 or newer and Valkey, not on Dragonfly. In a cluster each primary pushes
    /// its own keys, so it is one connection more to each of them.
    Bcast,
    /// The server remembers which keys each connection has read, and pushes the name of one of them when it is written
    /// (`CLIENT TRACKING ON OPTOUT`, over the connections that read, in RESP3).
    ///
    /// Pushed are only keys that this process has read since they were last pushed, so what others write of the rest
    /// costs nothing. The server pays about 100 bytes for a key that is read, 40 to 70 for each further process, and up
    /// to twice the time of a read; recipes over the same store are watched too. On Redis 6 or newer, Valkey and
    /// Dragonfly, and in a cluster; Dragonfly does not push expiries reliably.
    Reads,
}

/// The refusal of a server that has RESP2 only.
pub(crate) const NO_RESP3: &str = "tracking needs resp3, which the server does not speak; set tracking to off";

/// The error of a server that refused to track reads, by its code.
pub(crate) fn not_tracked(code: &str) -> Error {
    match code {
        "NOPERM" => config("tracking of reads is denied; allow the user +client|tracking, or set tracking to off"),
        _ => config("the server does not track reads; set tracking to off"),
    }
}

/// Refuses a server that can't push every write: in one error, before anything is subscribed to.
pub(crate) async fn check(link: &Link) -> Result<()> {
    if link.config().knobs.tracking == Tracking::Off {
        return Ok(());
    }
    if link.is_resp2() {
        return Err(config(NO_RESP3));
    }
    // every connection that reads has asked already
    if link.tracks_reads() {
        return Ok(());
    }
    let info: String = link.call("connect", redis::cmd("INFO").arg("server")).await.map_err(|error| {
        if error.kind() != ErrorKind::Denied {
            return error;
        }
        config("tracking needs to know the server's make; allow the user +info, or set tracking to off")
    })?;
    refused(&info).map_or(Ok(()), |text| Err(config(text)))
}

/// Why the server that says `info` can't do it.
fn refused(info: &str) -> Option<&'static str> {
    let says = |field: &str| info.lines().any(|line| line.trim_end().starts_with(field));
    if says("dragonfly_version:") {
        return Some("dragonfly has no broadcast tracking; set tracking to reads");
    }
    None
}

/// The prefixes of the keys that belong to `lines`: a line's channel `p:ch` stands beside its keys `p:k:...`.
pub(crate) fn prefixes(lines: &[Line]) -> Result<Vec<String>> {
    let mut prefixes = Vec::with_capacity(lines.len());
    for line in lines {
        let Some(prefix) = line.channel.strip_suffix("ch").filter(|prefix| prefix.ends_with(':')) else {
            let text = "tracking needs channels that end in ':ch', beside keys that begin with the same and 'k:'";
            return Err(fault(ErrorKind::Invalid, text).with_operation("subscribe"));
        };
        let prefix = format!("{prefix}k:");
        if !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    Ok(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(channel: &str) -> Line {
        Line { seq: "s".into(), channel: channel.into(), tags: "t".into() }
    }

    #[test]
    fn prefixes_stand_beside_channels() {
        let lines = [line("shop:{0}:ch"), line("shop:{1}:ch"), line("shop:{0}:ch")];
        assert_eq!(prefixes(&lines).unwrap(), ["shop:{0}:k:", "shop:{1}:k:"]);
        // an empty prefix would be every key of the server
        for odd in ["ch", "shop", "shopch", ""] {
            assert_eq!(prefixes(&[line(odd)]).unwrap_err().kind(), ErrorKind::Invalid, "{odd:?}");
        }
    }

    #[test]
    fn servers_that_cannot_push_every_write_are_refused() {
        assert_eq!(refused("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n"), None);
        let dragonfly = "# Server\r\nredis_version:7.4.0\r\ndragonfly_version:df-v1.30.0\r\nredis_mode:standalone\r\n";
        assert!(refused(dragonfly).unwrap().contains("to reads"));
        assert_eq!(refused("redis_version:7.0.15\r\nredis_mode:cluster\r\n"), None);
    }
}
