//! A flight's task from the miss on: who may load, and the load itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{Entry, Error, ErrorKind, Header, Lease, Result, Stamp, State, Wait};
use tokio::time::Instant;

use super::{Held, MOST_ROUNDS};
use crate::answer::{Served, StaleReason, Tier};
use crate::coherence::mutate::{Mutation, broken};
use crate::engine::{Engine, Far, Shift, Where};
use crate::flight::{Flight, Outcome};
use crate::loaded::{Loader, Produced};
use crate::space::Space;

/// The shortest and longest pause of a waiter between two looks, if no message wakes it.
const POLL: (u64, u64) = (50, 250);

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

/// A flight's task from the miss on.
pub(crate) struct LoadTask {
    pub(crate) engine: Arc<Engine>,
    pub(crate) at: Where,
    pub(crate) flight: Arc<Flight>,
    pub(crate) space: Arc<Space>,
    /// The key's floor as the load began.
    pub(super) floor: Option<u64>,
    ended: bool,
    /// Whether its failure is noted.
    noted: AtomicBool,
    _shift: Shift,
}

impl LoadTask {
    pub(crate) fn new(engine: &Arc<Engine>, at: Where, flight: Arc<Flight>, space: &Arc<Space>) -> Self {
        let (shift, floor) = (engine.work.begin(), engine.floors.of(&at.near));
        Self {
            engine: Arc::clone(engine),
            at,
            floor,
            flight,
            space: Arc::clone(space),
            ended: false,
            _shift: shift,
            noted: AtomicBool::new(false),
        }
    }

    /// Loads, by `due` at the latest.
    pub(crate) async fn run(self, loader: Loader, far_works: bool, due: Instant) {
        let deadline = self.space.policy.timeouts.hard;
        let loaded = {
            let body = tokio::time::timeout_at(due, self.body(loader, far_works));
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
    pub(crate) fn failed(&self, error: &Error) {
        if !self.noted.swap(true, Ordering::Relaxed) {
            self.engine.note_failure(&self.at, &self.flight, &self.space, error);
        }
    }

    /// The flight is ended elsewhere.
    pub(crate) const fn over(&mut self) {
        self.ended = true;
    }

    /// Ends the flight with what its load came to.
    pub(crate) fn finish(mut self, loaded: Result<Served>) {
        let outcome = match loaded {
            Ok(served) => {
                self.engine.pauses.clear(&self.at.near);
                Outcome::Done(Some(self.engine.or_written(&self.at.near, &self.space, served)))
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

    /// While cut off from the far store: load, and keep the result for the outage window at most.
    async fn cut_off(&self, loader: Loader) -> Result<Served> {
        let s0 = self.s0();
        let produced = self.produce(loader).await?;
        Ok(self.loaded_cut_off(produced, s0))
    }

    /// With the far store: take the lease, load, fill.
    async fn leased(&self, far: &Far, loader: Loader) -> Result<Served> {
        let loader = if broken(Mutation::LeaseAfterLoad) { loaded_first(loader).await } else { loader };
        for _ in 0..MOST_ROUNDS {
            match self.round(far).await {
                Ok(Round::Found(entry, tier)) => return Ok(self.serve(entry, tier)),
                Ok(Round::Granted(held)) => return self.fill(far, held, loader).await,
                Ok(Round::Barred) => return self.barred(loader).await,
                Ok(Round::Resting(left)) if self.has_fallback() => {
                    return Err(self.engine.rested(&self.at, &self.space.policy, left));
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
        // armed before it is asked for, so that no lease outlives a task that is cancelled while it asks
        let held = Held::new(Arc::clone(engine), self.at.clone(), token);
        let lease = far.call(&engine.clock, &engine.counters, far.leases().lease(&self.at.far, token, span)).await;
        if matches!(lease, Ok(Lease::Granted)) {
            return Ok(Round::Granted(held));
        }
        held.over();
        Ok(match lease? {
            // told above
            Lease::Granted => Round::Again,
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

    /// Whether there is something to serve instead of a load, in the far store or, if that was too slow to tell, near.
    fn has_fallback(&self) -> bool {
        self.engine.fall_back(&self.at, &self.flight, &self.space, StaleReason::LoadFailed).is_some()
    }

    /// Removes a value that rests, so that the key can be loaded.
    async fn unrest(&self, far: &Far) -> Result<()> {
        let engine = &self.engine;
        let found = far.read(&engine.clock, &engine.counters, far.leases().read(&self.at.far)).await?;
        if let Some(found) = found
            && Header::parse(&found.frame).is_ok_and(|h| h.state == State::Stale && h.stamp == Stamp::NONE)
        {
            let discard = far.leases().discard(&self.at.far, &found.frame);
            far.call(&engine.clock, &engine.counters, discard).await?;
        }
        Ok(())
    }

    /// Waits for another holder of the lease: until a message, or a jittered moment later.
    pub(super) async fn wait(&self, far: &Far, holder: Stamp) -> Result<()> {
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

    /// A guarded write is under way: load for our own callers, store nothing, and let nobody else join.
    async fn barred(&self, loader: Loader) -> Result<Served> {
        self.leave_table();
        let s0 = self.s0();
        let produced = self.produce(loader).await?;
        self.loaded_barred(produced, s0).await
    }

    /// Nobody may join a load that meets a guarded write; this comes before the origin is read.
    pub(crate) fn leave_table(&self) {
        if !broken(Mutation::HoldJoinable) {
            self.engine.flights.detach(&self.at.near);
        }
    }

    /// Runs the application's loader.
    async fn produce(&self, loader: Loader) -> Result<(Produced, Duration)> {
        let fallback = self.engine.fall_back(&self.at, &self.flight, &self.space, StaleReason::LoadFailed);
        self.produce_over(loader, fallback.map(|served| served.entry)).await
    }

    /// As [`produce`](Self::produce), where the loader would replace `old`.
    pub(crate) async fn produce_over(&self, loader: Loader, old: Option<Arc<Entry>>) -> Result<(Produced, Duration)> {
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
    pub(crate) async fn renewing<T>(&self, far: &Far, held: &Held, load: impl Future<Output = T>) -> T {
        let engine = &self.engine;
        let span = engine.options.lease;
        tokio::pin!(load);
        loop {
            match tokio::time::timeout(span / 3, &mut load).await {
                Ok(done) => return done,
                Err(_) => {
                    let renew = far.leases().renew(held.claim().key, held.token, span);
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

    pub(super) fn s0(&self) -> u64 {
        self.engine.s0()
    }
}

/// The error of a load that was not done in time.
pub(crate) fn late(deadline: Duration) -> Error {
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
