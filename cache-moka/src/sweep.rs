//! [`Sweep`] of a [`Moka`].

use async_trait::async_trait;
use cache_core::{LocalStore, Result, Sweep};

use crate::Moka;

#[async_trait]
impl Sweep for Moka {
    async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let live = self.all().filter(|(key, entry)| key.as_str().starts_with(prefix) && self.is_live(entry));
        Ok(live.map(|(key, _)| key.as_str().to_owned()).collect())
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        let mut cleared = 0;
        for (key, _) in self.all().filter(|(key, _)| key.as_str().starts_with(prefix)) {
            cleared += u64::from(LocalStore::remove(self, key.as_str()).is_some_and(|entry| self.is_live(&entry)));
        }
        Ok(cleared)
    }
}
