//! What only a real server shows: restarts, losses, logins, limits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_core::testkit::{PATIENT, eventually, within};
use cache_core::{Bus, CacheService, Change, Clock, ErrorKind, Leases, Line, NodeId, Stamp, Ticks};
use cache_memcached::Memcached;
use cache_memcached::testkit::{Server, lose_tag};

const LONG: Duration = Duration::from_secs(300);
const ME: NodeId = NodeId(1);

fn line() -> Line {
    Line { seq: "ns:seq".into(), channel: "ns:ch".into(), tags: "ns:tags:".into() }
}

fn server() -> Server {
    Server::spawn().expect("this test needs a memcached")
}

async fn connect(server: &Server) -> Memcached {
    Memcached::connect(server.patient_url()).await.unwrap()
}

fn valid(s0: u64, generations: &cache_core::Generations) -> bool {
    s0 >= generations.floor && generations.bumps.iter().all(|bump| *bump <= s0)
}

#[tokio::test]
async fn a_restarted_server_is_another_run_and_no_number_comes_again() {
    let mut server = server();
    let store = connect(&server).await;
    let before = store.beat(&line()).await.unwrap();
    let mut last = 0;
    for _ in 0..50 {
        last = store.change(&line(), ME, &["k"], Change::Delete).await.unwrap().n;
    }
    // the server counts in seconds
    let second = || Clock::system().unix_ms() / 1000;
    let began = second();
    eventually("the next second but one", async || second() > began + 1).await;
    server.restart().unwrap();
    eventually("the store reconnects", async || store.get("k").await.is_ok()).await;
    let after = store.beat(&line()).await.unwrap();
    assert!(after.created && after.run != before.run && after.seq.unwrap() > last, "{before:?} {last} {after:?}");
}

#[tokio::test]
async fn a_sequence_lost_again_and_again_never_uses_a_number_twice() {
    let server = server();
    let store = connect(&server).await;
    let mut used = BTreeSet::new();
    for round in 0..30 {
        for _ in 0..round % 4 {
            assert!(used.insert(store.change(&line(), ME, &["k"], Change::Delete).await.unwrap().n));
        }
        let highest = used.last().copied().unwrap_or(0);
        store.delete(&line().seq).await.unwrap();
        if round % 3 == 0 {
            // what another program left there is not ours to count on
            store.set(&line().seq, Bytes::from_static(b"junk"), LONG).await.unwrap();
        }
        let beat = store.beat(&line()).await.unwrap();
        assert!(beat.created && beat.seq.unwrap() > highest, "{beat:?} after {highest}");
        used.insert(beat.seq.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_find_no_sequence_agree_on_one() {
    let server = server();
    let store = connect(&server).await;
    for _ in 0..20 {
        store.delete(&line().seq).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let store = store.clone();
            tasks.spawn(async move { store.beat(&line()).await.unwrap() });
        }
        let beats = tasks.join_all().await;
        assert_eq!(beats.iter().map(|beat| beat.seq).collect::<BTreeSet<_>>().len(), 1, "{beats:?}");
        assert_eq!(beats.iter().filter(|beat| beat.created).count(), 1, "{beats:?}");
    }
}

#[tokio::test]
async fn a_lost_tag_record_makes_older_entries_invalid() {
    let server = server();
    let store = connect(&server).await;
    for tag in [7, 71, 0] {
        let s0 = store.beat(&line()).await.unwrap().seq.unwrap();
        let n = store.bump(&line(), ME, tag, 1, LONG).await.unwrap();
        lose_tag(&store, &line(), tag).await.unwrap();
        let generations = store.generations(&line(), &[tag], 1, LONG).await.unwrap();
        assert!(!valid(s0, &generations), "s0 {s0} passes bump {n}: {generations:?}");
        assert!(valid(n, &generations), "{generations:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_bump_holds_while_its_record_is_lost_all_the_time() {
    let server = server();
    let store = connect(&server).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut losers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        losers.spawn(async move {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                lose_tag(&store, &line(), 5).await.unwrap();
                store.generations(&line(), &[5], 1, LONG).await.unwrap();
            }
        });
    }
    for round in 0..300 {
        let s0 = store.beat(&line()).await.unwrap().seq.unwrap();
        let n = store.bump(&line(), ME, 5, 1, LONG).await.unwrap();
        for _ in 0..3 {
            let generations = store.generations(&line(), &[5], 1, LONG).await.unwrap();
            assert!(!valid(s0, &generations), "round {round}: s0 {s0} passes bump {n}: {generations:?}");
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    losers.join_all().await;
}

/// A proxy that forwards everything, and stops before the increment of the line's number until `meanwhile` was done.
async fn held_before_the_number(server: &Server, meanwhile: impl AsyncFn() + 'static) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let target = server.url().replace("memcached://", "");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("memcached://{}?{PATIENT}&connections=1", listener.local_addr().unwrap());
    tokio::task::spawn_local(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = tokio::net::TcpStream::connect(target).await.unwrap().into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            let bytes = &buffer[..n];
            let cut = bytes.windows(9).position(|word| word == b"ma ns:seq").unwrap_or(0);
            to_server.write_all(&bytes[..cut]).await.unwrap();
            if cut > 0 {
                meanwhile().await;
            }
            to_server.write_all(&bytes[cut..]).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn a_record_lost_between_note_and_number_is_noticed() {
    let server = server();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let store = connect(&server).await;
            store.generations(&line(), &[5], 1, LONG).await.unwrap();
            let (other, done) = (store.clone(), std::cell::Cell::new(false));
            let held = held_before_the_number(&server, async move || {
                if !done.replace(true) {
                    let known = async || other.generations(&line(), &[5], 1, LONG).await.unwrap().bumps[0];
                    eventually("the note is there", async || known().await > 0).await;
                    // the note goes, and a record without it is made and opened with the number from before the bump
                    lose_tag(&other, &line(), 5).await.unwrap();
                    other.generations(&line(), &[5], 1, LONG).await.unwrap();
                }
            })
            .await;
            let slow = Memcached::connect(held).await.unwrap();
            let s0 = store.beat(&line()).await.unwrap().seq.unwrap();
            let n = slow.bump(&line(), ME, 5, 1, LONG).await.unwrap();
            let generations = store.generations(&line(), &[5], 1, LONG).await.unwrap();
            assert!(n > s0 + 1, "the bump was not done again: {s0}, {n}");
            assert!(!valid(s0, &generations), "s0 {s0} passes bump {n}: {generations:?}");
        })
        .await;
}

#[tokio::test]
async fn thousands_of_keys_change_at_once() {
    let server = server();
    let store = connect(&server).await;
    let keys: Vec<String> = (0..5000).map(|i| format!("key with space {i}")).collect();
    let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
    let entries: Vec<_> = names.iter().map(|key| (*key, Bytes::from_static(b"v"))).collect();
    store.set_many(&entries, LONG).await.unwrap();
    let before = store.beat(&line()).await.unwrap().seq.unwrap();
    let applied = store.change(&line(), ME, &names, Change::Delete).await.unwrap();
    assert_eq!((applied.n, applied.removed), (before + 1, 5000));
    assert!(store.get_many(&names).await.unwrap().iter().all(Option::is_none));
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_at_once_and_then_back() {
    let mut server = server();
    let store = Memcached::connect(format!("{}?timeout=2s", server.url())).await.unwrap();
    server.kill();
    for _ in 0..20 {
        let error = within("a call to nobody", store.get("k")).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    server.restart().unwrap();
    eventually("the store is back", async || store.set("k", Bytes::from_static(b"v"), LONG).await.is_ok()).await;
    // over the other connection too
    let held = async || store.get("k").await.ok().flatten();
    eventually("the value is there", async || held().await.as_deref() == Some(&b"v"[..])).await;
}

#[tokio::test]
async fn a_login_is_needed_and_right_or_denied() {
    let file = std::env::temp_dir().join(format!("strata-login-{}", std::process::id()));
    std::fs::write(&file, "ada:p@ss\n").unwrap();
    let server = Server::spawn_with(&["-Y", file.to_str().unwrap()]).expect("this test needs a memcached");
    let url = |login: &str| server.patient_url().replace("://", &format!("://{login}"));
    for wrong in ["", "ada:wrong@", "bob:p%40ss@"] {
        let error = Memcached::connect(url(wrong)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{wrong}: {error}");
        assert!(!format!("{error:?}").contains("p@ss"));
    }
    let store = Memcached::connect(url("ada:p%40ss@")).await.unwrap();
    store.set("k", Bytes::from_static(b"v"), LONG).await.unwrap();
    assert!(store.exists("k").await.unwrap());
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn an_unfit_server_is_refused_and_says_why() {
    let server = Server::spawn_with(&["-C"]).expect("this test needs a memcached");
    let error = Memcached::connect(server.patient_url()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("-C"), "{error}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("memcached://{}?timeout=200ms&connect_timeout=200ms", listener.local_addr().unwrap());
    let error = within("connecting to what does not speak", Memcached::connect(url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_server_with_larger_items_takes_larger_values() {
    let server = Server::spawn_with(&["-I", "4m", "-m", "256"]).expect("this test needs a memcached");
    let store = Memcached::connect(format!("{}?max_value=3m&{PATIENT}", server.url())).await.unwrap();
    assert_eq!(store.max_value(), 3 << 20);
    let value = Bytes::from(vec![7; 3 << 20]);
    store.set("k", value.clone(), LONG).await.unwrap();
    assert!(store.get("k").await.unwrap() == Some(value));
}

/// The system's clock, an hour late.
struct Late;

impl Ticks for Late {
    fn now(&self) -> cache_core::Tick {
        Clock::system().now()
    }

    fn unix_ms(&self) -> u64 {
        Clock::system().unix_ms() - 3_600_000
    }
}

#[tokio::test]
async fn a_client_whose_clock_is_an_hour_off_agrees_on_ttls() {
    let server = server();
    let late = Memcached::builder().url(server.patient_url()).clock(Clock::from_source(Late));
    let (late, right) = (late.connect().await.unwrap(), connect(&server).await);
    late.set("late", Bytes::from_static(b"v"), LONG).await.unwrap();
    right.set("right", Bytes::from_static(b"v"), LONG).await.unwrap();
    assert!(right.exists("late").await.unwrap() && late.exists("right").await.unwrap());
    let left = right.read("late").await.unwrap().unwrap().left.unwrap();
    assert!(left.abs_diff(LONG) < Duration::from_secs(5), "{left:?} left of {LONG:?}");
    assert_eq!(late.lease("l", Stamp::random(), LONG).await.unwrap(), cache_core::Lease::Granted);
    assert!(matches!(right.lease("l", Stamp::random(), LONG).await.unwrap(), cache_core::Lease::Held { .. }));
}
