//! The steps that a store does.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{CacheService, Result};

/// A store that keeps sessions. Each step is one round trip.
///
/// A place is a key, with a hash tag in braces; what a store adds to it keeps the tag. A name is 32 hex digits. What
/// has ended by the store's clock is as missing as what never was, and every step that writes drops it.
///
/// Every step fails with `Conflict` and [`Reply::WrongType`](crate::Reply::WrongType), and changes nothing, if a key
/// of the place holds something else.
#[async_trait]
pub trait SessionStore: CacheService {
    /// Keeps a new session of `owner`, empty if nobody's, for `idle_ms` untouched and `absolute_ms` at most.
    async fn open(
        &self,
        place: &str,
        name: &str,
        owner: &str,
        payload: Bytes,
        idle_ms: u64,
        absolute_ms: u64,
    ) -> Result<()>;

    /// The session, untouched.
    async fn look(&self, place: &str, name: &str) -> Result<Option<Held>>;

    /// The session, touched: it ends `idle_ms` from now, or at its absolute end if that is sooner.
    async fn touch(&self, place: &str, name: &str, idle_ms: u64) -> Result<Option<Held>>;

    /// Replaces the payload of a session, which is touched; `false` if there is none.
    async fn save(&self, place: &str, name: &str, payload: Bytes, idle_ms: u64) -> Result<bool>;

    /// Gives a session another name; it is touched. `false` if there is none.
    async fn rename(&self, place: &str, name: &str, to: &str, idle_ms: u64) -> Result<bool>;

    /// Ends a session; whether there was one.
    async fn end(&self, place: &str, name: &str) -> Result<bool>;

    /// Ends every session of the place except the one called `except`; how many.
    async fn end_all(&self, place: &str, except: Option<&str>) -> Result<u64>;

    /// The sessions of the place with their names, the one that ends first first.
    async fn list(&self, place: &str) -> Result<Vec<(String, Held)>>;
}

/// A session as a store has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Held {
    /// Its times.
    pub times: Times,
    /// Whose it is, empty if nobody's.
    pub owner: String,
    /// What it holds.
    pub payload: Bytes,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("times", &self.times).field("payload_bytes", &self.payload.len()).finish()
    }
}

/// A session's times in ms since the Unix epoch, by the store's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it was made.
    pub created: u64,
    /// When it ends if it isn't touched.
    pub expires: u64,
    /// When it ends however often it is touched.
    pub ends: u64,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SessionStore + ?Sized> SessionStore for Arc<S> {
    async fn open(
        &self,
        place: &str,
        name: &str,
        owner: &str,
        payload: Bytes,
        idle_ms: u64,
        absolute_ms: u64,
    ) -> Result<()> {
        (**self).open(place, name, owner, payload, idle_ms, absolute_ms).await
    }

    async fn look(&self, place: &str, name: &str) -> Result<Option<Held>> {
        (**self).look(place, name).await
    }

    async fn touch(&self, place: &str, name: &str, idle_ms: u64) -> Result<Option<Held>> {
        (**self).touch(place, name, idle_ms).await
    }

    async fn save(&self, place: &str, name: &str, payload: Bytes, idle_ms: u64) -> Result<bool> {
        (**self).save(place, name, payload, idle_ms).await
    }

    async fn rename(&self, place: &str, name: &str, to: &str, idle_ms: u64) -> Result<bool> {
        (**self).rename(place, name, to, idle_ms).await
    }

    async fn end(&self, place: &str, name: &str) -> Result<bool> {
        (**self).end(place, name).await
    }

    async fn end_all(&self, place: &str, except: Option<&str>) -> Result<u64> {
        (**self).end_all(place, except).await
    }

    async fn list(&self, place: &str) -> Result<Vec<(String, Held)>> {
        (**self).list(place).await
    }
}
