//! A subscription over a cluster: one connection to each server that owns a slot of its channels.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use cache_core::{Error, Reply, Result};
use futures_util::future::{join_all, select_all};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::route::redirect;
use super::slots::slot;
use super::topology::Topology;
use crate::config::Endpoint;
use crate::connect::backoff;
use crate::connect::handshake::Connector;
use crate::connect::subscriber::{self, Outlet, SHARDED, SubEvent, Subscriber};
use crate::connect::wire::{Frame, Wire};
use crate::error;

type Channels = BTreeSet<String>;

/// The channels at one server.
struct Group {
    endpoint: Endpoint,
    channels: Channels,
    wire: Wire,
    /// Whether the server was asked for a sign of life, and until when it may stay silent.
    asked: bool,
    due: Instant,
}

/// Subscribes; returns once every channel is confirmed.
pub(super) async fn open(topology: Arc<Topology>, channels: Vec<String>) -> Result<Subscriber> {
    if channels.is_empty() {
        return Err(subscriber::no_channel());
    }
    let mut homeless: Channels = channels.into_iter().collect();
    let mut groups = Vec::new();
    let end = Instant::now() + topology.config().knobs.connect_timeout;
    loop {
        let joined = join(&topology, &homeless, &[]).await;
        homeless = joined.homeless;
        groups.extend(joined.groups);
        match joined.fault {
            Some(fault) if fault.reply() != Some(Reply::Moved) || Instant::now() >= end => {
                return Err(fault.with_operation("subscribe"));
            }
            // a redirection was learnt from
            Some(_) => {}
            None => break,
        }
    }
    let (outlet, subscriber) = Outlet::pair();
    tokio::spawn(supervise(topology, groups, outlet));
    Ok(subscriber)
}

/// What came of an attempt to subscribe.
struct Joined {
    groups: Vec<Group>,
    homeless: Channels,
    fault: Option<Error>,
}

/// Subscribes to `channels` at their owners; where a group exists its channels come along, so that one connection
/// carries all.
async fn join(topology: &Topology, channels: &Channels, existing: &[(Endpoint, Channels)]) -> Joined {
    let mut joined = Joined { groups: Vec::new(), homeless: Channels::new(), fault: None };
    let mut plan: HashMap<Endpoint, Channels> = HashMap::new();
    let slots = topology.slots();
    for channel in channels {
        match slots.owner(slot(channel.as_bytes())) {
            Some(owner) => {
                plan.entry(owner.clone()).or_default().insert(channel.clone());
            }
            None => {
                joined.homeless.insert(channel.clone());
                joined.fault = Some(error::server("CLUSTERDOWN", ""));
            }
        }
    }
    for (endpoint, more) in existing {
        if let Some(channels) = plan.get_mut(endpoint) {
            channels.extend(more.iter().cloned());
        }
    }
    let opening = plan.into_iter().map(|(endpoint, channels)| async move {
        let connector = Arc::clone(topology.node(&endpoint).connector());
        let list: Vec<String> = channels.iter().cloned().collect();
        (subscribe(topology, &connector, &list, &endpoint).await, endpoint, channels)
    });
    for (opened, endpoint, all) in join_all(opening).await {
        match opened {
            Ok(wire) => {
                let due = Instant::now() + topology.config().knobs.heartbeat;
                joined.groups.push(Group { endpoint, channels: all, wire, asked: false, due });
            }
            Err(error) => {
                joined.homeless.extend(all.into_iter().filter(|channel| channels.contains(channel)));
                topology.doubt();
                joined.fault = Some(error);
            }
        }
    }
    joined
}

async fn subscribe(
    topology: &Topology,
    connector: &Connector,
    channels: &[String],
    endpoint: &Endpoint,
) -> Result<Wire> {
    let work = async {
        let (stream, place) = connector.stream().await?;
        // what comes between the confirmations comes before the subscription or within its gap
        let moved = |text: &str| {
            if let Some((slot, owner)) = text.strip_prefix("MOVED ").and_then(|details| redirect(details, endpoint)) {
                topology.moved(slot, &owner);
            }
        };
        subscriber::confirm(connector, stream, &place.endpoint, channels, &SHARDED, |_, _| {}, moved).await
    };
    connector.within(work).await
}

/// How a turn of listening ended.
enum Turn {
    /// These channels have no connection any more.
    Lost(Channels),
    /// The attempt to subscribe has ended.
    Joined(Joined),
    Closed,
}

type Joining<'a> = Pin<Box<dyn Future<Output = Joined> + Send + 'a>>;

async fn supervise(topology: Arc<Topology>, mut groups: Vec<Group>, mut outlet: Outlet) {
    let knobs = &topology.config().knobs;
    let closed = outlet.closed();
    let mut changes = topology.changes();
    changes.mark_changed();
    let mut homeless = Channels::new();
    let mut joining: Option<Joining<'_>> = None;
    let mut lost = false;
    let mut failures = 0_u32;
    let work = async {
        loop {
            if joining.is_none() && !homeless.is_empty() {
                let channels = std::mem::take(&mut homeless);
                let existing: Vec<_> = groups.iter().map(|g| (g.endpoint.clone(), g.channels.clone())).collect();
                let wait = backoff::wait(knobs.backoff_min, knobs.backoff_max, failures);
                let topology = &*topology;
                joining = Some(Box::pin(async move {
                    sleep(wait).await;
                    join(topology, &channels, &existing).await
                }));
            }
            if joining.is_none() && lost {
                lost = false;
                outlet.mended();
                if !outlet.send(SubEvent::Restored).await {
                    return;
                }
            }
            let turn = tokio::select! {
                turn = listen(&topology, &mut groups, &mut outlet, lost) => turn,
                joined = async {
                    match &mut joining {
                        Some(joining) => joining.await,
                        None => std::future::pending().await,
                    }
                } => Turn::Joined(joined),
                Ok(()) = changes.changed() => Turn::Lost(evict(&topology, &mut groups)),
            };
            match turn {
                Turn::Closed => return,
                Turn::Lost(channels) if channels.is_empty() => {}
                Turn::Lost(channels) => {
                    topology.doubt();
                    homeless.extend(channels);
                    if !std::mem::replace(&mut lost, true) {
                        tracing::warn!("subscription lost");
                        if !outlet.send(SubEvent::Lost).await {
                            return;
                        }
                    }
                }
                Turn::Joined(joined) => {
                    joining = None;
                    failures = match joined.fault {
                        Some(error) => {
                            tracing::debug!(%error, failures, "can't subscribe, will go on trying");
                            failures.saturating_add(1)
                        }
                        None => 0,
                    };
                    homeless.extend(joined.homeless);
                    for group in joined.groups {
                        // the new connection carries what the old one did
                        groups.retain(|old| old.endpoint != group.endpoint);
                        groups.push(group);
                    }
                    // the owners may have changed meanwhile
                    homeless.extend(evict(&topology, &mut groups));
                }
            }
        }
    };
    tokio::select! {
        () = closed.closed() => {}
        () = work => {}
    }
}

/// Takes out the channels whose slots have another owner by now.
fn evict(topology: &Topology, groups: &mut Vec<Group>) -> Channels {
    let slots = topology.slots();
    let mut homeless = Channels::new();
    for group in groups.iter_mut() {
        let (stay, go) = std::mem::take(&mut group.channels)
            .into_iter()
            .partition(|channel| slots.owner(slot(channel.as_bytes())).is_none_or(|owner| *owner == group.endpoint));
        group.channels = stay;
        homeless.extend::<Channels>(go);
    }
    groups.retain(|group| !group.channels.is_empty());
    homeless
}

/// Delivers messages until channels are lost. May be dropped at any await: nothing that was read is lost.
async fn listen(topology: &Topology, groups: &mut Vec<Group>, outlet: &mut Outlet, lost: bool) -> Turn {
    let knobs = &topology.config().knobs;
    let patience = knobs.timeout * knobs.rebuild_after;
    loop {
        if groups.is_empty() {
            return std::future::pending().await;
        }
        let heard = {
            let reads = groups.iter_mut().map(|group| Box::pin(timeout_at(group.due, group.wire.read())));
            tokio::select! {
                (heard, index, _) = select_all(reads) => (heard, index),
                // within a gap a full buffer is no news
                told = outlet.report(), if !lost => {
                    if !told {
                        return Turn::Closed;
                    }
                    outlet.mended();
                    continue;
                }
            }
        };
        let (heard, index) = heard;
        let Some(group) = groups.get_mut(index) else { continue };
        match heard {
            Ok(Ok(Frame::Parts(parts))) => {
                group.asked = false;
                group.due = Instant::now() + knobs.heartbeat;
                match parts.as_slice() {
                    // a channel that was taken out is delivered by its new owner
                    [kind, channel, payload]
                        if kind == SHARDED.message
                            && std::str::from_utf8(channel).is_ok_and(|name| group.channels.contains(name)) =>
                    {
                        outlet.message(channel, payload.clone());
                    }
                    // the slot has left this server
                    [kind, channel, _] if kind == SHARDED.left => {
                        let name = String::from_utf8_lossy(channel);
                        let gone = group.channels.take(&*name);
                        groups.retain(|group| !group.channels.is_empty());
                        return Turn::Lost(gone.into_iter().collect());
                    }
                    _ => {}
                }
            }
            Ok(Ok(Frame::Line(_) | Frame::Error(_))) => {
                group.asked = false;
                group.due = Instant::now() + knobs.heartbeat;
            }
            Err(_) if !group.asked => {
                group.asked = true;
                group.due = Instant::now() + patience;
                let ping = redis::cmd("PING").get_packed_command();
                if !matches!(timeout(patience, group.wire.write(&ping)).await, Ok(Ok(()))) {
                    return Turn::Lost(groups.swap_remove(index).channels);
                }
            }
            Ok(Err(_)) | Err(_) => return Turn::Lost(groups.swap_remove(index).channels),
        }
    }
}
