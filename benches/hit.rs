//! The near hit beside its floor, a bare `moka::sync` get of an `Arc`; on one thread and on two.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use strata_benches::{Product, bare_moka, keys, products, redis, runtime, server, tiered};

const KEYS: u64 = 10_000;

/// Runs `hit` `n` times on each of `threads`; the time of the slowest.
fn spread(threads: usize, n: u64, hit: &(dyn Fn(usize) + Sync)) -> Duration {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut at = thread * 7919;
                for _ in 0..n {
                    at = (at + 7919) % usize::try_from(KEYS).unwrap_or(1);
                    hit(at);
                }
            });
        }
    });
    begun.elapsed()
}

fn hit(c: &mut Criterion) {
    let runtime = runtime();
    let server = server();
    let keys = keys(KEYS);
    let bare = bare_moka(256 << 20);
    let near = runtime.block_on(async { products(&tiered(None).await) });
    let both = runtime.block_on(async { products(&tiered(Some(redis(&server).await)).await) });
    runtime.block_on(async {
        for (id, key) in (0..).zip(&keys) {
            bare.insert(key.as_str().into(), Arc::new(Product::new(id)));
            for cache in [&near, &both] {
                let load = async move || Ok::<_, std::io::Error>(Product::new(id));
                cache.get_or_load(key.as_str(), load).await.expect("loaded");
            }
        }
    });
    for threads in [1, 2] {
        let mut group = c.benchmark_group(format!("hit/{threads} threads"));
        let mut bench = |name: &str, hit: &(dyn Fn(usize) + Sync)| {
            group.bench_function(name, |b| b.iter_custom(|n| spread(threads, n, hit)));
        };
        bench("floor: bare moka", &|at| drop(black_box(bare.get(keys[at].as_str()))));
        for (name, cache) in [("typed, near only", &near), ("typed, near and far", &both)] {
            bench(name, &|at| {
                let ready = futures_util::FutureExt::now_or_never(cache.get(keys[at].as_str()));
                black_box(ready).expect("a near hit does not wait").expect("an answer");
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = hit
}
criterion_main!(benches);
