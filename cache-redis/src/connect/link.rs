//! A server, or all servers of a cluster, as one thing to send commands on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{Error, Result};
use redis::{Cmd, FromRedisValue, Pipeline, Value};

use super::cluster::{self, Cluster};
use super::handshake::Connector;
use super::heard::{Ears, Tracker};
use super::node::{Node, Outcome, Parcel};
use super::pace::Load;
use super::reads::Read;
use super::request::{Failure, Request};
use super::subscriber::{self, Subscriber, Words};
use super::tracker;
use crate::config::{Config, Endpoint, Topology};
use crate::error;
use crate::tracking::Tracking;

/// The connections to a server or to a cluster's.
///
/// Cheap to clone. Every call ends within the configured timeout, and none is sent twice unless a server has said that
/// it did not run.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    config: Config,
    way: Way,
    ears: Arc<Ears>,
}

enum Way {
    One(Arc<Node>),
    Cluster(Cluster),
}

impl Link {
    /// Connects once, failing fast; from then on the connections are kept up for ever.
    ///
    /// `scripts` are loaded into the server's script cache on every fresh connection before it is given out; a user
    /// without permission to do so is served without, so a caller must still handle `NOSCRIPT`.
    pub(crate) async fn connect(config: Config, scripts: &'static [&'static str]) -> Result<Self> {
        let ears = Arc::new(Ears::default());
        let way = match &config.topology {
            Topology::Single | Topology::Sentinel(_) => {
                let connector = Arc::new(Connector::new(config.clone(), scripts, Arc::clone(&ears)));
                Node::open(connector).await.map(|node| Way::One(Arc::new(node)))
            }
            Topology::Cluster(seeds) => Cluster::connect(&config, seeds, scripts, &ears).await.map(Way::Cluster),
        };
        let way = way.map_err(|error| error.with_operation("connect"))?;
        Ok(Self(Arc::new(Inner { config, way, ears })))
    }

    /// The configuration that the link was made from.
    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// Sends one command. One round trip; ends within the configured timeout.
    pub(crate) async fn call<T: FromRedisValue>(&self, operation: &'static str, cmd: &Cmd) -> Result<T> {
        self.call_run(operation, cmd).await.map(|(value, _)| value)
    }

    /// As [`call`](Self::call), with the run of the server that answered: it changes on restart and on failover, and
    /// when a cluster's slot moves; 0 if unknown.
    pub(crate) async fn call_run<T: FromRedisValue>(&self, operation: &'static str, cmd: &Cmd) -> Result<(T, u64)> {
        let outcome = self.send(Parcel::one(cmd), self.config().knobs.timeout).await;
        self.unpack(operation, outcome)
    }

    /// Reads one key, in a request of its own or in one with other reads that are under way. One round trip; ends within
    /// the configured timeout.
    pub(crate) async fn read<T: FromRedisValue>(&self, operation: &'static str, read: Read<'_>) -> Result<T> {
        let span = self.config().knobs.timeout;
        let answer = match &self.0.way {
            Way::One(node) => node.read(read, span).await,
            Way::Cluster(cluster) => Box::pin(cluster.read(read, span)).await,
        };
        self.unpack(operation, (answer, 0)).map(|(value, _)| value)
    }

    /// Sends one command to one of [`servers`](Self::servers).
    pub(crate) async fn call_at<T: FromRedisValue>(
        &self,
        server: &Node,
        operation: &'static str,
        cmd: &Cmd,
    ) -> Result<T> {
        let outcome = server.send(Parcel::one(cmd), self.config().knobs.timeout).await;
        self.unpack(operation, outcome).map(|(value, _)| value)
    }

    /// Sends a pipeline, whose keys are of one slot in a cluster. One round trip for all of it; ends within the
    /// configured timeout.
    ///
    /// The first server error among the replies is the call's error, unless the pipeline ignores errors.
    pub(crate) async fn pipe<T: FromRedisValue>(&self, operation: &'static str, pipe: &Pipeline) -> Result<T> {
        let outcome = self.send(Parcel::many(pipe), self.config().knobs.timeout).await;
        self.unpack(operation, outcome).map(|(value, _)| value)
    }

    /// Runs `work`, a request of a call of many keys, when the server of `key` has room for it.
    pub(crate) async fn paced<T>(
        &self,
        operation: &'static str,
        key: &[u8],
        load: Load,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let owner;
        let node = match &self.0.way {
            Way::One(node) => node,
            Way::Cluster(cluster) => match cluster.owner_of(key) {
                Some((_, node)) => {
                    owner = node;
                    &owner
                }
                // it says what is wrong
                None => return work.await,
            },
        };
        node.pace().run(operation, load, work).await
    }

    /// The server, or every primary of a cluster.
    pub(crate) fn servers(&self) -> Vec<Arc<Node>> {
        match &self.0.way {
            Way::One(node) => vec![Arc::clone(node)],
            Way::Cluster(cluster) => cluster.primaries(),
        }
    }

    /// Whom to connect to for a connection of one's own, and at which address if that is known: the owner of `key` in a
    /// cluster.
    pub(crate) fn home(&self, key: Option<&str>) -> Result<(Arc<Connector>, Option<Endpoint>)> {
        match &self.0.way {
            Way::One(node) => Ok((Arc::clone(node.connector()), None)),
            Way::Cluster(cluster) => {
                let (endpoint, node) = cluster.owner(key).ok_or_else(|| error::server("CLUSTERDOWN", ""))?;
                Ok((Arc::clone(node.connector()), Some(endpoint)))
            }
        }
    }

    /// A server said that it is not the one to ask.
    pub(crate) fn doubt(&self) {
        if let Way::Cluster(cluster) = &self.0.way {
            cluster.doubt();
        }
    }

    /// How scripts publish: in a cluster a channel belongs to a slot, as a key does.
    pub(crate) fn publish(&self) -> &'static str {
        match &self.0.way {
            Way::One(_) => "PUBLISH",
            Way::Cluster(_) => "SPUBLISH",
        }
    }

    /// Parts `keys` so that one command may take each part: lists of indices, in order; one list outside a cluster.
    pub(crate) fn parts<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Vec<usize>> {
        match &self.0.way {
            Way::One(_) => vec![(0..keys.len()).collect()],
            Way::Cluster(_) => cluster::parts(keys),
        }
    }

    /// Refuses keys that one atomic step can't take.
    pub(crate) fn together<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Result<()> {
        match &self.0.way {
            Way::Cluster(_) if !cluster::is_one_slot(keys) => Err(error::server("CROSSSLOT", "")),
            Way::One(_) | Way::Cluster(_) => Ok(()),
        }
    }

    /// Identifies the run of the server behind the first command connection; changes on restart and failover, 0 if
    /// unknown. Costs nothing.
    pub(crate) fn run(&self) -> u64 {
        self.servers().first().map_or(0, |node| node.run())
    }

    /// Whether the command connection is up.
    #[cfg(test)]
    pub(crate) fn is_up(&self) -> bool {
        self.servers().first().is_some_and(|node| node.is_up())
    }

    /// How many single reads are under way, and how many were joined with others so far.
    #[cfg(test)]
    pub(crate) fn reads(&self) -> (usize, usize) {
        let nodes = self.servers();
        nodes.iter().map(|node| node.reads().counts()).fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))
    }

    /// Opens a subscription on connections of its own; returns once every channel is confirmed.
    pub(crate) async fn subscribe(&self, channels: Vec<String>) -> Result<Subscriber> {
        match &self.0.way {
            Way::One(_) => self.listen(channels, &subscriber::PLAIN).await,
            Way::Cluster(cluster) => cluster.subscribe(channels).await,
        }
    }

    /// As [`subscribe`](Self::subscribe), to what is published through a whole cluster.
    pub(crate) async fn listen(&self, names: Vec<String>, words: &'static Words) -> Result<Subscriber> {
        let source: subscriber::Source = match &self.0.way {
            Way::One(node) => {
                let connector = Arc::clone(node.connector());
                Arc::new(move || Some(Arc::clone(&connector)))
            }
            Way::Cluster(cluster) => cluster.anybody(),
        };
        subscriber::open(source, names, words).await
    }

    /// Asks for the names of all keys written under `prefixes`, on a connection of its own to each server; returns once
    /// confirmed.
    pub(crate) async fn track_writes(&self, prefixes: Vec<String>) -> Result<Tracker> {
        match &self.0.way {
            Way::One(node) => tracker::open(Arc::clone(node.connector()), prefixes).await,
            Way::Cluster(cluster) => cluster.track(prefixes).await,
        }
    }

    /// The names of keys under `prefixes` that were read over this link and are written from now on.
    pub(crate) fn track_reads(&self, prefixes: Vec<String>) -> Tracker {
        self.0.ears.attend(prefixes)
    }

    /// Whether the servers name keys that were read when they are written.
    pub(crate) fn tracks_reads(&self) -> bool {
        self.config().knobs.tracking == Tracking::Reads
    }

    /// `key` may have been written since it was last read.
    pub(crate) fn suspect(&self, key: &str) {
        self.0.ears.key(key.as_bytes());
    }

    /// Whether the server refused RESP3, or was not to be asked for it.
    pub(crate) fn is_resp2(&self) -> bool {
        self.servers().first().is_some_and(|node| node.connector().is_resp2())
    }

    /// Sends over the connection that is kept for [`Raw`](crate::Raw), so that what its user does to the connection
    /// stays there.
    pub(crate) async fn raw(&self, request: Request<'_>, span: Duration) -> Result<Value, Failure> {
        self.send(Parcel::raw(request), span).await.0
    }

    async fn send(&self, parcel: Parcel<'_>, span: Duration) -> Outcome {
        match &self.0.way {
            Way::One(node) => node.send(parcel, span).await,
            Way::Cluster(cluster) => cluster.send(parcel, span).await,
        }
    }

    fn unpack<T: FromRedisValue>(&self, operation: &'static str, (answer, run): Outcome) -> Result<(T, u64)> {
        let span = self.config().knobs.timeout;
        let value = answer.map_err(|failure| explain(operation, failure, span))?;
        let value = redis::from_redis_value(value).map_err(|cause| error::map(operation, &cause.into()))?;
        Ok((value, run))
    }
}

/// A lane's failure as an error of `operation`.
pub(crate) fn explain(operation: &'static str, failure: Failure, span: Duration) -> Error {
    match failure {
        Failure::Down(error) => error.with_operation(operation),
        Failure::Late => error::timeout(operation, span),
        Failure::LateInPart => error::timeout(operation, span).of_part(),
        Failure::Driver(cause) => error::map(operation, &cause),
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("config", self.config()).field("run", &self.run()).finish_non_exhaustive()
    }
}
