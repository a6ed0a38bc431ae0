//! The capabilities of the store, behind its faults.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::listener::Muffled;
use super::{Chaos, Op, taken_back};
use crate::{
    Applied, Atomic, Beat, Bus, CacheService, Change, Claim, Error, Fill, Found, Generations, Lease, Leases, Line,
    Listener, NodeId, Result, Stamp, Sweep, Wait,
};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: CacheService + ?Sized> Leases for Chaos<S> {
    async fn read(&self, key: &str) -> Result<Option<Found>> {
        let leases = self.store.leases().ok_or_else(|| taken_back("leases"))?;
        self.faults.through(Op::Read, leases.read(key)).await
    }

    async fn read_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let leases = self.store.leases().ok_or_else(|| taken_back("leases"))?;
        self.faults.through(Op::ReadMany, leases.read_many(keys)).await
    }

    async fn peek(&self, key: &str) -> Result<Option<Bytes>> {
        let leases = self.store.leases().ok_or_else(|| taken_back("leases"))?;
        self.faults.through(Op::Peek, leases.peek(key)).await
    }

    async fn lease(&self, key: &str, token: Stamp, span: Duration) -> Result<Lease> {
        let leases = self.store.leases().ok_or_else(|| taken_back("leases"))?;
        self.faults.through(Op::Lease, leases.lease(key, token, span)).await
    }

    async fn wait(&self, key: &str, holder: Stamp) -> Result<Wait> {
        let leases = self.store.leases().ok_or_else(|| taken_back("leases"))?;
        self.faults.through(Op::Wait, leases.wait(key, holder)).await
    }

    async fn renew(&self, key: &str, token: Stamp, span: Duration) -> Result<bool> {
        let leases = self.store.leases().ok_or_else(|| taken_back("leases"))?;
        self.faults.through(Op::Renew, leases.renew(key, token, span)).await
    }

    async fn fill(&self, key: &str, token: Stamp, frame: Bytes, ttl: Duration, channel: &str) -> Result<bool> {
        let leases = self.store.leases().ok_or_else(|| taken_back("leases"))?;
        self.faults.through(Op::Fill, leases.fill(key, token, frame, ttl, channel)).await
    }

    async fn refresh(&self, key: &str, seen: Stamp, frame: Bytes, ttl: Duration) -> Result<bool> {
        let leases = self.store.leases().ok_or_else(|| taken_back("leases"))?;
        self.faults.through(Op::Refresh, leases.refresh(key, seen, frame, ttl)).await
    }

    async fn touch(&self, key: &str, seen: Stamp, soft_exp: u64, ttl: Duration) -> Result<bool> {
        let leases = self.store.leases().ok_or_else(|| taken_back("leases"))?;
        self.faults.through(Op::Touch, leases.touch(key, seen, soft_exp, ttl)).await
    }

    async fn release(&self, key: &str, token: Stamp, channel: &str) -> Result<bool> {
        let leases = self.store.leases().ok_or_else(|| taken_back("leases"))?;
        self.faults.through(Op::Release, leases.release(key, token, channel)).await
    }

    async fn rest(&self, key: &str, token: Stamp, span: Duration, channel: &str) -> Result<bool> {
        let leases = self.store.leases().ok_or_else(|| taken_back("leases"))?;
        self.faults.through(Op::Rest, leases.rest(key, token, span, channel)).await
    }

    async fn discard(&self, key: &str, seen: &Bytes) -> Result<bool> {
        let leases = self.store.leases().ok_or_else(|| taken_back("leases"))?;
        self.faults.through(Op::Discard, leases.discard(key, seen)).await
    }

    async fn lease_many(&self, claims: &[Claim<'_>], span: Duration) -> Vec<Result<Lease>> {
        let Some(leases) = self.store.leases() else { return each(claims.len(), &taken_back("leases")) };
        let call = async { Ok(leases.lease_many(claims, span).await) };
        self.faults.through(Op::LeaseMany, call).await.unwrap_or_else(|error| each(claims.len(), &error))
    }

    async fn renew_many(&self, claims: &[Claim<'_>], span: Duration) -> Vec<Result<bool>> {
        let Some(leases) = self.store.leases() else { return each(claims.len(), &taken_back("leases")) };
        let call = async { Ok(leases.renew_many(claims, span).await) };
        self.faults.through(Op::RenewMany, call).await.unwrap_or_else(|error| each(claims.len(), &error))
    }

    async fn fill_many(&self, fills: &[Fill<'_>], channel: &str) -> Vec<Result<bool>> {
        let Some(leases) = self.store.leases() else { return each(fills.len(), &taken_back("leases")) };
        let call = async { Ok(leases.fill_many(fills, channel).await) };
        self.faults.through(Op::FillMany, call).await.unwrap_or_else(|error| each(fills.len(), &error))
    }

    async fn release_many(&self, claims: &[Claim<'_>], channel: &str) -> Vec<Result<bool>> {
        let Some(leases) = self.store.leases() else { return each(claims.len(), &taken_back("leases")) };
        let call = async { Ok(leases.release_many(claims, channel).await) };
        self.faults.through(Op::ReleaseMany, call).await.unwrap_or_else(|error| each(claims.len(), &error))
    }
}

/// The same error for every key of a call.
fn each<T>(n: usize, error: &Error) -> Vec<Result<T>> {
    (0..n).map(|_| Err(error.clone())).collect()
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: CacheService + ?Sized> Bus for Chaos<S> {
    async fn change(&self, line: &Line, node: NodeId, keys: &[&str], change: Change) -> Result<Applied> {
        let bus = self.store.bus().ok_or_else(|| taken_back("bus"))?;
        self.faults.through(Op::Change, bus.change(line, node, keys, change)).await
    }

    async fn bump(&self, line: &Line, node: NodeId, tag: u64, period: u64, span: Duration) -> Result<u64> {
        let bus = self.store.bus().ok_or_else(|| taken_back("bus"))?;
        self.faults.through(Op::Bump, bus.bump(line, node, tag, period, span)).await
    }

    async fn generations(&self, line: &Line, tags: &[u64], period: u64, span: Duration) -> Result<Generations> {
        let bus = self.store.bus().ok_or_else(|| taken_back("bus"))?;
        self.faults.through(Op::Generations, bus.generations(line, tags, period, span)).await
    }

    async fn beat(&self, line: &Line) -> Result<Beat> {
        let bus = self.store.bus().ok_or_else(|| taken_back("bus"))?;
        self.faults.through(Op::Beat, bus.beat(line)).await
    }

    async fn subscribe(&self, lines: &[Line]) -> Result<Box<dyn Listener>> {
        let bus = self.store.bus().ok_or_else(|| taken_back("bus"))?;
        // watched from before the subscription, so that a partition meanwhile is heard
        let world = self.faults.watch();
        let inner = self.faults.through(Op::Subscribe, bus.subscribe(lines)).await?;
        Ok(Box::new(Muffled::new(inner, world, Arc::clone(&self.faults))))
    }

    fn publishes(&self) -> bool {
        self.store.bus().is_some_and(Bus::publishes)
    }

    fn sees_foreign(&self) -> bool {
        self.store.bus().is_some_and(Bus::sees_foreign)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: CacheService + ?Sized> Atomic for Chaos<S> {
    async fn set_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool> {
        let atomic = self.store.atomic().ok_or_else(|| taken_back("atomic values"))?;
        self.faults.through(Op::SetIfAbsent, atomic.set_if_absent(key, value, ttl)).await
    }

    async fn compare_and_set(&self, key: &str, expected: &Bytes, value: Bytes, ttl: Duration) -> Result<bool> {
        let atomic = self.store.atomic().ok_or_else(|| taken_back("atomic values"))?;
        self.faults.through(Op::CompareAndSet, atomic.compare_and_set(key, expected, value, ttl)).await
    }

    async fn compare_and_delete(&self, key: &str, expected: &Bytes) -> Result<bool> {
        let atomic = self.store.atomic().ok_or_else(|| taken_back("atomic values"))?;
        self.faults.through(Op::CompareAndDelete, atomic.compare_and_delete(key, expected)).await
    }

    async fn add(&self, key: &str, by: i64, ttl: Duration) -> Result<i64> {
        let atomic = self.store.atomic().ok_or_else(|| taken_back("atomic values"))?;
        self.faults.through(Op::Add, atomic.add(key, by, ttl)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: CacheService + ?Sized> Sweep for Chaos<S> {
    async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let sweep = self.store.sweep().ok_or_else(|| taken_back("sweep"))?;
        self.faults.through(Op::Keys, sweep.keys(prefix)).await
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        let sweep = self.store.sweep().ok_or_else(|| taken_back("sweep"))?;
        self.faults.through(Op::Clear, sweep.clear(prefix)).await
    }
}
