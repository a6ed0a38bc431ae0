//! Lease-and-fill: one loader per key across processes, and no stale fill.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Frame, Result, Stamp};

/// A frame found in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The bytes under the key; whether they are a frame of ours is for the caller to find out.
    pub frame: Bytes,
    /// The time that the store will still keep them; `None` if it can't tell.
    pub left: Option<Duration>,
}

/// The answer to a request for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The caller holds the lease: load, then [`fill`](Leases::fill) or [`release`](Leases::release).
    Granted,
    /// Somebody filled the key meanwhile, or it holds bytes that aren't ours.
    Found(Found),
    /// Another loader holds the lease, or nobody does and the key [rests](Leases::rest).
    Held {
        /// Its token; [`Stamp::NONE`] for a key that rests.
        holder: Stamp,
        /// The time until it may be taken over.
        left: Duration,
    },
    /// A guarded write is under way: load from the origin, store nothing.
    Barred {
        /// The time until the bar falls.
        left: Duration,
    },
}

/// What a waiter learns about the lease that it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The key no longer holds that lease; this is what it holds.
    Changed(Found),
    /// The holder will wake waiters; the lease runs for `left`.
    Flagged {
        /// The time until the lease may be taken over.
        left: Duration,
    },
    /// The key is missing: the lease was released or invalidated.
    Missing,
}

/// A key, and the token that asks for its lease or holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The physical key.
    pub key: &'a str,
    /// The token.
    pub token: Stamp,
}

/// What is to be stored under a key whose lease is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill<'a> {
    /// The key and the token that holds its lease.
    pub claim: Claim<'a>,
    /// The frame.
    pub frame: Bytes,
    /// How long the store keeps it.
    pub ttl: Duration,
}

/// Lease-and-fill on single keys (the leases of *Scaling Memcache at Facebook*, NSDI 2013).
///
/// A loader takes a lease *before* it reads the origin; its fill is a compare-and-set on the lease's token; an
/// invalidation removes the lease, so a value that was read before the invalidation is never stored after it.
/// The lease stands under the value's own key as a frame in state `L`; a stale value that is kept as a fallback
/// (`S`, or `V`/`N` past its soft expiry) carries the lease in its header and stays readable.
///
/// Bytes that don't begin with the magic and format of a frame are never changed, except by
/// [`discard`](Self::discard). A token of [`Stamp::NONE`] holds nothing. A frame counts whole against
/// [`max_value`](crate::CacheService::max_value).
///
/// Every method is one round trip, except [`touch`](Self::touch), see there, and [`lease`](Self::lease), which may need two when the key holds a value or a
/// tombstone: whether its time has passed is for the store's own clock to say. All keys are physical: the store adds nothing to them.
///
/// The methods on many keys equal the loop of their single form, with a result for each: one key's error, a refused
/// argument too, touches no other key. They are not atomic, and a store with a network sends all before it waits for
/// the first answer.
#[async_trait]
pub trait Leases: Send + Sync {
    /// The frame under `key` and the time it has left, read in the order ttl, then value.
    async fn read(&self, key: &str) -> Result<Option<Found>>;

    /// The frames under `keys`, without their ttl.
    async fn read_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>>;

    /// The first [`HEADER`](crate::envelope::HEADER) bytes under `key`; fewer if the value is shorter.
    async fn peek(&self, key: &str) -> Result<Option<Bytes>>;

    /// Asks for the lease on `key` with `token`, to last for `span`.
    ///
    /// Granted when the key is missing, or holds a stale value or tombstone whose lease or hold has run out. A loader
    /// that asks again while it holds the lease is told `Held`, with its own token. The lease never prolongs the ttl of
    /// a stale value that carries it.
    ///
    /// # Errors
    /// `Invalid` for [`Stamp::NONE`].
    async fn lease(&self, key: &str, token: Stamp, span: Duration) -> Result<Lease>;

    /// Asks the holder of the lease to wake waiters when it fills.
    async fn wait(&self, key: &str, holder: Stamp) -> Result<Wait>;

    /// Prolongs the lease to `span` from now; `false` if `token` no longer holds it.
    async fn renew(&self, key: &str, token: Stamp, span: Duration) -> Result<bool>;

    /// Stores `frame` for `ttl` if `token` still holds the lease; wakes flagged waiters over `channel`.
    async fn fill(&self, key: &str, token: Stamp, frame: Bytes, ttl: Duration, channel: &str) -> Result<bool>;

    /// Stores `frame` for `ttl` if the key holds a value (`V` or `N`) whose stamp is still `seen`.
    async fn refresh(&self, key: &str, seen: Stamp, frame: Bytes, ttl: Duration) -> Result<bool>;

    /// Prolongs a value: lets it be fresh until `soft_exp` in server ms, and the store keep it for `ttl`, if the key holds a
    /// value (`V` or `N`) whose stamp is still `seen` and which is not as fresh already. Never shortens; whether it
    /// prolonged.
    ///
    /// Two round trips and the value, unless the store can do it where the value stands.
    async fn touch(&self, key: &str, seen: Stamp, soft_exp: u64, ttl: Duration) -> Result<bool> {
        let Some(found) = self.read(key).await? else { return Ok(false) };
        match Frame::prolonged(key, &found.frame, seen, soft_exp) {
            Some(frame) => self.refresh(key, seen, frame, ttl).await,
            None => Ok(false),
        }
    }

    /// Gives the lease back unfilled: removes it (a stale value stays, without lease) and wakes flagged waiters.
    /// `false` if `token` no longer holds it.
    async fn release(&self, key: &str, token: Stamp, channel: &str) -> Result<bool>;

    /// Gives the lease back after a load that failed: a stale value stays, without lease, and rests: nobody is granted
    /// its lease for `span`, or until the key is changed. A bare lease is removed, as by [`release`](Self::release).
    /// Wakes flagged waiters. `false` if `token` no longer holds the lease.
    async fn rest(&self, key: &str, token: Stamp, span: Duration, channel: &str) -> Result<bool>;

    /// Removes bytes that aren't ours: deletes `key` if it still holds exactly `seen`.
    async fn discard(&self, key: &str, seen: &Bytes) -> Result<bool>;

    /// [`lease`](Self::lease) for each claim, in order.
    async fn lease_many(&self, claims: &[Claim<'_>], span: Duration) -> Vec<Result<Lease>> {
        let mut answers = Vec::with_capacity(claims.len());
        for Claim { key, token } in claims {
            answers.push(self.lease(key, *token, span).await);
        }
        answers
    }

    /// [`renew`](Self::renew) for each claim, in order.
    async fn renew_many(&self, claims: &[Claim<'_>], span: Duration) -> Vec<Result<bool>> {
        let mut answers = Vec::with_capacity(claims.len());
        for Claim { key, token } in claims {
            answers.push(self.renew(key, *token, span).await);
        }
        answers
    }

    /// [`fill`](Self::fill) for each, in order.
    async fn fill_many(&self, fills: &[Fill<'_>], channel: &str) -> Vec<Result<bool>> {
        let mut answers = Vec::with_capacity(fills.len());
        for Fill { claim, frame, ttl } in fills {
            answers.push(self.fill(claim.key, claim.token, frame.clone(), *ttl, channel).await);
        }
        answers
    }

    /// [`release`](Self::release) for each claim, in order.
    async fn release_many(&self, claims: &[Claim<'_>], channel: &str) -> Vec<Result<bool>> {
        let mut answers = Vec::with_capacity(claims.len());
        for Claim { key, token } in claims {
            answers.push(self.release(key, *token, channel).await);
        }
        answers
    }
}
