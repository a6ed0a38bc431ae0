//! What tracking heard and nobody has taken yet, and the connections that it comes from.

use std::collections::HashSet;
use std::convert::Infallible;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cache_core::MAX_KEY;
use redis::aio::AsyncPushSender;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The most keys that wait for a slow reader; past it everything counts as written.
const MOST: usize = 16 * 1024;

/// What tracking delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrackEvent {
    /// A key was written.
    Key(String),
    /// Anything may have been written.
    All,
    /// Some of it is not heard from here on.
    Lost,
    /// All of it is heard again; `All` follows.
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

/// What waits for one subscription.
#[derive(Debug, Default)]
struct Heard {
    /// What the keys of interest begin with.
    prefixes: Vec<String>,
    pending: Mutex<Pending>,
    ring: Notify,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.lock());
        self.ring.notify_one();
    }

    fn key(&self, key: &str) {
        if !self.prefixes.iter().any(|prefix| key.starts_with(prefix)) {
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

    fn all(&self) {
        self.tell(|pending| pending.all = true);
    }

    fn lost(&self) {
        self.tell(|pending| {
            pending.lost = true;
            pending.restored = false;
        });
    }

    fn restored(&self) {
        self.tell(|pending| {
            pending.restored = true;
            pending.all = true;
        });
    }
}

/// All connections that hear, and the subscriptions that are told what they hear.
#[derive(Debug, Default)]
pub(crate) struct Ears(Mutex<Attached>);

#[derive(Debug, Default)]
struct Attached {
    /// Connections that hear nothing at the moment.
    deaf: usize,
    told: Vec<Weak<Heard>>,
}

impl Ears {
    fn lock(&self) -> MutexGuard<'_, Attached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each(attached: &mut Attached, tell: impl Fn(&Heard)) {
        attached.told.retain(|heard| heard.upgrade().inspect(|heard| tell(heard)).is_some());
    }

    /// The keys that begin with one of `prefixes` from now on.
    pub(super) fn attend(&self, prefixes: Vec<String>) -> Tracker {
        let heard = Arc::new(Heard { prefixes, ..Heard::default() });
        let mut attached = self.lock();
        if attached.deaf > 0 {
            heard.lost();
        }
        attached.told.push(Arc::downgrade(&heard));
        Tracker { heard, batch: Vec::new(), tasks: Vec::new() }
    }

    /// A key was written.
    pub(super) fn key(&self, key: &[u8]) {
        // what is no key of ours is of no interest
        let Ok(key) = std::str::from_utf8(key) else { return };
        if key.len() <= MAX_KEY {
            Self::each(&mut self.lock(), |heard| heard.key(key));
        }
    }

    /// Anything may have been written.
    pub(super) fn all(&self) {
        Self::each(&mut self.lock(), Heard::all);
    }
}

/// The part of one connection in what is heard. Dropped with the connection; what it was still to say may be anything.
#[derive(Debug)]
pub(super) struct Ear {
    ears: Arc<Ears>,
    hears: bool,
}

impl Ear {
    /// A connection that hears from now on.
    pub(super) fn open(ears: Arc<Ears>) -> Self {
        Self { ears, hears: true }
    }

    /// A connection on its way up.
    pub(super) fn deaf(ears: Arc<Ears>) -> Self {
        let mut ear = Self::open(ears);
        ear.lose();
        ear
    }

    /// Nothing is heard here from now on.
    pub(super) fn lose(&mut self) {
        if !std::mem::replace(&mut self.hears, false) {
            return;
        }
        let mut attached = self.ears.lock();
        attached.deaf += 1;
        if attached.deaf == 1 {
            Ears::each(&mut attached, Heard::lost);
        }
    }

    /// Everything is heard here again.
    pub(super) fn mend(&mut self) {
        if std::mem::replace(&mut self.hears, true) {
            return self.ears.all();
        }
        let mut attached = self.ears.lock();
        attached.deaf -= 1;
        let whole = attached.deaf == 0;
        Ears::each(&mut attached, if whole { Heard::restored } else { Heard::all });
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.mend();
    }
}

/// Takes the pushes of a connection whose reads are tracked.
pub(super) fn pushes(ears: Arc<Ears>) -> impl AsyncPushSender {
    move |push: PushInfo| {
        if push.kind == PushKind::Invalidate {
            match push.data.into_iter().next() {
                Some(Value::Array(keys)) => keys.iter().for_each(|key| match key {
                    Value::BulkString(key) => ears.key(key),
                    _ => ears.all(),
                }),
                // null: everything
                _ => ears.all(),
            }
        }
        Ok::<(), Infallible>(())
    }
}

/// What a subscription is told. Dropping it ends the connections that were opened for it.
#[derive(Debug)]
pub(crate) struct Tracker {
    heard: Arc<Heard>,
    batch: Vec<String>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Tracker {
    /// Has `task`, which hears for this subscription alone, end with it.
    pub(super) fn with(mut self, task: JoinHandle<()>) -> Self {
        self.tasks.push(task);
        self
    }

    /// The next event. May be dropped at any await: no event is lost.
    pub(crate) async fn next(&mut self) -> TrackEvent {
        loop {
            if let Some(event) = self.take() {
                return event;
            }
            self.heard.ring.notified().await;
        }
    }

    fn take(&mut self) -> Option<TrackEvent> {
        if let Some(key) = self.batch.pop() {
            return Some(TrackEvent::Key(key));
        }
        let mut pending = self.heard.lock();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn all(tracker: &mut Tracker) -> Vec<TrackEvent> {
        std::iter::from_fn(|| tracker.take()).collect()
    }

    #[test]
    fn a_key_that_waits_is_delivered_once_and_only_to_those_it_concerns() {
        let ears = Arc::new(Ears::default());
        let mut tracker = ears.attend(vec!["a:".into(), "b:".into()]);
        let mut other = ears.attend(vec!["c:".into()]);
        for _ in 0..1000 {
            ears.key(b"a:k");
        }
        ears.key(b"other");
        ears.key(&[b'a', b':', 0xff]);
        ears.key(&[b"a:", &vec![b'k'; MAX_KEY][..]].concat());
        assert_eq!(all(&mut tracker), [TrackEvent::Key("a:k".into())]);
        assert_eq!(all(&mut other), []);
        drop(other);
        ears.key(b"b:k");
        assert_eq!(all(&mut tracker), [TrackEvent::Key("b:k".into())]);
        assert_eq!(ears.lock().told.len(), 1, "who is gone is forgotten");
    }

    #[test]
    fn more_keys_than_fit_count_as_everything() {
        let ears = Arc::new(Ears::default());
        let mut tracker = ears.attend(vec![String::new()]);
        for n in 0..=MOST {
            ears.key(n.to_string().as_bytes());
        }
        assert_eq!(all(&mut tracker), [TrackEvent::All]);
        ears.key(b"k");
        assert_eq!(all(&mut tracker), [TrackEvent::Key("k".into())], "keys count again");
    }

    #[test]
    fn what_was_heard_before_a_gap_is_covered_by_its_end() {
        let ears = Arc::new(Ears::default());
        let mut tracker = ears.attend(vec![String::new()]);
        let mut ear = Ear::open(Arc::clone(&ears));
        ears.key(b"k");
        ear.lose();
        ear.lose();
        assert_eq!(tracker.take(), Some(TrackEvent::Lost));
        ear.mend();
        assert_eq!(all(&mut tracker), [TrackEvent::Restored, TrackEvent::All]);
    }

    #[test]
    fn a_gap_ends_with_the_last_of_its_connections_and_each_that_is_back_says_so() {
        let ears = Arc::new(Ears::default());
        let mut one = Ear::open(Arc::clone(&ears));
        let two = Ear::deaf(Arc::clone(&ears));
        let mut tracker = ears.attend(vec![String::new()]);
        assert_eq!(all(&mut tracker), [TrackEvent::Lost], "it was down before");
        one.lose();
        assert_eq!(all(&mut tracker), [], "nothing new");
        one.mend();
        assert_eq!(all(&mut tracker), [TrackEvent::All]);
        drop(two);
        assert_eq!(all(&mut tracker), [TrackEvent::Restored, TrackEvent::All], "what is given up is no gap any more");
        drop(one);
        assert_eq!(all(&mut tracker), [TrackEvent::All], "what it was to say may be anything");
    }
}
