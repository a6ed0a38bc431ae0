//! The steps that a store does.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{CacheService, Result};

/// A store that replaces values atomically. Each step is one round trip.
///
/// Keys, values and ttls are checked by the handle.
#[async_trait]
pub trait ValueStore: CacheService {
    /// Stores `value` under `key` for `ttl_ms`; what was there before.
    ///
    /// # Errors
    /// `Conflict` with [`Reply::WrongType`](crate::Reply::WrongType) if the key holds another kind of value; nothing
    /// is changed.
    async fn swap(&self, key: &str, value: Bytes, ttl_ms: u64) -> Result<Option<Bytes>>;

    /// Stores `value` for `ttl_ms`; with `if_present` only if the key is there: `false` if it is missing.
    ///
    /// # Errors
    /// As [`swap`](Self::swap).
    async fn overwrite(&self, key: &str, value: Bytes, if_present: bool, ttl_ms: u64) -> Result<bool>;

    /// If `key` holds exactly `expected` (`None`: nothing), stores `value` for `ttl_ms`, or removes the key if there
    /// is no `value`.
    ///
    /// # Errors
    /// As [`swap`](Self::swap).
    async fn exchange(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        value: Option<Bytes>,
        ttl_ms: u64,
    ) -> Result<Exchanged>;
}

/// What came of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// It is done.
    Done,
    /// Nothing was done: the key holds this.
    Changed(Option<Bytes>),
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: ValueStore + ?Sized> ValueStore for Arc<S> {
    async fn swap(&self, key: &str, value: Bytes, ttl_ms: u64) -> Result<Option<Bytes>> {
        (**self).swap(key, value, ttl_ms).await
    }

    async fn overwrite(&self, key: &str, value: Bytes, if_present: bool, ttl_ms: u64) -> Result<bool> {
        (**self).overwrite(key, value, if_present, ttl_ms).await
    }

    async fn exchange(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        value: Option<Bytes>,
        ttl_ms: u64,
    ) -> Result<Exchanged> {
        (**self).exchange(key, expected, value, ttl_ms).await
    }
}
