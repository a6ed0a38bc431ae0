//! [`Leases`] by compare-and-swap: what scripts do on other servers, read, decided here and stored if still true.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::envelope::{HEADER, flag};
use cache_core::{
    CacheService, Claim, Error, ErrorKind, Fill, Found, Frame, Header, Lease, Leases, Result, Stamp, State, Wait,
    check_key, check_ttl, check_value,
};

use futures_util::future::join_all;

use crate::Memcached;
use crate::item::{Edit, Item, Until};
use crate::reply::Reply;
use crate::request::{Request, When};

#[async_trait]
impl Leases for Memcached {
    async fn read(&self, key: &str) -> Result<Option<Found>> {
        self.run("read", async |attempt| {
            check_key(key)?;
            Ok(self.look(key, attempt).await?.live().map(|item| self.found(&item)))
        })
        .await
    }

    async fn read_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.get_many(keys).await.map_err(|error| error.with_operation("read_many"))
    }

    async fn peek(&self, key: &str) -> Result<Option<Bytes>> {
        // there is no command for a part of a value
        let value = self.get(key).await.map_err(|error| error.with_operation("peek"))?;
        Ok(value.map(|value| value.slice(..value.len().min(HEADER))))
    }

    async fn lease(&self, key: &str, token: Stamp, span: Duration) -> Result<Lease> {
        self.run("lease", async |attempt| {
            check_key(key)?;
            let span = check_ttl(span)?;
            if token == Stamp::NONE {
                return Err(Error::new(ErrorKind::Invalid, "the token is zero; take a random stamp"));
            }
            let fresh = || {
                let frame = Frame::lease(token, self.time().now_ms().saturating_add(span));
                Bytes::copy_from_slice(&frame)
            };
            let add = Request::default().set(key, &fresh(), self.time().expiry(span), When::Absent);
            let [added, there] = self.ask(add.get(key), attempt).await?;
            match added {
                Reply::Done(_) => return Ok(Lease::Granted),
                Reply::Refused(error) => return Err(error),
                _ => {}
            }
            let slot = self.slot(there)?;
            self.edit_from(slot, key, attempt, |held| {
                let now = self.time().now_ms();
                let Some(item) = held else { return Ok(Edit::Store(fresh(), Until::Ttl(span), Lease::Granted)) };
                let found = self.found(item);
                let Ok(header) = Header::parse(&item.value) else { return Ok(Edit::Leave(Lease::Found(found))) };
                let left = Duration::from_millis(header.soft_exp.saturating_sub(now));
                Ok(match header.state {
                    // a bare lease lasts as long as its key
                    State::Lease => {
                        let left = found.left.unwrap_or_default();
                        Edit::Leave(Lease::Held { holder: header.stamp, left })
                    }
                    State::Stale if !left.is_zero() => Edit::Leave(Lease::Held { holder: header.stamp, left }),
                    State::Tombstone if !left.is_zero() => Edit::Leave(Lease::Barred { left }),
                    State::Tombstone => Edit::Store(fresh(), Until::Ttl(span), Lease::Granted),
                    // a soft expiry of zero is none
                    State::Value | State::Negative if header.soft_exp == 0 || !left.is_zero() => {
                        Edit::Leave(Lease::Found(found))
                    }
                    State::Value | State::Negative | State::Stale => {
                        let taken =
                            Header { state: State::Stale, stamp: token, soft_exp: now.saturating_add(span), ..header };
                        Edit::Store(rewritten(&taken, &item.value), Until::Before, Lease::Granted)
                    }
                })
            })
            .await
        })
        .await
    }

    async fn wait(&self, key: &str, holder: Stamp) -> Result<Wait> {
        self.run("wait", async |attempt| {
            check_key(key)?;
            self.edit(key, attempt, |held| {
                let Some(item) = held else { return Ok(Edit::Leave(Wait::Missing)) };
                let Some(header) = holds(item, holder) else {
                    return Ok(Edit::Leave(Wait::Changed(self.found(item))));
                };
                let left = match header.state {
                    State::Lease => self.time().left(item.deadline).unwrap_or_default(),
                    _ => Duration::from_millis(header.soft_exp.saturating_sub(self.time().now_ms())),
                };
                let flagged = Header { flags: header.flags | flag::WAITER, ..header };
                Ok(Edit::Store(rewritten(&flagged, &item.value), Until::Before, Wait::Flagged { left }))
            })
            .await
        })
        .await
    }

    async fn renew(&self, key: &str, token: Stamp, span: Duration) -> Result<bool> {
        self.run("renew", async |attempt| {
            check_key(key)?;
            let span = check_ttl(span)?;
            self.edit(key, attempt, |held| {
                let Some((item, header)) = held.and_then(|item| Some((item, holds(item, token)?))) else {
                    return Ok(Edit::Leave(false));
                };
                let renewed = Header { soft_exp: self.time().now_ms().saturating_add(span), ..header };
                // a stale value keeps its own time: it may not outlive the grace it was given
                let until = if header.state == State::Lease { Until::Ttl(span) } else { Until::Before };
                Ok(Edit::Store(rewritten(&renewed, &item.value), until, true))
            })
            .await
        })
        .await
    }

    async fn fill(&self, key: &str, token: Stamp, frame: Bytes, ttl: Duration, _channel: &str) -> Result<bool> {
        self.run("fill", async |attempt| {
            check_key(key)?;
            check_value(frame.len(), self.max_value())?;
            let ttl = check_ttl(ttl)?;
            self.edit(key, attempt, |held| {
                Ok(match held.and_then(|item| holds(item, token)) {
                    Some(_) => Edit::Store(frame.clone(), Until::Ttl(ttl), true),
                    None => Edit::Leave(false),
                })
            })
            .await
        })
        .await
    }

    async fn refresh(&self, key: &str, seen: Stamp, frame: Bytes, ttl: Duration) -> Result<bool> {
        self.run("refresh", async |attempt| {
            check_key(key)?;
            check_value(frame.len(), self.max_value())?;
            let ttl = check_ttl(ttl)?;
            self.edit(key, attempt, |held| {
                let same = held.and_then(|item| Header::parse(&item.value).ok()).is_some_and(|header| {
                    header.stamp == seen && matches!(header.state, State::Value | State::Negative)
                });
                Ok(if same { Edit::Store(frame.clone(), Until::Ttl(ttl), true) } else { Edit::Leave(false) })
            })
            .await
        })
        .await
    }

    async fn touch(&self, key: &str, seen: Stamp, soft_exp: u64, ttl: Duration) -> Result<bool> {
        self.run("touch", async |attempt| {
            check_key(key)?;
            let ttl = check_ttl(ttl)?;
            self.edit(key, attempt, |held| {
                Ok(match held.and_then(|item| Frame::prolonged(key, &item.value, seen, soft_exp)) {
                    Some(frame) => Edit::Store(frame, Until::Ttl(ttl), true),
                    None => Edit::Leave(false),
                })
            })
            .await
        })
        .await
    }

    async fn release(&self, key: &str, token: Stamp, _channel: &str) -> Result<bool> {
        self.run("release", async |attempt| {
            check_key(key)?;
            self.edit(key, attempt, |held| {
                let Some((item, header)) = held.and_then(|item| Some((item, holds(item, token)?))) else {
                    return Ok(Edit::Leave(false));
                };
                Ok(match header.state {
                    State::Lease => Edit::Remove(true),
                    _ => Edit::Store(rewritten(&unleased(header), &item.value), Until::Before, true),
                })
            })
            .await
        })
        .await
    }

    async fn rest(&self, key: &str, token: Stamp, span: Duration, _channel: &str) -> Result<bool> {
        self.run("rest", async |attempt| {
            check_key(key)?;
            let span = check_ttl(span)?;
            self.edit(key, attempt, |held| {
                let Some((item, header)) = held.and_then(|item| Some((item, holds(item, token)?))) else {
                    return Ok(Edit::Leave(false));
                };
                let rested = Header { soft_exp: self.time().now_ms().saturating_add(span), ..unleased(header) };
                Ok(match header.state {
                    State::Lease => Edit::Remove(true),
                    _ => Edit::Store(rewritten(&rested, &item.value), Until::Before, true),
                })
            })
            .await
        })
        .await
    }

    async fn lease_many(&self, claims: &[Claim<'_>], span: Duration) -> Vec<Result<Lease>> {
        join_all(claims.iter().map(|claim| self.lease(claim.key, claim.token, span))).await
    }

    async fn renew_many(&self, claims: &[Claim<'_>], span: Duration) -> Vec<Result<bool>> {
        join_all(claims.iter().map(|claim| self.renew(claim.key, claim.token, span))).await
    }

    async fn fill_many(&self, fills: &[Fill<'_>], channel: &str) -> Vec<Result<bool>> {
        let fills = fills
            .iter()
            .map(|Fill { claim, frame, ttl }| self.fill(claim.key, claim.token, frame.clone(), *ttl, channel));
        join_all(fills).await
    }

    async fn release_many(&self, claims: &[Claim<'_>], channel: &str) -> Vec<Result<bool>> {
        join_all(claims.iter().map(|claim| self.release(claim.key, claim.token, channel))).await
    }

    async fn discard(&self, key: &str, seen: &Bytes) -> Result<bool> {
        self.run("discard", async |attempt| {
            check_key(key)?;
            self.edit(key, attempt, |held| {
                let same = held.is_some_and(|item| item.value == seen);
                Ok(if same { Edit::Remove(true) } else { Edit::Leave(false) })
            })
            .await
        })
        .await
    }
}

impl Memcached {
    fn found(&self, item: &Item) -> Found {
        Found { frame: item.value.clone(), left: self.time().left(item.deadline) }
    }
}

/// The header, if `token` holds the item's lease. A lease that has run out is held until somebody takes it over.
fn holds(item: &Item, token: Stamp) -> Option<Header> {
    let header = Header::parse(&item.value).ok()?;
    let leased = matches!(header.state, State::Lease | State::Stale);
    (token != Stamp::NONE && header.stamp == token && leased).then_some(header)
}

/// The header of the same value as a fallback without a lease.
pub(crate) fn unleased(header: Header) -> Header {
    Header { state: State::Stale, flags: header.flags & !flag::WAITER, stamp: Stamp::NONE, soft_exp: 0, ..header }
}

/// The frame with another header.
pub(crate) fn rewritten(header: &Header, frame: &Bytes) -> Bytes {
    let mut edited = frame.to_vec();
    if let Some(head) = edited.first_chunk_mut::<HEADER>() {
        *head = header.to_bytes();
    }
    edited.into()
}
