//! Threads under a scheduler that tries their interleavings: flight table, install, purge, doubt, epochs and hits.
//!
//! Everything between two locks or atomics of [`crate::sync`] and the near store is one step. Each scenario is played
//! under random schedules and under PCT (few, well-placed switches); what is checked is what readers are told:
//! nothing older than what was acknowledged before they began, and nothing older than what an earlier read was told.
//!
//! `STRATA_SEED` chooses other schedules, `STRATA_SCHEDULES` how many.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{
    Beat, Clock, Entry, Frame, Glance, Header, LocalStore, ManualClock, Packing, Parted, Stamp, Tags, Tick,
};
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::Mutex;
use shuttle::{Runner, thread};

use super::{Engine, Look, Options, Probe, Setup, Where};
use crate::answer::{Freshness, Served, Tier};
use crate::coherence::mutate::{self, Mutation};
use crate::coherence::{Cause, Track, Verdict};
use crate::flight::{Boarding, Outcome};
use crate::policy::Policy;

const KEY: &str = "strata:rows:k";
const D: Duration = Duration::from_secs(2);

/// A near store whose every call is a step.
#[derive(Debug, Default)]
struct Near(Mutex<BTreeMap<String, Arc<Entry>>>);

impl Near {
    fn map<T>(&self, with: impl FnOnce(&mut BTreeMap<String, Arc<Entry>>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LocalStore for Near {
    fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.map(|map| map.get(key).cloned())
    }

    fn glance(&self, key: &Parted<'_>) -> Option<Glance> {
        key.joined(|key| self.map(|map| map.get(key).and_then(|entry| entry.part()))).map(Glance::Part)
    }

    fn put(&self, key: &str, entry: Arc<Entry>) {
        self.map(|map| drop(map.insert(key.to_owned(), entry)));
    }

    fn remove(&self, key: &str) -> Option<Arc<Entry>> {
        self.map(|map| map.remove(key))
    }

    fn clear(&self) {
        self.map(BTreeMap::clear);
    }

    fn len(&self) -> u64 {
        self.map(|map| map.len() as u64)
    }

    fn weight(&self) -> u64 {
        0
    }

    fn budget(&self) -> u64 {
        u64::MAX
    }

    fn settle(&self) {}

    fn each(&self, _visit: &mut dyn FnMut(&str, &Arc<Entry>) -> bool) {}
}

/// What is known to the checker alone; no step.
#[derive(Debug, Default)]
struct Ghost {
    /// The newest version that a read was told.
    told: AtomicU64,
    /// The newest version whose change is done, as far as this process goes.
    done: AtomicU64,
    /// A version changed elsewhere, and from when on nobody may be told less.
    elsewhere: AtomicU64,
    due: AtomicU64,
}

struct World {
    engine: Arc<Engine>,
    at: Where,
    policy: Policy,
    clock: ManualClock,
    /// The row, wherever it stands: one step to read, one to change.
    row: Mutex<u64>,
    stamps: AtomicU64,
    ghost: Ghost,
}

impl World {
    fn new() -> Arc<Self> {
        let (clock, hand) = Clock::manual();
        let setup = Setup {
            near: Some(Arc::new(Near::default())),
            far: None,
            packing: Packing::default(),
            namespace: "strata".to_owned(),
            lines: 1,
            options: Options { bound: D, outage: Duration::ZERO, ..Options::default() },
            clock,
            monitor: None,
            heat: None,
            behind: None,
        };
        let engine = block_on(Engine::start(setup)).unwrap();
        let at = engine.names.locate(KEY).unwrap();
        let policy = Policy { jitter: 0.0, ..Policy::default() };
        let (row, stamps, ghost) = (Mutex::new(0), AtomicU64::new(1), Ghost::default());
        Arc::new(Self { engine, at, policy, clock: hand, row, stamps, ghost })
    }

    /// What is told of the row now, as a loader or the far store would.
    fn fetch(&self) -> u64 {
        *self.row.lock().unwrap()
    }

    fn commit(&self) -> u64 {
        let mut row = self.row.lock().unwrap();
        *row += 1;
        *row
    }

    fn entry(&self, version: u64) -> Arc<Entry> {
        let stamp = Stamp(self.stamps.fetch_add(1, Ordering::Relaxed));
        let header = Header { stamp, s0: self.engine.lines[0].view.applied(), ..Header::value() };
        let payload = Bytes::copy_from_slice(&version.to_le_bytes());
        let entry = Entry::new(Frame { header, tags: Tags::default(), payload }, Tick::NEVER);
        entry.remember(Arc::new(version));
        Arc::new(entry)
    }

    fn need(&self) -> u64 {
        let due = Tick::from_nanos(self.ghost.due.load(Ordering::Relaxed)) <= self.engine.clock.now();
        let elsewhere = if due { self.ghost.elsewhere.load(Ordering::Relaxed) } else { 0 };
        let here = self.ghost.told.load(Ordering::Relaxed).max(self.ghost.done.load(Ordering::Relaxed));
        here.max(elsewhere)
    }

    /// A read, checked.
    fn get(&self) {
        self.get_by(|engine| engine.look(&Parted::cut(KEY)));
    }

    /// A read that does without the entry where it can, checked.
    fn glance(&self) {
        self.get_by(|engine| match engine.glance(&Parted::cut(KEY), |part| part.value?.downcast::<u64>().ok()) {
            Ok(version) => Look::Plain(Probe::Hit(self.entry(*version), Freshness::WithinBound)),
            Err(look) => look,
        });
    }

    fn get_by(&self, look: impl Fn(&Engine) -> Look) {
        let need = self.need();
        let told = self.read(look);
        assert!(told >= need, "told {told} where {need} was known");
        self.ghost.told.fetch_max(told, Ordering::Relaxed);
    }

    fn read(&self, look: impl Fn(&Engine) -> Look) -> u64 {
        let engine = &self.engine;
        loop {
            let suspect = match look(engine) {
                Look::Plain(Probe::Hit(entry, _)) | Look::Due(entry) => return version(&entry),
                Look::Plain(Probe::Suspect(entry)) => Some(entry),
                Look::Plain(Probe::Miss) => None,
            };
            if engine.clock.now() >= engine.trust_until(0) {
                // without trust nothing is kept
                return self.fetch();
            }
            match engine.board(&self.at, true, None) {
                Boarding::Joined(seat) => match engine.accept(&self.at, &seat, block_on(seat.ended())) {
                    Outcome::Done(Some(served)) => return version(&served.entry),
                    Outcome::Done(None) | Outcome::Failed(_) | Outcome::Abandoned => {}
                },
                Boarding::Leads(lead) => {
                    let fetched = self.fetch();
                    let stands = suspect.filter(|entry| version(entry) == fetched);
                    let (entry, tier) = match stands {
                        Some(entry) => {
                            engine.conclude_confirmed(engine.clock.now(), &self.at, lead.flight(), &entry);
                            (entry, Tier::Near)
                        }
                        None => {
                            let entry = self.entry(fetched);
                            engine.conclude(&self.at, lead.flight(), &entry, &self.policy);
                            (entry, Tier::Origin)
                        }
                    };
                    lead.end_apart(Outcome::Done(Some(Served::fresh(entry, tier))));
                    return fetched;
                }
            }
        }
    }

    /// Changes the row and purges, as an acknowledged invalidation does.
    fn write(&self) {
        let version = self.commit();
        self.engine.purge(KEY, Cause::Own);
        self.ghost.done.fetch_max(version, Ordering::Relaxed);
    }

    /// Another program changes the row; a push without a number says so.
    fn push(&self) {
        let version = self.commit();
        self.engine.doubt(KEY);
        self.ghost.done.fetch_max(version, Ordering::Relaxed);
    }
}

fn version(entry: &Entry) -> u64 {
    u64::from_le_bytes(entry.payload()[..].try_into().unwrap())
}

/// Runs threads to their ends; nothing may be left in flight, and nothing old in the near store.
fn together(world: &Arc<World>, threads: &[fn(&World)]) {
    let running: Vec<_> = threads
        .iter()
        .map(|body| {
            let (world, body) = (Arc::clone(world), *body);
            thread::spawn(move || body(&world))
        })
        .collect();
    for thread in running {
        thread.join().unwrap();
    }
    world.get();
    world.glance();
    assert_eq!(world.engine.flights.len(), 0, "a flight is left");
}

fn twice(world: &World) {
    world.glance();
    world.get();
}

/// Reads against own invalidations: install, purge, join, hit.
fn invalidated() {
    together(
        &World::new(),
        &[twice, twice, |world| {
            world.write();
            world.write();
        }],
    );
}

/// Two writers, so that flights are detached twice and what they tell contests.
fn contested() {
    together(&World::new(), &[twice, twice, World::write, World::write]);
}

/// Reads against pushes without a number.
fn doubted() {
    let world = World::new();
    world.get();
    together(
        &world,
        &[twice, World::get, |world| {
            world.push();
            world.push();
        }],
    );
}

/// Another process changes the row. Its message is late; a beat finds it, or the gap that it left.
fn elsewhere(message: bool, warm: bool) {
    let world = World::new();
    let engine = &world.engine;
    {
        let mut track = engine.track(0);
        *track = Track::new(D);
        let ticket = track.beat_sent(engine.clock.now());
        let verdict = track.beat_reply(ticket, &beat(10), engine.clock.now(), false);
        assert!(matches!(verdict, Verdict::Bumped(_)));
        engine.lines[0].view.publish(&track);
    }
    let told: fn(&World) = if message { |world| change(world, true) } else { |world| change(world, false) };
    if warm {
        world.get();
    }
    together(&world, &[twice, told]);
}

fn change(world: &World, message: bool) {
    let engine = &world.engine;
    let version = world.commit();
    // acknowledged now: a bound later nobody is told less
    world.ghost.due.store((engine.clock.now() + D).as_nanos(), Ordering::Relaxed);
    world.ghost.elsewhere.store(version, Ordering::Relaxed);
    world.clock.advance(D);
    if message {
        engine.purge(KEY, Cause::Message);
        engine.mark(0, 11);
    }
    let mut track = engine.track(0);
    let now = engine.clock.now();
    let ticket = track.beat_sent(now);
    let _ = track.beat_reply(ticket, &beat(11), now, false);
    engine.lines[0].view.publish(&track);
}

const fn beat(seq: u64) -> Beat {
    Beat { seq: Some(seq), created: false, server_ms: 0, run: 1 }
}

/// A flight against one own invalidation: few threads, so that each order of their steps is tried often.
fn one_purge() {
    together(&World::new(), &[twice, World::write]);
}

/// The same with the fewest switches: what the flight left is read when all is done.
fn one_purge_at_rest() {
    together(&World::new(), &[World::get, World::write]);
}

/// A flight against one push.
fn one_push() {
    together(&World::new(), &[twice, World::push]);
}

/// A near entry that proves itself against one own invalidation.
fn one_proof() {
    let world = World::new();
    world.get();
    world.engine.doubt(KEY);
    together(&world, &[twice, World::write]);
}

/// Leaders that go away before they drove their flight, callers that leave, and a purge that wakes who waits.
fn left() {
    let world = World::new();
    let leave: fn(&World) = |world| match world.engine.board(&world.at, true, None) {
        Boarding::Leads(lead) => drop(lead),
        Boarding::Joined(seat) => drop(seat),
    };
    let wait: fn(&World) = |world| {
        if let Boarding::Leads(lead) = world.engine.board(&world.at, true, None) {
            let flight = Arc::clone(lead.flight());
            let woken = flight.wake.notified();
            if world.engine.flights.is_current(&flight) {
                block_on(woken);
            }
            world.engine.conclude_empty(&world.at, &flight);
            lead.end(Outcome::Abandoned);
        }
    };
    // whoever waits is detached in the end, and woken
    let purger = Arc::clone(&world);
    let done = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&done);
    let purge = thread::spawn(move || {
        while !*seen.lock().unwrap() {
            purger.write();
            thread::yield_now();
        }
    });
    together(&world, &[leave, wait, World::get, World::get]);
    *done.lock().unwrap() = true;
    purge.join().unwrap();
}

type Scenario = (&'static str, fn());

const SCENARIOS: &[Scenario] = &[
    ("invalidated", invalidated),
    ("contested", contested),
    ("doubted", doubted),
    ("one purge", one_purge),
    ("one purge, at rest", one_purge_at_rest),
    ("one push", one_push),
    ("one proof", one_proof),
    ("elsewhere, told late", || elsewhere(true, true)),
    ("elsewhere, a gap", || elsewhere(false, true)),
    ("elsewhere, in flight", || elsewhere(false, false)),
    ("left", left),
];

/// The broken rules, and the scenario that shows each.
const BROKEN: &[(Mutation, fn())] = &[
    (Mutation::PutSettled, one_purge),
    (Mutation::PurgeRemovesFirst, one_purge_at_rest),
    (Mutation::NoDetach, one_purge),
    (Mutation::DetachedInstalls, one_purge),
    (Mutation::DoubtNearFirst, one_push),
    (Mutation::NoTrust, || elsewhere(false, true)),
    (Mutation::TrustBeforeEpoch, || elsewhere(false, true)),
    (Mutation::NoFlightEpoch, || elsewhere(false, false)),
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Plays `schedules` schedules of a scenario, half of them random, half by PCT with up to three switches.
fn play(scenario: fn(), schedules: usize) {
    let seed = number("STRATA_SEED", 1);
    Runner::new(RandomScheduler::new_from_seed(seed, schedules / 2), shuttle::Config::new()).run(scenario);
    for depth in 1..=3 {
        let scheduler = PctScheduler::new_from_seed(seed, depth, schedules / 6);
        Runner::new(scheduler, shuttle::Config::new()).run(scenario);
    }
}

#[test]
fn every_schedule_keeps_the_promises() {
    let schedules = usize::try_from(number("STRATA_SCHEDULES", 108_000)).unwrap();
    for (name, scenario) in SCENARIOS {
        let begun = std::time::Instant::now();
        play(*scenario, schedules / SCENARIOS.len());
        println!("{name:<22} {} schedules in {:.1} s", schedules / SCENARIOS.len(), begun.elapsed().as_secs_f64());
    }
    std::panic::set_hook(Box::new(|_| {}));
    let mut survived = Vec::new();
    for (mutation, scenario) in BROKEN {
        mutate::set(Some(*mutation));
        let shown = catch_unwind(|| play(*scenario, schedules / SCENARIOS.len())).is_err();
        mutate::set(None);
        println!("{mutation:?} {}", if shown { "shows" } else { "SURVIVED" });
        if !shown {
            survived.push(*mutation);
        }
    }
    let _ = std::panic::take_hook();
    println!("schedules={schedules} violations=0 mutations={} caught={}", BROKEN.len(), BROKEN.len() - survived.len());
    assert!(survived.is_empty(), "{survived:?} did not show");
}
