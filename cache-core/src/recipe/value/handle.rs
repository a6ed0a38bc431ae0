//! What an application calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Exchanged, ValueStore};
use crate::codec::Codec;
use crate::recipe::Expiry;
use crate::{Result, check_key, check_value};

/// Values of type `V` that are replaced atomically. Each call is one round trip; clones share the store.
///
/// A key holds what the codec writes and nothing else, so other programs can read it. Values are compared as bytes:
/// the codec must write equal values equally, so take no hash maps. Each write gives the key the whole ttl.
///
/// Dropping a call leaves the value either as before or as asked.
///
/// ```
/// # use std::time::Duration;
/// use cache_core::Memory;
/// use cache_core::codec::Raw;
/// use cache_core::recipe::Values;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let state: Values<String> = Values::new(Memory::new(), Raw, Duration::from_secs(3600))?;
/// assert!(state.set_if_absent("order:7", &"paid".into()).await?);
/// state.compare_and_swap("order:7", Some(&"paid".into()), &"sent".into()).await??;
///
/// let late = state.compare_and_swap("order:7", Some(&"paid".into()), &"cancelled".into()).await?;
/// assert_eq!(late.unwrap_err().current.as_deref(), Some("sent"));
/// # Ok(())
/// # }
/// ```
pub struct Values<V> {
    store: Arc<dyn ValueStore>,
    codec: Arc<dyn Codec<V>>,
    expiry: Expiry,
}

/// A refusal: the value is not the expected one any more, and nothing was done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Changed<V> {
    /// What the key holds.
    pub current: Option<V>,
}

impl<V: Send + Sync + 'static> Values<V> {
    /// Values in `store`, written by `codec`, each living for `ttl` from its last write.
    ///
    /// # Errors
    /// `Invalid` if `ttl` is below 1 ms or beyond [`MAX_TTL`](crate::MAX_TTL).
    pub fn new(store: impl ValueStore, codec: impl Codec<V>, ttl: Duration) -> Result<Self> {
        Ok(Self { store: Arc::new(store), codec: Arc::new(codec), expiry: Expiry::kept(ttl)? })
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// `Codec` if it is no `V`; `Invalid` for a bad key, as every call; what the store says.
    pub async fn get(&self, key: &str) -> Result<Option<V>> {
        check_key(key)?;
        self.decode(self.store.get(key).await?)
    }

    /// Stores `value`, whatever value was there.
    ///
    /// # Errors
    /// `Codec` if it can't be encoded, `TooLarge` if it is over the store's limit, `Conflict` if the key holds another
    /// kind of value (a list, a board), as every write; nothing is changed.
    pub async fn set(&self, key: &str, value: &V) -> Result<()> {
        check_key(key)?;
        self.store.overwrite(key, self.encode(value)?, false, self.expiry.millis()).await.map(drop)
    }

    /// Stores `value` and returns what was there before; what is no `V` counts as nothing.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn get_and_set(&self, key: &str, value: &V) -> Result<Option<V>> {
        check_key(key)?;
        let before = self.store.swap(key, self.encode(value)?, self.expiry.millis()).await?;
        Ok(before.and_then(|bytes| self.codec.decode(&bytes).ok()))
    }

    /// Stores `value` if the key is missing; `true` if it was stored.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn set_if_absent(&self, key: &str, value: &V) -> Result<bool> {
        check_key(key)?;
        let value = self.encode(value)?;
        let exchanged = self.store.exchange(key, None, Some(value), self.expiry.millis()).await?;
        Ok(exchanged == Exchanged::Done)
    }

    /// Stores `value` if the key is there, whatever value it holds; `false` if it is missing: what was removed is not revived.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn set_if_present(&self, key: &str, value: &V) -> Result<bool> {
        check_key(key)?;
        self.store.overwrite(key, self.encode(value)?, true, self.expiry.millis()).await
    }

    /// Stores `value` if the key holds exactly `expected`; `None` expects that it is missing. The inner result tells
    /// what it holds instead, to try again from there.
    ///
    /// # Errors
    /// `Codec` if it holds something that is no `V`, `Conflict` if it holds another kind of value; nothing is changed.
    pub async fn compare_and_swap(&self, key: &str, expected: Option<&V>, value: &V) -> Result<Result<(), Changed<V>>> {
        let value = self.encode(value)?;
        self.exchange(key, expected, Some(value)).await
    }

    /// Removes the key if it holds exactly `expected`.
    ///
    /// # Errors
    /// As [`compare_and_swap`](Self::compare_and_swap).
    pub async fn compare_and_delete(&self, key: &str, expected: &V) -> Result<Result<(), Changed<V>>> {
        self.exchange(key, Some(expected), None).await
    }

    async fn exchange(&self, key: &str, expected: Option<&V>, value: Option<Bytes>) -> Result<Result<(), Changed<V>>> {
        check_key(key)?;
        let expected = expected.map(|expected| self.codec.encode(expected)).transpose()?;
        Ok(match self.store.exchange(key, expected.as_ref(), value, self.expiry.millis()).await? {
            Exchanged::Done => Ok(()),
            Exchanged::Changed(current) => Err(Changed { current: self.decode(current)? }),
        })
    }

    fn encode(&self, value: &V) -> Result<Bytes> {
        let bytes = self.codec.encode(value)?;
        check_value(bytes.len(), self.store.max_value())?;
        Ok(bytes)
    }

    fn decode(&self, bytes: Option<Bytes>) -> Result<Option<V>> {
        bytes.map(|bytes| self.codec.decode(&bytes)).transpose()
    }
}

impl<V> Clone for Values<V> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), codec: Arc::clone(&self.codec), expiry: self.expiry }
    }
}

impl<V> fmt::Debug for Values<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values")
            .field("store", &self.store.name())
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for Changed<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changed").field("present", &self.current.is_some()).finish()
    }
}

impl<V> fmt::Display for Changed<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.current.is_some() { "somebody else changed the value" } else { "the value is gone" })
    }
}

impl<V> std::error::Error for Changed<V> {}
