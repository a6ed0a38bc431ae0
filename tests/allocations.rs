//! What a near hit costs in allocations: nothing.

use std::time::Duration;

use cache_strata::memory::Memory;
use cache_strata::{Cache, LocalStore, Moka, Tiered};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Product {
    name: String,
    prices: Vec<u64>,
}

fn product() -> Product {
    Product { name: "lamp".to_owned(), prices: vec![1, 2, 3] }
}

async fn loaded(far: bool) -> (Cache<Product>, Cache<Product, u64>) {
    let mut tiers = Tiered::builder().near(Moka::builder().bytes(1 << 20).build());
    if far {
        // trust has to outlast the measurement
        tiers = tiers.far(Memory::new()).bound(Duration::from_secs(60));
    }
    let tiered = tiers.build().await.unwrap();
    let named = tiered.cache::<Product>("named").build().unwrap();
    let numbered = tiered.cache::<Product>("numbered").keyed::<u64>().build().unwrap();
    named.get_or_load("a key of usual length", async || Ok::<_, std::io::Error>(product())).await.unwrap();
    numbered.get_or_load(&42, async || Ok::<_, std::io::Error>(product())).await.unwrap();
    (named, numbered)
}

/// Allocations of 1,000 calls of `hit`, after a warm-up.
fn allocations(runtime: &tokio::runtime::Runtime, hit: impl AsyncFn()) -> u64 {
    runtime.block_on(async {
        for _ in 0..2_000 {
            hit().await;
        }
    });
    let measured = allocation_counter::measure(|| {
        runtime.block_on(async {
            for _ in 0..1_000 {
                hit().await;
            }
        });
    });
    measured.count_total
}

#[test]
fn a_typed_near_hit_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for far in [false, true] {
        let (named, numbered) = runtime.block_on(loaded(far));
        let get = allocations(&runtime, async || {
            assert_eq!(named.get("a key of usual length").await.unwrap().unwrap().name, "lamp");
        });
        let load = allocations(&runtime, async || {
            let load = async || Ok::<_, std::io::Error>(product());
            assert_eq!(numbered.get_or_load(&42, load).await.unwrap().prices.len(), 3);
        });
        // moka's own housekeeping allocates now and then; a box a hit would show as 1,000
        assert!(get <= 20 && load <= 20, "get {get}, get_or_load {load} allocations in 1,000 hits, far {far}");
    }
}

#[test]
fn bare_moka_allocates_no_less() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let moka = Moka::builder().bytes(1 << 20).build();
    let entry = std::sync::Arc::new(cache_core::Entry::plain("x".into(), cache_core::Tick::NEVER));
    moka.put("k", entry);
    let bare = allocations(&runtime, async || {
        assert!(LocalStore::get(&moka, "k").is_some());
    });
    assert!(bare <= 20, "{bare} allocations in 1,000 bare lookups");
}
