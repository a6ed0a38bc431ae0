//! What a server says about itself.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// Who made a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Make {
    /// Redis, or something that says so.
    Redis,
    /// Valkey.
    Valkey,
    /// Dragonfly.
    Dragonfly,
    /// KeyDB.
    KeyDb,
}

impl fmt::Display for Make {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
            Self::Dragonfly => "Dragonfly",
            Self::KeyDb => "KeyDB",
        })
    }
}

/// Facts about one server, from `INFO` and two lines of its configuration. What a server does not tell, or a user may
/// not ask, is `None`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Facts {
    /// Where it is, without a login.
    pub server: String,
    /// Who made it.
    pub make: Make,
    /// Its version, such as `7.0.15`; for Redis-like makes their own, not the one that they are compatible with.
    pub version: String,
    /// How long it runs.
    pub uptime: Option<Duration>,
    /// Its memory.
    pub memory: Memory,
    /// Its clients.
    pub clients: Clients,
    /// What it did since it was started.
    pub counts: Counts,
    /// Its place among others.
    pub replication: Replication,
    /// What it keeps on disk.
    pub persistence: Persistence,
    /// The table of keys that clients track.
    pub tracking: Tracked,
}

/// A server's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Bytes in use.
    pub used: Option<u64>,
    /// The most bytes that were in use.
    pub peak: Option<u64>,
    /// `maxmemory`; 0 is no limit.
    pub limit: Option<u64>,
    /// `maxmemory-policy`; `cache` for Dragonfly in cache mode.
    pub policy: Option<String>,
}

/// A server's clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Clients {
    /// How many are connected.
    pub connected: Option<u64>,
    /// How many wait in a blocking command.
    pub blocked: Option<u64>,
    /// The most that may be connected.
    pub limit: Option<u64>,
}

/// What a server did since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Commands.
    pub commands: Option<u64>,
    /// Keys that were found.
    pub hits: Option<u64>,
    /// Keys that were not.
    pub misses: Option<u64>,
    /// Keys that went because memory was full.
    pub evicted: Option<u64>,
    /// Keys whose time was over.
    pub expired: Option<u64>,
    /// Connections that were refused.
    pub rejected: Option<u64>,
}

/// A server's place among others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replication {
    /// Whether it is a replica.
    pub is_replica: Option<bool>,
    /// How many replicas it has.
    pub replicas: Option<u64>,
    /// A replica's link to its primary: whether it is up.
    pub link_up: Option<bool>,
}

/// What a server keeps on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Persistence {
    /// Whether it is reading its data set, and serves nothing.
    pub loading: Option<bool>,
    /// Whether the last snapshot was written.
    pub snapshot_ok: Option<bool>,
    /// Whether the last write to the append-only file was.
    pub append_ok: Option<bool>,
}

/// The table of keys that clients track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tracked {
    /// How many keys are in it.
    pub keys: Option<u64>,
    /// The most that fit; beyond it the server invalidates some at random. 0 is no limit.
    pub limit: Option<u64>,
}

impl Facts {
    /// The facts in the text of `INFO`, and in names and values of the configuration.
    pub(super) fn parse(server: String, info: &str, config: &HashMap<String, String>) -> Self {
        let lines: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let text = |name: &str| lines.get(name).map(|value| (*value).to_owned());
        let number = |name: &str| lines.get(name).and_then(|value| value.parse().ok());
        let is = |name: &str, yes: &str| lines.get(name).map(|value| *value == yes);
        let set = |name: &str| config.get(name).and_then(|value| value.parse().ok());
        let (make, version) = if let Some(version) = text("dragonfly_version") {
            (Make::Dragonfly, version.trim_start_matches("df-").trim_start_matches('v').to_owned())
        } else if let Some(version) = text("valkey_version") {
            (Make::Valkey, version)
        } else {
            let keydb =
                lines.contains_key("mvcc_depth") || text("executable").is_some_and(|file| file.contains("keydb"));
            (if keydb { Make::KeyDb } else { Make::Redis }, text("redis_version").unwrap_or_default())
        };
        let cache_mode =
            (make == Make::Dragonfly && is("cache_mode", "cache") == Some(true)).then(|| "cache".to_owned());
        Self {
            server,
            make,
            version,
            uptime: number("uptime_in_seconds").map(Duration::from_secs),
            memory: Memory {
                used: number("used_memory"),
                peak: number("used_memory_peak"),
                limit: number("maxmemory"),
                policy: cache_mode.or_else(|| text("maxmemory_policy")),
            },
            clients: Clients {
                connected: number("connected_clients"),
                blocked: number("blocked_clients"),
                limit: number("maxclients").or_else(|| number("max_clients")).or_else(|| set("maxclients")),
            },
            counts: Counts {
                commands: number("total_commands_processed"),
                hits: number("keyspace_hits"),
                misses: number("keyspace_misses"),
                evicted: number("evicted_keys"),
                expired: number("expired_keys"),
                rejected: number("rejected_connections"),
            },
            replication: Replication {
                is_replica: lines.get("role").map(|role| matches!(*role, "slave" | "replica")),
                replicas: number("connected_slaves"),
                link_up: is("master_link_status", "up"),
            },
            persistence: Persistence {
                loading: is("loading", "1"),
                snapshot_ok: is("rdb_last_bgsave_status", "ok"),
                append_ok: is("aof_last_write_status", "ok"),
            },
            tracking: Tracked { keys: number("tracking_total_keys"), limit: set("tracking-table-max-keys") },
        }
    }
}
