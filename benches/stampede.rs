//! A stampede: 8 processes of 64 tasks each ask for one missing key at once. What counts is how often the origin is asked;
//! the time stands beside that of one task that is alone with the same origin.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache_redis::testkit::Server;
use cache_strata::{Cache, Redis};
use criterion::Criterion;
use strata_benches::{Product, bare_redis, products, runtime, server, tiered};

const PROCESSES: usize = 8;
const TASKS: usize = 64;
/// How long the origin takes.
const ORIGIN: Duration = Duration::from_millis(20);
/// Set for the processes of the herd: the server's url.
const HERD: &str = "STRATA_BENCH_HERD";

fn main() {
    match std::env::var(HERD) {
        Ok(url) => herd(&url),
        Err(_) => {
            let mut criterion = Criterion::default()
                .measurement_time(Duration::from_secs(5))
                .warm_up_time(Duration::from_secs(1))
                .sample_size(10)
                .configure_from_args();
            stampede(&mut criterion);
            criterion.final_summary();
        }
    }
}

/// One origin for all processes: a counter in the server that says how often it was asked.
async fn load(cache: &Cache<Product>, mut origin: redis::aio::MultiplexedConnection, key: &str) {
    let name = format!("origin:{key}");
    let read = async move || {
        let () = redis::cmd("INCR").arg(name).query_async(&mut origin).await?;
        tokio::time::sleep(ORIGIN).await;
        Ok::<_, redis::RedisError>(Product::new(7))
    };
    assert_eq!(cache.get_or_load(key, read).await.expect("a value").id, 7);
}

async fn client(url: &str) -> (Cache<Product>, redis::aio::MultiplexedConnection) {
    let cache = products(&tiered(Some(Redis::connect(url).await.expect("a connection"))).await);
    let bare = redis::Client::open(url).expect("a url").get_multiplexed_async_connection().await;
    (cache, bare.expect("a connection"))
}

/// A process of the herd: for each key on its input, asks for it from all tasks at once, and says when it has it.
fn herd(url: &str) {
    let runtime = runtime();
    let (cache, origin) = runtime.block_on(client(url));
    println!("ready");
    for key in std::io::stdin().lines() {
        let key = key.expect("a line");
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..TASKS {
                let (cache, origin, key) = (cache.clone(), origin.clone(), key.clone());
                tasks.spawn(async move { load(&cache, origin, &key).await });
            }
            while let Some(done) = tasks.join_next().await {
                done.expect("a value");
            }
        });
        println!("done");
    }
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn spawn(server: &Server) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(HERD, server.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut process = Self { child, input, output };
        process.hears("ready");
        process
    }

    fn hears(&mut self, word: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        assert_eq!(line.trim_end(), word);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // by its id, and waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stampede(criterion: &mut Criterion) {
    let server = server();
    let runtime = runtime();
    let mut processes: Vec<Process> = (0..PROCESSES).map(|_| Process::spawn(&server)).collect();
    let (cache, origin) = runtime.block_on(client(&server.url()));
    let next = AtomicU64::new(0);
    let fresh = || format!("stampede/{}", next.fetch_add(1, Ordering::Relaxed));
    let mut keys = Vec::new();
    let mut group = criterion.benchmark_group("stampede");
    group.bench_function("floor: one task alone", |b| {
        b.iter_custom(|n| {
            let begun = Instant::now();
            for _ in 0..n {
                runtime.block_on(load(&cache, origin.clone(), &fresh()));
            }
            begun.elapsed()
        });
    });
    group.bench_function("8 processes x 64 tasks", |b| {
        b.iter_custom(|n| {
            let begun = Instant::now();
            for _ in 0..n {
                let key = fresh();
                for process in &mut processes {
                    writeln!(process.input, "{key}").expect("it listens");
                }
                processes.iter_mut().for_each(|process| process.hears("done"));
                keys.push(key);
            }
            begun.elapsed()
        });
    });
    group.finish();
    let (mut calls, mut worst) = (0_u64, 0_u64);
    let mut bare = runtime.block_on(bare_redis(&server));
    for key in &keys {
        let asked: u64 = runtime
            .block_on(redis::cmd("GET").arg(format!("origin:{key}")).query_async(&mut bare))
            .expect("the origin was asked");
        calls += asked;
        worst = worst.max(asked);
    }
    println!("stampedes={} callers={} origin_calls={calls} worst={worst}", keys.len(), keys.len() * PROCESSES * TASKS);
    assert!(keys.is_empty() || worst == 1, "an origin was asked {worst} times for one key");
}
