//! Writes by programs that publish nothing, heard by client tracking over a real server.

mod cluster;
mod reads;
mod writer;

use std::time::Duration;

use cache_redis::testkit::{Proxy, Server};
use cache_strata::observe::Metric;
use cache_strata::{Cache, CacheService, ErrorKind, Moka, Redis, RedisBuilder, Tier, Tiered, Tracking};
use tokio::time::{Instant, sleep, timeout};

/// The ways in which writes by other programs are heard.
const EACH: [Tracking; 2] = [Tracking::Bcast, Tracking::Reads];
/// The key `k` in the far store.
const FAR: &str = "strata:k:names:k";
/// Within which a foreign write is to show. No beat does it: the bound is far longer.
const SOON: Duration = Duration::from_secs(4);

fn redis(url: &str, tracking: Tracking) -> RedisBuilder {
    Redis::builder()
        .url(url)
        .tracking(tracking)
        .timeout(Duration::from_secs(2))
        .connect_timeout(Duration::from_secs(5))
        .backoff(Duration::from_millis(5), Duration::from_millis(50))
}

async fn tiered(far: impl CacheService) -> Tiered {
    Tiered::builder().near(Moka::new()).far(far).bound(Duration::from_secs(120)).build().await.unwrap()
}

async fn node(server: &Server, tracking: Tracking) -> (Tiered, Cache<String>) {
    let tiered = tiered(redis(&server.url(), tracking).connect().await.unwrap()).await;
    let cache = tiered.cache("names").build().unwrap();
    (tiered, cache)
}

async fn fill(cache: &Cache<String>, value: &str) {
    let value = value.to_owned();
    cache.get_or_load("k", || async { Ok::<_, std::io::Error>(value) }).await.unwrap();
}

async fn tier(cache: &Cache<String>) -> Option<Tier> {
    cache.lookup("k").await.unwrap().map(|answer| answer.tier)
}

/// Waits until `key` is near and neither echoes nor pushes are on their way: many hits in a row cost nothing.
async fn quiet(tiered: &Tiered, cache: &Cache<String>) {
    quiet_at(tiered, cache, "k").await;
}

/// As `quiet`, for `key`.
async fn quiet_at(tiered: &Tiered, cache: &Cache<String>, key: &str) {
    let waiting = async {
        loop {
            let before = tiered.metrics().get(Metric::Revalidated);
            let mut hits = 0;
            for _ in 0..10 {
                let answer = cache.lookup(key).await.unwrap();
                hits += u32::from(answer.is_some_and(|answer| answer.tier == Tier::Near));
                sleep(Duration::from_millis(5)).await;
            }
            if hits == 10 && tiered.metrics().get(Metric::Revalidated) == before {
                return;
            }
        }
    };
    timeout(Duration::from_secs(20), waiting).await.expect("never quiet");
}

/// Ends every connection that is tracked; how many there were.
fn kill_tracked(server: &Server) -> usize {
    let clients = server.cli(&["CLIENT", "LIST"]).unwrap();
    let flags = |line: &str| line.contains(" flags=tB ") || line.contains(" flags=t ");
    let tracked = clients.lines().filter(|line| flags(line));
    let ids = tracked.filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("id=")));
    ids.map(|id| server.cli(&["CLIENT", "KILL", "ID", id]).unwrap()).filter(|killed| killed == "1").count()
}

async fn soon(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn what_other_programs_do_to_a_key_ends_its_near_entry() {
    for tracking in EACH {
        let server = Server::spawn().unwrap();
        let (tiered, cache) = node(&server, tracking).await;
        let script = "return redis.call('DEL', KEYS[1])";
        let writes: [(&str, &[&str]); 6] = [
            ("SET", &["SET", FAR, "foreign", "PX", "60000"]),
            ("DEL", &["DEL", FAR]),
            ("expiry", &["PEXPIRE", FAR, "50"]),
            ("a script", &["EVAL", script, "1", FAR]),
            ("RENAME", &["RENAME", FAR, "elsewhere"]),
            ("FLUSHALL", &["FLUSHALL"]),
        ];
        for (what, write) in writes {
            fill(&cache, "v").await;
            quiet(&tiered, &cache).await;
            server.cli(write).unwrap();
            soon(what, async || tier(&cache).await.is_none()).await;
            server.cli(&["DEL", FAR]).unwrap();
        }
        assert_eq!(tiered.metrics().get(Metric::BusForeign), 0);
    }
}

/// redcache and rueidis: the reply comes before the push, and memory still has the old value in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_never_reads_what_it_has_itself_just_deleted_or_replaced() {
    for tracking in EACH {
        let server = Server::spawn().unwrap();
        let proxy = Proxy::spawn(server.address()).await.unwrap();
        let tiered = tiered(redis(&proxy.url(), tracking).connect().await.unwrap()).await;
        let cache = tiered.cache("names").build().unwrap();
        fill(&cache, "old").await;
        quiet(&tiered, &cache).await;
        // what comes over a connection of its own never comes; a push on that of the reply can't be held back by itself
        proxy.mute_pushes(true);
        for n in 0..300_u32 {
            fill(&cache, "old").await;
            soon("near", async || tier(&cache).await == Some(Tier::Near)).await;
            // a read before, during or after it, which may bring the old value back
            let read = async {
                for _ in 0..n % 10 {
                    tokio::task::yield_now().await;
                }
                cache.get("k").await.unwrap()
            };
            if n % 2 == 0 {
                let (_, deleted) = tokio::join!(read, cache.invalidate("k"));
                deleted.unwrap();
                assert_eq!(cache.get("k").await.unwrap(), None, "{tracking:?}, round {n}");
            } else {
                let (_, replaced) = tokio::join!(read, cache.set("k", "new".to_owned()));
                replaced.unwrap();
                let found = cache.get("k").await.unwrap();
                assert_eq!(found.as_deref().map(String::as_str), Some("new"), "{tracking:?}, round {n}");
                cache.invalidate("k").await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn without_tracking_they_are_not_seen() {
    let server = Server::spawn().unwrap();
    let tiered = tiered(redis(&server.url(), Tracking::Off).connect().await.unwrap()).await;
    let cache = tiered.cache("names").build().unwrap();
    fill(&cache, "v").await;
    quiet(&tiered, &cache).await;
    server.cli(&["DEL", FAR]).unwrap();
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        assert_eq!(tier(&cache).await, Some(Tier::Near));
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn fills_of_our_own_and_of_other_processes_leave_the_near_store_full() {
    for tracking in EACH {
        const KEYS: u64 = 50;
        let server = Server::spawn().unwrap();
        let ((a, one), (b, two)) = (node(&server, tracking).await, node(&server, tracking).await);
        for n in 0..KEYS {
            let key = n.to_string();
            let load = || async { Ok::<_, std::io::Error>("v".to_owned()) };
            one.get_or_load(&*key, load).await.unwrap();
            two.get_or_load(&*key, load).await.unwrap();
            // another process's write of a key beside it
            two.get_or_load(&*format!("b{key}"), load).await.unwrap();
        }
        // echoes may cost each entry a look at its stamp, none its place
        for (tiered, cache) in [(&a, &one), (&b, &two)] {
            let near = tiered.metrics().get(Metric::NearHit);
            for _ in 0..10 {
                for n in 0..KEYS {
                    assert_eq!(cache.lookup(&*n.to_string()).await.unwrap().unwrap().tier, Tier::Near);
                }
                sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(tiered.metrics().get(Metric::NearHit) - near, 10 * KEYS);
            let revalidated = tiered.metrics().get(Metric::Revalidated);
            assert!(revalidated <= 3 * KEYS, "{revalidated} looks at stamps for {KEYS} keys");
            for _ in 0..10 {
                for n in 0..KEYS {
                    cache.lookup(&*n.to_string()).await.unwrap();
                }
            }
            assert_eq!(tiered.metrics().get(Metric::Revalidated), revalidated, "then hits are free");
        }
        assert_eq!(a.metrics().get(Metric::Load) + b.metrics().get(Metric::Load), 2 * KEYS);
    }
}

#[tokio::test]
async fn a_value_set_again_and_again_is_never_lost_to_its_echoes() {
    for tracking in EACH {
        let server = Server::spawn().unwrap();
        let (_, one) = node(&server, tracking).await;
        let (_, two) = node(&server, tracking).await;
        for n in 0..200 {
            let writer = if n % 2 == 0 { &one } else { &two };
            writer.set("k", n.to_string()).await.unwrap();
            assert_eq!(writer.get("k").await.unwrap().as_deref(), Some(&n.to_string()));
        }
        let last = "199".to_owned();
        soon("the last value", async || {
            one.get("k").await.unwrap().as_deref() == Some(&last)
                && two.get("k").await.unwrap().as_deref() == Some(&last)
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_written_while_tracking_is_down_is_found_when_it_is_back() {
    for tracking in EACH {
        let server = Server::spawn().unwrap();
        // slow to come back, so that the write falls into the gap
        let far = redis(&server.url(), tracking).backoff(Duration::from_millis(400), Duration::from_secs(60));
        let tiered = tiered(far.connect().await.unwrap()).await;
        let cache = tiered.cache("names").build().unwrap();
        fill(&cache, "v").await;
        quiet(&tiered, &cache).await;
        let epochs = tiered.metrics().get(Metric::EpochBump);
        assert_eq!(kill_tracked(&server), 1);
        server.cli(&["DEL", FAR]).unwrap();
        soon("revalidated", async || tier(&cache).await.is_none()).await;
        assert!(tiered.metrics().get(Metric::EpochBump) > epochs);
    }
}

#[tokio::test]
async fn what_can_not_track_is_refused_at_connect() {
    for tracking in EACH {
        let server = Server::spawn().unwrap();
        let url = server.url();
        let error = redis(&url, tracking).resp2().connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        // a server without HELLO
        let old = Server::builder().args(&["--rename-command", "HELLO", ""]).spawn().unwrap();
        let error = redis(&old.url(), tracking).connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.message().contains("resp3"), "{error}");
        // a server that does not say what it is, or denies it
        let denied = if tracking == Tracking::Bcast { "info" } else { "client|tracking" };
        let users = format!("user default off\nuser admin on >a ~* &* +@all\nuser app on >b ~* &* +@all -{denied}\n");
        let shy = Server::builder().acl(&users, "admin", "a").spawn().unwrap();
        let error = redis(&shy.url(), tracking).username("app").password("b").connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.message().contains(denied), "{error}");
        // with polling nothing is subscribed to
        let far = redis(&url, tracking).connect().await.unwrap();
        let error = Tiered::builder().near(Moka::new()).far(far).polling().build().await.unwrap_err();
        assert!(error.message().contains("tracks keys"), "{error}");
    }
}
