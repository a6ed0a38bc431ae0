//! What was not acknowledged is retried; what was is replayed to a new server.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use cache_core::observe::Metric;
use cache_core::{Bus, Change, envelope};

use super::Engine;
use crate::coherence::Cause;
use crate::coherence::mutate::{Mutation, broken};
use crate::sync::MutexGuard;

/// The most keys kept for a retry. Past it the whole namespace is cleared instead.
const MOST_PENDING: usize = 10_000;

/// The most answered beats that pass between two retries.
const MOST_REST: u32 = 32;

/// Invalidations that were not acknowledged, each key and tag once, to be retried when the far store answers again: after
/// a beat that it answered, and while retries fail all the same, after a random number of beats, up to twice as many each
/// time.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    keys: BTreeSet<Arc<str>>,
    tags: BTreeSet<u64>,
    everything: bool,
    failures: u32,
    rest: u32,
}

/// An acknowledged change.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Keys(Vec<String>),
    Tag(u64),
}

/// What is retried at once.
struct Retry {
    keys: Vec<Arc<str>>,
    tags: Vec<u64>,
    everything: bool,
}

impl Told {
    pub(super) fn keys(far_keys: &[&str]) -> Self {
        Self::Keys(far_keys.iter().map(|key| (*key).to_owned()).collect())
    }
}

impl Recovery {
    pub(super) fn keep(&mut self, key: &Arc<str>) {
        self.bound();
        if !self.everything {
            self.keys.insert(Arc::clone(key));
        }
    }

    pub(super) fn keep_tag(&mut self, tag: u64) {
        self.bound();
        if !self.everything {
            self.tags.insert(tag);
        }
    }

    fn keep_told(&mut self, told: &Told) {
        match told {
            Told::Keys(keys) => keys.iter().for_each(|key| self.keep(&Arc::from(key.as_str()))),
            Told::Tag(tag) => self.keep_tag(*tag),
        }
    }

    fn bound(&mut self) {
        if self.keys.len() + self.tags.len() >= MOST_PENDING {
            self.everything = true;
            self.keys.clear();
            self.tags.clear();
        }
    }

    /// What is to be retried after this beat, if anything.
    fn take(&mut self) -> Option<Retry> {
        if self.len() == 0 {
            return None;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return None;
        }
        Some(Retry {
            keys: std::mem::take(&mut self.keys).into_iter().collect(),
            tags: std::mem::take(&mut self.tags).into_iter().collect(),
            everything: std::mem::take(&mut self.everything),
        })
    }

    /// Notes how a retry went.
    fn retried(&mut self, done: bool, roll: f64) {
        self.failures = if done { 0 } else { self.failures.saturating_add(1) };
        let most = 2_u32.saturating_pow(self.failures.saturating_sub(1)).min(MOST_REST);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of at most 32")]
        let rest = (f64::from(most) * roll) as u32;
        self.rest = if done { 0 } else { rest };
    }

    /// How many invalidations wait.
    pub(crate) fn len(&self) -> usize {
        if self.everything { MOST_PENDING } else { self.keys.len() + self.tags.len() }
    }
}

impl Engine {
    /// Remembers acknowledged changes for a replay.
    ///
    /// The acknowledgement may be the last word of a server that was replaced meanwhile. Then the replay of that change
    /// of servers is over, or will find these in the ring: which of the two shows in whether `run`, noted when the
    /// change left, is still the run.
    pub(super) fn remember(&self, line: usize, told: Told, run: Option<u64>) {
        let state = &self.lines[line];
        let recovered = told.clone();
        state.ring.lock().unwrap_or_else(PoisonError::into_inner).push(self.clock.now(), told);
        if self.track(line).run() != run && !broken(Mutation::NoLateReplay) {
            self.recovery(line).keep_told(&recovered);
            state.beat.notify_one();
        }
    }

    /// Retries what was not acknowledged. Called after a beat was answered.
    pub(crate) async fn recover(&self, line: usize) {
        let Some(bus) = self.far.as_ref().and_then(|far| far.bus()) else { return };
        // before anything is taken: a close waits for it
        let _shift = self.work.begin();
        let Some(Retry { keys, tags, everything }) = self.recovery(line).take() else { return };
        let mut done = true;
        if everything {
            done &= self.clear_for(bus).await;
        }
        for chunk in keys.chunks(500) {
            done &= self.retry(bus, line, chunk).await;
        }
        let (period, span) = self.period();
        for tag in tags {
            let run = self.track(0).run();
            match bus.bump(&self.lines[0].names, self.node, tag, period, span).await {
                Ok(n) => {
                    self.apply_bump(0, n, tag);
                    self.remember(0, Told::Tag(tag), run);
                    self.counters.count(Metric::Invalidated);
                }
                Err(_) => {
                    self.recovery(line).keep_tag(tag);
                    done = false;
                }
            }
        }
        self.recovery(line).retried(done, fastrand::f64());
    }

    async fn retry(&self, bus: &dyn Bus, line: usize, keys: &[Arc<str>]) -> bool {
        let far_keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let run = self.track(line).run();
        let answer = bus.change(&self.lines[line].names, self.node, &far_keys, Change::Delete).await;
        match &answer {
            Ok(applied) => {
                for near in far_keys.iter().filter_map(|key| self.names.near_of(line, key)) {
                    self.purge(&near, Cause::Own);
                }
                self.mark_own(line, applied.n, run);
                self.remember(line, Told::keys(&far_keys), run);
                self.counters.add(Metric::Invalidated, keys.len() as u64);
            }
            Err(_) => {
                let mut recovery = self.recovery(line);
                keys.iter().for_each(|key| recovery.keep(key));
            }
        }
        answer.is_ok()
    }

    pub(super) fn recovery(&self, line: usize) -> MutexGuard<'_, Recovery> {
        self.lines[line].recovery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repeats the acknowledged changes of the last minute: a new server may not have them.
    pub(crate) async fn replay(&self, line: usize) {
        let now = self.clock.now();
        let kept = self.lines[line].ring.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        let mut recovery = self.lines[line].recovery.lock().unwrap_or_else(PoisonError::into_inner);
        match kept {
            Some(changes) => changes.iter().for_each(|told| recovery.keep_told(told)),
            None => recovery.everything = true,
        }
    }

    async fn clear_for(&self, bus: &dyn Bus) -> bool {
        let (period, span) = self.period();
        let run = self.track(0).run();
        let answer = bus.bump(&self.lines[0].names, self.node, envelope::ALL, period, span).await;
        match &answer {
            Ok(n) => {
                self.apply_bump(0, *n, envelope::ALL);
                self.remember(0, Told::Tag(envelope::ALL), run);
            }
            Err(_) => self.recovery(0).everything = true,
        }
        answer.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded() {
        let mut recovery = Recovery::default();
        for n in 0..2 * MOST_PENDING {
            recovery.keep(&n.to_string().into());
            recovery.keep(&"the same".into());
            recovery.keep_tag(7);
        }
        assert_eq!(recovery.len(), MOST_PENDING);
        let retry = recovery.take().unwrap();
        assert!(retry.everything && retry.keys.is_empty() && retry.tags.is_empty(), "a clear makes up for all");
        assert_eq!(recovery.len(), 0);
    }

    #[test]
    fn retries_that_fail_become_rarer_up_to_a_limit() {
        let mut recovery = Recovery::default();
        let mut gaps = Vec::new();
        for _ in 0..8 {
            recovery.keep(&"k".into());
            let mut beats = 1;
            while recovery.take().is_none() {
                beats += 1;
            }
            gaps.push(beats);
            recovery.retried(false, 0.99);
        }
        assert_eq!(gaps, [1, 1, 2, 4, 8, 16, 32, 32]);
        recovery.retried(true, 0.99);
        recovery.keep_tag(3);
        assert_eq!(recovery.take().unwrap().tags, [3], "after a success the next goes at once");
        assert!(recovery.take().is_none(), "nothing waits");
    }
}
