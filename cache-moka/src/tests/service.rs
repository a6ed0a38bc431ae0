use std::time::Duration;

use bytes::Bytes;
use cache_core::{Atomic, CacheService, Clock, ErrorKind, Parted, Sweep};

use super::{MINUTE, SECOND, race};
use crate::Moka;

#[tokio::test]
async fn an_overwrite_does_not_keep_the_old_deadline() {
    let (clock, hand) = Clock::manual();
    let store = Moka::builder().clock(clock).build();
    store.set("longer", Bytes::from_static(b"1"), SECOND).await.unwrap();
    store.set("longer", Bytes::from_static(b"2"), MINUTE).await.unwrap();
    store.set("shorter", Bytes::from_static(b"1"), MINUTE).await.unwrap();
    store.set("shorter", Bytes::from_static(b"2"), SECOND).await.unwrap();
    hand.advance(2 * SECOND);
    assert_eq!(store.get("longer").await.unwrap().as_deref(), Some(&b"2"[..]));
    assert_eq!(store.get("shorter").await.unwrap(), None);
}

#[tokio::test]
async fn an_expired_value_is_no_value_for_any_operation() {
    let (clock, hand) = Clock::manual();
    let store = Moka::builder().clock(clock).build();
    for key in ["a", "b", "c", "d", "e"] {
        store.set(key, Bytes::from_static(b"5"), SECOND).await.unwrap();
    }
    hand.advance(SECOND);
    assert!(store.keys("").await.unwrap().is_empty());
    assert!(!store.exists("a").await.unwrap());
    assert!(!store.delete("b").await.unwrap());
    assert!(!store.compare_and_delete("c", &Bytes::from_static(b"5")).await.unwrap());
    assert_eq!(store.add("c", 1, SECOND).await.unwrap(), 1);
    assert!(store.set_if_absent("d", Bytes::new(), SECOND).await.unwrap());
    assert_eq!(store.clear("e").await.unwrap(), 0);
}

#[test]
fn a_read_that_drops_an_expired_value_does_not_drop_its_successor() {
    let (clock, hand) = Clock::manual();
    let store = Moka::builder().clock(clock).build();
    race(
        || drop(store.live("k")),
        || {
            cache_core::LocalStore::put(&store, "k", store.entry(Bytes::new(), 1));
            hand.advance(Duration::from_millis(1));
            cache_core::LocalStore::put(&store, "k", store.entry(Bytes::new(), 60_000));
            assert!(store.held(&Parted::cut("k")).is_some(), "the new value was dropped");
        },
    );
}

#[tokio::test]
async fn a_value_that_cannot_fit_is_refused_not_dropped() {
    let store = Moka::builder().bytes(10_000).build();
    let error = store.set("k", Bytes::from(vec![0; 10_000]), MINUTE).await.unwrap_err();
    assert_eq!((error.kind(), error.store(), error.operation()), (ErrorKind::TooLarge, Some("moka"), Some("set")));
    store.set("k", Bytes::from(vec![0; store.max_value()]), MINUTE).await.unwrap();
    store.cache.run_pending_tasks();
    assert!(store.exists("k").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_lose_no_step() {
    let store = Moka::new();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..500 {
                    store.add("n", 1, MINUTE).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.get("n").await.unwrap().as_deref(), Some(&b"4000"[..]));
}
