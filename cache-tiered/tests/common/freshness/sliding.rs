//! Ttls that count from the last read.

use cache_core::observe::Metric;

use super::{Duration, Far, Origin, Policy, cache, node};

pub(crate) async fn a_read_makes_the_ttl_count_anew_without_a_message(far: impl Far) {
    let ttl = Duration::from_secs(3);
    let sliding = || Policy::from(ttl).jitter(0.0).sliding();
    let origin = Origin::says("v");
    let (left, right) = (node(&far).await, node(&far).await);
    let (a, b) = (cache(&left, sliding()), cache(&right, sliding()));
    assert_eq!(origin.read(&a).await, "v");
    assert_eq!(origin.read(&b).await, "v");
    let begun = std::time::Instant::now();
    while begun.elapsed() < ttl * 3 / 2 {
        assert_eq!(origin.read(&a).await, "v");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(origin.calls(), 1, "read all the time, it never ended");
    let cold = cache(&node(&far).await, sliding());
    assert!(cold.get("k").await.unwrap().is_some(), "nor did it in the far store");
    let touches = left.metrics().get(Metric::Touched);
    let windows = begun.elapsed().as_millis() * 4 / ttl.as_millis();
    assert!(touches >= 1 && u128::from(touches) <= windows + 1, "{touches} touches in {windows} windows");
    assert_eq!(right.metrics().get(Metric::BusMessage), 0, "nobody is told");
    tokio::time::sleep(ttl + Duration::from_millis(300)).await;
    assert!(a.get("k").await.unwrap().is_none(), "left alone, it ends");
}
