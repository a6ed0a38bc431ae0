//! Many keys in one call: one near pass, one far round trip a line, one load for what this process leads.

mod bare;
mod load;
mod read;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use cache_core::observe::Metric;
use cache_core::{Entry, ErrorKind, Result, Tick};
use tokio::time::{Instant, timeout_at};

pub(crate) use self::bare::{Entries, FarNames, Payloads};
use self::load::Boarded;
use super::load::GRACE;
use super::near::Probe;
use super::trust::Footing;
use super::{Engine, Where};
use crate::answer::{Served, Tier};
use crate::consistency::Consistency;
use crate::flight::{Boarding, Lead, Outcome, Seat};
use crate::loaded::ManyLoader;
use crate::space::Space;

/// The most reads that a call of many keys has under way, where each key is read by itself.
const READS_AT_ONCE: usize = 256;

/// One of them.
type Reading<'a> = Pin<Box<dyn Future<Output = Result<Option<Served>>> + Send + 'a>>;

/// What a batch came to, a result for each key in the order of the call.
pub(crate) type Results = Vec<Result<Option<Served>>>;

/// A flight that this call leads.
struct Led {
    /// The key's position in the call.
    index: usize,
    at: Where,
    lead: Lead,
    /// A near entry of an earlier epoch: its stamp decides.
    suspect: Option<Arc<Entry>>,
    /// Whether the far store can be asked, and if so, has not just said that it doesn't hold the key.
    ask: Ask,
}

/// What a flight has to ask the far store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// Whether it holds the key.
    Read,
    /// Nothing more: another flight has just missed it.
    Missed,
    /// Nothing: it can't be heard.
    CutOff,
}

/// A flight that another call, or this one for the same key, leads.
struct Joined {
    index: usize,
    at: Where,
    seat: Seat,
}

/// A call on its way.
struct Batch<'a> {
    engine: &'a Arc<Engine>,
    space: &'a Arc<Space>,
    keys: &'a [Arc<str>],
    loader: Option<&'a ManyLoader>,
    /// When the call began: its patience is for all keys and all rounds together.
    called: Instant,
    /// Only flights that began then or later are joined, and the near store is not asked.
    since: Option<Tick>,
    results: Vec<Option<Result<Option<Served>>>>,
    /// Keys whose flight only read, and missed.
    missed: Vec<bool>,
}

impl Engine {
    /// The entries under `keys`; never loads. One key's error does not touch another's result.
    pub(crate) async fn get_many(
        self: &Arc<Self>,
        keys: &[Arc<str>],
        space: &Arc<Space>,
        wish: Consistency,
    ) -> Results {
        if wish != Consistency::Local {
            return self.get_each(keys, space, wish).await;
        }
        if self.reads_bare() {
            return self.read_bare(keys, space).await;
        }
        Batch::new(self, keys, space, None).run().await
    }

    /// Whether keys are read without a flight for each: there is nothing to install, and no write of our own is on
    /// its way.
    pub(crate) fn reads_bare(&self) -> bool {
        self.near.is_none() && self.behind.is_none()
    }

    /// As [`get_many`](Self::get_many); what is in neither tier is loaded, in one call for the keys that this process
    /// leads. Keys that are loaded elsewhere, in this process or in another, are waited for.
    pub(crate) async fn load_many(
        self: &Arc<Self>,
        keys: &[Arc<str>],
        space: &Arc<Space>,
        loader: &ManyLoader,
        wish: Consistency,
    ) -> Results {
        let mut batch = Batch::new(self, keys, space, Some(loader));
        if wish != Consistency::Local {
            batch.since = Some(self.clock.now());
            let found = self.get_each(keys, space, wish).await;
            for (result, found) in batch.results.iter_mut().zip(found) {
                *result = match found {
                    Ok(Some(served)) => Some(Ok(Some(served))),
                    Err(error) if error.kind() == ErrorKind::Invalid => Some(Err(error)),
                    // a far store that can't tell: the origin can
                    Ok(None) | Err(_) => None,
                };
            }
        }
        batch.run().await
    }

    /// Each of `keys` by a read of its own, a few at once: the next is begun when one has ended, and its deadline counts
    /// from then.
    async fn get_each(self: &Arc<Self>, keys: &[Arc<str>], space: &Arc<Space>, wish: Consistency) -> Results {
        let mut waiting = keys.iter().enumerate();
        let mut running: Vec<(usize, Reading<'_>)> = Vec::with_capacity(keys.len().min(READS_AT_ONCE));
        let mut results: Vec<Option<Result<Option<Served>>>> = keys.iter().map(|_| None).collect();
        std::future::poll_fn(|context| {
            loop {
                running.retain_mut(|(index, read)| match read.as_mut().poll(context) {
                    Poll::Ready(done) => {
                        results[*index] = Some(done);
                        false
                    }
                    Poll::Pending => true,
                });
                let room = READS_AT_ONCE - running.len();
                for (index, key) in waiting.by_ref().take(room) {
                    running.push((index, Box::pin(self.get_as(key, space, wish))));
                }
                if running.is_empty() {
                    return Poll::Ready(());
                }
                if room == READS_AT_ONCE - running.len() {
                    return Poll::Pending;
                }
            }
        })
        .await;
        results.into_iter().flatten().collect()
    }
}

impl<'a> Batch<'a> {
    fn new(
        engine: &'a Arc<Engine>,
        keys: &'a [Arc<str>],
        space: &'a Arc<Space>,
        loader: Option<&'a ManyLoader>,
    ) -> Self {
        let results = keys.iter().map(|_| None).collect();
        Self {
            engine,
            space,
            keys,
            loader,
            called: Instant::now(),
            since: None,
            results,
            missed: vec![false; keys.len()],
        }
    }

    async fn run(mut self) -> Results {
        let due = self.loader.map(|_| self.called + self.space.policy.timeouts.hard + GRACE);
        while self.results.iter().any(Option::is_none) {
            match due {
                None => self.round().await,
                Some(due) if timeout_at(due, self.round()).await.is_ok() => {}
                Some(_) => break,
            }
        }
        let late = |key: &Arc<str>| self.engine.outwaited(key, self.space, self.since.is_none()).map(Some);
        self.results.into_iter().zip(self.keys).map(|(result, key)| result.unwrap_or_else(|| late(key))).collect()
    }

    /// Boards a flight for each open key, drives those that it leads, and waits for all.
    async fn round(&mut self) {
        let (leads, joins) = self.board().await;
        // leads first: a duplicate of a key in this very call joined the flight that is led here
        let missing = self.read(leads).await;
        let led = match self.loader {
            Some(loader) => load::start(self, missing, loader),
            None => Vec::new(),
        };
        // all are waited for at once: who is late keeps no caller longer than one of them would
        let (engine, space, may, since) = (self.engine, self.space, self.may_fall_back(), self.called);
        for Boarded { index, at, lead } in led {
            self.results[index] = match engine.patient(&at, &lead.seat, space, may, since).await {
                Err(fallback) => Some(Ok(Some(fallback))),
                Ok(outcome) => engine.or_fallback(&at, lead.flight(), space, may, outcome).into_result(),
            };
        }
        for Joined { index, at, seat } in joins {
            if self.loader.is_none() {
                self.results[index] = engine.accept(&at, &seat, seat.read().await).into_result();
                continue;
            }
            let outcome = match engine.patient(&at, &seat, space, may, since).await {
                Err(fallback) => {
                    self.results[index] = Some(Ok(Some(fallback)));
                    continue;
                }
                Ok(outcome) => engine.accept(&at, &seat, outcome),
            };
            let only_read = !seat.flight.loads;
            self.results[index] = match outcome {
                // it only read; what it missed is loaded by a flight of our own
                Outcome::Done(None) if only_read => {
                    // a flight of our own needs to see a fallback for itself
                    self.missed[index] = space.policy.fail_safe.is_none();
                    None
                }
                Outcome::Failed(_) if only_read => None,
                outcome => engine.or_fallback(&at, &seat.flight, space, may, outcome).into_result(),
            };
        }
    }

    /// Looks near, and takes a place in a flight for every key that is not there.
    async fn board(&mut self) -> (Vec<Led>, Vec<Joined>) {
        let (mut leads, mut joins) = (Vec::with_capacity(self.keys.len()), Vec::new());
        let mut footings: Vec<(usize, Footing)> = Vec::new();
        let mut now = self.engine.clock.now();
        for (index, key) in self.keys.iter().enumerate() {
            if self.results[index].is_some() {
                continue;
            }
            // a long list leaves others their turn
            tokio::task::consume_budget().await;
            let suspect = match self.probe(key) {
                Ok(served) => {
                    self.results[index] = Some(Ok(Some(served)));
                    continue;
                }
                Err(suspect) => suspect,
            };
            if self.may_fall_back()
                && let Some(served) = self.engine.paused(key, self.space)
            {
                self.results[index] = Some(Ok(Some(served)));
                continue;
            }
            let at = match self.engine.place_shared(key) {
                Ok(at) => at,
                Err(error) => {
                    self.results[index] = Some(Err(error));
                    continue;
                }
            };
            if self.engine.far.is_none() && self.loader.is_none() {
                self.results[index] = Some(Ok(None));
                continue;
            }
            let footing = match footings.iter().find(|(line, _)| *line == at.line) {
                Some((_, footing)) => *footing,
                None => {
                    let footing = self.footing(at.line).await;
                    footings.push((at.line, footing));
                    // it may have been waited for
                    now = self.engine.clock.now();
                    footing
                }
            };
            if footing == Footing::CutOff {
                if let Ok(served) = self.probe(key) {
                    self.results[index] = Some(Ok(Some(served)));
                    continue;
                }
                if self.loader.is_none() {
                    self.results[index] = Some(Err(self.engine.unreachable()));
                    continue;
                }
            }
            match self.engine.board_at(now, &at, self.loader.is_some(), self.since) {
                Boarding::Joined(seat) => {
                    self.engine.counters.count(Metric::Joined);
                    joins.push(Joined { index, at, seat });
                }
                Boarding::Leads(lead) => {
                    let ask = match footing {
                        Footing::CutOff => Ask::CutOff,
                        Footing::Trusted if self.missed[index] => Ask::Missed,
                        Footing::Trusted => Ask::Read,
                    };
                    leads.push(Led { index, at, lead, suspect, ask });
                }
            }
        }
        (leads, joins)
    }

    /// What the near store has to serve; else a suspect, if it has one.
    fn probe(&self, key: &str) -> Result<Served, Option<Arc<Entry>>> {
        match self.engine.probe_for(key, self.space) {
            Probe::Hit(entry, freshness) if self.since.is_none() => Ok(Served { entry, tier: Tier::Near, freshness }),
            Probe::Suspect(entry) => Err(Some(entry)),
            Probe::Hit(..) | Probe::Miss => Err(None),
        }
    }

    /// Whether a value past its time may stand in for a failure: for callers that want no more than the namespace
    /// promises.
    fn may_fall_back(&self) -> bool {
        self.loader.is_some() && self.since.is_none() && self.space.policy.fail_safe.is_some()
    }

    async fn footing(&self, line: usize) -> Footing {
        if self.engine.hears() { self.engine.footing(line).await } else { Footing::Trusted }
    }
}

/// Runs all of `futures` at once, in the caller's task; their results in order.
pub(crate) async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut open = false;
        for (future, result) in running.iter_mut().zip(&mut results) {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(done) => *result = Some(done),
                    Poll::Pending => open = true,
                }
            }
        }
        if open { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    results.into_iter().flatten().collect()
}
