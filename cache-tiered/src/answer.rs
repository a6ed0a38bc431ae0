//! What a get tells beside the value.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{Entry, Stamp};

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// This process's memory.
    Near,
    /// The shared store.
    Far,
    /// The application's loader, run for this answer or joined.
    Origin,
}

/// How current an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// Read from the far store or the origin after the call began.
    Fresh,
    /// Near and trusted: nothing that was invalidated longer than the bound ago.
    WithinBound,
    /// Older than that, served because the caller's policy allows it.
    Stale(StaleReason),
}

/// Why an answer is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StaleReason {
    /// The far store can't be heard, and the outage window allows it.
    Unconfirmed,
    /// The value kept changing while it was loaded, until the load's deadline.
    Contended,
    /// It is past its ttl or expired, and the load of its successor failed, here or in another process.
    LoadFailed,
    /// It is past its ttl or expired, and the load of its successor is late; the load goes on in the background.
    SoftTimeout,
}

/// A value and what is known about it. `value` is `None` for a remembered "there is nothing".
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer<V> {
    /// The value; `None` if the loader said that there is nothing.
    pub value: Option<Arc<V>>,
    /// Where it came from.
    pub tier: Tier,
    /// How current it is.
    pub freshness: Freshness,
    /// The time since it was created, by the far store's clock.
    pub age: Duration,
    /// The row version that the application gave; 0 if none.
    pub row: u32,
    /// The identity of the fill.
    pub stamp: Stamp,
}

impl<V> Clone for Answer<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), ..*self }
    }
}

/// An entry on its way to a caller.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) entry: Arc<Entry>,
    pub(crate) tier: Tier,
    pub(crate) freshness: Freshness,
}

impl Served {
    pub(crate) const fn fresh(entry: Arc<Entry>, tier: Tier) -> Self {
        Self { entry, tier, freshness: Freshness::Fresh }
    }
}
