//! [`LockStore`] of a [`Memory`].

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Claim, Claimed, LockStore, Room, Seat, Token};
use crate::{Memory, Result, Tick};

/// How long a lock is remembered after its last hold: its fence must not depend on the clock alone.
const KEEP: Duration = Duration::from_secs(3600);
/// How long who is next may take until it is skipped.
const TURN: Duration = Duration::from_secs(2);
/// The longest line.
const PLACES: usize = 1024;
/// Locks are looked through for forgotten ones when this many are held, and again when they have doubled.
const SWEEP: usize = 1024;

/// The highest fence that any store of this process gave: it grows even if a store is flushed within a microsecond.
static HIGHEST: AtomicU64 = AtomicU64::new(0);

/// The locks of a store.
#[derive(Default)]
struct Table {
    locks: Mutex<Locks>,
    room: Room,
}

#[derive(Default)]
struct Locks {
    held: HashMap<String, Lock>,
    sweep: usize,
}

impl Locks {
    /// The lock of `key`. Forgets those that are long over.
    fn of(&mut self, key: &str, now: Tick) -> &mut Lock {
        if self.held.len() > self.sweep.max(SWEEP) {
            self.held.retain(|_, lock| lock.until > now);
            self.sweep = self.held.len() * 2;
        }
        self.held.entry(key.to_owned()).or_default()
    }
}

#[derive(Default)]
struct Lock {
    holder: Option<(Token, Tick)>,
    fence: u64,
    line: VecDeque<(Token, Tick)>,
    until: Tick,
}

impl Lock {
    /// The holder and its end, if it has not come.
    fn holder(&self, now: Tick) -> Option<&(Token, Tick)> {
        self.holder.as_ref().filter(|(_, end)| *end > now)
    }

    /// Who is next in line and how long its place is kept, after those who stopped asking were skipped.
    fn next(&mut self, now: Tick) -> Option<&mut (Token, Tick)> {
        while self.line.front().is_some_and(|(_, alive)| *alive <= now) {
            self.line.pop_front();
        }
        self.line.front_mut()
    }

    fn leave(&mut self, token: &Token) -> bool {
        let before = self.line.len();
        self.line.retain(|(waiting, _)| waiting != token);
        self.line.len() < before
    }

    /// Keeps or takes the claim's place in line.
    fn stand(&mut self, token: &Token, alive: Tick) {
        if let Some((_, until)) = self.line.iter_mut().find(|(waiting, _)| waiting == token) {
            *until = alive;
        } else if self.line.len() < PLACES {
            self.line.push_back((token.clone(), alive));
        }
    }

    /// Lets the hold of `token` last until `end` at least.
    fn hold(&mut self, token: &Token, end: Tick) {
        let end = self.holder.take().filter(|(holder, _)| holder == token).map_or(end, |(_, held)| held.max(end));
        self.holder = Some((token.clone(), end));
        self.until = end + KEEP;
    }
}

fn fence(unix_us: u64) -> u64 {
    let next = |highest: u64| unix_us.max(highest.saturating_add(1));
    let before = HIGHEST.fetch_update(Ordering::AcqRel, Ordering::Acquire, |highest| Some(next(highest)));
    next(before.unwrap_or_default())
}

impl Memory {
    /// Runs one step alone.
    fn lock_step<T>(&self, key: &str, step: impl FnOnce(&mut Lock, &Room, Tick) -> T) -> Result<T> {
        self.check_vacant(key, "lock")?;
        let table = self.extension::<Table>();
        let mut locks = table.locks.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock().now();
        Ok(step(locks.of(key, now), &table.room, now))
    }
}

#[async_trait]
impl LockStore for Memory {
    async fn acquire(&self, key: &str, claim: &Claim) -> Result<Claimed> {
        let unix_us = self.clock().unix_ms().saturating_mul(1000);
        self.lock_step(key, |lock, _, now| {
            let Claim { token, ttl, queue } = claim;
            let next = match queue {
                Some(_) => lock.next(now).filter(|(first, _)| first != token).map(|(_, alive)| *alive),
                None => None,
            };
            let busy = match lock.holder(now) {
                Some((holder, _)) if holder == token => {
                    lock.hold(token, now + *ttl);
                    return Claimed::Granted { fence: lock.fence };
                }
                Some((_, end)) => Some(*end),
                None => next,
            };
            match busy {
                None => {
                    lock.leave(token);
                    lock.hold(token, now + *ttl);
                    lock.fence = fence(unix_us);
                    Claimed::Granted { fence: lock.fence }
                }
                Some(end) => {
                    if let Some(stay) = queue.filter(|stay| !stay.is_zero()) {
                        lock.stand(token, now + stay);
                        lock.until = lock.until.max(now + KEEP);
                    }
                    Claimed::Held { left: end.since(now) }
                }
            }
        })
    }

    async fn extend(&self, key: &str, token: &Token, ttl: Duration) -> Result<bool> {
        self.lock_step(key, |lock, _, now| {
            let held = lock.holder(now).is_some_and(|(holder, _)| holder == token);
            if held {
                lock.hold(token, now + ttl);
            }
            held
        })
    }

    async fn release(&self, key: &str, token: &Token) -> Result<bool> {
        self.lock_step(key, |lock, room, now| {
            let held = lock.holder(now).is_some_and(|(holder, _)| holder == token);
            if lock.holder.as_ref().is_some_and(|(holder, _)| holder == token) {
                lock.holder = None;
            }
            let left = lock.leave(token);
            if lock.holder(now).is_none() && (held || left) {
                match lock.next(now) {
                    Some((next, alive)) => {
                        *alive = now + TURN;
                        room.call(key, Some(next.as_str()));
                    }
                    None => room.call(key, None),
                }
            }
            held
        })
    }

    async fn listen(&self, key: &str, token: &Token) -> Result<Seat> {
        Ok(self.extension::<Table>().room.enter(key, token))
    }
}
