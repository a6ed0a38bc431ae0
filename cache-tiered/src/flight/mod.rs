//! One load per key in a process: the flight table, and how a flight ends.

mod one;
mod seat;

use std::hash::BuildHasher;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};

use cache_core::{Stamp, Tick};
use foldhash::fast::{FixedState, RandomState};

pub(crate) use self::one::{Crew, Flight, Outcome, Stage};
pub(crate) use self::seat::{Lead, Seat};
use crate::coherence::mutate::{Mutation, broken};
use crate::coherence::{Fence, FlightId, Joining, SUSPECT};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};

const SHARDS: usize = 64;

type Shard = Fence<Arc<str>, Arc<Flight>, RandomState>;

/// The flights of a process.
#[derive(Debug)]
pub(crate) struct Flights {
    shards: Box<[Mutex<Shard>]>,
    hasher: FixedState,
    next: AtomicU64,
    /// How many flights are current; changed under the shard's lock.
    current: AtomicUsize,
}

/// A locked shard; what its flights became is counted before it is unlocked.
struct Locked<'a> {
    shard: MutexGuard<'a, Shard>,
    before: usize,
    current: &'a AtomicUsize,
}

impl Deref for Locked<'_> {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let now = self.shard.len();
        if now > self.before {
            self.current.fetch_add(now - self.before, Ordering::SeqCst);
        } else if now < self.before {
            self.current.fetch_sub(self.before - now, Ordering::SeqCst);
        }
    }
}

/// A caller's place in a flight.
pub(crate) enum Boarding {
    /// Somebody else's flight was joined.
    Joined(Seat),
    /// This caller's flight begins; whoever it replaces was detached.
    Leads(Lead),
}

impl Flights {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Fence::default())).collect(),
            hasher: FixedState::default(),
            next: AtomicU64::new(1),
            current: AtomicUsize::new(0),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits pick the shard")]
    fn shard(&self, key: &str) -> Locked<'_> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        let shard = self.shards[index].lock().unwrap_or_else(PoisonError::into_inner);
        Locked { before: shard.len(), shard, current: &self.current }
    }

    /// Joins the flight of `key` if it is of `epoch`, not doubted and `joinable`, else begins one.
    pub(crate) fn board(
        self: &Arc<Self>,
        key: &Arc<str>,
        epoch: u64,
        begun: Tick,
        loads: bool,
        joinable: impl FnOnce(&Flight) -> bool,
    ) -> Boarding {
        let mut shard = self.shard(key);
        let joinable = |flight: &Arc<Flight>| !flight.doubted.load(Ordering::Relaxed) && joinable(flight);
        if let Some(joined) = shard.join(&**key, epoch, joinable) {
            joined.shared.callers.fetch_add(1, Ordering::Relaxed);
            return Boarding::Joined(Seat {
                flights: Arc::clone(self),
                key: Arc::clone(key),
                flight: Arc::clone(joined.shared),
                contested: joined.contested,
                joining: Joining::Trusted,
            });
        }
        let id = FlightId(self.next.fetch_add(1, Ordering::Relaxed));
        let flight = Arc::new(Flight::new(id, epoch, begun, loads));
        let detached = shard.begin(Arc::clone(key), flight.id, epoch, Arc::clone(&flight));
        drop(shard);
        if let Some(older) = detached {
            older.wake.notify_waiters();
        }
        let seat = Seat {
            flights: Arc::clone(self),
            key: Arc::clone(key),
            flight,
            contested: false,
            joining: Joining::Trusted,
        };
        Boarding::Leads(Lead { seat, driven: false })
    }

    /// Detaches the flight of `key`: it installs nothing and nobody joins it any more.
    pub(crate) fn detach(&self, key: &str) {
        let detached = self.shard(key).detach(key);
        if let Some(flight) = detached {
            flight.wake.notify_waiters();
        }
    }

    /// Puts the flight of `key` in doubt: nobody joins it any more, and what it brings is installed suspect.
    ///
    /// Not detached: the push may be the echo of the flight's own lease or fill, and then what it brings is worth
    /// keeping.
    pub(crate) fn doubt(&self, key: &str) {
        if let Some(flight) = self.shard(key).current(key) {
            flight.doubted.store(true, Ordering::Relaxed);
        }
    }

    /// Wakes the flight of `key` if it waits for another process.
    pub(crate) fn wake(&self, key: &str) {
        let flight = self.shard(key).current(key).cloned();
        if let Some(flight) = flight {
            flight.wake.notify_waiters();
        }
    }

    /// Ends the flight's place in the table; its callers are told the value with stamp `told`, or nothing. Says whether
    /// it may install: then `install` runs, in the same critical section, with the epoch in which an entry that stands
    /// in the near store, inert, becomes valid: the flight's, or that of suspects if the flight was doubted.
    pub(crate) fn settle(
        &self,
        key: &str,
        flight: &Flight,
        epoch: u64,
        told: Option<Stamp>,
        install: impl FnOnce(u64),
    ) -> bool {
        let mut shard = self.shard(key);
        let may = shard.settle(key, flight.id, epoch, told);
        if may {
            let begun = if broken(Mutation::NoFlightEpoch) { epoch } else { flight.epoch };
            install(if flight.doubted.load(Ordering::Relaxed) { SUSPECT } else { begun });
            flight.settled.store(true, Ordering::Release);
        }
        may
    }

    /// Whether the flight is the current one of `key`.
    pub(crate) fn is_current(&self, key: &str, flight: &Flight) -> bool {
        self.shard(key).current(key).is_some_and(|current| current.id == flight.id)
    }

    /// Tells the flights of these keys what was read beside them: as much as if each read were a flight of its own that
    /// was detached as it began. So none of them takes an older value for what callers get next.
    pub(crate) fn contest(&self, told: impl IntoIterator<Item = (impl AsRef<str>, Stamp)>) {
        let id = FlightId(self.next.fetch_add(1, Ordering::Relaxed));
        for (key, stamp) in told {
            self.shard(key.as_ref()).settle(key.as_ref(), id, 0, Some(stamp));
        }
    }

    /// Whether no flight is current. One that begins once this was asked reads no older value than was read before.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a flight of `key` is current.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.shard(key).current(key).is_some()
    }

    /// How many flights are current.
    pub(crate) fn len(&self) -> usize {
        self.current.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_joins_a_flight_that_was_told_of_another_read_takes_its_value_only_if_it_settles() {
        let flights = Arc::new(Flights::new());
        let key: Arc<str> = "k".into();
        let board = || flights.board(&key, 1, Tick::ZERO, false, |_| true);
        let Boarding::Leads(lead) = board() else { panic!("nobody was there") };
        flights.contest([("k", Stamp(9)), ("nobody", Stamp(9))]);
        let Boarding::Joined(seat) = board() else { panic!("a flight was there") };
        assert!(seat.lost(), "what the flight brings may be older than what was read beside it");
        assert!(!flights.settle("k", lead.flight(), 1, Some(Stamp(8)), |_| {}), "and it installs nothing else");
        lead.end(Outcome::Done(None));
        assert_eq!(flights.len(), 0, "a key without a flight was told in vain");
    }
}
