//! What a process reads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cache_core::Result;
use cache_core::testkit::history::{Op, Tier};
use cache_tiered::{Answer, Consistency, Freshness, Loaded, StaleReason};
use fastrand::Rng;
use tokio::time::sleep;

use crate::net::Link;
use crate::process::Process;
use crate::world::{Note, Proof, World};

/// How a row is read.
#[derive(Clone, Copy)]
enum Read {
    Load,
    Lookup,
    Fresh,
    Bounded,
    Batched,
    Many,
    LoadMany,
}

/// What an answer told: version, tier, and whether it was marked as past its time.
type Told = (u64, Tier, bool);

/// The tag that a key's value carries.
pub(crate) fn tag(key: u16) -> String {
    format!("group {}", key % 5)
}

/// What is loaded and put.
pub(crate) fn row(key: u16, version: u64) -> Loaded<u64> {
    Loaded::value(version).tag(&tag(key)).row(u32::try_from(version).unwrap_or(u32::MAX))
}

/// A key of those that everybody asks for, or another.
pub(crate) fn pick(world: &World, rng: &mut Rng) -> u16 {
    let plan = &world.plan;
    if rng.u8(..) < 160 { rng.u16(..plan.hot) } else { plan.hot + rng.u16(..plan.sparse) }
}

/// Some keys, `first` among them, in their order.
pub(crate) fn some(world: &World, first: u16) -> Vec<u16> {
    (first..world.plan.keys()).step_by(3).take(4).collect()
}

/// Reads until the end.
pub(crate) async fn reader(world: Arc<World>, process: Arc<Process>, mut rng: Rng) {
    let plan = &world.plan;
    while world.era.elapsed() < plan.span {
        process.link.running().await;
        let key = pick(&world, &mut rng);
        let kind = match rng.u8(..) {
            0..180 => Read::Load,
            180..200 => Read::Lookup,
            200..216 => Read::Fresh,
            216..224 => Read::Bounded,
            224..240 => Read::Batched,
            240..248 => Read::Many,
            248.. => Read::LoadMany,
        };
        for _ in 0..rng.u8(1..4) {
            read(&world, &process, key, kind, &mut rng).await;
        }
        sleep(plan.think.mul_f64(-f64::ln(1.0 - rng.f64()))).await;
    }
}

async fn read(world: &Arc<World>, process: &Process, key: u16, kind: Read, rng: &mut Rng) {
    let begun = world.era.stamp();
    let cache = &process.cache;
    let (answer, proof) = match kind {
        Read::Load => (cache.load_with(&key, loader(world, &process.link, key)).await.ok(), Proof::Bound),
        Read::Lookup => (cache.lookup(&key).await.ok().flatten(), Proof::Bound),
        Read::Fresh => {
            let fresh = cache.with(Consistency::Fresh);
            (fresh.load_with(&key, loader(world, &process.link, key)).await.ok(), Proof::Now)
        }
        Read::Bounded => {
            let within = world.plan.bound.mul_f64(2.0 * rng.f64());
            let bounded = cache.with(Consistency::Bounded(within));
            (bounded.load_with(&key, loader(world, &process.link, key)).await.ok(), Proof::Within(within))
        }
        Read::Batched => (process.batched.lookup_or_load(&key).await.ok(), Proof::Bound),
        Read::Many => return many(world, process, key).await,
        Read::LoadMany => return load_many(world, process, key).await,
    };
    if let Some(told) = answer.as_ref().and_then(told) {
        note(world, process, key, told, begun, proof);
    }
}

fn note(world: &World, process: &Process, key: u16, (version, tier, soft): Told, begun: u64, proof: Proof) {
    world.note(Note { process: process.id, op: Op::Read(tier), key, version, begun, proof, soft });
}

/// Reads some keys in one call, which tells values alone.
async fn many(world: &World, process: &Process, first: u16) {
    let begun = world.era.stamp();
    let keys = some(world, first);
    let found = process.cache.get_many(&keys.iter().collect::<Vec<_>>()).await;
    let tier = if world.plan.outage.is_zero() { Tier::Far } else { Tier::Unconfirmed };
    for (key, found) in keys.into_iter().zip(found) {
        if let Ok(Some(version)) = found {
            note(world, process, key, (*version, tier, false), begun, Proof::Bound);
        }
    }
}

/// Reads some keys in one call, and loads what is missing in another.
async fn load_many(world: &Arc<World>, process: &Process, first: u16) {
    let begun = world.era.stamp();
    let keys = some(world, first);
    let answers = process.cache.load_many_with(&keys, rows(world, &process.link)).await;
    for (key, answer) in keys.into_iter().zip(answers) {
        if let Some(told) = answer.ok().as_ref().and_then(told) {
            note(world, process, key, told, begun, Proof::Bound);
        }
    }
}

fn told(answer: &Answer<u64>) -> Option<Told> {
    let (tier, soft) = match (answer.tier, answer.freshness) {
        (_, Freshness::Stale(StaleReason::LoadFailed | StaleReason::SoftTimeout)) => (Tier::Unconfirmed, true),
        (_, Freshness::Stale(_)) => (Tier::Unconfirmed, false),
        (cache_tiered::Tier::Near, _) => (Tier::Near, false),
        (cache_tiered::Tier::Far, _) => (Tier::Far, false),
        (cache_tiered::Tier::Origin, _) => (Tier::Origin, false),
    };
    Some((**answer.value.as_ref()?, tier, soft))
}

type Loading<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// A loader of one row.
fn loader(world: &Arc<World>, link: &Link, key: u16) -> impl FnOnce() -> Loading<Loaded<u64>> + Send + use<> {
    let (world, link) = (Arc::clone(world), link.clone());
    move || {
        Box::pin(async move {
            link.running().await;
            let version = world.origin.read(key).await?;
            link.running().await;
            world.origin.note_loaded(key, version, world.era.stamp());
            Ok(row(key, version))
        })
    }
}

type Rows = Vec<(u16, Result<Loaded<u64>>)>;

/// A loader of many rows, which reads them all at one moment.
pub(crate) fn rows(
    world: &Arc<World>,
    link: &Link,
) -> impl Fn(Vec<u16>) -> Loading<Rows> + Send + Sync + 'static + use<> {
    let (world, link) = (Arc::clone(world), link.clone());
    move |keys| {
        let (world, link) = (Arc::clone(&world), link.clone());
        Box::pin(async move {
            link.running().await;
            let versions = world.origin.read_many(&keys).await?;
            link.running().await;
            let loaded = world.era.stamp();
            let rows = keys.into_iter().zip(versions).map(|(key, version)| {
                world.origin.note_loaded(key, version, loaded);
                (key, Ok(row(key, version)))
            });
            Ok(rows.collect())
        })
    }
}

/// A row on which a process and the database disagree in the end.
pub(crate) struct Unequal {
    pub(crate) key: u16,
    /// What the process was told, if anything.
    pub(crate) version: Option<u64>,
    /// Whether it was told that this stands in for a load.
    pub(crate) soft: bool,
}

/// Reads every row once, in the quiet at the end; the rows where the answer isn't the database's.
pub(crate) async fn last_reads(world: &Arc<World>, process: &Process) -> Vec<Unequal> {
    let mut unequal = Vec::new();
    for key in 0..world.plan.keys() {
        let begun = world.era.stamp();
        let answer = process.cache.load_with(&key, loader(world, &process.link, key)).await.ok();
        let told = answer.as_ref().and_then(told);
        if let Some(told) = told {
            note(world, process, key, told, begun, Proof::Bound);
        }
        let version = told.map(|(version, ..)| version);
        if version != Some(world.origin.truth(key)) {
            unequal.push(Unequal { key, version, soft: told.is_some_and(|(.., soft)| soft) });
        }
    }
    unequal
}
