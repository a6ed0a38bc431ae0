//! A cluster.

use std::io;
use std::time::Duration;

use cache_core::testkit::PATIENT;

use super::sentinel::in_sync;
use super::{Server, until};

const READY: Duration = Duration::from_secs(30);
const SLOTS: u32 = 16_384;

/// Three primaries with a replica each; the servers `0..3` are the primaries at the start, `3 + i` replicates `i`.
/// A killed primary is replaced after about 4 s.
#[derive(Debug)]
pub struct Cluster(Vec<Server>);

/// A slot on its way; from [`Cluster::begin_migration`].
#[derive(Clone, Debug)]
pub struct Migration {
    slot: String,
    from: usize,
    to: usize,
    /// The new owner's id.
    target: String,
}

impl Migration {
    /// The index of the node that owned the slot.
    #[must_use]
    pub const fn from(&self) -> usize {
        self.from
    }

    /// The index of the node that will own it.
    #[must_use]
    pub const fn to(&self) -> usize {
        self.to
    }
}

impl Cluster {
    /// Starts the six nodes and waits until each says that the cluster serves: about 2 s.
    ///
    /// # Errors
    /// As [`Builder::spawn`](super::Builder::spawn); `TimedOut` after 30 s.
    pub fn spawn() -> io::Result<Self> {
        let mut nodes = Vec::new();
        for _ in 0..6 {
            let mut builder = Server::builder();
            builder.bus = true;
            nodes.push(builder.spawn()?);
        }
        let first = nodes[0].port().to_string();
        for (i, node) in (0..).zip(&nodes) {
            // two nodes with one epoch would spend seconds on agreeing
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()])?;
            if i < 3 {
                let slots: Vec<String> = (SLOTS * i / 3..SLOTS * (i + 1) / 3).map(|slot| slot.to_string()).collect();
                let command: Vec<&str> =
                    ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
                node.cli(&command)?;
            }
            if i > 0 {
                node.cli(&["CLUSTER", "MEET", "127.0.0.1", &first])?;
            }
        }
        let cluster = Self(nodes);
        cluster.each("a node that knows all others", |node| {
            let said = node.cli(&["CLUSTER", "NODES"])?;
            Ok(said.lines().count() == 6 && !said.contains("handshake"))
        })?;
        for i in 3..6 {
            let id = cluster.0[i - 3].cli(&["CLUSTER", "MYID"])?;
            cluster.0[i].cli(&["CLUSTER", "REPLICATE", &id])?;
        }
        cluster.await_ready()?;
        Ok(cluster)
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Server] {
        &self.0
    }

    /// The nodes, to kill or restart.
    pub fn nodes_mut(&mut self) -> &mut [Server] {
        &mut self.0
    }

    /// The url of one node; the others are found through it.
    #[must_use]
    pub fn url(&self) -> String {
        self.0[0].url()
    }

    /// As [`url`](Self::url), saying that it is a cluster's, and with [`PATIENT`] deadlines.
    #[must_use]
    pub fn patient_url(&self) -> String {
        format!("{}?cluster=true&{PATIENT}", self.url())
    }

    /// The index of the primary that owns `key`'s slot, as the running nodes see it.
    ///
    /// # Errors
    /// If no node answers, or none owns the slot.
    pub fn owner(&self, key: &str) -> io::Result<usize> {
        let mut fault = io::Error::other("no node owns the slot");
        for (i, node) in self.0.iter().enumerate().filter(|(_, node)| node.pid().is_some()) {
            // a node that doesn't own the slot says MOVED, a replica too
            match node.cli(&["EXISTS", key]) {
                Ok(_) if node.cli(&["ROLE"])?.starts_with("master") => return Ok(i),
                Ok(_) => {}
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }

    /// Moves the slot of `key` to another primary with all its keys, as operators do it; the new owner's index.
    ///
    /// # Errors
    /// If a node refuses or is not there.
    pub fn migrate(&self, key: &str) -> io::Result<usize> {
        let migration = self.begin_migration(key)?;
        self.move_keys(&migration)?;
        self.end_migration(&migration)?;
        Ok(migration.to)
    }

    /// Opens the slot of `key` for a move to another primary: from now on missing keys are asked for there.
    ///
    /// # Errors
    /// As [`migrate`](Self::migrate).
    pub fn begin_migration(&self, key: &str) -> io::Result<Migration> {
        let from = self.owner(key)?;
        let primary = |i: &usize| {
            let node = &self.0[*i];
            *i != from && node.pid().is_some() && node.cli(&["ROLE"]).is_ok_and(|role| role.starts_with("master"))
        };
        let to = (0..self.0.len()).find(primary).ok_or_else(|| io::Error::other("there is no other primary"))?;
        let slot = self.0[from].cli(&["CLUSTER", "KEYSLOT", key])?;
        let [source, target] = [from, to].map(|i| self.0[i].cli(&["CLUSTER", "MYID"]));
        let (source, target) = (source?, target?);
        self.0[to].cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source])?;
        self.0[from].cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target])?;
        Ok(Migration { slot, from, to, target })
    }

    /// Moves the keys that are in the slot.
    ///
    /// # Errors
    /// As [`migrate`](Self::migrate).
    pub fn move_keys(&self, migration: &Migration) -> io::Result<()> {
        let (from, port) = (&self.0[migration.from], self.0[migration.to].port().to_string());
        loop {
            let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &migration.slot, "100"])?;
            if keys.is_empty() {
                return Ok(());
            }
            let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            command.extend(keys.lines());
            from.cli(&command)?;
        }
    }

    /// Tells all nodes, the new owner first, who owns the slot now.
    ///
    /// # Errors
    /// As [`migrate`](Self::migrate).
    pub fn end_migration(&self, migration: &Migration) -> io::Result<()> {
        let command = ["CLUSTER", "SETSLOT", &migration.slot, "NODE", &migration.target];
        self.0[migration.to].cli(&command)?;
        self.0[migration.from].cli(&command)?;
        for (i, node) in self.0.iter().enumerate().filter(|(_, node)| node.pid().is_some()) {
            if i != migration.to && i != migration.from && node.cli(&["ROLE"])?.starts_with("master") {
                node.cli(&command)?;
            }
        }
        Ok(())
    }

    /// Waits until every running node says that the cluster serves and every replica has its data.
    ///
    /// # Errors
    /// `TimedOut` after 30 s.
    pub fn await_ready(&self) -> io::Result<()> {
        self.each("a cluster that serves", |node| {
            if !node.cli(&["CLUSTER", "INFO"])?.contains("cluster_state:ok") {
                return Ok(false);
            }
            if node.cli(&["ROLE"])?.starts_with("slave") && !in_sync(node)? {
                return Ok(false);
            }
            let nodes = node.cli(&["CLUSTER", "NODES"])?;
            let lost = |line: &&str| !line.contains("fail") && !line.contains("noaddr");
            let primaries = nodes.lines().filter(lost).filter(|line| line.contains("master")).count();
            Ok(primaries == 3)
        })
    }

    fn each(&self, what: &str, mut done: impl FnMut(&Server) -> io::Result<bool>) -> io::Result<()> {
        self.0.iter().filter(|node| node.pid().is_some()).try_for_each(|node| until(what, READY, || done(node)))
    }
}
