//! Batches beside the commands that they can't do without: far hits, near hits, and loads of what is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_strata::{CacheService, Tiered};
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::future::join_all;
use strata_benches::{Product, bare_moka, bare_redis, keys, products, redis, runtime, server, tiered};

const TTL: Duration = Duration::from_secs(3600);

fn answers(keys: Vec<String>) -> std::future::Ready<Result<Vec<(String, Product)>, std::io::Error>> {
    std::future::ready(Ok(keys.into_iter().map(|key| (key, Product::new(7))).collect()))
}

fn batch(c: &mut Criterion) {
    let runtime = runtime();
    let server = server();
    let all = keys(1000);
    let (bare, far, both) = runtime.block_on(async {
        let store = redis(&server).await;
        let far = Tiered::builder().far(redis(&server).await).build().await.expect("a cache");
        for key in &all {
            // for the floor, which asks for plain names
            store.set(key, Bytes::from(vec![7; 512]), TTL).await.expect("stored");
            far.set(key, Bytes::from(vec![7; 512]), TTL).await.expect("stored");
        }
        (bare_redis(&server).await, far, products(&tiered(Some(redis(&server).await)).await))
    });
    let moka = bare_moka(256 << 20);
    let loaded = runtime.block_on(both.get_many_or_load(&all, answers));
    assert!(loaded.iter().all(Result::is_ok));
    all.iter().for_each(|key| moka.insert(key.as_str().into(), Arc::new(Product::new(7))));
    for size in [10, 100, 1000] {
        let names: Vec<&str> = all.iter().take(size).map(String::as_str).collect();
        let mut group = c.benchmark_group(format!("batch/{size} far hits"));
        group.bench_function("floor: MGET", |b| {
            b.iter(|| {
                let values: Vec<Bytes> =
                    runtime.block_on(redis::cmd("MGET").arg(&names).query_async(&mut bare.clone())).expect("values");
                assert_eq!(values.len(), size);
            });
        });
        group.bench_function("get_many", |b| {
            b.iter(|| assert_eq!(runtime.block_on(far.get_many(&names)).expect("values").len(), size));
        });
        group.finish();
        let mut group = c.benchmark_group(format!("batch/{size} near hits"));
        group.bench_function("floor: moka gets", |b| {
            b.iter(|| names.iter().filter_map(|key| moka.get(*key)).collect::<Vec<_>>());
        });
        group.bench_function("get_many", |b| {
            b.iter(|| runtime.block_on(both.get_many(&names)));
        });
        group.finish();
    }
    let next = AtomicU64::new(0);
    let fresh = |n: u64| -> Vec<String> {
        let from = next.fetch_add(n, Ordering::Relaxed);
        (from..from + n).map(|id| format!("fresh/{id}")).collect()
    };
    let frame = vec![7_u8; 256];
    for size in [10, 100] {
        let mut group = c.benchmark_group(format!("batch/{size} loads"));
        group.bench_function("floor: MGET, SET NX, SET", |b| {
            b.iter(|| {
                let keys = fresh(size);
                runtime.block_on(async {
                    let mut bare = bare.clone();
                    let _: Vec<Option<Bytes>> =
                        redis::cmd("MGET").arg(&keys).query_async(&mut bare).await.expect("misses");
                    let (mut leases, mut fills) = (redis::pipe(), redis::pipe());
                    for key in &keys {
                        leases.cmd("SET").arg(key).arg(&frame[..48]).arg("NX").arg("GET").arg("PX").arg(5000);
                        fills.cmd("SET").arg(key).arg(&frame).arg("PX").arg(3_600_000).ignore();
                    }
                    let _: Vec<Option<Bytes>> = leases.query_async(&mut bare).await.expect("leases");
                    let () = fills.query_async(&mut bare).await.expect("fills");
                });
            });
        });
        group.bench_function("get_many_or_load", |b| {
            b.iter(|| {
                assert!(runtime.block_on(both.get_many_or_load(&fresh(size), answers)).iter().all(Result::is_ok));
            });
        });
        let gathered = both.batched(answers);
        group.bench_function("Batched, one call a key at once", |b| {
            b.iter(|| {
                let keys = fresh(size);
                let loads = join_all(keys.iter().map(|key| gathered.get_or_load(key)));
                assert!(runtime.block_on(loads).iter().all(Result::is_ok));
            });
        });
        group.bench_function("get_or_load, one call a key at once", |b| {
            b.iter(|| {
                let keys = fresh(size);
                let loads = join_all(
                    keys.iter().map(|key| both.get_or_load(key, async || Ok::<_, std::io::Error>(Product::new(7)))),
                );
                assert!(runtime.block_on(loads).iter().all(Result::is_ok));
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = batch
}
criterion_main!(benches);
