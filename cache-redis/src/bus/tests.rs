use cache_core::{BusEvent, Leases, Listener, Message, Reply, Stamp, State};
use redis::AsyncCommands;

use super::*;
use crate::testkit::Server;

const DAY: Duration = Duration::from_secs(24 * 3600);
const NODE: NodeId = NodeId(0xabc);
const K: &str = "{ns}:k:key";

fn line() -> Line {
    Line { seq: "{ns}:seq".into(), channel: "{ns}:ch".into(), tags: "{ns}:tags:".into() }
}

async fn up() -> (Server, Redis) {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    (server, redis)
}

fn frame(state: State, row: u32) -> Bytes {
    let header = Header { state, stamp: Stamp(9), soft_exp: u64::MAX >> 12, row, ..Header::value() };
    match state {
        State::Lease | State::Tombstone => Bytes::copy_from_slice(&header.to_bytes()),
        _ => Frame { header, tags: cache_core::Tags::default(), payload: Bytes::from_static(b"payload") }.to_bytes(K),
    }
}

async fn put(redis: &Redis, bytes: &[u8]) {
    let () = redis.raw().pset_ex(K, bytes, 3_600_000).await.unwrap();
}

async fn get(redis: &Redis) -> Option<Bytes> {
    redis.raw().get(K).await.unwrap()
}

async fn heard(listener: &mut Box<dyn Listener>) -> Message {
    let event = tokio::time::timeout(Duration::from_secs(5), listener.next()).await.unwrap();
    let Some(BusEvent::Message { line: 0, payload }) = event else { panic!("{event:?}") };
    Message::parse(&payload).expect("a message of ours")
}

fn keys(n: u64, keys: &[&str]) -> Message {
    Message::Keys { n, node: NODE, keys: keys.iter().map(|key| (*key).to_owned()).collect() }
}

#[tokio::test]
async fn numbers_begin_at_the_clock_and_are_exact() {
    let (server, redis) = up().await;
    let mut listener = redis.subscribe(&[line()]).await.unwrap();
    put(&redis, &frame(State::Value, 0)).await;
    let first = redis.change(&line(), NODE, &[K, "{ns}:k:other"], Change::Delete).await.unwrap();
    let micros = server.cli(&["TIME"]).unwrap().lines().next().unwrap().parse::<u64>().unwrap() * 1_000_000;
    assert!(first.n.abs_diff(micros) < 60_000_000, "{first:?}");
    assert_eq!((first.stored, first.removed), (false, 1));
    assert_eq!(heard(&mut listener).await, keys(first.n, &[K, "{ns}:k:other"]));
    let ttl: u64 = redis.raw().pttl("{ns}:seq").await.unwrap();
    assert!(ttl > 29 * 24 * 3_600_000);
    // every digit counts: Lua's own text of these numbers has 14
    for last in [1_763_000_000_123_455_u64, 999_999_999_999_999, 9_007_199_254_740_989] {
        let () = redis.raw().set("{ns}:seq", last).await.unwrap();
        let next = redis.change(&line(), NODE, &[K], Change::Delete).await.unwrap();
        assert_eq!(next, Applied { n: last + 1, stored: false, kept: false, removed: 0 });
        assert_eq!(heard(&mut listener).await, keys(last + 1, &[K]));
        assert_eq!(redis.bump(&line(), NODE, 7, 3, DAY).await.unwrap(), last + 2);
        assert_eq!(heard(&mut listener).await, Message::Tag { n: last + 2, node: NODE, tag: 7 });
        assert_eq!(redis.beat(&line()).await.unwrap().seq, Some(last + 2));
    }
}

#[tokio::test]
async fn a_sequence_that_is_no_number_is_dropped_and_the_change_still_published() {
    let (server, redis) = up().await;
    let mut listener = redis.subscribe(&[line()]).await.unwrap();
    // the last one is where numbers would stop being exact
    for seq in ["text", "9223372036854775807", "9007199254740992"] {
        server.cli(&["SET", "{ns}:seq", seq]).unwrap();
        put(&redis, &frame(State::Value, 0)).await;
        let applied = redis.change(&line(), NODE, &[K], Change::Delete).await.unwrap();
        assert_eq!(applied, Applied { n: 0, stored: false, kept: false, removed: 1 }, "{seq}");
        assert_eq!(heard(&mut listener).await, keys(0, &[K]));
        assert_eq!((get(&redis).await, server.cli(&["EXISTS", "{ns}:seq"]).unwrap()), (None, "0".into()));
    }
    server.cli(&["RPUSH", "{ns}:seq", "item"]).unwrap();
    assert_eq!(redis.change(&line(), NODE, &[K], Change::Delete).await.unwrap().n, 0);
    assert!(redis.change(&line(), NODE, &[K], Change::Delete).await.unwrap().n > 1_000_000);
    server.cli(&["SET", "{ns}:seq", "text"]).unwrap();
    assert_eq!(redis.beat(&line()).await.unwrap().seq, None);
    assert_eq!(
        redis.generations(&line(), &[1], 5, DAY).await.unwrap(),
        Generations { floor: u64::MAX, bumps: vec![0] }
    );
}

#[tokio::test]
async fn softening_keeps_values_without_lease_and_removes_the_rest() {
    let (server, redis) = up().await;
    let grace = Duration::from_secs(60);
    for (what, before, kept) in [
        ("value", frame(State::Value, 3), true),
        ("negative", frame(State::Negative, 3), true),
        ("fallback", frame(State::Stale, 3), true),
        ("lease", frame(State::Lease, 0), false),
        ("tombstone", frame(State::Tombstone, 0), false),
        ("foreign", Bytes::from(vec![b'x'; 100]), false),
        ("short", Bytes::from_static(b"x"), false),
    ] {
        for full in [false, true] {
            put(&redis, &before).await;
            server.cli(&["CONFIG", "SET", "maxmemory", if full { "1" } else { "0" }]).unwrap();
            let applied = redis.change(&line(), NODE, &[K], Change::Soften { grace }).await.unwrap();
            server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
            assert!(applied.n > 0, "{what}");
            assert_eq!(applied.removed, 1, "{what}");
            let Some(after) = get(&redis).await else {
                assert!(!kept, "{what}");
                continue;
            };
            assert!(kept, "{what}");
            let header = Header::parse(&after).unwrap();
            assert_eq!((header.state, header.stamp, header.soft_exp), (State::Stale, Stamp::NONE, 0), "{what}");
            assert_eq!((header.row, &after[48..]), (3, &before[48..]), "{what}");
            let ttl: u64 = redis.raw().pttl(K).await.unwrap();
            assert!((50_000..=60_000).contains(&ttl), "{what}: {ttl}");
        }
    }
    // never prolonged
    let () = redis.raw().pset_ex(K, &frame(State::Value, 0)[..], 1_000).await.unwrap();
    redis.change(&line(), NODE, &[K], Change::Soften { grace }).await.unwrap();
    assert!(redis.raw().pttl::<_, u64>(K).await.unwrap() <= 1_000);
}

#[tokio::test]
async fn keys_of_another_type_are_removed_by_every_change() {
    let (server, redis) = up().await;
    let ttl = DAY;
    for change in [
        Change::Delete,
        Change::Soften { grace: ttl },
        Change::Hold { hold: ttl },
        Change::Put { frame: frame(State::Value, 1), ttl },
        Change::PutNewer { frame: frame(State::Value, 1), ttl },
    ] {
        server.cli(&["DEL", K]).unwrap();
        server.cli(&["RPUSH", K, "item"]).unwrap();
        let stored = matches!(change, Change::Put { .. } | Change::PutNewer { .. });
        let applied = redis.change(&line(), NODE, &[K], change.clone()).await.unwrap();
        assert_eq!((applied.stored, applied.removed), (stored, 1), "{change:?}");
        assert_ne!(server.cli(&["TYPE", K]).unwrap(), "list", "{change:?}");
    }
}

#[tokio::test]
async fn a_hold_bars_until_its_deadline() {
    let (_server, redis) = up().await;
    let hold = Duration::from_secs(60);
    put(&redis, &frame(State::Value, 0)).await;
    let applied = redis.change(&line(), NODE, &[K, "{ns}:k:2"], Change::Hold { hold }).await.unwrap();
    assert_eq!(applied.removed, 1);
    for key in [K, "{ns}:k:2"] {
        let bar = Frame::parse(key, &redis.read(key).await.unwrap().unwrap().frame).unwrap();
        assert_eq!(bar.header.state, State::Tombstone);
        let end = redis.beat(&line()).await.unwrap().server_ms + 60_000;
        assert!(bar.header.soft_exp.abs_diff(end) < 2_000);
        let lease = redis.lease(key, Stamp(1), hold).await.unwrap();
        assert!(matches!(lease, cache_core::Lease::Barred { .. }), "{lease:?}");
    }
}

#[tokio::test]
async fn a_put_is_numbered_and_a_newer_row_is_left_alone() {
    let (_server, redis) = up().await;
    let mut listener = redis.subscribe(&[line()]).await.unwrap();
    let ttl = DAY;
    put(&redis, &frame(State::Lease, 0)).await;
    let first = redis.change(&line(), NODE, &[K], Change::Put { frame: frame(State::Value, 5), ttl }).await.unwrap();
    assert_eq!((first.stored, first.removed), (true, 1));
    assert_eq!(heard(&mut listener).await, keys(first.n, &[K]));
    let mut last = first.n;
    for (present, state, offered, stored) in [
        (5, State::Value, 6, true),
        (5, State::Value, 5, false),
        (5, State::Value, 4, false),
        (5, State::Negative, 4, false),
        (5, State::Stale, 4, false),
        (5, State::Stale, 6, true),
        (u32::MAX, State::Value, u32::MAX - 1, false),
        (u32::MAX - 1, State::Value, u32::MAX, true),
        (9, State::Lease, 1, true),
        (9, State::Tombstone, 1, true),
    ] {
        let before = frame(state, present);
        put(&redis, &before).await;
        let offer = frame(State::Value, offered);
        let put = Change::PutNewer { frame: offer.clone(), ttl };
        let applied = redis.change(&line(), NODE, &[K], put).await.unwrap();
        assert_eq!(applied.stored, stored, "{state:?} {present} {offered}");
        if stored {
            assert_eq!((applied.n, get(&redis).await), (last + 1, Some(offer)));
            assert_eq!(heard(&mut listener).await, keys(last + 1, &[K]));
            last += 1;
        } else {
            last += 1;
            assert_eq!(applied, Applied { n: last, stored: false, kept: true, removed: 0 });
            assert_eq!(get(&redis).await, Some(before));
            assert_eq!(heard(&mut listener).await, keys(last, &[K]));
        }
    }
    for keys in [&[][..], &[K, "{ns}:k:2"]] {
        let put = Change::Put { frame: frame(State::Value, 1), ttl };
        assert_eq!(redis.change(&line(), NODE, keys, put).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let put = Change::Swap { seen: Stamp::NONE, frame: frame(State::Value, 1), ttl };
    assert_eq!(redis.change(&line(), NODE, &[K, "{ns}:k:2"], put).await.unwrap_err().kind(), ErrorKind::Invalid);
    let short = Change::PutNewer { frame: Bytes::from_static(b"x"), ttl };
    assert_eq!(redis.change(&line(), NODE, &[K], short).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn with_full_memory_invalidations_pass_and_a_put_leaves_a_miss() {
    let (server, redis) = up().await;
    let mut listener = redis.subscribe(&[line()]).await.unwrap();
    let full = |on: bool| server.cli(&["CONFIG", "SET", "maxmemory", if on { "1" } else { "0" }]).map(drop).unwrap();
    for seq_there in [false, true] {
        let clean = || if seq_there { vec!["PING"] } else { vec!["DEL", "{ns}:seq"] };
        for (what, change) in [
            ("delete", Change::Delete),
            ("soften nothing", Change::Soften { grace: DAY }),
            ("hold", Change::Hold { hold: DAY }),
        ] {
            server.cli(&clean()).unwrap();
            if what != "soften nothing" {
                put(&redis, &frame(State::Value, 1)).await;
            }
            full(true);
            assert!(server.cli(&["SET", "probe", "x"]).is_err());
            let applied = redis.change(&line(), NODE, &[K], change).await.unwrap();
            full(false);
            assert!(applied.n > 0, "{what}");
            assert_eq!(heard(&mut listener).await, keys(applied.n, &[K]));
            server.cli(&["DEL", K]).unwrap();
        }
        for newer in [false, true] {
            server.cli(&clean()).unwrap();
            put(&redis, &frame(State::Value, 1)).await;
            let (frame, ttl) = (frame(State::Value, 2), DAY);
            full(true);
            let change = if newer { Change::PutNewer { frame, ttl } } else { Change::Put { frame, ttl } };
            let applied = redis.change(&line(), NODE, &[K], change).await.unwrap();
            full(false);
            assert!(applied.n > 0 && !applied.stored, "{applied:?}");
            assert_eq!(heard(&mut listener).await, keys(applied.n, &[K]));
            assert_eq!(get(&redis).await, None);
        }
        // what a put leaves alone is told all the same
        server.cli(&clean()).unwrap();
        for ttl in [true, false] {
            put(&redis, &frame(State::Value, 3)).await;
            if !ttl {
                server.cli(&["PERSIST", K]).unwrap();
            }
            full(true);
            let newer = Change::PutNewer { frame: frame(State::Value, 2), ttl: DAY };
            let applied = redis.change(&line(), NODE, &[K], newer).await.unwrap();
            full(false);
            assert!(applied.n > 0 && applied.kept, "{applied:?}");
            assert_eq!(heard(&mut listener).await, keys(applied.n, &[K]));
            assert_eq!(get(&redis).await, Some(frame(State::Value, 3)));
        }
        // a read-modify-write's old value is all that there is
        server.cli(&clean()).unwrap();
        let old = frame(State::Value, 1);
        put(&redis, &old).await;
        full(true);
        let seen = Header::parse(&old).unwrap().stamp;
        let swap = Change::Swap { seen, frame: frame(State::Value, 2), ttl: DAY };
        let refused = redis.change(&line(), NODE, &[K], swap).await.unwrap_err();
        full(false);
        assert_eq!((refused.kind(), refused.reply()), (ErrorKind::Overloaded, Some(Reply::OutOfMemory)));
        assert_eq!(get(&redis).await, Some(old));
        server.cli(&clean()).unwrap();
        full(true);
        let n = redis.bump(&line(), NODE, 5, 10, DAY).await.unwrap();
        assert_eq!(heard(&mut listener).await, Message::Tag { n, node: NODE, tag: 5 });
        let known = redis.generations(&line(), &[5], 10, DAY).await.unwrap();
        assert_eq!(known.bumps, [n]);
        server.cli(&["DEL", "{ns}:tags:10"]).unwrap();
        assert_eq!(redis.generations(&line(), &[5], 10, DAY).await.unwrap(), Generations { floor: n, bumps: vec![0] });
        server.cli(&clean()).unwrap();
        assert_eq!(redis.beat(&line()).await.unwrap().created, !seq_there);
        full(false);
    }
}

#[tokio::test]
async fn a_long_list_of_keys_goes_in_parts() {
    let (_server, redis) = up().await;
    let mut listener = redis.subscribe(&[line()]).await.unwrap();
    let many: Vec<String> = (0..2_500).map(|i| format!("{{ns}}:k:{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let () = redis.raw().mset(&many.iter().map(|key| (*key, "x")).collect::<Vec<_>>()).await.unwrap();
    let applied = redis.change(&line(), NODE, &many, Change::Delete).await.unwrap();
    assert_eq!(applied.removed, 2_500);
    for (part, n) in many.chunks(CHUNK).zip(applied.n - 2..) {
        assert_eq!(heard(&mut listener).await, keys(n, part));
    }
    let long: Vec<String> = (0..600).map(|i| format!("{{ns}}:{i:01000}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let next = redis.change(&line(), NODE, &long, Change::Delete).await.unwrap();
    assert_eq!(next.n, applied.n + 3);
    let tags: Vec<u64> = (1..=2_500).collect();
    let n = redis.bump(&line(), NODE, 2_400, 1, DAY).await.unwrap();
    let known = redis.generations(&line(), &tags, 1, DAY).await.unwrap();
    assert_eq!((known.bumps.len(), known.bumps[2_399], known.bumps[2_398]), (2_500, n, 0));
}

#[tokio::test]
async fn a_beat_makes_a_missing_sequence_once() {
    let (mut server, redis) = up().await;
    let first = redis.beat(&line()).await.unwrap();
    assert!(first.created && first.seq.is_some());
    let second = redis.beat(&line()).await.unwrap();
    assert_eq!((second.created, second.seq, second.run), (false, first.seq, first.run));
    assert!(second.server_ms >= first.server_ms);
    let secs = server.cli(&["TIME"]).unwrap().lines().next().unwrap().parse::<u64>().unwrap();
    assert!(second.server_ms.abs_diff(secs * 1000) < 5_000);

    server.restart().unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    let third = loop {
        match redis.beat(&line()).await {
            Ok(beat) => break beat,
            Err(error) => assert!(tokio::time::Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(third.created && third.run != first.run && third.seq > first.seq, "{first:?} {third:?}");
}

#[tokio::test]
async fn a_replica_and_an_isolated_primary_refuse_beats_and_changes() {
    let server = Server::builder().args(&["--repl-diskless-sync-delay", "0"]).spawn().unwrap();
    let port = server.port().to_string();
    let replica = Server::builder().args(&["--replicaof", "127.0.0.1", &port]).spawn().unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(15);
    while !replica.cli(&["INFO", "replication"]).unwrap().contains("master_link_status:up") {
        assert!(std::time::Instant::now() < end, "the replica never synced");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    put(&redis, &frame(State::Value, 1)).await;
    redis.beat(&line()).await.unwrap();

    let reader = Redis::connect(replica.patient_url()).await.unwrap();
    let refused = reader.beat(&line()).await.unwrap_err();
    assert_eq!((refused.reply(), refused.operation()), (Some(Reply::ReadOnly), Some("beat")));

    if server.make().unwrap().release() < (7, 0) {
        // there scripts are not asked whether replicas are there
        return;
    }
    let mut listener = redis.subscribe(&[line()]).await.unwrap();
    server.cli(&["CONFIG", "SET", "min-replicas-to-write", "3"]).unwrap();
    assert_eq!(redis.beat(&line()).await.unwrap_err().reply(), Some(Reply::NoReplicas));
    let put = || Change::Put { frame: frame(State::Value, 2), ttl: DAY };
    for change in [Change::Delete, Change::Soften { grace: DAY }, Change::Hold { hold: DAY }, put()] {
        let refused = redis.change(&line(), NODE, &[K], change.clone()).await.unwrap_err();
        assert_eq!(refused.reply(), Some(Reply::NoReplicas), "{change:?}");
    }
    assert_eq!(redis.bump(&line(), NODE, 1, 1, DAY).await.unwrap_err().reply(), Some(Reply::NoReplicas));
    server.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    assert_eq!(get(&redis).await, Some(frame(State::Value, 1)), "refused as a whole");
    // nothing was published by what was refused
    let applied = redis.change(&line(), NODE, &[K], Change::Delete).await.unwrap();
    assert_eq!(heard(&mut listener).await, keys(applied.n, &[K]));
}

mod tags;
