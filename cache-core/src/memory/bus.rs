//! [`Bus`] of a [`Memory`].

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Memory;
use super::leases::unleased;
use super::listener::Subscription;
use super::state::State as Store;
use super::tags;
use crate::envelope::{Frame, Header, State};
use crate::{
    Applied, Beat, Bus, Change, Error, ErrorKind, Generations, Line, Listener, Message, NodeId, Result, Stamp,
    check_key, check_ttl, check_value,
};

/// How long a sequence lives without a beat: 30 days.
const SEQ_TTL_MS: u64 = 30 * 24 * 3600 * 1000;

#[async_trait]
impl Bus for Memory {
    async fn change(&self, line: &Line, node: NodeId, keys: &[&str], change: Change) -> Result<Applied> {
        self.run("change", |store| {
            keys.iter().try_for_each(|key| check_key(key))?;
            check_key(&line.seq)?;
            let distinct: BTreeSet<_> = keys.iter().collect();
            let present = distinct.into_iter().filter(|key| store.has(key)).count() as u64;
            let (stored, kept) = match mutate(store, keys, change, self.limit())? {
                Done::Nothing => return Ok(Applied::NOTHING),
                Done::Kept => (false, true),
                Done::Changed { stored } => (stored, false),
            };
            let n = number(store, &line.seq)?;
            let keys = keys.iter().map(|&key| key.to_owned()).collect();
            store.inboxes.publish(&line.channel, &Message::Keys { n, node, keys });
            Ok(Applied { n, stored, kept, removed: if kept { 0 } else { present } })
        })
    }

    async fn bump(&self, line: &Line, node: NodeId, tag: u64, period: u64, span: Duration) -> Result<u64> {
        self.run("bump", |store| {
            check_key(&line.seq)?;
            let ttl = check_ttl(span)?.saturating_mul(2);
            let opened = match sequence(store, &line.seq)? {
                Some((seq, _)) => Some(tags::open(store, line, period, seq, ttl)?),
                None => None,
            };
            let n = number(store, &line.seq)?;
            match opened {
                Some(opened) if n != 0 => tags::note(store, line, tag, opened, n, ttl)?,
                _ => tags::forget(store, line, period),
            }
            store.inboxes.publish(&line.channel, &Message::Tag { n, node, tag });
            Ok(n)
        })
    }

    async fn generations(&self, line: &Line, tags: &[u64], period: u64, span: Duration) -> Result<Generations> {
        self.run("generations", |store| {
            check_key(&line.seq)?;
            let ttl = check_ttl(span)?.saturating_mul(2);
            match sequence(store, &line.seq)? {
                Some((seq, _)) => {
                    tags::open(store, line, period, seq, ttl)?;
                    tags::read(store, line, tags, period)
                }
                None => Ok(Generations { floor: u64::MAX, bumps: vec![0; tags.len()] }),
            }
        })
    }

    async fn beat(&self, line: &Line) -> Result<Beat> {
        self.run("beat", |store| {
            check_key(&line.seq)?;
            let sequence = sequence(store, &line.seq)?;
            store.expire(&line.seq, SEQ_TTL_MS);
            let (seq, created) = sequence.map_or((None, false), |(seq, created)| (Some(seq), created));
            Ok(Beat { seq, created, server_ms: store.unix_ms(), run: store.run })
        })
    }

    async fn subscribe(&self, lines: &[Line]) -> Result<Box<dyn Listener>> {
        let id = self.run("subscribe", |store| Ok(store.inboxes.subscribe(lines)))?;
        Ok(Box::new(Subscription { memory: self.clone(), id }))
    }
}

/// What became of a change.
enum Done {
    /// It is made; whether a value was stored.
    Changed { stored: bool },
    /// What stands is left alone, and everybody is told.
    Kept,
    /// What stands is left alone.
    Nothing,
}

/// Does what `change` says.
fn mutate(store: &mut Store, keys: &[&str], change: Change, limit: usize) -> Result<Done> {
    if keys.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "a change needs a key"));
    }
    match change {
        Change::Delete => {
            for key in keys {
                store.remove(key);
            }
            Ok(Done::Changed { stored: false })
        }
        Change::DeleteSeen { seen } => {
            let key = one(keys)?;
            if seen == Stamp::NONE || !holds(store, key, seen)? {
                return Ok(Done::Nothing);
            }
            store.remove(key);
            Ok(Done::Changed { stored: false })
        }
        Change::Soften { grace } => {
            let grace = check_ttl(grace)?;
            keys.iter().try_for_each(|key| soften(store, key, grace))?;
            Ok(Done::Changed { stored: false })
        }
        Change::Hold { hold } => {
            let hold = check_ttl(hold)?;
            let tombstone = Bytes::copy_from_slice(&Frame::tombstone(store.unix_ms().saturating_add(hold)));
            keys.iter().for_each(|key| store.put(key, tombstone.clone(), hold));
            Ok(Done::Changed { stored: false })
        }
        Change::Put { frame, ttl } => {
            let (key, ttl) = check_put(keys, &frame, ttl, limit)?;
            store.put(key, frame, ttl);
            Ok(Done::Changed { stored: true })
        }
        Change::PutNewer { frame, ttl } => {
            let (key, ttl) = check_put(keys, &frame, ttl, limit)?;
            let offered = Header::parse(&frame).map_err(|fault| Error::new(ErrorKind::Invalid, fault.to_string()))?;
            let held = store.frame(key)?.filter(|(header, _)| is_value(header));
            if held.is_some_and(|(header, _)| header.row >= offered.row) {
                return Ok(Done::Kept);
            }
            store.put(key, frame, ttl);
            Ok(Done::Changed { stored: true })
        }
        Change::Swap { seen, frame, ttl } => {
            let (key, ttl) = check_put(keys, &frame, ttl, limit)?;
            if !holds(store, key, seen)? {
                return Ok(Done::Nothing);
            }
            store.put(key, frame, ttl);
            Ok(Done::Changed { stored: true })
        }
    }
}

/// Whether a swap that saw the stamp `seen` may go on.
fn holds(store: &mut Store, key: &str, seen: Stamp) -> Result<bool> {
    Ok(match store.frame(key)?.map(|(header, _)| header) {
        Some(header) if matches!(header.state, State::Value | State::Negative) => {
            seen != Stamp::NONE && header.stamp == seen
        }
        Some(header) => header.state != State::Tombstone && seen == Stamp::NONE,
        None => seen == Stamp::NONE,
    })
}

/// The one key of a put, and its ttl in ms.
fn check_put<'a>(keys: &[&'a str], frame: &Bytes, ttl: Duration, limit: usize) -> Result<(&'a str, u64)> {
    let key = one(keys)?;
    check_value(frame.len(), limit)?;
    Ok((key, check_ttl(ttl)?))
}

/// The one key of a change that takes one.
fn one<'a>(keys: &[&'a str]) -> Result<&'a str> {
    let [key] = keys else {
        return Err(Error::new(ErrorKind::Invalid, "this kind of change takes exactly one key"));
    };
    Ok(key)
}

/// Whether the frame holds a value, be it negative or stale.
fn is_value(header: &Header) -> bool {
    !matches!(header.state, State::Lease | State::Tombstone)
}

/// Makes a value a fallback for at most `grace` ms; removes anything else.
fn soften(store: &mut Store, key: &str, grace: u64) -> Result<()> {
    match store.frame(key)? {
        Some((header, frame)) if is_value(&header) => {
            store.rewrite(key, &unleased(header), &frame);
            if store.left(key).is_some_and(|left| left > Duration::from_millis(grace)) {
                store.expire(key, grace);
            }
        }
        _ => {
            store.remove(key);
        }
    }
    Ok(())
}

/// The last number of the line, and whether it was made just now; `None` if the key holds no number.
fn sequence(store: &mut Store, key: &str) -> Result<Option<(u64, bool)>> {
    if let Some(text) = store.bytes(key)? {
        let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
        return Ok(number.map(|number| (number, false)));
    }
    // One number in a microsecond at most, even if the clock stands still: numbers are never used twice.
    let first = store.unix_ms().saturating_mul(1000).max(store.highest.saturating_add(1));
    store.highest = first;
    store.put_pinned(key, first.to_string().into(), SEQ_TTL_MS);
    Ok(Some((first, true)))
}

/// Gives the line its next number; 0, and no sequence any more, if there is no number to go on from.
fn number(store: &mut Store, key: &str) -> Result<u64> {
    let next = sequence(store, key)?.and_then(|(last, _)| last.checked_add(1));
    match next {
        Some(next) => {
            store.highest = store.highest.max(next);
            store.replace(key, next.to_string().into());
        }
        None => {
            store.remove(key);
        }
    }
    Ok(next.unwrap_or(0))
}
