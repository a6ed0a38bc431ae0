//! Bad input and bad days of the far store: no panic, no stale value, at worst revalidation.
//!
//! Each test plays changes of a key between two processes while something goes wrong, and checks every read: the process
//! that changed it never reads the old value again, the other one not after the bound.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache_core::{ErrorKind, Frame, Header, NodeId, Tags};
use cache_redis::testkit::{Proxy, Sentinel, Server};
use cache_strata::observe::Metric;
use cache_strata::{Cache, CacheService, Moka, Redis, Tier, Tiered};
use futures_util::StreamExt;

/// D, far above what a busy machine delays and far below what a lost change would show.
const BOUND: Duration = Duration::from_secs(1);
const CHANNEL: &str = "strata:ch";
const SEQUENCE: &str = "strata:seq";
const KEY: &str = "strata:k:numbers:k";
const PATIENCE: Duration = Duration::from_secs(30);

/// Two processes over one far store, and the origin of the key `k`.
struct Scene {
    one: Node,
    two: Node,
    origin: Arc<AtomicU64>,
    /// How long the far store may refuse changes.
    patience: Duration,
}

struct Node {
    tiered: Tiered,
    cache: Cache<u64>,
}

impl Node {
    async fn over(far: impl CacheService) -> Self {
        let tiered = Tiered::builder().near(Moka::new()).far(far).bound(BOUND).outage(Duration::ZERO);
        let tiered = tiered.build().await.unwrap();
        let cache = tiered.cache("numbers").build().unwrap();
        Self { tiered, cache }
    }

    fn count(&self, metric: Metric) -> u64 {
        self.tiered.metrics().get(metric)
    }
}

impl Scene {
    async fn on(server: &Server) -> Self {
        Self::of(Node::over(connect(&server.url()).await).await, Node::over(connect(&server.url()).await).await)
    }

    fn of(one: Node, two: Node) -> Self {
        Self { one, two, origin: Arc::new(AtomicU64::new(1)), patience: PATIENCE }
    }

    async fn read(&self, node: &Node) -> (u64, Tier) {
        let origin = Arc::clone(&self.origin);
        let load = move || async move { Ok::<_, Infallible>(origin.load(Ordering::SeqCst).into()) };
        let answer = node.cache.load_with("k", load).await.unwrap();
        (*answer.value.unwrap(), answer.tier)
    }

    /// Both hold the present value near.
    async fn settle(&self) {
        for node in [&self.one, &self.two] {
            let begun = Instant::now();
            while self.read(node).await != (self.origin.load(Ordering::SeqCst), Tier::Near) {
                assert!(begun.elapsed() < PATIENCE, "the value never stays near");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    /// The origin changes; one process says so. Checks the reads of both from then on, until both have the new value.
    async fn change(&self) {
        let now = self.origin.fetch_add(1, Ordering::SeqCst) + 1;
        let begun = Instant::now();
        // a store that is on its way back refuses for a moment, and says so
        while let Err(error) = self.one.cache.invalidate("k").await {
            assert!(begun.elapsed() < self.patience, "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let acknowledged = Instant::now();
        assert_eq!(self.read(&self.one).await.0, now, "a process reads what it has itself replaced");
        loop {
            let asked = Instant::now();
            let (read, _) = self.read(&self.two).await;
            if read == now {
                return;
            }
            assert!(asked < acknowledged + BOUND, "{read} instead of {now} after the bound");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// As [`holds`](Self::holds); and what went wrong costs nothing that was kept: a key that nobody changed is served
    /// without a load.
    async fn spares(&self, mut wrong: impl AsyncFnMut(usize)) {
        let loads = || self.one.count(Metric::Load) + self.two.count(Metric::Load);
        self.holds(async |round| {
            let before = loads();
            wrong(round).await;
            // what is published last is heard last
            self.two.cache.set("last", 0).await.unwrap();
            self.one.cache.invalidate("last").await.unwrap();
            let begun = Instant::now();
            while self.two.cache.get("last").await.unwrap().is_some() {
                assert!(begun.elapsed() < PATIENCE, "the last message is not heard");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            for node in [&self.one, &self.two] {
                let (read, tier) = self.read(node).await;
                assert_eq!((read, tier), (self.origin.load(Ordering::SeqCst), Tier::Near), "it was thrown away");
            }
            assert_eq!(loads(), before, "it was loaded again");
        })
        .await;
    }

    /// Some changes, each after `wrong` happened while both held the value near.
    async fn holds(&self, mut wrong: impl AsyncFnMut(usize)) {
        for round in 0..6 {
            self.settle().await;
            wrong(round).await;
            self.change().await;
        }
    }
}

async fn connect(url: &str) -> Redis {
    Redis::connect(format!("{url}?timeout=5s&connect_timeout=5s&backoff_max=100ms&grace=50ms")).await.unwrap()
}

/// Publishes raw bytes where changes are published.
async fn publish(server: &Server, bytes: &[u8]) {
    let mut connection = raw(server).await;
    let _: i64 = redis::cmd("PUBLISH").arg(CHANNEL).arg(bytes).query_async(&mut connection).await.unwrap();
}

async fn raw(server: &Server) -> redis::aio::MultiplexedConnection {
    redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// The message of one change to another key.
async fn overheard(server: &Server, scene: &Scene) -> Vec<u8> {
    let client = redis::Client::open(server.url()).unwrap();
    let mut ear = client.get_async_pubsub().await.unwrap();
    ear.subscribe(CHANNEL).await.unwrap();
    scene.one.cache.invalidate("other").await.unwrap();
    let mut stream = ear.on_message();
    let message = tokio::time::timeout(PATIENCE, stream.next()).await.expect("a message").unwrap();
    message.get_payload_bytes().to_vec()
}

fn text(message: &[u8]) -> String {
    String::from_utf8(message.to_vec()).unwrap()
}

#[tokio::test]
async fn a_message_that_is_not_ours_changes_nothing() {
    let server = Server::spawn().unwrap();
    let scene = Scene::on(&server).await;
    let junk: [&[u8]; 6] = [b"", b"hello", b"\xff\x00\xfe", b"i", b"i 99999999999999999999 x 3:abc", &[b'i'; 1 << 20]];
    scene.spares(async |round| publish(&server, junk[round]).await).await;
}

#[tokio::test]
async fn a_message_that_is_cut_changes_nothing() {
    let server = Server::spawn().unwrap();
    let scene = Scene::on(&server).await;
    scene
        .spares(async |_| {
            let whole = overheard(&server, &scene).await;
            for len in 0..whole.len() {
                publish(&server, &whole[..len]).await;
            }
        })
        .await;
}

#[tokio::test]
async fn a_message_that_is_replayed_changes_nothing() {
    let server = Server::spawn().unwrap();
    let scene = Scene::on(&server).await;
    let mut heard = Vec::new();
    scene
        .spares(async |_| {
            heard.push(overheard(&server, &scene).await);
            for message in heard.iter().chain(&heard) {
                publish(&server, message).await;
            }
        })
        .await;
}

#[tokio::test]
async fn messages_that_are_reordered_lose_nothing() {
    let server = Server::spawn().unwrap();
    let proxy = Proxy::spawn(server.address()).await.unwrap();
    let scene =
        Scene::of(Node::over(connect(&server.url()).await).await, Node::over(connect(&proxy.url()).await).await);
    scene
        .spares(async |_| {
            // the second process hears nothing, then the same messages the other way round
            proxy.mute_pushes(true);
            let mut heard = Vec::new();
            for _ in 0..5 {
                heard.push(overheard(&server, &scene).await);
            }
            proxy.mute_pushes(false);
            for message in heard.iter().rev() {
                publish(&server, message).await;
            }
        })
        .await;
}

#[tokio::test]
async fn a_message_and_a_frame_from_a_newer_version_are_left_alone() {
    let server = Server::spawn().unwrap();
    let scene = Scene::on(&server).await;
    scene
        .holds(async |round| {
            let known = text(&overheard(&server, &scene).await);
            let newer = match round % 3 {
                0 => known.replacen('i', "i2", 1),
                1 => format!("x{}", &known[1..]),
                _ => format!("{known} with=more"),
            };
            publish(&server, newer.as_bytes()).await;
            let mut frame = Frame { header: Header::value(), tags: Tags::default(), payload: vec![1; 9].into() }
                .to_bytes(KEY)
                .to_vec();
            frame[1] = 2;
            let mut connection = raw(&server).await;
            let _: () =
                redis::cmd("SET").arg(KEY).arg(frame).arg("PX").arg(60_000).query_async(&mut connection).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn a_message_of_another_namespace_touches_no_key_of_ours() {
    let server = Server::spawn().unwrap();
    let scene = Scene::on(&server).await;
    scene
        .spares(async |round| {
            let n = text(&overheard(&server, &scene).await).split(' ').nth(1).unwrap().parse::<u64>().unwrap();
            // a number of the past, none, and one that is far ahead, as another namespace counts
            let n = [n - 1, 0, n + 1_000_000_000][round % 3];
            let key = "others:k:numbers:k";
            publish(&server, format!("i {n} {} {}:{key}", NodeId(7), key.len()).as_bytes()).await;
        })
        .await;
}

#[tokio::test]
async fn a_sequence_that_goes_backwards_is_noticed_and_serves_nothing_old() {
    let server = Server::spawn().unwrap();
    let scene = Scene::on(&server).await;
    scene
        .holds(async |_| {
            let epochs = scene.two.count(Metric::EpochBump);
            server.cli(&["DECRBY", SEQUENCE, "1000"]).unwrap();
            let begun = Instant::now();
            while scene.two.count(Metric::EpochBump) == epochs {
                assert!(begun.elapsed() < PATIENCE, "nobody noticed");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    // and at once, before any beat could tell
    scene
        .holds(async |_| {
            server.cli(&["DECRBY", SEQUENCE, "3"]).unwrap();
        })
        .await;
}

#[tokio::test]
async fn a_server_restarted_empty_serves_nothing_old() {
    let mut server = Server::spawn().unwrap();
    let scene = Scene::on(&server).await;
    scene.holds(async |_| server.restart().unwrap()).await;
}

/// What is near when the primary dies was changed before another one answers.
#[tokio::test]
async fn a_failover_leaves_nothing_stale_that_was_changed_during_it() {
    let mut set = tokio::task::spawn_blocking(|| Sentinel::spawn().unwrap()).await.unwrap();
    let sentinels = set.sentinels().iter().map(Server::address).collect::<Vec<_>>().join(",");
    let url = format!("redis+sentinel://{sentinels}/{}", Sentinel::NAME);
    let mut scene = Scene::of(Node::over(connect(&url).await).await, Node::over(connect(&url).await).await);
    // sentinels on a busy machine wait before they vote, and once more before they vote again
    let patience = Duration::from_secs(120);
    scene.patience = patience;
    scene.settle().await;
    let before = set.primary().unwrap();
    let epochs = scene.two.count(Metric::EpochBump);
    set.servers_mut()[before].kill();
    scene.change().await;
    assert_ne!(set.primary().unwrap(), before, "it was acknowledged by another server");
    let acknowledged = Instant::now();
    while scene.two.count(Metric::EpochBump) == epochs {
        assert!(acknowledged.elapsed() < patience, "who was cut off never began a new epoch");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // and by a primary that lives on as a replica
    scene.settle().await;
    let asked = Instant::now();
    let set = tokio::task::spawn_blocking(move || {
        // refused until the other replica follows the new primary
        while let Err(error) = set.failover() {
            assert!(asked.elapsed() < patience, "{error}");
            std::thread::sleep(Duration::from_millis(100));
        }
        set
    });
    let set = set.await.unwrap();
    scene.change().await;
    drop(set);
}

#[tokio::test]
async fn counters_evicted_under_allkeys_lru_cost_a_revalidation() {
    let server = Server::spawn().unwrap();
    let scene = Scene::on(&server).await;
    scene
        .holds(async |round| {
            server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
            server.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
            let begun = Instant::now();
            while server.cli(&["EXISTS", SEQUENCE]).unwrap() != "0" {
                // a write makes room first
                let _ = server.cli(&["SET", "filler", "x", "PX", "1000"]);
                assert!(begun.elapsed() < PATIENCE, "the sequence was never evicted");
            }
            // changes go on in a full server, and in one that has room again
            if round % 2 == 0 {
                server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
            } else {
                scene.change().await;
                server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
            }
        })
        .await;
}

#[tokio::test]
async fn a_version_that_full_memory_refuses_is_an_error_and_not_an_older_one() {
    let server = Server::spawn().unwrap();
    let node = Node::over(connect(&server.url()).await).await;
    assert!(node.cache.set_versioned("k", 2, 2).await.unwrap());
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert!(!node.cache.set_versioned("k", 1, 1).await.unwrap(), "the newer one is there");
    let error = node.cache.set_versioned("k", 3, 3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert_eq!(node.cache.get("k").await.unwrap(), None, "the old value is gone");
}
