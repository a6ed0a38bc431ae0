//! What is known of a cluster, kept up to date.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use futures_util::future::try_join_all;
use redis::{Value, cmd};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::slots::Slots;
use crate::config::{Config, Endpoint};
use crate::connect::handshake::Connector;
use crate::connect::heard::Ears;
use crate::connect::node::{Node, Parcel};
use crate::error;

/// The shortest time between two questions for the owners.
const CALM: Duration = Duration::from_millis(100);

/// Who owns the slots, and the connections to whom that is.
pub(super) struct Topology {
    config: Config,
    seeds: Vec<Endpoint>,
    scripts: &'static [&'static str],
    ears: Arc<Ears>,
    slots: RwLock<Arc<Slots>>,
    nodes: Mutex<HashMap<Endpoint, Arc<Node>>>,
    stale: Notify,
    /// Counts the changes of `slots`.
    version: watch::Sender<u64>,
}

impl Topology {
    pub(super) async fn discover(
        config: &Config,
        seeds: &[Endpoint],
        scripts: &'static [&'static str],
        ears: &Arc<Ears>,
    ) -> Result<Self> {
        let mut fault = None;
        for seed in seeds {
            let connector = Arc::new(Connector::new(config.at(seed), scripts, Arc::clone(ears)));
            match first(&connector, seed).await {
                Ok(slots) => {
                    let owners: Vec<Endpoint> = slots.owners().cloned().collect();
                    let topology = Self {
                        config: config.clone(),
                        seeds: seeds.to_vec(),
                        scripts,
                        ears: Arc::clone(ears),
                        slots: RwLock::new(Arc::new(slots)),
                        nodes: Mutex::default(),
                        stale: Notify::new(),
                        version: watch::Sender::new(0),
                    };
                    topology.warm(owners).await?;
                    return Ok(topology);
                }
                // one that answers has more to say than one that is away
                Err(error) if fault.as_ref().is_none_or(|f: &Error| f.kind() == ErrorKind::Unavailable) => {
                    fault = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(fault.unwrap_or_else(|| error::config("no node of the cluster is configured")))
    }

    /// Connects to all owners at once; one that is away is connected to later, one that is not fit is refused.
    async fn warm(&self, owners: Vec<Endpoint>) -> Result<()> {
        let opening = owners.into_iter().map(|owner| async move {
            let connector = self.connector(&owner);
            let node = match Node::open(Arc::clone(&connector)).await {
                Ok(node) => node,
                Err(error) if error.kind() == ErrorKind::Config => return Err(error),
                Err(error) => {
                    tracing::warn!(node = %owner, %error, "can't connect to a node, will go on trying");
                    Node::lazy(connector)
                }
            };
            Ok((owner, Arc::new(node)))
        });
        let nodes = try_join_all(opening).await?;
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).extend(nodes);
        Ok(())
    }

    fn connector(&self, endpoint: &Endpoint) -> Arc<Connector> {
        Arc::new(Connector::new(self.config.at(endpoint), self.scripts, Arc::clone(&self.ears)))
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn slots(&self) -> Arc<Slots> {
        Arc::clone(&self.slots.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The owner of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<(Endpoint, Arc<Node>)> {
        let owner = self.slots().owner(slot)?.clone();
        let node = self.node(&owner);
        Some((owner, node))
    }

    /// Some server that owns slots.
    pub(super) fn any(&self) -> Option<(Endpoint, Arc<Node>)> {
        let owner = self.slots().owners().next()?.clone();
        let node = self.node(&owner);
        Some((owner, node))
    }

    pub(super) fn primaries(&self) -> Vec<Arc<Node>> {
        self.slots().owners().map(|owner| self.node(owner)).collect()
    }

    /// The connections to the server at `endpoint`, made on first use.
    pub(super) fn node(&self, endpoint: &Endpoint) -> Arc<Node> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(endpoint) {
            return Arc::clone(node);
        }
        let node = Arc::new(Node::lazy(self.connector(endpoint)));
        nodes.insert(endpoint.clone(), Arc::clone(&node));
        node
    }

    /// A server said who owns a slot. The other slots are asked for.
    pub(super) fn moved(&self, slot: u16, owner: &Endpoint) {
        let slots = self.slots();
        if slots.owner(slot) != Some(owner) {
            self.replace(slots.moved(slot, owner));
        }
        self.doubt();
    }

    /// Has the owners asked for soon.
    pub(super) fn doubt(&self) {
        self.stale.notify_one();
    }

    /// Tells of changes of the owners.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn replace(&self, slots: Slots) {
        {
            let mut current = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            if **current == slots {
                return;
            }
            *current = Arc::new(slots);
        }
        self.version.send_modify(|version| *version += 1);
    }

    /// Asks for the owners: the servers that own slots, then the seeds.
    pub(super) async fn refresh(&self) -> Result<()> {
        let mut known: Vec<Endpoint> = self.slots().owners().cloned().collect();
        fastrand::shuffle(&mut known);
        known.extend(self.seeds.iter().cloned());
        let mut asked = Vec::new();
        let mut fault = None;
        for endpoint in known {
            if asked.contains(&endpoint) {
                continue;
            }
            match self.ask(&endpoint).await {
                Ok(slots) => {
                    self.adopt(slots);
                    return Ok(());
                }
                Err(error) => fault = Some(error),
            }
            asked.push(endpoint);
        }
        Err(fault.unwrap_or_else(|| error::server("CLUSTERDOWN", "")))
    }

    async fn ask(&self, endpoint: &Endpoint) -> Result<Slots> {
        let span = self.config.knobs.timeout;
        let mut command = cmd("CLUSTER");
        command.arg("SLOTS");
        let (answer, _) = self.node(endpoint).send(Parcel::one(&command), span).await;
        let reply = answer.map_err(|failure| crate::connect::link::explain("connect", failure, span))?;
        Slots::parse(&reply, endpoint)
    }

    fn adopt(&self, slots: Slots) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|endpoint, node| {
            // somebody may be asking a server that owns nothing yet
            slots.owners().any(|owner| owner == endpoint) || Arc::strong_count(node) > 1
        });
        drop(nodes);
        self.replace(slots);
    }
}

/// Asks for the owners whenever they are in doubt.
pub(super) async fn watch(topology: Arc<Topology>) {
    let mut failures = 0_u32;
    loop {
        topology.stale.notified().await;
        match topology.refresh().await {
            Ok(()) => failures = 0,
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "can't ask who owns the slots, will go on trying");
                }
                topology.doubt();
            }
        }
        sleep(CALM).await;
    }
}

/// Checks that a seed is of a cluster that is fit; the owners that it names.
async fn first(connector: &Connector, seed: &Endpoint) -> Result<Slots> {
    let mut fresh = connector.connect(&Arc::default(), None).await?;
    let mut pipe = redis::pipe();
    pipe.cmd("INFO").arg("server").cmd("CLUSTER").arg("SLOTS");
    let asked = async {
        let replies = fresh.connection.send_packed_commands(&pipe, 0, pipe.len()).await;
        let replies = replies.map_err(|cause| error::map("connect", &cause))?;
        let [info, slots] = <[Value; 2]>::try_from(replies).map_err(|_| error::unexpected("connect"))?;
        let info: String = redis::from_redis_value(info).unwrap_or_default();
        if let Some(old) = too_old(&info) {
            let text = format!("redis {old} has no sharded pub/sub; a cluster needs redis 7 or later, or valkey");
            return Err(error::config(text));
        }
        match slots {
            Value::ServerError(refused) if refused.details().is_some_and(|text| text.contains("cluster support")) => {
                Err(error::config("the server is not of a cluster; connect to it without cluster"))
            }
            Value::ServerError(refused) => Err(error::server(refused.code(), refused.details().unwrap_or(""))),
            slots => Slots::parse(&slots, seed),
        }
    };
    let slots = connector.within(asked).await;
    fresh.driver.abort();
    slots
}

/// The version of a server before sharded pub/sub.
fn too_old(info: &str) -> Option<&str> {
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"))?.trim();
    let major: u32 = version.split('.').next()?.parse().ok()?;
    (major < 7).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::too_old;

    #[test]
    fn servers_before_sharded_channels_are_known() {
        assert_eq!(too_old("# Server\r\nredis_version:6.2.5\r\nx:1\r\n"), Some("6.2.5"));
        for fit in ["redis_version:7.0.15\r\n", "redis_version:7.2.4\r\nvalkey_version:9.1.2", "redis_version:10.0", ""]
        {
            assert_eq!(too_old(fit), None, "{fit}");
        }
    }
}
