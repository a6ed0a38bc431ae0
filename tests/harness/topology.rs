//! The far store of a history: one server, a primary that sentinels watch, or a cluster.

use std::io;

use cache_redis::testkit::{Cluster, Sentinel, Server};
use clap::ValueEnum;

/// How the far store is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    Standalone,
    Sentinel,
    Cluster,
}

impl Layout {
    /// How many lines the keys are spread over.
    pub(crate) const fn buckets(self) -> usize {
        match self {
            Self::Standalone | Self::Sentinel => 1,
            Self::Cluster => 16,
        }
    }
}

/// The running far store.
pub(crate) enum Topology {
    Standalone(Box<Server>),
    Sentinel(Sentinel),
    Cluster(Cluster),
}

impl Topology {
    /// Starts it.
    pub(crate) fn spawn(layout: Layout) -> io::Result<Self> {
        Ok(match layout {
            Layout::Standalone => Self::Standalone(Box::new(Server::spawn()?)),
            Layout::Sentinel => Self::Sentinel(Sentinel::spawn()?),
            Layout::Cluster => Self::Cluster(Cluster::spawn()?),
        })
    }

    /// The address that nodes reach it by, if there is one that a proxy can stand before.
    pub(crate) fn address(&self) -> Option<String> {
        match self {
            Self::Standalone(server) => Some(server.address()),
            // where the primary is changes, so nodes ask for it themselves
            Self::Sentinel(_) | Self::Cluster(_) => None,
        }
    }

    /// The url for nodes that no proxy stands before.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Standalone(server) => server.url(),
            Self::Sentinel(set) => {
                let hosts: Vec<String> = set.sentinels().iter().map(Server::address).collect();
                format!("redis+sentinel://{}/{}", hosts.join(","), Sentinel::NAME)
            }
            Self::Cluster(cluster) => {
                let hosts: Vec<String> = cluster.nodes().iter().map(Server::address).collect();
                format!("redis+cluster://{}", hosts.join(","))
            }
        }
    }

    pub(crate) fn servers(&self) -> Vec<&Server> {
        match self {
            Self::Standalone(server) => vec![server],
            Self::Sentinel(set) => set.servers().iter().collect(),
            Self::Cluster(cluster) => cluster.nodes().iter().collect(),
        }
    }

    /// The primary, in a cluster that of one line.
    pub(crate) fn primary(&self, line: usize) -> io::Result<usize> {
        match self {
            Self::Standalone(_) => Ok(0),
            Self::Sentinel(set) => set.primary(),
            Self::Cluster(cluster) => cluster.owner(&format!("history:{{{line}}}:seq")),
        }
    }

    /// The primary of each line.
    ///
    /// # Errors
    /// If no server says so.
    pub(crate) fn primaries(&self, layout: Layout) -> io::Result<Vec<usize>> {
        (0..layout.buckets()).map(|line| self.primary(line)).collect()
    }

    /// Kills the server and starts it empty.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        match self {
            Self::Standalone(server) => server.restart(),
            Self::Sentinel(_) | Self::Cluster(_) => Err(io::Error::other("only a server alone is restarted empty")),
        }
    }

    /// Moves a line's slot to another primary.
    pub(crate) fn migrate(&self, line: usize) -> io::Result<()> {
        match self {
            Self::Cluster(cluster) => cluster.migrate(&format!("history:{{{line}}}:seq")).map(drop),
            Self::Standalone(_) | Self::Sentinel(_) => Err(io::Error::other("only a cluster has slots")),
        }
    }

    /// Runs a command on every server. That a replica refuses, or a killed client gets no reply, is fine here.
    pub(crate) fn run(&self, command: &[&str]) {
        for server in self.servers() {
            let _ = server.cli(command);
        }
    }

    /// The make and version of the servers, and their layout.
    pub(crate) fn make(&self) -> String {
        let make =
            self.servers()[0].make().map_or_else(|_| "unknown".to_owned(), |m| format!("{} {}", m.name, m.version));
        match self {
            Self::Standalone(_) => make,
            Self::Sentinel(_) => format!("{make} with sentinels"),
            Self::Cluster(_) => format!("{make} cluster"),
        }
    }
}
