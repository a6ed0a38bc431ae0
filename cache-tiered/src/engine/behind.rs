//! Background writes: puts that their callers don't wait for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cache_core::observe::Metric;
use cache_core::{Change, Entry, Result, check_value};
use tokio::sync::Notify;

use super::{Engine, Where, join_all};
use crate::coherence::Cause;
use crate::coherence::mutate::{Mutation, broken};
use crate::loaded::Produced;
use crate::space::Space;

/// How many keys are written at once.
const AT_ONCE: usize = 32;

/// Puts on their way, at most one waiting and one flying a key: so a key's writes keep their order, and of those that
/// wait only the newest is sent.
#[derive(Debug)]
pub(crate) struct Behind {
    most: usize,
    queue: Mutex<Queue>,
    more: Notify,
    landed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<Arc<str>>,
    waiting: BTreeMap<Arc<str>, Write>,
    flying: BTreeMap<Arc<str>, Arc<Entry>>,
}

#[derive(Debug)]
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

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys have a write that is not done.
    pub(crate) fn len(&self) -> usize {
        let queue = self.queue();
        queue.waiting.len() + queue.flying.len()
    }

    /// The newest value on its way.
    fn newest(&self, near_key: &str) -> Option<Arc<Entry>> {
        let queue = self.queue();
        queue.waiting.get(near_key).map(|write| &write.entry).or_else(|| queue.flying.get(near_key)).cloned()
    }

    /// Queues a write; `false` if there is no room.
    fn offer(&self, write: Write) -> bool {
        let mut queue = self.queue();
        let key = Arc::clone(&write.at.near);
        if let Some(older) = queue.waiting.get_mut(&key) {
            *older = write;
            return true;
        }
        if queue.waiting.len() >= self.most {
            return false;
        }
        queue.order.push_back(Arc::clone(&key));
        queue.waiting.insert(key, write);
        drop(queue);
        self.more.notify_one();
        true
    }

    /// The next writes, which fly from now on.
    fn depart(&self) -> Vec<Write> {
        let mut queue = self.queue();
        let mut writes = Vec::new();
        while writes.len() < AT_ONCE {
            let Some(key) = queue.order.pop_front() else { break };
            // one that was withdrawn has left its place
            if let Some(write) = queue.waiting.remove(&key) {
                queue.flying.insert(key, Arc::clone(&write.entry));
                writes.push(write);
            }
        }
        writes
    }

    fn land(&self, key: &str) {
        self.queue().flying.remove(key);
        self.landed.notify_waiters();
    }

    fn withdraw(&self, key: &str) {
        let mut queue = self.queue();
        if queue.waiting.remove(key).is_some() {
            queue.order.retain(|other| &**other != key);
        }
    }

    async fn until(&self, holds: impl Fn(&Queue) -> bool) {
        loop {
            let landed = self.landed.notified();
            tokio::pin!(landed);
            landed.as_mut().enable();
            if holds(&self.queue()) {
                return;
            }
            landed.await;
        }
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
        let entry = self.behind.as_ref().filter(|_| !broken(Mutation::WrittenUnread))?.newest(near_key)?;
        (self.clock.now() < entry.deadline() && !self.work.is_closed() && self.stands(&entry)).then_some(entry)
    }

    /// Before a change of keys that depends on what they hold, or asks the far store: waits for their writes.
    pub(crate) async fn settle_writes(&self, keys: &[Where]) {
        if let Some(behind) = &self.behind {
            for at in keys {
                let near = &*at.near;
                behind.until(|queue| !queue.waiting.contains_key(near) && !queue.flying.contains_key(near)).await;
            }
        }
    }

    /// Before a change that makes the keys' writes void: withdraws those that wait, and waits for those that fly.
    pub(crate) async fn void_writes(&self, keys: &[Where]) {
        if let Some(behind) = &self.behind {
            for at in keys {
                let near = &*at.near;
                behind.withdraw(near);
                behind.until(|queue| !queue.flying.contains_key(near)).await;
            }
        }
    }

    /// Sends what is queued, for ever.
    pub(crate) async fn write_behind(self: Arc<Self>) {
        let Some(behind) = &self.behind else { return };
        loop {
            let writes = behind.depart();
            if writes.is_empty() {
                behind.more.notified().await;
                continue;
            }
            join_all(writes.into_iter().map(|write| self.send_behind(behind, write))).await;
        }
    }

    async fn send_behind(&self, behind: &Behind, write: Write) {
        let Write { at, frame, ttl, entry: _ } = write;
        let sent = self.change_line(at.line, std::slice::from_ref(&at), Change::Put { frame, ttl }).await;
        if !sent.is_ok_and(|applied| applied.stored) {
            // the key is left without a value, or is invalidated when the far store answers again
            self.counters.count(Metric::BackgroundWriteFailed);
        }
        behind.land(&at.near);
    }
}
