//! The gate in front of an origin: a limit of calls at once, a short queue, and a breaker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{Error, ErrorKind, Result, Tick};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Engine;
use crate::loaded::{ManyLoading, Produced};
use crate::origin::Origin;
use crate::policy::{Fate, Pass, RateBreaker};
use crate::space::Space;

/// The gates of a process, one a key space.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<HashMap<String, Arc<Gate>>>);

impl Gates {
    /// The gate of `space`; a mistake if it has one already that is built otherwise.
    pub(crate) fn of(&self, space: &str, origin: &Origin) -> Result<Arc<Gate>, String> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry(space.to_owned()).or_insert_with(|| Arc::new(Gate::new(origin.clone())));
        if gate.options == *origin {
            return Ok(Arc::clone(gate));
        }
        Err("the space's origin is protected otherwise by another cache; give both the same options".to_owned())
    }
}

/// The longest that a load waits for its turn, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(1);

/// What stands before every call of a space's loader.
#[derive(Debug)]
pub(crate) struct Gate {
    options: Origin,
    permits: Option<(usize, Arc<Semaphore>)>,
    waiting: AtomicUsize,
    breaker: Option<Mutex<RateBreaker>>,
    /// How long a load takes, in nanoseconds: a moving average.
    took: AtomicU64,
}

/// Counts a load that waits for its turn.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gate {
    fn new(options: Origin) -> Self {
        let permits = options.at_most.map(|most| (most, Arc::new(Semaphore::new(most))));
        let breaker = options.breaker.map(|breaker| Mutex::new(RateBreaker::new(breaker)));
        Self { options, permits, waiting: AtomicUsize::new(0), breaker, took: AtomicU64::new(0) }
    }

    /// What it was asked for.
    pub(crate) const fn options(&self) -> &Origin {
        &self.options
    }

    /// Waits for a turn. The load is to be over by `due`: one that is dropped later was late.
    pub(crate) async fn admit(self: &Arc<Self>, engine: &Arc<Engine>, due: Tick) -> Result<Permit> {
        let admitted = self.turn(engine).await;
        let (permit, pass) = admitted.inspect_err(|_| engine.counters.count(Metric::LoadShed))?;
        let begun = engine.clock.now();
        Ok(Permit { gate: Arc::clone(self), engine: Arc::clone(engine), begun, due, pass, fate: None, _permit: permit })
    }

    async fn turn(&self, engine: &Engine) -> Result<(Option<OwnedSemaphorePermit>, Option<Pass>)> {
        // who would be refused anyway does not wait for it
        if let Some(left) = self.breaker().and_then(|breaker| breaker.refuses(engine.clock.now())) {
            return Err(open(left));
        }
        let permit = match &self.permits {
            Some((most, permits)) => Some(self.permit(*most, permits).await?),
            None => None,
        };
        let pass = match self.breaker() {
            Some(mut breaker) => Some(breaker.admit(engine.clock.now()).map_err(open)?),
            None => None,
        };
        Ok((permit, pass))
    }

    async fn permit(&self, most: usize, permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return Ok(permit);
        }
        let queue = self.options.queue.unwrap_or(most.saturating_mul(4));
        let ahead = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        if ahead >= queue {
            let text = format!(
                "{most} loads are under way and {queue} wait; raise the origin's at_most or queue, or come back"
            );
            return Err(self.overloaded(text, ahead, most));
        }
        let patience = self.options.patience.unwrap_or(PATIENCE);
        match tokio::time::timeout(patience, Arc::clone(permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                let text = format!(
                    "none of {most} loads ended within {patience:?}; raise the origin's at_most or patience, or come back"
                );
                Err(self.overloaded(text, ahead, most))
            }
        }
    }

    /// The error of a load that was shed with `ahead` others before it: they take so many rounds of `most`.
    fn overloaded(&self, text: String, ahead: usize, most: usize) -> Error {
        let rounds = u32::try_from(ahead / most.max(1)).unwrap_or(u32::MAX).saturating_add(1);
        let took = Duration::from_nanos(self.took.load(Ordering::Relaxed));
        let after = took.saturating_mul(rounds).clamp(Duration::from_millis(10), Duration::from_secs(5));
        Error::new(ErrorKind::Overloaded, text).with_operation("load").with_store("origin").with_retry_after(after)
    }

    fn breaker(&self) -> Option<MutexGuard<'_, RateBreaker>> {
        self.breaker.as_ref().map(|breaker| breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn open(left: Duration) -> Error {
    let text = "too many of the origin's recent loads failed, and it is given a pause";
    Error::new(ErrorKind::Overloaded, text).with_operation("load").with_store("origin").with_retry_after(left)
}

impl Engine {
    /// Calls a loader of many keys when it is its turn; its answers, and how long it took. It is to be over by `due`.
    pub(crate) async fn call_loader(
        self: &Arc<Self>,
        space: &Space,
        due: Tick,
        load: impl FnOnce() -> ManyLoading + Send,
    ) -> Result<(Vec<Result<Produced>>, Duration)> {
        let permit = match &space.origin {
            Some(gate) => Some(gate.admit(self, due).await?),
            None => None,
        };
        self.counters.count(Metric::Load);
        let begun = self.clock.now();
        let loaded = load().await;
        // an origin that fails for every key has failed
        let fate = match &loaded {
            Ok(answers) => match answers.iter().find_map(|answer| answer.as_ref().err()) {
                Some(error) if answers.iter().all(Result::is_err) => Err(error.clone()),
                _ => Ok(()),
            },
            Err(error) => Err(error.clone()),
        };
        if let Some(permit) = permit {
            permit.report(&fate);
        }
        let loaded = loaded.inspect_err(|_| self.counters.count(Metric::LoadFailed))?;
        Ok((loaded, self.clock.now().since(begun)))
    }
}

/// The right to call the loader once. Dropped without a word, the load was cancelled: by a panic, by its deadline, or by
/// callers that left.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    engine: Arc<Engine>,
    begun: Tick,
    due: Tick,
    pass: Option<Pass>,
    fate: Option<Fate>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// The loader answered `result`. What it answered and could not be encoded is no failure of the origin.
    pub(crate) fn report<T>(mut self, result: &Result<T>) {
        let failed = matches!(result, Err(error) if error.kind() == ErrorKind::Loader);
        self.fate = Some(if failed { Fate::Failure } else { Fate::Success });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = self.engine.clock.now();
        let cancelled = || if std::thread::panicking() || now >= self.due { Fate::Failure } else { Fate::Abandoned };
        let fate = self.fate.unwrap_or_else(cancelled);
        if fate == Fate::Success {
            let took = u64::try_from(now.since(self.begun).as_nanos()).unwrap_or(u64::MAX);
            let average = self.gate.took.load(Ordering::Relaxed);
            let next = if average == 0 { took } else { average - average / 8 + took / 8 };
            self.gate.took.store(next, Ordering::Relaxed);
        }
        if let (Some(pass), Some(mut breaker)) = (self.pass, self.gate.breaker())
            && breaker.report(now, pass, fate)
        {
            self.engine.counters.count(Metric::OriginTripped);
        }
    }
}
