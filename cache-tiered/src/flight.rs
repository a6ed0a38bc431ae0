//! One load per key in a process: the flight table, and how a flight ends.

use std::hash::BuildHasher;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock, PoisonError};

use cache_core::{Entry, Error, ErrorKind, Stamp, Tick};
use foldhash::fast::{FixedState, RandomState};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::answer::Served;
use crate::coherence::mutate::{Mutation, broken};
use crate::coherence::{Fence, FlightId, Joining, SUSPECT};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};

const SHARDS: usize = 64;

/// How a flight ended, told to everybody who waits for it.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// With an entry; or with nothing found, if it was only a read.
    Done(Option<Served>),
    /// The far store or the loader failed.
    Failed(Error),
    /// The caller that drove it went away before it was known what the far store holds: board again.
    Abandoned,
}

impl Outcome {
    /// The result for a caller; `None` if the caller has to board again.
    pub(crate) fn into_result(self) -> Option<cache_core::Result<Option<Served>>> {
        match self {
            Self::Done(served) => Some(Ok(served)),
            Self::Failed(error) => Some(Err(error)),
            Self::Abandoned => None,
        }
    }
}

/// How far a flight has come.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// Reading the far store.
    Reading,
    /// Not found in any tier; loading, or waiting for another process that loads.
    Missed,
    /// Over.
    Ended(Outcome),
}

/// What a flight shares with its callers.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) id: FlightId,
    pub(crate) epoch: u64,
    pub(crate) begun: Tick,
    /// Whether it loads, or only reads the far store.
    pub(crate) loads: bool,
    callers: AtomicUsize,
    /// Set under the table's lock: the key may have been changed since the flight began.
    doubted: AtomicBool,
    /// Whether it ended as the current flight and, had it something to install, installed it.
    settled: AtomicBool,
    /// Whether it loads what the stores still hold.
    refreshes: AtomicBool,
    /// Whether it goes on without callers: one was served a fallback meanwhile.
    lasting: AtomicBool,
    /// What the far store held for the key, past its time.
    fallback: OnceLock<Arc<Entry>>,
    stage: Mutex<Stage>,
    /// Rung when the stage changed. Callers wake in the order in which they came: a simulation replays it.
    moved: Notify,
    /// Rung when the key changed or its lease was filled elsewhere.
    pub(crate) wake: Notify,
    runner: OnceLock<Runner>,
}

/// What drives a flight from its miss on.
#[derive(Debug)]
enum Runner {
    /// A task of its own.
    Alone(AbortHandle),
    /// A task that drives several.
    Batch(Arc<Crew>),
}

/// The flights that one task drives: it is cancelled once each of them ended or was left by its last caller.
#[derive(Debug)]
pub(crate) struct Crew {
    open: AtomicUsize,
    task: OnceLock<AbortHandle>,
}

impl Crew {
    /// A crew of `n` flights.
    pub(crate) fn of(n: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(n), task: OnceLock::new() })
    }

    pub(crate) fn set_task(&self, task: AbortHandle) {
        // set once, by the caller that began the flights and still sits in them
        let _ = self.task.set(task);
    }

    /// One flight less; whether it was the last.
    fn leave(&self) -> bool {
        self.open.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

impl Flight {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on to `next` if `may` holds for the stage so far; says whether it did.
    fn advance(&self, next: Stage, may: impl FnOnce(&Stage) -> bool) -> bool {
        let mut stage = self.stage();
        let moves = may(&stage);
        if moves {
            *stage = next;
            drop(stage);
            self.moved.notify_waiters();
        }
        moves
    }

    pub(crate) fn missed(&self) {
        self.advance(Stage::Missed, |stage| matches!(stage, Stage::Reading));
    }

    /// Ends the flight; the first end counts.
    pub(crate) fn end(&self, outcome: Outcome) {
        self.close(outcome);
    }

    /// As [`end`](Self::end); whether it was the last open flight of its crew.
    fn close(&self, outcome: Outcome) -> bool {
        let first = self.advance(Stage::Ended(outcome), |stage| !matches!(stage, Stage::Ended(_)));
        first && matches!(self.runner.get(), Some(Runner::Batch(crew)) if crew.leave())
    }

    /// The last caller left: ends the flight's part of its task.
    fn abandon(&self) {
        let last = self.close(Outcome::Failed(Error::new(ErrorKind::Loader, "the load was cancelled")));
        match self.runner.get() {
            Some(Runner::Alone(task)) => task.abort(),
            Some(Runner::Batch(crew)) if last => {
                if let Some(task) = crew.task.get() {
                    task.abort();
                }
            }
            Some(Runner::Batch(_)) | None => {}
        }
    }

    /// What the far store held for the key when the flight asked it, past its time; not yet judged.
    pub(crate) fn fallback(&self) -> Option<&Arc<Entry>> {
        self.fallback.get()
    }

    pub(crate) fn set_fallback(&self, entry: Arc<Entry>) {
        // the first look counts
        let _ = self.fallback.set(entry);
    }

    /// The flight loads ahead of need: callers that only read don't wait for it.
    pub(crate) fn set_refreshes(&self) {
        self.refreshes.store(true, Ordering::Relaxed);
    }

    pub(crate) fn refreshes(&self) -> bool {
        self.refreshes.load(Ordering::Relaxed)
    }

    /// The flight goes on when its callers leave.
    pub(crate) fn outlast(&self) {
        self.lasting.store(true, Ordering::Relaxed);
    }

    /// Whether it ended as the current flight.
    pub(crate) fn has_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.stage(), Stage::Ended(_))
    }

    pub(crate) fn set_task(&self, task: AbortHandle) {
        // set once, by the caller that began the flight
        let _ = self.runner.set(Runner::Alone(task));
    }

    /// The flight goes on in the task of `crew`.
    pub(crate) fn join_crew(&self, crew: &Arc<Crew>) {
        let _ = self.runner.set(Runner::Batch(Arc::clone(crew)));
    }
}

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
        let flight = Arc::new(Flight {
            id: FlightId(self.next.fetch_add(1, Ordering::Relaxed)),
            epoch,
            begun,
            loads,
            callers: AtomicUsize::new(1),
            doubted: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            refreshes: AtomicBool::new(false),
            lasting: AtomicBool::new(false),
            fallback: OnceLock::new(),
            stage: Mutex::new(Stage::Reading),
            moved: Notify::new(),
            wake: Notify::new(),
            runner: OnceLock::new(),
        });
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

/// The seat of the caller that drives a flight. Dropped before the flight ended or went on in a task, it ends the flight
/// as abandoned, so that whoever joined does not wait for nobody.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(crate) seat: Seat,
    driven: bool,
}

impl Lead {
    pub(crate) fn flight(&self) -> &Arc<Flight> {
        &self.seat.flight
    }

    /// Ends the flight.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.driven = true;
        self.seat.flight.end(outcome);
    }

    /// The flight goes on in a task that ends it; the leader becomes a caller like others.
    pub(crate) fn hand_over(&mut self) {
        self.driven = true;
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.driven {
            let flight = &self.seat.flight;
            self.seat.flights.settle(&self.seat.key, flight, flight.epoch, None, |_| {});
            flight.end(Outcome::Abandoned);
        }
    }
}

/// A caller's hold on a flight. When the last one is dropped before the flight ended, the flight is cancelled.
#[derive(Debug)]
pub(crate) struct Seat {
    flights: Arc<Flights>,
    key: Arc<str>,
    pub(crate) flight: Arc<Flight>,
    /// Whether a newer value may have been told to others since the flight began.
    contested: bool,
    /// On what footing the flight was joined.
    pub(crate) joining: Joining,
}

impl Seat {
    /// Whether the flight was contested when it was joined, and did not settle.
    pub(crate) fn lost(&self) -> bool {
        self.contested && !self.flight.has_settled()
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> Outcome {
        self.reaches(|stage| match stage {
            Stage::Ended(outcome) => Some(outcome.clone()),
            Stage::Reading | Stage::Missed => None,
        })
        .await
    }

    /// Waits until it is known whether the far store has the key; a miss is `None` whatever the flight does next.
    pub(crate) async fn read(&self) -> Outcome {
        self.reaches(|stage| match stage {
            Stage::Ended(outcome) => Some(outcome.clone()),
            Stage::Missed => Some(Outcome::Done(None)),
            Stage::Reading => None,
        })
        .await
    }

    async fn reaches(&self, reached: impl Fn(&Stage) -> Option<Outcome>) -> Outcome {
        loop {
            // listening begins before the look, so that no change in between is missed
            let moved = self.flight.moved.notified();
            let outcome = reached(&self.flight.stage());
            if let Some(outcome) = outcome {
                return outcome;
            }
            moved.await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.flight.is_over() {
            return;
        }
        // under the lock, so that nobody joins between the count and the unlinking
        let mut shard = self.flights.shard(&self.key);
        let last = self.flight.callers.fetch_sub(1, Ordering::Relaxed) == 1;
        if !last || self.flight.is_over() || self.flight.lasting.load(Ordering::Relaxed) {
            return;
        }
        shard.settle(&*self.key, self.flight.id, self.flight.epoch, None);
        drop(shard);
        self.flight.abandon();
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
