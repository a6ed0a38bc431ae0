//! A write under a bar.

use cache_core::{Change, Error, ErrorKind, Result, Tick};

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
    /// The end of the hold, counted from before it was asked for: the bar is there for longer.
    until: Tick,
}

impl WriteGuard {
    pub(crate) const fn new(tiered: Tiered, keys: Vec<Where>, until: Tick) -> Self {
        Self { tiered, keys, until }
    }

    /// Waits until no process serves a near entry from before the bar: the bound, and the outage window more, for one that
    /// can't hear the far store may serve what it holds, marked. Where every process of the namespace is built with
    /// `outage(Duration::ZERO)`, that is the bound.
    ///
    /// A transaction that commits after this is strict: whoever reads once it has committed reads the new rows, as long as
    /// the far store keeps the bar.
    ///
    /// # Errors
    /// `Invalid`, at once, if the hold would be over by then.
    pub async fn strict(&self) -> Result<()> {
        let engine = self.tiered.engine();
        let (takes, left) = (engine.settles_after(), self.until.since(engine.clock.now()));
        if left <= takes {
            let text = format!(
                "strict waits for {takes:?} here, and the hold is over in {left:?}; hold for longer, or build every process \
                 of the namespace with outage(Duration::ZERO)"
            );
            return Err(Error::new(ErrorKind::Invalid, text).with_operation("strict"));
        }
        tokio::time::sleep(takes).await;
        Ok(())
    }

    /// Lifts the bar and invalidates the keys: call it when the transaction has committed, or was given up.
    ///
    /// # Errors
    /// As [`Cache::invalidate`](crate::Cache::invalidate); the bar then stays until its time is over.
    pub async fn commit(self) -> Result<()> {
        self.tiered.engine().change(self.keys, Change::Delete).await.map(|_| ())
    }
}
