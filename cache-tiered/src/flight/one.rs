//! A flight: its stages, and what drives it.

use std::sync::{Arc, OnceLock, PoisonError};

use cache_core::{Entry, Error, ErrorKind, Tick};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::key::Key;
use crate::answer::Served;
use crate::coherence::FlightId;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};

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
    pub(super) key: Key,
    /// No other flight of the key has it.
    pub(crate) id: FlightId,
    pub(crate) epoch: u64,
    pub(crate) begun: Tick,
    /// Whether it loads, or only reads the far store.
    pub(crate) loads: bool,
    pub(super) callers: AtomicUsize,
    /// Set under the table's lock: the key may have been changed since the flight began.
    pub(super) doubted: AtomicBool,
    /// Whether it ended as the current flight and, had it something to install, installed it.
    pub(super) settled: AtomicBool,
    /// Whether it loads what the stores still hold.
    refreshes: AtomicBool,
    /// Whether it goes on without callers: one was served a fallback meanwhile.
    pub(super) lasting: AtomicBool,
    /// What the far store held for the key, past its time.
    fallback: OnceLock<Arc<Entry>>,
    stage: Mutex<Stage>,
    /// Whether it has ended; set under the stage's lock, or with nobody there to see the stage.
    over: AtomicBool,
    /// Rung when the stage changed. Callers wake in the order in which they came: a simulation replays it.
    pub(super) moved: Notify,
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
    /// A flight of one caller that begins to read.
    pub(super) fn new(id: FlightId, key: Key, epoch: u64, begun: Tick, loads: bool) -> Self {
        Self {
            key,
            id,
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
            over: AtomicBool::new(false),
            moved: Notify::new(),
            wake: Notify::new(),
            runner: OnceLock::new(),
        }
    }

    pub(super) fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on to `next` if `may` holds for the stage so far; says whether it did.
    fn advance(&self, next: Stage, may: impl FnOnce(&Stage) -> bool) -> bool {
        let mut stage = self.stage();
        let moves = may(&stage);
        if moves {
            if matches!(next, Stage::Ended(_)) {
                self.over.store(true, Ordering::Release);
            }
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

    /// Whether its leader is its only caller. Of a flight that has left the table: for good.
    pub(super) fn is_lone(&self) -> bool {
        // joined and left under the lock under which it left the table
        self.callers.load(Ordering::Relaxed) == 1
    }

    /// Ends a flight that only its leader knows: nobody reads its stage or waits for it.
    pub(super) fn close_unseen(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// As [`end`](Self::end); whether it was the last open flight of its crew.
    fn close(&self, outcome: Outcome) -> bool {
        let first = self.advance(Stage::Ended(outcome), |stage| !matches!(stage, Stage::Ended(_)));
        first && matches!(self.runner.get(), Some(Runner::Batch(crew)) if crew.leave())
    }

    /// The last caller left: ends the flight's part of its task.
    pub(super) fn abandon(&self) {
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
        self.over.load(Ordering::Acquire)
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
