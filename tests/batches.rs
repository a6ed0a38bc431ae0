//! Batches over real servers: each key loaded once whoever asks, an error for nobody else, in few round trips.

use std::future::ready;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache_redis::testkit::{Cluster, Server};
use cache_strata::observe::Metric;
use cache_strata::{Cache, ErrorKind, Moka, Policy, Redis, Tiered};
use tokio::task::JoinSet;
use tokio::time::timeout;

async fn node(url: &str, buckets: usize) -> (Tiered, Cache<String>) {
    let far = Redis::connect(url).await.unwrap();
    let tiers = Tiered::builder().near(Moka::new()).far(far).buckets(buckets).bound(Duration::from_secs(15));
    let tiered = tiers.build().await.unwrap();
    let cache = tiered.cache("names").build().unwrap();
    (tiered, cache)
}

fn keys(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|n| format!("k{n:03}")).collect()
}

/// What loaders were asked for.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    async fn load(self, keys: Vec<String>) -> io::Result<Vec<(String, String)>> {
        self.0.lock().unwrap().extend(keys.iter().cloned());
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(keys.into_iter().filter(|key| key != "k007").map(|key| (key.clone(), key)).collect())
    }

    fn sorted(&self) -> Vec<String> {
        let mut asked = self.0.lock().unwrap().clone();
        asked.sort();
        asked
    }
}

/// Overlapping batches of four processes: each key is loaded once, and what is omitted is nothing for everybody.
async fn overlapping(url: &str, buckets: usize) {
    let asked = Asked::default();
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(node(url, buckets).await);
    }
    let mut tasks = JoinSet::new();
    for (_, cache) in &nodes {
        for from in 0..5 {
            let (cache, asked) = (cache.clone(), asked.clone());
            tasks.spawn(async move {
                let keys = keys(from * 10, from * 10 + 30);
                let found = cache.get_many_or_load(&keys, move |keys| asked.clone().load(keys)).await;
                for (key, found) in keys.iter().zip(found) {
                    let expected = (key != "k007").then_some(key.as_str());
                    assert_eq!(found.unwrap().as_deref().map(String::as_str), expected);
                }
            });
        }
    }
    let all = async {
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    };
    timeout(Duration::from_secs(60), all).await.expect("nobody waits for ever");
    assert_eq!(asked.sorted(), keys(0, 70), "each key once");
    for (tiered, cache) in &nodes {
        assert_eq!(tiered.in_flight(), 0);
        let names = keys(0, 70);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let found = cache.get_many(&names).await;
        assert_eq!(found.iter().filter(|found| found.as_ref().unwrap().is_some()).count(), 69);
    }
    assert_eq!(asked.sorted().len(), 70);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_batches_of_processes_load_each_key_once() {
    let server = Server::spawn().unwrap();
    overlapping(&server.patient_url(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_batches_over_a_cluster_load_each_key_once() {
    let cluster = Cluster::spawn().unwrap();
    overlapping(&cluster.patient_url(), 16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_holds_something_else_hides_no_other() {
    let server = Server::spawn().unwrap();
    let (tiered, cache) = node(&server.patient_url(), 1).await;
    // a list, where a frame would be
    server.cli(&["RPUSH", "strata:k:names:k001", "foreign"]).unwrap();
    let loader = |keys: Vec<String>| ready(Ok::<_, io::Error>(keys.into_iter().map(|key| (key.clone(), key))));
    let keys = keys(0, 3);
    let found = cache.get_many_or_load(&keys, loader).await;
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found.unwrap().as_deref(), Some(key), "the origin knows");
    }
    assert_eq!(server.cli(&["TYPE", "strata:k:names:k001"]).unwrap().trim(), "list", "what is not ours is left alone");
    assert_eq!(tiered.in_flight(), 0);
}

/// Another kind of value under our key, by somebody else's hand: every read finds nothing, and single ones count it.
async fn foreign_kinds_are_a_miss(tiered: Tiered, cache: Cache<String>, server: &Server) {
    server.cli(&["RPUSH", "strata:k:names:list", "foreign"]).unwrap();
    server.cli(&["HSET", "strata:k:names:hash", "field", "foreign"]).unwrap();
    cache.set("good", "v".into()).await.unwrap();
    let malformed = || tiered.metrics().get(Metric::Malformed);
    for (n, key) in ["list", "hash"].into_iter().enumerate() {
        assert_eq!(cache.get(key).await.unwrap(), None, "get, {key}");
        assert_eq!(malformed(), n as u64 + 1, "a count");
    }
    let found = cache.get_many(&["list", "good", "hash", "none"]).await;
    let found: Vec<_> = found.into_iter().map(|found| found.unwrap().as_deref().cloned()).collect();
    assert_eq!(found, [None, Some("v".to_owned()), None, None], "get_many");
    assert!(cache.peek("list").await.unwrap().is_none(), "peek");
    // enough at once that they share requests
    let mut reads = JoinSet::new();
    for _ in 0..40 {
        let cache = cache.clone();
        reads.spawn(async move { cache.get("list").await.map(|found| found.is_none()) });
    }
    assert!(reads.join_all().await.into_iter().all(|read| matches!(read, Ok(true))), "reads that share a request");
    let load = || ready(Ok::<_, io::Error>("loaded".to_owned()));
    assert_eq!(*cache.get_or_load("list", load).await.unwrap(), "loaded");
    let counted = malformed();
    let keys = ["hash".to_owned()];
    let loads = |keys: Vec<String>| ready(Ok::<_, io::Error>(keys.into_iter().map(|key| (key, "loaded".to_owned()))));
    assert_eq!(cache.get_many_or_load(&keys, loads).await[0].as_ref().unwrap().as_deref().unwrap(), "loaded");
    assert!(malformed() > counted, "a batch that loads counts it as well");
    for (key, kind) in [("list", "list"), ("hash", "hash")] {
        let held = server.cli(&["TYPE", &format!("strata:k:names:{key}")]).unwrap();
        assert_eq!(held.trim(), kind, "what is not ours is left alone by reads");
    }
    cache.set("list", "ours".into()).await.unwrap();
    assert_eq!(cache.get("list").await.unwrap().as_deref().unwrap(), "ours", "a write takes the key");
    assert_eq!(tiered.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_kind_of_value_is_a_miss_for_one_key_as_for_many() {
    let server = Server::spawn().unwrap();
    let (tiered, cache) = node(&server.patient_url(), 1).await;
    foreign_kinds_are_a_miss(tiered, cache, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_kind_of_value_is_a_miss_without_a_near_store_too() {
    let server = Server::spawn().unwrap();
    let far = Redis::connect(server.patient_url()).await.unwrap();
    let tiered = Tiered::builder().far(far).build().await.unwrap();
    let cache = tiered.cache("names").build().unwrap();
    foreign_kinds_are_a_miss(tiered, cache, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_calls_of_many_tasks_are_gathered() {
    let server = Server::spawn().unwrap();
    let (tiered, cache) = node(&server.patient_url(), 1).await;
    let asked = Asked::default();
    let names = {
        let asked = asked.clone();
        cache.batched(move |keys: Vec<String>| asked.clone().load(keys)).window(Duration::from_millis(50))
    };
    let mut tasks = JoinSet::new();
    for key in keys(0, 200) {
        let names = names.clone();
        tasks.spawn(async move { names.find_or_load(&key).await.unwrap() });
    }
    let mut found = 0;
    while let Some(done) = tasks.join_next().await {
        found += u32::from(done.unwrap().is_some());
    }
    assert_eq!(found, 199);
    assert_eq!(asked.sorted(), keys(0, 200));
    let calls = tiered.metrics().get(Metric::Load);
    assert!(calls <= 50, "{calls} calls of the loader for 200 keys");
    assert_eq!(names.get_or_load(&"k007".to_owned()).await.unwrap_err().kind(), ErrorKind::Loader);
}

/// More keys in one call than a server could be sent at once.
const HUGE: u32 = 100_000;

/// Options as the first user of a large batch has them.
async fn plain(url: &str, buckets: usize) -> (Tiered, Cache<String>) {
    let far = Redis::connect(url).await.unwrap();
    let tiered = Tiered::builder().near(Moka::new()).far(far).buckets(buckets).build().await.unwrap();
    // a busy machine may take longer than 30 s to load so many
    let policy = Policy::minutes(5).hard_timeout(Duration::from_secs(300));
    let cache = tiered.cache("names").policy(policy).build().unwrap();
    (tiered, cache)
}

async fn huge(url: &str, buckets: usize) {
    let (one, here) = plain(url, buckets).await;
    let (two, there) = plain(url, buckets).await;
    let names: Vec<String> = (0..HUGE).map(|n| format!("k{n:06}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let load = |keys: Vec<String>| ready(Ok::<_, io::Error>(keys.into_iter().map(|key| (key.clone(), key))));
    let all = |what: &str, found: Vec<cache_strata::Result<Option<Arc<String>>>>| {
        for (key, found) in names.iter().zip(found) {
            assert_eq!(found.unwrap_or_else(|error| panic!("{what}: {error}")).as_deref(), Some(key), "{what}");
        }
    };
    all("loaded", here.get_many_or_load(&names, load).await);
    // on a machine that is slow enough a lease may run out before its turn to be filled
    let filled = one.metrics().get(Metric::Filled);
    assert!(filled > u64::from(HUGE) * 9 / 10, "only {filled} are there for everybody");
    let found = there.get_many(&keys).await;
    let found = found.into_iter().filter(|found| found.as_ref().unwrap().is_some()).count();
    assert_eq!(found as u64, filled);
    here.expire_many(&keys).await.unwrap();
    here.invalidate_many(&keys).await.unwrap();
    let found = here.get_many(&keys).await;
    assert!(found.iter().all(|found| matches!(found, Ok(None))), "nothing is left");
    for tiered in [one, two] {
        let failed = [Metric::FarSkipped, Metric::InvalidationPending];
        assert_eq!(failed.map(|metric| tiered.metrics().get(metric)), [0; 2], "{failed:?}");
        assert_eq!((tiered.in_flight(), tiered.pending_invalidations()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_100_000_keys_does_not_trip_the_far_store() {
    let server = Server::spawn().unwrap();
    // so that a machine full of other tests is not told from a flood; one that is sent all at once is late all the same
    huge(&format!("{}?timeout=2s", server.url()), 1).await;
}
