//! Two processes' worth of engines over one real memcached: what polling promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cache_core::testkit::within;
use cache_memcached::testkit::Server;
use cache_strata::{Cache, ErrorKind, Memcached, Moka, Tier, Tiered, connect};
use tokio::time::{Instant, sleep};

const BOUND: Duration = Duration::from_secs(1);

fn server() -> Server {
    Server::spawn().expect("this test needs a memcached")
}

async fn node(server: &Server) -> (Tiered, Cache<String>) {
    let url = format!("tiered:{}?bound=1s&timeout=5s", server.url());
    let tiered = connect(&url).await.unwrap();
    let cache = tiered.cache("names").build().unwrap();
    (tiered, cache)
}

fn ok(value: &str) -> impl Future<Output = Result<String, std::io::Error>> + Send + use<> {
    std::future::ready(Ok(value.to_owned()))
}

/// Reads until `key` is a miss; fails if that takes longer than the bound from `acknowledged`.
async fn gone_in_time(cache: &Cache<String>, key: &str, acknowledged: Instant) {
    within("the value goes", async {
        loop {
            let asked = Instant::now();
            if cache.get(key).await.unwrap().is_none() {
                return;
            }
            assert!(asked < acknowledged + BOUND, "served for longer than the bound");
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_elsewhere_is_seen_within_the_bound() {
    let server = server();
    let ((_a, one), (_b, two)) = (node(&server).await, node(&server).await);
    for round in 0..5 {
        let old = format!("old {round}");
        let loaded = old.clone();
        assert_eq!(*one.get_or_load("k", move || ok(&loaded)).await.unwrap(), old);
        assert_eq!(*two.get_or_load("k", || ok("not loaded")).await.unwrap(), old, "from the far store");
        assert_eq!(two.lookup("k").await.unwrap().map(|answer| answer.tier), Some(Tier::Near));
        one.invalidate("k").await.unwrap();
        let acknowledged = Instant::now();
        assert!(one.get("k").await.unwrap().is_none(), "its own process at once");
        gone_in_time(&two, "k", acknowledged).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clear_elsewhere_is_seen_within_the_bound() {
    let server = server();
    let ((a, one), (_b, two)) = (node(&server).await, node(&server).await);
    for key in ["x", "y"] {
        one.get_or_load(key, || ok("old")).await.unwrap();
        two.get_or_load(key, || ok("not loaded")).await.unwrap();
    }
    a.clear().await.unwrap();
    let acknowledged = Instant::now();
    gone_in_time(&two, "x", acknowledged).await;
    gone_in_time(&two, "y", acknowledged).await;
    assert_eq!(*two.get_or_load("x", || ok("new")).await.unwrap(), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_ask_in_two_processes_load_once() {
    let server = server();
    let nodes = [node(&server).await, node(&server).await];
    let loads = Arc::new(AtomicU32::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..200 {
        let (cache, loads) = (nodes[i % 2].1.clone(), Arc::clone(&loads));
        tasks.spawn(async move {
            let load = || async move {
                loads.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(100)).await;
                Ok::<_, std::io::Error>("value".to_owned())
            };
            assert_eq!(*cache.get_or_load("hot", load).await.unwrap(), "value");
        });
    }
    tasks.join_all().await;
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_cache_that_waits_for_messages_is_refused() {
    let server = server();
    let far = Memcached::connect(server.patient_url()).await.unwrap();
    let error = Tiered::builder().near(Moka::new()).far(far).build().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains(".polling()"), "{error}");
}
