//! One shard of a cluster hangs: what that costs, and whom.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cache_redis::testkit::Cluster;
use cache_strata::observe::Metric;
use cache_strata::{Cache, ErrorKind, Moka, Redis, Tier, Tiered};
use tokio::task::JoinSet;

/// Of a call to the far store: more than a busy machine stops for, twice.
const DEADLINE: Duration = Duration::from_secs(1);
/// So many requests of each reader tell whether they go on waiting.
const ENOUGH: usize = 600;
/// Trust outlasts the test, so that reads of the hung shard go on asking it.
const BOUND: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(60);
/// A process is back at a server soon after that answers again, its longest wait between attempts being a second; a busy
/// machine takes longer.
const BACK: Duration = Duration::from_secs(8);
const KEYS: u64 = 300;

/// A cluster with a primary that may be paused and is not replaced, a process without a near store, so that each read is
/// of the far store, and one that holds the hung shard's keys near.
struct Scene {
    cluster: Cluster,
    far: Tiered,
    bare: Cache<u64>,
    near: Cache<u64>,
    /// The keys of the shard that hangs, and of the others.
    hung: Vec<String>,
    well: Vec<String>,
}

/// Its index.
const HUNG: usize = 1;

/// What the readers of some keys saw while it hung.
#[derive(Debug, Default)]
struct Seen {
    tiers: [AtomicUsize; 3],
    slow: AtomicUsize,
}

impl Seen {
    fn note(&self, tier: Tier, took: Duration) {
        self.tiers[tier as usize].fetch_add(1, Ordering::SeqCst);
        if took > DEADLINE / 2 {
            self.slow.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn of(&self, tier: Tier) -> usize {
        self.tiers[tier as usize].load(Ordering::SeqCst)
    }

    fn all(&self) -> usize {
        self.tiers.iter().map(|tier| tier.load(Ordering::SeqCst)).sum()
    }

    fn slow(&self) -> usize {
        self.slow.load(Ordering::SeqCst)
    }
}

async fn over(cluster: &Cluster) -> Redis {
    let url = format!("{}?cluster=true&timeout={}ms", cluster.url(), DEADLINE.as_millis());
    let begun = Instant::now();
    loop {
        match Redis::connect(&url).await {
            Ok(redis) => return redis,
            // a busy machine may take longer than the deadline for a first connection
            Err(error) => assert!(error.is_transient() && begun.elapsed() < PATIENCE, "{error}"),
        }
    }
}

impl Scene {
    async fn spawn() -> Self {
        let cluster = tokio::task::spawn_blocking(|| Cluster::spawn().unwrap()).await.unwrap();
        for node in cluster.nodes() {
            node.cli(&["CONFIG", "SET", "cluster-node-timeout", "600000"]).unwrap();
        }
        let builder = || Tiered::builder().buckets(16).bound(BOUND);
        let far = builder().far(over(&cluster).await).build().await.unwrap();
        let near = builder().far(over(&cluster).await).near(Moka::new()).build().await.unwrap();
        let [bare, near] = [&far, &near].map(|tiered| tiered.cache::<u64>("numbers").build().unwrap());
        for n in 0..KEYS {
            let begun = Instant::now();
            while let Err(error) = bare.set(&n.to_string(), n).await {
                assert!(begun.elapsed() < PATIENCE, "{error}");
            }
        }
        let keys = |node: usize| {
            let names = cluster.nodes()[node].cli(&["KEYS", "*:k:numbers:*"]).unwrap();
            names.lines().filter_map(|name| name.rsplit(':').next().map(str::to_owned)).collect::<Vec<_>>()
        };
        let (hung, well) = (keys(HUNG), [keys(0), keys(2)].concat());
        assert!(hung.len() > 10 && well.len() > 10, "{} and {} keys", hung.len(), well.len());
        let scene = Self { cluster, far, bare, near, hung, well };
        for key in &scene.hung {
            scene.until("it is near", async || read(&scene.near, key).await == Tier::Near).await;
        }
        scene.until_back().await;
        scene
    }

    async fn until(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) -> Duration {
        let begun = Instant::now();
        while !condition().await {
            assert!(begun.elapsed() < PATIENCE, "never: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        begun.elapsed()
    }

    /// Waits until every key is read from the far store; how long that took.
    async fn until_back(&self) -> Duration {
        self.until("all is read from the far store", async || {
            let mut back = true;
            for key in self.hung.iter().chain(&self.well) {
                // what was loaded past the far store is loaded once more when that is back
                back &= read(&self.bare, key).await == Tier::Far;
            }
            back
        })
        .await
    }

    /// So many readers read in turn, and two others each what is near and the other shards, until all have read enough
    /// while the shard hung: what was seen of the hung shard, of the others, and near.
    async fn hang(&self, readers: usize) -> [Arc<Seen>; 3] {
        self.cluster.nodes()[HUNG].pause().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let groups = [(&self.bare, &self.hung, readers), (&self.bare, &self.well, 2), (&self.near, &self.hung, 2)];
        let seen = groups.map(|(cache, keys, readers)| {
            let seen = Arc::new(Seen::default());
            for reader in 0..readers {
                let (cache, mut keys) = (cache.clone(), keys.clone());
                let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
                let at = reader * keys.len() / readers;
                keys.rotate_left(at);
                tasks.spawn(async move {
                    for key in keys.iter().cycle() {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let asked = Instant::now();
                        let tier = read(&cache, key).await;
                        seen.note(tier, asked.elapsed());
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                });
            }
            (seen, readers)
        });
        self.until("enough was read", async || seen.iter().all(|(seen, readers)| seen.all() >= readers * ENOUGH)).await;
        stop.store(true, Ordering::SeqCst);
        tasks.join_all().await;
        seen.map(|(seen, _)| seen)
    }
}

/// Reads a key; the loader is there for what the far store does not say.
async fn read(cache: &Cache<u64>, key: &str) -> Tier {
    let n = key.parse::<u64>().unwrap();
    let load = move || std::future::ready(Ok::<_, Infallible>(n.into()));
    let answer = cache.load_with(key, load).await.unwrap();
    assert_eq!(answer.value.as_deref(), Some(&n));
    answer.tier
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_shard_costs_one_deadline_per_pause_and_the_others_nothing() {
    let scene = Scene::spawn().await;
    for readers in [1, 16] {
        let [hung, well, near] = scene.hang(readers).await;
        println!("{readers} readers: {hung:?}, others: {well:?}, near: {near:?}");
        // each reader waited once; and once more, should the machine have stopped
        assert!((1..=readers * 2).contains(&hung.slow()), "{readers} readers: {hung:?}");
        assert_eq!(hung.of(Tier::Far), 0, "it hung");
        for (what, seen, tier) in [("others", &well, Tier::Far), ("near", &near, Tier::Near)] {
            assert!(seen.slow() <= 2, "{what}: {seen:?}");
            assert!(seen.of(tier) * 100 >= seen.all() * 95, "{what}: {seen:?}");
        }
        scene.cluster.nodes()[HUNG].resume().unwrap();
        let back = scene.until_back().await;
        assert!(back < BACK, "back after {back:?}");
    }
    let skipped = scene.far.metrics().get(Metric::FarSkipped);
    assert!(skipped < ENOUGH as u64 / 10, "the far store as a whole was given a pause: {skipped} calls skipped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_waits_once_for_a_hung_shard_and_has_the_rest_each_time() {
    let scene = Scene::spawn().await;
    let keys: Vec<&str> = scene.hung.iter().chain(&scene.well).map(String::as_str).collect();
    scene.cluster.nodes()[HUNG].pause().unwrap();
    let mut slow = 0;
    for _ in 0..30 {
        let asked = Instant::now();
        let found = scene.bare.get_many(&keys).await;
        slow += usize::from(asked.elapsed() > DEADLINE / 2);
        let (hung, well) = found.split_at(scene.hung.len());
        for found in hung {
            let kind = found.as_ref().unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable), "{found:?}");
        }
        assert!(well.iter().all(|found| matches!(found, Ok(Some(_)))), "{well:?}");
    }
    // and once more, should the machine have stopped
    assert!((1..=2).contains(&slow), "{slow} of 30 batches waited");
    scene.cluster.nodes()[HUNG].resume().unwrap();
    let back = scene.until_back().await;
    assert!(back < BACK, "back after {back:?}");
}
