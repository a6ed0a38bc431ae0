//! Locks under faults: holders that freeze or die, stores that forget or fail over. What counts is the resource: with
//! the fence checked there no two holders' writes interleave; without it they do. The same binary plays the holders.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cache_core::recipe::lock::{LockStore, Locks};
use cache_core::testkit::PATIENT;
use cache_redis::testkit::{Sentinel, Server};
use cache_strata::{Memory, Redis};
use libtest_mimic::{Arguments, Trial};
use redis::aio::MultiplexedConnection;
use strata_tests::process::{Process, role};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::sleep;

const LOCKS: &str = "STRATA_LOCKS";
const RESOURCE: &str = "STRATA_RESOURCE";
/// How many runs each test makes, as `STRATA_LOCK_RUNS` says; a run is one key, two or three holders and a fault. Of
/// faults of a server, which take seconds and which many runs share, there is one for each 50 or 100 of them.
const RUNS: &str = "STRATA_LOCK_RUNS";

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<ExitCode> {
    if role().as_deref() == Some("holder") {
        runtime()?.block_on(holder())?;
        return Ok(ExitCode::SUCCESS);
    }
    let test = |name: &str, body: fn() -> Result<()>| {
        Trial::test(name, move || body().map_err(|error| format!("{error:?}").into()))
    };
    let tests = vec![
        test("frozen_and_killed_processes_never_write_after_the_next_holder", || processes(runs(100), true)),
        test("without_the_fence_a_frozen_process_writes_after_the_next_holder", || processes(20, false)),
        test("holders_that_stall_over_a_store_that_forgets_never_interleave_embedded", || embedded(runs(450), true)),
        test("without_the_fence_they_interleave_embedded", || embedded(40, false)),
        test("holders_that_stall_over_a_store_that_forgets_never_interleave_on_a_server", || served(runs(450), true)),
        test("without_the_fence_they_interleave_on_a_server", || served(40, false)),
        test("holders_over_a_server_that_restarts_empty_never_interleave", || restarts((runs(200) / 50).max(1))),
        test("holders_over_a_failover_never_interleave", || failovers((runs(200) / 100).max(1), true)),
        test("without_the_fence_they_interleave_over_a_failover", || failovers(1, false)),
    ];
    Ok(libtest_mimic::run(&Arguments::from_args(), tests).exit_code())
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn runs(default: usize) -> usize {
    std::env::var(RUNS).ok().and_then(|runs| runs.parse().ok()).unwrap_or(default)
}

// ---- the resource: a log a key, on a server that no fault touches

/// Appends the fence to the log of a key; with a check, unless a later holder was there.
const WRITE: &str = "if ARGV[2]=='1' then
    if tonumber(ARGV[1])<tonumber(redis.call('GET',KEYS[1]) or '0') then return 0 end
    redis.call('SET',KEYS[1],ARGV[1])
end
redis.call('RPUSH',KEYS[2],ARGV[1]) return 1";

#[derive(Clone)]
struct Resource {
    connection: MultiplexedConnection,
    fenced: bool,
}

impl Resource {
    async fn open(url: &str, fenced: bool) -> Result<Self> {
        // the resource is not what is under test: it may be slow
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection = redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Self { connection, fenced })
    }

    /// Whether the write was accepted.
    async fn write(&self, key: &str, fence: u64) -> Result<bool> {
        let script = redis::Script::new(WRITE);
        let mut call = script.key(format!("last:{key}"));
        call.key(format!("log:{key}")).arg(fence).arg(u8::from(self.fenced));
        Ok(call.invoke_async(&mut self.connection.clone()).await?)
    }

    /// Whether writes of one holder stand on both sides of another's, and how many holders wrote.
    async fn interleaved(&self, key: &str) -> Result<(bool, usize)> {
        let mut command = redis::cmd("LRANGE");
        command.arg(format!("log:{key}")).arg(0).arg(-1);
        let mut fences: Vec<u64> = command.query_async(&mut self.connection.clone()).await?;
        fences.dedup();
        let blocks = fences.len();
        fences.sort_unstable();
        fences.dedup();
        Ok((blocks > fences.len(), fences.len()))
    }
}

/// The findings over many runs.
#[derive(Default)]
struct Findings {
    runs: AtomicUsize,
    interleaved: AtomicUsize,
    /// Runs in which more than one holder wrote: the others prove nothing.
    contended: AtomicUsize,
}

impl Findings {
    async fn look(&self, resource: &Resource, key: &str) -> Result<()> {
        let (interleaved, holders) = resource.interleaved(key).await?;
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.interleaved.fetch_add(usize::from(interleaved), Ordering::SeqCst);
        self.contended.fetch_add(usize::from(holders > 1), Ordering::SeqCst);
        Ok(())
    }

    fn judge(&self, what: &str, fenced: bool) -> Result<()> {
        let [runs, interleaved, contended] =
            [&self.runs, &self.interleaved, &self.contended].map(|count| count.load(Ordering::SeqCst));
        let fence = if fenced { "with" } else { "without" };
        eprintln!(
            "{what}, {fence} the fence: {interleaved} of {runs} runs interleaved, {contended} had several writers"
        );
        ensure!(contended * 2 > runs, "in most runs only one holder wrote");
        if fenced {
            ensure!(interleaved == 0, "{interleaved} of {runs} runs interleaved in spite of the fence");
        } else {
            ensure!(interleaved > 0, "the violation was not seen in {runs} runs: the test shows nothing");
        }
        Ok(())
    }
}

// ---- holders that are tasks

/// Writes `writes` times under the lock. Before each write it looks at the guard, and may then stall for `stall`.
async fn hold(
    locks: &Locks,
    resource: &Resource,
    key: &str,
    ttl: Duration,
    writes: u32,
    stall: Duration,
) -> Result<()> {
    let guard = locks.acquire_within(key, ttl, PATIENCE).await?;
    let stalls_at = fastrand::u32(..writes);
    for i in 0..writes {
        if guard.is_lost() {
            return Ok(());
        }
        // between the look and the write: no guard can help here
        sleep(if i == stalls_at { stall } else { Duration::from_millis(2) }).await;
        resource.write(key, guard.fence()).await?;
    }
    // it may be lost by now
    let _ = guard.release().await;
    Ok(())
}

/// One run: holders that may stall past their ttl, while `forget` may drop the key.
async fn run<S, F>(stores: Vec<Arc<S>>, resource: Resource, key: String, forget: impl Fn(String) -> F) -> Result<String>
where
    S: LockStore + ?Sized,
    F: Future<Output = ()>,
{
    let ttl = Duration::from_millis(fastrand::u64(20..60));
    let fair = fastrand::bool();
    let mut holders = JoinSet::new();
    for store in stores {
        // renewal would hide the stall of a task: what freezes for real freezes with it
        let locks = Locks::new(store).max_hold(Duration::ZERO);
        let locks = if fair { locks.fair() } else { locks };
        let stall = if fastrand::bool() { ttl * 2 } else { ttl / 4 };
        let (resource, key) = (resource.clone(), key.clone());
        holders.spawn(async move { hold(&locks, &resource, &key, ttl, 4, stall).await });
    }
    if fastrand::u8(..3) == 0 {
        sleep(ttl.mul_f64(fastrand::f64())).await;
        forget(key.clone()).await;
    }
    while let Some(done) = holders.join_next().await {
        done??;
    }
    Ok(key)
}

/// Makes `runs`, some dozen at a time, and judges them.
async fn all<F>(
    what: &str,
    runs: usize,
    url: &str,
    fenced: bool,
    mut one: impl FnMut(Resource, String) -> F,
) -> Result<()>
where
    F: Future<Output = Result<String>> + Send + 'static,
{
    let resource = Resource::open(url, fenced).await?;
    let findings = Findings::default();
    let mut under_way = JoinSet::new();
    for i in 0..runs {
        if under_way.len() >= 24
            && let Some(done) = under_way.join_next().await
        {
            let key: String = done??;
            findings.look(&resource, &key).await?;
        }
        under_way.spawn(one(resource.clone(), format!("run:{i}")));
    }
    while let Some(done) = under_way.join_next().await {
        let key: String = done??;
        findings.look(&resource, &key).await?;
    }
    findings.judge(what, fenced)
}

fn embedded(runs: usize, fenced: bool) -> Result<()> {
    let resource = Server::spawn().context("the resource needs a redis-server")?;
    runtime()?.block_on(all("tasks, embedded", runs, &resource.url(), fenced, |resource, key| {
        let memory = Memory::new();
        let stores = (0..3).map(|_| Arc::new(memory.clone())).collect();
        async move { run(stores, resource, key, |_| async { memory.flush() }).await }
    }))
}

fn served(runs: usize, fenced: bool) -> Result<()> {
    let (server, resource) = (Server::spawn()?, Server::spawn()?);
    runtime()?.block_on(async {
        // a connection a holder, as from processes
        let mut stores = Vec::new();
        for _ in 0..3 {
            stores.push(Arc::new(Redis::connect(server.patient_url()).await?));
        }
        let raw = redis::Client::open(server.url())?.get_multiplexed_async_connection().await?;
        let one = |resource, key| {
            let (stores, raw) = (stores.clone(), raw.clone());
            let forget = move |key| {
                let mut raw = raw.clone();
                // as an eviction does
                async move { drop(redis::cmd("DEL").arg(key).query_async::<()>(&mut raw).await) }
            };
            run(stores, resource, key, forget)
        };
        all("tasks, a server", runs, &resource.url(), fenced, one).await
    })
}

// ---- faults of the server

/// Holders that go on until it is `over`; errors of the store are part of it.
async fn through(locks: &[Locks], resource: &Resource, keys: &[String], over: &Arc<AtomicBool>) -> Result<()> {
    let mut holders = JoinSet::new();
    for key in keys {
        for locks in locks {
            let (locks, resource, key, over) = (locks.clone(), resource.clone(), key.clone(), Arc::clone(over));
            holders.spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let ttl = Duration::from_millis(fastrand::u64(100..400));
                    let Ok(guard) = locks.acquire_within(&key, ttl, Duration::from_secs(2)).await else { continue };
                    for _ in 0..4 {
                        if guard.is_lost() {
                            break;
                        }
                        // between the look and the write: no guard can help here
                        sleep(if fastrand::u8(..8) == 0 { ttl * 2 } else { ttl.mul_f64(fastrand::f64() / 4.0) }).await;
                        resource.write(&key, guard.fence()).await?;
                    }
                    // it may be lost by now
                    let _ = guard.release().await;
                }
                anyhow::Ok(())
            });
        }
    }
    while let Some(done) = holders.join_next().await {
        done??;
    }
    Ok(())
}

/// Holders on a store at `url`, `keys` in each round, while `fault` happens to its server; a run is a key.
fn rounds(
    what: &str,
    [rounds, keys]: [usize; 2],
    url: &str,
    fenced: bool,
    mut fault: impl FnMut() -> Result<()> + Send + 'static,
) -> Result<()> {
    let server = Server::spawn().context("the resource needs a redis-server")?;
    runtime()?.block_on(async {
        let resource = Resource::open(&server.url(), fenced).await?;
        let renewed = Locks::new(Redis::connect(url).await?);
        let locks = [renewed, Locks::new(Redis::connect(url).await?).max_hold(Duration::ZERO).fair()];
        let findings = Findings::default();
        for round in 0..rounds {
            let keys: Vec<String> = (0..keys).map(|i| format!("{round}:{i}")).collect();
            let over = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&over);
            let faulty = tokio::task::spawn_blocking(move || {
                thread::sleep(Duration::from_millis(fastrand::u64(500..1500)));
                let done = fault();
                thread::sleep(Duration::from_secs(1));
                flag.store(true, Ordering::SeqCst);
                done.map(|()| fault)
            });
            through(&locks, &resource, &keys, &over).await?;
            fault = faulty.await??;
            for key in &keys {
                findings.look(&resource, key).await?;
            }
        }
        findings.judge(what, fenced)
    })
}

fn restarts(times: usize) -> Result<()> {
    let mut server = Server::spawn()?;
    let url = server.url();
    rounds(&format!("{times} restarts"), [times, 10], &url, true, move || Ok(server.restart()?))
}

fn failovers(times: usize, fenced: bool) -> Result<()> {
    let mut sentinel = Sentinel::spawn()?;
    let places: Vec<String> = sentinel.sentinels().iter().map(Server::address).collect();
    let url = format!("redis+sentinel://{}/{}", places.join(","), Sentinel::NAME);
    let mut dead: Option<usize> = None;
    rounds(&format!("{times} failovers"), [times, 25], &url, fenced, move || {
        let primary = sentinel.primary()?;
        if let Some(dead) = dead {
            // who would replace the primary has its data
            sentinel.servers_mut()[dead].restart()?;
            in_sync(sentinel.servers(), primary)?;
        }
        sentinel.servers_mut()[primary].kill();
        sentinel.await_primary_other_than(primary)?;
        dead = Some(primary);
        Ok(())
    })
}

/// Waits until all but `primary` are its replicas and have its data.
fn in_sync(servers: &[Server], primary: usize) -> Result<()> {
    let begun = Instant::now();
    let port = format!("master_port:{}", servers[primary].port());
    for replica in servers.iter().enumerate().filter_map(|(i, server)| (i != primary).then_some(server)) {
        let synced = |said: &str| said.contains(&port) && said.contains("master_link_status:up");
        while !replica.cli(&["INFO", "replication"]).is_ok_and(|said| synced(&said)) {
            ensure!(begun.elapsed() < PATIENCE, "a server that came back did not become a replica");
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

// ---- holders that are processes

/// A process that holds. Obeys `hold <key> <ttl ms> <writes>`: says `holding`, then `done`.
async fn holder() -> Result<()> {
    let resource = Resource::open(&std::env::var(RESOURCE)?, std::env::var("STRATA_FENCED").is_ok()).await?;
    let locks = Locks::new(Redis::connect(format!("{}?{PATIENT}", std::env::var(LOCKS)?)).await?);
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split(' ').collect();
        let ["hold", key, ttl, writes] = words[..] else { bail!("unknown command {line}") };
        let ttl = Duration::from_millis(ttl.parse()?);
        let guard = locks.acquire_within(key, ttl, PATIENCE).await?;
        println!("holding");
        for _ in 0..writes.parse::<u32>()? {
            if guard.is_lost() {
                break;
            }
            // frozen here, nothing can keep the write below from coming late
            sleep(Duration::from_millis(15)).await;
            resource.write(key, guard.fence()).await?;
        }
        // it may be lost by now
        let _ = guard.release().await;
        println!("done");
    }
    Ok(())
}

struct Pair {
    settings: Vec<(&'static str, String)>,
    frozen: Process,
    other: Process,
}

impl Pair {
    fn spawn(settings: Vec<(&'static str, String)>) -> Result<Self> {
        let (frozen, other) = (Self::one(&settings)?, Self::one(&settings)?);
        Ok(Self { settings, frozen, other })
    }

    fn one(settings: &[(&'static str, String)]) -> Result<Process> {
        let process = Process::spawn("holder", settings.iter().cloned())?;
        says(&process, "ready")?;
        Ok(process)
    }

    /// One run: the first process holds and is frozen or killed, the second one waits and goes on.
    fn run(&mut self, key: &str, may_kill: bool) -> Result<()> {
        let ttl = fastrand::u64(80..200);
        let millis = |range: std::ops::Range<u64>| Duration::from_millis(fastrand::u64(range));
        self.frozen.send(&format!("hold {key} {ttl} 8"))?;
        says(&self.frozen, "holding")?;
        self.other.send(&format!("hold {key} {ttl} 8"))?;
        // after its first writes, so that a later one stands on both sides
        thread::sleep(millis(30..80));
        if may_kill && fastrand::u8(..5) == 0 {
            self.frozen.kill()?;
            says(&self.other, "holding")?;
            says(&self.other, "done")?;
            self.frozen = Self::one(&self.settings)?;
            return Ok(());
        }
        self.frozen.pause(true)?;
        let held = says(&self.other, "holding");
        thread::sleep(millis(20..70));
        self.frozen.pause(false)?;
        held?;
        says(&self.other, "done")?;
        says(&self.frozen, "done")
    }
}

fn says(process: &Process, word: &str) -> Result<()> {
    let line = process.line(PATIENCE)?;
    ensure!(line.as_deref() == Some(word), "the process said {line:?} instead of {word}");
    Ok(())
}

fn processes(runs: usize, fenced: bool) -> Result<()> {
    let (server, resource) = (Server::spawn()?, Server::spawn()?);
    let mut settings = vec![(LOCKS, server.url()), (RESOURCE, resource.url())];
    if fenced {
        settings.push(("STRATA_FENCED", "1".to_owned()));
    }
    let next = AtomicUsize::new(0);
    let outcomes: Vec<Result<()>> = thread::scope(|scope| {
        let pairs: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut pair = Pair::spawn(settings.clone())?;
                    loop {
                        let i = next.fetch_add(1, Ordering::SeqCst);
                        if i >= runs {
                            return Ok(());
                        }
                        pair.run(&format!("run:{i}"), fenced)?;
                    }
                })
            })
            .collect();
        pairs.into_iter().map(|pair| pair.join().unwrap_or_else(|_| bail!("a pair panicked"))).collect()
    });
    outcomes.into_iter().collect::<Result<()>>()?;
    runtime()?.block_on(async {
        let resource = Resource::open(&resource.url(), fenced).await?;
        let findings = Findings::default();
        for i in 0..runs {
            findings.look(&resource, &format!("run:{i}")).await?;
        }
        findings.judge("processes", fenced)
    })
}
