//! The server's operations, over a [`Link`].

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::{
    Applied, Beat, Bus, CacheService, Change, Found, Generations, Lease, Leases, Line, Listener, NodeId, Result, Stamp,
    Wait,
};

use super::Link;
use super::pushes::Pushes;

#[async_trait]
impl CacheService for Link {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let key = key.to_owned();
        self.call(async move |server| CacheService::get(&server, &key).await).await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        let key = key.to_owned();
        self.call(async move |server| server.set(&key, value, ttl).await).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let key = key.to_owned();
        self.call(async move |server| server.delete(&key).await).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        let key = key.to_owned();
        self.call(async move |server| server.exists(&key).await).await
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn bus(&self) -> Option<&dyn Bus> {
        Some(self)
    }
}

#[async_trait]
impl Leases for Link {
    async fn read(&self, key: &str) -> Result<Option<Found>> {
        let key = key.to_owned();
        self.call(async move |server| server.read(&key).await).await
    }

    async fn read_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let keys = owned(keys);
        self.call(async move |server| server.read_many(&lent(&keys)).await).await
    }

    async fn peek(&self, key: &str) -> Result<Option<Bytes>> {
        let key = key.to_owned();
        self.call(async move |server| server.peek(&key).await).await
    }

    async fn lease(&self, key: &str, token: Stamp, span: Duration) -> Result<Lease> {
        let key = key.to_owned();
        self.call(async move |server| server.lease(&key, token, span).await).await
    }

    async fn wait(&self, key: &str, holder: Stamp) -> Result<Wait> {
        let key = key.to_owned();
        self.call(async move |server| server.wait(&key, holder).await).await
    }

    async fn renew(&self, key: &str, token: Stamp, span: Duration) -> Result<bool> {
        let key = key.to_owned();
        self.call(async move |server| server.renew(&key, token, span).await).await
    }

    async fn fill(&self, key: &str, token: Stamp, frame: Bytes, ttl: Duration, channel: &str) -> Result<bool> {
        let (key, channel) = (key.to_owned(), channel.to_owned());
        self.call(async move |server| server.fill(&key, token, frame, ttl, &channel).await).await
    }

    async fn refresh(&self, key: &str, seen: Stamp, frame: Bytes, ttl: Duration) -> Result<bool> {
        let key = key.to_owned();
        self.call(async move |server| server.refresh(&key, seen, frame, ttl).await).await
    }

    async fn release(&self, key: &str, token: Stamp, channel: &str) -> Result<bool> {
        let (key, channel) = (key.to_owned(), channel.to_owned());
        self.call(async move |server| server.release(&key, token, &channel).await).await
    }

    async fn rest(&self, key: &str, token: Stamp, span: Duration, channel: &str) -> Result<bool> {
        let (key, channel) = (key.to_owned(), channel.to_owned());
        self.call(async move |server| server.rest(&key, token, span, &channel).await).await
    }

    async fn discard(&self, key: &str, seen: &Bytes) -> Result<bool> {
        let (key, seen) = (key.to_owned(), seen.clone());
        self.call(async move |server| server.discard(&key, &seen).await).await
    }
}

#[async_trait]
impl Bus for Link {
    async fn change(&self, line: &Line, node: NodeId, keys: &[&str], change: Change) -> Result<Applied> {
        let (line, keys) = (line.clone(), owned(keys));
        self.call(async move |server| server.change(&line, node, &lent(&keys), change).await).await
    }

    async fn bump(&self, line: &Line, node: NodeId, tag: u64, period: u64, span: Duration) -> Result<u64> {
        let line = line.clone();
        self.call(async move |server| server.bump(&line, node, tag, period, span).await).await
    }

    async fn generations(&self, line: &Line, tags: &[u64], period: u64, span: Duration) -> Result<Generations> {
        let (line, tags) = (line.clone(), tags.to_vec());
        self.call(async move |server| server.generations(&line, &tags, period, span).await).await
    }

    async fn beat(&self, line: &Line) -> Result<Beat> {
        let line = line.clone();
        self.call(async move |server| server.beat(&line).await).await
    }

    async fn subscribe(&self, lines: &[Line]) -> Result<Box<dyn Listener>> {
        let wanted = lines.to_vec();
        let inner = self.call(async move |server| server.subscribe(&wanted).await).await?;
        Ok(Box::new(Pushes::new(self.clone(), inner, lines.to_vec())))
    }
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|&key| key.to_owned()).collect()
}

fn lent(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}
