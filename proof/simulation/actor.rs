//! What the tasks of a process do: read, write, and note what came of it.

use std::sync::Arc;
use std::time::Duration;

use cache_core::testkit::history::{Op, Tier};
use cache_tiered::{Answer, Consistency, Freshness, Loaded};
use fastrand::Rng;
use tokio::time::sleep;

use crate::process::Process;
use crate::scene::{Note, Proof, World};

/// How a row is read.
#[derive(Clone, Copy)]
enum Read {
    Load,
    Lookup,
    Fresh,
    Bounded,
    Many,
}

/// How the others are told of a write.
#[derive(Clone, Copy)]
enum Write {
    Invalidate,
    Guard,
    Tag,
    Clear,
}

/// The tag that a key's value carries.
fn tag(key: u16) -> String {
    format!("group {}", key % 5)
}

/// Reads until the end.
pub(crate) async fn reader(world: Arc<World>, process: Arc<Process>, mut rng: Rng) {
    let plan = &world.plan;
    while world.era.elapsed() < plan.span {
        process.link.running().await;
        let key = pick(&world, &mut rng);
        let kind = match rng.u8(..) {
            0..200 => Read::Load,
            200..220 => Read::Lookup,
            220..240 => Read::Fresh,
            240..248 => Read::Bounded,
            248.. => Read::Many,
        };
        for _ in 0..rng.u8(1..4) {
            read(&world, &process, key, kind, &mut rng).await;
        }
        sleep(plan.think.mul_f64(-f64::ln(1.0 - rng.f64()))).await;
    }
}

fn pick(world: &World, rng: &mut Rng) -> u16 {
    let plan = &world.plan;
    if rng.u8(..) < 160 { rng.u16(..plan.hot) } else { plan.hot + rng.u16(..plan.sparse) }
}

async fn read(world: &Arc<World>, process: &Process, key: u16, kind: Read, rng: &mut Rng) {
    let begun = world.era.stamp();
    let cache = &process.cache;
    let (answer, proof) = match kind {
        Read::Load => (cache.load_with(&key, loader(world, process, key)).await.ok(), Proof::Bound),
        Read::Lookup => (cache.lookup(&key).await.ok().flatten(), Proof::Bound),
        Read::Fresh => {
            let fresh = cache.with(Consistency::Fresh);
            (fresh.load_with(&key, loader(world, process, key)).await.ok(), Proof::Now)
        }
        Read::Bounded => {
            let within = world.plan.bound.mul_f64(2.0 * rng.f64());
            let bounded = cache.with(Consistency::Bounded(within));
            (bounded.load_with(&key, loader(world, process, key)).await.ok(), Proof::Within(within))
        }
        Read::Many => return many(world, process, key).await,
    };
    if let Some((version, tier)) = answer.as_ref().and_then(told) {
        world.note(Note { process: process.id, op: Op::Read(tier), key, version, begun, proof });
    }
}

/// Reads some keys in one call, which tells values alone.
async fn many(world: &Arc<World>, process: &Process, first: u16) {
    let begun = world.era.stamp();
    let keys: Vec<u16> = (first..world.plan.keys()).step_by(3).take(4).collect();
    let found = process.cache.get_many(&keys.iter().collect::<Vec<_>>()).await;
    let tier = if world.plan.outage.is_zero() { Tier::Far } else { Tier::Unconfirmed };
    for (key, found) in keys.into_iter().zip(found) {
        if let Ok(Some(version)) = found {
            let (op, version) = (Op::Read(tier), *version);
            world.note(Note { process: process.id, op, key, version, begun, proof: Proof::Bound });
        }
    }
}

fn told(answer: &Answer<u64>) -> Option<(u64, Tier)> {
    let tier = match (answer.tier, answer.freshness) {
        (_, Freshness::Stale(_)) => Tier::Unconfirmed,
        (cache_tiered::Tier::Near, _) => Tier::Near,
        (cache_tiered::Tier::Far, _) => Tier::Far,
        (cache_tiered::Tier::Origin, _) => Tier::Origin,
    };
    Some((**answer.value.as_ref()?, tier))
}

fn loader(
    world: &Arc<World>,
    process: &Process,
    key: u16,
) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = cache_core::Result<Loaded<u64>>> + Send>> + Send + use<> {
    let (world, link) = (Arc::clone(world), process.link.clone());
    move || {
        Box::pin(async move {
            link.running().await;
            let version = world.origin.read(key).await?;
            link.running().await;
            world.origin.note_loaded(key, version, world.era.stamp());
            Ok(Loaded::value(version).tag(&tag(key)))
        })
    }
}

/// Writes until the quiet before the end.
pub(crate) async fn writer(world: Arc<World>, process: Arc<Process>, mut rng: Rng) {
    let plan = &world.plan;
    while world.era.elapsed() < plan.span - plan.quiet() {
        process.link.running().await;
        let key = pick(&world, &mut rng);
        let kind = match rng.u8(..) {
            0..170 => Write::Invalidate,
            170..210 => Write::Guard,
            210..250 => Write::Tag,
            250.. => Write::Clear,
        };
        write(&world, &process, key, kind, &mut rng).await;
        sleep(plan.idle.mul_f64(rng.f64())).await;
    }
}

async fn write(world: &Arc<World>, process: &Process, key: u16, kind: Write, rng: &mut Rng) {
    let begun = world.era.stamp();
    let transaction = Duration::from_micros(rng.u64(..20_000));
    let (done, version) = match kind {
        Write::Invalidate => {
            let version = world.origin.commit(key);
            sleep(transaction / 4).await;
            process.link.running().await;
            (process.cache.invalidate(&key).await, version)
        }
        Write::Guard => {
            let Ok(guard) = process.cache.write_guard(&[&key], Duration::from_secs(2)).await else { return };
            sleep(transaction).await;
            process.link.running().await;
            let version = world.origin.commit(key);
            (guard.commit().await, version)
        }
        Write::Tag => {
            let version = world.origin.commit(key);
            (process.tiered.invalidate_tag(&tag(key)).await, version)
        }
        Write::Clear => {
            let version = world.origin.commit(key);
            (process.tiered.clear().await, version)
        }
    };
    if done.is_ok() {
        // tags and clear promise the bound to whoever asks the far store
        let proof = if matches!(kind, Write::Tag | Write::Clear) { Proof::Bound } else { Proof::Now };
        world.note(Note { process: process.id, op: Op::Acknowledged, key, version, begun, proof });
    }
}

/// Reads every row once, in the quiet at the end; on how many the answer isn't the database's.
pub(crate) async fn last_reads(world: &Arc<World>, process: &Process) -> u64 {
    let mut unequal = 0;
    for key in 0..world.plan.keys() {
        let begun = world.era.stamp();
        let answer = process.cache.load_with(&key, loader(world, process, key)).await.ok();
        let told = answer.as_ref().and_then(told);
        if let Some((version, tier)) = told {
            let note = Note { process: process.id, op: Op::Read(tier), key, version, begun, proof: Proof::Bound };
            world.note(note);
        }
        unequal += u64::from(told.map(|(version, _)| version) != Some(world.origin.truth(key)));
    }
    unequal
}
