//! Background writes: puts that their callers don't wait for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cache_core::observe::Metric;
use cache_core::{Change, Entry, Result, Tick, check_value};
use tokio::sync::Notify;

use super::{Engine, Where, join_all};
use crate::answer::{Freshness, Served, Tier};
use crate::coherence::mutate::{Mutation, broken};
use crate::coherence::{Cause, Newest, Queue, SUSPECT};
use crate::loaded::Produced;
use crate::space::Space;

/// How many keys are written at once.
const AT_ONCE: usize = 32;

/// Puts on their way.
#[derive(Debug)]
pub(crate) struct Behind {
    most: usize,
    queue: Mutex<Queue<Arc<str>, Write>>,
    more: Notify,
    landed: Notify,
}

#[derive(Clone, Debug)]
struct Write {
    at: Where,
    frame: Bytes,
    ttl: Duration,
    entry: Arc<Entry>,
}

impl Behind {
    /// Room for `most` keys that wait.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, queue: Mutex::default(), more: Notify::new(), landed: Notify::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Arc<str>, Write>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys have a write that is not done.
    pub(crate) fn len(&self) -> usize {
        let queue = self.queue();
        queue.waiting() + queue.flying()
    }

    /// Queues a write; `false` if there is no room.
    fn offer(&self, write: Write) -> bool {
        let offered = self.queue().offer(Arc::clone(&write.at.near), write, self.most);
        if offered {
            self.more.notify_one();
        }
        offered
    }

    /// The next writes, which fly from now on.
    fn depart(&self, now: Tick) -> Vec<Write> {
        let mut queue = self.queue();
        std::iter::from_fn(|| queue.depart(now)).take(AT_ONCE).collect()
    }

    fn land(&self, key: &str) {
        self.queue().land(key);
        self.landed.notify_waiters();
        // what waited for it may depart
        self.more.notify_one();
    }

    /// Waits for a landing after which `done` brings something.
    async fn once<T>(&self, mut done: impl FnMut(&mut Queue<Arc<str>, Write>) -> Option<T>) -> T {
        loop {
            let landed = self.landed.notified();
            tokio::pin!(landed);
            landed.as_mut().enable();
            if let Some(brought) = done(&mut self.queue()) {
                return brought;
            }
            landed.await;
        }
    }
}

/// The place of a change among the background writes of its keys. They go on when it is dropped.
pub(crate) struct Turn<'a> {
    behind: &'a Behind,
    keys: Vec<Arc<str>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.keys.iter().for_each(|key| self.behind.land(key));
    }
}

impl Engine {
    /// Stores a value for everybody in the background; in the foreground if there is no room. Whether it is, or will be,
    /// stored as far as is known now.
    pub(crate) async fn put_behind(self: &Arc<Self>, at: Where, produced: Produced, space: &Space) -> Result<bool> {
        let (Some(behind), Some(far)) = (&self.behind, &self.far) else {
            return Ok(self.put(at, produced, &space.policy).await?.stored);
        };
        let (frame, ttl) = self.fresh_frame(&produced, &space.policy);
        let far_ttl = self.far_ttl(&frame, ttl, &space.policy);
        let bytes = far.packing().pack(&at.far, &frame)?;
        check_value(bytes.len(), far.store().max_value())?;
        let now = self.clock.now();
        let entry = Arc::new(self.near_entry(frame, &space.policy, now, ttl));
        if let Some(decoded) = produced.decoded.clone() {
            entry.remember(decoded);
        }
        entry.confirm(self.epoch(at.line), now);
        if behind.offer(Write { at: at.clone(), frame: bytes, ttl: far_ttl, entry }) {
            // after it is queued: from here on nobody installs what is older
            self.purge(&at.near, Cause::Own);
            self.counters.count(Metric::BackgroundWrite);
            return Ok(true);
        }
        Ok(self.put(at, produced, &space.policy).await?.stored)
    }

    /// The value of a write on its way, if it may be served: a process reads its own writes.
    pub(crate) fn written(&self, near_key: &str) -> Option<Arc<Entry>> {
        let Write { at, entry, .. } = self.newest(near_key)?;
        let now = self.clock.now();
        if self.work.is_closed() {
            return None;
        }
        if now < entry.deadline() && self.stands(&entry) {
            return Some(entry);
        }
        // a tag of it was bumped, or its time is over: what the far store still holds is older, and may stand by its own tags
        // and time. Once for each write
        if entry.epoch() != SUSPECT {
            entry.confirm(SUSPECT, now);
            self.raise_floor(&at.near);
            self.purge(&at.near, Cause::Own);
        }
        None
    }

    fn newest(&self, near_key: &str) -> Option<Write> {
        let behind = self.behind.as_ref()?;
        let late = {
            let queue = behind.queue();
            if queue.is_settled(near_key) {
                return None;
            }
            // the clock is read after the write was found flying
            match queue.newest(near_key, self.clock.now(), self.options.bound)? {
                Newest::Read(write) => return Some(write.clone()),
                Newest::Overdue(write) => Arc::clone(&write.at.near),
            }
        };
        // as if it had failed, which it is about to; what the far store holds may be older, and is not for us
        self.raise_floor(&late);
        self.purge(&late, Cause::Own);
        behind.queue().give_up(near_key);
        None
    }

    /// As [`written`](Self::written), for a key space.
    pub(crate) fn written_for(&self, near_key: &str, space: &Space) -> Option<Arc<Entry>> {
        self.written(near_key).filter(|entry| (space.accepts)(entry))
    }

    /// What a flight tells its callers: not what it brought, if a write is on its way, for whoever asks next is told that.
    pub(crate) fn or_written(&self, near_key: &str, space: &Space, brought: Served) -> Served {
        match self.written_for(near_key, space).filter(|_| !broken(Mutation::BehindUntold)) {
            Some(entry) => Served { entry, tier: Tier::Near, freshness: Freshness::WithinBound },
            None => brought,
        }
    }

    /// Before a change of keys that depends on what they hold, or asks the far store: waits for their writes.
    pub(crate) async fn settle_writes(&self, keys: &[Where]) {
        let Some(behind) = &self.behind else { return };
        for at in keys {
            behind.once(|queue| queue.is_settled(&*at.near).then_some(())).await;
        }
    }

    /// Before a change that makes the keys' writes void: takes the places of those that wait, once none flies.
    pub(crate) async fn void_writes(&self, keys: &[Where]) -> Option<Turn<'_>> {
        let behind = self.behind.as_ref()?;
        // in one order for all, so that no two wait for each other
        let keys: BTreeSet<&Arc<str>> = keys.iter().map(|at| &at.near).collect();
        let mut turn = Turn { behind, keys: Vec::new() };
        for key in keys {
            if behind.once(|queue| queue.take_over(key, self.clock.now())).await {
                turn.keys.push(Arc::clone(key));
            }
        }
        Some(turn)
    }

    /// Sends what is queued, for ever.
    pub(crate) async fn write_behind(self: Arc<Self>) {
        let Some(behind) = &self.behind else { return };
        loop {
            let writes = behind.depart(self.clock.now());
            if writes.is_empty() {
                behind.more.notified().await;
                continue;
            }
            join_all(writes.into_iter().map(|write| self.send_behind(behind, write))).await;
        }
    }

    async fn send_behind(&self, behind: &Behind, write: Write) {
        let Write { at, frame, ttl, entry: _ } = write;
        // no longer than it may be read: then it counts as failed, and the key is invalidated when that can be
        let most = Some(self.options.bound);
        let sent = self.change_line(at.line, std::slice::from_ref(&at), Change::Put { frame, ttl }, most).await;
        if !sent.is_ok_and(|applied| applied.stored) {
            // the key is left without a value, or is invalidated when the far store answers again
            self.counters.count(Metric::BackgroundWriteFailed);
        }
        behind.land(&at.near);
    }
}
