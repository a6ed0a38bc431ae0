//! The load of a batch: one round of leases, one call of the loader, one round of fills.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_core::observe::Metric;
use cache_core::{Claim, Entry, Error, ErrorKind, Fill, Lease, Result, Stamp, Tick};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::far::is_other_kind;
use super::super::load::{Held, LoadTask, late};
use super::super::{Engine, Far, Where};
use super::read::Missing;
use super::{Batch, Led, join_all};
use crate::answer::{Served, Tier};
use crate::flight::{Crew, Lead, Outcome};
use crate::loaded::{Loader, ManyLoader, Produced};
use crate::space::Space;

/// The most keys of one call whose leases are asked for, which are loaded and filled at once, as whole tasks: the other
/// tasks wait for one of them to end.
const KEYS_AT_ONCE: usize = 8000;

/// Hands the missing keys over to tasks of at most `max_batch` keys each; the seats that this call keeps in them. Keys
/// whose last load failed a moment ago are left alone.
pub(super) fn start(batch: &mut Batch<'_>, missing: Missing, loader: &ManyLoader) -> Vec<Boarded> {
    let most = batch.space.max_batch.max(1);
    let mut seats = Vec::with_capacity(missing.leased.len() + missing.cut_off.len());
    let turns = Arc::new(Semaphore::new((KEYS_AT_ONCE / most).max(2)));
    for (leads, far_works) in [(missing.leased, true), (missing.cut_off, false)] {
        let leads: Vec<Led> = leads.into_iter().filter_map(|(led, rest)| batch.held_back(led, rest)).collect();
        let mut leads = leads.into_iter().peekable();
        while leads.peek().is_some() {
            let crew: Vec<Led> = leads.by_ref().take(most).collect();
            seats.extend(embark(batch, crew, loader, &turns, far_works));
        }
    }
    seats
}

impl Batch<'_> {
    /// The flight, unless its key is not to be loaded now: then it ends with the error, or a fallback.
    fn held_back(&mut self, led: Led, rest: Duration) -> Option<Led> {
        let (engine, policy) = (self.engine, &self.space.policy);
        let flight = Arc::clone(led.lead.flight());
        let Some(error) = engine.held_back(&led.at, &flight, self.space, rest) else { return Some(led) };
        let Led { index, at, lead, .. } = led;
        engine.conclude_failed(&at, &flight, policy);
        lead.end(Outcome::Failed(error.clone()));
        let may = self.may_fall_back();
        let outcome = engine.or_fallback(&at, &flight, self.space, may, Outcome::Failed(error));
        self.results[index] = outcome.into_result();
        None
    }
}

/// A place in a flight that this call leads and whose load a task drives.
pub(super) struct Boarded {
    pub(super) index: usize,
    pub(super) at: Where,
    pub(super) lead: Lead,
}

fn embark(
    batch: &Batch<'_>,
    leads: Vec<Led>,
    loader: &ManyLoader,
    turns: &Arc<Semaphore>,
    far_works: bool,
) -> Vec<Boarded> {
    let crew = Crew::of(leads.len());
    let mut members = Vec::with_capacity(leads.len());
    let mut seats = Vec::with_capacity(leads.len());
    for Led { index, at, mut lead, .. } in leads {
        let flight = Arc::clone(lead.flight());
        flight.join_crew(&crew);
        flight.missed();
        members.push(Some(Member { index, task: LoadTask::new(batch.engine, at.clone(), flight, batch.space) }));
        lead.hand_over();
        seats.push(Boarded { index, at, lead });
    }
    let task = BatchTask {
        engine: Arc::clone(batch.engine),
        space: Arc::clone(batch.space),
        loader: Arc::clone(loader),
        turns: Arc::clone(turns),
        members,
        due: batch.called + batch.space.policy.timeouts.hard,
        alone: JoinSet::new(),
    };
    crew.set_task(tokio::spawn(task.run(far_works)).abort_handle());
    seats
}

/// A key of the batch and the end of its flight.
struct Member {
    index: usize,
    task: LoadTask,
}

/// Under what a key is loaded.
enum Way {
    /// There is no far store.
    Alone,
    /// The far store can't be asked.
    CutOff,
    /// A guarded write is under way.
    Barred,
    /// Its lease is ours.
    Leased(Held),
}

/// What a fill needs, by the position of its member.
struct Filling {
    position: usize,
    held: Held,
    entry: Arc<Entry>,
    bytes: Bytes,
    ttl: Duration,
}

/// The flights of one call of the loader, from the miss on. Dropped, it ends each of them as cancelled.
struct BatchTask {
    engine: Arc<Engine>,
    space: Arc<Space>,
    loader: ManyLoader,
    /// Those of its call.
    turns: Arc<Semaphore>,
    /// Whose flights are not ended yet.
    members: Vec<Option<Member>>,
    /// When all of it has to be over.
    due: Instant,
    /// Keys that other processes load: each goes on by itself.
    alone: JoinSet<()>,
}

impl BatchTask {
    async fn run(mut self, far_works: bool) {
        let deadline = self.space.policy.timeouts.hard;
        let engine = Arc::clone(&self.engine);
        let failed = tokio::select! {
            biased;
            done = tokio::time::timeout_at(self.due, self.body(far_works)) => done.err().map(|_| late(deadline)),
            closed = engine.work.cancelled() => Some(closed),
        };
        if let Some(error) = failed {
            for member in self.members.iter_mut().filter_map(Option::take) {
                member.task.finish(Err(error.clone()));
            }
        }
        while self.alone.join_next().await.is_some() {}
    }

    async fn body(&mut self, far_works: bool) {
        let engine = Arc::clone(&self.engine);
        // nobody closes it
        let _turn = Arc::clone(&self.turns).acquire_owned().await.ok();
        let mut ways = match &engine.far {
            None => self.alone(),
            Some(far) if far_works => self.lease(far).await,
            Some(_) => (0..self.members.len()).map(|position| (position, Way::CutOff)).collect(),
        };
        // who was left by its last caller meanwhile needs no load
        ways.retain(|(position, _)| self.task(*position).is_some_and(|task| !task.flight.is_over()));
        if ways.is_empty() {
            return;
        }
        let s0 = engine.s0();
        let (loaded, took) = self.load(&ways).await;
        self.settle(ways, loaded, took, s0).await;
    }

    fn task(&self, position: usize) -> Option<&LoadTask> {
        self.members.get(position)?.as_ref().map(|member| &member.task)
    }

    fn finish(&mut self, position: usize, loaded: Result<Served>) {
        if let Some(member) = self.members.get_mut(position).and_then(Option::take) {
            member.task.finish(loaded);
        }
    }

    /// Without a far store: a guarded write is known here alone.
    fn alone(&self) -> Vec<(usize, Way)> {
        let now = self.engine.clock.now();
        let way = |task: &LoadTask| {
            if self.engine.holds.bars(&task.at.near, now) {
                task.leave_table();
                Way::Barred
            } else {
                Way::Alone
            }
        };
        (0..self.members.len()).filter_map(|position| Some((position, way(self.task(position)?)))).collect()
    }

    /// Asks for every lease in one round. What was filled meanwhile is served; who waits for another process goes on
    /// alone; the rest is for our loader.
    async fn lease(&mut self, far: &Far) -> Vec<(usize, Way)> {
        let engine = Arc::clone(&self.engine);
        let span = engine.options.lease;
        let sent = engine.clock.now();
        // armed before they are asked for, so that no lease outlives a call that is dropped while it asks
        let mut asked: Vec<(usize, Held)> = Vec::with_capacity(self.members.len());
        for (position, member) in self.members.iter().enumerate() {
            if let Some(Member { task, .. }) = member {
                asked.push((position, Held::new(Arc::clone(&engine), task.at.clone(), Stamp::random())));
            }
        }
        let claims: Vec<Claim<'_>> = asked.iter().map(|(_, held)| held.claim()).collect();
        let answers = far.call_many(&engine, claims.len(), far.leases().lease_many(&claims, span)).await;
        drop(claims);
        let mut ways = Vec::with_capacity(asked.len());
        for ((position, held), answer) in asked.into_iter().zip(answers) {
            let Some(task) = self.task(position) else { continue };
            match answer {
                Ok(Lease::Granted) => ways.push((position, Way::Leased(held))),
                Ok(Lease::Barred { .. }) => {
                    held.over();
                    task.leave_table();
                    ways.push((position, Way::Barred));
                }
                Ok(Lease::Found(found)) => {
                    held.over();
                    match engine.take(&task.at, &found, sent, &self.space).await {
                        Ok(Some(entry)) => {
                            let served = task.serve(entry, Tier::Far);
                            self.finish(position, Ok(served));
                        }
                        // found, but not to be served
                        Ok(None) => self.go_alone(position),
                        Err(_) => ways.push((position, Way::CutOff)),
                    }
                }
                Ok(Lease::Held { .. }) => {
                    held.over();
                    self.go_alone(position);
                }
                // whether it was granted is unknown: the lease is given back when it is dropped here
                Err(error) => {
                    if is_other_kind(&error) {
                        // a read of many keys does not tell it from nothing
                        engine.counters.count(Metric::Malformed);
                    }
                    ways.push((position, Way::CutOff));
                }
            }
        }
        ways
    }

    /// Lets a key go on by itself: it waits for whoever holds its lease, and loads if nobody fills it.
    fn go_alone(&mut self, position: usize) {
        let Some(Member { index, task }) = self.members.get_mut(position).and_then(Option::take) else { return };
        let (loader, flight) = (Arc::clone(&self.loader), Arc::clone(&task.flight));
        let loader: Loader = Box::new(move |_| {
            Box::pin(async move {
                if flight.is_over() {
                    return Err(Error::new(ErrorKind::Loader, "the load was cancelled"));
                }
                loader(vec![index]).await?.pop().unwrap_or_else(|| Err(unanswered()))
            })
        });
        self.alone.spawn(task.run(loader, true, self.due));
    }

    /// Calls the loader when it is its turn, renewing the leases at a third of their span. And how long the call took.
    async fn load(&self, ways: &[(usize, Way)]) -> (Result<Vec<Result<Produced>>>, Duration) {
        let engine = &self.engine;
        let asked: Vec<usize> =
            ways.iter().filter_map(|(position, _)| Some(self.members.get(*position)?.as_ref()?.index)).collect();
        let claims: Vec<Claim<'_>> = ways
            .iter()
            .filter_map(|(_, way)| if let Way::Leased(held) = way { Some(held.claim()) } else { None })
            .collect();
        let load = self.produce(asked);
        tokio::pin!(load);
        let span = engine.options.lease;
        let loaded = loop {
            if let Ok(loaded) = tokio::time::timeout(span / 3, &mut load).await {
                break loaded;
            }
            if let Some(far) = engine.far.as_ref().filter(|_| !claims.is_empty()) {
                let renew = far.call_many(engine, claims.len(), far.leases().renew_many(&claims, span));
                // lost or unanswered: that fill will be refused, the load still serves its callers
                let renewed = tokio::select! {
                    biased;
                    done = &mut load => Some(done),
                    _ = renew => None,
                };
                if let Some(loaded) = renewed {
                    break loaded;
                }
            }
        };
        match loaded {
            Ok((produced, took)) => (Ok(produced), took),
            Err(error) => (Err(error), Duration::ZERO),
        }
    }

    async fn produce(&self, asked: Vec<usize>) -> Result<(Vec<Result<Produced>>, Duration)> {
        let begun = self.members.iter().flatten().map(|member| member.task.flight.begun).min();
        let due = begun.map_or(Tick::NEVER, |begun| begun + self.space.policy.timeouts.hard);
        self.engine.call_loader(&self.space, due, || (self.loader)(asked)).await
    }

    /// Ends every flight that was loaded for, filling in one round what may be stored.
    async fn settle(
        &mut self,
        ways: Vec<(usize, Way)>,
        loaded: Result<Vec<Result<Produced>>>,
        took: Duration,
        s0: u64,
    ) {
        let mut loaded = match loaded {
            Ok(loaded) => loaded.into_iter(),
            Err(error) => ways.iter().map(|_| Err(error.clone())).collect::<Vec<_>>().into_iter(),
        };
        let engine = Arc::clone(&self.engine);
        let (mut fillings, mut unfilled, mut barred) = (Vec::new(), Vec::new(), Vec::new());
        for (position, way) in ways {
            let produced = loaded.next().unwrap_or_else(|| Err(unanswered()));
            let Some(task) = self.task(position) else { continue };
            let ended = match (produced, way) {
                (Err(error), way) => {
                    unfilled.extend(way.held());
                    Err(error)
                }
                (Ok(produced), Way::Alone) => Ok(task.loaded_alone((produced, took), s0)),
                (Ok(produced), Way::CutOff) => Ok(task.loaded_cut_off((produced, took), s0)),
                (Ok(produced), Way::Barred) => {
                    barred.extend(self.members.get_mut(position).and_then(Option::take).map(|member| async move {
                        let ended = member.task.loaded_barred((produced, took), s0).await;
                        member.task.finish(ended);
                    }));
                    continue;
                }
                (Ok(produced), Way::Leased(held)) => {
                    let Some(far) = &engine.far else { continue };
                    let (entry, packed) = task.packed(far, held.token, (produced, took), s0);
                    match packed {
                        Some((bytes, ttl)) => {
                            fillings.push(Filling { position, held, entry, bytes, ttl });
                            continue;
                        }
                        None => {
                            unfilled.push(held);
                            Ok(task.unstored(entry))
                        }
                    }
                }
            };
            self.finish(position, ended);
        }
        Held::give_back(unfilled);
        let filled = async {
            if let Some(far) = engine.far.as_ref().filter(|_| !fillings.is_empty()) {
                self.fill(far, fillings).await;
            }
        };
        tokio::join!(filled, join_all(barred));
    }

    async fn fill(&mut self, far: &Far, fillings: Vec<Filling>) {
        let engine = Arc::clone(&self.engine);
        let mut lines: BTreeMap<usize, Vec<Filling>> = BTreeMap::new();
        for filling in fillings {
            lines.entry(filling.held.line()).or_default().push(filling);
        }
        let rounds = lines.into_iter().map(|(line, fillings)| {
            let engine = &engine;
            async move {
                let fills: Vec<Fill<'_>> = fillings
                    .iter()
                    .map(|filling| Fill { claim: filling.held.claim(), frame: filling.bytes.clone(), ttl: filling.ttl })
                    .collect();
                let channel = &engine.lines[line].names.channel;
                let answers = far.call_many(engine, fills.len(), far.leases().fill_many(&fills, channel)).await;
                drop(fills);
                fillings.into_iter().zip(answers).collect::<Vec<_>>()
            }
        });
        let filled = join_all(rounds).await;
        // one that was overtaken may have to wait, and keeps nobody
        let ends = filled.into_iter().flatten().filter_map(|(Filling { position, held, entry, .. }, answer)| {
            let member = self.members.get_mut(position).and_then(Option::take)?;
            Some(async move {
                let ended = member.task.filled(far, held, entry, answer).await;
                member.task.finish(ended);
            })
        });
        join_all(ends).await;
    }
}

impl Way {
    fn held(self) -> Option<Held> {
        if let Self::Leased(held) = self { Some(held) } else { None }
    }
}

/// A loader that is asked for keys answers for each of them.
fn unanswered() -> Error {
    Error::new(ErrorKind::Loader, "the loader gave no answer for a key that it was asked for")
}
