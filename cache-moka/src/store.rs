//! [`LocalStore`] of a [`Moka`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use cache_core::{Clock, Entry, Glance, LocalStore, MAX_KEY, Parted};
use foldhash::fast::RandomState;
use moka::sync::Cache;

use crate::Builder;
use crate::held::{self, Gone, Held};
use crate::stripes::Stripes;
use crate::text::{Asked, Text};

/// The share of the budget that may be written before housekeeping is forced: a sixty-fourth.
const SLACK: u64 = 64;

/// A store inside the process, on moka.
///
/// Clones share the data. moka picks the victims (TinyLFU: a newcomer that is asked for less than what it would push
/// out may be turned away) and keeps the byte budget; it is told nothing of time. Deadlines stand in the entries:
/// a caller of [`LocalStore`] checks them itself, [`CacheService`](cache_core::CacheService) checks them against
/// the [`Clock`] that the store was built with.
///
/// Evictions lag behind writes, by at most a sixty-fourth of the budget and one entry per writing thread.
///
/// A hit takes no lock. Writers of one key wait for each other, and so does a lookup that finds nothing, for the
/// writer that may just be replacing the entry. Evicted values are dropped inside writes and lookups: a value's `Drop`
/// must not call the store.
///
/// ```
/// use std::sync::Arc;
/// use bytes::Bytes;
/// use cache_core::{Entry, LocalStore, Tick};
/// use cache_moka::Moka;
///
/// let near = Moka::builder().bytes(1 << 20).build();
/// near.put("user:1", Arc::new(Entry::plain(Bytes::from_static(b"ada"), Tick::NEVER)));
/// assert_eq!(near.get("user:1").unwrap().payload(), "ada".as_bytes());
/// near.settle();
/// assert!(near.weight() <= near.budget());
/// ```
#[derive(Clone)]
pub struct Moka {
    pub(crate) cache: Cache<Text, Held, RandomState>,
    pub(crate) clock: Clock,
    pub(crate) max_value: usize,
    budget: u64,
    shared: Arc<Shared>,
}

struct Shared {
    stripes: Stripes,
    /// Bytes written since housekeeping was last forced.
    written: AtomicU64,
}

impl Moka {
    /// The store's name in errors and metrics.
    pub(crate) const NAME: &'static str = "moka";

    /// A store with every default.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A builder with every default.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn from_builder(builder: Builder) -> Self {
        let Builder { bytes, max_value, clock } = builder;
        let cache = Cache::builder()
            .max_capacity(bytes)
            .weigher(|key: &Text, held: &Held| {
                let weight = held.entry().map_or(0, |entry| entry.weight(key.as_str().len()));
                u32::try_from(weight).unwrap_or(u32::MAX)
            })
            .build_with_hasher(RandomState::default());
        let fits = usize::try_from(heaviest(bytes)).unwrap_or(usize::MAX).saturating_sub(MAX_KEY + Entry::BOOKKEEPING);
        let shared = Arc::new(Shared { stripes: Stripes::new(), written: AtomicU64::new(0) });
        Self { cache, clock, max_value: max_value.min(fits), budget: bytes, shared }
    }

    /// What moka holds under `key`.
    #[inline]
    pub(crate) fn held(&self, key: &Parted<'_>) -> Option<Arc<Entry>> {
        self.cache.get(&Asked(key)).and_then(Held::into_entry)
    }

    /// What moka holds, in no particular order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Arc<Text>, Arc<Entry>)> {
        self.cache.iter().filter_map(|(key, held)| Some((key, held.into_entry()?)))
    }

    /// Makes the caller the only writer of `key`.
    pub(crate) fn alone(&self, key: &str) -> Alone<'_> {
        Alone { store: self, _stripe: self.shared.stripes.lock(key) }
    }

    /// The entry under `key`, once no writer is at work on it.
    #[cold]
    fn look_again(&self, key: &Parted<'_>) -> Option<Arc<Entry>> {
        let _alone = key.joined(|key| self.alone(key));
        // `contains_key` first: a second `get` would count the key as asked for twice
        if self.cache.contains_key(&Asked(key)) { self.held(key) } else { None }
    }

    /// Counts `weight` written bytes, and does the housekeeping once enough came together.
    ///
    /// moka does it by number of writes, which bounds nothing when entries are large.
    pub(crate) fn wrote(&self, weight: u64) {
        if self.shared.written.fetch_add(weight, Ordering::Relaxed) + weight > self.budget / SLACK {
            self.shared.written.store(0, Ordering::Relaxed);
            self.cache.run_pending_tasks();
        }
    }
}

/// The right to write one key.
///
/// moka loses count of its weight when an entry changes its weight in place while it is being evicted, or when two
/// threads write one key: a few hundred thousand such writes let a store grow to twice its budget, for good. So every
/// write of a key is alone, and an entry of another weight goes out before the new one comes in.
pub(crate) struct Alone<'a> {
    pub(crate) store: &'a Moka,
    _stripe: MutexGuard<'a, ()>,
}

impl Alone<'_> {
    pub(crate) fn put(&self, key: &str, entry: Arc<Entry>) {
        let Moka { cache, max_value, budget, .. } = self.store;
        let at = Parted::cut(key);
        let weight = entry.weight(key.len());
        // moka would show an entry that is too heavy until its next housekeeping
        let keep = weight <= heaviest(*budget) && entry.payload().len() <= *max_value;
        if !keep || self.store.held(&at).is_some_and(|held| held.weight(key.len()) != weight) {
            cache.invalidate(&Asked(&at));
        }
        if keep {
            cache.insert(key.into(), entry.into());
        }
    }

    pub(crate) fn remove(&self, key: &str) -> Option<Arc<Entry>> {
        self.store.cache.remove(&Asked(&Parted::cut(key))).and_then(Held::into_entry)
    }
}

/// The heaviest entry that a store with this budget keeps. moka counts weights in 32 bits.
pub(crate) fn heaviest(budget: u64) -> u64 {
    budget.min(u64::from(u32::MAX))
}

impl LocalStore for Moka {
    #[inline]
    fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.get_parted(&Parted::cut(key))
    }

    #[inline]
    fn get_parted(&self, key: &Parted<'_>) -> Option<Arc<Entry>> {
        self.held(key).or_else(|| self.look_again(key))
    }

    #[inline]
    fn glance(&self, key: &Parted<'_>) -> Option<Glance> {
        match held::glance(|| self.cache.get(&Asked(key))) {
            Ok(Some(glance)) => Some(glance),
            Ok(None) => self.look_again(key).map(Glance::Whole),
            Err(Gone) => self.get_parted(key).map(Glance::Whole),
        }
    }

    fn put(&self, key: &str, entry: Arc<Entry>) {
        let weight = entry.weight(key.len());
        self.alone(key).put(key, entry);
        self.wrote(weight);
    }

    fn remove(&self, key: &str) -> Option<Arc<Entry>> {
        self.alone(key).remove(key)
    }

    fn clear(&self) {
        // not `invalidate_all`: it compares times that an entry shares with its successor, so a `get` during a `put`
        // may see the cleared entry again
        for (key, _) in self.all() {
            self.alone(key.as_str()).remove(key.as_str());
        }
    }

    fn len(&self) -> u64 {
        self.cache.entry_count()
    }

    fn weight(&self) -> u64 {
        self.cache.weighted_size()
    }

    fn budget(&self) -> u64 {
        self.budget
    }

    fn settle(&self) {
        self.cache.run_pending_tasks();
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &Arc<Entry>) -> bool) {
        for (key, entry) in self.all() {
            if !visit(key.as_str(), &entry) {
                return;
            }
        }
    }
}

impl Default for Moka {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Moka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moka")
            .field("entries", &self.len())
            .field("weight", &self.weight())
            .field("budget", &self.budget)
            .field("max_value", &self.max_value)
            .finish()
    }
}
