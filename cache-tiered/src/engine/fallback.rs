//! Fail-safe: what is served when a load fails or is late.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{Entry, Error, ErrorKind, Tick};
use tokio::time::Instant;

use super::pauses::{Span, Why};
use super::{Engine, Where};
use crate::answer::{Freshness, Served, StaleReason, Tier};
use crate::coherence::{UNCONFIRMED, found_current, stands_in};
use crate::flight::{Flight, Outcome, Seat};
use crate::policy::Policy;
use crate::space::Space;

impl Engine {
    /// The fallback of a key that is left alone, if there is one near: no flight is needed for it.
    pub(super) fn paused(&self, near_key: &str, space: &Space) -> Option<Served> {
        space.policy.fail_safe?;
        let (why, _) = self.pauses.active(near_key, self.clock.now())?;
        Some(stale(self.near_fallback(near_key, space)?, Tier::Near, why.reason()))
    }

    /// What the near store still holds for a key past its deadline, if it may be served: all but its time is as for a
    /// hit.
    pub(super) fn near_fallback(&self, near_key: &str, space: &Space) -> Option<Arc<Entry>> {
        let near = self.near.as_ref()?;
        space.policy.fail_safe?;
        let line = self.names.line_of_near(near_key);
        let trust = self.trust_until(line);
        let entry = near.get(near_key)?;
        let current = entry.epoch() == self.epoch(line) && self.stands(&entry);
        let may = self.may_stand_in(line, &entry, trust, current, entry.epoch(), entry.confirmed());
        (may && (space.accepts)(&entry)).then_some(entry)
    }

    /// The fallback of a flight that failed or is late: what it found in the far store past its time, or what is near.
    pub(super) fn fall_back(&self, at: &Where, flight: &Flight, space: &Space, reason: StaleReason) -> Option<Served> {
        space.policy.fail_safe?;
        let trust = self.trust_until(at.line);
        if let Some(entry) = flight.fallback() {
            let linked = self.flights.is_current(flight) || flight.has_settled();
            let current = found_current(flight.epoch == self.epoch(at.line), linked, self.stands(entry));
            let may = self.may_stand_in(at.line, entry, trust, current, flight.epoch, flight.begun);
            if may && (space.accepts)(entry) {
                return Some(stale(Arc::clone(entry), Tier::Far, reason));
            }
        }
        Some(stale(self.near_fallback(&at.near, space)?, Tier::Near, reason))
    }

    /// The end of a flight for a caller with patience: past the soft timeout, counted from `since`, it is served a fallback,
    /// if there is one, and the flight goes on without it.
    pub(super) async fn patient(
        &self,
        at: &Where,
        seat: &Seat,
        space: &Space,
        may: bool,
        since: Instant,
    ) -> Result<Outcome, Served> {
        let Some((soft, fail_safe)) = space.policy.timeouts.soft.zip(space.policy.fail_safe).filter(|_| may) else {
            return Ok(seat.ended().await);
        };
        let late = self.pauses.active(&at.near, self.clock.now()).is_some();
        let ends = if late { since } else { since + soft };
        if let Ok(outcome) = tokio::time::timeout_at(ends, seat.ended()).await {
            return Ok(outcome);
        }
        match self.fall_back(at, &seat.flight, space, StaleReason::SoftTimeout) {
            Some(fallback) => {
                seat.flight.outlast();
                self.pauses.rest(&at.near, self.clock.now() + fail_safe.throttle, Why::Late);
                Err(fallback)
            }
            None => Ok(seat.ended().await),
        }
    }

    /// The outcome of a flight, or a fallback in place of its failure.
    pub(super) fn or_fallback(&self, at: &Where, flight: &Flight, space: &Space, may: bool, end: Outcome) -> Outcome {
        match end {
            Outcome::Failed(error) if may && excused(&error) => {
                let fallback = self.fall_back(at, flight, space, StaleReason::LoadFailed);
                fallback.map_or(Outcome::Failed(error), |served| Outcome::Done(Some(served)))
            }
            end => end,
        }
    }

    /// Whether an entry may be served past its deadline: the rule of fresh entries, and kept for long enough.
    fn may_stand_in(
        &self,
        line: usize,
        entry: &Entry,
        trust: Tick,
        current: bool,
        epoch: u64,
        confirmed: Tick,
    ) -> bool {
        let now = self.clock.now();
        if now >= entry.kept() || entry.header().is_negative() {
            return false;
        }
        let outage = self.cut_off(line).then_some(self.options.outage);
        let stands = epoch == UNCONFIRMED && self.surely_stands(entry);
        stands_in(epoch, confirmed, trust, current, stands, now, outage)
    }

    /// Notes that a load failed: whoever asks before the pause is over is told its error, or served a fallback.
    pub(super) fn note_failure(&self, at: &Where, flight: &Flight, space: &Space, error: &Error) {
        // what was not tried says nothing of the origin
        if !matches!(error.kind(), ErrorKind::Loader | ErrorKind::Timeout) {
            return;
        }
        // without a fallback a throttle would be that long an outage
        let fallback = || self.fall_back(at, flight, space, StaleReason::LoadFailed);
        let throttle = space.policy.fail_safe.filter(|_| fallback().is_some()).map(|fail_safe| fail_safe.throttle);
        let backoff = space.policy.backoff;
        if throttle.is_none() && backoff.is_none() {
            return;
        }
        let span = |failures| {
            let alone = backoff.map_or(Duration::ZERO, |backoff| backoff.pause(failures, fastrand::f64()));
            Span { alone, covered: throttle.unwrap_or(alone) }
        };
        self.pauses.failed(&at.near, self.clock.now(), error.clone(), span);
    }

    /// Why a flight that missed is not to load, if it isn't: a load failed a moment ago, here or, for `rest` yet, in
    /// another process.
    pub(super) fn held_back(&self, at: &Where, flight: &Flight, space: &Space, rest: Duration) -> Option<Error> {
        let policy = &space.policy;
        // what was invalidated by a tag, evicted or is too old would make a pause an outage of the key
        let covered = self.fall_back(at, flight, space, StaleReason::LoadFailed).is_some();
        if !rest.is_zero() && covered {
            return Some(self.rested(at, policy, rest));
        }
        if policy.fail_safe.is_none() && policy.backoff.is_none() {
            return None;
        }
        match self.pauses.told(&at.near, self.clock.now(), covered)? {
            (Why::Failed(error), left) => Some(error.with_retry_after(left)),
            (Why::Late, _) => None,
        }
    }

    /// Another process's load of the key failed a moment ago; it is left alone for `left`, by the server's clock, and here
    /// no longer than after a failure of our own: a clock that was set back would make it an outage of the key.
    pub(super) fn rested(&self, at: &Where, policy: &Policy, left: Duration) -> Error {
        let left = policy.fail_safe.map_or(left, |fail_safe| left.min(fail_safe.throttle));
        let text = "a load of the key failed in another process a moment ago, and the origin is given a pause";
        let error = Error::new(ErrorKind::Loader, text).with_operation("load").with_retry_after(left);
        self.pauses.rest(&at.near, self.clock.now() + left, Why::Failed(error.clone()));
        error
    }
}

/// Whether a fallback may stand in for an error.
fn excused(error: &Error) -> bool {
    use ErrorKind::{Loader, Overloaded, Timeout, Unavailable};
    matches!(error.kind(), Loader | Timeout | Overloaded | Unavailable)
}

pub(super) const fn stale(entry: Arc<Entry>, tier: Tier, reason: StaleReason) -> Served {
    Served { entry, tier, freshness: Freshness::Stale(reason) }
}
