//! What was not acknowledged is retried; what was is replayed to a new server.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use cache_core::observe::Metric;
use cache_core::{Change, envelope};

use super::Engine;
use crate::coherence::Cause;
use crate::coherence::mutate::{Mutation, broken};

/// The most keys kept for a retry. Past it the whole namespace is cleared instead.
const MOST_PENDING: usize = 10_000;

/// Invalidations that were not acknowledged: the newest per key, to be retried when the far store answers again.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    keys: BTreeMap<Arc<str>, ()>,
    everything: bool,
}

impl Recovery {
    pub(super) fn keep(&mut self, key: &Arc<str>) {
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
    /// Remembers acknowledged changes for a replay.
    ///
    /// The acknowledgement may be the last word of a server that was replaced meanwhile. Then the replay of that change
    /// of servers is over, or will find these in the ring: which of the two shows in whether `run`, noted when the
    /// change left, is still the run.
    pub(super) fn remember(&self, line: usize, far_keys: &[&str], run: Option<u64>) {
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
