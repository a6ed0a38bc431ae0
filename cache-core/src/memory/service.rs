//! [`CacheService`] of a [`Memory`].

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Memory;
use crate::{Atomic, Bus, CacheService, Leases, Result, Sweep, check_key, check_ttl, check_value};

#[async_trait]
impl CacheService for Memory {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn max_value(&self) -> usize {
        self.limit()
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.run("get", |state| {
            check_key(key)?;
            state.bytes(key)
        })
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.run("set", |state| {
            check_key(key)?;
            check_value(value.len(), self.limit())?;
            state.put(key, value, check_ttl(ttl)?);
            Ok(())
        })
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.run("delete", |state| {
            check_key(key)?;
            Ok(state.remove(key))
        })
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.run("exists", |state| {
            check_key(key)?;
            Ok(state.has(key))
        })
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn bus(&self) -> Option<&dyn Bus> {
        Some(self)
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        Some(self)
    }
}
