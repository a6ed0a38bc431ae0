//! Atomic values: compare-and-set and counters.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;

/// Atomic operations on single keys. Each is one round trip.
///
/// Counters are stored as decimal text, as Redis does, so other programs can read them.
#[async_trait]
pub trait Atomic: Send + Sync {
    /// Stores `value` for `ttl` only if `key` is missing; `true` if it was stored.
    async fn set_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool>;

    /// Stores `value` for `ttl` only if `key` holds exactly `expected`; `true` if it was stored.
    async fn compare_and_set(&self, key: &str, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool>;

    /// Removes `key` only if it holds exactly `expected`; `true` if it was removed.
    async fn compare_and_delete(&self, key: &str, expected: &Bytes) -> Result<bool>;

    /// Adds `by` to the counter under `key` and returns the sum; a missing counter is 0 and gets `ttl`, a present one
    /// keeps the ttl that it has.
    ///
    /// # Errors
    /// `Conflict` if the key holds no integer or the sum overflows; nothing is changed.
    async fn add(&self, key: &str, by: i64, ttl: Duration) -> Result<i64>;
}
