//! Bars on keys where no far store keeps them: what a tombstone is to processes, this is to the tasks of one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cache_core::Tick;

/// The keys under a guarded write, and until when loads of them are not kept.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    any: AtomicBool,
    keys: Mutex<HashMap<Arc<str>, Tick>>,
}

impl Holds {
    /// Bars `key` until `until`.
    pub(crate) fn bar(&self, key: &Arc<str>, until: Tick, now: Tick) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, end| now < *end);
        keys.insert(Arc::clone(key), until);
        self.any.store(true, Ordering::Release);
    }

    /// Whether `key` is barred at `now`.
    pub(crate) fn bars(&self, key: &str, now: Tick) -> bool {
        self.any.load(Ordering::Acquire) && {
            let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.get(key).is_some_and(|end| now < *end)
        }
    }

    /// Lifts the bar.
    pub(crate) fn lift(&self, key: &str) {
        if self.any.load(Ordering::Acquire) {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.remove(key);
            self.any.store(!keys.is_empty(), Ordering::Release);
        }
    }
}
