//! The keys that the server says were written: a tracked connection that survives its loss.

use std::collections::HashSet;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cache_core::{ErrorKind, MAX_KEY, Result};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::backoff;
use super::handshake::{Connector, Place};
use super::pushes::{Pushes, Said};
use crate::config::Endpoint;
use crate::error;

/// The most keys that wait for a slow reader; past it everything counts as written.
const MOST: usize = 16 * 1024;

/// What tracking delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrackEvent {
    /// A key was written.
    Key(String),
    /// Anything may have been written.
    All,
    /// Nothing is heard from here on.
    Lost,
    /// Writes are heard again; `All` follows.
    Restored,
}

/// What was heard and not yet delivered. A key stands here once, however often it was written.
#[derive(Debug, Default)]
struct Pending {
    lost: bool,
    restored: bool,
    all: bool,
    keys: HashSet<String>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    ring: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.lock());
        self.ring.notify_one();
    }

    fn key(&self, key: &[u8]) {
        // what is no key of ours is of no interest
        let Ok(key) = std::str::from_utf8(key) else { return };
        if key.len() > MAX_KEY {
            return;
        }
        self.tell(|pending| {
            if !pending.all && pending.keys.len() >= MOST {
                pending.all = true;
            }
            if pending.all {
                pending.keys.clear();
            } else if !pending.keys.contains(key) {
                pending.keys.insert(key.to_owned());
            }
        });
    }
}

/// Broadcast tracking of some prefixes on a connection of its own. Reconnects for ever by itself; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Tracker {
    shared: Arc<Shared>,
    batch: Vec<String>,
    task: JoinHandle<()>,
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tracker {
    /// The next event. May be dropped at any await: no event is lost.
    pub(crate) async fn next(&mut self) -> TrackEvent {
        loop {
            if let Some(event) = self.take() {
                return event;
            }
            self.shared.ring.notified().await;
        }
    }

    fn take(&mut self) -> Option<TrackEvent> {
        if let Some(key) = self.batch.pop() {
            return Some(TrackEvent::Key(key));
        }
        let mut pending = self.shared.lock();
        if take(&mut pending.lost) {
            return Some(TrackEvent::Lost);
        }
        if take(&mut pending.restored) {
            return Some(TrackEvent::Restored);
        }
        if take(&mut pending.all) {
            pending.keys.clear();
            return Some(TrackEvent::All);
        }
        self.batch.extend(pending.keys.drain());
        drop(pending);
        self.batch.pop().map(TrackEvent::Key)
    }
}

/// Tracks every key under `prefixes`; returns once the server confirmed it.
pub(crate) async fn open(connector: Arc<Connector>, prefixes: Vec<String>) -> Result<Tracker> {
    let shared = Arc::new(Shared::default());
    let joined = join(&connector, &prefixes, &shared).await.map_err(|error| error.with_operation("subscribe"))?;
    let task = tokio::spawn(supervise(connector, prefixes, Arc::clone(&shared), joined));
    Ok(Tracker { shared, batch: Vec::new(), task })
}

async fn supervise(
    connector: Arc<Connector>,
    prefixes: Vec<String>,
    shared: Arc<Shared>,
    (mut pushes, mut place): (Pushes, Place),
) {
    loop {
        let since = Instant::now();
        tokio::select! {
            () = listen(&connector, &mut pushes, &shared) => {}
            () = connector.left(&place) => {}
        }
        drop(pushes);
        tracing::warn!("tracking lost");
        shared.tell(|pending| {
            pending.lost = true;
            pending.restored = false;
        });
        (pushes, place) = rejoin(&connector, &prefixes, &shared, since).await;
        shared.tell(|pending| {
            pending.restored = true;
            pending.all = true;
        });
    }
}

async fn rejoin(connector: &Connector, prefixes: &[String], shared: &Shared, since: Instant) -> (Pushes, Place) {
    let knobs = &connector.config.knobs;
    let mut failures = u32::from(since.elapsed() < knobs.backoff_max);
    loop {
        sleep(backoff::wait(knobs.backoff_min, knobs.backoff_max, failures)).await;
        match join(connector, prefixes, shared).await {
            Ok(joined) => return joined,
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "can't track keys, will go on trying");
                }
            }
        }
    }
}

/// Opens a connection and asks for pushes, all within the connect timeout.
async fn join(connector: &Connector, prefixes: &[String], shared: &Shared) -> Result<(Pushes, Place)> {
    let work = async {
        let (stream, place) = connector.stream().await?;
        let mut pushes = Pushes::new(stream);
        confirm(connector, &place.endpoint, prefixes, shared, &mut pushes).await?;
        Ok((pushes, place))
    };
    connector.within(work).await
}

/// What was asked at the start of a connection, in order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Hello,
    Role,
    Tracking,
}

async fn confirm(
    connector: &Connector,
    endpoint: &Endpoint,
    prefixes: &[String],
    shared: &Shared,
    pushes: &mut Pushes,
) -> Result<()> {
    let config = &connector.config;
    let mut hello = redis::cmd("HELLO");
    hello.arg(3);
    if let Some(password) = &config.password {
        hello.arg("AUTH").arg(config.username.as_deref().unwrap_or("default")).arg(&password.0);
    }
    // without NOLOOP: our writes come over other connections, and some servers track nothing under it.
    // pushes name keys of every database, so none is selected
    let mut track = redis::cmd("CLIENT");
    track.arg("TRACKING").arg("ON").arg("BCAST");
    for prefix in prefixes {
        track.arg("PREFIX").arg(prefix);
    }
    let mut packed = hello.get_packed_command();
    let mut asked = vec![Asked::Hello];
    if connector.target.is_checked() {
        packed.extend(redis::cmd("INFO").arg("replication").get_packed_command());
        asked.push(Asked::Role);
    }
    packed.extend(track.get_packed_command());
    asked.push(Asked::Tracking);
    let lost = |e: &std::io::Error| error::io(e, &endpoint.to_string());
    pushes.write(&packed).await.map_err(|e| lost(&e))?;
    let mut asked = asked.into_iter();
    let mut next = asked.next();
    while let Some(now) = next {
        match pushes.read().await.map_err(|e| lost(&e))? {
            Said::Key(key) => {
                shared.key(&key);
                continue;
            }
            Said::All => {
                shared.tell(|pending| pending.all = true);
                continue;
            }
            Said::Reply(text) if now == Asked::Role => connector.target.check(&String::from_utf8_lossy(&text))?,
            Said::Reply(_) => {}
            Said::Error(text) if now == Asked::Role && text.starts_with(b"NOPERM") => {}
            Said::Error(text) => return Err(refused(&text, now)),
        }
        next = asked.next();
    }
    Ok(())
}

/// Why the server doesn't track, by its error's code.
fn refused(text: &[u8], asked: Asked) -> cache_core::Error {
    let text = String::from_utf8_lossy(text);
    let code = text.split(' ').next().unwrap_or("");
    match code {
        "ERR" | "NOPROTO" if asked == Asked::Hello => error::fault(
            ErrorKind::Config,
            "tracking needs resp3, which the server does not speak; set tracking to off",
        ),
        "ERR" if asked == Asked::Tracking => {
            error::fault(ErrorKind::Config, "the server has no broadcast tracking; set tracking to off")
        }
        _ => error::server(code, ""),
    }
}

/// Notes what is pushed until the connection breaks or stops answering.
async fn listen(connector: &Connector, pushes: &mut Pushes, shared: &Shared) {
    let knobs = &connector.config.knobs;
    let ping = redis::cmd("PING").get_packed_command();
    let patience = knobs.timeout * knobs.rebuild_after;
    let mut asked = false;
    loop {
        match timeout(if asked { patience } else { knobs.heartbeat }, pushes.read()).await {
            Ok(Ok(said)) => {
                asked = false;
                match said {
                    Said::Key(key) => shared.key(&key),
                    Said::All => shared.tell(|pending| pending.all = true),
                    Said::Reply(_) => {}
                    Said::Error(_) => return,
                }
            }
            Ok(Err(_)) => return,
            Err(_) if asked => return,
            Err(_) => {
                asked = true;
                if !matches!(timeout(patience, pushes.write(&ping)).await, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker() -> Tracker {
        Tracker { shared: Arc::default(), batch: Vec::new(), task: tokio::spawn(async {}) }
    }

    #[tokio::test]
    async fn a_key_that_waits_is_delivered_once() {
        let mut tracker = tracker();
        for _ in 0..1000 {
            tracker.shared.key(b"k");
        }
        tracker.shared.key(&[0xff]);
        tracker.shared.key(&vec![b'k'; MAX_KEY + 1]);
        assert_eq!(tracker.take(), Some(TrackEvent::Key("k".into())));
        assert_eq!(tracker.take(), None);
    }

    #[tokio::test]
    async fn more_keys_than_fit_count_as_everything() {
        let mut tracker = tracker();
        for n in 0..=MOST {
            tracker.shared.key(n.to_string().as_bytes());
        }
        assert_eq!(tracker.take(), Some(TrackEvent::All));
        assert_eq!(tracker.take(), None);
        tracker.shared.key(b"k");
        assert_eq!(tracker.take(), Some(TrackEvent::Key("k".into())), "keys count again");
    }

    #[tokio::test]
    async fn what_was_heard_before_a_gap_is_covered_by_its_end() {
        let mut tracker = tracker();
        tracker.shared.key(b"k");
        tracker.shared.tell(|pending| pending.lost = true);
        assert_eq!(tracker.take(), Some(TrackEvent::Lost));
        tracker.shared.tell(|pending| {
            pending.restored = true;
            pending.all = true;
        });
        assert_eq!(tracker.take(), Some(TrackEvent::Restored));
        assert_eq!(tracker.take(), Some(TrackEvent::All));
        assert_eq!(tracker.take(), None);
    }
}
