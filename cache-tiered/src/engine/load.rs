//! Loading: the lease, the loader, the fill.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_core::envelope::flag;
use cache_core::observe::Metric;
use cache_core::{Claim, Entry, Error, ErrorKind, Frame, Header, Lease, Result, Stamp, State, Wait, check_value};

use super::batch::join_all;
use super::read::{Probe, ReadToLoad};
use super::trust::Footing;
use super::{Engine, Far, Shift, Where};
use crate::answer::{Freshness, Served, StaleReason, Tier};
use crate::coherence::Overtaken;
use crate::coherence::mutate::{Mutation, broken};
use crate::consistency::Consistency;
use crate::flight::{Boarding, Flight, Lead, Outcome};
use crate::loaded::{Loader, Produced};
use crate::space::Space;

/// The shortest and longest pause of a waiter between two looks, if no message wakes it.
const POLL: (u64, u64) = (50, 250);

/// How often a flight looks at the far store again when the key keeps changing under it.
const MOST_ROUNDS: u32 = 64;

/// What one round against the far store came to.
enum Round {
    /// An entry to serve and, if its flight may, to install.
    Found(Arc<Entry>, Tier),
    /// The lease is ours.
    Granted(Held),
    /// A guarded write is under way.
    Barred,
    /// Another process's load failed: nobody is to load for this long.
    Resting(Duration),
    /// Look again.
    Again,
}

/// A lease that is given back when it is dropped unfilled.
pub(super) struct Held {
    engine: Arc<Engine>,
    at: Where,
    pub(super) token: Stamp,
    filled: bool,
}

impl Held {
    /// The lease on a key that `token` was granted, or is asking for: giving back what was not granted is harmless.
    pub(super) const fn new(engine: Arc<Engine>, at: Where, token: Stamp) -> Self {
        Self { engine, at, token, filled: false }
    }

    /// The key and the token.
    pub(super) fn claim(&self) -> Claim<'_> {
        Claim { key: &self.at.far, token: self.token }
    }

    /// The index of the key's line.
    pub(super) const fn line(&self) -> usize {
        self.at.line
    }

    /// There is nothing to give back.
    pub(super) fn over(mut self) {
        self.filled = true;
    }

    /// Gives many back, in one round a line.
    pub(super) fn give_back(held: Vec<Self>) {
        let Some(engine) = held.first().map(|held| Arc::clone(&held.engine)) else { return };
        let shift = engine.work.begin();
        let release = async move {
            let _shift = shift;
            let Some(far) = &engine.far else { return };
            let now = engine.clock.now();
            let (rests, held): (Vec<_>, Vec<_>) = held
                .into_iter()
                .map(|held| (engine.pauses.active(&held.at.near, now).map(|(_, left)| left), held))
                .partition(|(rest, _)| rest.is_some());
            let resting = rests.iter().filter_map(|(rest, held)| {
                let channel = &engine.line(&held.at).names.channel;
                Some(far.leases().rest(&held.at.far, held.token, (*rest)?, channel))
            });
            let _ = join_all(resting).await;
            let held: Vec<Self> = held.into_iter().map(|(_, held)| held).collect();
            for (line, state) in engine.lines.iter().enumerate() {
                let claims: Vec<Claim<'_>> = held.iter().filter(|held| held.line() == line).map(Self::claim).collect();
                if !claims.is_empty() {
                    // leases that can't be given back run out by themselves
                    let _ = far.leases().release_many(&claims, &state.names.channel).await;
                }
            }
            rests.into_iter().map(|(_, held)| held).chain(held).for_each(Self::over);
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(release);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.filled {
            return;
        }
        let (engine, at, token) = (Arc::clone(&self.engine), self.at.clone(), self.token);
        let shift = engine.work.begin();
        let rest = engine.pauses.active(&at.near, engine.clock.now()).map(|(_, left)| left);
        let release = async move {
            let _shift = shift;
            if let Some(far) = &engine.far {
                let channel = &engine.line(&at).names.channel;
                // a lease that can't be given back runs out by itself
                let _ = match rest {
                    Some(left) => far.leases().rest(&at.far, token, left, channel).await,
                    None => far.leases().release(&at.far, token, channel).await,
                };
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(release);
        }
    }
}

impl Engine {
    /// Near, far, origin, as current as `wish` asks. One load per key in the process; one per key among processes while
    /// the far store answers.
    pub(crate) async fn load(
        self: &Arc<Self>,
        near_key: &str,
        space: &Arc<Space>,
        loader: Loader,
        wish: Consistency,
    ) -> Result<Served> {
        let mut since = None;
        if wish != Consistency::Local {
            since = Some(self.clock.now());
            match self.get_as(near_key, space, wish).await {
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
                Boarding::Joined(seat) => {
                    self.counters.count(Metric::Joined);
                    match self.patient(&at, &seat, space, may_fall_back).await {
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
                    let call = Call { space, far_works: footing == Footing::Trusted, missed, may_fall_back };
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
    pub(super) fn s0(&self) -> u64 {
        self.lines[0].view.applied()
    }

    /// Whether there is a far store whose changes can be heard.
    pub(super) fn hears(&self) -> bool {
        self.far.as_ref().is_some_and(|far| far.bus().is_some())
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
        let Call { space, far_works, missed, may_fall_back } = *call;
        let flight = Arc::clone(lead.flight());
        let mut far_works = far_works && self.far.is_some();
        let mut rest = Duration::ZERO;
        if far_works && !missed {
            match self.read_to_load(at, &flight, space, suspect).await {
                Ok(ReadToLoad::Found(entry, tier)) => {
                    let outcome = self.end_read(at, lead, space, Ok(Some((Arc::clone(&entry), tier))));
                    if self.due(&at.near, &entry, space, true) {
                        self.refresh(&at.near, entry, space, loader);
                    }
                    return outcome;
                }
                Ok(ReadToLoad::Missed(left)) => rest = left,
                Err(error) if error.kind() == ErrorKind::Invalid => return self.end_read(at, lead, space, Err(error)),
                Err(_) => far_works = false,
            }
        }
        if let Some(error) = self.held_back(at, &flight, &space.policy, rest) {
            self.conclude_failed(at, &flight, &space.policy);
            lead.end(Outcome::Failed(error.clone()));
            return self.or_fallback(at, &flight, space, may_fall_back, Outcome::Failed(error));
        }
        flight.missed();
        let task = LoadTask::new(self, at.clone(), Arc::clone(&flight), space);
        let handle = tokio::spawn(task.run(loader, far_works));
        flight.set_task(handle.abort_handle());
        lead.hand_over();
        match self.patient(at, &lead.seat, space, may_fall_back).await {
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
}

/// A flight's task from the miss on.
pub(super) struct LoadTask {
    pub(super) engine: Arc<Engine>,
    pub(super) at: Where,
    pub(super) flight: Arc<Flight>,
    pub(super) space: Arc<Space>,
    ended: bool,
    /// Whether its failure is noted.
    noted: AtomicBool,
    _shift: Shift,
}

impl LoadTask {
    pub(super) fn new(engine: &Arc<Engine>, at: Where, flight: Arc<Flight>, space: &Arc<Space>) -> Self {
        let shift = engine.work.begin();
        Self {
            engine: Arc::clone(engine),
            at,
            flight,
            space: Arc::clone(space),
            ended: false,
            _shift: shift,
            noted: AtomicBool::new(false),
        }
    }

    pub(super) async fn run(self, loader: Loader, far_works: bool) {
        let deadline = self.space.policy.timeouts.hard;
        let loaded = {
            let body = tokio::time::timeout(deadline, self.body(loader, far_works));
            tokio::pin!(body);
            let loaded = tokio::select! {
                biased;
                loaded = &mut body => loaded.unwrap_or_else(|_| Err(late(deadline))),
                closed = self.engine.work.cancelled() => Err(closed),
            };
            // before the lease is given back: how long it rests hangs on it
            let _ = loaded.as_ref().inspect_err(|error| self.failed(error));
            loaded
        };
        self.finish(loaded);
    }

    /// Notes that the load failed. A lease that is given back later rests.
    pub(super) fn failed(&self, error: &Error) {
        if !self.noted.swap(true, Ordering::Relaxed) {
            self.engine.note_failure(&self.at, &self.flight, &self.space, error);
        }
    }

    /// The flight is ended elsewhere.
    pub(super) const fn over(&mut self) {
        self.ended = true;
    }

    /// Ends the flight with what its load came to.
    pub(super) fn finish(mut self, loaded: Result<Served>) {
        let outcome = match loaded {
            Ok(served) => {
                self.engine.pauses.clear(&self.at.near);
                Outcome::Done(Some(served))
            }
            Err(error) => {
                self.failed(&error);
                self.engine.conclude_failed(&self.at, &self.flight, &self.space.policy);
                Outcome::Failed(error)
            }
        };
        self.ended = true;
        self.flight.end(outcome);
    }

    async fn body(&self, loader: Loader, far_works: bool) -> Result<Served> {
        match &self.engine.far {
            None => self.alone(loader).await,
            Some(far) if far_works => self.leased(far, loader).await,
            Some(_) => self.cut_off(loader).await,
        }
    }

    /// Without a far store: load and install.
    async fn alone(&self, loader: Loader) -> Result<Served> {
        if self.engine.holds.bars(&self.at.near, self.engine.clock.now()) {
            return self.barred(loader).await;
        }
        let s0 = self.s0();
        let produced = self.produce(loader).await?;
        Ok(self.loaded_alone(produced, s0))
    }

    /// The end of a load without a far store.
    pub(super) fn loaded_alone(&self, (produced, took): (Produced, Duration), s0: u64) -> Served {
        let s0 = if broken(Mutation::S0AfterLoad) { self.s0() } else { s0 };
        let ((entry, store), _, _) = self.entry(produced, Stamp::random(), s0, took);
        if store {
            self.engine.conclude(&self.at, &self.flight, &entry, &self.space.policy);
        } else {
            self.engine.conclude_bare(&self.at, &self.flight, &entry);
        }
        Served::fresh(entry, Tier::Origin)
    }

    /// While cut off from the far store: load, and keep the result for the outage window at most.
    async fn cut_off(&self, loader: Loader) -> Result<Served> {
        let s0 = self.s0();
        let produced = self.produce(loader).await?;
        Ok(self.loaded_cut_off(produced, s0))
    }

    /// The end of a load while cut off.
    pub(super) fn loaded_cut_off(&self, (produced, took): (Produced, Duration), s0: u64) -> Served {
        let ((entry, store), _, _) = self.entry(produced, Stamp::random(), s0, took);
        self.raise_floor();
        if store {
            self.engine.conclude_unconfirmed(&self.at, &self.flight, &entry, &self.space.policy);
        } else {
            self.engine.conclude_bare(&self.at, &self.flight, &entry);
        }
        Served::fresh(entry, Tier::Origin)
    }

    /// With the far store: take the lease, load, fill.
    async fn leased(&self, far: &Far, loader: Loader) -> Result<Served> {
        let loader = if broken(Mutation::LeaseAfterLoad) { loaded_first(loader).await } else { loader };
        for _ in 0..MOST_ROUNDS {
            match self.round(far).await {
                Ok(Round::Found(entry, tier)) => return Ok(self.serve(entry, tier)),
                Ok(Round::Granted(held)) => return self.fill(far, held, loader).await,
                Ok(Round::Barred) => return self.barred(loader).await,
                Ok(Round::Resting(left)) if self.flight.fallback().is_some() => {
                    return Err(self.engine.rested(&self.at, left));
                }
                // whom its fallback does not serve can't wait for so long
                Ok(Round::Resting(_)) => self.unrest(far).await?,
                Ok(Round::Again) => {}
                Err(_) => return self.cut_off(loader).await,
            }
        }
        self.barred(loader).await
    }

    /// Asks for the lease once.
    async fn round(&self, far: &Far) -> Result<Round> {
        let engine = &self.engine;
        let token = Stamp::random();
        let sent = engine.clock.now();
        let span = engine.options.lease;
        let lease = far.call(&engine.clock, &engine.counters, far.leases().lease(&self.at.far, token, span)).await?;
        Ok(match lease {
            Lease::Granted => Round::Granted(Held::new(Arc::clone(engine), self.at.clone(), token)),
            Lease::Barred { .. } => Round::Barred,
            Lease::Found(found) => match engine.take(&self.at, &found, sent, &self.space).await? {
                Some(entry) => Round::Found(entry, Tier::Far),
                None => {
                    // found, but not to be served: a tag was bumped, or its time is over by our own clock
                    let discard = far.leases().discard(&self.at.far, &found.frame);
                    far.call(&engine.clock, &engine.counters, discard).await?;
                    Round::Again
                }
            },
            Lease::Held { holder: Stamp::NONE, left } => Round::Resting(left),
            Lease::Held { holder, .. } => {
                self.wait(far, holder).await?;
                Round::Again
            }
        })
    }

    /// Removes a value that rests, so that the key can be loaded.
    async fn unrest(&self, far: &Far) -> Result<()> {
        let engine = &self.engine;
        let found = far.call(&engine.clock, &engine.counters, far.leases().read(&self.at.far)).await?;
        if let Some(found) = found
            && Header::parse(&found.frame).is_ok_and(|h| h.state == State::Stale && h.stamp == Stamp::NONE)
        {
            let discard = far.leases().discard(&self.at.far, &found.frame);
            far.call(&engine.clock, &engine.counters, discard).await?;
        }
        Ok(())
    }

    /// Waits for another holder of the lease: until a message, or a jittered moment later.
    async fn wait(&self, far: &Far, holder: Stamp) -> Result<()> {
        let engine = &self.engine;
        engine.counters.count(Metric::LeaseWait);
        // listening begins before the holder is told, so that its message can't be missed
        let woken = self.flight.wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let wait = far.call(&engine.clock, &engine.counters, far.leases().wait(&self.at.far, holder)).await?;
        if let Wait::Flagged { left } = wait {
            let poll = Duration::from_millis(fastrand::u64(POLL.0..=POLL.1));
            let _ = tokio::time::timeout(poll.min(left.max(Duration::from_millis(1))), woken).await;
        }
        Ok(())
    }

    async fn fill(&self, far: &Far, held: Held, loader: Loader) -> Result<Served> {
        let engine = &self.engine;
        let s0 = self.s0();
        let produced = self.renewing(far, &held, self.produce(loader)).await.inspect_err(|error| self.failed(error))?;
        let (entry, packed) = self.packed(far, held.token, produced, s0);
        let Some((bytes, ttl)) = packed else { return Ok(self.unstored(entry)) };
        let channel = &engine.line(&self.at).names.channel;
        let fill = async {
            if broken(Mutation::NoCas) {
                return far.store().set(&self.at.far, bytes, ttl).await.map(|()| true);
            }
            far.leases().fill(&self.at.far, held.token, bytes, ttl, channel).await
        };
        let filled = far.call(&engine.clock, &engine.counters, fill).await;
        self.filled(far, held, entry, filled).await
    }

    /// What was loaded under a lease, as an entry, and as bytes for their ttl; `None` if they are not to be stored.
    pub(super) fn packed(
        &self,
        far: &Far,
        token: Stamp,
        (produced, took): (Produced, Duration),
        s0: u64,
    ) -> (Arc<Entry>, Option<(Bytes, Duration)>) {
        let s0 = if broken(Mutation::S0AfterLoad) { self.s0() } else { s0 };
        let ((entry, store), frame, ttl) = self.entry(produced, token, s0, took);
        let fits = |bytes: &Bytes| check_value(bytes.len(), far.store().max_value()).is_ok();
        let packed = far.packing().pack(&self.at.far, &frame).ok().filter(|bytes| store && fits(bytes));
        (entry, packed.map(|bytes| (bytes, self.engine.far_ttl(&frame, ttl, &self.space.policy))))
    }

    /// The end of a load whose fill was answered.
    pub(super) async fn filled(
        &self,
        far: &Far,
        held: Held,
        entry: Arc<Entry>,
        answer: Result<bool>,
    ) -> Result<Served> {
        let engine = &self.engine;
        match answer {
            Ok(true) => {
                held.over();
                engine.floors.clear(&self.at.near);
                engine.counters.count(Metric::Filled);
                Ok(self.serve(entry, Tier::Origin))
            }
            Ok(false) => {
                held.over();
                engine.counters.count(Metric::FillRejected);
                self.overtaken(far, entry).await
            }
            // whether it was stored is unknown; if it was, that was legal
            Err(_) => {
                self.raise_floor();
                Ok(self.bare(entry))
            }
        }
    }

    /// The end of a load that is not to be stored in the far store.
    pub(super) fn unstored(&self, entry: Arc<Entry>) -> Served {
        if self.flight.fallback().is_some() {
            // what the far store still holds is older
            self.raise_floor();
        }
        self.bare(entry)
    }

    /// For the flight's own callers only.
    pub(super) fn bare(&self, entry: Arc<Entry>) -> Served {
        self.engine.conclude_bare(&self.at, &self.flight, &entry);
        Served::fresh(entry, Tier::Origin)
    }

    /// The fill was refused, for the key was invalidated during the load, or none was due. Another process may have read an older row than
    /// ours and be about to fill it, so ours may only be returned once the key is seen without a value and without a
    /// lease; else values would go backwards for our callers.
    async fn overtaken(&self, far: &Far, own: Arc<Entry>) -> Result<Served> {
        let engine = &self.engine;
        if broken(Mutation::InstallRejected) {
            return Ok(self.serve(own, Tier::Origin));
        }
        if broken(Mutation::ReturnRejected) {
            engine.conclude_bare(&self.at, &self.flight, &own);
            return Ok(Served::fresh(own, Tier::Origin));
        }
        for _ in 0..MOST_ROUNDS {
            let sent = engine.clock.now();
            let found = far.call(&engine.clock, &engine.counters, far.leases().read(&self.at.far)).await;
            let Ok(found) = found else { break };
            let Some(found) = found else { return Ok(self.bare(own)) };
            match engine.take(&self.at, &found, sent, &self.space).await {
                Ok(Some(entry)) => return Ok(self.serve(entry, Tier::Far)),
                Ok(None) => {}
                Err(_) => break,
            }
            let header = Header::parse(&found.frame).ok();
            let settled = if header.is_some_and(|header| matches!(header.state, State::Value | State::Negative)) {
                // what can't be served now might be later, for example when the server's clock is set: it goes before
                // ours is told
                let discard = far.leases().discard(&self.at.far, &found.frame);
                far.call(&engine.clock, &engine.counters, discard).await.map(|_| ())
            } else {
                match Overtaken::by(header.as_ref()) {
                    Overtaken::Wait(holder) => self.wait(far, holder).await,
                    Overtaken::Alone => return Ok(self.bare(own)),
                }
            };
            if settled.is_err() {
                break;
            }
        }
        self.raise_floor();
        engine.conclude_bare(&self.at, &self.flight, &own);
        let freshness = Freshness::Stale(StaleReason::Contended);
        Ok(Served { entry: own, tier: Tier::Origin, freshness })
    }

    /// A guarded write is under way: load for our own callers, store nothing, and let nobody else join.
    async fn barred(&self, loader: Loader) -> Result<Served> {
        self.leave_table();
        let s0 = self.s0();
        let produced = self.produce(loader).await?;
        self.loaded_barred(produced, s0).await
    }

    /// Nobody may join a load that meets a guarded write; this comes before the origin is read.
    pub(super) fn leave_table(&self) {
        if !broken(Mutation::HoldJoinable) {
            self.engine.flights.detach(&self.at.near);
        }
    }

    /// The end of a load during a guarded write. The bar may have been lifted meanwhile, and others may be about to
    /// fill an older row: it is told as after a refused fill.
    pub(super) async fn loaded_barred(&self, (produced, took): (Produced, Duration), s0: u64) -> Result<Served> {
        let ((entry, _), frame, ttl) = self.entry(produced, Stamp::random(), s0, took);
        let Some(far) = self.engine.far.as_ref().filter(|_| !broken(Mutation::BarredTells)) else {
            return Ok(self.bare(entry));
        };
        if broken(Mutation::HoldFills) {
            let _ = far.store().set(&self.at.far, frame.to_bytes(&self.at.far), ttl).await;
        }
        self.overtaken(far, entry).await
    }

    /// Installs if the flight may, and serves.
    pub(super) fn serve(&self, entry: Arc<Entry>, tier: Tier) -> Served {
        self.engine.conclude(&self.at, &self.flight, &entry, &self.space.policy);
        Served::fresh(entry, tier)
    }

    /// Runs the application's loader.
    async fn produce(&self, loader: Loader) -> Result<(Produced, Duration)> {
        let fallback = self.engine.fall_back(&self.at, &self.flight, &self.space, StaleReason::LoadFailed);
        self.produce_over(loader, fallback.map(|served| served.entry)).await
    }

    /// As [`produce`](Self::produce), where the loader would replace `old`.
    pub(super) async fn produce_over(&self, loader: Loader, old: Option<Arc<Entry>>) -> Result<(Produced, Duration)> {
        let engine = &self.engine;
        // gathered loads are admitted and counted where their call is made
        let own = !self.space.gathered;
        let permit = match self.space.origin.as_ref().filter(|_| own) {
            Some(gate) => Some(gate.admit(engine, self.flight.begun + self.space.policy.timeouts.hard).await?),
            None => None,
        };
        engine.counters.add(Metric::Load, own.into());
        let begun = engine.clock.now();
        let produced = loader(old).await;
        if let Some(permit) = permit {
            permit.report(&produced);
        }
        let produced = produced.inspect_err(|_| engine.counters.add(Metric::LoadFailed, own.into()))?;
        Ok((produced, engine.clock.now().since(begun)))
    }

    /// Runs `load`, renewing the lease at a third of its span.
    async fn renewing<T>(&self, far: &Far, held: &Held, load: impl Future<Output = T>) -> T {
        let engine = &self.engine;
        let span = engine.options.lease;
        tokio::pin!(load);
        loop {
            match tokio::time::timeout(span / 3, &mut load).await {
                Ok(done) => return done,
                Err(_) => {
                    let renew = far.leases().renew(&self.at.far, held.token, span);
                    // lost or unanswered: the fill will be refused, the load still serves its callers
                    let _ = tokio::select! {
                        biased;
                        done = &mut load => return done,
                        renewed = far.call(&engine.clock, &engine.counters, renew) => renewed,
                    };
                }
            }
        }
    }

    /// What was loaded is returned without the far store's word: frames loaded before it are not to be served later.
    fn raise_floor(&self) {
        let engine = &self.engine;
        let now = engine.time.ms(&engine.clock, engine.clock.now());
        let error = u64::try_from(engine.beat_span().as_millis()).unwrap_or(u64::MAX);
        engine.floors.raise(&self.at.near, now.saturating_add(error));
    }

    fn s0(&self) -> u64 {
        self.engine.s0()
    }

    /// What was produced, as an entry (and whether to keep it), its frame and its ttl.
    fn entry(
        &self,
        produced: Produced,
        stamp: Stamp,
        s0: u64,
        took: Duration,
    ) -> ((Arc<Entry>, bool), Frame, Duration) {
        let engine = &self.engine;
        let ttl = engine.ttl_of(&produced, &self.space.policy);
        let mut frame = engine.frame(produced.payload.clone(), &produced, stamp, s0, ttl, took);
        if self.flight.refreshes() {
            frame.header.flags |= flag::REFRESHED;
        }
        let entry = engine.near_entry(frame.clone(), &self.space.policy, engine.clock.now(), ttl);
        if let Some(decoded) = produced.decoded {
            entry.remember(decoded);
        }
        ((Arc::new(entry), produced.store), frame, ttl)
    }
}

/// The error of a load that was not done in time.
pub(super) fn late(deadline: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("the load did not end within {deadline:?}")).with_operation("load")
}

/// Runs a loader ahead of its time.
async fn loaded_first(loader: Loader) -> Loader {
    let produced = loader(None).await;
    Box::new(move |_| Box::pin(std::future::ready(produced)))
}

impl Drop for LoadTask {
    fn drop(&mut self) {
        if !self.ended {
            self.engine.conclude_empty(&self.at, &self.flight);
            let error = if std::thread::panicking() {
                Error::new(ErrorKind::Loader, "the loader panicked")
            } else {
                Error::new(ErrorKind::Loader, "the load was cancelled")
            };
            self.flight.end(Outcome::Failed(error));
        }
    }
}
