//! The reference near store.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ring::{Resident, Ring};
use crate::{Entry, Glance, LocalStore, Parted, Tick};

impl Resident for Arc<Entry> {}

/// A near store in plain std: one map behind one lock, an exact byte budget ([`Entry::weight`]), second-chance
/// eviction.
///
/// Nothing is deferred: `len` and `weight` are exact, [`settle`](LocalStore::settle) has nothing to do. Good for
/// tests, simulations and small programs; under many threads prefer a concurrent store.
///
/// ```
/// use std::sync::Arc;
/// use bytes::Bytes;
/// use cache_core::{Entry, LocalStore, Tick, memory::LocalMemory};
///
/// let near = LocalMemory::new(1 << 20);
/// near.put("user:1", Arc::new(Entry::plain(Bytes::from_static(b"ada"), Tick::NEVER)));
/// assert_eq!(near.get("user:1").unwrap().payload(), "ada".as_bytes());
/// assert!(near.weight() <= near.budget());
/// ```
pub struct LocalMemory {
    ring: Mutex<Ring<Arc<Entry>>>,
    budget: u64,
}

impl LocalMemory {
    /// A store with a budget of `bytes` for keys, payloads and bookkeeping. What typed values decode to comes on top.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self { ring: Mutex::new(Ring::new(bytes)), budget: bytes }
    }

    fn ring(&self) -> MutexGuard<'_, Ring<Arc<Entry>>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalStore for LocalMemory {
    fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.ring().get(key).map(|entry| Arc::clone(entry))
    }

    fn glance(&self, key: &Parted<'_>) -> Option<Glance> {
        let mut ring = self.ring();
        let entry = key.joined(|key| ring.get(key))?;
        Some(entry.part().map_or_else(|| Glance::Whole(Arc::clone(entry)), Glance::Part))
    }

    fn put(&self, key: &str, entry: Arc<Entry>) {
        let weight = entry.weight(key.len());
        self.ring().insert(key, entry, weight, Tick::ZERO);
    }

    fn remove(&self, key: &str) -> Option<Arc<Entry>> {
        self.ring().remove(key)
    }

    fn clear(&self) {
        self.ring().clear();
    }

    fn len(&self) -> u64 {
        self.ring().len() as u64
    }

    fn weight(&self) -> u64 {
        self.ring().weight()
    }

    fn budget(&self) -> u64 {
        self.budget
    }

    fn settle(&self) {}

    fn each(&self, visit: &mut dyn FnMut(&str, &Arc<Entry>) -> bool) {
        // a copy, so that `visit` may use the store
        let held: Vec<_> = self.ring().iter().map(|(key, entry)| (Arc::clone(key), Arc::clone(entry))).collect();
        for (key, entry) in &held {
            if !visit(key, entry) {
                return;
            }
        }
    }
}

impl fmt::Debug for LocalMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = self.ring();
        f.debug_struct("LocalMemory")
            .field("entries", &ring.len())
            .field("weight", &ring.weight())
            .field("budget", &self.budget)
            .finish()
    }
}
