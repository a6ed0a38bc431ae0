//! [`Leases`] of a [`Memory`]: the scripts of the protocol, as plain code.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Memory;
use super::state::State as Store;
use crate::envelope::{Frame, HEADER, Header, State, flag};
use crate::{Error, ErrorKind, Found, Lease, Leases, Message, Result, Stamp, Wait, check_key, check_ttl, check_value};

#[async_trait]
impl Leases for Memory {
    async fn read(&self, key: &str) -> Result<Option<Found>> {
        self.run("read", |store| {
            check_key(key)?;
            store.found(key)
        })
    }

    async fn read_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.run("read_many", |store| {
            keys.iter().try_for_each(|key| check_key(key))?;
            keys.iter().map(|key| store.bytes(key)).collect()
        })
    }

    async fn peek(&self, key: &str) -> Result<Option<Bytes>> {
        self.run("peek", |store| {
            check_key(key)?;
            Ok(store.bytes(key)?.map(|bytes| bytes.slice(..bytes.len().min(HEADER))))
        })
    }

    async fn lease(&self, key: &str, token: Stamp, span: Duration) -> Result<Lease> {
        self.run("lease", |store| {
            check_key(key)?;
            let span = check_ttl(span)?;
            if token == Stamp::NONE {
                return Err(Error::new(ErrorKind::Invalid, "the token is zero; take a random stamp"));
            }
            let Some(found) = store.found(key)? else {
                grant(store, key, token, span);
                return Ok(Lease::Granted);
            };
            let Ok(header) = Header::parse(&found.frame) else { return Ok(Lease::Found(found)) };
            let left = Duration::from_millis(header.soft_exp.saturating_sub(store.unix_ms()));
            match header.state {
                // a bare lease lasts as long as its key
                State::Lease => {
                    return Ok(Lease::Held { holder: header.stamp, left: found.left.unwrap_or_default() });
                }
                State::Stale if !left.is_zero() => return Ok(Lease::Held { holder: header.stamp, left }),
                State::Tombstone if !left.is_zero() => return Ok(Lease::Barred { left }),
                State::Tombstone => grant(store, key, token, span),
                // a soft expiry of zero is none
                State::Value | State::Negative if header.soft_exp == 0 || !left.is_zero() => {
                    return Ok(Lease::Found(found));
                }
                State::Value | State::Negative | State::Stale => {
                    let soft_exp = store.unix_ms().saturating_add(span);
                    let taken = Header { state: State::Stale, stamp: token, soft_exp, ..header };
                    store.rewrite(key, &taken, &found.frame);
                }
            }
            Ok(Lease::Granted)
        })
    }

    async fn wait(&self, key: &str, holder: Stamp) -> Result<Wait> {
        self.run("wait", |store| {
            check_key(key)?;
            let Some(found) = store.found(key)? else { return Ok(Wait::Missing) };
            let Some((header, frame)) = held(store, key, holder)? else { return Ok(Wait::Changed(found)) };
            store.rewrite(key, &Header { flags: header.flags | flag::WAITER, ..header }, &frame);
            let left = match header.state {
                State::Lease => found.left.unwrap_or_default(),
                _ => Duration::from_millis(header.soft_exp.saturating_sub(store.unix_ms())),
            };
            Ok(Wait::Flagged { left })
        })
    }

    async fn renew(&self, key: &str, token: Stamp, span: Duration) -> Result<bool> {
        self.run("renew", |store| {
            check_key(key)?;
            let span = check_ttl(span)?;
            let Some((header, frame)) = held(store, key, token)? else { return Ok(false) };
            let soft_exp = store.unix_ms().saturating_add(span);
            store.rewrite(key, &Header { soft_exp, ..header }, &frame);
            // a stale value keeps its own time: it may not outlive the grace it was given
            if header.state == State::Lease {
                store.expire(key, span);
            }
            Ok(true)
        })
    }

    async fn fill(&self, key: &str, token: Stamp, frame: Bytes, ttl: Duration, channel: &str) -> Result<bool> {
        self.run("fill", |store| {
            check_key(key)?;
            check_value(frame.len(), self.limit())?;
            let ttl = check_ttl(ttl)?;
            let Some((header, _)) = held(store, key, token)? else { return Ok(false) };
            store.put(key, frame, ttl);
            wake(store, key, &header, channel);
            Ok(true)
        })
    }

    async fn refresh(&self, key: &str, seen: Stamp, frame: Bytes, ttl: Duration) -> Result<bool> {
        self.run("refresh", |store| {
            check_key(key)?;
            check_value(frame.len(), self.limit())?;
            let ttl = check_ttl(ttl)?;
            let Some((header, _)) = store.frame(key)? else { return Ok(false) };
            let same = header.stamp == seen && matches!(header.state, State::Value | State::Negative);
            if same {
                store.put(key, frame, ttl);
            }
            Ok(same)
        })
    }

    async fn touch(&self, key: &str, seen: Stamp, soft_exp: u64, ttl: Duration) -> Result<bool> {
        self.run("touch", |store| {
            check_key(key)?;
            let ttl = check_ttl(ttl)?;
            let bytes = store.bytes(key)?;
            let Some(frame) = bytes.and_then(|bytes| Frame::prolonged(key, &bytes, seen, soft_exp)) else {
                return Ok(false);
            };
            store.put(key, frame, ttl);
            Ok(true)
        })
    }

    async fn release(&self, key: &str, token: Stamp, channel: &str) -> Result<bool> {
        self.run("release", |store| {
            check_key(key)?;
            let Some((header, frame)) = held(store, key, token)? else { return Ok(false) };
            if header.state == State::Lease {
                store.remove(key);
            } else {
                store.rewrite(key, &unleased(header), &frame);
            }
            wake(store, key, &header, channel);
            Ok(true)
        })
    }

    async fn rest(&self, key: &str, token: Stamp, span: Duration, channel: &str) -> Result<bool> {
        self.run("rest", |store| {
            check_key(key)?;
            let span = check_ttl(span)?;
            let Some((header, frame)) = held(store, key, token)? else { return Ok(false) };
            if header.state == State::Lease {
                store.remove(key);
            } else {
                let soft_exp = store.unix_ms().saturating_add(span);
                store.rewrite(key, &Header { soft_exp, ..unleased(header) }, &frame);
            }
            wake(store, key, &header, channel);
            Ok(true)
        })
    }

    async fn discard(&self, key: &str, seen: &Bytes) -> Result<bool> {
        self.run("discard", |store| {
            check_key(key)?;
            Ok(store.bytes(key)?.as_ref() == Some(seen) && store.remove(key))
        })
    }
}

/// Puts a fresh lease under `key`.
fn grant(store: &mut Store, key: &str, token: Stamp, span: u64) {
    let deadline = store.unix_ms().saturating_add(span);
    store.put(key, Bytes::copy_from_slice(&Frame::lease(token, deadline)), span);
}

/// The frame under `key`, if `token` holds its lease. A lease that has run out is held until somebody takes it over.
fn held(store: &mut Store, key: &str, token: Stamp) -> Result<Option<(Header, Bytes)>> {
    let holds = |header: &Header| {
        token != Stamp::NONE && header.stamp == token && matches!(header.state, State::Lease | State::Stale)
    };
    Ok(store.frame(key)?.filter(|(header, _)| holds(header)))
}

/// The header of the same value as a fallback without a lease.
pub(super) fn unleased(header: Header) -> Header {
    Header { state: State::Stale, flags: header.flags & !flag::WAITER, stamp: Stamp::NONE, soft_exp: 0, ..header }
}

fn wake(store: &mut Store, key: &str, was: &Header, channel: &str) {
    if was.flags & flag::WAITER != 0 {
        store.inboxes.publish(channel, &Message::Wake { key: key.to_owned() });
    }
}
