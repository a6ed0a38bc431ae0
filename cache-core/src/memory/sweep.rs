//! [`Sweep`] of a [`Memory`].

use async_trait::async_trait;

use super::Memory;
use crate::{Result, Sweep};

#[async_trait]
impl Sweep for Memory {
    async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        self.run("keys", |state| Ok(state.keys(prefix)))
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        self.run("clear", |state| {
            let keys = state.keys(prefix);
            Ok(keys.iter().map(|key| u64::from(state.remove(key))).sum())
        })
    }
}
