//! What a [`Memory`](super::Memory) holds, as its one thread sees it: keys with deadlines, and the time.

use std::time::Duration;

use bytes::Bytes;

use super::listener::Inboxes;
#[cfg(feature = "recipe")]
use super::objects::Object;
use super::ring::{Resident, Ring};
use super::tags::Period;
use crate::envelope::{HEADER, Header};
use crate::{Error, ErrorKind, Found, Reply, Result, Stamp, Tick};

/// Bytes counted for a key beside its text and value: slot, place in the ring, allocations.
pub(super) const OVERHEAD: usize = 160;

/// What stands under a key.
pub(super) enum Value {
    Bytes(Bytes),
    Tags(Period),
    #[cfg(feature = "recipe")]
    Object(Box<dyn Object>),
}

impl Value {
    /// The same value once more; `None` for the state of a recipe.
    fn copied(&self) -> Option<Self> {
        match self {
            Self::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            Self::Tags(period) => Some(Self::Tags(period.clone())),
            #[cfg(feature = "recipe")]
            Self::Object(_) => None,
        }
    }

    fn weight(&self, key: &str) -> u64 {
        let held = match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Tags(period) => period.weight(),
            #[cfg(feature = "recipe")]
            Self::Object(object) => object.weight(),
        };
        (key.len() + held + OVERHEAD) as u64
    }
}

pub(super) struct Item {
    pub(super) value: Value,
    pub(super) deadline: Tick,
    pinned: bool,
}

impl Resident for Item {
    fn is_dead(&self, now: Tick) -> bool {
        self.deadline <= now
    }

    fn is_pinned(&self) -> bool {
        self.pinned
    }
}

pub(super) struct State {
    ring: Ring<Item>,
    pub(super) inboxes: Inboxes,
    /// Identifies the run of this "server".
    pub(super) run: u64,
    /// The highest number that any line ever got; survives the loss of the keys, as a microsecond clock would.
    pub(super) highest: u64,
    now: Tick,
    unix_ms: u64,
}

impl State {
    pub(super) fn new(bytes: u64, buffer: usize) -> Self {
        Self {
            ring: Ring::new(bytes),
            inboxes: Inboxes::new(buffer),
            run: Stamp::random().0,
            highest: 0,
            now: Tick::ZERO,
            unix_ms: 0,
        }
    }

    /// Sets the time that the next operation sees.
    pub(super) fn set_time(&mut self, now: Tick, unix_ms: u64) {
        (self.now, self.unix_ms) = (now, unix_ms);
    }

    /// The moment that the operation sees.
    #[cfg(feature = "recipe")]
    pub(super) fn now(&self) -> Tick {
        self.now
    }

    /// The server's clock in ms since the Unix epoch.
    pub(super) fn unix_ms(&self) -> u64 {
        self.unix_ms
    }

    /// The live item under `key`; an expired one is dropped.
    pub(super) fn item(&mut self, key: &str) -> Option<&mut Item> {
        if self.ring.get(key)?.is_dead(self.now) {
            self.ring.remove(key);
            return None;
        }
        self.ring.get(key)
    }

    pub(super) fn has(&mut self, key: &str) -> bool {
        self.item(key).is_some()
    }

    /// The bytes under `key`.
    pub(super) fn bytes(&mut self, key: &str) -> Result<Option<Bytes>> {
        match self.item(key).map(|item| &item.value) {
            Some(Value::Bytes(bytes)) => Ok(Some(bytes.clone())),
            Some(_) => Err(wrong_type()),
            None => Ok(None),
        }
    }

    /// The bytes under `key` and the time that they have left.
    pub(super) fn found(&mut self, key: &str) -> Result<Option<Found>> {
        let Some(frame) = self.bytes(key)? else { return Ok(None) };
        Ok(Some(Found { frame, left: self.left(key) }))
    }

    /// The bytes under `key` and their header, if it is one of ours.
    pub(super) fn frame(&mut self, key: &str) -> Result<Option<(Header, Bytes)>> {
        let Some(bytes) = self.bytes(key)? else { return Ok(None) };
        Ok(Header::parse(&bytes).ok().map(|header| (header, bytes)))
    }

    /// The time that `key` has left.
    pub(super) fn left(&mut self, key: &str) -> Option<Duration> {
        let now = self.now;
        self.item(key).map(|item| item.deadline.since(now))
    }

    /// Stores `bytes` under `key` for `ttl_ms`, whatever was there.
    pub(super) fn put(&mut self, key: &str, bytes: Bytes, ttl_ms: u64) {
        self.store(key, Value::Bytes(bytes), ttl_ms, false);
    }

    /// As [`put`](Self::put), never evicted.
    pub(super) fn put_pinned(&mut self, key: &str, bytes: Bytes, ttl_ms: u64) {
        self.store(key, Value::Bytes(bytes), ttl_ms, true);
    }

    fn store(&mut self, key: &str, value: Value, ttl_ms: u64, pinned: bool) {
        self.store_until(key, value, self.now + Duration::from_millis(ttl_ms), pinned);
    }

    pub(super) fn store_until(&mut self, key: &str, value: Value, deadline: Tick, pinned: bool) {
        let weight = value.weight(key);
        self.ring.insert(key, Item { value, deadline, pinned }, weight, self.now);
    }

    /// Replaces the bytes under `key`; its deadline stays.
    pub(super) fn replace(&mut self, key: &str, bytes: Bytes) {
        if let Some(item) = self.item(key) {
            item.value = Value::Bytes(bytes);
            let weight = item.value.weight(key);
            self.ring.reweigh(key, weight);
        }
    }

    /// Writes `header` over the one that the frame under `key` begins with.
    pub(super) fn rewrite(&mut self, key: &str, header: &Header, frame: &Bytes) {
        let mut edited = frame.to_vec();
        if let Some(head) = edited.first_chunk_mut::<HEADER>() {
            *head = header.to_bytes();
        }
        self.replace(key, edited.into());
    }

    /// Lets `key` live for `ttl_ms` from now.
    pub(super) fn expire(&mut self, key: &str, ttl_ms: u64) {
        let deadline = self.now + Duration::from_millis(ttl_ms);
        if let Some(item) = self.item(key) {
            item.deadline = deadline;
        }
    }

    /// Removes `key`; whether it was there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let now = self.now;
        self.ring.remove(key).is_some_and(|item| !item.is_dead(now))
    }

    /// The tag generations under `key`.
    pub(super) fn period(&mut self, key: &str) -> Result<Option<&mut Period>> {
        match self.item(key).map(|item| &mut item.value) {
            Some(Value::Tags(period)) => Ok(Some(period)),
            Some(_) => Err(wrong_type()),
            None => Ok(None),
        }
    }

    /// Stores the tag generations under `key`. They are never evicted.
    pub(super) fn put_period(&mut self, key: &str, period: Period, ttl_ms: u64) {
        self.store(key, Value::Tags(period), ttl_ms, true);
    }

    /// Counts anew what the tag generations under `key` weigh, and lets them live for `ttl_ms` from now.
    pub(super) fn touch_period(&mut self, key: &str, ttl_ms: u64) {
        if let Some(weight) = self.item(key).map(|item| item.value.weight(key)) {
            self.ring.reweigh(key, weight);
        }
        self.expire(key, ttl_ms);
    }

    /// Every live key that begins with `prefix`.
    pub(super) fn keys(&self, prefix: &str) -> Vec<String> {
        let live = self.ring.iter().filter(|(_, item)| !item.is_dead(self.now));
        live.filter(|(key, _)| key.starts_with(prefix)).map(|(key, _)| key.to_string()).collect()
    }

    /// The live keys, values and deadlines in a server of its own that nobody listens to yet.
    pub(super) fn fork(&self) -> Self {
        let mut fork = Self::new(self.ring.budget(), self.inboxes.limit());
        let mut items: Vec<_> = self.ring.iter().filter(|(_, item)| !item.is_dead(self.now)).collect();
        items.sort_unstable_by_key(|(key, _)| *key);
        for (key, item) in items {
            let Some(value) = item.value.copied() else { continue };
            let weight = value.weight(key);
            fork.ring.insert(key, Item { value, deadline: item.deadline, pinned: item.pinned }, weight, self.now);
        }
        fork
    }

    pub(super) fn clear(&mut self) {
        self.ring.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(super) fn weight(&self) -> u64 {
        self.ring.weight()
    }

    /// The most bytes that all keys may weigh together.
    #[cfg(feature = "recipe")]
    pub(super) fn budget(&self) -> u64 {
        self.ring.budget()
    }
}

pub(super) fn wrong_type() -> Error {
    Error::new(ErrorKind::Conflict, "the key holds another kind of value").with_reply(Reply::WrongType)
}
