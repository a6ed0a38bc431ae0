//! What is wrong, in words: pure functions of the facts.

use std::fmt;
use std::net::IpAddr;

use super::Facts;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// It works, and will hurt some day.
    Warning,
    /// Calls fail.
    Broken,
}

/// Something that is wrong with a server, and what to do about it. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The server, without a login.
    pub server: String,
    /// What is wrong, and what to change.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, server, text } = self;
        let word = match severity {
            Severity::Warning => "warning",
            Severity::Broken => "broken",
        };
        write!(f, "{word}: {server}: {text}")
    }
}

/// Whether `part` is nine tenths of `whole` or more; never if there is no limit.
fn nearly(part: Option<u64>, whole: Option<u64>) -> Option<u64> {
    let (part, whole) = (part?, whole.filter(|whole| *whole > 0)?);
    let percent = u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(u64::MAX);
    (percent >= 90).then_some(percent)
}

/// What is wrong with a server of these facts.
pub(super) fn judge(facts: &Facts) -> Vec<Problem> {
    use Severity::{Broken, Warning};
    let mut found = Vec::new();
    let mut say = |severity, text: String| found.push(Problem { severity, server: facts.server.clone(), text });
    let Facts { memory, clients, counts, replication, persistence, tracking, .. } = facts;
    if persistence.loading == Some(true) {
        say(Broken, "it is reading its data set; it serves when that is done".to_owned());
    }
    if replication.is_replica == Some(true) {
        say(Broken, "it is a replica and takes no writes; connect to the primary, or through sentinels".to_owned());
        if replication.link_up == Some(false) {
            say(Broken, "its link to the primary is down, so what it holds gets old".to_owned());
        }
    }
    if memory.limit == Some(0) {
        let text =
            "maxmemory is 0: it grows until the machine has no memory left; set maxmemory, and an allkeys policy";
        say(Warning, text.to_owned());
    }
    if memory.policy.as_deref() == Some("noeviction")
        && let Some(percent) = nearly(memory.used, memory.limit)
    {
        let severity = if percent >= 100 { Broken } else { Warning };
        let text = format!(
            "memory is {percent}% full and maxmemory-policy is noeviction: when it is full writes fail; set an allkeys \
             policy such as allkeys-lfu"
        );
        say(severity, text);
    }
    if let Some(percent) = nearly(clients.connected, clients.limit) {
        let severity = if percent >= 100 { Broken } else { Warning };
        say(severity, format!("{percent}% of maxclients are connected; raise it, or look for who leaks connections"));
    }
    if let Some(rejected) = counts.rejected.filter(|rejected| *rejected > 0) {
        say(Warning, format!("{rejected} connections were rejected since its start; raise maxclients"));
    }
    if persistence.snapshot_ok == Some(false) {
        let text =
            "its last snapshot failed: it may refuse writes (MISCONF); look at its log and disk, or turn save off";
        say(Warning, text.to_owned());
    }
    if persistence.append_ok == Some(false) {
        say(Broken, "it can't write its append-only file and refuses writes; look at its disk".to_owned());
    }
    if let Some(percent) = nearly(tracking.keys, tracking.limit) {
        let text = format!(
            "its table of tracked keys is {percent}% full: beyond it keys are invalidated at random; raise \
             tracking-table-max-keys"
        );
        say(Warning, text);
    }
    found
}

/// Whether anybody on the internet could reach a server at `address`, if no firewall is in between.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified() || shared)
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_public(IpAddr::V4(v4)),
            None => {
                let first = v6.segments()[0];
                let local = (first & 0xfe00) == 0xfc00 || (first & 0xffc0) == 0xfe80;
                !(v6.is_loopback() || v6.is_unspecified() || local)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::Make;
    use super::*;

    const FINE: &str = "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:60\r\n# Clients\r\nconnected_clients:5\r\n\
        maxclients:100\r\n# Memory\r\nused_memory:50\r\nused_memory_peak:60\r\nmaxmemory:100\r\n\
        maxmemory_policy:allkeys-lfu\r\n# Persistence\r\nloading:0\r\nrdb_last_bgsave_status:ok\r\n\
        aof_last_write_status:ok\r\n# Stats\r\nevicted_keys:3\r\nkeyspace_hits:7\r\nrejected_connections:0\r\n\
        tracking_total_keys:10\r\n# Replication\r\nrole:master\r\nconnected_slaves:2\r\n";

    fn facts(changes: &[(&str, &str)]) -> Facts {
        let mut info = FINE.to_owned();
        for (name, value) in changes {
            // the last of two lines counts
            info.push_str(&format!("{name}:{value}\r\n"));
        }
        let config = HashMap::from([("tracking-table-max-keys".to_owned(), "1000".to_owned())]);
        Facts::parse("h:6379".to_owned(), &info, &config)
    }

    #[test]
    fn a_healthy_server_has_no_problem_and_tells_its_facts() {
        let facts = facts(&[]);
        assert_eq!(judge(&facts), []);
        assert_eq!((facts.make, facts.version.as_str()), (Make::Redis, "7.0.15"));
        assert_eq!((facts.memory.used, facts.memory.limit), (Some(50), Some(100)));
        assert_eq!((facts.replication.is_replica, facts.replication.replicas), (Some(false), Some(2)));
        assert_eq!((facts.counts.evicted, facts.counts.hits, facts.counts.misses), (Some(3), Some(7), None));
        assert_eq!((facts.tracking.keys, facts.tracking.limit), (Some(10), Some(1000)));
    }

    #[test]
    fn each_problem_is_named_with_what_to_do() {
        use Severity::{Broken, Warning};
        type Row<'a> = (&'a [(&'a str, &'a str)], Severity, &'a str);
        let rows: &[Row<'_>] = &[
            (&[("maxmemory", "0")], Warning, "set maxmemory"),
            (&[("used_memory", "95"), ("maxmemory_policy", "noeviction")], Warning, "95% full"),
            (&[("used_memory", "100"), ("maxmemory_policy", "noeviction")], Broken, "writes fail"),
            (&[("connected_clients", "91")], Warning, "91% of maxclients"),
            (&[("rejected_connections", "4")], Warning, "4 connections were rejected"),
            (&[("loading", "1")], Broken, "reading its data set"),
            (&[("role", "slave"), ("master_link_status", "up")], Broken, "is a replica"),
            (&[("rdb_last_bgsave_status", "err")], Warning, "snapshot failed"),
            (&[("aof_last_write_status", "err")], Broken, "append-only"),
            (&[("tracking_total_keys", "950")], Warning, "tracking-table-max-keys"),
        ];
        for (changes, severity, part) in rows {
            let problems = judge(&facts(changes));
            assert_eq!(problems.len(), 1, "{changes:?}: {problems:?}");
            assert!(problems[0].severity == *severity && problems[0].text.contains(part), "{changes:?}: {problems:?}");
        }
        let away = judge(&facts(&[("role", "slave"), ("master_link_status", "down")]));
        assert_eq!(away.len(), 2, "{away:?}");
        // full, but it evicts: that is what a cache does
        assert_eq!(judge(&facts(&[("used_memory", "100")])), []);
        assert_eq!(judge(&Facts::parse("h".to_owned(), "", &HashMap::new())), [], "nothing known is no problem");
    }

    #[test]
    fn makes_are_told_apart() {
        let make = |info: &str| {
            let facts = Facts::parse("h".to_owned(), info, &HashMap::new());
            (facts.make, facts.version)
        };
        let compatible = "redis_version:7.2.4\r\n";
        assert_eq!(make(&format!("{compatible}valkey_version:9.1.2\r\n")), (Make::Valkey, "9.1.2".into()));
        assert_eq!(make(&format!("{compatible}dragonfly_version:df-v1.30.0\r\n")), (Make::Dragonfly, "1.30.0".into()));
        assert_eq!(make("redis_version:6.3.4\r\nexecutable:/usr/bin/keydb-server\r\n"), (Make::KeyDb, "6.3.4".into()));
        assert_eq!(make(compatible), (Make::Redis, "7.2.4".into()));
    }

    #[test]
    fn public_addresses_are_told_from_private_ones() {
        for public in ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in
            ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "169.254.1.1", "::1", "fd00::1"]
        {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }
}
