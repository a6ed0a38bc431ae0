//! Health of real servers.

use std::time::Duration;

use cache_core::testkit::within;

use super::{Health, Make, Severity};
use crate::Redis;
use crate::testkit::Server;

fn shows(health: &Health, part: &str) -> bool {
    health.problems.iter().any(|problem| problem.text.contains(part))
}

#[tokio::test]
async fn a_well_set_server_is_well_and_tells_its_facts() {
    let server = Server::builder().args(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lfu"]).spawn().unwrap();
    let redis = Redis::connect(format!("{}?timeout=5s&connect_timeout=5s", server.url())).await.unwrap();
    assert!(redis.ping().await.unwrap() < Duration::from_secs(5));
    let facts = redis.facts().await.unwrap();
    let make = server.make().unwrap();
    assert_eq!(facts.len(), 1);
    assert_eq!(facts[0].make.to_string().to_lowercase(), make.name);
    assert_eq!((facts[0].version.as_str(), facts[0].server.as_str()), (make.version.as_str(), &*server.address()));
    if facts[0].make == Make::Redis {
        assert_eq!((facts[0].memory.limit, facts[0].memory.policy.as_deref()), (Some(64 << 20), Some("allkeys-lfu")));
        assert!(facts[0].clients.connected > Some(0) && facts[0].clients.limit > Some(0));
    }
    let health = redis.health().await;
    assert!(health.is_ok() && health.ping.is_some() && health.problems.is_empty(), "{health}");
    assert!(redis.warnings().is_empty(), "{:?}", redis.warnings());
}

#[tokio::test]
async fn settings_that_hurt_are_told_at_connect_without_a_secret() {
    let server = Server::builder().password("hunter2").args(&["--maxmemory", "0"]).spawn().unwrap();
    let redis = Redis::connect(format!("{}?timeout=5s&connect_timeout=5s", server.url())).await.unwrap();
    let shown = format!("{:?} {} {redis:?}", redis.warnings(), redis.health().await);
    assert!(shown.contains("maxmemory is 0") && !shown.contains("hunter2"), "{shown}");
    assert!(redis.health().await.is_ok(), "a warning breaks nothing");
}

#[tokio::test]
async fn a_full_server_that_evicts_nothing_is_broken() {
    let server = Server::builder().args(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]).spawn().unwrap();
    let redis = Redis::connect(format!("{}?timeout=5s&connect_timeout=5s", server.url())).await.unwrap();
    let health = redis.health().await;
    assert!(!health.is_ok() && shows(&health, "noeviction"), "{health}");
    assert_eq!(health.problems[0].severity, Severity::Broken, "the worst comes first");
}

#[tokio::test]
async fn a_server_that_is_gone_is_broken_and_not_waited_for() {
    let mut server = Server::spawn().unwrap();
    let redis = Redis::connect(format!("{}?timeout=300ms", server.url())).await.unwrap();
    server.kill();
    let health = within("the health of nobody", redis.health()).await;
    assert!(!health.is_ok() && health.ping.is_none() && !health.problems.is_empty(), "{health}");
    assert!(redis.ping().await.is_err());
}

#[tokio::test]
async fn a_user_who_may_not_ask_is_served_all_the_same() {
    let acl = "user default off\nuser admin on >pw ~* &* +@all\nuser app on >app ~* &* +@all -info -config\n";
    let server = Server::builder().acl(acl, "admin", "pw").spawn().unwrap();
    let url = format!("redis://app:app@{}?timeout=5s&connect_timeout=5s", server.address());
    let redis = Redis::connect(url).await.unwrap();
    assert!(redis.warnings().is_empty());
    let health = redis.health().await;
    assert!(health.is_ok() && shows(&health, "+info"), "{health}");
}
