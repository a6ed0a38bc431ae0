//! The service: ttls. Real ones, because the store's own clock is the point.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::LONG;
use crate::testkit::wait::{PATIENCE, eventually};

cases! { "service", [Service]:
    "A value is gone once its ttl has passed, for every method." => a_value_is_gone_once_its_ttl_has_passed,
    "A value is not gone before its ttl has passed." => a_value_is_not_gone_before_its_ttl_has_passed,
    "A ttl is rounded up to whole milliseconds, never down." => a_ttl_is_rounded_up,
    "A ttl of a nanosecond is taken and passes." => the_shortest_ttl_is_taken,
    "Setting a key with a longer ttl prolongs it." => a_longer_ttl_replaces_a_shorter_one,
    "Setting a key with a shorter ttl shortens it." => a_shorter_ttl_replaces_a_longer_one,
    "Reading does not prolong a ttl." => reading_does_not_prolong_a_ttl,
    "A key set anew after a delete has nothing of its old ttl." => a_key_set_anew_has_nothing_of_its_old_ttl,
    "A key whose ttl has passed can be set again." => a_key_can_be_set_again_after_its_ttl,
    "A batch gives each of its keys the ttl." => a_batch_gives_each_key_the_ttl,
}

const SHORT: Duration = Duration::from_millis(60);

/// Until well after a ttl of [`SHORT`] that began before this call.
pub(super) async fn pass_short() {
    tokio::time::sleep(SHORT * 3).await;
}

async fn gone(t: &Context, key: &str) {
    eventually("the value is gone", async || t.get(key).await.is_none()).await;
}

async fn a_value_is_gone_once_its_ttl_has_passed(t: Context) {
    // a key for each method, so that each is the first to look at a value past its ttl
    let [get, exists, get_many, delete, delete_many, stays] =
        ["get", "exists", "get_many", "delete", "delete_many", "stays"].map(|name| t.key(name));
    for key in [&get, &exists, &get_many, &delete, &delete_many] {
        t.set(key, "v", SHORT).await;
    }
    t.set(&stays, "v", LONG).await;
    pass_short().await;
    assert_eq!(t.get(&get).await, None);
    assert!(!t.store().exists(&exists).await.unwrap());
    let answers = t.store().get_many(&[&get_many, &stays]).await.unwrap();
    assert_eq!(answers, [None, Some(Bytes::from_static(b"v"))]);
    assert!(!t.store().delete(&delete).await.unwrap(), "delete said that a value past its ttl was there");
    assert_eq!(t.store().delete_many(&[&delete_many, &stays]).await.unwrap(), 1, "a value past its ttl was counted");
}

/// Reads until the value is gone; the time from before the set until the read that missed it had returned.
async fn lifetime(t: &Context, key: &str, ttl: Duration) -> Duration {
    let start = Instant::now();
    t.set(key, "v", ttl).await;
    while t.get(key).await.is_some() {
        assert!(start.elapsed() < ttl + PATIENCE, "still there long after its ttl");
        tokio::task::yield_now().await;
    }
    start.elapsed()
}

async fn a_value_is_not_gone_before_its_ttl_has_passed(t: Context) {
    for millis in [1, 5, 30, 250] {
        let ttl = Duration::from_millis(millis);
        let life = lifetime(&t, &t.key("k"), ttl).await;
        assert!(life >= ttl, "gone {:?} early", ttl - life);
    }
}

async fn a_ttl_is_rounded_up(t: Context) {
    let ttl = Duration::from_micros(5_950);
    for _ in 0..25 {
        let life = lifetime(&t, &t.key("k"), ttl).await;
        assert!(life >= ttl, "gone {:?} early", ttl - life);
    }
}

async fn the_shortest_ttl_is_taken(t: Context) {
    let key = t.key("k");
    t.set(&key, "old", LONG).await;
    t.set(&key, "v", Duration::from_nanos(1)).await;
    assert_ne!(t.get(&key).await.as_deref(), Some(&b"old"[..]));
    gone(&t, &key).await;
}

async fn a_longer_ttl_replaces_a_shorter_one(t: Context) {
    let key = t.key("k");
    t.set(&key, "v", SHORT).await;
    t.set(&key, "v", LONG).await;
    pass_short().await;
    assert_eq!(t.get(&key).await.as_deref(), Some(&b"v"[..]));
}

async fn a_shorter_ttl_replaces_a_longer_one(t: Context) {
    let key = t.key("k");
    t.set(&key, "v", LONG).await;
    t.set(&key, "v", SHORT).await;
    gone(&t, &key).await;
}

async fn reading_does_not_prolong_a_ttl(t: Context) {
    let key = t.key("k");
    t.set(&key, "v", SHORT).await;
    eventually("a value that is read all the time is gone", async || {
        let many = t.store().get_many(&[&key]).await.unwrap();
        t.get(&key).await.is_none() && many.len() == 1 && !t.store().exists(&key).await.unwrap()
    })
    .await;
}

async fn a_key_set_anew_has_nothing_of_its_old_ttl(t: Context) {
    let key = t.key("k");
    t.set(&key, "v", SHORT).await;
    assert!(t.store().delete(&key).await.unwrap() || t.get(&key).await.is_none());
    t.set(&key, "w", LONG).await;
    pass_short().await;
    assert_eq!(t.get(&key).await.as_deref(), Some(&b"w"[..]));
}

async fn a_key_can_be_set_again_after_its_ttl(t: Context) {
    let key = t.key("k");
    t.set(&key, "v", SHORT).await;
    pass_short().await;
    t.set(&key, "w", LONG).await;
    pass_short().await;
    assert_eq!(t.get(&key).await.as_deref(), Some(&b"w"[..]));
}

async fn a_batch_gives_each_key_the_ttl(t: Context) {
    let keys: Vec<String> = (0..20).map(|i| t.scattered(i)).collect();
    let entries: Vec<_> = keys.iter().map(|key| (&**key, Bytes::from_static(b"v"))).collect();
    t.store().set_many(&entries, LONG).await.unwrap();
    t.store().set_many(&entries[10..], SHORT).await.unwrap();
    pass_short().await;
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(t.get(key).await.is_some(), i < 10, "key {i}");
    }
}
