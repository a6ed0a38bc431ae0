//! [`CacheService`] of a [`Moka`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::{Atomic, CacheService, Entry, LocalStore, Parted, Result, Sweep, check_key, check_ttl, check_value};

use crate::Moka;

impl Moka {
    /// The live entry under `key`; an expired one is dropped.
    pub(crate) fn live(&self, key: &str) -> Option<Arc<Entry>> {
        let entry = LocalStore::get(self, key)?;
        if self.is_live(&entry) {
            return Some(entry);
        }
        let alone = self.alone(key);
        // a `set` may have come in between, and its entry must stay
        if self.held(&Parted::cut(key)).is_some_and(|now| Arc::ptr_eq(&now, &entry)) {
            alone.remove(key);
        }
        None
    }

    pub(crate) fn is_live(&self, entry: &Entry) -> bool {
        self.clock.now() < entry.deadline()
    }

    /// The entry of `value`, to live for `ttl_ms` from now.
    pub(crate) fn entry(&self, value: Bytes, ttl_ms: u64) -> Arc<Entry> {
        Arc::new(Entry::plain(value, self.clock.now() + Duration::from_millis(ttl_ms)))
    }

    /// Names the operation and this store in an error.
    pub(crate) fn at<T>(operation: &'static str, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with_operation(operation).with_store(Self::NAME))
    }

    /// Checks what a write is given; the ttl in ms.
    pub(crate) fn check(&self, key: &str, value: &Bytes, ttl: Duration) -> Result<u64> {
        check_key(key)?;
        check_value(value.len(), self.max_value)?;
        check_ttl(ttl)
    }
}

#[async_trait]
impl CacheService for Moka {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn max_value(&self) -> usize {
        self.max_value
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Self::at("get", check_key(key))?;
        Ok(self.live(key).map(|entry| entry.payload().clone()))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        let ttl = Self::at("set", self.check(key, &value, ttl))?;
        self.put(key, self.entry(value, ttl));
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        Self::at("delete", check_key(key))?;
        Ok(self.remove(key).is_some_and(|entry| self.is_live(&entry)))
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        Self::at("exists", check_key(key))?;
        Ok(self.live(key).is_some())
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        Some(self)
    }
}
