//! A bad night: the database is down for ten minutes, the far store for two of them. The same night with one feature
//! more at a time, and what the application and the database noticed.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cache_core::memory::LocalMemory;
use cache_core::testkit::history::{Bounds, Op, Record, Report, Tier, check};
use cache_core::{Clock, Memory};
use cache_tiered::{Answer, Batched, Cache, FailSafe, Freshness, Loaded, Policy, Tiered};
use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::net::{Ill, Latency, Link};
use crate::process::Version;
use crate::time::{Era, machine};

const PROCESSES: usize = 8;
const KEYS: u16 = 200;
/// Requests in a second, of each process.
const RATE: f64 = 8.0;
/// A request that takes longer is late.
const DEADLINE: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(60);
/// That of `FailSafe::default()`.
const THROTTLE: Duration = Duration::from_secs(30);
const BOUND: Duration = Duration::from_secs(2);
/// The default.
const OUTAGE: Duration = Duration::from_secs(30);
/// Longer than the far store is down.
const LONG_OUTAGE: Duration = minutes(3);
/// How long a call to a database that is down takes to fail.
const HANG: Duration = Duration::from_secs(2);

const ORIGIN_DOWN: Duration = minutes(2);
const FAR_DOWN: Duration = minutes(6);
const FAR_BACK: Duration = minutes(8);
const ORIGIN_BACK: Duration = minutes(12);
const END: Duration = minutes(15);

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// A night with one feature more than the one before.
struct Step {
    name: &'static str,
    /// What switches it on.
    line: &'static str,
    caches: bool,
    stores: bool,
    far: bool,
    near: bool,
    policy: fn() -> Policy,
    batches: bool,
    /// The outage window, if it is another than the default.
    outage: Option<Duration>,
}

fn plain() -> Policy {
    Policy::from(TTL).hard_timeout(Duration::from_secs(10)).backoff(None)
}

fn fail_safe() -> Policy {
    plain().fail_safe(FailSafe::default().throttle(Duration::from_millis(1)))
}

fn throttled() -> Policy {
    plain().fail_safe(FailSafe::default())
}

fn soft() -> Policy {
    throttled().soft_timeout(Duration::from_millis(200))
}

fn hard() -> Policy {
    soft().hard_timeout(Duration::from_millis(900))
}

fn ahead() -> Policy {
    hard().refresh_ahead(0.8)
}

const BARE: Step = Step {
    name: "bare loader",
    line: "rows.load(id).await",
    caches: false,
    stores: false,
    far: false,
    near: false,
    policy: plain,
    batches: false,
    outage: None,
};

const STEPS: &[Step] = &[
    BARE,
    Step { name: "single flight", line: "cache.load_with(&id, load)", caches: true, near: true, ..BARE },
    Step { name: "far tier", line: ".far(redis)", caches: true, stores: true, far: true, ..BARE },
    Step { name: "near tier", line: ".near(Moka::builder().bytes(64 << 20).build())", near: true, ..FAR },
    Step {
        name: "fail-safe",
        line: ".fail_safe(FailSafe::default().throttle(Duration::from_millis(1)))",
        policy: fail_safe,
        ..NEAR
    },
    Step { name: "throttle", line: ".fail_safe(FailSafe::default())", policy: throttled, ..NEAR },
    Step { name: "soft timeout", line: ".soft_timeout(millis)", policy: soft, ..NEAR },
    Step { name: "hard timeout", line: ".hard_timeout(millis)", policy: hard, ..NEAR },
    Step { name: "refresh ahead", line: ".refresh_ahead(0.8)", policy: ahead, ..NEAR },
    Step { name: "batch", line: "cache.batched(load_many)", ..BATCH },
    Step { name: "outage window", line: ".outage(Duration::from_mins(3))", outage: Some(LONG_OUTAGE), ..BATCH },
];

const FAR: Step = Step { caches: true, stores: true, far: true, ..BARE };
const NEAR: Step = Step { near: true, ..FAR };
const BATCH: Step = Step { policy: ahead, batches: true, ..NEAR };

/// What a night came to.
#[derive(Clone, Debug, Default)]
struct Seen {
    requests: u64,
    failed: u64,
    late: u64,
    stale: u64,
    /// Stale answers a minute and more after everything was back.
    stale_after: u64,
    /// Calls of the database: in all, and while it was down.
    calls: u64,
    calls_down: u64,
    records: Vec<Record>,
}

struct Night {
    step: &'static Step,
    era: Era,
    begun: Instant,
    versions: Mutex<Vec<u64>>,
    seen: Mutex<Seen>,
    rng: Mutex<Rng>,
}

impl Night {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_down(&self) -> bool {
        let now = self.begun.elapsed();
        (ORIGIN_DOWN..ORIGIN_BACK).contains(&now)
    }

    /// One call of the database, for any number of rows.
    async fn call(&self, keys: &[u16]) -> Result<Vec<(u16, u64)>, std::io::Error> {
        {
            let down = self.is_down();
            let mut seen = self.seen();
            seen.calls += 1;
            seen.calls_down += u64::from(down);
        }
        if self.is_down() {
            sleep(HANG).await;
            return Err(std::io::Error::other("the database is down"));
        }
        let took = Duration::from_millis(self.rng.lock().unwrap_or_else(PoisonError::into_inner).u64(5..40));
        sleep(took).await;
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(keys.iter().map(|key| (*key, versions[usize::from(*key)])).collect())
    }

    fn commit(&self, key: u16) -> u64 {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions[usize::from(key)] += 1;
        versions[usize::from(key)]
    }
}

/// The tiers of a process, its cache and, if loads are gathered, that form of it.
type Caches = (Tiered, Cache<u64, u16>, Option<Batched<u64, u16>>);

/// A process of the application.
struct App {
    id: u32,
    link: Link,
    cache: Option<Caches>,
}

impl App {
    async fn start(night: &Arc<Night>, server: &Memory, id: u32) -> Result<Self> {
        let step = night.step;
        let latency = Latency { most: 1000, spike: 500 };
        let rng = Rng::with_seed(u64::from(id) + 100);
        let link = Link::new(server.clone(), rng, latency, Duration::from_millis(250), BOUND);
        if !step.caches {
            return Ok(Self { id, link, cache: None });
        }
        let mut builder = Tiered::builder().bound(BOUND).clock(machine(minutes(100), 1.0).0);
        if let Some(window) = step.outage {
            builder = builder.outage(window);
        }
        if step.near {
            builder = builder.near(LocalMemory::new(8 << 20));
        }
        if step.far {
            builder = builder.far(link.clone());
        }
        let tiered = builder.build().await?;
        let cache = tiered.cache::<u64>("rows").keyed::<u16>().codec(Version).policy((step.policy)()).build()?;
        let batched = step.batches.then(|| {
            let night = Arc::clone(night);
            cache.batched(move |keys: Vec<u16>| {
                let night = Arc::clone(&night);
                async move { night.call(&keys).await }
            })
        });
        Ok(Self { id, link, cache: Some((tiered, cache, batched)) })
    }

    async fn request(&self, night: &Arc<Night>, key: u16) {
        let (begun, start) = (Instant::now(), night.era.stamp());
        let answer = self.ask(night, key).await;
        let (took, end) = (begun.elapsed(), night.era.stamp());
        let mut seen = night.seen();
        seen.requests += 1;
        seen.late += u64::from(took > DEADLINE);
        let Some((version, tier)) = answer else {
            seen.failed += 1;
            return;
        };
        if tier == Tier::Unconfirmed {
            seen.stale += 1;
            let over = ORIGIN_BACK.max(FAR_BACK) + THROTTLE * 2;
            seen.stale_after += u64::from(begun.duration_since(night.begun) > over);
        }
        seen.records.push(Record { process: self.id, op: Op::Read(tier), key: key.into(), start, end, version });
    }

    async fn ask(&self, night: &Arc<Night>, key: u16) -> Option<(u64, Tier)> {
        let Some((_, cache, batched)) = &self.cache else {
            let rows = night.call(&[key]).await.ok()?;
            return Some((rows.first()?.1, Tier::Origin));
        };
        let answer = match batched {
            Some(batched) => batched.lookup_or_load(&key).await.ok()?,
            None => {
                let night = Arc::clone(night);
                let load = async move || {
                    let rows = night.call(&[key]).await?;
                    let loaded = rows.first().map_or_else(Loaded::nothing, |(_, version)| Loaded::value(*version));
                    Ok::<_, std::io::Error>(if night.step.stores { loaded } else { loaded.unstored() })
                };
                cache.load_with(&key, load).await.ok()?
            }
        };
        told(&answer)
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

/// A key by Zipf's law: the n-th is asked for 1/n as often as the first.
fn zipf(weights: &[f64], rng: &mut Rng) -> u16 {
    let at = rng.f64() * weights.last().copied().unwrap_or(1.0);
    u16::try_from(weights.partition_point(|sum| *sum <= at)).unwrap_or(0).min(KEYS - 1)
}

async fn play(step: &'static Step) -> Result<(Seen, Report)> {
    let (clock, _wall): (Clock, _) = machine(minutes(1000), 1.0);
    let night = Arc::new(Night {
        step,
        era: Era::begin(),
        begun: Instant::now(),
        versions: Mutex::new(vec![0; KEYS.into()]),
        seen: Mutex::default(),
        rng: Mutex::new(Rng::with_seed(7)),
    });
    let server = Memory::builder().clock(clock).build();
    let mut apps = Vec::new();
    for id in 0..u32::try_from(PROCESSES)? {
        apps.push(Arc::new(App::start(&night, &server, id).await?));
    }
    let weights: Arc<[f64]> = (1..=KEYS)
        .scan(0.0, |sum, n| {
            *sum += 1.0 / f64::from(n);
            Some(*sum)
        })
        .collect();
    let mut tasks = JoinSet::new();
    for app in &apps {
        // a process that has run for a while has seen every row
        for key in 0..KEYS {
            app.request(&night, key).await;
        }
        tasks.spawn(arrivals(Arc::clone(app), Arc::clone(&night), Arc::clone(&weights)));
    }
    tasks.spawn(writes(Arc::clone(&apps[0]), Arc::clone(&night), weights));
    sleep_until(night.begun + FAR_DOWN).await;
    for app in &apps {
        app.link.ail(Ill::Refused, FAR_BACK - FAR_DOWN);
        app.link.cut();
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a request panicked")?;
    }
    let seen = night.seen().clone();
    let report = check(&seen.records, Bounds { bound: BOUND, outage: step.outage.unwrap_or(OUTAGE) });
    Ok((seen, report))
}

/// Requests come whether or not earlier ones are done.
async fn arrivals(app: Arc<App>, night: Arc<Night>, weights: Arc<[f64]>) {
    let mut rng = Rng::with_seed(u64::from(app.id) + 1);
    let mut requests = JoinSet::new();
    while night.begun.elapsed() < END {
        sleep(Duration::from_secs_f64(-f64::ln(1.0 - rng.f64()) / RATE)).await;
        let (app, night, key) = (Arc::clone(&app), Arc::clone(&night), zipf(&weights, &mut rng));
        requests.spawn(async move { app.request(&night, key).await });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}

/// Rows change, twice in a second, while the database is up.
async fn writes(app: Arc<App>, night: Arc<Night>, weights: Arc<[f64]>) {
    let mut rng = Rng::with_seed(99);
    while night.begun.elapsed() < END {
        sleep(Duration::from_millis(rng.u64(..1000))).await;
        if night.is_down() {
            continue;
        }
        let key = zipf(&weights, &mut rng);
        let (start, version) = (night.era.stamp(), night.commit(key));
        let told = match &app.cache {
            Some((_, cache, _)) => timeout_at(Instant::now() + DEADLINE, cache.invalidate(&key)).await,
            None => Ok(Ok(())),
        };
        if matches!(told, Ok(Ok(()))) {
            let end = night.era.stamp();
            let op = Op::Acknowledged;
            night.seen().records.push(Record { process: app.id, op, key: key.into(), start, end, version });
        }
    }
}

/// Plays the night once for each feature and prints the table; with `paper` writes it there.
pub(crate) fn command(paper: Option<&Path>) -> Result<()> {
    let mut table = String::from(
        "| with | switched on by | database calls | of them while it was down | failed | late | stale, marked |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut last = Seen::default();
    for step in STEPS {
        fastrand::seed(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let (seen, report) = runtime.block_on(play(step))?;
        let Seen { requests, failed, late, stale, calls, calls_down, .. } = &seen;
        println!(
            "{:<14} requests={requests} calls={calls} down={calls_down} failed={failed} late={late} {report}",
            step.name
        );
        ensure!(report.violations() == 0, "the night with {} broke a promise: {report}", step.name);
        writeln!(table, "| {} | `{}` | {calls} | {calls_down} | {failed} | {late} | {stale} |", step.name, step.line)?;
        last = seen;
    }
    // with everything switched on
    let allowed = most_probes();
    ensure!(last.calls_down <= allowed, "{} calls while the database was down, {allowed} allowed", last.calls_down);
    let Seen { requests, calls_down, failed, late, stale_after, .. } = last;
    ensure!(late == 0, "{late} of {requests} requests were answered after {DEADLINE:?}");
    ensure!(stale_after == 0, "{stale_after} stale answers a minute and more after everything was back");
    println!(
        "requests={requests} calls_down={calls_down} allowed={allowed} failed={failed} late={late} stale_after={stale_after}"
    );
    if let Some(paper) = paper {
        let old = std::fs::read_to_string(paper).with_context(|| format!("{} can't be read", paper.display()))?;
        let (head, rest) = old.split_once(BEGIN).context("the paper has no place for the table")?;
        let (_, tail) = rest.split_once(STOP).context("the paper's table has no end")?;
        std::fs::write(paper, format!("{head}{BEGIN}\n{table}{STOP}{tail}"))?;
    }
    Ok(())
}

const BEGIN: &str = "<!-- night: written by `cargo xtask simulate --night --write` -->";
const STOP: &str = "<!-- /night -->";

/// One try for each row and throttle window by all processes together; by each of them while the far store is down.
fn most_probes() -> u64 {
    let windows = |span: Duration| span.as_secs().div_ceil(THROTTLE.as_secs()) + 1;
    let far_down = FAR_BACK - FAR_DOWN;
    let together = windows(ORIGIN_BACK - ORIGIN_DOWN - far_down);
    u64::from(KEYS) * (together + PROCESSES as u64 * windows(far_down))
}
