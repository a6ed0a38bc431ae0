//! Coherence by beats alone.

mod common;

use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::testkit::chaos::{Chaos, Op};
use cache_core::{CacheService, ErrorKind, Memory, memory::LocalMemory};
use cache_tiered::{Tier, Tiered, TieredBuilder};
use common::{BOUND, names, ok};
use tokio::time::{Instant, sleep, timeout};

fn builder(far: impl CacheService) -> TieredBuilder {
    Tiered::builder().near(LocalMemory::new(1 << 20)).far(far).bound(BOUND).polling()
}

#[tokio::test]
async fn a_change_elsewhere_is_seen_within_the_bound_and_what_it_left_alone_is_kept() {
    let far = Chaos::new(Memory::new());
    let (a, b) = (builder(far.clone()).build().await.unwrap(), builder(far.clone()).build().await.unwrap());
    assert_eq!(far.calls(Op::Subscribe), 0);
    let (one, two) = (names(&a), names(&b));
    // tags are only known from the first use on; what is older can't be confirmed
    a.clear().await.unwrap();
    for key in ["k", "other"] {
        one.get_or_load(key, || ok("old")).await.unwrap();
        assert_eq!(two.get(key).await.unwrap().as_deref().map(String::as_str), Some("old"));
    }
    let epochs = b.metrics().get(Metric::EpochBump);
    one.invalidate("k").await.unwrap();
    let acknowledged = Instant::now();
    assert!(one.get("k").await.unwrap().is_none(), "its own process at once");
    let gone = timeout(Duration::from_secs(10), async {
        loop {
            let asked = Instant::now();
            if two.get("k").await.unwrap().is_none() {
                return asked;
            }
            assert!(asked < acknowledged + BOUND, "served for longer than the bound");
            sleep(Duration::from_millis(2)).await;
        }
    });
    gone.await.expect("never seen");
    assert!(b.metrics().get(Metric::EpochBump) > epochs, "by an epoch");
    assert_eq!(b.metrics().get(Metric::BusMessage), 0);
    // what did not change is confirmed by its stamp, not read again
    let (reads, peeks) = (far.calls(Op::Read), far.calls(Op::Peek));
    assert_eq!(two.lookup("other").await.unwrap().unwrap().tier, Tier::Near);
    assert_eq!((far.calls(Op::Read), far.calls(Op::Peek)), (reads, peeks + 1));
}

#[tokio::test]
async fn a_tag_and_a_clear_are_seen_too_and_waiters_find_what_was_filled() {
    let far = Memory::new();
    let (a, b) = (builder(far.clone()).build().await.unwrap(), builder(far).build().await.unwrap());
    let (one, two) = (names(&a), names(&b));
    one.get_or_load("k", || ok("old")).await.unwrap();
    two.get("k").await.unwrap();
    a.clear().await.unwrap();
    let seen = async {
        while two.get("k").await.unwrap().is_some() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(10), seen).await.expect("never seen");
    // two processes load one key: the waiter polls, nobody wakes it
    let slow = async {
        sleep(Duration::from_millis(100)).await;
        Ok::<_, std::io::Error>("new".to_owned())
    };
    let (first, second) = tokio::join!(one.get_or_load("k", || slow), async {
        sleep(Duration::from_millis(20)).await;
        two.get_or_load("k", || ok("twice")).await
    });
    assert_eq!((first.unwrap().as_str(), second.unwrap().as_str()), ("new", "new"));
    assert_eq!(b.metrics().get(Metric::Load), 0);
}

#[tokio::test]
async fn what_polling_can_not_go_with_is_refused() {
    let near = || LocalMemory::new(1 << 20);
    let mute = Tiered::builder().near(near()).build().await.unwrap();
    assert!(mute.bus().is_none());
    let refused = [
        (Tiered::builder().near(near()).polling(), "without a far store"),
        (builder(mute.clone()), "nothing to poll"),
        (builder(mute).incoherent(Duration::from_secs(1)), "nothing to poll"),
        (builder(Memory::new()).incoherent(Duration::from_secs(1)), "nothing to poll"),
    ];
    for (builder, part) in refused {
        let error = builder.build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(part), "{error}");
    }
}

/// JetCache and HybridCache do: each process then keeps what it has until its ttl.
#[tokio::test]
async fn a_near_store_over_a_far_one_that_tells_nothing_is_not_built_in_silence() {
    let mute = Tiered::builder().near(LocalMemory::new(1 << 20)).build().await.unwrap();
    let tiers = || Tiered::builder().near(LocalMemory::new(1 << 20)).far(mute.clone());
    let error = tiers().build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("no invalidation stream") && error.message().contains("incoherent"), "{error}");
    assert!(tiers().incoherent(Duration::from_secs(1)).build().await.is_ok(), "said aloud, it may be");
}
