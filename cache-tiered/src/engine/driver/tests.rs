use std::sync::Arc;
use std::time::Duration;

use cache_core::codec::Raw;
use cache_core::memory::LocalMemory;
use cache_core::observe::Metric;
use cache_core::testkit::chaos::{Chaos, Op};
use cache_core::{CacheService, Memory};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::{Cache, Loaded, Tier, Tiered};

/// The key `k` of the space `names` in the far store.
const FAR: &str = "strata:k:names:k";

struct Node {
    tiered: Tiered,
    cache: Cache<String>,
}

impl Node {
    async fn new(far: impl CacheService) -> Self {
        let near = LocalMemory::new(1 << 20);
        // long, so that no beat begins an epoch meanwhile
        let tiered = Tiered::builder().near(near).far(far).bound(Duration::from_secs(60)).build().await.unwrap();
        let cache = tiered.cache("names").codec(Raw).build().unwrap();
        Self { tiered, cache }
    }

    async fn load(&self, value: &'static str) -> (Tier, String) {
        let load = || async { Ok::<_, std::io::Error>(Loaded::value(value.to_owned())) };
        let answer = self.cache.load_with("k", load).await.unwrap();
        (answer.tier, answer.value.unwrap().to_string())
    }

    /// A load that has read `v` and waits to be told to go on.
    async fn dawdle(&self) -> (JoinHandle<Arc<String>>, Arc<Notify>) {
        let (reading, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (cache, read, went) = (self.cache.clone(), Arc::clone(&reading), Arc::clone(&go));
        let load = || async move {
            read.notify_one();
            went.notified().await;
            Ok::<_, std::io::Error>("v".to_owned())
        };
        let slow = tokio::spawn(async move { cache.get_or_load("k", load).await.unwrap() });
        reading.notified().await;
        (slow, go)
    }

    async fn tier(&self) -> Option<Tier> {
        self.cache.lookup("k").await.unwrap().map(|answer| answer.tier)
    }

    fn push(&self, key: Option<&str>) {
        self.tiered.engine().foreign(key);
    }

    fn revalidated(&self) -> u64 {
        self.tiered.metrics().get(Metric::Revalidated)
    }
}

#[tokio::test]
async fn a_push_for_what_is_still_there_costs_one_short_round_trip() {
    let far = Chaos::new(Memory::new());
    let node = Node::new(far.clone()).await;
    node.load("v").await;
    for pushes in 1..=3 {
        node.push(Some(FAR));
        node.push(Some(FAR));
        let reads = far.calls(Op::Read);
        for _ in 0..5 {
            assert_eq!(node.tier().await, Some(Tier::Near));
        }
        assert_eq!((far.calls(Op::Peek), far.calls(Op::Read)), (pushes, reads));
        assert_eq!(node.revalidated(), pushes);
    }
}

#[tokio::test]
async fn a_push_for_what_is_gone_or_replaced_ends_the_near_entry() {
    let far = Memory::new();
    let (node, other) = (Node::new(far.clone()).await, Node::new(far.clone()).await);
    node.load("v").await;
    far.delete(FAR).await.unwrap();
    assert_eq!(node.tier().await, Some(Tier::Near), "nobody told");
    node.push(Some(FAR));
    assert_eq!(node.tier().await, None);

    node.load("v").await;
    far.delete(FAR).await.unwrap();
    other.load("w").await;
    node.push(Some(FAR));
    assert_eq!(node.load("x").await, (Tier::Far, "w".to_owned()));
    assert_eq!(node.tier().await, Some(Tier::Near));

    far.delete(FAR).await.unwrap();
    node.push(None);
    assert_eq!(node.tier().await, None);
    // keys of others
    for key in ["strata:seq", "other:k:names:k", ""] {
        node.push(Some(key));
    }
}

#[tokio::test]
async fn a_push_during_a_load_keeps_its_value_but_not_its_word() {
    let far = Memory::new();
    let node = Arc::new(Node::new(far.clone()).await);
    let (slow, go) = node.dawdle().await;
    // the echo of the load's lease looks the same
    node.push(Some(FAR));
    go.notify_one();
    assert_eq!(slow.await.unwrap().as_str(), "v");
    assert_eq!((node.tier().await, node.revalidated()), (Some(Tier::Near), 1));
    assert_eq!((node.tier().await, node.revalidated()), (Some(Tier::Near), 1), "once confirmed it is near for good");
}

#[tokio::test]
async fn a_change_whose_push_comes_before_the_load_installs_is_seen() {
    let far = Memory::new();
    let node = Arc::new(Node::new(far.clone()).await);
    let loading = {
        let (node, pusher) = (Arc::clone(&node), Arc::clone(&node));
        tokio::spawn(async move {
            let load = || async move {
                pusher.push(Some(FAR));
                Ok::<_, std::io::Error>("v".to_owned())
            };
            node.cache.get_or_load("k", load).await
        })
    };
    loading.await.unwrap().unwrap();
    far.delete(FAR).await.unwrap();
    assert_eq!(node.tier().await, None);
}

#[tokio::test]
async fn nobody_joins_a_load_that_began_before_a_push_and_there_is_still_one_load() {
    let node = Arc::new(Node::new(Memory::new()).await);
    let (slow, go) = node.dawdle().await;
    node.push(Some(FAR));
    let late: Vec<_> = (0..20)
        .map(|_| {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.load("late").await })
        })
        .collect();
    // they wait for the lease, not for the flight
    let waiting = async {
        while node.tiered.metrics().get(Metric::LeaseWait) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("nobody waits for the lease");
    assert_eq!(node.tiered.metrics().get(Metric::Joined), 19);
    go.notify_one();
    assert_eq!(slow.await.unwrap().as_str(), "v");
    for task in late {
        assert_eq!(task.await.unwrap().1, "v");
    }
    assert_eq!(node.tiered.metrics().get(Metric::Load), 1);
}
