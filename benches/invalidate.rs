//! What an invalidation and a beat cost: beside the bare commands, until the last of 16 listeners dropped the key, and
//! on the server.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_redis::testkit::Server;
use cache_strata::core::{Bus, Line, LocalStore};
use cache_strata::{Cache, Moka, Tiered};
use criterion::{Criterion, criterion_group};
use strata_benches::{bare_redis, redis, runtime, server};

const LISTENERS: usize = 16;
/// Beats on the server's clock.
const BEATS: u32 = 20_000;

/// What our invalidation replaces: the key goes, and whoever listens is told, in one script as well.
const FLOOR: &str = "redis.call('DEL', KEYS[1]); redis.call('PUBLISH', 'c', KEYS[1])";

struct Node {
    near: Moka,
    cache: Cache<u64>,
    _tiered: Tiered,
}

async fn node(server: &Server) -> Node {
    let near = strata_benches::moka();
    let tiered = Tiered::builder().near(near.clone()).far(redis(server).await).bound(Duration::from_secs(600));
    let tiered = tiered.build().await.expect("a tiered cache");
    Node { near, cache: tiered.cache("numbers").build().expect("a cache"), _tiered: tiered }
}

impl Node {
    /// Takes `key` near, and the key under which it stands there.
    async fn take(&self, key: &str) -> String {
        let own = format!(":{key}");
        loop {
            self.cache.load_with(key, || async { Ok::<_, Infallible>(1.into()) }).await.expect("a value");
            let mut found = None;
            self.near.each(&mut |near, _| {
                found = near.ends_with(&own).then(|| near.to_owned());
                found.is_none()
            });
            if let Some(found) = found {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn calls(c: &mut Criterion) {
    let runtime = runtime();
    let server = server();
    let mut group = c.benchmark_group("invalidate");
    let bare = runtime.block_on(bare_redis(&server));
    group.bench_function("floor: bare script, DEL and PUBLISH", |b| {
        b.to_async(&runtime).iter(|| {
            let mut bare = bare.clone();
            async move {
                let script = redis::Script::new(FLOOR);
                script.key("strata:k:numbers:a").invoke_async::<()>(&mut bare).await.expect("done");
            }
        });
    });
    let one = runtime.block_on(node(&server));
    group.bench_function("ours, nobody else listens", |b| {
        b.to_async(&runtime).iter(|| async { one.cache.invalidate("a").await.expect("acknowledged") });
    });
    let _others: Vec<Node> = (0..LISTENERS).map(|_| runtime.block_on(node(&server))).collect();
    group.bench_function("ours, 16 listen", |b| {
        b.to_async(&runtime).iter(|| async { one.cache.invalidate("a").await.expect("acknowledged") });
    });
    let far = runtime.block_on(redis(&server));
    let line = line();
    group.bench_function("beat", |b| {
        b.to_async(&runtime).iter(|| async { far.beat(&line).await.expect("a beat") });
    });
}

fn line() -> Line {
    Line { seq: "bench:seq".into(), channel: "bench:c".into(), tags: "bench:tags:".into() }
}

/// From the call to the moment at which the last of 16 near stores has dropped the key, and to the call's return.
fn listeners(rounds: usize) {
    let runtime = runtime();
    let server = server();
    let nodes: Vec<Node> = (0..=LISTENERS).map(|_| runtime.block_on(node(&server))).collect();
    let (mut dropped, mut returned) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let key = format!("k{round}");
        let near: Vec<String> = nodes.iter().map(|node| runtime.block_on(node.take(&key))).collect();
        let cache = nodes[0].cache.clone();
        let begun = Instant::now();
        let call = runtime.spawn(async move {
            cache.invalidate(&key).await.expect("acknowledged");
            begun.elapsed()
        });
        // each is looked at until it is gone; then the next, which may be gone long since
        for (node, near) in nodes.iter().zip(&near).skip(1) {
            while node.near.get(near).is_some() {
                std::thread::yield_now();
                assert!(begun.elapsed() < Duration::from_secs(30), "a listener never dropped the key");
            }
        }
        dropped.push(begun.elapsed());
        returned.push(runtime.block_on(call).expect("the call"));
    }
    println!("\n| {rounds} invalidations, {LISTENERS} listeners | p50 | p99 | longest |\n|---|---|---|---|");
    row("until the call returned", &mut returned);
    row("until the last listener dropped the key", &mut dropped);
}

fn row(what: &str, spans: &mut [Duration]) {
    spans.sort_unstable();
    let at = |share: usize| spans[(spans.len() * share / 100).min(spans.len() - 1)];
    println!("| {what} | {:.0?} | {:.0?} | {:.0?} |", at(50), at(99), at(100));
}

/// The server's own account of a beat, and what a thousand processes would cost it.
fn beats(n: u32) {
    let runtime = runtime();
    let server = server();
    let far = Arc::new(runtime.block_on(redis(&server)));
    let line = line();
    runtime.block_on(far.beat(&line)).expect("a beat");
    server.cli(&["CONFIG", "RESETSTAT"]).expect("statistics");
    let before = used(&server);
    let begun = Instant::now();
    runtime.block_on(async {
        for _ in 0..n {
            far.beat(&line).await.expect("a beat");
        }
    });
    let wall = begun.elapsed() / n;
    let used = (used(&server) - before) / f64::from(n);
    let said = server.cli(&["INFO", "commandstats"]).expect("statistics");
    let script: f64 = said
        .lines()
        .find(|line| line.starts_with("cmdstat_evalsha"))
        .and_then(|line| line.split("usec_per_call=").nth(1)?.split(',').next()?.parse().ok())
        .expect("the script's time");
    println!("\n| a beat, of {n} one after the other | µs |\n|---|---|");
    println!("| round trip | {:.1} |", wall.as_secs_f64() * 1e6);
    println!("| in the script, as the server counts | {script:.1} |");
    println!("| of the server's processor, reading and writing included | {:.1} |", used * 1e6);
    for bound in [2.0, 0.6] {
        let rate = 1000.0 * 3.0 / bound;
        println!(
            "\n1,000 processes, D = {bound} s: {rate:.0} beats a second, {:.1} % of a core of the server",
            rate * used * 100.0
        );
    }
}

/// The server's processor time in seconds, user and system.
fn used(server: &Server) -> f64 {
    let said = server.cli(&["INFO", "cpu"]).expect("statistics");
    let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    ["used_cpu_sys:", "used_cpu_user:"].into_iter().filter_map(field).sum()
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = calls
}

fn main() {
    // criterion's test mode asks for a run that only proves that it runs
    let short = !std::env::args().any(|argument| argument == "--bench");
    benches();
    listeners(if short { 3 } else { 2_000 });
    beats(if short { 10 } else { BEATS });
    Criterion::default().configure_from_args().final_summary();
}
