//! What a cache leaves in a server: nothing that stays for ever.

use std::io;
use std::time::Duration;

use cache_redis::testkit::Server;
use cache_strata::{Cache, Loaded, Moka, Policy, Redis, Tiered, Update};

/// hitbox writes a value and its ttl in two steps: cut off in between, the value stays for ever.
#[tokio::test]
async fn no_key_is_left_without_a_ttl() {
    let server = Server::spawn().unwrap();
    let (far, mut seen) = (Redis::connect(server.patient_url()).await.unwrap(), 0);
    let tiered = Tiered::builder().near(Moka::new()).far(far).build().await.unwrap();
    let policy = Policy::minutes(5).fail_safe(Duration::from_secs(3600)).refresh_ahead(0.5);
    let cache: Cache<String> = tiered.cache("names").policy(policy).build().unwrap();
    cache.set("set", "v".into()).await.unwrap();
    cache.set_versioned("versioned", "v".into(), 1).await.unwrap();
    cache.get_or_load("loaded", || async { Ok::<_, io::Error>("v".to_owned()) }).await.unwrap();
    cache.find_or_load("nothing", || async { Ok::<_, io::Error>(None) }).await.unwrap();
    cache.get_or_load("failed", || async { Err::<String, _>(io::Error::other("down")) }).await.unwrap_err();
    cache.load_with("tagged", || async { Ok::<_, io::Error>(Loaded::value("v".to_owned()).tag("t")) }).await.unwrap();
    let many =
        |keys: Vec<&'static str>| async { Ok::<_, io::Error>(keys.into_iter().map(|key| (key, key.to_owned()))) };
    for result in cache.get_many_or_load(&["many", "more"], many).await {
        result.unwrap();
    }
    cache.update("updated", |_| Update::from("v".to_owned())).await.unwrap();
    cache.expire("loaded").await.unwrap();
    let hanging = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("leased", std::future::pending::<io::Result<String>>).await }
    });
    drop(cache.write_guard(&["guarded"], Duration::from_secs(30)).await.unwrap());
    tiered.invalidate_tag("t").await.unwrap();
    tiered.clear().await.unwrap();
    while tiered.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    for key in server.cli(&["KEYS", "*"]).unwrap().lines() {
        seen += 1;
        let left: i64 = server.cli(&["PTTL", key]).unwrap().parse().unwrap();
        assert!(left > 0 || left == -2, "{key} is kept for {left} ms");
    }
    assert!(seen > 8, "only {seen} keys");
    hanging.abort();
}
