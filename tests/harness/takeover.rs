//! Stops a primary, and says whether another server took over.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cache_core::Clock;
use cache_redis::testkit::{Cluster, Sentinel, Server};

use crate::excuse::{MEETS, Takeover};
use crate::topology::Topology;

/// How long sentinels and replicas may take to agree, and a stopped primary to be replaced.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a sentinel has to be content before nothing is on its way any more: some turns of its timer.
const CALM: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(10);
/// How long a primary goes on without replicas before it is stopped for good: what it takes then is lost.
const ALONE: Duration = Duration::from_millis(500);

/// The client name of a process.
pub(crate) fn name_of(process: u16) -> String {
    format!("history-{process}")
}

impl Topology {
    /// Stops the primary, in a cluster that of one line: for `span`, or until another one took over. In the first case
    /// replicas lack only what was under way, in the second what the primary took in its last moments. The failover, if
    /// there was one.
    ///
    /// # Errors
    /// If servers don't agree in time, or a process does not meet the new one.
    pub(crate) fn stop(&self, line: usize, span: Option<Duration>, processes: u16) -> io::Result<Option<Takeover>> {
        self.await_calm()?;
        let before = self.primary(line)?;
        let old = self.servers()[before];
        let heir = match self {
            Self::Cluster(cluster) => Some(replica_of(cluster, before)?),
            Self::Standalone(_) | Self::Sentinel(_) => None,
        };
        let now = || Clock::system().now().as_nanos();
        let begun = now();
        if span.is_none() {
            self.leave_alone(before, heir)?;
        }
        old.pause()?;
        if span.is_none() {
            self.servers()
                .iter()
                .filter(|server| server.port() != old.port())
                .try_for_each(|server| server.resume())?;
        }
        let taken = match (span, self) {
            (Some(span), _) => {
                sleep(span);
                Ok(())
            }
            (None, Self::Sentinel(set)) => set.await_primary_other_than(before).map(drop),
            (None, _) => heir.map_or(Ok(()), |heir| until(PATIENCE, "a replica that takes over", || is_primary(heir))),
        };
        // when it goes on it is an old primary for a moment
        let mut done = now();
        old.resume()?;
        taken?;
        if span.is_some() {
            self.await_calm()?;
            if self.primary(line)? == before {
                return Ok(None);
            }
            done = now();
        }
        let new = match heir {
            // the old one may not know yet
            Some(heir) => heir,
            None => self.servers()[self.primary(line)?],
        };
        let all = || Ok(has_left(self, old)? && have_met(new, processes)?);
        until(MEETS, "processes that met the new server", all)?;
        Ok(Some(Takeover { begun, done, met: now(), ..Takeover::default() }))
    }

    /// Cuts a primary off its replicas for a moment: they are stopped, so that they don't come back at once.
    fn leave_alone(&self, primary: usize, heir: Option<&Server>) -> io::Result<()> {
        let servers = self.servers();
        let replicas = servers.iter().enumerate().filter(|(at, server)| match heir {
            Some(heir) => heir.port() == server.port(),
            None => *at != primary,
        });
        for (_, replica) in replicas {
            replica.pause()?;
        }
        servers[primary].cli(&["CLIENT", "KILL", "TYPE", "replica"])?;
        sleep(ALONE);
        Ok(())
    }

    /// Asks a cluster for a failover, in which the primary waits for its replica: nothing is lost.
    ///
    /// # Errors
    /// If it refuses, or is no cluster.
    pub(crate) fn hand_over(&self, line: usize) -> io::Result<()> {
        let Self::Cluster(cluster) = self else { return Err(io::Error::other("only a cluster hands over")) };
        replica_of(cluster, self.primary(line)?)?.cli(&["CLUSTER", "FAILOVER"])?;
        cluster.await_ready()
    }

    /// Waits until nothing is on its way: replicas have their primary's data, and nobody looks for a new primary.
    fn await_calm(&self) -> io::Result<()> {
        match self {
            Self::Standalone(_) => Ok(()),
            Self::Cluster(cluster) => cluster.await_ready(),
            Self::Sentinel(set) => {
                let mut since = Instant::now();
                until(PATIENCE, "sentinels that are content", || {
                    if !is_calm(set)? {
                        since = Instant::now();
                    }
                    Ok(since.elapsed() >= CALM)
                })
            }
        }
    }
}

/// Whether all sentinels name the same primary and miss nothing of it, and its replicas have its data.
fn is_calm(set: &Sentinel) -> io::Result<bool> {
    let mut named = Vec::new();
    for sentinel in set.sentinels() {
        let said = sentinel.cli(&["SENTINEL", "master", Sentinel::NAME])?;
        let lines: Vec<&str> = said.lines().collect();
        let field = |name: &str| lines.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].to_owned());
        if field("flags").as_deref() != Some("master") {
            return Ok(false);
        }
        named.push(field("port"));
    }
    if named.windows(2).any(|pair| pair[0] != pair[1]) {
        return Ok(false);
    }
    let primary = set.primary()?;
    for (at, server) in set.servers().iter().enumerate() {
        let said = server.cli(&["INFO", "replication"])?;
        let follows = said.contains("role:slave") && said.contains("master_link_status:up");
        if at != primary && !follows {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The replica of a cluster's primary.
fn replica_of(cluster: &Cluster, primary: usize) -> io::Result<&Server> {
    let id = cluster.nodes()[primary].cli(&["CLUSTER", "MYID"])?;
    let follows = |node: &&Server| {
        let nodes = node.cli(&["CLUSTER", "NODES"]).unwrap_or_default();
        nodes.lines().any(|line| line.contains("myself,slave") && line.contains(&id))
    };
    cluster.nodes().iter().find(follows).ok_or_else(|| io::Error::other("the primary has no replica"))
}

fn is_primary(server: &Server) -> io::Result<bool> {
    Ok(server.cli(&["ROLE"])?.starts_with("master") && server.cli(&["CLUSTER", "INFO"])?.contains("cluster_state:ok"))
}

/// Whether all processes talk to `server` and hear what it publishes.
fn have_met(server: &Server, processes: u16) -> io::Result<bool> {
    let clients = server.cli(&["CLIENT", "LIST"])?;
    let talks = |process: u16| clients.contains(&format!("name={} ", name_of(process)));
    // subscriptions bear no name, except those of sentinels
    let listen = clients.lines().filter(|client| client.contains("flags=P ") && !client.contains("name=sentinel-"));
    Ok((0..processes).all(talks) && listen.count() >= usize::from(processes))
}

/// Whether no process writes to `old` any more: it refuses, or nobody is there.
fn has_left(topology: &Topology, old: &Server) -> io::Result<bool> {
    match topology {
        Topology::Cluster(_) => Ok(old.cli(&["ROLE"])?.starts_with("slave")),
        Topology::Standalone(_) | Topology::Sentinel(_) => {
            let follows = old.cli(&["ROLE"])?.starts_with("slave");
            Ok(follows || !old.cli(&["CLIENT", "LIST"])?.contains("name=history-"))
        }
    }
}

fn until(patience: Duration, what: &str, mut done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let end = Instant::now() + patience;
    // an error may pass: a server that is just becoming something else
    while !done().unwrap_or_default() {
        if Instant::now() > end {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("waited {patience:?} for {what}")));
        }
        sleep(POLL);
    }
    Ok(())
}
