//! Broadcast tracking over a cluster: one connection to each server that owns slots, as each names its own keys only.

use std::collections::HashMap;
use std::sync::Arc;

use cache_core::{ErrorKind, Result};
use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::topology::Topology;
use crate::config::Endpoint;
use crate::connect::heard::{Ears, Tracker};
use crate::connect::tracker::{self, Joined};

/// The task that tracks at one server. Dropping it ends it.
struct Station(JoinHandle<()>);

impl Drop for Station {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tracks every key under `prefixes`; returns once each owner confirmed it or was found to be away.
///
/// Every owner is asked for all prefixes, so that a slot that moves is heard at both of its servers.
pub(super) async fn open(topology: Arc<Topology>, prefixes: Vec<String>) -> Result<Tracker> {
    let ears = Arc::new(Ears::default());
    let tracker = ears.attend(prefixes.clone());
    let prefixes: Arc<[String]> = prefixes.into();
    let owners: Vec<Endpoint> = topology.slots().owners().cloned().collect();
    let opening = owners.into_iter().map(|owner| async {
        let connector = Arc::clone(topology.node(&owner).connector());
        (tracker::join(&connector, &prefixes, &ears).await, owner)
    });
    let mut stations = HashMap::new();
    for (joined, owner) in join_all(opening).await {
        let joined = match joined {
            Ok(joined) => Some(joined),
            // somebody else may own its slots soon; until then it is a gap
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                tracing::warn!(node = %owner, %error, "can't track keys, will go on trying");
                topology.doubt();
                None
            }
            Err(error) => return Err(error.with_operation("subscribe")),
        };
        let station = station(&topology, &owner, &prefixes, &ears, joined);
        stations.insert(owner, station);
    }
    let task = tokio::spawn(follow(topology, prefixes, ears, stations));
    Ok(tracker.with(task))
}

fn station(
    topology: &Arc<Topology>,
    owner: &Endpoint,
    prefixes: &Arc<[String]>,
    ears: &Arc<Ears>,
    joined: Option<Joined>,
) -> Station {
    let (topology, prefixes, ears) = (Arc::clone(topology), Arc::clone(prefixes), Arc::clone(ears));
    let connector = Arc::clone(topology.node(owner).connector());
    Station(tokio::spawn(async move {
        tracker::supervise(&connector, &prefixes, &ears, joined, || topology.doubt()).await;
    }))
}

/// Has a station at each owner, and nowhere else. One that begins and one that ends both say that anything may have
/// been written, so nothing that was written on the way from one to the other goes unsaid.
async fn follow(
    topology: Arc<Topology>,
    prefixes: Arc<[String]>,
    ears: Arc<Ears>,
    mut stations: HashMap<Endpoint, Station>,
) {
    let mut changes = topology.changes();
    changes.mark_changed();
    while changes.changed().await.is_ok() {
        let slots = topology.slots();
        for owner in slots.owners().filter(|owner| !stations.contains_key(owner)).cloned().collect::<Vec<_>>() {
            let station = station(&topology, &owner, &prefixes, &ears, None);
            stations.insert(owner, station);
        }
        stations.retain(|place, _| slots.owners().any(|owner| owner == place));
    }
}
