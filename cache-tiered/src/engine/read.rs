//! The read phase of a flight, and reads that never load.

use std::sync::Arc;
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{Entry, Found, Result};

use super::admit::Admitted;
use super::near::Probe;
use super::trust::Footing;
use super::{Engine, Entries, Where};
use crate::answer::{Freshness, Served, StaleReason, Tier};
use crate::coherence::mutate::{Mutation, broken};
use crate::coherence::{Joining, Take, may_join, take_joined};
use crate::flight::{Boarding, Flight, Lead, Outcome, Seat};
use crate::space::Space;

/// What a flight that will load found in the far store.
pub(super) enum ReadToLoad {
    Found(Arc<Entry>, Tier),
    /// Nothing to serve; for this long nobody is to load it.
    Missed(Duration),
}

impl Engine {
    /// Near, then far; never loads.
    pub(crate) async fn get(self: &Arc<Self>, near_key: &Arc<str>, space: &Arc<Space>) -> Result<Option<Served>> {
        if self.reads_bare() && self.far.is_some() {
            let read = self.read_one(near_key, &Entries(space)).await?;
            if let Some(served) = read.as_ref().filter(|_| space.policy.sliding.is_some()) {
                self.due(near_key, &served.entry, space, false);
            }
            return Ok(read);
        }
        loop {
            let suspect = match self.probe_for(near_key, space) {
                Probe::Hit(entry, freshness) => return Ok(Some(Served { entry, tier: Tier::Near, freshness })),
                Probe::Suspect(entry) => Some(entry),
                Probe::Miss => None,
            };
            let at = self.place_shared(near_key)?;
            if self.far.is_none() {
                if self.is_arriving(near_key) {
                    tokio::task::yield_now().await;
                    continue;
                }
                return Ok(None);
            }
            // one moment for all that comes before the far store is asked: an earlier one only says less
            let mut now = self.clock.now();
            if now >= self.trust_until(at.line) {
                if self.footing(at.line).await == Footing::CutOff {
                    if let Probe::Hit(entry, freshness) = self.probe_for(near_key, space) {
                        return Ok(Some(Served { entry, tier: Tier::Near, freshness }));
                    }
                    return Err(self.unreachable());
                }
                now = self.clock.now();
            }
            let outcome = match self.board_at(now, &at, false, None) {
                Boarding::Joined(seat) => {
                    self.counters.count(Metric::Joined);
                    self.accept(&at, &seat, seat.read().await)
                }
                Boarding::Leads(lead) => self.lead_read(&at, lead, space, suspect).await,
            };
            match outcome {
                Outcome::Done(served) => return Ok(served),
                Outcome::Failed(error) => return Err(error),
                Outcome::Abandoned => {}
            }
        }
    }

    /// What near or far hold, with no trace of the question.
    pub(crate) async fn peek(&self, near_key: &str, space: &Space, local: bool) -> Result<Option<Served>> {
        if let Probe::Hit(entry, freshness) = self.probe_for(near_key, space)
            && (local || self.far.is_none())
        {
            return Ok(Some(Served { entry, tier: Tier::Near, freshness }));
        }
        let at = self.place(near_key)?;
        let Some(far) = &self.far else { return Ok(None) };
        if self.footing(at.line).await == Footing::CutOff {
            return Err(self.unreachable());
        }
        let sent = self.clock.now();
        let Some(found) = far.read(&self.clock, &self.counters, far.leases().read(&at.far)).await? else {
            return Ok(None);
        };
        Ok(match self.admit(&at, &found, sent, space).await? {
            Admitted::Usable(entry)
                if self.floors.admits(&at.near, entry.header(), sent) && (space.accepts)(&entry) =>
            {
                Some(Served::fresh(entry, Tier::Far))
            }
            _ => None,
        })
    }

    /// Whether an entry was put near and a flight is about to say whether it may be served.
    fn is_arriving(&self, near_key: &str) -> bool {
        let inert = |near: &Arc<dyn cache_core::LocalStore>| near.get(near_key).is_some_and(|entry| entry.epoch() == 0);
        self.near.as_ref().is_some_and(inert) && self.flights.has(near_key)
    }

    /// Boards the flight of a key; with `since`, only one that began then or later is joined.
    pub(crate) fn board(&self, at: &Where, loads: bool, since: Option<cache_core::Tick>) -> Boarding {
        self.board_at(self.clock.now(), at, loads, since)
    }

    /// As [`board`](Self::board), for a caller that came at `now` or before.
    pub(crate) fn board_at(
        &self,
        now: cache_core::Tick,
        at: &Where,
        loads: bool,
        since: Option<cache_core::Tick>,
    ) -> Boarding {
        let trust = self.trust_until(at.line);
        // with trust nobody asks for the window, nor for whether beats fail
        let cut_off = now >= trust && self.cut_off(at.line);
        let window = if cut_off { self.options.bound.max(self.options.outage) } else { self.options.bound };
        let joining = |flight: &Flight| may_join(trust, now, flight.begun, self.options.bound, window);
        let mut boarding = self.flights.board(&at.near, self.epoch(at.line), now, loads, |flight| {
            let serves = loads || !flight.refreshes();
            serves && since.is_none_or(|since| flight.begun >= since) && joining(flight).is_some()
        });
        if let Boarding::Joined(seat) = &mut boarding {
            seat.joining = joining(&seat.flight).unwrap_or(Joining::Trusted);
        }
        boarding
    }

    /// What the outcome of a flight is good for, for a caller that joined it.
    pub(crate) fn accept(&self, at: &Where, seat: &Seat, outcome: Outcome) -> Outcome {
        let Outcome::Done(Some(served)) = outcome else { return outcome };
        // in a later epoch it is not known any more which bumps came before the flight was joined
        let same = seat.flight.epoch == self.epoch(at.line) || broken(Mutation::NoFlightEpoch);
        let stands = same && self.stands(&served.entry);
        match take_joined(seat.joining, served.tier == Tier::Origin, stands, seat.lost()) {
            Take::Plain => Outcome::Done(Some(served)),
            Take::Unconfirmed => {
                let freshness = Freshness::Stale(StaleReason::Unconfirmed);
                Outcome::Done(Some(Served { freshness, ..served }))
            }
            Take::Again => Outcome::Abandoned,
        }
    }

    /// Drives a flight that only reads, to its end.
    async fn lead_read(
        self: &Arc<Self>,
        at: &Where,
        lead: Lead,
        space: &Arc<Space>,
        suspect: Option<Arc<Entry>>,
    ) -> Outcome {
        let read = self.read_phase(at, space, suspect, lead.flight().begun).await;
        // of what may be due, a read that can't load does one thing: it makes a ttl count anew
        let slides = space.policy.sliding.is_some();
        let found = if slides { read.as_ref().ok().cloned().flatten() } else { None };
        let outcome = self.end_read(self.clock.now(), at, lead, space, read);
        if let Some((entry, _)) = found {
            self.due(&at.near, &entry, space, false);
        }
        outcome
    }

    /// Ends a flight that only read: installs what it found, at `now` or later, and tells whoever waits.
    pub(crate) fn end_read(
        &self,
        now: cache_core::Tick,
        at: &Where,
        lead: Lead,
        space: &Space,
        read: Result<Option<(Arc<Entry>, Tier)>>,
    ) -> Outcome {
        let outcome = match read {
            Ok(Some((entry, tier))) => {
                if tier == Tier::Near {
                    self.conclude_confirmed(now, at, lead.flight(), &entry);
                } else {
                    self.conclude_as_of(now, at, lead.flight(), &entry, &space.policy);
                }
                Outcome::Done(Some(self.or_written(&at.near, space, Served::fresh(entry, tier))))
            }
            Ok(None) => {
                self.conclude_empty(at, lead.flight());
                Outcome::Done(None)
            }
            Err(error) => {
                self.conclude_empty(at, lead.flight());
                Outcome::Failed(error)
            }
        };
        lead.end_apart(outcome)
    }

    /// Asks the far store, at `sent` or later: the stamp alone for a suspect near entry, else the frame.
    pub(crate) async fn read_phase(
        &self,
        at: &Where,
        space: &Space,
        suspect: Option<Arc<Entry>>,
        sent: cache_core::Tick,
    ) -> Result<Option<(Arc<Entry>, Tier)>> {
        if let Some(entry) = suspect
            && Box::pin(self.revalidate(at, &entry)).await?
        {
            return Ok(Some((entry, Tier::Near)));
        }
        Ok(self.read_far(at, space, sent).await?.map(|entry| (entry, Tier::Far)))
    }

    /// As [`read_phase`](Self::read_phase), for a flight that will load if there is nothing: what is past its time is
    /// left with the flight. The time for which nobody is to load the key comes with a miss.
    pub(super) async fn read_to_load(
        &self,
        at: &Where,
        flight: &Flight,
        space: &Space,
        suspect: Option<Arc<Entry>>,
    ) -> Result<ReadToLoad> {
        if let Some(entry) = suspect
            && self.revalidate(at, &entry).await?
        {
            return Ok(ReadToLoad::Found(entry, Tier::Near));
        }
        let Some(far) = &self.far else { return Ok(ReadToLoad::Missed(Duration::ZERO)) };
        let sent = self.clock.now();
        match far.read(&self.clock, &self.counters, far.leases().read(&at.far)).await? {
            Some(found) => self.take_to_load(at, flight, &found, sent, space).await,
            None => Ok(ReadToLoad::Missed(Duration::ZERO)),
        }
    }

    /// What was found by a flight that will load if it can't be served.
    pub(super) async fn take_to_load(
        &self,
        at: &Where,
        flight: &Flight,
        found: &Found,
        sent: cache_core::Tick,
        space: &Space,
    ) -> Result<ReadToLoad> {
        match self.sift(at, found, sent, space).await? {
            Admitted::Usable(entry) => Ok(ReadToLoad::Found(entry, Tier::Far)),
            Admitted::Stale(entry, rest) => {
                flight.set_fallback(entry);
                Ok(ReadToLoad::Missed(rest))
            }
            Admitted::Miss | Admitted::Junk => Ok(ReadToLoad::Missed(Duration::ZERO)),
        }
    }
}
