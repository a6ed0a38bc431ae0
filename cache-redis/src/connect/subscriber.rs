//! A subscription that survives its connection.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::backoff;
use super::handshake::{Connector, Place};
use super::sentinel::login;
use super::stream::Stream;
use super::wire::{Frame, Wire};
use crate::config::Endpoint;
use crate::error;

/// The most events, and the most bytes in them, that wait for a slow reader.
const MAX_EVENTS: usize = 4096;
const MAX_BYTES: usize = 16 << 20;
/// How often a buffer that holds too many bytes is looked at.
const DRAIN: Duration = Duration::from_millis(10);

/// Whom to connect to, each time anew; `None` if nobody is known.
pub(super) type Source = Arc<dyn Fn() -> Option<Arc<Connector>> + Send + Sync>;

/// The words of a kind of subscription.
#[derive(Debug)]
pub(crate) struct Words {
    command: &'static str,
    confirmed: &'static str,
    pub(super) message: &'static str,
    /// What a server says when it drops a channel by itself.
    pub(super) left: &'static str,
}

pub(crate) const PLAIN: Words =
    Words { command: "SUBSCRIBE", confirmed: "subscribe", message: "message", left: "unsubscribe" };

/// Patterns of channels. A message names its pattern before its channel.
#[cfg(feature = "recipe")]
pub(crate) const PATTERNS: Words =
    Words { command: "PSUBSCRIBE", confirmed: "psubscribe", message: "pmessage", left: "punsubscribe" };

/// Channels that belong to slots.
pub(super) const SHARDED: Words =
    Words { command: "SSUBSCRIBE", confirmed: "ssubscribe", message: "smessage", left: "sunsubscribe" };

/// What a subscription delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubEvent {
    /// A message.
    Message { channel: String, payload: Bytes },
    /// Messages may have been lost from here on: the connection broke or the buffer was full.
    Lost,
    /// The stream flows again: every channel is confirmed.
    Restored,
}

/// A subscription on a connection of its own. Reconnects for ever by itself; dropping it unsubscribes.
#[derive(Debug)]
pub(crate) struct Subscriber {
    events: mpsc::Receiver<SubEvent>,
    waiting: Arc<AtomicUsize>,
}

impl Subscriber {
    /// The next event; `None` once the runtime shuts down. May be dropped at any await: no event is lost.
    pub(crate) async fn next(&mut self) -> Option<SubEvent> {
        let event = self.events.recv().await?;
        self.waiting.fetch_sub(weight(&event), Ordering::Relaxed);
        Some(event)
    }

    /// Whether the buffer is as full as it gets.
    #[cfg(test)]
    pub(crate) fn is_behind(&self) -> bool {
        self.events.len() >= MAX_EVENTS || self.waiting.load(Ordering::Relaxed) > MAX_BYTES - (1 << 20)
    }
}

fn weight(event: &SubEvent) -> usize {
    match event {
        SubEvent::Message { channel, payload } => channel.len() + payload.len(),
        SubEvent::Lost | SubEvent::Restored => 0,
    }
}

/// Subscribes; returns once every channel is confirmed.
///
/// The connection speaks RESP2, which every server does, and is read by us, not by the driver: the driver's queue of
/// messages has no bound.
pub(super) async fn open(source: Source, channels: Vec<String>, words: &'static Words) -> Result<Subscriber> {
    if channels.is_empty() {
        return Err(no_channel());
    }
    let (outlet, subscriber) = Outlet::pair();
    let (ready, first) = oneshot::channel();
    tokio::spawn(supervise(source, channels, words, outlet, ready));
    match first.await {
        Ok(Ok(())) => Ok(subscriber),
        Ok(Err(error)) => Err(error.with_operation("subscribe")),
        Err(_) => Err(error::fault(ErrorKind::Closed, "the runtime is shutting down").with_operation("subscribe")),
    }
}

/// The refusal of a subscription to nothing.
pub(super) fn no_channel() -> Error {
    error::fault(ErrorKind::Invalid, "no channel to subscribe to").with_operation("subscribe")
}

/// The writing end of the event buffer. When it is full, messages are dropped and a gap is reported instead.
pub(super) struct Outlet {
    sender: mpsc::Sender<SubEvent>,
    waiting: Arc<AtomicUsize>,
    /// Messages were dropped and nobody was told yet.
    gap: bool,
}

impl Outlet {
    /// Both ends of an empty buffer.
    pub(super) fn pair() -> (Self, Subscriber) {
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let waiting = Arc::new(AtomicUsize::new(0));
        (Self { sender, waiting: Arc::clone(&waiting), gap: false }, Subscriber { events, waiting })
    }

    /// What ends when nobody listens any more.
    pub(super) fn closed(&self) -> mpsc::Sender<SubEvent> {
        self.sender.clone()
    }

    /// Delivers an event that may not be dropped; false if nobody listens any more.
    pub(super) async fn send(&self, event: SubEvent) -> bool {
        self.sender.send(event).await.is_ok()
    }

    /// The gap was reported.
    pub(super) fn mended(&mut self) {
        self.gap = false;
    }

    pub(super) fn message(&mut self, channel: &Bytes, payload: Bytes) {
        let Ok(channel) = std::str::from_utf8(channel) else { return };
        let event = SubEvent::Message { channel: channel.to_owned(), payload };
        let weight = weight(&event);
        if self.gap || self.waiting.load(Ordering::Relaxed) + weight > MAX_BYTES {
            self.gap = true;
            return;
        }
        self.waiting.fetch_add(weight, Ordering::Relaxed);
        if self.sender.try_send(event).is_err() {
            self.waiting.fetch_sub(weight, Ordering::Relaxed);
            self.gap = true;
        }
    }

    /// Reports the gap as soon as there is room; for ever pending without one.
    pub(super) async fn report(&self) -> bool {
        if !self.gap {
            return std::future::pending().await;
        }
        while self.waiting.load(Ordering::Relaxed) > MAX_BYTES / 2 {
            sleep(DRAIN).await;
        }
        let Ok(mut room) = self.sender.reserve_many(2).await else { return false };
        for event in [SubEvent::Lost, SubEvent::Restored] {
            if let Some(permit) = room.next() {
                permit.send(event);
            }
        }
        true
    }
}

async fn supervise(
    source: Source,
    channels: Vec<String>,
    words: &'static Words,
    mut outlet: Outlet,
    ready: oneshot::Sender<Result<()>>,
) {
    let (mut connector, mut wire, mut place) = match join(&source, &channels, words, &mut outlet).await {
        Ok(joined) => joined,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    let closed = outlet.sender.clone();
    tokio::select! {
        () = closed.closed() => {}
        () = async {
            loop {
                let since = Instant::now();
                tokio::select! {
                    () = listen(&connector, &mut wire, words, &mut outlet) => {}
                    () = connector.left(&place) => {}
                }
                drop(wire);
                tracing::warn!("subscription lost");
                outlet.gap = false;
                if outlet.sender.send(SubEvent::Lost).await.is_err() {
                    return;
                }
                (connector, wire, place) = rejoin(&source, &connector, &channels, words, &mut outlet, since).await;
                // messages that came between the confirmations were not delivered before the gap ended
                if outlet.sender.send(SubEvent::Restored).await.is_err() {
                    return;
                }
            }
        } => {}
    }
}

type Joined = (Arc<Connector>, Wire, Place);

async fn rejoin(
    source: &Source,
    before: &Connector,
    channels: &[String],
    words: &Words,
    outlet: &mut Outlet,
    since: Instant,
) -> Joined {
    let knobs = &before.config.knobs;
    let mut failures = u32::from(since.elapsed() < knobs.backoff_max);
    loop {
        sleep(backoff::wait(knobs.backoff_min, knobs.backoff_max, failures)).await;
        match join(source, channels, words, outlet).await {
            Ok(joined) => return joined,
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "can't subscribe, will go on trying");
                }
            }
        }
    }
}

/// Opens a connection and subscribes, all within the connect timeout.
async fn join(source: &Source, channels: &[String], words: &Words, outlet: &mut Outlet) -> Result<Joined> {
    let connector = source().ok_or_else(|| error::server("CLUSTERDOWN", ""))?;
    let work = async {
        let (stream, place) = connector.stream().await?;
        let early = |channel: &Bytes, payload| outlet.message(channel, payload);
        let wire = confirm(&connector, stream, &place.endpoint, channels, words, early, |_| {}).await?;
        Ok((wire, place))
    };
    let (wire, place) = connector.within(work).await?;
    Ok((connector, wire, place))
}

/// Subscribes on an open stream; messages that come before the last confirmation go to `early`, the
/// text of a refusal to `refused`. The caller bounds the time.
pub(super) async fn confirm(
    connector: &Connector,
    stream: Stream,
    endpoint: &Endpoint,
    channels: &[String],
    words: &Words,
    mut early: impl FnMut(&Bytes, Bytes),
    refused: impl FnOnce(&str),
) -> Result<Wire> {
    let config = &connector.config;
    let mut packed = login(config.username.as_deref(), config.password.as_ref());
    let mut asked = connector.target.is_checked();
    if asked {
        packed.extend(redis::cmd("INFO").arg("replication").get_packed_command());
    }
    // a command for each: those that belong to slots can't share one
    for channel in channels {
        packed.extend(redis::cmd(words.command).arg(channel).get_packed_command());
    }
    let lost = |e: &std::io::Error| error::io(e, &endpoint.to_string());
    let mut wire = Wire::new(stream);
    wire.write(&packed).await.map_err(|e| lost(&e))?;
    let mut missing: HashSet<&[u8]> = channels.iter().map(String::as_bytes).collect();
    while !missing.is_empty() {
        match wire.read().await.map_err(|e| lost(&e))? {
            // before the confirmations come the login's status and the answer to INFO
            Frame::Line(text) => {
                if let Ok(text) = std::str::from_utf8(&text) {
                    connector.target.check(text)?;
                }
            }
            Frame::Error(text) if asked && text.starts_with(b"NOPERM") => asked = false,
            Frame::Error(text) => {
                let text = String::from_utf8_lossy(&text);
                refused(&text);
                return Err(error::server(text.split(' ').next().unwrap_or(""), ""));
            }
            Frame::Parts(parts) => match parts.as_slice() {
                [kind, channel, _] if kind == words.confirmed => {
                    missing.remove(&channel[..]);
                }
                // a pattern stands before the channel
                [kind, channel, payload] | [kind, _, channel, payload] if kind == words.message => {
                    early(channel, payload.clone());
                }
                _ => {}
            },
        }
    }
    Ok(wire)
}

/// Delivers messages until the connection breaks or stops answering.
async fn listen(connector: &Connector, wire: &mut Wire, words: &Words, outlet: &mut Outlet) {
    let knobs = &connector.config.knobs;
    let ping = redis::cmd("PING").get_packed_command();
    let patience = knobs.timeout * knobs.rebuild_after;
    let mut asked = false;
    loop {
        let quiet = if asked { patience } else { knobs.heartbeat };
        let frame = tokio::select! {
            frame = timeout(quiet, wire.read()) => frame,
            told = outlet.report() => {
                if !told {
                    return;
                }
                outlet.gap = false;
                continue;
            }
        };
        match frame {
            Ok(Ok(frame)) => {
                asked = false;
                let Frame::Parts(parts) = frame else { continue };
                if let [kind, channel, payload] | [kind, _, channel, payload] = parts.as_slice()
                    && kind == words.message
                {
                    outlet.message(channel, payload.clone());
                }
            }
            Ok(Err(_)) => return,
            Err(_) if asked => return,
            Err(_) => {
                asked = true;
                if !matches!(timeout(patience, wire.write(&ping)).await, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }
}
