//! Caches that share a process or a store do not meet.

mod common;

use std::sync::Arc;

use cache_core::{LocalStore, Memory, memory::LocalMemory};
use cache_tiered::Tiered;
use common::{BOUND, names, node, ok};

/// A cache in the default namespace over a near store that others use too.
async fn over(near: &Arc<LocalMemory>, far: Option<&Memory>) -> Tiered {
    let builder = Tiered::builder().shared_near(Arc::clone(near) as Arc<dyn LocalStore>).bound(BOUND);
    match far {
        Some(far) => builder.far(far.clone()).build().await.unwrap(),
        None => builder.build().await.unwrap(),
    }
}

#[tokio::test]
async fn two_caches_over_one_near_store_do_not_serve_each_others_values() {
    let near = Arc::new(LocalMemory::new(1 << 20));
    let (one, two) = (Memory::new(), Memory::new());
    for far in [None, Some((&one, &two))] {
        let (a, b) = (over(&near, far.map(|far| far.0)).await, over(&near, far.map(|far| far.1)).await);
        let (a, b) = (names(&a), names(&b));
        assert_eq!(*a.get_or_load("k", || ok("of a")).await.unwrap(), "of a");
        assert!(b.get("k").await.unwrap().is_none());
        assert_eq!(*b.get_or_load("k", || ok("of b")).await.unwrap(), "of b");
        a.invalidate("k").await.unwrap();
        assert_eq!(b.get("k").await.unwrap().as_deref().map(String::as_str), Some("of b"));
    }
}

#[tokio::test]
async fn a_cache_over_a_used_near_store_does_not_serve_what_was_there() {
    let near = Arc::new(LocalMemory::new(1 << 20));
    let far = Memory::new();
    let before = over(&near, Some(&far)).await;
    names(&before).get_or_load("k", || ok("old")).await.unwrap();
    before.close().await;
    drop(before);
    // nobody hears of it in this process
    names(&node(&far).await).invalidate("k").await.unwrap();
    assert!(names(&over(&near, Some(&far)).await).get("k").await.unwrap().is_none());
}
