//! Loading: the lease, the loader, the fill.

mod ends;
mod held;
mod task;
mod within;

use std::sync::Arc;
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{Entry, Error, ErrorKind, Result};
use tokio::time::Instant;

pub(crate) use self::held::Held;
pub(crate) use self::task::{LoadTask, late};
use super::fallback::stale;
use super::near::Probe;
use super::pauses::Why;
use super::read::ReadToLoad;
use super::trust::Footing;
use super::{Engine, Where};
use crate::answer::{Served, StaleReason, Tier};
use crate::consistency::Consistency;
use crate::flight::{Boarding, Flight, Lead, Outcome};
use crate::loaded::Loader;
use crate::space::Space;

/// How often a flight looks at the far store again when the key keeps changing under it.
const MOST_ROUNDS: u32 = 64;

/// How much longer than its deadline a caller waits for the flight's task, which has the same one or an earlier one, to tell
/// everybody at once.
pub(crate) const GRACE: Duration = Duration::from_millis(10);

impl Engine {
    /// Near, far, origin, as current as `wish` asks. One load per key in the process; one per key among processes while
    /// the far store answers. Whatever it waits for, it ends by the hard timeout.
    pub(crate) async fn load(
        self: &Arc<Self>,
        near_key: &str,
        space: &Arc<Space>,
        loader: Loader,
        wish: Consistency,
    ) -> Result<Served> {
        // a caller's patience is for its whole call
        let called = Instant::now();
        let hard = space.policy.timeouts.hard;
        match tokio::time::timeout_at(called + hard + GRACE, self.led(near_key, space, loader, wish, called)).await {
            Ok(loaded) => loaded,
            Err(_) => self.outwaited(near_key, space, wish == Consistency::Local),
        }
    }

    /// What a caller is told whose deadline is over while it waits: a fallback, if it `may` be, or that.
    pub(crate) fn outwaited(&self, near_key: &str, space: &Space, may: bool) -> Result<Served> {
        let fallback = if may { self.near_fallback(near_key, space) } else { None };
        fallback
            .map(|entry| stale(entry, Tier::Near, StaleReason::LoadFailed))
            .ok_or_else(|| late(space.policy.timeouts.hard))
    }

    async fn led(
        self: &Arc<Self>,
        near_key: &str,
        space: &Arc<Space>,
        loader: Loader,
        wish: Consistency,
        called: Instant,
    ) -> Result<Served> {
        let mut since = None;
        if wish != Consistency::Local {
            since = Some(self.clock.now());
            match self.get_as(&near_key.into(), space, wish).await {
                Ok(Some(served)) => return Ok(served),
                Err(error) if error.kind() == ErrorKind::Invalid => return Err(error),
                // a far store that can't tell: the origin can
                Ok(None) | Err(_) => {}
            }
        }
        let mut loader = Some(loader);
        let mut missed = false;
        // what is past its time is for callers that want no more than the namespace promises
        let may_fall_back = since.is_none() && space.policy.fail_safe.is_some();
        loop {
            let suspect = match self.probe_for(near_key, space) {
                Probe::Hit(entry, freshness) if since.is_none() => {
                    return Ok(Served { entry, tier: Tier::Near, freshness });
                }
                Probe::Suspect(entry) => Some(entry),
                Probe::Hit(..) | Probe::Miss => None,
            };
            if may_fall_back && let Some(served) = self.paused(near_key, space) {
                return Ok(served);
            }
            let at = self.place(near_key)?;
            let footing = if self.hears() { self.footing(at.line).await } else { Footing::Trusted };
            if footing == Footing::CutOff
                && since.is_none()
                && let Probe::Hit(entry, freshness) = self.probe_for(near_key, space)
            {
                return Ok(Served { entry, tier: Tier::Near, freshness });
            }
            let outcome = match self.board(&at, true, since) {
                Boarding::Joined(seat) if within::runs_within(&seat.flight) => {
                    let end = Outcome::Failed(within::waits_for_itself());
                    self.or_fallback(&at, &seat.flight, space, may_fall_back, end)
                }
                Boarding::Joined(seat) => {
                    self.counters.count(Metric::Joined);
                    match self.patient(&at, &seat, space, may_fall_back, called).await {
                        Err(fallback) => Outcome::Done(Some(fallback)),
                        Ok(outcome) => {
                            let outcome = self.accept(&at, &seat, outcome);
                            if !seat.flight.loads && matches!(outcome, Outcome::Done(None) | Outcome::Failed(_)) {
                                // it only read; what it missed is loaded by a flight of our own, which needs to see a
                                // fallback for itself
                                missed = matches!(outcome, Outcome::Done(None)) && space.policy.fail_safe.is_none();
                                Outcome::Abandoned
                            } else {
                                self.or_fallback(&at, &seat.flight, space, may_fall_back, outcome)
                            }
                        }
                    }
                }
                Boarding::Leads(lead) => {
                    let Some(loader) = loader.take() else {
                        return Err(Error::new(ErrorKind::Loader, "the load was cancelled"));
                    };
                    let call = Call { space, far_works: footing == Footing::Trusted, missed, may_fall_back, called };
                    self.lead(&at, lead, &call, loader, suspect).await
                }
            };
            match outcome {
                Outcome::Done(Some(served)) => return Ok(served),
                Outcome::Failed(error) => return Err(error),
                Outcome::Done(None) | Outcome::Abandoned => {}
            }
        }
    }

    /// The last change that this process knows of, as a load begins.
    pub(crate) fn s0(&self) -> u64 {
        self.lines[0].view.applied()
    }

    /// Whether there is a far store whose changes can be heard.
    pub(crate) fn hears(&self) -> bool {
        self.far.as_ref().is_some_and(|far| far.bus().is_some())
    }

    /// The read phase of a flight that will load. `None` if its caller has a fallback near and waited for the soft
    /// timeout: then its patience is over.
    async fn read_patiently(
        &self,
        at: &Where,
        flight: &Flight,
        space: &Space,
        suspect: Option<Arc<Entry>>,
        may_fall_back: bool,
        called: Instant,
    ) -> Option<Result<ReadToLoad>> {
        let read = self.read_to_load(at, flight, space, suspect);
        let patience = space.policy.timeouts.soft.zip(space.policy.fail_safe).filter(|_| may_fall_back);
        let Some((soft, fail_safe)) = patience.filter(|_| self.near_fallback(&at.near, space).is_some()) else {
            return Some(read.await);
        };
        let read = tokio::time::timeout_at(called + soft, read).await.ok();
        if read.is_none() {
            self.pauses.rest(&at.near, self.clock.now() + fail_safe.throttle, Why::Late);
        }
        read
    }

    /// Drives a flight: the read phase in the caller (a far hit needs no task), the rest in a task of its own.
    async fn lead(
        self: &Arc<Self>,
        at: &Where,
        mut lead: Lead,
        call: &Call<'_>,
        loader: Loader,
        suspect: Option<Arc<Entry>>,
    ) -> Outcome {
        let Call { space, far_works, missed, may_fall_back, called } = *call;
        let flight = Arc::clone(lead.flight());
        let mut far_works = far_works && self.far.is_some();
        let mut rest = Duration::ZERO;
        if far_works && !missed {
            match self.read_patiently(at, &flight, space, suspect, may_fall_back, called).await {
                // the flight's task asks again, beside the caller's fallback
                None => {}
                Some(Ok(ReadToLoad::Found(entry, tier))) => {
                    let outcome =
                        self.end_read(self.clock.now(), at, lead, space, Ok(Some((Arc::clone(&entry), tier))));
                    if self.due(&at.near, &entry, space, true) {
                        self.refresh(&at.near, entry, space, loader);
                    }
                    return outcome;
                }
                Some(Ok(ReadToLoad::Missed(left))) => rest = left,
                Some(Err(error)) if error.kind() == ErrorKind::Invalid => {
                    return self.end_read(self.clock.now(), at, lead, space, Err(error));
                }
                Some(Err(_)) => far_works = false,
            }
        }
        if let Some(error) = self.held_back(at, &flight, space, rest) {
            self.conclude_failed(at, &flight, &space.policy);
            lead.end(Outcome::Failed(error.clone()));
            return self.or_fallback(at, &flight, space, may_fall_back, Outcome::Failed(error));
        }
        flight.missed();
        let task = LoadTask::new(self, at.clone(), Arc::clone(&flight), space);
        let due = called + space.policy.timeouts.hard;
        let handle = tokio::spawn(within::within(&flight, task.run(loader, far_works, due)));
        flight.set_task(handle.abort_handle());
        lead.hand_over();
        match self.patient(at, &lead.seat, space, may_fall_back, called).await {
            Err(fallback) => Outcome::Done(Some(fallback)),
            Ok(outcome) => self.or_fallback(at, &flight, space, may_fall_back, outcome),
        }
    }
}

/// What a caller that leads a flight wants and knows.
struct Call<'a> {
    space: &'a Arc<Space>,
    far_works: bool,
    /// Whether the far store has just said that it does not hold the key.
    missed: bool,
    may_fall_back: bool,
    /// When the call began.
    called: Instant,
}
