//! Scanning and clearing by prefix.

use async_trait::async_trait;

use crate::Result;

/// Walks over the keys of a store. Costs time in proportion to the whole store: for tools and tests, never for
/// invalidation.
#[async_trait]
pub trait Sweep: Send + Sync {
    /// Every key that begins with `prefix`, once, in no particular order; keys that come or go meanwhile may be missed.
    /// No character of `prefix` is a pattern.
    async fn keys(&self, prefix: &str) -> Result<Vec<String>>;

    /// Removes every key that begins with `prefix`; how many.
    async fn clear(&self, prefix: &str) -> Result<u64>;
}
