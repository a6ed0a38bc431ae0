//! The server's wall clock is set.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{Clock, Memory, Tick, Ticks};
use cache_tiered::Tiered;
use common::{eventually, names, node, ok};
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
}
