//! The contract of a store inside the process.

use std::fmt::Debug;
use std::sync::Arc;

use crate::{Entry, Glance, Parted};

/// A bounded store of entries inside the process: a lookup is a function call.
///
/// The store bounds memory and picks victims. It does *not* judge freshness: it returns what it holds, and the
/// caller checks the entry's deadline against its own clock ([`Entry::deadline`]).
///
/// # What every local store promises
///
/// * `get` after `put` returns that very entry until it is replaced, removed, cleared or evicted.
/// * `put` replaces; `remove` returns what was there.
/// * After `remove` or `clear` returned, no `get` that begins later sees the removed entry.
/// * `get_parted` and `glance` see what `get` of the joined key sees.
/// * `weight` stays within the budget once `settle` has run; an entry heavier than the whole budget is not kept.
pub trait LocalStore: Debug + Send + Sync + 'static {
    /// The entry under `key`.
    fn get(&self, key: &str) -> Option<Arc<Entry>>;

    /// As [`get`](Self::get), for a key in two parts. By default the parts are joined.
    fn get_parted(&self, key: &Parted<'_>) -> Option<Arc<Entry>> {
        key.joined(|key| self.get(key))
    }

    /// As [`get_parted`](Self::get_parted), for a caller that may do without the entry: what near hits call. By default
    /// the whole entry.
    fn glance(&self, key: &Parted<'_>) -> Option<Glance> {
        self.get_parted(key).map(Glance::Whole)
    }

    /// Stores `entry` under `key`. May evict; may refuse an entry that is heavier than the budget.
    fn put(&self, key: &str, entry: Arc<Entry>);

    /// Removes and returns the entry under `key`.
    fn remove(&self, key: &str) -> Option<Arc<Entry>>;

    /// Removes everything.
    fn clear(&self);

    /// How many entries are held; an estimate until [`settle`](Self::settle) ran.
    fn len(&self) -> u64;

    /// Whether nothing is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that the held entries count for ([`Entry::weight`]); an estimate until [`settle`](Self::settle) ran.
    fn weight(&self) -> u64;

    /// The byte budget.
    fn budget(&self) -> u64;

    /// Does pending housekeeping now: evictions, counters.
    fn settle(&self);

    /// Visits held entries, in no particular order, until `visit` says `false`. For export and audits.
    fn each(&self, visit: &mut dyn FnMut(&str, &Arc<Entry>) -> bool);
}
