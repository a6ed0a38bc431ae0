//! Denials that still hold, so that who is denied and keeps trying costs no round trip.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Outcome;
use crate::Tick;

/// The most denials that are remembered.
const MOST: usize = 8192;

/// What is denied, by key.
#[derive(Default)]
pub(super) struct Denials {
    held: Mutex<HashMap<String, Denial>>,
    /// How many are held, so that the common case takes no lock.
    count: AtomicUsize,
}

struct Denial {
    cost: u32,
    outcome: Outcome,
    sent: Tick,
}

impl Denial {
    /// Whether it still holds, and for how much longer. What is taken meanwhile by others only prolongs it.
    fn left(&self, now: Tick) -> Option<Duration> {
        let span = Duration::from_micros(self.outcome.retry_us);
        // clocks differ by up to a hundredth
        (self.sent + (span - span / 100)).since(now).checked_sub(Duration::from_nanos(1))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Denials {
    fn held(&self) -> MutexGuard<'_, HashMap<String, Denial>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store would answer, if it is known to deny.
    pub(super) fn find(&self, key: &str, cost: u32, now: Tick) -> Option<Outcome> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut held = self.held();
        let denial = held.get(key)?;
        let Some(left) = denial.left(now) else {
            held.remove(key);
            self.count.store(held.len(), Ordering::Relaxed);
            return None;
        };
        if cost.max(1) < denial.cost {
            return None;
        }
        let passed = micros(now.since(denial.sent));
        let reset_us = denial.outcome.reset_us.saturating_sub(passed).max(micros(left));
        Some(Outcome { retry_us: micros(left).max(1), reset_us, ..denial.outcome })
    }

    /// Remembers a denial of `cost` that was asked for at `sent`.
    pub(super) fn keep(&self, key: &str, cost: u32, outcome: Outcome, sent: Tick, now: Tick) {
        let denial = Denial { cost: cost.max(1), outcome, sent };
        if denial.left(now).is_none() {
            return;
        }
        let mut held = self.held();
        if held.len() >= MOST && !held.contains_key(key) {
            held.retain(|_, denial| denial.left(now).is_some());
            if held.len() >= MOST {
                return;
            }
        }
        held.insert(key.to_owned(), denial);
        self.count.store(held.len(), Ordering::Relaxed);
    }

    /// Forgets what is known of `key`.
    pub(super) fn forget(&self, key: &str) {
        let mut held = self.held();
        held.remove(key);
        self.count.store(held.len(), Ordering::Relaxed);
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.held().len()
    }
}
