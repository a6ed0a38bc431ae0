//! The figures that are promised, each beside its floor in one interleaved run: `cargo run --release --bin floors`.
//!
//! `floors near`, `floors batch` and `floors tasks` print the near hits, the batches and the reads of many tasks alone. For an
//! instruction counter, `floors many floor N`, `floors many strata N` and, with a near store that keeps nothing, `floors many
//! sieve N` do nothing but N reads of 100 keys from a far store that is no network away; and `floors gets WHO N` N single reads
//! over 64 tasks, WHO being bare, redis, tiered or typed. Near hits are counted in a program of their own, `hits`.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_redis::testkit::Server;
use cache_strata::core::Entry;
use cache_strata::memory::Memory;
use cache_strata::{Cache, CacheService, LocalStore, Redis, Tiered};
use strata_benches::{Product, bare_moka, bare_redis, default_moka, keys, products, redis, runtime, server, tiered};

const ROUNDS: usize = 31;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["gets", what, n] => {
            Readers::new().rate(what, 64, n.parse().expect("a number of reads"));
        }
        ["many", what, n] => many(what, n.parse().expect("a number of batches")),
        ["tasks"] => {
            head();
            tasks();
        }
        ["near"] => {
            head();
            near();
        }
        ["batch"] => {
            head();
            batches();
        }
        _ => figures(),
    }
}

async fn fill(cache: &Cache<Product>, id: u64, key: &str) {
    let load = async move || Ok::<_, io::Error>(Product::new(id));
    cache.get_or_load(key, load).await.expect("loaded");
}

/// The loader of a near hit: never called.
async fn nothing() -> Result<Product, io::Error> {
    Err(io::ErrorKind::NotFound.into())
}

/// A near store that keeps nothing: each read goes all the way, and what it installs costs nothing.
#[derive(Debug)]
struct Sieve;

impl LocalStore for Sieve {
    fn get(&self, _: &str) -> Option<Arc<Entry>> {
        None
    }

    fn put(&self, _: &str, _: Arc<Entry>) {}

    fn remove(&self, _: &str) -> Option<Arc<Entry>> {
        None
    }

    fn clear(&self) {}

    fn len(&self) -> u64 {
        0
    }

    fn weight(&self) -> u64 {
        0
    }

    fn budget(&self) -> u64 {
        u64::MAX
    }

    fn settle(&self) {}

    fn each(&self, _: &mut dyn FnMut(&str, &Arc<Entry>) -> bool) {}
}

/// Nothing but reads of 100 keys.
fn many(what: &str, n: u64) {
    let keys = keys(100);
    let batch: Vec<&str> = keys.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Memory::new();
        let tiers = Tiered::builder().far(store.clone()).bound(Duration::from_secs(600));
        let tiers = if what == "sieve" { tiers.near(Sieve) } else { tiers };
        let tiered = tiers.build().await.expect("a cache");
        for key in &batch {
            store.set(key, Bytes::from(vec![7; 512]), Duration::from_secs(3600)).await.expect("stored");
            tiered.set(key, Bytes::from(vec![7; 512]), Duration::from_secs(3600)).await.expect("stored");
        }
        for _ in 0..n {
            let found = match what {
                "floor" => store.get_many(&batch).await,
                _ => tiered.get_many(&batch).await,
            };
            assert_eq!(black_box(found).expect("values").len(), 100);
        }
    });
}

/// The median of each contender's rounds, interleaved.
fn interleave(contenders: &mut [(&str, &mut dyn FnMut() -> f64)]) -> Vec<f64> {
    let mut samples = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for _ in 0..ROUNDS {
        for (sample, (_, run)) in samples.iter_mut().zip(contenders.iter_mut()) {
            sample.push(run());
        }
    }
    samples
        .into_iter()
        .map(|mut sample| {
            sample.sort_by(f64::total_cmp);
            sample[ROUNDS / 2]
        })
        .collect()
}

fn row(what: &str, unit: &str, floor: f64, ours: f64) {
    println!("| {what} | {floor:.1} {unit} | {ours:.1} {unit} | {:.2} |", ours / floor);
}

fn figures() {
    head();
    near();
    far();
    tasks();
    batches();
}

fn head() {
    println!("| what | floor | ours | ratio |\n|---|---|---|---|");
}

fn near() {
    let keys = keys(1000);
    let runtime = runtime();
    let server = server();
    let (bare, plain) = (bare_moka(256 << 20), default_moka(256 << 20));
    let one = runtime.block_on(async { products(&tiered(None).await) });
    let two = runtime.block_on(async { products(&tiered(Some(redis(&server).await)).await) });
    for (id, key) in (0..).zip(&keys) {
        bare.insert(key.as_str().into(), Arc::new(Product::new(id)));
        plain.insert(key.as_str().into(), Arc::new(Product::new(id)));
        for cache in [&one, &two] {
            runtime.block_on(fill(cache, id, key));
        }
    }
    let per = |hits: &dyn Fn()| {
        let begun = Instant::now();
        (0..20).for_each(|_| hits());
        begun.elapsed().as_secs_f64() * 1e9 / (20.0 * 1000.0)
    };
    // awaited, as in an application: a hit is ready when it is polled first
    let get = |cache: &Cache<Product>| {
        runtime.block_on(async {
            for key in &keys {
                drop(black_box(cache.get(key).await.expect("an answer")));
            }
        });
    };
    let load = || {
        runtime.block_on(async {
            for key in &keys {
                drop(black_box(one.get_or_load(key, nothing).await.expect("an answer")));
            }
        });
    };
    let medians = interleave(&mut [
        ("default", &mut || per(&|| keys.iter().for_each(|key| drop(black_box(plain.get(key.as_str())))))),
        ("moka", &mut || per(&|| keys.iter().for_each(|key| drop(black_box(bare.get(key.as_str())))))),
        ("near", &mut || per(&|| get(&one))),
        ("both", &mut || per(&|| get(&two))),
        ("load", &mut || per(&load)),
    ]);
    let [default, fast, near, both, load] = medians[..] else { return };
    row("typed near hit, near only, against a get of an Arc from moka as its builder makes it", "ns", default, near);
    row("the same, near and far", "ns", default, both);
    row("the same by get_or_load, near only", "ns", default, load);
    row("typed near hit, near only, against moka with foldhash::fast", "ns", fast, near);
    row("the same, near and far", "ns", fast, both);
    row("the same by get_or_load, near only", "ns", fast, load);
}

fn far() {
    let runtime = runtime();
    let server = server();
    let keys = keys(1000);
    let ttl = Duration::from_secs(3600);
    let (bare, store, tiered) = runtime.block_on(async {
        let store = redis(&server).await;
        let tiered = Tiered::builder().far(redis(&server).await).build().await.expect("a cache");
        for key in &keys {
            store.set(key, Bytes::from(vec![7; 512]), ttl).await.expect("stored");
            tiered.set(key, Bytes::from(vec![7; 512]), ttl).await.expect("stored");
        }
        (bare_redis(&server).await, store, tiered)
    });
    let p50 = |call: &dyn Fn(&str)| {
        let mut times: Vec<f64> = keys
            .iter()
            .map(|key| {
                let begun = Instant::now();
                call(key);
                begun.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let bare_get = |key: &str| {
        let value: Bytes =
            runtime.block_on(redis::cmd("GET").arg(key).query_async(&mut bare.clone())).expect("a value");
        assert_eq!(value.len(), 512);
    };
    // what a read that may load sends: the ttl and the value in one pipeline
    let bare_pair = |key: &str| {
        let mut pipe = redis::pipe();
        pipe.cmd("PTTL").arg(key).cmd("GET").arg(key);
        let (_, value): (i64, Bytes) = runtime.block_on(pipe.query_async(&mut bare.clone())).expect("a value");
        assert_eq!(value.len(), 512);
    };
    let medians = interleave(&mut [
        ("bare", &mut || p50(&bare_get)),
        ("pair", &mut || p50(&bare_pair)),
        ("redis", &mut || p50(&|key| assert!(runtime.block_on(store.get(key)).expect("an answer").is_some()))),
        ("tiered", &mut || p50(&|key| assert!(runtime.block_on(tiered.get(key)).expect("an answer").is_some()))),
    ]);
    row("p50 of Redis::get, against GET of the bare client", "µs", medians[0], medians[2]);
    row("p50 of a far hit through Tiered, against GET of the bare client", "µs", medians[0], medians[3]);
    row("p50 of a far hit through Tiered, against PTTL and GET in one pipeline", "µs", medians[1], medians[3]);
}

/// Who reads keys singly.
struct Readers {
    runtime: tokio::runtime::Runtime,
    keys: Arc<Vec<String>>,
    bare: redis::aio::MultiplexedConnection,
    store: Redis,
    tiered: Tiered,
    /// Over a near store that keeps nothing.
    typed: Cache<Product>,
    _server: Server,
}

impl Readers {
    fn new() -> Self {
        let runtime = runtime();
        let server = server();
        let keys: Arc<Vec<String>> = Arc::new(keys(1000));
        let ttl = Duration::from_secs(3600);
        let (bare, store, tiered, typed) = runtime.block_on(async {
            let store = redis(&server).await;
            let tiered = Tiered::builder().far(redis(&server).await).build().await.expect("a cache");
            let sieve = Tiered::builder().near(Sieve).far(redis(&server).await).namespace("typed");
            let typed = products(&sieve.build().await.expect("a cache"));
            for (id, key) in (0..).zip(keys.iter()) {
                store.set(key, Bytes::from(vec![7; 512]), ttl).await.expect("stored");
                tiered.set(key, Bytes::from(vec![7; 512]), ttl).await.expect("stored");
                typed.set(key.as_str(), Product::new(id)).await.expect("stored");
            }
            (bare_redis(&server).await, store, tiered, typed)
        });
        Self { runtime, keys, bare, store, tiered, typed, _server: server }
    }

    /// Calls a second of `n` calls over `tasks` tasks.
    fn rate(&self, what: &str, tasks: usize, n: usize) -> f64 {
        match what {
            "bare" => {
                let bare = self.bare.clone();
                self.spread(tasks, n, move |keys, i| {
                    let mut bare = bare.clone();
                    async move {
                        let get = redis::cmd("GET").arg(&keys[i]).query_async(&mut bare).await;
                        let value: Bytes = get.expect("a value");
                        assert_eq!(value.len(), 512);
                    }
                })
            }
            "redis" => {
                let store = self.store.clone();
                self.spread(tasks, n, move |keys, i| {
                    let store = store.clone();
                    async move { assert_eq!(store.get(&keys[i]).await.expect("an answer").expect("a value").len(), 512) }
                })
            }
            "tiered" => {
                let tiered = self.tiered.clone();
                self.spread(tasks, n, move |keys, i| {
                    let tiered = tiered.clone();
                    async move { assert_eq!(tiered.get(&keys[i]).await.expect("an answer").expect("a value").len(), 512) }
                })
            }
            _ => {
                let typed = self.typed.clone();
                self.spread(tasks, n, move |keys, i| {
                    let typed = typed.clone();
                    async move { assert!(typed.get(keys[i].as_str()).await.expect("an answer").is_some()) }
                })
            }
        }
    }

    /// Runs `n` calls over `tasks` tasks, each for a key by chance.
    fn spread<F, Fut>(&self, tasks: usize, n: usize, call: F) -> f64
    where
        F: Fn(Arc<Vec<String>>, usize) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let begun = Instant::now();
        self.runtime.block_on(async {
            let mut set = tokio::task::JoinSet::new();
            for _ in 0..tasks {
                let (call, keys) = (call.clone(), Arc::clone(&self.keys));
                set.spawn(async move {
                    for _ in 0..n / tasks {
                        call(Arc::clone(&keys), fastrand::usize(..1000)).await;
                    }
                });
            }
            while let Some(ended) = set.join_next().await {
                ended.expect("no call failed");
            }
        });
        n as f64 / begun.elapsed().as_secs_f64()
    }
}

/// Single reads of many tasks, a thousand calls a second.
fn tasks() {
    const CALLS: usize = 16_384;
    let readers = Readers::new();
    for tasks in [64, 256] {
        let rate = |what| readers.rate(what, tasks, CALLS) / 1e3;
        let medians = interleave(&mut [
            ("bare", &mut || rate("bare")),
            ("redis", &mut || rate("redis")),
            ("tiered", &mut || rate("tiered")),
            ("typed", &mut || rate("typed")),
        ]);
        row(&format!("Redis::get, {tasks} tasks, against GET of the bare client"), "k/s", medians[0], medians[1]);
        row(&format!("get through Tiered, far only, {tasks} tasks"), "k/s", medians[0], medians[2]);
        row(&format!("Cache::get, near holds none of them, {tasks} tasks"), "k/s", medians[0], medians[3]);
    }
}

/// Batches of 100: a read beside MGET, and a load beside the commands that it can't do without.
fn batches() {
    let runtime = runtime();
    let server = server();
    let keys = keys(1000);
    let ttl = Duration::from_secs(3600);
    let (bare, store, tiered, sieve) = runtime.block_on(async {
        let store = redis(&server).await;
        let tiered = Tiered::builder().far(redis(&server).await).build().await.expect("a cache");
        let sieve = Tiered::builder().near(Sieve).far(redis(&server).await).build().await.expect("a cache");
        for key in &keys {
            store.set(key, Bytes::from(vec![7; 512]), ttl).await.expect("stored");
            tiered.set(key, Bytes::from(vec![7; 512]), ttl).await.expect("stored");
        }
        (bare_redis(&server).await, store, tiered, sieve)
    });
    let batch: Vec<&str> = keys.iter().take(100).map(String::as_str).collect();
    let timed = |call: &dyn Fn()| {
        let begun = Instant::now();
        (0..200).for_each(|_| call());
        begun.elapsed().as_secs_f64() * 1e6 / 200.0
    };
    let mget = || {
        let values: Vec<Bytes> =
            runtime.block_on(redis::cmd("MGET").arg(&batch).query_async(&mut bare.clone())).expect("values");
        assert_eq!(values.len(), 100);
    };
    let medians = interleave(&mut [
        ("mget", &mut || timed(&mget)),
        ("redis", &mut || timed(&|| assert_eq!(runtime.block_on(store.get_many(&batch)).expect("values").len(), 100))),
        ("tiered", &mut || {
            timed(&|| assert_eq!(runtime.block_on(tiered.get_many(&batch)).expect("values").len(), 100))
        }),
        ("sieve", &mut || timed(&|| assert_eq!(runtime.block_on(sieve.get_many(&batch)).expect("values").len(), 100))),
    ]);
    row("Redis::get_many of 100, against MGET", "µs", medians[0], medians[1]);
    row("get_many of 100 through Tiered, against MGET", "µs", medians[0], medians[2]);
    row("the same through flights, as with a near store that holds none of them", "µs", medians[0], medians[3]);
}
