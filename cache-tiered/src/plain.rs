//! Lease-and-fill for a store that has none: everybody may load, and the last fill wins.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::envelope::HEADER;
use cache_core::{CacheService, Found, Header, Lease, Leases, Result, Stamp, Wait};

/// The capability over plain gets and sets. Only behind `.incoherent(..)`, which says what is given up.
#[derive(Debug)]
pub(crate) struct PlainLeases(Arc<dyn CacheService>);

impl PlainLeases {
    pub(crate) const fn new(store: Arc<dyn CacheService>) -> Self {
        Self(store)
    }
}

#[async_trait]
impl Leases for PlainLeases {
    async fn read(&self, key: &str) -> Result<Option<Found>> {
        Ok(self.0.get(key).await?.map(|frame| Found { frame, left: None }))
    }

    async fn read_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.0.get_many(keys).await
    }

    async fn peek(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.0.get(key).await?.map(|frame| frame.slice(..frame.len().min(HEADER))))
    }

    async fn lease(&self, _key: &str, _token: Stamp, _span: Duration) -> Result<Lease> {
        Ok(Lease::Granted)
    }

    async fn wait(&self, _key: &str, _holder: Stamp) -> Result<Wait> {
        Ok(Wait::Missing)
    }

    async fn renew(&self, _key: &str, _token: Stamp, _span: Duration) -> Result<bool> {
        Ok(true)
    }

    async fn fill(&self, key: &str, _token: Stamp, frame: Bytes, ttl: Duration, _channel: &str) -> Result<bool> {
        self.0.set(key, frame, ttl).await.map(|()| true)
    }

    async fn refresh(&self, key: &str, seen: Stamp, frame: Bytes, ttl: Duration) -> Result<bool> {
        let held = self.peek(key).await?;
        let same = held.and_then(|head| Header::parse(&head).ok()).is_some_and(|header| header.stamp == seen);
        if same {
            self.0.set(key, frame, ttl).await?;
        }
        Ok(same)
    }

    async fn release(&self, _key: &str, _token: Stamp, _channel: &str) -> Result<bool> {
        Ok(true)
    }

    async fn rest(&self, _key: &str, _token: Stamp, _span: Duration, _channel: &str) -> Result<bool> {
        Ok(true)
    }

    async fn discard(&self, key: &str, seen: &Bytes) -> Result<bool> {
        let same = self.0.get(key).await?.as_ref() == Some(seen);
        Ok(same && self.0.delete(key).await?)
    }
}
