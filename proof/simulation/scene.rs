//! One simulation: the world, its processes, and what is seen of them.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use cache_core::testkit::history::Op;
use cache_core::{Header, Leases, Memory, State, Sweep};
use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::actor;
use crate::faults::pause;
use crate::net::Link;
use crate::origin::Origin;
use crate::plan::Plan;
use crate::process::Process;
use crate::time::{Era, Wall, machine};
use crate::verdict::{Findings, judge};

/// What holds for a read or an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Proof {
    /// The bound: what was acknowledged that long ago is seen.
    Bound,
    /// No bound: a read that asks the far store, an acknowledgement that holds there at once.
    Now,
    /// A bound of the call's own.
    Within(Duration),
}

/// Something that ended without error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub(crate) process: u32,
    pub(crate) op: Op,
    pub(crate) key: u16,
    pub(crate) version: u64,
    pub(crate) begun: u64,
    pub(crate) proof: Proof,
}

/// A note and when it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    pub(crate) note: Note,
    pub(crate) ended: u64,
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Note { process, op, key, version, begun, proof } = self.note;
        let (begun, ended) = (begun as f64 / 1e6, self.ended as f64 / 1e6);
        write!(f, "{begun:>16.6} {ended:>16.6} ms process {process} key {key} version {version:>6} {op:?} {proof:?}")
    }
}

/// What all processes share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) era: Era,
    pub(crate) server: Memory,
    pub(crate) wall: Wall,
    pub(crate) origin: Origin,
    notes: Mutex<Vec<Noted>>,
    ids: AtomicU32,
}

impl World {
    pub(crate) fn note(&self, note: Note) {
        let ended = self.era.stamp();
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(Noted { note, ended });
    }

    pub(crate) fn next_id(&self) -> u32 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// The processes that live, each with its tasks.
pub(crate) struct Stage {
    pub(crate) world: Arc<World>,
    places: Vec<(Arc<Process>, JoinSet<()>)>,
}

impl Stage {
    async fn set(world: Arc<World>, rng: &mut Rng) -> Result<Self> {
        let mut stage = Self { world, places: Vec::new() };
        for _ in 0..stage.world.plan.processes {
            let place = stage.start(rng).await?;
            stage.places.push(place);
        }
        Ok(stage)
    }

    async fn start(&self, rng: &mut Rng) -> Result<(Arc<Process>, JoinSet<()>)> {
        let world = &self.world;
        let process = Arc::new(Process::start(world, rng).await?);
        let mut tasks = JoinSet::new();
        for _ in 0..world.plan.readers {
            let rng = Rng::with_seed(rng.u64(..));
            tasks.spawn(actor::reader(Arc::clone(world), Arc::clone(&process), rng));
        }
        let rng = Rng::with_seed(rng.u64(..));
        tasks.spawn(actor::writer(Arc::clone(world), Arc::clone(&process), rng));
        Ok((process, tasks))
    }

    pub(crate) fn processes(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn link(&self, place: usize) -> &Link {
        &self.places[place].0.link
    }

    pub(crate) fn links(&self, each: impl Fn(&Link)) {
        self.places.iter().for_each(|(process, _)| each(&process.link));
    }

    /// Kills a process and starts another in its place.
    pub(crate) async fn restart(&mut self, place: usize, rng: &mut Rng) {
        self.places[place].0.link.kill();
        self.places[place].1.shutdown().await;
        if let Ok(started) = self.start(rng).await {
            self.places[place] = started;
        }
    }

    /// Strikes at random moments until the quiet before the end.
    async fn harass(&mut self, rng: &mut Rng) {
        let plan = self.world.plan.clone();
        // the longest fault and what it drags behind is over when the quiet begins
        let end = plan.span - plan.quiet() - plan.bound * 3;
        loop {
            let pause = pause(plan.bound, rng);
            if plan.faults.is_empty() || self.world.era.elapsed() + pause > end {
                return;
            }
            sleep(pause).await;
            let fault = plan.faults[rng.usize(..plan.faults.len())];
            fault.strike(self, rng).await;
        }
    }
}

/// Plays `plan` from its first moment to its last, in no time.
pub(crate) fn play(plan: Plan) -> Result<Findings> {
    // jitter and polls of the engine; one thread, so nobody else draws
    fastrand::seed(plan.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .context("a runtime can't be made")?;
    runtime.block_on(act(plan))
}

async fn act(plan: Plan) -> Result<Findings> {
    let mut rng = Rng::with_seed(plan.seed);
    let (clock, wall) = machine(Duration::from_secs(rng.u64(1..10_000_000)));
    let world = Arc::new(World {
        era: Era::begin(),
        server: Memory::builder().clock(clock).build(),
        wall,
        origin: Origin::new(plan.keys(), plan.load_us, Rng::with_seed(rng.u64(..))),
        notes: Mutex::default(),
        ids: AtomicU32::new(0),
        plan,
    });
    let mut stage = Stage::set(Arc::clone(&world), &mut rng).await?;
    stage.harass(&mut rng).await;
    for (_, tasks) in &mut stage.places {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a task of a process panicked")?;
        }
    }
    // what is still due: beats, retries, leases, the outage window
    let plan = &world.plan;
    sleep(plan.bound * 2 + plan.outage + plan.lease + Duration::from_secs(1)).await;
    let mut findings = Findings { lived: world.era.elapsed() * u32::try_from(plan.processes)?, ..Findings::default() };
    for (process, _) in &stage.places {
        findings.unequal += actor::last_reads(&world, process).await;
    }
    // a lease whose grant was lost on its way runs out by itself
    sleep(plan.bound + plan.lease).await;
    for (process, _) in &stage.places {
        findings.undone += process.tiered.in_flight() as u64 + process.tiered.pending_invalidations() as u64;
        findings.metrics.push(process.tiered.metrics());
    }
    findings.leases = leases(&world.server).await;
    let notes = std::mem::take(&mut *world.notes.lock().unwrap_or_else(PoisonError::into_inner));
    judge(&mut findings, &world, &notes);
    Ok(findings)
}

/// How many leases the server holds.
async fn leases(server: &Memory) -> u64 {
    let mut leases = 0;
    for key in server.keys("").await.unwrap_or_default() {
        let head = server.peek(&key).await.ok().flatten();
        leases += u64::from(head.is_some_and(|head| Header::parse(&head).is_ok_and(|h| h.state == State::Lease)));
    }
    leases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(seed: u64) -> u64 {
        play(Plan::of(seed, Duration::from_secs(15))).unwrap().hash
    }

    #[test]
    fn a_seed_decides_everything() {
        let first: Vec<u64> = (1..=6).map(hash).collect();
        // in another order, and on a thread of their own
        let mut again: Vec<u64> = std::thread::spawn(|| (1..=6).rev().map(hash).collect()).join().unwrap();
        again.reverse();
        assert_eq!(first, again);
        assert_ne!(first[0], first[1]);
    }
}
