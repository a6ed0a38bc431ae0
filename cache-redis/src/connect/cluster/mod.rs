//! The servers of a cluster: who owns what, and a request's way to the owner.

mod listen;
mod route;
mod slots;
mod topology;
mod track;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Reply, Result};
use redis::Value;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use self::route::{Spot, Verdict, asking};
pub(super) use self::route::{is_one_slot, parts};
use self::topology::Topology;
use super::heard::{Ears, Tracker};
use super::node::{Node, Outcome, Parcel};
use super::reads::Read;
use super::request::{Failure, Request};
use super::subscriber::{Source, Subscriber};
use crate::config::{Config, Endpoint};
use crate::error;

/// How often a request follows a redirection at once; then it waits a little each time.
const HOPS: u32 = 3;
/// The wait before a request is sent again that keys on their way have kept from running.
const PAUSE: Duration = Duration::from_millis(10);

/// The connections to a cluster. Dropping it ends them.
pub(super) struct Cluster {
    topology: Arc<Topology>,
    watcher: AbortHandle,
}

impl Cluster {
    /// Asks the seeds in turn for the owners and connects to these; fails fast.
    pub(super) async fn connect(
        config: &Config,
        seeds: &[Endpoint],
        scripts: &'static [&'static str],
        ears: &Arc<Ears>,
    ) -> Result<Self> {
        let topology = Arc::new(Topology::discover(config, seeds, scripts, ears).await?);
        let watcher = tokio::spawn(topology::watch(Arc::clone(&topology))).abort_handle();
        Ok(Self { topology, watcher })
    }

    /// Every server that owns slots.
    pub(super) fn primaries(&self) -> Vec<Arc<Node>> {
        self.topology.primaries()
    }

    /// Subscribes to channels, each at the owner of its slot.
    pub(super) async fn subscribe(&self, channels: Vec<String>) -> Result<Subscriber> {
        listen::open(Arc::clone(&self.topology), channels).await
    }

    /// Asks every owner for the names of the keys written under `prefixes`.
    pub(super) async fn track(&self, prefixes: Vec<String>) -> Result<Tracker> {
        track::open(Arc::clone(&self.topology), prefixes).await
    }

    /// The owner of a key's slot; any server without a key.
    pub(super) fn owner(&self, key: Option<&str>) -> Option<(Endpoint, Arc<Node>)> {
        match key {
            Some(key) => self.owner_of(key.as_bytes()),
            None => self.topology.any(),
        }
    }

    /// The owner of a key's slot.
    pub(super) fn owner_of(&self, key: &[u8]) -> Option<(Endpoint, Arc<Node>)> {
        self.topology.owner(slots::slot(key))
    }

    /// Has the owners asked for soon.
    pub(super) fn doubt(&self) {
        self.topology.doubt();
    }

    /// Some server that owns slots, another one each time: what one can't carry the next may.
    pub(super) fn anybody(&self) -> Source {
        let topology = Arc::clone(&self.topology);
        Arc::new(move || {
            let servers = topology.primaries();
            // the last one may have failed
            topology.doubt();
            let at = fastrand::usize(..servers.len().max(1));
            servers.get(at).map(|node| Arc::clone(node.connector()))
        })
    }

    /// Reads from the owner of the key; ends within `span`. Follows redirections by itself, not joined with others.
    pub(super) async fn read(&self, read: Read<'_>, span: Duration) -> Result<Value, Failure> {
        let end = Instant::now() + span;
        let Some((endpoint, node)) = self.topology.owner(slots::slot(read.key().as_bytes())) else {
            self.topology.doubt();
            return Err(Failure::Down(error::server("CLUSTERDOWN", "")));
        };
        let answer = node.read(read, span).await;
        match Verdict::of(&answer, &endpoint) {
            Verdict::Final => return answer,
            Verdict::Doubt => {
                self.topology.doubt();
                return self.part(answer, &node);
            }
            Verdict::Moved(slot, owner) => self.topology.moved(slot, &owner),
            Verdict::Ask(_) | Verdict::Later => {}
        }
        // what is left must be enough for an answer, or the connection would be blamed
        let left = end.saturating_duration_since(Instant::now());
        if left <= PAUSE {
            return restless((answer, 0)).0;
        }
        self.send(read.alone().parcel(), left).await.0
    }

    /// Sends to the owner of the request's keys, following redirections; ends within `span`.
    ///
    /// A request is sent again only if a server said that it did not run it.
    pub(super) async fn send(&self, parcel: Parcel<'_>, span: Duration) -> Outcome {
        let topology = &*self.topology;
        let end = Instant::now() + span;
        let spot = Spot::of(parcel.request);
        let down = |error: Error| (Err(Failure::Down(error)), 0);
        if spot == Spot::Cross {
            return down(error::server("CROSSSLOT", ""));
        }
        let place = |spot| match spot {
            Spot::Slot(slot) => topology.owner(slot),
            Spot::Any | Spot::Cross => topology.any(),
        };
        let mut to = place(spot);
        let mut asks = false;
        for hop in 0_u32.. {
            let Some((endpoint, node)) = to else {
                topology.doubt();
                return down(error::server("CLUSTERDOWN", ""));
            };
            let left = end.saturating_duration_since(Instant::now());
            let outcome = if asks { ask(&node, parcel, left).await } else { node.send(parcel, left).await };
            let pause = if hop < HOPS { Duration::ZERO } else { PAUSE };
            asks = false;
            let pause = match Verdict::of(&outcome.0, &endpoint) {
                Verdict::Final => return outcome,
                Verdict::Doubt => {
                    topology.doubt();
                    return (self.part(outcome.0, &node), outcome.1);
                }
                Verdict::Moved(slot, owner) => {
                    topology.moved(slot, &owner);
                    to = place(spot);
                    pause
                }
                Verdict::Ask(_) if matches!(parcel.request, Request::Part { .. }) => return outcome,
                Verdict::Ask(owner) => {
                    asks = true;
                    to = Some((owner.clone(), topology.node(&owner)));
                    pause
                }
                Verdict::Later => {
                    to = place(spot);
                    PAUSE
                }
            };
            // what is left must be enough for an answer, or the connection would be blamed
            if Instant::now() + pause + PAUSE >= end {
                return restless(outcome);
            }
            if !pause.is_zero() {
                sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            }
        }
        down(error::server("CLUSTERDOWN", ""))
    }

    /// Has a failure say that it concerns a part of the cluster, if `node` is away and another server is not.
    fn part(&self, answer: Result<Value, Failure>, node: &Node) -> Result<Value, Failure> {
        let Err(failure @ (Failure::Down(_) | Failure::Late)) = answer else { return answer };
        if node.is_well() || !self.primaries().iter().any(|node| node.is_well()) {
            return Err(failure);
        }
        Err(match failure {
            Failure::Down(error) => Failure::Down(error.of_part()),
            _ => Failure::LateInPart,
        })
    }
}

/// Sends with `ASKING`, which a server forgets after one command.
async fn ask(node: &Node, parcel: Parcel<'_>, span: Duration) -> Outcome {
    let Some(pipe) = asking(parcel.request) else { return node.send(parcel, span).await };
    let (answer, run) = node.send(parcel.with(Request::Many(&pipe)), span).await;
    let answer = match (parcel.request, answer) {
        (Request::One(_), Ok(Value::Array(mut replies))) if replies.len() == 1 => {
            replies.pop().unwrap_or(Value::Nil).extract_error().map_err(Failure::Driver)
        }
        (_, answer) => answer,
    };
    (answer, run)
}

/// The end of a request that was only ever sent elsewhere: what a single server's `MOVED` advises would be wrong.
fn restless((answer, run): Outcome) -> Outcome {
    let answer = answer.map_err(|failure| match failure {
        Failure::Driver(cause) if error::map("", &cause).reply() == Some(Reply::Moved) => {
            let text = "the owner of the key's slot has changed several times; the cluster may be in a failover";
            Failure::Down(error::fault(ErrorKind::Unavailable, text).with_reply(Reply::Moved))
        }
        failure => failure,
    });
    (answer, run)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("primaries", &self.primaries().len()).finish_non_exhaustive()
    }
}
