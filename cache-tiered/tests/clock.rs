//! The server's wall clock is set. Over `Memory`: the clock of a real server can't be, apart from its machine's.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use cache_core::observe::Metric;
use cache_core::{Clock, Memory, Tick, Ticks};
use cache_tiered::{Cache, Tier, Tiered};
use common::{BOUND, eventually, names, node, ok};
use tokio::sync::Notify;

/// A server's clock, that may be set by so many milliseconds.
#[derive(Clone, Default)]
struct Wall(Arc<AtomicI64>);

impl Ticks for Wall {
    fn now(&self) -> Tick {
        Clock::system().now()
    }

    fn unix_ms(&self) -> u64 {
        Clock::system().unix_ms().saturating_add_signed(self.0.load(Ordering::SeqCst))
    }
}

impl Wall {
    /// Sets the clock, and waits until the process has heard of it.
    async fn set(&self, hours: i64, tiered: &Tiered) {
        self.0.store(hours * 3_600_000, Ordering::SeqCst);
        let beats = || tiered.metrics().get(Metric::Beat);
        let before = beats();
        eventually("a beat that left since is answered", async || beats() > before + 1).await;
    }
}

/// G4. The loader's lease was lost, another process fills an older row, and the server's clock makes that look ended just
/// when the loader looks again. What it then tells is newer: the older one may not come back when the clock does.
#[tokio::test]
async fn a_value_that_a_set_clock_brings_back_does_not_follow_a_newer_one() {
    let wall = Wall::default();
    let far = Memory::builder().clock(Clock::from_source(wall.clone())).build();
    let (tiered, other) = (node(&far).await, node(&far).await);
    let cache = names(&tiered);
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let load = tokio::spawn({
        let (cache, begun, go) = (cache.clone(), Arc::clone(&begun), Arc::clone(&go));
        let load = async move || {
            begun.notify_one();
            go.notified().await;
            Ok::<_, std::io::Error>("new".to_owned())
        };
        async move { cache.get_or_load("k", load).await }
    });
    tokio::time::timeout(Duration::from_secs(10), begun.notified()).await.unwrap();
    assert!(far.evict("strata:k:names:k"), "the lease is lost");
    assert_eq!(*names(&other).get_or_load("k", || ok("old")).await.unwrap(), "old");
    wall.set(48, &tiered).await;
    go.notify_one();
    assert_eq!(*load.await.unwrap().unwrap(), "new");
    wall.set(0, &tiered).await;
    let next = cache.get("k").await.unwrap();
    assert_eq!(next.as_deref(), None, "it was not stored, and nothing older may be found");
    common::audit::at_the_end().await;
}

/// Whoever changed a key never reads the old value again, nobody else after the bound, whatever the clock says.
#[tokio::test]
async fn a_server_clock_that_jumps_orders_nothing() {
    let wall = Wall::default();
    let far = Memory::builder().clock(Clock::from_source(wall.clone())).build();
    let (one, two) = (node(&far).await, node(&far).await);
    let (one, two) = (names(&one), names(&two));
    let row = Arc::new(AtomicI64::new(0));
    let read = async |cache: &Cache<String>| {
        let row = Arc::clone(&row);
        let load = move || async move { Ok::<_, std::io::Error>(row.load(Ordering::SeqCst).to_string().into()) };
        let answer = cache.load_with("k", load).await.unwrap();
        (answer.value.unwrap().to_string(), answer.tier)
    };
    for (now, hours) in (1..).zip([1, -1, 0, 100, -100, 0]) {
        for cache in [&one, &two] {
            let held = ((now - 1).to_string(), Tier::Near);
            eventually("the value is near", async || read(cache).await == held).await;
        }
        // nobody has heard of it yet
        wall.0.store(hours * 3_600_000, Ordering::SeqCst);
        row.store(now, Ordering::SeqCst);
        one.invalidate("k").await.unwrap();
        let acknowledged = Instant::now();
        assert_eq!(read(&one).await.0, now.to_string(), "{hours} h: a process reads what it has itself replaced");
        loop {
            let asked = Instant::now();
            if read(&two).await.0 == now.to_string() {
                break;
            }
            assert!(asked < acknowledged + BOUND, "{hours} h: not after the bound");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    common::audit::at_the_end().await;
}
