//! What a process writes, and how it tells the others.
//!
//! Rows are written in one of two ways, by the plan. Most are changed in the database and then made known in any of the
//! ways that drop the old value, by writers that don't wait for each other. Rows that are *put* have their value stored
//! by the writer. As an application must, it holds the row's lock from the commit to the end of the put: otherwise the
//! far store's order would be another than the database's.

use std::sync::Arc;
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::testkit::history::Op;
use cache_tiered::Update;
use fastrand::Rng;
use tokio::time::sleep;

use crate::plan::Plan;
use crate::process::Process;
use crate::reader::{pick, row, some, tag};
use crate::world::{Note, Proof, Swap, World};

/// How the others are told of a write.
#[derive(Clone, Copy, PartialEq)]
enum Write {
    Invalidate,
    InvalidateMany,
    Expire,
    Guard,
    Tag,
    Clear,
    Set,
    SetVersioned,
    Update,
}

/// How many counters there are.
const COUNTERS: u16 = 2;

/// Writes until the quiet before the end.
pub(crate) async fn writer(world: Arc<World>, process: Arc<Process>, mut rng: Rng) {
    let plan = &world.plan;
    while world.era.elapsed() < plan.writes() {
        process.link.running().await;
        let key = pick(&world, &mut rng);
        let kind = kind(plan, key, &mut rng);
        let keys = if kind == Write::InvalidateMany { some(&world, key) } else { vec![key] };
        let rows = world.lock(&keys).await;
        // the lock may have taken long
        if world.era.elapsed() < plan.writes() {
            write(&world, &process, &keys, kind, &mut rng).await;
        }
        drop(rows);
        sleep(plan.idle.mul_f64(rng.f64())).await;
    }
}

fn kind(plan: &Plan, key: u16, rng: &mut Rng) -> Write {
    let (versioned, roll) = (plan.is_versioned(key), rng.u8(..));
    if plan.is_put(key) && rng.u8(..) < 150 {
        return match roll {
            _ if versioned => Write::SetVersioned,
            0..160 => Write::Set,
            160.. => Write::Update,
        };
    }
    match roll {
        0..120 => Write::Invalidate,
        120..140 => Write::InvalidateMany,
        140..170 => Write::Expire,
        170..210 => Write::Guard,
        // set_versioned takes no tag
        210..250 if !versioned => Write::Tag,
        210..250 => Write::Invalidate,
        250.. => Write::Clear,
    }
}

async fn write(world: &Arc<World>, process: &Process, keys: &[u16], kind: Write, rng: &mut Rng) {
    let begun = world.era.stamp();
    let transaction = Duration::from_micros(rng.u64(..20_000));
    let key = keys[0];
    let commit = || keys.iter().map(|key| (*key, world.commit(*key, process.id))).collect::<Vec<_>>();
    let (done, versions) = match kind {
        Write::Set | Write::SetVersioned | Write::Update => return put(world, process, key, kind, rng).await,
        Write::Invalidate | Write::InvalidateMany | Write::Expire => {
            let versions = commit();
            sleep(transaction / 4).await;
            process.link.running().await;
            let done = match kind {
                Write::Expire => process.cache.expire(&key).await,
                Write::Invalidate => process.cache.invalidate(&key).await,
                _ => process.cache.invalidate_many(&keys.iter().collect::<Vec<_>>()).await,
            };
            (done, versions)
        }
        Write::Guard => {
            let Ok(guard) = process.cache.write_guard(&[&key], Duration::from_secs(2)).await else { return };
            sleep(transaction).await;
            process.link.running().await;
            let versions = commit();
            (guard.commit().await, versions)
        }
        Write::Tag => {
            let versions = commit();
            (process.tiered.invalidate_tag(&tag(key)).await, versions)
        }
        Write::Clear => {
            let versions = commit();
            (process.tiered.clear().await, versions)
        }
    };
    if done.is_ok() {
        // tags and clear promise the bound to whoever asks the far store
        let proof = if matches!(kind, Write::Tag | Write::Clear) { Proof::Bound } else { Proof::Now };
        let soft = kind == Write::Expire && world.plan.fail_safe.is_some();
        let ended = world.era.stamp();
        for (key, version) in versions {
            let note = Note { process: process.id, op: Op::Acknowledged, key, version, begun, proof, soft };
            world.note_at(note, ended);
        }
    }
}

/// Changes a row and stores its value.
async fn put(world: &World, process: &Process, key: u16, kind: Write, rng: &mut Rng) {
    let begun = world.era.stamp();
    let failed = || process.tiered.metrics().get(Metric::BackgroundWriteFailed);
    let (cache, failures) = (&process.cache, failed());
    let mut version = 0;
    if kind != Write::Update {
        version = world.commit_loose(key);
        sleep(Duration::from_micros(rng.u64(..5_000))).await;
        process.link.running().await;
    }
    let stored = match kind {
        Write::Set => cache.store(&key, row(key, version)).await,
        Write::SetVersioned => {
            let row = u32::try_from(version).unwrap_or(u32::MAX);
            cache.set_versioned(&key, version, row).await.map(drop)
        }
        _ => {
            let update = cache.update(&key, |_| {
                // a round that lost stored nothing
                world.tighten(key, version);
                version = world.commit_loose(key);
                Update::Store(row(key, version))
            });
            update.await.map(drop)
        }
    };
    if stored.is_err() {
        return;
    }
    let mut note =
        Note { process: process.id, op: Op::Acknowledged, key, version, begun, proof: Proof::Now, soft: false };
    let ended = world.era.stamp();
    if kind == Write::Set && world.plan.behind.is_some() {
        // until it has landed it binds this process alone
        world.note_at(Note { proof: Proof::Own, ..note }, ended);
        if !landed(world, process).await || failed() != failures {
            return;
        }
        note.begun = ended;
    }
    world.tighten(key, version);
    world.note(note);
}

/// Whether the process's background writes landed soon.
async fn landed(world: &World, process: &Process) -> bool {
    let until = world.era.elapsed() + world.plan.bound * 2;
    while process.tiered.pending_writes() > 0 {
        if world.era.elapsed() > until {
            return false;
        }
        sleep(Duration::from_millis(1)).await;
    }
    true
}

/// Updates counters, which no database has, until the quiet before the end.
pub(crate) async fn counter(world: Arc<World>, process: Arc<Process>, mut rng: Rng) {
    while world.era.elapsed() < world.plan.writes() {
        process.link.running().await;
        let key = rng.u16(..COUNTERS);
        let mut seen = None;
        let update = process.counters.update(&key, |old| {
            seen = old.map(|old| *old);
            Update::from(world.make())
        });
        if update.await.is_ok() {
            let ended = world.era.stamp();
            world.seen().swaps.push(Swap { key, seen, ended });
        }
        sleep(world.plan.idle.mul_f64(0.3 * rng.f64())).await;
    }
}
