//! Tracking of reads: what is near is watched, whichever way it came, and nothing else is.

use cache_core::{BusEvent, Frame, Header, Lease, Line, Stamp, Tags};
use cache_strata::codec;
use redis::AsyncTypedCommands;

use super::*;

/// How many keys the server watches for anybody.
fn watched(server: &Server) -> usize {
    let info = server.cli(&["INFO", "stats"]).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("tracking_total_keys:")).unwrap();
    line.trim().parse().unwrap()
}

async fn plain(server: &Server) -> redis::aio::MultiplexedConnection {
    redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test]
async fn a_foreign_write_right_after_an_own_fill_is_heard() {
    let server = Server::spawn().unwrap();
    let (_, cache) = node(&server, Tracking::Reads).await;
    let mut other = plain(&server).await;
    for n in 0..300_u64 {
        // before the load, during it, between its fill and what is asked behind it, after it
        let foreign = async {
            for _ in 0..n % 40 {
                tokio::task::yield_now().await;
            }
            other.del(FAR).await.unwrap()
        };
        tokio::join!(fill(&cache, "v"), foreign);
        soon("near and far agree", async || tier(&cache).await.is_none() || other.exists(FAR).await.unwrap()).await;
        // nothing is on its way any more: what is near now is watched
        if tier(&cache).await.is_some() {
            other.del(FAR).await.unwrap();
        }
        soon("a foreign DEL", async || tier(&cache).await.is_none()).await;
    }
}

#[tokio::test]
async fn each_way_into_the_near_store_is_watched() {
    let server = Server::spawn().unwrap();
    let ((a, one), (b, two)) = (node(&server, Tracking::Reads).await, node(&server, Tracking::Reads).await);
    let mut other = plain(&server).await;
    let gone = async |what: &str, cache: &Cache<String>, key: &str| {
        soon(what, async || cache.lookup(key).await.unwrap().is_none()).await;
    };
    // a load of its own; a value that another process loaded; each of them twice, as a push is said once
    for _ in 0..2 {
        fill(&one, "v").await;
        fill(&two, "never").await;
        quiet(&a, &one).await;
        quiet(&b, &two).await;
        other.set(FAR, "foreign").await.unwrap();
        gone("a load", &one, "k").await;
        gone("a read", &two, "k").await;
        other.del(FAR).await.unwrap();
    }
    // a value that was set; then one that another process set over it
    one.set("k", "w".to_owned()).await.unwrap();
    quiet(&a, &one).await;
    quiet(&b, &two).await;
    two.set("k", "x".to_owned()).await.unwrap();
    quiet(&a, &one).await;
    quiet(&b, &two).await;
    other.del(FAR).await.unwrap();
    gone("a set of another process", &one, "k").await;
    gone("a set", &two, "k").await;
    // batches: loaded together, read together
    let names: Vec<String> = (0..40).map(|n| format!("b{n}")).collect();
    let all = |keys: Vec<String>| keys.into_iter().map(|key| (key, "v".to_owned())).collect::<Vec<_>>();
    one.get_many_or_load(&names, move |keys| async move { Ok::<_, std::io::Error>(all(keys)) }).await;
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(two.get_many(&keys).await.iter().all(|value| value.as_ref().is_ok_and(Option::is_some)));
    for name in &names {
        quiet_at(&a, &one, name).await;
        quiet_at(&b, &two, name).await;
    }
    for name in &names {
        other.del(format!("strata:k:names:{name}")).await.unwrap();
    }
    for name in &names {
        gone("a batch", &one, name).await;
        gone("a batch that was read", &two, name).await;
    }
}

#[tokio::test]
async fn a_large_value_is_watched_on_the_connection_that_it_came_over() {
    let server = Server::spawn().unwrap();
    let node = async || {
        let tiered = tiered(redis(&server.url(), Tracking::Reads).connect().await.unwrap()).await;
        let cache = tiered.cache::<Vec<u8>>("names").codec(codec::Postcard).build().unwrap();
        (tiered, cache)
    };
    let ((a, one), (_b, two)) = (node().await, node().await);
    let value = vec![7_u8; 300 * 1024];
    for round in 0..3 {
        for cache in [&one, &two] {
            let value = value.clone();
            cache.get_or_load("k", || async { Ok::<_, std::io::Error>(value) }).await.unwrap();
            // near for good
            let near = async || cache.lookup("k").await.unwrap().unwrap().tier == Tier::Near;
            soon("near", async || near().await && near().await).await;
        }
        if round == 1 {
            // the connections for large values are lost and come back
            assert!(kill_tracked(&server) >= 4);
            soon("back", async || one.get("k").await.is_ok() && two.get("k").await.is_ok()).await;
        }
        server.cli(&["SET", FAR, "foreign"]).unwrap();
        for cache in [&one, &two] {
            soon("a large value", async || cache.lookup("k").await.unwrap().is_none()).await;
        }
        server.cli(&["DEL", FAR]).unwrap();
    }
    assert_eq!(a.metrics().get(Metric::BusForeign), 0);
}

#[tokio::test]
async fn nothing_is_watched_for_who_does_not_track_reads() {
    let server = Server::spawn().unwrap();
    for tracking in [Tracking::Off, Tracking::Bcast] {
        let (_, cache) = node(&server, tracking).await;
        fill(&cache, "v").await;
        cache.lookup("k").await.unwrap();
        assert_eq!(watched(&server), 0);
    }
    let (_, cache) = node(&server, Tracking::Reads).await;
    cache.lookup("k").await.unwrap();
    assert!(watched(&server) > 0);
}

/// Without an engine, whose look at the stamp after a load would hide it.
#[tokio::test]
async fn what_a_fill_or_a_refresh_stored_is_watched_and_not_pushed_to_who_stored_it() {
    const SPAN: Duration = Duration::from_secs(60);
    let server = Server::spawn().unwrap();
    let store = redis(&server.url(), Tracking::Reads).connect().await.unwrap();
    let line = Line { seq: "shop:seq".into(), channel: "shop:ch".into(), tags: "shop:tags:".into() };
    let mut heard = store.bus().unwrap().subscribe(&[line]).await.unwrap();
    let (leases, key, token) = (store.leases().unwrap(), "shop:k:a", Stamp(7));
    let frame = |stamp| {
        let header = Header { stamp, ..Header::value() };
        let payload = "v".into();
        Frame { header, tags: Tags::default(), payload }.to_bytes(key)
    };
    let foreign = BusEvent::Foreign { key: Some(key.to_owned()) };
    let mut other = plain(&server).await;
    // it looks at the ttl first, and so hears of itself
    assert!(matches!(leases.lease(key, token, SPAN).await.unwrap(), Lease::Granted));
    assert_eq!(timeout(SOON, heard.next()).await.expect("the lease"), Some(foreign.clone()));
    let mut quiet = async |what| {
        let next = timeout(Duration::from_millis(50), heard.next()).await;
        assert!(next.is_err(), "{what}: {next:?}");
        other.expire(key, 60).await.unwrap();
        assert_eq!(timeout(SOON, heard.next()).await.expect(what), Some(foreign.clone()));
    };
    assert!(leases.fill(key, token, frame(Stamp(8)), SPAN, "shop:ch").await.unwrap());
    quiet("a fill").await;
    assert!(leases.refresh(key, Stamp(8), frame(Stamp(9)), SPAN).await.unwrap());
    quiet("a refresh").await;
    // a server that has lost its scripts is sent them once more
    server.cli(&["SCRIPT", "FLUSH"]).unwrap();
    assert!(leases.refresh(key, Stamp(9), frame(Stamp(10)), SPAN).await.unwrap());
    assert!(!leases.refresh(key, Stamp(9), frame(Stamp(11)), SPAN).await.unwrap());
    // the look behind the attempt that failed was watched, so what the next one wrote is pushed
    for what in ["the refresh", "what came after it"] {
        assert_eq!(timeout(SOON, heard.next()).await.expect(what), Some(foreign.clone()));
        other.expire(key, 60).await.unwrap();
    }
}
