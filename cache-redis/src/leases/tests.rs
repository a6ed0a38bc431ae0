use cache_core::envelope::flag;
use cache_core::{Bus, BusEvent, Change, Line, Message, NodeId, Reply, Tags};
use redis::AsyncCommands;

use super::*;
use crate::testkit::Server;

const HOUR: Duration = Duration::from_secs(3600);
const SPAN: Duration = Duration::from_secs(5);
const MINE: Stamp = Stamp(0x1122_3344_5566_7788);
const OTHER: Stamp = Stamp(0x8877_6655_4433_2211);
const K: &str = "{ns}:k:key";
const CH: &str = "{ns}:ch";

async fn up() -> (Server, Redis) {
    let server = Server::spawn().unwrap();
    let redis = Redis::connect(server.patient_url()).await.unwrap();
    (server, redis)
}

async fn now(redis: &Redis) -> u64 {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut redis.raw()).await.unwrap();
    seconds * 1000 + micros / 1000
}

/// A frame in `state` with tags and payload where the state has them; `deadline` is relative to the server's clock.
async fn frame(redis: &Redis, state: State, stamp: Stamp, deadline: Option<i64>) -> Bytes {
    let soft_exp = match deadline {
        Some(ms) => now(redis).await.checked_add_signed(ms).unwrap(),
        None => 0,
    };
    let mut header = Header { state, stamp, soft_exp, codec: 0x0102_0304, s0: 77, row: 3, ..Header::value() };
    if matches!(state, State::Lease | State::Tombstone) {
        return Bytes::copy_from_slice(&header.to_bytes());
    }
    if state == State::Negative {
        header.flags = flag::NEGATIVE;
    }
    let tags = Tags::new(vec![1, 2]).unwrap();
    Frame { header, tags, payload: Bytes::from_static(b"payload\0\xff") }.to_bytes(K)
}

async fn put(redis: &Redis, bytes: &[u8]) {
    let () = redis.raw().pset_ex(K, bytes, 3_600_000).await.unwrap();
}

async fn get(redis: &Redis) -> Option<Bytes> {
    redis.raw().get(K).await.unwrap()
}

fn parsed(bytes: Option<Bytes>) -> Frame {
    Frame::parse(K, &bytes.expect("the key is there")).expect("a whole frame")
}

/// What a request for a lease must answer.
enum Expect {
    Granted(State),
    Found,
    Held,
    Barred,
}

#[tokio::test]
async fn a_lease_is_granted_where_nothing_fresh_and_no_other_lease_stands() {
    use Expect::{Barred, Found, Granted, Held};
    let (_server, redis) = up().await;
    for old in [false, true] {
        redis.plain_set().store(old, Ordering::Relaxed);
        let f = async |state, stamp, deadline| Some(frame(&redis, state, stamp, deadline).await);
        let mut format = f(State::Value, OTHER, None).await.unwrap().to_vec();
        format[1] = 2;
        let cases = [
            ("missing", None, Granted(State::Lease)),
            ("leased", f(State::Lease, OTHER, None).await, Held),
            ("fresh", f(State::Value, OTHER, Some(60_000)).await, Found),
            ("fresh for ever", f(State::Value, OTHER, None).await, Found),
            ("fresh negative", f(State::Negative, OTHER, Some(60_000)).await, Found),
            ("out of date", f(State::Value, OTHER, Some(-1)).await, Granted(State::Stale)),
            ("out of date negative", f(State::Negative, OTHER, Some(-1)).await, Granted(State::Stale)),
            ("fallback", f(State::Stale, Stamp::NONE, None).await, Granted(State::Stale)),
            ("fallback, leased", f(State::Stale, OTHER, Some(60_000)).await, Held),
            ("fallback, lease run out", f(State::Stale, OTHER, Some(-1)).await, Granted(State::Stale)),
            ("barred", f(State::Tombstone, Stamp::NONE, Some(60_000)).await, Barred),
            ("bar fallen", f(State::Tombstone, Stamp::NONE, Some(-1)).await, Granted(State::Lease)),
            ("short", Some(Bytes::from_static(b"short")), Found),
            ("empty", Some(Bytes::new()), Found),
            ("foreign", Some(Bytes::from(vec![b'x'; 100])), Found),
            ("another format", Some(Bytes::from(format)), Found),
        ];
        for (what, before, expect) in cases {
            let () = redis.raw().del(K).await.unwrap();
            if let Some(bytes) = &before {
                put(&redis, bytes).await;
            }
            let lease = redis.lease(K, MINE, SPAN).await.unwrap();
            let after = get(&redis).await;
            match expect {
                Granted(state) => {
                    assert_eq!(lease, Lease::Granted, "{what}");
                    let now_ms = now(&redis).await;
                    let after = parsed(after);
                    assert_eq!((after.header.state, after.header.stamp), (state, MINE), "{what}");
                    let ttl: u64 = redis.raw().pttl(K).await.unwrap();
                    if state == State::Lease {
                        assert!((4_000..=5_000).contains(&ttl), "{what}: {ttl}");
                        continue;
                    }
                    assert!(ttl > 3_500_000, "{what}: a fallback keeps its ttl");
                    assert!(after.header.soft_exp.abs_diff(now_ms + 5_000) < 1_000, "{what}");
                    let before = Frame::parse(K, &before.unwrap()).unwrap();
                    assert_eq!((&after.payload, &after.tags), (&before.payload, &before.tags), "{what}");
                    let kept = |h: Header| (h.flags, h.codec, h.s0, h.created, h.load_ms, h.row);
                    assert_eq!(kept(after.header), kept(before.header), "{what}");
                }
                Found => {
                    let Lease::Found(found) = lease else { panic!("{what}: {lease:?}") };
                    assert_eq!(Some(&found.frame), before.as_ref(), "{what}");
                    assert!(found.left.unwrap() > HOUR / 2, "{what}");
                    assert_eq!(after, before, "{what}");
                }
                Held => {
                    let Lease::Held { holder, left } = lease else { panic!("{what}: {lease:?}") };
                    assert_eq!(holder, OTHER, "{what}");
                    assert!(left > Duration::from_secs(50), "{what}: {left:?}");
                    assert_eq!(after, before, "{what}");
                }
                Barred => {
                    let Lease::Barred { left } = lease else { panic!("{what}: {lease:?}") };
                    assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60), "{what}: {left:?}");
                    assert_eq!(after, before, "{what}");
                }
            }
        }
    }
}

#[tokio::test]
async fn only_a_server_without_nx_with_get_gets_the_script() {
    let (server, redis) = up().await;
    let old = server.make().unwrap().release() < (7, 0);
    assert_eq!(redis.lease(K, MINE, SPAN).await.unwrap(), Lease::Granted);
    assert_eq!(redis.plain_set().load(Ordering::Relaxed), old);
    // what an old server answers to the plain form is this: refused without a code of its own
    let mut raw = redis.raw();
    let refused: redis::RedisResult<()> =
        redis::cmd("SET").arg(K).arg("x").arg("NX").arg("NOSUCH").query_async(&mut raw).await;
    let refused = map("lease", &refused.unwrap_err());
    assert_eq!((refused.kind(), refused.reply()), (ErrorKind::Other, None));
}

#[tokio::test]
async fn a_key_of_another_type_is_an_error_and_stays() {
    let (_server, redis) = up().await;
    let () = redis.raw().rpush(K, "item").await.unwrap();
    for old in [false, true] {
        redis.plain_set().store(old, Ordering::Relaxed);
        let faults = [
            ("read", redis.read(K).await.map(drop)),
            ("peek", redis.peek(K).await.map(drop)),
            ("lease", redis.lease(K, MINE, SPAN).await.map(drop)),
            ("wait", redis.wait(K, MINE).await.map(drop)),
            ("renew", redis.renew(K, MINE, SPAN).await.map(drop)),
            ("fill", redis.fill(K, MINE, Bytes::from_static(b"x"), HOUR, CH).await.map(drop)),
            ("refresh", redis.refresh(K, MINE, Bytes::from_static(b"x"), HOUR).await.map(drop)),
            ("release", redis.release(K, MINE, CH).await.map(drop)),
            ("discard", redis.discard(K, &Bytes::from_static(b"item")).await.map(drop)),
        ];
        for (operation, fault) in faults {
            let fault = fault.expect_err(operation);
            assert_eq!((fault.reply(), fault.operation()), (Some(Reply::WrongType), Some(operation)));
        }
    }
    let kept: Vec<String> = redis.raw().lrange(K, 0, -1).await.unwrap();
    assert_eq!(kept, ["item"]);
}

#[tokio::test]
async fn waiting_flags_only_the_lease_that_is_meant() {
    let (_server, redis) = up().await;
    assert_eq!(redis.wait(K, MINE).await.unwrap(), Wait::Missing);
    for (state, stamp, deadline, flagged) in [
        (State::Lease, MINE, None, true),
        (State::Stale, MINE, Some(60_000), true),
        (State::Stale, MINE, Some(-1), true),
        (State::Lease, OTHER, None, false),
        (State::Stale, Stamp::NONE, None, false),
        (State::Value, MINE, Some(60_000), false),
        (State::Tombstone, MINE, Some(60_000), false),
    ] {
        let before = frame(&redis, state, stamp, deadline).await;
        put(&redis, &before).await;
        for _ in 0..2 {
            let answer = redis.wait(K, MINE).await.unwrap();
            let after = get(&redis).await.unwrap();
            if flagged {
                let Wait::Flagged { left } = answer else { panic!("{state:?}: {answer:?}") };
                assert_eq!(left.is_zero(), deadline == Some(-1), "{state:?} {left:?}");
                let header = Header::parse(&after).unwrap();
                assert_eq!(header.flags & flag::WAITER, flag::WAITER);
                let rest = |bytes: &Bytes| [&bytes[..3], &bytes[4..]].concat();
                assert_eq!(rest(&after), rest(&before), "{state:?}: nothing else changed");
            } else {
                assert!(matches!(answer, Wait::Changed(found) if found.frame == before), "{state:?}");
                assert_eq!(after, before);
            }
        }
        let ttl: u64 = redis.raw().pttl(K).await.unwrap();
        assert!(ttl > 3_500_000, "{state:?}: flagging keeps the ttl");
    }
    // an empty token is nobody's
    put(&redis, &frame(&redis, State::Stale, Stamp::NONE, None).await).await;
    assert!(matches!(redis.wait(K, Stamp::NONE).await.unwrap(), Wait::Changed(_)));
}

#[tokio::test]
async fn only_the_holder_renews_fills_and_releases() {
    let (_server, redis) = up().await;
    let value = frame(&redis, State::Value, OTHER, Some(60_000)).await;
    for (state, stamp, holds) in [
        (State::Lease, MINE, true),
        (State::Stale, MINE, true),
        (State::Lease, OTHER, false),
        (State::Stale, OTHER, false),
        (State::Value, MINE, false),
        (State::Tombstone, MINE, false),
    ] {
        let before = frame(&redis, state, stamp, Some(60_000)).await;

        put(&redis, &before).await;
        assert_eq!(redis.renew(K, MINE, SPAN).await.unwrap(), holds, "renew {state:?}");
        let ttl: u64 = redis.raw().pttl(K).await.unwrap();
        if holds && state == State::Lease {
            assert!(ttl <= 5_000, "renew {state:?}: {ttl}");
        } else {
            assert!(ttl > 3_500_000, "renew {state:?}: {ttl}");
            let deadline = Header::parse(&get(&redis).await.unwrap()).unwrap().soft_exp;
            let expected = now(&redis).await + if holds { 5_000 } else { 60_000 };
            assert!(deadline.abs_diff(expected) < 2_000, "renew {state:?}");
        }

        put(&redis, &before).await;
        assert_eq!(redis.release(K, MINE, CH).await.unwrap(), holds, "release {state:?}");
        match (holds, state) {
            (false, _) => assert_eq!(get(&redis).await, Some(before.clone())),
            (true, State::Lease) => assert_eq!(get(&redis).await, None),
            (true, _) => {
                let after = parsed(get(&redis).await);
                let lease = (after.header.state, after.header.stamp, after.header.soft_exp);
                assert_eq!(lease, (State::Stale, Stamp::NONE, 0));
                assert_eq!(after.payload, parsed(Some(before.clone())).payload);
            }
        }

        put(&redis, &before).await;
        let ttl = Duration::from_micros(1_500);
        assert_eq!(redis.fill(K, MINE, value.clone(), HOUR, CH).await.unwrap(), holds, "fill {state:?}");
        assert_eq!(get(&redis).await, Some(if holds { value.clone() } else { before.clone() }));
        assert!(!redis.fill(K, MINE, value.clone(), ttl, CH).await.unwrap(), "a lease fills once");
    }
    let () = redis.raw().del(K).await.unwrap();
    assert!(!redis.fill(K, MINE, value, HOUR, CH).await.unwrap());
    assert!(!redis.release(K, MINE, CH).await.unwrap());
    assert!(!redis.renew(K, MINE, SPAN).await.unwrap());
}

#[tokio::test]
async fn a_refresh_needs_the_stamp_that_was_seen() {
    let (_server, redis) = up().await;
    let value = frame(&redis, State::Value, Stamp(5), None).await;
    for (state, stamp, replaced) in [
        (State::Value, MINE, true),
        (State::Negative, MINE, true),
        (State::Value, OTHER, false),
        (State::Stale, MINE, false),
        (State::Lease, MINE, false),
    ] {
        let before = frame(&redis, state, stamp, Some(-1)).await;
        put(&redis, &before).await;
        assert_eq!(redis.refresh(K, MINE, value.clone(), HOUR).await.unwrap(), replaced, "{state:?}");
        assert_eq!(get(&redis).await, Some(if replaced { value.clone() } else { before }));
    }
}

#[tokio::test]
async fn a_wake_reaches_the_channel_only_if_somebody_waits() {
    let (_server, redis) = up().await;
    let line = Line { seq: "{ns}:seq".into(), channel: CH.into(), tags: "{ns}:tags:".into() };
    let mut listener = redis.subscribe(&[line]).await.unwrap();
    let value = frame(&redis, State::Value, OTHER, None).await;
    for waits in [false, true] {
        for fills in [false, true] {
            assert_eq!(redis.lease(K, MINE, SPAN).await.unwrap(), Lease::Granted);
            if waits {
                assert!(matches!(redis.wait(K, MINE).await.unwrap(), Wait::Flagged { .. }));
            }
            let done = if fills {
                redis.fill(K, MINE, value.clone(), HOUR, CH).await
            } else {
                redis.release(K, MINE, CH).await
            };
            assert!(done.unwrap());
            let () = redis.raw().del(K).await.unwrap();
        }
    }
    let () = redis.raw().publish(CH, "end").await.unwrap();
    for expect in [Some(Message::Wake { key: K.to_owned() }), Some(Message::Wake { key: K.to_owned() }), None] {
        let event = tokio::time::timeout(SPAN, listener.next()).await.unwrap();
        let Some(BusEvent::Message { line: 0, payload }) = event else { panic!("{event:?}") };
        assert_eq!(Message::parse(&payload), expect);
    }
}

#[tokio::test]
async fn with_full_memory_leases_are_given_back_but_nothing_is_stored() {
    let (server, redis) = up().await;
    for state in [State::Lease, State::Stale] {
        put(&redis, &frame(&redis, state, MINE, Some(60_000)).await).await;
        server.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
        assert!(matches!(redis.wait(K, MINE).await.unwrap(), Wait::Flagged { .. }), "{state:?}");
        assert!(redis.renew(K, MINE, SPAN).await.unwrap(), "{state:?}");
        let fault = redis.fill(K, MINE, Bytes::from_static(b"x"), HOUR, CH).await.unwrap_err();
        assert_eq!(fault.reply(), Some(Reply::OutOfMemory));
        assert!(redis.release(K, MINE, CH).await.unwrap(), "{state:?}");
        server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
        match state {
            State::Lease => assert_eq!(get(&redis).await, None),
            _ => assert_eq!(parsed(get(&redis).await).header.stamp, Stamp::NONE),
        }
    }
}

/// A ttl of 0 removes a key, and what is then written in place is a new one, without ttl and without head.
#[tokio::test]
async fn a_frame_that_is_changed_in_its_last_millisecond_keeps_a_ttl() {
    let (_server, redis) = up().await;
    let soften = Change::Soften { grace: HOUR };
    let line = Line { seq: "{ns}:seq".into(), channel: CH.into(), tags: "{ns}:tags:".into() };
    for round in 0..60 {
        let stale = frame(&redis, State::Value, OTHER, Some(-1)).await;
        let () = redis.raw().pset_ex(K, &stale[..], 4).await.unwrap();
        // without a pause, until it is gone: one of these meets its last millisecond
        let mut token = 0;
        while get(&redis).await.is_some_and(|bytes| bytes.len() >= HEADER) && token < 1000 {
            token += 1;
            match round % 3 {
                0 => drop(redis.lease(K, Stamp(token), Duration::from_millis(1)).await.unwrap()),
                1 => {
                    redis.lease(K, MINE, SPAN).await.unwrap();
                    redis.renew(K, MINE, SPAN).await.unwrap();
                    redis.release(K, MINE, CH).await.unwrap();
                }
                _ => drop(redis.change(&line, NodeId(1), &[K], soften.clone()).await.unwrap()),
            }
            let ttl: i64 = redis::cmd("PTTL").arg(K).query_async(&mut redis.raw()).await.unwrap();
            assert_ne!(ttl, -1, "round {round}: {:?}", get(&redis).await);
            if ttl > 100 {
                break;
            }
        }
        let () = redis.raw().del(K).await.unwrap();
    }
}
