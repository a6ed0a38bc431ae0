//! Tracking over a cluster: each primary speaks for its own keys, and slots change their primary.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use cache_redis::testkit::Cluster;
use cache_strata::Loaded;

use super::*;

/// One cache over a cluster, and the far names of its keys.
struct Over {
    cluster: Arc<Cluster>,
    tiered: Tiered,
    cache: Cache<String>,
}

impl Over {
    async fn new(tracking: Tracking, bound: Duration) -> Self {
        let cluster = tokio::task::spawn_blocking(|| Arc::new(Cluster::spawn().unwrap())).await.unwrap();
        let far = redis(&cluster.url(), tracking).cluster().connect().await.unwrap();
        let tiered = Tiered::builder().near(Moka::new()).far(far).buckets(16).bound(bound).build().await.unwrap();
        let cache = tiered.cache("names").build().unwrap();
        Self { cluster, tiered, cache }
    }

    /// Does what blocks elsewhere, so that the connections live on.
    async fn apart<T: Send + 'static>(&self, work: impl FnOnce(&Cluster) -> T + Send + 'static) -> T {
        let cluster = Arc::clone(&self.cluster);
        tokio::task::spawn_blocking(move || work(&cluster)).await.unwrap()
    }

    /// What the plain client `redis-cli` says at the owner of the key `far`.
    async fn cli(&self, far: &str, words: &[&str]) -> String {
        let far = far.to_owned();
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        self.apart(move |cluster| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            cluster.nodes()[cluster.owner(&far).unwrap()].cli(&words).unwrap()
        })
        .await
    }

    /// Loads `key` and waits until it is near for good; its far name.
    async fn near(&self, key: &str) -> String {
        let waiting = async {
            let mut hits = 0;
            while hits < 10 {
                let before = self.tiered.metrics().get(Metric::Revalidated);
                // after a failover what was loaded may be dropped once more: own changes are repeated
                let load = || async { Ok::<_, std::io::Error>(Loaded::value("v".to_owned())) };
                let near = self.cache.load_with(key, load).await.is_ok_and(|answer| answer.tier == Tier::Near);
                let quiet = near && self.tiered.metrics().get(Metric::Revalidated) == before;
                hits = if quiet { hits + 1 } else { 0 };
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), waiting).await.expect("never quiet");
        let pattern = format!("*:names:{key}");
        self.apart(move |cluster| {
            let named = cluster.nodes().iter().filter_map(|node| node.cli(&["KEYS", &pattern]).ok());
            named.flat_map(|names| names.lines().map(str::to_owned).collect::<Vec<_>>()).find(|name| !name.is_empty())
        })
        .await
        .expect("a far key")
    }

    async fn gone(&self, what: &str, key: &str) {
        soon(what, async || self.cache.lookup(key).await.unwrap().is_none()).await;
    }
}

/// Says `words` to `port`, each line a command, on one connection; how often it answered `OK` or a number.
fn say(port: u16, words: &str) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(format!("{words}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(!said.contains('-'), "{said}");
    said.lines().count() - 1
}

async fn every_primary_is_heard(tracking: Tracking) {
    let over = Over::new(tracking, Duration::from_secs(120)).await;
    let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    for write in [&["SET", "", "foreign"][..], &["DEL", ""], &["PEXPIRE", "", "30"]] {
        let mut owners = std::collections::HashSet::new();
        for key in &keys {
            let far = over.near(key).await;
            let name = far.clone();
            owners.insert(over.apart(move |cluster| cluster.owner(&name).unwrap()).await);
            let words: Vec<&str> =
                write.iter().map(|&word| if word.is_empty() { far.as_str() } else { word }).collect();
            over.cli(&far, &words).await;
            over.gone(write[0], key).await;
            over.cli(&far, &["DEL", &far]).await;
        }
        assert_eq!(owners.len(), 3, "a key at each primary");
    }
    let mut at = Vec::new();
    for key in &keys {
        let far = over.near(key).await;
        at.push(over.apart(move |cluster| cluster.owner(&far).unwrap()).await);
    }
    for node in 0..3 {
        over.apart(move |cluster| cluster.nodes()[node].cli(&["FLUSHALL"]).unwrap()).await;
        for (key, _) in keys.iter().zip(&at).filter(|(_, at)| **at == node) {
            over.gone("FLUSHALL", key).await;
        }
        for (key, _) in keys.iter().zip(&at).filter(|(_, at)| **at > node) {
            assert!(over.cache.lookup(&**key).await.unwrap().is_some(), "another node's key");
        }
    }
}

async fn a_slot_on_its_way_is_heard(tracking: Tracking) {
    let over = Over::new(tracking, Duration::from_secs(120)).await;
    let far = over.near("k0").await;
    let name = far.clone();
    let (to, migration) = over
        .apart(move |cluster| {
            let migration = cluster.begin_migration(&name).unwrap();
            cluster.move_keys(&migration).unwrap();
            (cluster.nodes()[migration.to()].port(), migration)
        })
        .await;
    // the new server has the key, the old one the slot
    over.near("k0").await;
    let words = format!("ASKING\r\nDEL {far}");
    assert_eq!(tokio::task::spawn_blocking(move || say(to, &words)).await.unwrap(), 2);
    over.gone("while the slot moves", "k0").await;
    over.near("k0").await;
    over.apart(move |cluster| cluster.end_migration(&migration).unwrap()).await;
    over.cli(&far, &["SET", &far, "foreign"]).await;
    over.gone("when the slot has moved", "k0").await;
    over.cli(&far, &["DEL", &far]).await;
    over.near("k0").await;
    over.cli(&far, &["DEL", &far]).await;
    over.gone("after it has moved", "k0").await;
}

async fn a_failover_is_survived(tracking: Tracking) {
    let bound = Duration::from_secs(2);
    let over = Over::new(tracking, bound).await;
    let far = over.near("k0").await;
    // the old primary stays, as a replica: no connection breaks
    let name = far.clone();
    let promoted = over
        .apart(move |cluster| {
            let old = cluster.owner(&name).unwrap();
            let replica = &cluster.nodes()[old + 3];
            replica.cli(&["CLUSTER", "FAILOVER"]).unwrap();
            let end = std::time::Instant::now() + Duration::from_secs(20);
            while !replica.cli(&["ROLE"]).unwrap().starts_with("master") {
                assert!(std::time::Instant::now() < end, "no failover");
                std::thread::sleep(Duration::from_millis(1));
            }
            // before anybody has asked who the owner is
            replica.cli(&["DEL", &name]).unwrap();
            old + 3
        })
        .await;
    let written = Instant::now();
    while over.cache.lookup("k0").await.unwrap().is_some() {
        assert!(written.elapsed() < bound, "the old value, {:?} after a failover and a write", written.elapsed());
        sleep(Duration::from_millis(2)).await;
    }
    over.near("k0").await;
    over.apart(move |cluster| cluster.nodes()[promoted].cli(&["DEL", &far]).unwrap()).await;
    over.gone("at the new primary", "k0").await;
}

async fn a_killed_primary_is_made_up_for(tracking: Tracking) {
    let bound = Duration::from_secs(2);
    let over = Over::new(tracking, bound).await;
    let far = over.near("k0").await;
    let Over { cluster, tiered, cache } = over;
    let owner = cluster.owner(&far).unwrap();
    let pid = cluster.nodes()[owner].pid().unwrap();
    assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    // the new primary takes the write as soon as it takes any
    let (servers, name) = (Arc::clone(&cluster), far.clone());
    let written = tokio::task::spawn_blocking(move || {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while servers.nodes()[owner + 3].cli(&["DEL", &name]).is_err() {
            assert!(std::time::Instant::now() < end, "no failover");
            std::thread::sleep(Duration::from_millis(5));
        }
        Instant::now()
    })
    .await
    .unwrap();
    while cache.lookup("k0").await.is_ok_and(|answer| answer.is_some()) {
        assert!(written.elapsed() < bound, "the old value, {:?} after a failover and a write", written.elapsed());
        sleep(Duration::from_millis(2)).await;
    }
    let over = Over { cluster, tiered, cache };
    soon("writes again", async || over.cache.set("k0", "w".to_owned()).await.is_ok()).await;
    over.near("k0").await;
    over.apart(move |cluster| cluster.nodes()[owner + 3].cli(&["DEL", &far]).unwrap()).await;
    over.gone("at the new primary", "k0").await;
}

#[tokio::test]
async fn foreign_writes_at_each_primary_are_heard_bcast() {
    every_primary_is_heard(Tracking::Bcast).await;
}

#[tokio::test]
async fn a_slot_that_moves_is_heard_at_both_of_its_servers_bcast() {
    a_slot_on_its_way_is_heard(Tracking::Bcast).await;
}

#[tokio::test]
async fn a_foreign_write_right_after_a_failover_is_found_within_the_bound_bcast() {
    a_failover_is_survived(Tracking::Bcast).await;
}

#[tokio::test]
async fn a_foreign_write_after_a_primary_was_killed_is_found_within_the_bound_bcast() {
    a_killed_primary_is_made_up_for(Tracking::Bcast).await;
}

#[tokio::test]
async fn foreign_writes_at_each_primary_are_heard_reads() {
    every_primary_is_heard(Tracking::Reads).await;
}

#[tokio::test]
async fn a_slot_that_moves_is_heard_at_both_of_its_servers_reads() {
    a_slot_on_its_way_is_heard(Tracking::Reads).await;
}

#[tokio::test]
async fn a_foreign_write_right_after_a_failover_is_found_within_the_bound_reads() {
    a_failover_is_survived(Tracking::Reads).await;
}

#[tokio::test]
async fn a_foreign_write_after_a_primary_was_killed_is_found_within_the_bound_reads() {
    a_killed_primary_is_made_up_for(Tracking::Reads).await;
}
