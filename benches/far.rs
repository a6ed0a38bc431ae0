//! The far hit beside its floor, the bare client on one connection: one task, many tasks, batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_strata::{CacheService, Tiered};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use strata_benches::{bare_redis, keys, redis, runtime, server};

const TTL: Duration = Duration::from_secs(3600);

/// Runs `n` calls over `tasks` tasks.
async fn spread<F, Fut>(tasks: u64, n: u64, call: F) -> Duration
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let begun = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let call = call.clone();
        set.spawn(async move {
            for _ in 0..n.div_ceil(tasks) {
                call().await;
            }
        });
    }
    while set.join_next().await.is_some() {}
    begun.elapsed()
}

/// Another key for each call, so that calls don't join each other's flight.
fn chosen(keys: &[String]) -> &str {
    &keys[fastrand::usize(..keys.len())]
}

fn far(c: &mut Criterion) {
    let runtime = runtime();
    let server = server();
    let keys: Arc<Vec<String>> = Arc::new(keys(1000));
    let (bare, store, tiered) = runtime.block_on(async {
        let store = Arc::new(redis(&server).await);
        let tiered = Tiered::builder().far(redis(&server).await).build().await.expect("a cache");
        for key in keys.iter() {
            store.set(key, Bytes::from(vec![7; 512]), TTL).await.expect("stored");
            tiered.set(key, Bytes::from(vec![7; 512]), TTL).await.expect("stored");
        }
        (bare_redis(&server).await, store, tiered)
    });
    for tasks in [1, 16, 64, 256] {
        let mut group = c.benchmark_group(format!("far/{tasks} tasks"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("floor: bare client", |b| {
            b.iter_custom(|n| {
                let (bare, keys) = (bare.clone(), Arc::clone(&keys));
                runtime.block_on(spread(tasks, n, move || {
                    let (mut bare, keys) = (bare.clone(), Arc::clone(&keys));
                    async move {
                        let get = redis::cmd("GET").arg(chosen(&keys)).query_async(&mut bare).await;
                        let value: Bytes = get.expect("a value");
                        assert_eq!(value.len(), 512);
                    }
                }))
            });
        });
        group.bench_function("Redis", |b| {
            b.iter_custom(|n| {
                let (store, keys) = (Arc::clone(&store), Arc::clone(&keys));
                runtime.block_on(spread(tasks, n, move || {
                    let (store, keys) = (Arc::clone(&store), Arc::clone(&keys));
                    async move { assert!(store.get(chosen(&keys)).await.expect("an answer").is_some()) }
                }))
            });
        });
        group.bench_function("Tiered, far only", |b| {
            b.iter_custom(|n| {
                let (tiered, keys) = (tiered.clone(), Arc::clone(&keys));
                runtime.block_on(spread(tasks, n, move || {
                    let (tiered, keys) = (tiered.clone(), Arc::clone(&keys));
                    async move { assert!(tiered.get(chosen(&keys)).await.expect("an answer").is_some()) }
                }))
            });
        });
    }
    for size in [1, 10, 100, 1000] {
        let mut group = c.benchmark_group(format!("far/batch of {size}"));
        let batch: Vec<&str> = keys.iter().take(size).map(String::as_str).collect();
        group.bench_function("floor: MGET", |b| {
            b.iter(|| {
                let values: Vec<Bytes> =
                    runtime.block_on(redis::cmd("MGET").arg(&batch).query_async(&mut bare.clone())).expect("values");
                assert_eq!(values.len(), size);
            });
        });
        group.bench_function("Redis", |b| {
            b.iter(|| assert_eq!(runtime.block_on(store.get_many(&batch)).expect("values").len(), size));
        });
        group.bench_function("Tiered, far only", |b| {
            b.iter(|| assert_eq!(runtime.block_on(tiered.get_many(&batch)).expect("values").len(), size));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = far
}
criterion_main!(benches);
