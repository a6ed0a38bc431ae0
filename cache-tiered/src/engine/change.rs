//! Changing: invalidate, put, tags; what is kept for a retry or a replay.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cache_core::observe::Metric;
use cache_core::{
    Applied, Change, Entry, Error, ErrorKind, Frame, Header, Result, Stamp, State, check_value, envelope,
};

use super::{Engine, Where};
use crate::coherence::mutate::{Mutation, broken};
use crate::coherence::{Cause, ack_purges};
use crate::loaded::Produced;
use crate::policy::Policy;

/// The most keys kept for a retry. Past it the whole namespace is cleared instead.
const MOST_PENDING: usize = 10_000;

/// Invalidations that were not acknowledged: the newest per key, to be retried when the far store answers again.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    keys: BTreeMap<Arc<str>, ()>,
    everything: bool,
}

impl Recovery {
    fn keep(&mut self, key: &Arc<str>) {
        if self.keys.len() >= MOST_PENDING {
            self.everything = true;
            self.keys.clear();
        }
        if !self.everything {
            self.keys.insert(Arc::clone(key), ());
        }
    }

    fn take(&mut self) -> (Vec<Arc<str>>, bool) {
        (std::mem::take(&mut self.keys).into_keys().collect(), std::mem::take(&mut self.everything))
    }

    /// How many invalidations wait.
    pub(crate) fn len(&self) -> usize {
        if self.everything { MOST_PENDING } else { self.keys.len() }
    }
}

impl Engine {
    /// Applies `change` to keys of any lines: one round trip a line, all lines at once. How many keys were there.
    ///
    /// Runs to its end even if the caller goes away: a change that has left can't be called back.
    pub(crate) async fn change(self: &Arc<Self>, keys: Vec<Where>, change: Change) -> Result<Applied> {
        let mut groups: BTreeMap<usize, Vec<Where>> = BTreeMap::new();
        for at in keys {
            groups.entry(at.line).or_default().push(at);
        }
        let tasks: Vec<_> = groups
            .into_iter()
            .map(|(line, keys)| {
                let (engine, change) = (Arc::clone(self), change.clone());
                tokio::spawn(async move { engine.change_line(line, &keys, change).await })
            })
            .collect();
        let mut total = Applied { n: 0, stored: true, removed: 0 };
        let mut failed = None;
        for task in tasks {
            match task.await {
                Ok(Ok(applied)) => {
                    total = Applied {
                        n: total.n.max(applied.n),
                        stored: total.stored && applied.stored,
                        removed: total.removed + applied.removed,
                    };
                }
                Ok(Err(error)) => failed = Some(error),
                Err(_) => failed = Some(Error::new(ErrorKind::Closed, "the runtime is shutting down")),
            }
        }
        failed.map_or(Ok(total), Err)
    }

    async fn change_line(&self, line: usize, keys: &[Where], change: Change) -> Result<Applied> {
        let Some((far, bus)) = self.far.as_ref().and_then(|far| far.bus().map(|bus| (far, bus))) else {
            return self.change_unheard(keys, change).await;
        };
        let names = &self.lines[line].names;
        let far_keys: Vec<&str> = keys.iter().map(|at| &*at.far).collect();
        let run = self.track(line).run();
        let answer = far.call(&self.clock, &self.counters, bus.change(names, self.node, &far_keys, change)).await;
        match answer {
            Ok(applied) => {
                let purges = ack_purges(self.track(line).knows(applied.n));
                for at in keys.iter().filter(|_| purges) {
                    self.purge(&at.near, Cause::Own);
                }
                self.mark(line, applied.n);
                self.counters.add(Metric::Invalidated, keys.len() as u64);
                self.remember(line, &far_keys, run);
                Ok(applied)
            }
            Err(error) => {
                let mut recovery = self.lines[line].recovery.lock().unwrap_or_else(PoisonError::into_inner);
                for at in keys {
                    self.purge(&at.near, Cause::Own);
                    recovery.keep(&at.far);
                }
                drop(recovery);
                self.counters.add(Metric::InvalidationPending, keys.len() as u64);
                Err(error)
            }
        }
    }

    /// Remembers acknowledged changes for a replay.
    ///
    /// The acknowledgement may be the last word of a server that was replaced meanwhile. Then the replay of that change
    /// of servers is over, or will find these in the ring: which of the two shows in whether `run`, noted when the
    /// change left, is still the run.
    fn remember(&self, line: usize, far_keys: &[&str], run: Option<u64>) {
        let state = &self.lines[line];
        let kept = far_keys.iter().map(|key| (*key).to_owned()).collect();
        state.ring.lock().unwrap_or_else(PoisonError::into_inner).push(self.clock.now(), kept);
        if self.track(line).run() != run && !broken(Mutation::NoLateReplay) {
            let mut recovery = state.recovery.lock().unwrap_or_else(PoisonError::into_inner);
            far_keys.iter().for_each(|key| recovery.keep(&Arc::from(*key)));
            drop(recovery);
            state.beat.notify_one();
        }
    }

    /// A change where no other process can hear it: near only, or a far store without a bus.
    async fn change_unheard(&self, keys: &[Where], change: Change) -> Result<Applied> {
        let mut removed = 0;
        if let Some(far) = &self.far {
            let far_keys: Vec<&str> = keys.iter().map(|at| &*at.far).collect();
            removed = far.call(&self.clock, &self.counters, far.store().delete_many(&far_keys)).await?;
        }
        for at in keys {
            match change {
                Change::Hold { hold } => self.holds.bar(&at.near, self.clock.now() + hold, self.clock.now()),
                _ => self.holds.lift(&at.near),
            }
            self.flights.detach(&at.near);
            let held = self.near.as_ref().and_then(|near| near.remove(&at.near));
            let live = held.is_some_and(|entry| self.clock.now() < entry.deadline());
            if self.far.is_none() {
                removed += u64::from(live);
            }
            self.counters.count(Metric::Purged);
        }
        let n = if self.far.is_none() { self.number() } else { 0 };
        let mut stored = true;
        if let (Some(far), Change::Put { frame, ttl } | Change::PutNewer { frame, ttl }, [at]) =
            (&self.far, change, keys)
        {
            stored = far.call(&self.clock, &self.counters, far.store().set(&at.far, frame, ttl)).await.is_ok();
        }
        Ok(Applied { n, stored, removed })
    }

    /// Numbers a change that no store numbers.
    fn number(&self) -> u64 {
        let mut track = self.track(0);
        let n = track.number();
        self.lines[0].view.publish(&track);
        n
    }

    /// Stores a value for everybody: one round trip, ordered by the far store.
    pub(crate) async fn put(self: &Arc<Self>, at: Where, produced: Produced, policy: &Policy) -> Result<Applied> {
        let (frame, ttl) = self.fresh_frame(&produced, policy);
        match &self.far {
            Some(far) => {
                let frame = far.packing().pack(&at.far, &frame)?;
                check_value(frame.len(), far.store().max_value())?;
                self.change(vec![at], Change::Put { frame, ttl }).await
            }
            None => {
                let _alone = self.near_writes.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(self.put_near(&at, frame, produced, ttl))
            }
        }
    }

    /// As [`put`](Self::put), unless the same row version or a newer one is there.
    pub(crate) async fn put_newer(self: &Arc<Self>, at: Where, produced: Produced, policy: &Policy) -> Result<Applied> {
        let (frame, ttl) = self.fresh_frame(&produced, policy);
        match &self.far {
            Some(far) => {
                let frame = far.packing().pack(&at.far, &frame)?;
                check_value(frame.len(), far.store().max_value())?;
                self.change(vec![at], Change::PutNewer { frame, ttl }).await
            }
            None => {
                let _alone = self.near_writes.lock().unwrap_or_else(PoisonError::into_inner);
                let held = self.near.as_ref().and_then(|near| near.get(&at.near));
                let newer = held.is_some_and(|e| self.clock.now() < e.deadline() && e.header().row >= produced.row);
                if newer {
                    return Ok(Applied { n: 0, stored: false, removed: 0 });
                }
                Ok(self.put_near(&at, frame, produced, ttl))
            }
        }
    }

    fn fresh_frame(&self, produced: &Produced, policy: &Policy) -> (Frame, Duration) {
        let ttl = self.ttl_of(produced, policy);
        let s0 = self.lines[0].view.applied();
        (self.frame(produced.payload.clone(), produced, Stamp::random(), s0, ttl, Duration::ZERO), ttl)
    }

    /// Stores a value where there is only a near store. Replaced, not removed first: a reader in between sees the old
    /// value or the new one.
    fn put_near(&self, at: &Where, frame: Frame, produced: Produced, ttl: Duration) -> Applied {
        self.holds.lift(&at.near);
        self.flights.detach(&at.near);
        if let Some(near) = &self.near {
            let now = self.clock.now();
            let entry = Arc::new(Entry::new(frame, now + ttl));
            if let Some(decoded) = produced.decoded {
                entry.remember(decoded);
            }
            entry.confirm(self.epoch(at.line), now);
            near.put(&at.near, entry);
        }
        Applied { n: self.number(), stored: true, removed: 0 }
    }

    /// The ttl that a value gets, jitter applied.
    pub(crate) fn ttl_of(&self, produced: &Produced, policy: &Policy) -> Duration {
        let negative = produced.payload.is_none();
        let ttl = produced.ttl.unwrap_or(if negative { policy.negative_ttl } else { policy.ttl });
        policy.jittered(ttl)
    }

    /// The frame of a value that lives for `ttl` from now.
    pub(crate) fn frame(
        &self,
        payload: Option<Bytes>,
        produced: &Produced,
        stamp: Stamp,
        s0: u64,
        ttl: Duration,
        load: Duration,
    ) -> Frame {
        let created = self.time.ms(&self.clock, self.clock.now());
        let millis = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let negative = payload.is_none();
        let header = Header {
            state: if negative { State::Negative } else { State::Value },
            flags: if negative { envelope::flag::NEGATIVE } else { 0 },
            codec: produced.codec,
            stamp,
            s0,
            soft_exp: created.saturating_add(millis),
            created,
            load_ms: u32::try_from(load.as_millis()).unwrap_or(u32::MAX),
            row: produced.row,
        };
        Frame { header, tags: produced.tags.clone(), payload: payload.unwrap_or_default() }
    }

    /// Invalidates everything that carries `tag`: one round trip, whatever the number of entries.
    pub(crate) async fn bump(self: &Arc<Self>, tag: u64) -> Result<()> {
        let Some((far, bus)) = self.far.as_ref().and_then(|far| far.bus().map(|bus| (far, bus))) else {
            let mut track = self.track(0);
            let n = track.number();
            track.bump(n, tag);
            self.lines[0].view.publish(&track);
            return Ok(());
        };
        let (period, span) = self.period();
        let n =
            far.call(&self.clock, &self.counters, bus.bump(&self.lines[0].names, self.node, tag, period, span)).await?;
        self.apply_bump(0, n, tag);
        self.counters.count(Metric::Invalidated);
        Ok(())
    }

    /// The current period of tag generations, and the length of periods.
    pub(crate) fn period(&self) -> (u64, Duration) {
        let now = self.time.ms(&self.clock, self.clock.now());
        let span = self.options.max_ttl;
        (now / u64::try_from(span.as_millis()).unwrap_or(u64::MAX), span)
    }

    /// Retries what was not acknowledged. Called after a beat was answered.
    pub(crate) async fn recover(&self, line: usize) {
        let (keys, everything) = self.lines[line].recovery.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(bus) = self.far.as_ref().and_then(|far| far.bus()) else { return };
        if everything {
            self.clear_for(bus).await;
        }
        for chunk in keys.chunks(500) {
            let far_keys: Vec<&str> = chunk.iter().map(|key| &**key).collect();
            let run = self.track(line).run();
            match bus.change(&self.lines[line].names, self.node, &far_keys, Change::Delete).await {
                Ok(applied) => {
                    for near in far_keys.iter().filter_map(|key| self.names.near_of(line, key)) {
                        self.purge(&near, Cause::Own);
                    }
                    self.mark(line, applied.n);
                    self.remember(line, &far_keys, run);
                    self.counters.add(Metric::Invalidated, chunk.len() as u64);
                }
                Err(_) => {
                    let mut recovery = self.lines[line].recovery.lock().unwrap_or_else(PoisonError::into_inner);
                    chunk.iter().for_each(|key| recovery.keep(key));
                }
            }
        }
    }

    /// Repeats the acknowledged changes of the last minute: a new server may not have them.
    pub(crate) async fn replay(&self, line: usize) {
        let now = self.clock.now();
        let kept = self.lines[line].ring.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        let mut recovery = self.lines[line].recovery.lock().unwrap_or_else(PoisonError::into_inner);
        match kept {
            Some(changes) => changes.iter().flatten().for_each(|key| recovery.keep(&Arc::from(key.as_str()))),
            None => recovery.everything = true,
        }
    }

    async fn clear_for(&self, bus: &dyn cache_core::Bus) {
        let (period, span) = self.period();
        match bus.bump(&self.lines[0].names, self.node, envelope::ALL, period, span).await {
            Ok(n) => self.apply_bump(0, n, envelope::ALL),
            Err(_) => {
                self.lines[0].recovery.lock().unwrap_or_else(PoisonError::into_inner).everything = true;
            }
        }
    }
}
