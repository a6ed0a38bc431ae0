//! A caller's hold on a flight.

use std::sync::Arc;

use super::key::Hashed;
use super::shard::Shard;
use super::{Flight, Outcome, Stage};
use crate::coherence::Joining;
use crate::sync::atomic::Ordering;

/// The seat of the caller that drives a flight. Dropped before the flight ended or went on in a task, it ends the flight
/// as abandoned, so that whoever joined does not wait for nobody.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(crate) seat: Seat,
    pub(super) driven: bool,
}

impl Lead {
    pub(crate) fn flight(&self) -> &Arc<Flight> {
        &self.seat.flight
    }

    /// Ends a flight that has left the table, as every one has that settled.
    ///
    /// Nobody joins it any more. If nobody did, nobody waits for its end.
    pub(crate) fn end_apart(mut self, outcome: Outcome) -> Outcome {
        self.driven = true;
        let flight = &self.seat.flight;
        if flight.is_lone() {
            flight.close_unseen();
        } else {
            flight.end(outcome.clone());
        }
        outcome
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
            let Seat { shard, flight, .. } = &self.seat;
            shard.lock().settle(&flight.key as &dyn Hashed, flight.id, flight.epoch, None);
            flight.end(Outcome::Abandoned);
        }
    }
}

/// A caller's hold on a flight. When the last one is dropped before the flight ended, the flight is cancelled.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Where the flight's key has its slot.
    pub(super) shard: Arc<Shard>,
    pub(crate) flight: Arc<Flight>,
    /// Whether a newer value may have been told to others since the flight began.
    pub(super) contested: bool,
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
        let mut slots = self.shard.lock();
        let last = self.flight.callers.fetch_sub(1, Ordering::Relaxed) == 1;
        if !last || self.flight.is_over() || self.flight.lasting.load(Ordering::Relaxed) {
            return;
        }
        slots.settle(&self.flight.key as &dyn Hashed, self.flight.id, self.flight.epoch, None);
        drop(slots);
        self.flight.abandon();
    }
}
