//! [`ValueStore`] of a [`Memory`].

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;
use crate::memory::Memory;
use crate::recipe::value::{Exchanged, ValueStore};

#[async_trait]
impl ValueStore for Memory {
    async fn swap(&self, key: &str, value: Bytes, ttl_ms: u64) -> Result<Option<Bytes>> {
        self.run("swap", |state| {
            let before = state.bytes(key)?;
            state.put(key, value, ttl_ms);
            Ok(before)
        })
    }

    async fn overwrite(&self, key: &str, value: Bytes, if_present: bool, ttl_ms: u64) -> Result<bool> {
        self.run("overwrite", |state| {
            let stored = state.bytes(key)?.is_some() || !if_present;
            if stored {
                state.put(key, value, ttl_ms);
            }
            Ok(stored)
        })
    }

    async fn exchange(
        &self,
        key: &str,
        expected: Option<&Bytes>,
        value: Option<Bytes>,
        ttl_ms: u64,
    ) -> Result<Exchanged> {
        self.run("exchange", |state| {
            let held = state.bytes(key)?;
            if held.as_ref() != expected {
                return Ok(Exchanged::Changed(held));
            }
            match value {
                Some(value) => state.put(key, value, ttl_ms),
                None => drop(state.remove(key)),
            }
            Ok(Exchanged::Done)
        })
    }
}
