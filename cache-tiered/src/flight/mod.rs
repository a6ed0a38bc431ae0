//! One load per key in a process: the flight table, and how a flight ends.

mod key;
mod one;
mod seat;
mod shard;

use std::hash::BuildHasher;
use std::sync::Arc;

use cache_core::{Stamp, Tick};
#[cfg(strata_interleave)]
use foldhash::fast::FixedState as Seeded;
#[cfg(not(strata_interleave))]
use foldhash::fast::RandomState as Seeded;

use self::key::{Hashed, Key, Sought};
pub(crate) use self::one::{Crew, Flight, Outcome, Stage};
pub(crate) use self::seat::{Lead, Seat};
use self::shard::{Current, Shard};
use crate::coherence::mutate::{Mutation, broken};
use crate::coherence::{Joining, SUSPECT};
use crate::sync::atomic::Ordering;

const SHARDS: usize = 64;

/// The flights of a process.
#[derive(Debug)]
pub(crate) struct Flights {
    shards: Box<[Arc<Shard>]>,
    /// Keys may be chosen by strangers, so it is seeded at random; not where a schedule of threads is to be played again.
    hasher: Seeded,
    current: Arc<Current>,
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
        let current = Arc::new(Current::default());
        let shards = (0..SHARDS).map(|index| Arc::new(Shard::new(index, &current))).collect();
        Self { shards, hasher: Seeded::default(), current }
    }

    fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    fn shard(&self, hash: u64) -> &Arc<Shard> {
        // other bits than those by which a table in a shard finds its slots
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    fn sought<'a>(&self, text: &'a str) -> (&Arc<Shard>, Sought<'a>) {
        let hash = self.hash(text);
        (self.shard(hash), Sought { text, hash })
    }

    /// Joins the flight of `key` if it is of `epoch`, not doubted and `joinable`, else begins one.
    pub(crate) fn board(
        &self,
        key: &Arc<str>,
        epoch: u64,
        begun: Tick,
        loads: bool,
        joinable: impl FnOnce(&Flight) -> bool,
    ) -> Boarding {
        let (shard, sought) = self.sought(key);
        let mut slots = shard.lock();
        let joinable = |flight: &Arc<Flight>| !flight.doubted.load(Ordering::Relaxed) && joinable(flight);
        if let Some(joined) = slots.join(&sought as &dyn Hashed, epoch, joinable) {
            joined.shared.callers.fetch_add(1, Ordering::Relaxed);
            return Boarding::Joined(Seat {
                shard: Arc::clone(shard),
                flight: Arc::clone(joined.shared),
                contested: joined.contested,
                joining: Joining::Trusted,
            });
        }
        let id = slots.next_id();
        let key = Key { text: Arc::clone(key), hash: sought.hash };
        let flight = Arc::new(Flight::new(id, key.clone(), epoch, begun, loads));
        let detached = slots.begin(key, id, epoch, Arc::clone(&flight));
        drop(slots);
        if let Some(older) = detached {
            older.wake.notify_waiters();
        }
        let seat = Seat { shard: Arc::clone(shard), flight, contested: false, joining: Joining::Trusted };
        Boarding::Leads(Lead { seat, driven: false })
    }

    /// Detaches the flight of `key`: it installs nothing and nobody joins it any more.
    pub(crate) fn detach(&self, key: &str) {
        let (shard, sought) = self.sought(key);
        let detached = shard.lock().detach(&sought as &dyn Hashed);
        if let Some(flight) = detached {
            flight.wake.notify_waiters();
        }
    }

    /// Puts the flight of `key` in doubt: nobody joins it any more, and what it brings is installed suspect.
    ///
    /// Not detached: the push may be the echo of the flight's own lease or fill, and then what it brings is worth
    /// keeping.
    pub(crate) fn doubt(&self, key: &str) {
        let (shard, sought) = self.sought(key);
        if let Some(flight) = shard.lock().current(&sought as &dyn Hashed) {
            flight.doubted.store(true, Ordering::Relaxed);
        }
    }

    /// Wakes the flight of `key` if it waits for another process.
    pub(crate) fn wake(&self, key: &str) {
        let (shard, sought) = self.sought(key);
        let flight = shard.lock().current(&sought as &dyn Hashed).cloned();
        if let Some(flight) = flight {
            flight.wake.notify_waiters();
        }
    }

    /// Ends the flight's place in the table; its callers are told the value with stamp `told`, or nothing. Says whether
    /// it may install: then `install` runs, in the same critical section, with the epoch in which an entry that stands
    /// in the near store, inert, becomes valid: the flight's, or that of suspects if the flight was doubted.
    pub(crate) fn settle(&self, flight: &Flight, epoch: u64, told: Option<Stamp>, install: impl FnOnce(u64)) -> bool {
        let mut slots = self.shard(flight.key.hash).lock();
        let may = slots.settle(&flight.key as &dyn Hashed, flight.id, epoch, told);
        if may {
            let begun = if broken(Mutation::NoFlightEpoch) { epoch } else { flight.epoch };
            install(if flight.doubted.load(Ordering::Relaxed) { SUSPECT } else { begun });
            flight.settled.store(true, Ordering::Release);
        }
        may
    }

    /// Whether the flight is the current one of its key.
    pub(crate) fn is_current(&self, flight: &Flight) -> bool {
        let slots = self.shard(flight.key.hash).lock();
        slots.current(&flight.key as &dyn Hashed).is_some_and(|current| current.id == flight.id)
    }

    /// Tells the flights of these keys what was read beside them: as much as if each read were a flight of its own that
    /// was detached as it began. So none of them takes an older value for what callers get next.
    pub(crate) fn contest(&self, told: impl IntoIterator<Item = (impl AsRef<str>, Stamp)>) {
        for (key, stamp) in told {
            let (shard, sought) = self.sought(key.as_ref());
            let mut slots = shard.lock();
            let id = slots.next_id();
            slots.settle(&sought as &dyn Hashed, id, 0, Some(stamp));
        }
    }

    /// Whether no flight is current. One that begins once this was asked reads no older value than was read before.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a flight of `key` is current.
    pub(crate) fn has(&self, key: &str) -> bool {
        let (shard, sought) = self.sought(key);
        shard.lock().current(&sought as &dyn Hashed).is_some()
    }

    /// How many flights are current.
    pub(crate) fn len(&self) -> usize {
        self.current.sum()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn who_joins_a_flight_that_was_told_of_another_read_takes_its_value_only_if_it_settles() {
        let flights = Flights::new();
        let key: Arc<str> = "k".into();
        let board = || flights.board(&key, 1, Tick::ZERO, false, |_| true);
        let Boarding::Leads(lead) = board() else { panic!("nobody was there") };
        flights.contest([("k", Stamp(9)), ("nobody", Stamp(9))]);
        let Boarding::Joined(seat) = board() else { panic!("a flight was there") };
        assert!(seat.lost(), "what the flight brings may be older than what was read beside it");
        assert!(!flights.settle(lead.flight(), 1, Some(Stamp(8)), |_| {}), "and it installs nothing else");
        lead.end(Outcome::Done(None));
        assert_eq!(flights.len(), 0, "a key without a flight was told in vain");
    }

    #[test]
    fn a_flight_that_left_the_table_tells_its_end_to_whoever_joined_it() {
        let flights = Flights::new();
        let key: Arc<str> = "k".into();
        let board = || flights.board(&key, 1, Tick::ZERO, false, |_| true);
        let mut context = Context::from_waker(Waker::noop());
        for joins in [false, true] {
            let Boarding::Leads(lead) = board() else { panic!("nobody was there") };
            let flight = Arc::clone(lead.flight());
            let seat = if let (true, Boarding::Joined(seat)) = (joins, board()) { Some(seat) } else { None };
            let mut ended = seat.as_ref().map(|seat| Box::pin(seat.ended()));
            let mut told = || ended.as_mut().map(|ended| ended.as_mut().poll(&mut context));
            assert!(matches!(told(), None | Some(Poll::Pending)));
            assert!(flights.settle(&flight, 1, None, |_| {}));
            lead.end_apart(Outcome::Done(None));
            assert!(flight.is_over() && flights.is_empty());
            match told() {
                None => assert!(!joins),
                Some(told) => assert!(matches!(told, Poll::Ready(Outcome::Done(None)))),
            }
        }
    }

    #[test]
    fn flights_of_many_keys_are_told_apart_and_counted() {
        let flights = Flights::new();
        let keys: Vec<Arc<str>> = (0..1000).map(|n| n.to_string().into()).collect();
        let board = |key| flights.board(key, 1, Tick::ZERO, false, |_| true);
        let leads: Vec<Boarding> = keys.iter().map(board).collect();
        assert!(leads.iter().all(|boarding| matches!(boarding, Boarding::Leads(_))));
        assert_eq!(flights.len(), 1000);
        let seats: Vec<Boarding> = keys.iter().map(board).collect();
        for (lead, seat) in leads.iter().zip(&seats) {
            let (Boarding::Leads(lead), Boarding::Joined(seat)) = (lead, seat) else { panic!("it was there") };
            assert!(Arc::ptr_eq(lead.flight(), &seat.flight));
        }
        flights.detach("7");
        assert!(!flights.has("7") && flights.has("8"));
        assert_eq!(flights.len(), 999);
        drop((leads, seats));
        assert_eq!(flights.len(), 0);
    }
}
