//! A write under a bar.

use cache_core::{Change, Result};

use crate::Tiered;
use crate::engine::Where;

/// A bar on the keys of a write that is under way; from [`Cache::write_guard`](crate::Cache::write_guard).
///
/// Dropped without [`commit`](Self::commit), the bar stays until its time is over: that is what keeps a crash between
/// the transaction and the invalidation harmless.
#[derive(Debug)]
#[must_use = "the keys stay barred until the hold is over unless the guard is committed"]
pub struct WriteGuard {
    tiered: Tiered,
    keys: Vec<Where>,
}

impl WriteGuard {
    pub(crate) const fn new(tiered: Tiered, keys: Vec<Where>) -> Self {
        Self { tiered, keys }
    }

    /// Waits until no process trusts a near entry from before the bar: the bound. A transaction that commits after this
    /// is strict: whoever reads once it has committed reads the new rows, as long as the far store keeps the bar.
    pub async fn strict(&self) {
        tokio::time::sleep(self.tiered.engine().options.bound).await;
    }

    /// Lifts the bar and invalidates the keys: call it when the transaction has committed, or was given up.
    ///
    /// # Errors
    /// As [`Cache::invalidate`](crate::Cache::invalidate); the bar then stays until its time is over.
    pub async fn commit(self) -> Result<()> {
        self.tiered.engine().change(self.keys, Change::Delete).await.map(|_| ())
    }
}
