//! The contract of a store: bytes under string keys, each with a ttl.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Atomic, Bus, Error, ErrorKind, KeyHash, Leases, Result, Sweep, check_key, check_ttl, check_value};

/// The largest value that a store takes unless it was built with another limit: 1 MiB.
pub const DEFAULT_MAX_VALUE: usize = 1 << 20;

/// A store of bytes under string keys, each with a ttl.
///
/// Implementations are handles: cheap to share, safe to use from many tasks. The trait is used as
/// `Arc<dyn CacheService>`; every method that a store can do better than a loop is overridable.
///
/// # What every store promises
///
/// Each sentence is a case of the conformance suite (`testkit::CASES`).
///
/// * A value set without error is read back whole: never torn, never another key's.
/// * A miss is `Ok(None)`; `Err` means "could not tell".
/// * Setting a key replaces its value and its ttl.
/// * An empty value is a value, not a miss.
/// * A value is gone once its ttl has passed, by the store's own clock.
/// * A ttl below a second is kept; a ttl is rounded up to whole milliseconds, never down.
/// * A zero ttl and one beyond [`MAX_TTL`](crate::MAX_TTL) are refused before any data is touched.
/// * A key that is empty, over [`max_key`](Self::max_key) bytes or holds a control character is refused before
///   any data is touched.
/// * A value over [`max_value`](Self::max_value) is refused with `TooLarge` before any data is touched.
/// * Deleting a missing key succeeds and says `false`; deleting a present one says `true`.
/// * `exists` agrees with `get`.
/// * A batch equals the loop of its single calls: order kept, duplicates allowed, an empty batch is fine.
/// * A batch refuses all of its arguments before it touches any data: one bad key, and nothing is done.
/// * Of many that delete a key at once, one is told that it was there.
/// * `Debug` and errors show no key and no value.
/// * Dropping a future leaves the entry either as before or as asked.
/// * A clone or another handle of the same store sees the same data.
///
/// # Errors
///
/// See [`ErrorKind`]. No method waits without a deadline: a store that talks to a network ends
/// every call with `Timeout` at the latest when its configured deadline has passed.
#[async_trait]
pub trait CacheService: Debug + Send + Sync + 'static {
    /// The store's name in errors and metrics: a short constant such as `"redis"`.
    fn name(&self) -> &'static str;

    /// The largest value in bytes that [`set`](Self::set) takes.
    fn max_value(&self) -> usize {
        DEFAULT_MAX_VALUE
    }

    /// The longest key in bytes that the store takes; at most [`MAX_KEY`](crate::MAX_KEY), which is the default.
    fn max_key(&self) -> usize {
        crate::MAX_KEY
    }

    /// The value under `key`, or `None`.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Stores `value` under `key` for `ttl`, replacing what was there.
    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()>;

    /// Removes `key`; `true` if it was there.
    async fn delete(&self, key: &str) -> Result<bool>;

    /// Whether `key` holds a value, without moving it.
    async fn exists(&self, key: &str) -> Result<bool>;

    /// The values under `keys`, in their order.
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        keys.iter().try_for_each(|key| taken(key, self.max_key()))?;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key).await?);
        }
        Ok(values)
    }

    /// Stores every entry for `ttl`. Not atomic: after an error some may be stored, but never when an argument is
    /// refused.
    async fn set_many(&self, entries: &[(&str, Bytes)], ttl: Duration) -> Result<()> {
        check_ttl(ttl)?;
        for (key, value) in entries {
            taken(key, self.max_key())?;
            check_value(value.len(), self.max_value())?;
        }
        for (key, value) in entries {
            self.set(key, value.clone(), ttl).await?;
        }
        Ok(())
    }

    /// Removes `keys`; how many were there.
    async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
        keys.iter().try_for_each(|key| taken(key, self.max_key()))?;
        let mut removed = 0;
        for key in keys {
            removed += u64::from(self.delete(key).await?);
        }
        Ok(removed)
    }

    /// Lease-and-fill, if the store has it.
    fn leases(&self) -> Option<&dyn Leases> {
        None
    }

    /// The invalidation stream, if the store has it.
    fn bus(&self) -> Option<&dyn Bus> {
        None
    }

    /// Atomic values, if the store has them.
    fn atomic(&self) -> Option<&dyn Atomic> {
        None
    }

    /// Scanning and clearing by prefix, if the store has it.
    fn sweep(&self) -> Option<&dyn Sweep> {
        None
    }
}

/// [`check_key`] for a store whose keys have at most `most` bytes.
fn taken(key: &str, most: usize) -> Result<()> {
    check_key(key)?;
    if key.len() <= most {
        return Ok(());
    }
    let text = format!("key is longer than {most} bytes; hash its long part ({})", KeyHash::of(key));
    Err(Error::new(ErrorKind::Invalid, text))
}

macro_rules! forward {
    ($pointer:ty) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<S: CacheService + ?Sized> CacheService for $pointer {
            fn name(&self) -> &'static str {
                (**self).name()
            }
            fn max_value(&self) -> usize {
                (**self).max_value()
            }
            fn max_key(&self) -> usize {
                (**self).max_key()
            }
            async fn get(&self, key: &str) -> Result<Option<Bytes>> {
                (**self).get(key).await
            }
            async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
                (**self).set(key, value, ttl).await
            }
            async fn delete(&self, key: &str) -> Result<bool> {
                (**self).delete(key).await
            }
            async fn exists(&self, key: &str) -> Result<bool> {
                (**self).exists(key).await
            }
            async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
                (**self).get_many(keys).await
            }
            async fn set_many(&self, entries: &[(&str, Bytes)], ttl: Duration) -> Result<()> {
                (**self).set_many(entries, ttl).await
            }
            async fn delete_many(&self, keys: &[&str]) -> Result<u64> {
                (**self).delete_many(keys).await
            }
            fn leases(&self) -> Option<&dyn Leases> {
                (**self).leases()
            }
            fn bus(&self) -> Option<&dyn Bus> {
                (**self).bus()
            }
            fn atomic(&self) -> Option<&dyn Atomic> {
                (**self).atomic()
            }
            fn sweep(&self) -> Option<&dyn Sweep> {
                (**self).sweep()
            }
        }
    };
}

forward!(Arc<S>);
forward!(Box<S>);
