//! A primary with replicas under sentinels.

use std::io;
use std::time::Duration;

use super::{Server, until};

const READY: Duration = Duration::from_secs(30);
/// A sentinel that was held up for 2 s does nothing for 30 s (its TILT mode), and one whose vote failed waits for 10 s.
const TAKES_OVER: Duration = Duration::from_secs(120);

/// One primary, two replicas and three sentinels; a killed primary is replaced after about 2.5 s.
#[derive(Debug)]
pub struct Sentinel {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Sentinel {
    /// The name that the sentinels know the primary by.
    pub const NAME: &'static str = "mymaster";

    /// Starts the set and waits until replicas are in sync and sentinels know each other: about 3 s.
    ///
    /// # Errors
    /// As [`Builder::spawn`](super::Builder::spawn); `TimedOut` after 30 s.
    pub fn spawn() -> io::Result<Self> {
        let quick = ["--repl-diskless-sync-delay", "0"];
        let primary = Server::builder().args(&quick).spawn()?;
        let port = primary.port().to_string();
        let mut servers = vec![primary];
        for _ in 0..2 {
            servers.push(Server::builder().args(&quick).args(&["--replicaof", "127.0.0.1", &port]).spawn()?);
        }
        for replica in &servers[1..] {
            until("a replica in sync", READY, || in_sync(replica))?;
        }
        let name = Self::NAME;
        let lines = format!(
            "sentinel monitor {name} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {name} 1000\n\
             sentinel failover-timeout {name} 5000\n\
             sentinel parallel-syncs {name} 1\n"
        );
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Server::builder().config(lines.as_str()).args(&["--sentinel"]).spawn()?);
        }
        let set = Self { servers, sentinels };
        for sentinel in &set.sentinels {
            until("a sentinel that knows all others", READY, || {
                let said = sentinel.cli(&["SENTINEL", "master", name])?;
                let lines: Vec<&str> = said.lines().collect();
                let is = |field: &str, value: &str| lines.windows(2).any(|pair| pair == [field, value]);
                Ok(is("num-slaves", "2") && is("num-other-sentinels", "2"))
            })?;
        }
        Ok(set)
    }

    /// A single sentinel that watches `server`, is slow to act and asks for `password`, if there is one.
    ///
    /// # Errors
    /// As [`Builder::spawn`](super::Builder::spawn).
    pub fn alone(server: &Server, password: Option<&str>) -> io::Result<Server> {
        let (name, port) = (Self::NAME, server.port());
        let lines = format!(
            "sentinel monitor {name} 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds {name} 600000\n"
        );
        let builder = Server::builder().config(lines).args(&["--sentinel"]);
        match password {
            Some(password) => builder.password(password).args(&["--requirepass", password]).spawn(),
            None => builder.spawn(),
        }
    }

    /// The data servers; the first one was the primary at the start.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The data servers, to kill or restart.
    pub fn servers_mut(&mut self) -> &mut [Server] {
        &mut self.servers
    }

    /// The sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The sentinels, to kill or restart.
    pub fn sentinels_mut(&mut self) -> &mut [Server] {
        &mut self.sentinels
    }

    /// The index in [`servers`](Self::servers) of the one that a sentinel names as primary now.
    ///
    /// # Errors
    /// If no sentinel answers, or names none of these servers.
    pub fn primary(&self) -> io::Result<usize> {
        let mut fault = io::Error::other("there is no sentinel");
        for sentinel in &self.sentinels {
            match sentinel.cli(&["SENTINEL", "get-master-addr-by-name", Self::NAME]) {
                Ok(said) => {
                    let port = said.lines().nth(1).and_then(|port| port.parse::<u16>().ok());
                    let known = self.servers.iter().position(|server| Some(server.port()) == port);
                    return known.ok_or_else(|| io::Error::other("a sentinel names a server that isn't of this set"));
                }
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }

    /// Asks for a failover without a fault and waits until the new primary takes writes; its index.
    ///
    /// # Errors
    /// As [`await_primary_other_than`](Self::await_primary_other_than).
    pub fn failover(&self) -> io::Result<usize> {
        let before = self.primary()?;
        self.sentinels[0].cli(&["SENTINEL", "FAILOVER", Self::NAME])?;
        self.await_primary_other_than(before)
    }

    /// Waits until the sentinels name another primary than `before` and it takes writes; its index.
    ///
    /// # Errors
    /// `TimedOut` after 120 s, with what the sentinels wrote last.
    pub fn await_primary_other_than(&self, before: usize) -> io::Result<usize> {
        let mut now = before;
        let named = until("another primary", TAKES_OVER, || {
            now = self.primary()?;
            Ok(now != before && self.servers[now].cli(&["ROLE"])?.starts_with("master"))
        });
        named.map_err(|fault| io::Error::new(fault.kind(), format!("{fault}\n{}", self.last_words())))?;
        Ok(now)
    }

    /// The last lines of each sentinel's log.
    fn last_words(&self) -> String {
        let last = |sentinel: &Server| {
            let log = sentinel.log();
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(20)..].join("\n")
        };
        self.sentinels.iter().map(last).collect::<Vec<_>>().join("\n\n")
    }
}

/// Whether `server` is a replica that has its primary's data.
pub(super) fn in_sync(server: &Server) -> io::Result<bool> {
    Ok(server.cli(&["INFO", "replication"])?.contains("master_link_status:up"))
}
