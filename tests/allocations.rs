//! What a near hit costs in allocations: nothing. And what a near entry takes in memory: no more than it is weighed for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{Entry, Frame, Header, Tags, Tick};
use cache_strata::memory::{LocalMemory, Memory};
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
    let entry = Arc::new(Entry::plain("x".into(), Tick::NEVER));
    moka.put("k", entry);
    let bare = allocations(&runtime, async || {
        assert!(LocalStore::get(&moka, "k").is_some());
    });
    assert!(bare <= 20, "{bare} allocations in 1,000 bare lookups");
}

/// moka frees behind everybody's back: two that measure at once would count what the other freed.
static ALONE: Mutex<()> = Mutex::new(());

/// What `fill` leaves allocated.
fn left<T>(fill: impl FnOnce() -> T) -> (T, u64) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut kept = None;
    let measured = allocation_counter::measure(|| kept = Some(fill()));
    (kept.unwrap(), u64::try_from(measured.bytes_current).unwrap())
}

/// Enough for what a store takes once and for all to be little beside them.
const ENTRIES: u64 = 20_000;

fn key(id: u64) -> String {
    format!("tenant-7/product/{id:08}")
}

fn filled(near: impl LocalStore, payload: impl Fn(u64) -> Bytes) -> impl LocalStore {
    for id in 0..ENTRIES {
        near.put(&key(id), Arc::new(Entry::plain(payload(id), Tick::NEVER)));
    }
    near.settle();
    near
}

/// The budget is told the truth: an entry is weighed for all that it takes, the store's own tables included.
#[test]
fn an_entry_is_weighed_for_no_less_than_it_takes() {
    let plain = |size: usize| move |_| Bytes::from(vec![7; size]);
    // as it comes from a far store: with the frame around it, shared
    let framed = |id| {
        let frame = Frame { header: Header::value(), tags: Tags::default(), payload: vec![7; 200].into() };
        let bytes = Bytes::from(frame.to_bytes(&key(id)).to_vec());
        Frame::parse(&key(id), &bytes).unwrap().payload
    };
    let moka = || Moka::builder().bytes(1 << 30).build();
    let memory = || LocalMemory::new(1 << 30);
    let weigh = |what: &str, (near, bytes): (&dyn LocalStore, u64)| {
        assert_eq!(near.len(), ENTRIES, "{what}");
        let (each, weighed) = (bytes / ENTRIES, near.weight() / ENTRIES);
        println!("{what}: {each} bytes an entry, weighed for {weighed}");
        assert!(each <= weighed, "{what}: {each} bytes an entry, weighed for {weighed}");
        // nor is the budget wasted
        assert!(weighed - each <= 256, "{what}: {each} bytes an entry, weighed for {weighed}");
    };
    for size in [0, 200] {
        let (near, bytes) = left(|| filled(moka(), plain(size)));
        weigh(&format!("moka, {size} bytes"), (&near, bytes));
        let (near, bytes) = left(|| filled(memory(), plain(size)));
        weigh(&format!("memory, {size} bytes"), (&near, bytes));
    }
    let (near, bytes) = left(|| filled(moka(), framed));
    weigh("moka, from a frame", (&near, bytes));
    let (near, bytes) = left(|| filled(memory(), framed));
    weigh("memory, from a frame", (&near, bytes));
}

/// Of that, what is ours: beside a moka that holds the same keys and bytes.
#[test]
fn our_bookkeeping_is_at_most_160_bytes_an_entry() {
    let payload = |_| Bytes::from(vec![7; 200]);
    let (near, ours) = left(|| filled(Moka::builder().bytes(1 << 30).build(), payload));
    let (bare, theirs) = left(|| {
        let bare: moka::sync::Cache<Arc<str>, Arc<Bytes>> = moka::sync::Cache::builder()
            .max_capacity(1 << 30)
            .weigher(|key: &Arc<str>, value: &Arc<Bytes>| u32::try_from(key.len() + value.len()).unwrap_or(u32::MAX))
            .build();
        (0..ENTRIES).for_each(|id| bare.insert(key(id).into(), Arc::new(payload(id))));
        bare.run_pending_tasks();
        bare
    });
    assert_eq!((near.len(), bare.entry_count()), (ENTRIES, ENTRIES));
    let each = ours.saturating_sub(theirs) / ENTRIES;
    println!("{each} bytes an entry more than bare moka");
    assert!(each <= 160, "{each} bytes an entry more than bare moka");
}
