//! One simulation: the world, its processes, and what is seen of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cache_core::{Header, Leases, Memory, State, Sweep};
use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::faults::pause;
use crate::net::Link;
use crate::oracle::judge;
use crate::origin::Origin;
use crate::plan::Plan;
use crate::process::{Process, THROTTLE};
use crate::reader::{last_reads, reader};
use crate::time::machine;
use crate::verdict::Findings;
use crate::world::{Failover, World};
use crate::writer::{counter, writer};

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
            tasks.spawn(reader(Arc::clone(world), Arc::clone(&process), rng));
        }
        let [one, other] = [rng.u64(..), rng.u64(..)].map(Rng::with_seed);
        tasks.spawn(writer(Arc::clone(world), Arc::clone(&process), one));
        tasks.spawn(counter(Arc::clone(world), Arc::clone(&process), other));
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
        let dead = Arc::clone(&self.places[place].0);
        dead.link.kill();
        self.world.seen().deaths.insert(dead.id, self.world.era.stamp());
        self.places[place].1.shutdown().await;
        if let Ok(started) = self.start(rng).await {
            self.places[place] = started;
        }
    }

    /// A replica takes over that lacks what the server did for a while before. If it is a `split`, the old server goes on
    /// for some processes until `span` later.
    pub(crate) async fn fail_over(&self, split: bool, span: Duration, rng: &mut Rng) {
        let world = &self.world;
        let from = world.era.stamp();
        let replica = world.server().fork();
        sleep(span.mul_f64(0.5 * rng.f64())).await;
        world.promote(replica.clone());
        let (stay, go): (Vec<_>, Vec<_>) = self.places.iter().partition(|_| split && rng.bool());
        let turn = |places: Vec<&(Arc<Process>, JoinSet<()>)>| {
            places.iter().for_each(|(process, _)| process.link.turn_to(replica.clone()));
        };
        turn(go);
        if !stay.is_empty() {
            sleep(span).await;
            turn(stay);
        }
        let until = world.era.stamp();
        world.seen().failovers.push(Failover { from, until });
    }

    /// Strikes at random moments until the quiet before the end.
    async fn harass(&mut self, rng: &mut Rng) {
        let plan = self.world.plan.clone();
        // the longest fault and what it drags behind is over when the quiet begins
        let end = plan.writes() - plan.bound * 3;
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
    let (clock, wall) = machine(Duration::from_secs(rng.u64(1..10_000_000)), plan.pace(&mut rng));
    let server = Memory::builder().clock(clock).build();
    let origin = Origin::new(plan.keys(), plan.load_us, Rng::with_seed(rng.u64(..)));
    let world = Arc::new(World::new(plan, server, wall, origin));
    let mut stage = Stage::set(Arc::clone(&world), &mut rng).await?;
    stage.harass(&mut rng).await;
    for (_, tasks) in &mut stage.places {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a task of a process panicked")?;
        }
    }
    // what is still due: beats, retries, leases, the outage window
    let plan = &world.plan;
    sleep(plan.bound * 2 + plan.outage + plan.lease + Duration::from_secs(1) + THROTTLE).await;
    let mut findings = Findings { lived: world.era.elapsed() * u32::try_from(plan.processes)?, ..Findings::default() };
    let mut unequal = Vec::new();
    for (process, _) in &stage.places {
        unequal.extend(last_reads(&world, process).await);
    }
    // a lease whose grant was lost on its way runs out by itself
    sleep(plan.bound + plan.lease).await;
    for (process, _) in &stage.places {
        findings.undone += process.tiered.in_flight() as u64 + process.tiered.pending_invalidations() as u64;
        findings.undone += process.tiered.pending_writes() as u64;
        findings.metrics.push(process.tiered.metrics());
    }
    findings.leases = leases(&world.server()).await;
    judge(&mut findings, &world, &unequal);
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
