//! The options that url, environment and code share: their names, forms and limits.

use std::time::Duration;

use super::{RedisBuilder, place};
use crate::Tracking;
use crate::config::{Knobs, Protocol, Secret};
use crate::tls::Pem;

/// Sets one option from its text.
type Setter = fn(&mut RedisBuilder, &str) -> Result<(), &'static str>;

/// Every option by name; the url refuses what isn't here.
pub(super) const OPTIONS: &[(&str, Setter)] = &[
    ("timeout", |b, v| set(&mut b.knobs.timeout, span(v))),
    ("connect_timeout", |b, v| set(&mut b.knobs.connect_timeout, span(v))),
    ("max_value", |b, v| set(&mut b.knobs.max_value, size(v))),
    ("connections", |b, v| set(&mut b.knobs.connections, number(v))),
    ("protocol", |b, v| set(&mut b.knobs.protocol, protocol(v))),
    ("tracking", |b, v| set(&mut b.knobs.tracking, tracking(v))),
    ("client_name", |b, v| {
        b.knobs.client_name = Some(v.into());
        Ok(())
    }),
    ("heartbeat", |b, v| set(&mut b.knobs.heartbeat, span(v))),
    ("rebuild_after", |b, v| set(&mut b.knobs.rebuild_after, number(v))),
    ("grace", |b, v| set(&mut b.knobs.grace, span(v))),
    ("backoff_min", |b, v| set(&mut b.knobs.backoff_min, span(v))),
    ("backoff_max", |b, v| set(&mut b.knobs.backoff_max, span(v))),
    ("keepalive", |b, v| set(&mut b.knobs.keepalive, span(v))),
    ("user_timeout", |b, v| set(&mut b.knobs.user_timeout, span(v))),
    ("db", |b, v| set(&mut b.db, number(v).map(Some))),
    ("cluster", |b, v| set(&mut b.cluster, flag(v))),
    ("sentinels", |b, v| set(&mut b.sentinels, place::list(v.split(','), place::SENTINEL))),
    ("master", |b, v| {
        b.master = Some(v.to_owned());
        Ok(())
    }),
    ("sentinel_username", |b, v| {
        b.sentinel_username = Some(v.to_owned());
        Ok(())
    }),
    ("sentinel_password", |b, v| {
        b.sentinel_password = Some(Secret(v.to_owned()));
        Ok(())
    }),
    ("ca", |b, v| pem(&mut b.settings.ca, v)),
    ("cert", |b, v| pem(&mut b.settings.cert, v)),
    ("key", |b, v| pem(&mut b.settings.key, v)),
    ("server_name", |b, v| {
        b.settings.server_name = Some(v.to_owned());
        Ok(())
    }),
    ("verify", |b, v| set(&mut b.settings.verify, flag(v).map(Some))),
];

/// Names that other clients have for some of the options.
const ALIASES: &[(&str, &str)] = &[
    ("pool_size", "connections"),
    ("max_connections", "connections"),
    ("command_timeout", "timeout"),
    ("response_timeout", "timeout"),
    ("socket_timeout", "timeout"),
    ("read_timeout", "timeout"),
    ("connection_timeout", "connect_timeout"),
    ("dial_timeout", "connect_timeout"),
    ("socket_connect_timeout", "connect_timeout"),
    ("keep_alive", "keepalive"),
    ("database", "db"),
    ("max_retry_delay", "backoff_max"),
];

/// The option called `name`, which may be another client's name for it.
pub(super) fn find(name: &str) -> Option<&'static (&'static str, Setter)> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    OPTIONS.iter().find(|(known, _)| *known == name)
}

fn set<T>(place: &mut T, value: Result<T, &'static str>) -> Result<(), &'static str> {
    *place = value?;
    Ok(())
}

fn pem(place: &mut Option<Pem>, path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is the path of a pem file");
    }
    *place = Some(Pem::File(path.into()));
    Ok(())
}

/// `yes` and `no` in their usual forms.
pub(super) fn flag(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is true or false"),
    }
}

pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "is a whole number in its range")
}

fn span(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "is a time such as 250ms, 2s or 1m";
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let count: u64 = digits.parse().map_err(|_| FORM)?;
    let millis = match text.get(digits.len()..) {
        Some("ms") => Some(count),
        Some("s") => count.checked_mul(1000),
        Some("m") => count.checked_mul(60_000),
        Some("") if count == 0 => Some(0),
        _ => return Err(FORM),
    };
    millis.map(Duration::from_millis).ok_or(FORM)
}

fn size(text: &str) -> Result<usize, &'static str> {
    const FORM: &str = "is a number of bytes such as 4096, 64k or 2m";
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (text.get(..text.len() - 1), 1024),
        Some(b'm' | b'M') => (text.get(..text.len() - 1), 1024 * 1024),
        _ => (Some(text), 1),
    };
    let count: usize = digits.and_then(|digits| digits.parse().ok()).ok_or(FORM)?;
    count.checked_mul(unit).ok_or(FORM)
}

fn protocol(text: &str) -> Result<Protocol, &'static str> {
    match text {
        "auto" => Ok(Protocol::Auto),
        "resp2" | "2" => Ok(Protocol::Resp2),
        "resp3" | "3" => Ok(Protocol::Resp3),
        _ => Err("is auto, resp2 or resp3"),
    }
}

fn tracking(text: &str) -> Result<Tracking, &'static str> {
    match text {
        "off" => Ok(Tracking::Off),
        "bcast" => Ok(Tracking::Bcast),
        "reads" => Ok(Tracking::Reads),
        _ => Err("is off, bcast or reads"),
    }
}

/// Refuses numbers that can't work.
pub(super) fn check(knobs: &Knobs, faults: &mut Vec<String>) {
    const HOUR: Duration = Duration::from_secs(3600);
    let milli = Duration::from_millis(1);
    for (name, span, min) in [
        ("timeout", knobs.timeout, milli),
        ("connect_timeout", knobs.connect_timeout, milli),
        ("heartbeat", knobs.heartbeat, milli * 10),
        ("backoff_min", knobs.backoff_min, milli),
        ("backoff_max", knobs.backoff_max, milli),
        ("grace", knobs.grace, Duration::ZERO),
        ("keepalive", knobs.keepalive, Duration::ZERO),
        ("user_timeout", knobs.user_timeout, Duration::ZERO),
    ] {
        if span < min || span > HOUR {
            faults.push(format!("{name} is between {} ms and one hour", min.as_millis()));
        }
    }
    if knobs.backoff_min > knobs.backoff_max {
        faults.push("backoff_min is over backoff_max".to_owned());
    }
    if !knobs.keepalive.is_zero() && knobs.keepalive < Duration::from_secs(1) {
        faults.push("keepalive is 0 or at least 1s".to_owned());
    }
    if knobs.max_value == 0 || knobs.max_value > 512 << 20 {
        faults.push("max_value is between 1 byte and 512 MiB".to_owned());
    }
    if knobs.connections == 0 || knobs.connections > 64 {
        faults.push("connections is between 1 and 64".to_owned());
    }
    if knobs.rebuild_after == 0 || knobs.rebuild_after > 1000 {
        faults.push("rebuild_after is between 1 and 1000".to_owned());
    }
    if knobs.tracking != Tracking::Off && knobs.protocol == Protocol::Resp2 {
        faults.push("tracking needs resp3, and protocol is resp2; drop one of the two".to_owned());
    }
    if let Some(name) = &knobs.client_name
        && (name.is_empty() || !name.bytes().all(|b| (b'!'..=b'~').contains(&b)))
    {
        faults.push("client_name is printable ascii without spaces".to_owned());
    }
}
