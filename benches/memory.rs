//! Bytes in memory for each near entry, beside a bare moka of the same values; and the process under churn.
//!
//! Counted by the allocator, so a busy machine changes nothing: `cargo bench -p strata-benches --bench memory`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_strata::core::{Entry, LocalStore, Tick};
use cache_strata::{Cache, Moka, Tiered};
use strata_benches::{Product, keys, moka, products};

const PAYLOAD: usize = 200;

fn main() {
    // criterion's test mode, and `cargo test --benches`, ask for a run that only proves that it runs
    let short = !std::env::args().any(|argument| argument == "--bench");
    let n: u32 = if short { 2_000 } else { 200_000 };
    println!("| near store of {n} entries | bytes an entry | more than the floor |\n|---|---|---|");
    entries(n);
    typed(n);
    churn(n);
}

/// What `fill` leaves allocated, for each of `n` entries.
fn each<T>(n: u32, fill: impl FnOnce() -> T) -> f64 {
    let mut kept = None;
    let measured = allocation_counter::measure(|| kept = Some(fill()));
    drop(kept);
    measured.bytes_current as f64 / f64::from(n)
}

fn row(what: &str, bytes: f64, floor: Option<f64>) {
    let more = floor.map_or_else(String::new, |floor| format!("{:.0}", bytes - floor));
    println!("| {what} | {bytes:.0} | {more} |");
}

/// Payloads of 200 bytes under keys of 26.
fn entries(n: u32) {
    let keys = keys(u64::from(n));
    let payload = || Bytes::from(vec![7; PAYLOAD]);
    let floor = each(n, || {
        let bare: moka::sync::Cache<Arc<str>, Arc<Bytes>> = moka::sync::Cache::builder()
            .max_capacity(1 << 30)
            .weigher(|key: &Arc<str>, value: &Arc<Bytes>| u32::try_from(key.len() + value.len()).unwrap_or(u32::MAX))
            .build();
        keys.iter().for_each(|key| bare.insert(key.as_str().into(), Arc::new(payload())));
        bare.run_pending_tasks();
        bare
    });
    row("floor: bare moka, `Arc<Bytes>`", floor, None);
    let ours = each(n, || {
        let near = Moka::builder().bytes(1 << 30).build();
        keys.iter().for_each(|key| near.put(key, Arc::new(Entry::plain(payload(), Tick::NEVER))));
        near.settle();
        near
    });
    row("`Moka`, entries of bytes", ours, Some(floor));
    println!("| of these counted beside key and payload, `Entry::BOOKKEEPING` | {} | |", Entry::BOOKKEEPING);
}

/// Decoded values: the entry keeps the payload too, so that it can be written elsewhere and weighed.
fn typed(n: u32) {
    let keys = keys(u64::from(n));
    let floor = each(n, || {
        let bare = strata_benches::bare_moka(1 << 30);
        (0..).zip(&keys).for_each(|(id, key)| bare.insert(key.as_str().into(), Arc::new(Product::new(id))));
        bare.run_pending_tasks();
        bare
    });
    row("floor: bare moka, `Arc<Product>`", floor, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ours = each(n, || {
        let (tiered, cache) = runtime.block_on(filled(&keys));
        runtime.block_on(tokio::task::yield_now());
        (tiered, cache)
    });
    row("`Cache<Product>`, decoded and encoded", ours, Some(floor));
}

async fn filled(keys: &[String]) -> (Tiered, Cache<Product>) {
    let tiered = Tiered::builder().near(moka()).bound(Duration::from_secs(30)).build().await.expect("a cache");
    let cache = products(&tiered);
    for (id, key) in (0..).zip(keys) {
        cache.set(key.as_str(), Product::new(id)).await.expect("stored");
    }
    (tiered, cache)
}

/// Ten times its budget goes through a near store: what the process holds at the end, beside the budget.
fn churn(n: u32) {
    let budget = u64::from(n) * 100;
    let before = resident();
    let near = Moka::builder().bytes(budget).build();
    let each = Entry::plain(Bytes::from(vec![7; PAYLOAD]), Tick::NEVER).weight(26);
    for id in 0..10 * budget / each {
        let key = format!("tenant-7/product/{id:08}");
        near.put(&key, Arc::new(Entry::plain(Bytes::from(vec![7; PAYLOAD]), Tick::NEVER)));
    }
    near.settle();
    assert!(near.weight() <= near.budget(), "{} of {}", near.weight(), near.budget());
    println!(
        "\nchurn: budget {} KiB, weighed {} KiB in {} entries, the process grew by {} KiB",
        budget >> 10,
        near.weight() >> 10,
        near.len(),
        resident().saturating_sub(before) >> 10
    );
}

/// The resident set of this process in bytes; 0 where the system does not tell.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
