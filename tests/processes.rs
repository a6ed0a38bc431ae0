//! What holds between real processes over a real server. The same binary plays the processes.

use std::io::BufRead;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cache_redis::testkit::Server;
use cache_strata::{Cache, Freshness, Loaded, Moka, Redis, Tiered};
use libtest_mimic::{Arguments, Trial};
use strata_tests::process::{Process, role};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

const FAR: &str = "STRATA_FAR";
const ORIGIN: &str = "STRATA_ORIGIN";
const MUTATION: &str = "STRATA_MUTATION";

/// D in these tests.
const BOUND: Duration = Duration::from_millis(900);
/// How long the other side may take for anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<ExitCode> {
    if role().as_deref() == Some("cache") {
        runtime()?.block_on(node())?;
        return Ok(ExitCode::SUCCESS);
    }
    let test = |name: &str, body: fn() -> Result<()>| {
        Trial::test(name, move || body().map_err(|error| format!("{error:?}").into()))
    };
    let tests = vec![
        test("two_hundred_tasks_in_each_of_three_processes_cost_one_load", stampede),
        test("a_load_begun_before_an_invalidation_in_its_process_is_not_served_after_it", || race(Who::Same, None)),
        test("a_load_begun_before_an_invalidation_elsewhere_is_not_served_after_it", || race(Who::Other, None)),
        test("the_race_is_seen_without_the_compare_and_set", || seen(Who::Other, "NoCas")),
        test("the_race_is_seen_without_the_flight_fence", || seen(Who::Same, "NoDetach")),
        test("the_other_process_stops_serving_an_invalidated_value_within_the_bound", bound),
        test("with_a_frozen_far_store_near_hits_go_on_and_cold_calls_end_in_time", frozen),
    ];
    Ok(libtest_mimic::run(&Arguments::from_args(), tests).exit_code())
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

// ---- a process

async fn cache(far: &str) -> Result<Cache<u64>> {
    let far = Redis::connect(far).await?;
    let near = Moka::builder().bytes(1 << 20).build();
    let tiered = Tiered::builder().near(near).far(far).namespace("test").bound(BOUND).build().await?;
    Ok(tiered.cache("counters").build()?)
}

/// The version that a loader reads, and how often loaders did.
async fn read(origin: redis::aio::MultiplexedConnection, key: String) -> Result<u64, redis::RedisError> {
    let mut pipe = redis::pipe();
    pipe.cmd("GET").arg(&key).cmd("INCR").arg("loads").ignore();
    let (version,): (Option<u64>,) = pipe.query_async(&mut origin.clone()).await?;
    Ok(version.unwrap_or(0))
}

fn break_rule() -> Result<()> {
    let Ok(name) = std::env::var(MUTATION) else { return Ok(()) };
    #[cfg(feature = "mutate")]
    {
        use cache_tiered::coherence::mutate::{Mutation, set};
        set(Some(*Mutation::ALL.iter().find(|m| format!("{m:?}") == name).context("no such mutation")?));
        Ok(())
    }
    #[cfg(not(feature = "mutate"))]
    bail!("{name} needs the feature `mutate`")
}

/// Obeys commands, a line each: `get k`, `slow k` (a load that reads, says so, and waits for `go`), `invalidate k`,
/// `stampede k n`.
async fn node() -> Result<()> {
    break_rule()?;
    let origin = redis::Client::open(std::env::var(ORIGIN)?)?.get_multiplexed_async_connection().await?;
    let cache = cache(&std::env::var(FAR)?).await?;
    let go = Arc::new(Notify::new());
    println!("ready");
    let (lines, mut commands) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|l| lines.send(l)));
    while let Some(line) = commands.recv().await {
        let mut words = line.split(' ').map(str::to_owned);
        let (command, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (cache, origin, go) = (cache.clone(), origin.clone(), Arc::clone(&go));
        match command.as_str() {
            "go" => go.notify_one(),
            "get" => drop(tokio::spawn(async move {
                let loaded = cache
                    .get_or_load(key.as_str(), {
                        let key = key.clone();
                        move || read(origin, key)
                    })
                    .await;
                println!("got {}", loaded.map_or(-1, |version| version.cast_signed()));
            })),
            "slow" => drop(tokio::spawn(async move {
                let load = {
                    let key = key.clone();
                    async move || {
                        let version = read(origin, key).await;
                        println!("reading");
                        go.notified().await;
                        version
                    }
                };
                let loaded = cache.get_or_load(key.as_str(), load).await;
                println!("loaded {}", loaded.map_or(-1, |version| version.cast_signed()));
            })),
            "invalidate" => println!("invalidated {}", cache.invalidate(key.as_str()).await.is_ok()),
            "stampede" => {
                let n: usize = words.next().unwrap_or_default().parse()?;
                let mut tasks = tokio::task::JoinSet::new();
                for _ in 0..n {
                    let (cache, origin, key) = (cache.clone(), origin.clone(), key.clone());
                    let load = {
                        let key = key.clone();
                        async move || {
                            let version = read(origin, key).await;
                            tokio::time::sleep(Duration::from_millis(200)).await;
                            version
                        }
                    };
                    tasks.spawn(async move { cache.get_or_load(key.as_str(), load).await.map(|v| *v) });
                }
                let values = tasks.join_all().await;
                println!("stampeded {}", values.iter().filter(|v| v.as_ref().is_ok_and(|v| *v == 7)).count());
            }
            _ => bail!("what is {line}?"),
        }
    }
    Ok(())
}

// ---- the tests

/// A far store, an origin, and some processes.
struct Scene {
    /// Held so that it lives.
    _far: Server,
    origin: Server,
    nodes: Vec<Process>,
}

impl Scene {
    fn new(nodes: usize, mutation: Option<&str>) -> Result<Self> {
        let (far, origin) = (Server::spawn()?, Server::spawn()?);
        let mut settings = vec![(FAR, format!("{}?timeout=5s&connect_timeout=5s", far.url())), (ORIGIN, origin.url())];
        settings.extend(mutation.map(|name| (MUTATION, name.to_owned())));
        let nodes = (0..nodes).map(|_| Process::spawn("cache", settings.clone())).collect::<Result<Vec<_>, _>>()?;
        let scene = Self { _far: far, origin, nodes };
        (0..scene.nodes.len()).try_for_each(|node| scene.hears(node, "ready").map(drop))?;
        Ok(scene)
    }

    fn say(&mut self, node: usize, line: &str) -> Result<()> {
        Ok(self.nodes[node].send(line)?)
    }

    /// The rest of the next line, which must begin with `word`.
    fn hears(&self, node: usize, word: &str) -> Result<String> {
        let line = self.nodes[node].line(PATIENCE)?.context("the process ended")?;
        let rest = line.strip_prefix(word).with_context(|| format!("expected {word}, heard {line}"))?;
        Ok(rest.trim().to_owned())
    }

    fn ask(&mut self, node: usize, line: &str, word: &str) -> Result<String> {
        self.say(node, line)?;
        self.hears(node, word)
    }

    fn commit(&self, key: &str, version: u64) -> Result<()> {
        self.origin.cli(&["SET", key, &version.to_string()])?;
        Ok(())
    }
}

fn stampede() -> Result<()> {
    let mut scene = Scene::new(3, None)?;
    scene.commit("k", 7)?;
    for node in 0..3 {
        scene.say(node, "stampede k 200")?;
    }
    for node in 0..3 {
        ensure!(scene.hears(node, "stampeded")? == "200", "every task has the value");
    }
    let loads = scene.origin.cli(&["GET", "loads"])?;
    ensure!(loads == "1", "{loads} origin calls for 600 tasks in 3 processes");
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Same,
    Other,
}

/// A load reads version 1 and dawdles; version 2 is committed and invalidated; then everybody reads.
fn race(who: Who, mutation: Option<&str>) -> Result<()> {
    let mut scene = Scene::new(2, mutation)?;
    scene.commit("k", 1)?;
    scene.say(0, "slow k")?;
    scene.hears(0, "reading")?;
    scene.commit("k", 2)?;
    let invalidator = if who == Who::Same { 0 } else { 1 };
    ensure!(scene.ask(invalidator, "invalidate k", "invalidated")? == "true", "acknowledged");
    if who == Who::Same {
        // while the old load is still under way: nobody joins it
        scene.say(0, "get k")?;
        let early = scene.nodes[0].line(BOUND).ok().flatten();
        ensure!(early.as_deref() == Some("got 2"), "a get during the old load heard {early:?}");
    }
    scene.say(0, "go")?;
    let loaded = scene.hears(0, "loaded")?;
    ensure!(loaded == "1" || loaded == "2", "its own caller began before the invalidation");
    let other = scene.ask(1, "get k", "got")?;
    ensure!(other == "2", "the other process got {other} from the far store");
    std::thread::sleep(if who == Who::Same { Duration::ZERO } else { BOUND });
    let own = scene.ask(0, "get k", "got")?;
    ensure!(own == "2", "the loading process got {own}");
    Ok(())
}

/// With a rule broken, the race shows.
fn seen(who: Who, mutation: &str) -> Result<()> {
    if !cfg!(feature = "mutate") {
        return Ok(());
    }
    match race(who, Some(mutation)) {
        Ok(()) => bail!("the race passes without the rule"),
        Err(error) if error.to_string().contains("got") || error.to_string().contains("heard") => Ok(()),
        Err(error) => Err(error),
    }
}

fn bound() -> Result<()> {
    let mut scene = Scene::new(2, None)?;
    for version in 1..=20 {
        scene.commit("k", version)?;
        ensure!(scene.ask(0, "invalidate k", "invalidated")? == "true", "acknowledged");
        let acknowledged = Instant::now();
        loop {
            let begun = Instant::now();
            let got: u64 = scene.ask(1, "get k", "got")?.parse()?;
            if got == version {
                break;
            }
            let late = begun.duration_since(acknowledged);
            ensure!(late <= BOUND, "version {got} instead of {version}, {late:?} after the acknowledgement");
        }
    }
    Ok(())
}

fn frozen() -> Result<()> {
    let server = Server::spawn()?;
    runtime()?.block_on(async {
        let deadline = Duration::from_millis(300);
        let cache = cache(&format!("{}?timeout=300ms", server.url())).await?;
        let load = async || Ok::<_, std::io::Error>(1);
        cache.get_or_load("warm", load).await?;
        let hits = async |n: u32| -> Result<Duration> {
            let begun = Instant::now();
            for _ in 0..n {
                ensure!(cache.get("warm").await?.is_some(), "a near hit");
            }
            Ok(begun.elapsed())
        };
        hits(20_000).await?;
        let before = hits(20_000).await?;
        server.pause()?;
        let frozen = hits(20_000).await?;
        let begun = Instant::now();
        let cold = cache.get_or_load("cold", load).await?;
        let cold_took = begun.elapsed();
        // past the end of trust: served by the outage rule, and marked
        while !cache.tiered().is_cut_off() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            ensure!(begun.elapsed() < PATIENCE, "never cut off");
        }
        let after = hits(20_000).await?;
        let answer = cache.lookup("warm").await?.context("near")?;
        let begun = Instant::now();
        let outage = cache.load_with("colder", async || Ok::<_, std::io::Error>(Loaded::value(2))).await?;
        let outage_took = begun.elapsed();
        server.resume()?;
        ensure!(*cold == 1 && outage.value.as_deref() == Some(&2), "cold calls got the origin's value");
        // one short deadline for the read, one for the lease, and a busy machine
        ensure!(cold_took < deadline * 2 + Duration::from_millis(700), "a cold call took {cold_took:?}");
        ensure!(outage_took < Duration::from_millis(700), "a cold call while cut off took {outage_took:?}");
        ensure!(matches!(answer.freshness, Freshness::Stale(_)), "marked while cut off");
        let slowest = frozen.max(after);
        ensure!(
            slowest < before * 5 + Duration::from_millis(20),
            "20,000 near hits: {before:?}, frozen {frozen:?}, cut off {after:?}"
        );
        Ok(())
    })
}
