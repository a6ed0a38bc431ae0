//! Hearing of releases: one subscription for all keys that somebody in this process waits for.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::Result;
use cache_core::recipe::lock::{Room, Seat, Token};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::connect::{Link, SubEvent, Subscriber};
use crate::error;

/// How long a subscription that nobody needs is kept.
const LINGER: Duration = Duration::from_secs(10);
/// How long a replaced subscription is still heard: what it had not delivered yet is not lost.
const OVERLAP: Duration = Duration::from_millis(500);
/// The wait after a subscription that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// The ears of a store. Dropping it ends the subscription.
#[derive(Default)]
pub(crate) struct Hub {
    shared: Arc<Shared>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    room: Room,
    wanted: Mutex<Wanted>,
    changed: Notify,
    /// Channels wanted at or before this version are confirmed.
    heard: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        let (room, wanted, changed) = (Room::default(), Mutex::default(), Notify::new());
        Self { room, wanted, changed, heard: watch::Sender::new(0) }
    }
}

#[derive(Default)]
struct Wanted {
    /// How many wait for each key, and the version in which it came.
    keys: HashMap<String, (usize, u64)>,
    version: u64,
    running: bool,
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits for a key.
struct Ear {
    shared: Arc<Shared>,
    key: String,
}

impl Drop for Ear {
    fn drop(&mut self) {
        // the channel stays until the next change: who waits for the same key again is heard at once
        if let Some((waiters, _)) = self.shared.wanted().keys.get_mut(&self.key) {
            *waiters -= 1;
        }
    }
}

impl Hub {
    /// Takes a seat for `key`; returns once its channel is confirmed.
    pub(super) async fn listen(&self, link: &Link, key: &str, token: &Token) -> Result<Seat> {
        let seat = self.shared.room.enter(key, token);
        let (version, start) = {
            let mut wanted = self.shared.wanted();
            let next = wanted.version + 1;
            let (waiters, version) = wanted.keys.entry(key.to_owned()).or_insert((0, next));
            *waiters += 1;
            let version = *version;
            if version == next {
                wanted.version = next;
                self.shared.changed.notify_one();
            }
            (version, !std::mem::replace(&mut wanted.running, true))
        };
        let ear = Ear { shared: Arc::clone(&self.shared), key: key.to_owned() };
        {
            let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            // it may also have ended with the runtime that it ran on
            if start || task.as_ref().is_some_and(AbortHandle::is_finished) {
                self.shared.changed.notify_one();
                *task = Some(tokio::spawn(follow(Arc::clone(&self.shared), link.clone())).abort_handle());
            }
        }
        let span = link.config().knobs.connect_timeout + OVERLAP;
        let mut heard = self.shared.heard.subscribe();
        let confirmed = timeout(span, heard.wait_for(|heard| *heard >= version)).await;
        match confirmed {
            Ok(Ok(_)) => Ok(seat.holding(ear)),
            Ok(Err(_)) | Err(_) => Err(error::timeout("listen", span)),
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("keys", &self.shared.wanted().keys.len()).finish_non_exhaustive()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// Keeps a subscription to what is wanted until nobody has wanted anything for a while.
async fn follow(shared: Arc<Shared>, link: Link) {
    let mut now: Option<Subscriber> = None;
    let mut old: Option<(Subscriber, Instant)> = None;
    loop {
        let end = old.as_ref().map(|(_, end)| *end);
        tokio::select! {
            () = shared.changed.notified() => {}
            event = next(now.as_mut()) => {
                match event {
                    Some(event) => deliver(&shared.room, event),
                    // the runtime is shutting down
                    None => return,
                }
                continue;
            }
            event = next(old.as_mut().map(|(old, _)| old)) => {
                match event {
                    Some(SubEvent::Message { channel, payload }) => call(&shared.room, &channel, &payload),
                    // its successor is up
                    Some(SubEvent::Lost | SubEvent::Restored) => {}
                    None => old = None,
                }
                continue;
            }
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                old = None;
                continue;
            }
            () = sleep(LINGER) => {
                let mut wanted = shared.wanted();
                if wanted.keys.values().all(|(waiters, _)| *waiters == 0) {
                    wanted.keys.clear();
                    wanted.running = false;
                    return;
                }
                continue;
            }
        }
        let (version, channels) = {
            let mut wanted = shared.wanted();
            wanted.keys.retain(|_, (waiters, _)| *waiters > 0);
            (wanted.version, wanted.keys.keys().cloned().collect::<Vec<_>>())
        };
        if channels.is_empty() {
            continue;
        }
        match link.subscribe(channels).await {
            Ok(fresh) => {
                old = now.replace(fresh).map(|replaced| (replaced, Instant::now() + OVERLAP));
                shared.heard.send_replace(version);
            }
            Err(error) => {
                tracing::debug!(%error, "can't listen for releases; who waits polls");
                sleep(PAUSE).await;
                shared.changed.notify_one();
            }
        }
    }
}

/// The next event; for ever pending without a subscription.
async fn next(subscriber: Option<&mut Subscriber>) -> Option<SubEvent> {
    match subscriber {
        Some(subscriber) => subscriber.next().await,
        None => std::future::pending().await,
    }
}

fn deliver(room: &Room, event: SubEvent) {
    match event {
        SubEvent::Message { channel, payload } => call(room, &channel, &payload),
        SubEvent::Lost => {}
        SubEvent::Restored => room.call_all(),
    }
}

fn call(room: &Room, channel: &str, payload: &[u8]) {
    let token = std::str::from_utf8(payload).ok().filter(|text| text.len() == Token::LEN);
    room.call(channel, token);
}
