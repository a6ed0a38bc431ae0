//! Reading: the near probe, and the read phase of a flight.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_core::observe::Metric;
use cache_core::{Entry, Found, Frame, Header, Result, Stamp, State, Tags, envelope};

use super::trust::Footing;
use super::{Engine, Where};
use crate::answer::{Freshness, Served, StaleReason, Tier};
use crate::coherence::mutate::{Mutation, broken};
use crate::coherence::{Joining, Judged, Take, UNCONFIRMED, Worth, doubtful, is_fresh, may_join, take_joined};
use crate::flight::{Boarding, Flight, Lead, Outcome, Seat};
use crate::space::Space;

/// What the near store says.
#[derive(Debug)]
pub(crate) enum Probe {
    /// Serve it.
    Hit(Arc<Entry>, Freshness),
    /// There, but of an earlier epoch: its stamp decides.
    Suspect(Arc<Entry>),
    /// Nothing to serve.
    Miss,
}

/// What a near hit meets.
#[derive(Debug)]
pub(crate) enum Look {
    /// Most often this.
    Plain(Probe),
    /// A hit within the bound; by its time there may be something to [do](Engine::due) about it.
    Due(Arc<Entry>),
}

/// What bytes from the far store turned out to be.
enum Admitted {
    Usable(Arc<Entry>),
    /// Past its time, but kept as a fallback; for how long yet nobody is to load the key.
    Stale(Arc<Entry>, Duration),
    Miss,
    Junk,
}

/// What a flight that will load found in the far store.
pub(super) enum ReadToLoad {
    Found(Arc<Entry>, Tier),
    /// Nothing to serve; for this long nobody is to load it.
    Missed(Duration),
}

impl Engine {
    /// Looks into the near store. No future, no lock, no allocation.
    ///
    /// The order matters (see [`View`](crate::coherence::View)): trust, entry, epoch, clock.
    #[inline]
    pub(crate) fn look(&self, near_key: &str) -> Look {
        let Some(near) = &self.near else { return Look::Plain(Probe::Miss) };
        let line = self.names.line_of_near(near_key);
        let trust = self.trust_until(line);
        let Some(entry) = near.get(near_key) else { return Look::Plain(Probe::Miss) };
        let trust = if broken(Mutation::TrustAfterEntry) { self.trust_until(line) } else { trust };
        let current = entry.epoch() == self.epoch(line) && self.stands(&entry);
        let now = self.clock.now();
        let fresh = is_fresh(trust, current, now);
        if fresh && now < entry.attention() {
            return Look::Plain(Probe::Hit(entry, Freshness::WithinBound));
        }
        self.look_closer(line, entry, fresh, current, now)
    }

    #[cold]
    fn look_closer(&self, line: usize, entry: Arc<Entry>, fresh: bool, current: bool, now: cache_core::Tick) -> Look {
        if now >= entry.deadline() {
            return Look::Plain(Probe::Miss);
        }
        if fresh { Look::Due(entry) } else { Look::Plain(self.probe_untrusted(line, entry, current, now)) }
    }

    /// Looks into the near store and leaves what is due to others.
    pub(crate) fn probe(&self, near_key: &str) -> Probe {
        match self.look(near_key) {
            Look::Plain(probe) => probe,
            Look::Due(entry) => Probe::Hit(entry, Freshness::WithinBound),
        }
    }

    /// As [`probe`](Self::probe), for a key space: an entry that its codec does not read is a miss.
    pub(crate) fn probe_for(&self, near_key: &str, space: &Space) -> Probe {
        if let Some(entry) = self.written_for(near_key, space) {
            return Probe::Hit(entry, Freshness::WithinBound);
        }
        match self.probe(near_key) {
            Probe::Hit(entry, _) | Probe::Suspect(entry) if !(space.accepts)(&entry) => Probe::Miss,
            probe => probe,
        }
    }

    fn probe_untrusted(&self, line: usize, entry: Arc<Entry>, current: bool, now: cache_core::Tick) -> Probe {
        if self.work.is_closed() {
            return Probe::Miss;
        }
        let outage = self.cut_off(line).then_some(self.options.outage);
        let (trust, epoch) = (self.trust_until(line), entry.epoch());
        let stands = epoch == UNCONFIRMED && self.surely_stands(&entry);
        match doubtful(epoch, entry.confirmed(), trust, current, stands, now, outage) {
            Worth::Fresh => Probe::Hit(entry, Freshness::WithinBound),
            Worth::Unconfirmed => {
                if broken(Mutation::OutageFromServe) {
                    entry.confirm(UNCONFIRMED, now);
                }
                Probe::Hit(entry, Freshness::Stale(StaleReason::Unconfirmed))
            }
            Worth::Suspect => Probe::Suspect(entry),
            Worth::Nothing => Probe::Miss,
        }
    }

    /// Whether no tag of the entry was bumped since its load began, as far as this process knows.
    #[inline]
    pub(super) fn stands(&self, entry: &Entry) -> bool {
        let s0 = entry.header().s0;
        s0 >= self.lines[0].view.cleared() && (entry.tags().is_empty() || self.tags_stand(s0, entry.tags()))
    }

    /// Whether that is sure without asking the far store.
    pub(super) fn surely_stands(&self, entry: &Entry) -> bool {
        self.track(0).judge(entry.header().s0, entry.tags()) == Judged::Valid
    }

    #[cold]
    fn tags_stand(&self, s0: u64, tags: &[u64]) -> bool {
        // installed entries were judged against the time before the epoch; only what came since is asked here
        self.track(0).judge(s0, tags) != Judged::Invalid
    }

    /// Near, then far; never loads.
    pub(crate) async fn get(self: &Arc<Self>, near_key: &str, space: &Arc<Space>) -> Result<Option<Served>> {
        loop {
            let suspect = match self.probe_for(near_key, space) {
                Probe::Hit(entry, freshness) => return Ok(Some(Served { entry, tier: Tier::Near, freshness })),
                Probe::Suspect(entry) => Some(entry),
                Probe::Miss => None,
            };
            let at = self.place(near_key)?;
            if self.far.is_none() {
                if self.is_arriving(near_key) {
                    tokio::task::yield_now().await;
                    continue;
                }
                return Ok(None);
            }
            let footing = self.footing(at.line).await;
            if footing == Footing::CutOff {
                if let Probe::Hit(entry, freshness) = self.probe_for(near_key, space) {
                    return Ok(Some(Served { entry, tier: Tier::Near, freshness }));
                }
                return Err(self.unreachable());
            }
            let outcome = match self.board(&at, false, None) {
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
        let Some(found) = far.call(&self.clock, &self.counters, far.leases().read(&at.far)).await? else {
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
        let now = self.clock.now();
        let trust = self.trust_until(at.line);
        let window =
            if self.cut_off(at.line) { self.options.bound.max(self.options.outage) } else { self.options.bound };
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
        let read = self.read_phase(at, space, suspect).await;
        let found = read.as_ref().ok().cloned().flatten();
        let outcome = self.end_read(at, lead, space, read);
        if let Some((entry, _)) = found {
            self.due(&at.near, &entry, space, false);
        }
        outcome
    }

    /// Ends a flight that only read: installs what it found, and tells whoever waits.
    pub(crate) fn end_read(
        &self,
        at: &Where,
        lead: Lead,
        space: &Space,
        read: Result<Option<(Arc<Entry>, Tier)>>,
    ) -> Outcome {
        let outcome = match read {
            Ok(Some((entry, tier))) => {
                if tier == Tier::Near {
                    self.conclude_confirmed(at, lead.flight(), &entry);
                } else {
                    self.conclude(at, lead.flight(), &entry, &space.policy);
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
        lead.end(outcome.clone());
        outcome
    }

    /// Asks the far store: the stamp alone for a suspect near entry, else the frame.
    pub(crate) async fn read_phase(
        &self,
        at: &Where,
        space: &Space,
        suspect: Option<Arc<Entry>>,
    ) -> Result<Option<(Arc<Entry>, Tier)>> {
        if let Some(entry) = suspect
            && self.revalidate(at, &entry).await?
        {
            return Ok(Some((entry, Tier::Near)));
        }
        Ok(self.read_far(at, space).await?.map(|entry| (entry, Tier::Far)))
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
        match far.call(&self.clock, &self.counters, far.leases().read(&at.far)).await? {
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

    /// Reads the frame under a key; an entry if it may be served.
    pub(crate) async fn read_far(&self, at: &Where, space: &Space) -> Result<Option<Arc<Entry>>> {
        let Some(far) = &self.far else { return Ok(None) };
        let sent = self.clock.now();
        match far.call(&self.clock, &self.counters, far.leases().read(&at.far)).await? {
            Some(found) => self.take(at, &found, sent, space).await,
            None => Ok(None),
        }
    }

    /// What was found, as an entry, if it may be served.
    pub(crate) async fn take(
        &self,
        at: &Where,
        found: &Found,
        sent: cache_core::Tick,
        space: &Space,
    ) -> Result<Option<Arc<Entry>>> {
        match self.sift(at, found, sent, space).await? {
            Admitted::Usable(entry) => Ok(Some(entry)),
            Admitted::Stale(..) | Admitted::Miss | Admitted::Junk => Ok(None),
        }
    }

    /// What was found, if that can be said at once: a plain value without tags, in its time, that nothing speaks against.
    pub(super) fn take_at_once(
        &self,
        at: &Where,
        frame: &Bytes,
        sent: cache_core::Tick,
        space: &Space,
    ) -> Option<Arc<Entry>> {
        let (header, payload) = self.far.as_ref()?.packing().plain(&at.far, frame)?;
        let left = self.time.left(&self.clock, sent, header.soft_exp);
        if left.is_zero()
            || !self.floors.admits(&at.near, &header, sent)
            || self.track(0).judge(header.s0, &[]) != Judged::Valid
        {
            return None;
        }
        let frame = Frame { header, tags: Tags::default(), payload: frame.slice(payload..) };
        let entry = self.near_entry(frame, &space.policy, sent, left);
        (space.accepts)(&entry).then(|| Arc::new(entry))
    }

    /// What was found, judged. Junk is removed, so that a load can fill the key; so is a value that may be older than
    /// what this process returned while it was cut off.
    async fn sift(&self, at: &Where, found: &Found, sent: cache_core::Tick, space: &Space) -> Result<Admitted> {
        match self.admit(at, found, sent, space).await? {
            Admitted::Usable(entry) | Admitted::Stale(entry, _)
                if !self.floors.admits(&at.near, entry.header(), sent) => {}
            Admitted::Usable(entry) | Admitted::Stale(entry, _) if !(space.accepts)(&entry) => {
                self.counters.count(Metric::Undecodable);
            }
            Admitted::Junk => self.counters.count(Metric::Malformed),
            judged => return Ok(judged),
        }
        if let Some(far) = &self.far {
            far.call(&self.clock, &self.counters, far.leases().discard(&at.far, &found.frame)).await?;
        }
        Ok(Admitted::Miss)
    }

    async fn admit(&self, at: &Where, found: &Found, sent: cache_core::Tick, space: &Space) -> Result<Admitted> {
        let Some(Ok(frame)) = self.far.as_ref().map(|far| far.packing().unpack(&at.far, &found.frame)) else {
            return Ok(Admitted::Junk);
        };
        let left = self.time.left(&self.clock, sent, frame.header.soft_exp);
        match frame.header.state {
            State::Value | State::Negative if !left.is_zero() => {}
            State::Value | State::Stale => return self.admit_stale(frame, found, left, sent, space).await,
            State::Negative | State::Lease | State::Tombstone => return Ok(Admitted::Miss),
        }
        // what the store returned was alive there, even if it says that less than a millisecond is left
        let left = found.left.map_or(left, |stored| stored.min(left));
        if !self.tags_valid(&frame.header, frame.tags.as_slice()).await? {
            return Ok(Admitted::Miss);
        }
        Ok(Admitted::Usable(Arc::new(self.near_entry(frame, &space.policy, sent, left))))
    }

    /// A value past its time, as a fallback: judged as a fresh one.
    async fn admit_stale(
        &self,
        mut frame: Frame,
        found: &Found,
        left: Duration,
        sent: cache_core::Tick,
        space: &Space,
    ) -> Result<Admitted> {
        let Some(fail_safe) = space.policy.fail_safe.filter(|_| !frame.header.is_negative()) else {
            return Ok(Admitted::Miss);
        };
        if !self.tags_valid(&frame.header, frame.tags.as_slice()).await? {
            return Ok(Admitted::Miss);
        }
        let stale = frame.header.state == State::Stale;
        // without a holder its time is that of a rest
        let rest = if stale && frame.header.stamp == Stamp::NONE { left } else { Duration::ZERO };
        if stale {
            // a lease's token becomes the stamp of what its holder fills
            frame.header.stamp = Stamp::NONE;
        }
        let kept = sent + found.left.unwrap_or(fail_safe.span);
        Ok(Admitted::Stale(Arc::new(Entry::new(frame, sent).kept_until(kept)), rest))
    }

    /// Whether the far store still holds a near entry's stamp: 48 bytes instead of the value. Confirms nothing: only
    /// where a flight settles is it known that no purge and no push came in between.
    pub(crate) async fn revalidate(&self, at: &Where, entry: &Arc<Entry>) -> Result<bool> {
        let Some(far) = &self.far else { return Ok(false) };
        let head = far.call(&self.clock, &self.counters, far.leases().peek(&at.far)).await?;
        let same = head.and_then(|head| Header::parse(&head).ok()).is_some_and(|header| {
            header.stamp == entry.header().stamp && matches!(header.state, State::Value | State::Negative)
        });
        if !same || !self.tags_valid(entry.header(), entry.tags()).await? {
            return Ok(false);
        }
        self.counters.count(Metric::Revalidated);
        if broken(Mutation::ConfirmLate) {
            entry.confirm(self.epoch(at.line), self.clock.now());
        }
        Ok(true)
    }

    /// Lets the far store begin its records of generations, if it has none: what is stored before they begin can't be
    /// judged by a process that comes later. If it can't be done now, the first question does it.
    pub(super) async fn open_generations(&self) {
        let Some((far, bus)) = self.far.as_ref().and_then(|far| far.bus().map(|bus| (far, bus))) else { return };
        let (period, span) = self.period();
        let epoch = self.track(0).epoch();
        let asked = bus.generations(&self.lines[0].names, &[envelope::ALL], period, span);
        if let Ok(answer) = far.call(&self.clock, &self.counters, asked).await {
            let mut track = self.track(0);
            track.learn(epoch, &[envelope::ALL], &answer);
            self.lines[0].view.publish(&track);
        }
    }

    /// Whether the tags still stand, asking the far store where this process can't know.
    pub(crate) async fn tags_valid(&self, header: &Header, tags: &[u64]) -> Result<bool> {
        loop {
            let (judged, epoch) = {
                let track = self.track(0);
                (track.judge(header.s0, tags), track.epoch())
            };
            match judged {
                Judged::Valid => return Ok(true),
                Judged::Invalid => return Ok(false),
                Judged::Ask => {}
            }
            let Some((far, bus)) = self.far.as_ref().and_then(|far| far.bus().map(|bus| (far, bus))) else {
                return Ok(true);
            };
            let mut asked = vec![envelope::ALL];
            asked.extend_from_slice(tags);
            let (period, span) = self.period();
            let line = &self.lines[0].names;
            let answer = far.call(&self.clock, &self.counters, bus.generations(line, &asked, period, span)).await?;
            let mut track = self.track(0);
            track.learn(epoch, &asked, &answer);
            self.lines[0].view.publish(&track);
        }
    }
}
