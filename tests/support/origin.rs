//! An origin that counts how often it is read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An origin whose value is its version: every write makes the next one, so a reader knows exactly how old a value is.
#[derive(Debug, Default)]
pub struct Origin {
    version: AtomicU64,
    loads: AtomicU64,
}

impl Origin {
    /// The current version, counted as a load, after `delay`.
    pub async fn load(&self, delay: Duration) -> u64 {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let version = self.version.load(Ordering::SeqCst);
        tokio::time::sleep(delay).await;
        version
    }

    /// Commits the next version and returns it.
    pub fn commit(&self) -> u64 {
        self.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The version now, not counted.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// How often it was read.
    #[must_use]
    pub fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }
}
