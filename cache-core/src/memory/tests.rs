//! What is particular to [`Memory`]; the promises of the contract are cases of the conformance suite.

use std::time::Duration;

use bytes::Bytes;

use super::Memory;
use crate::envelope::{Frame, Header};
use crate::{
    Bus, BusEvent, CacheService, Change, Clock, ErrorKind, Lease, Leases, Line, Listener, ManualClock, Message, NodeId,
    Stamp, State, Tags, Wait,
};

const NODE: NodeId = NodeId(7);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn memory() -> (Memory, ManualClock) {
    let (clock, hand) = Clock::manual();
    (Memory::builder().clock(clock).build(), hand)
}

fn line() -> Line {
    Line { seq: "ns:seq".into(), channel: "ns:ch".into(), tags: "ns:tags:".into() }
}

fn frame(key: &str, header: Header) -> Bytes {
    Frame { header, tags: Tags::default(), payload: Bytes::from_static(b"payload") }.to_bytes(key)
}

async fn state(memory: &Memory, key: &str) -> Option<State> {
    let bytes = memory.get(key).await.unwrap()?;
    Some(Frame::parse(key, &bytes).unwrap().header.state)
}

async fn delete(memory: &Memory, key: &str) -> u64 {
    memory.change(&line(), NODE, &[key], Change::Delete).await.unwrap().n
}

/// The next event, which must be there already.
async fn event(listener: &mut dyn Listener) -> BusEvent {
    tokio::time::timeout(SECOND, listener.next()).await.expect("an event is there").expect("the store is open")
}

#[tokio::test]
async fn expired_keys_do_not_pile_up_without_being_touched() {
    let (memory, hand) = memory();
    for i in 0..1000 {
        memory.set(&format!("old:{i}"), Bytes::from_static(b"x"), SECOND).await.unwrap();
    }
    hand.advance(2 * SECOND);
    for i in 0..1000 {
        memory.set(&format!("new:{i}"), Bytes::from_static(b"x"), MINUTE).await.unwrap();
    }
    assert_eq!(memory.len(), 1000);
}

#[tokio::test]
async fn the_bytes_stay_within_the_bound_and_what_is_read_stays_longest() {
    let memory = Memory::builder().bytes(100_000).build();
    let value = Bytes::from(vec![0; 1000]);
    memory.set("hot", value.clone(), MINUTE).await.unwrap();
    let n = delete(&memory, "other").await;
    for i in 0..1000 {
        memory.set(&format!("cold:{i}"), value.clone(), MINUTE).await.unwrap();
        assert!(memory.weight() <= 100_000);
        assert!(memory.exists("hot").await.unwrap(), "after {i}");
    }
    // entries are some 1,170 bytes: at most 85 fit, and those are the last ones
    for i in 0..900 {
        assert!(!memory.exists(&format!("cold:{i}")).await.unwrap(), "{i}");
    }
    assert!(memory.exists("cold:999").await.unwrap());
    assert_eq!(delete(&memory, "other").await, n + 1, "the sequence was evicted");
}

#[tokio::test]
async fn a_value_that_cannot_fit_is_refused() {
    let memory = Memory::builder().bytes(10_000).build();
    let error = memory.set("k", Bytes::from(vec![0; 10_000]), MINUTE).await.unwrap_err();
    assert_eq!((error.kind(), error.store(), error.operation()), (ErrorKind::TooLarge, Some("memory"), Some("set")));
    memory.set("k", Bytes::from(vec![0; memory.max_value()]), MINUTE).await.unwrap();
    assert!(memory.exists("k").await.unwrap());
}

#[tokio::test]
async fn numbers_are_never_used_twice_even_if_the_clock_stands_still() {
    let (memory, _hand) = memory();
    for _ in 0..3 {
        delete(&memory, "k").await;
    }
    let last = delete(&memory, "k").await;
    memory.flush();
    assert!(delete(&memory, "k").await > last);
    memory.restart();
    let beat = memory.beat(&line()).await.unwrap();
    assert!(beat.created && beat.seq.unwrap() > last + 1);
}

#[tokio::test]
async fn a_restart_changes_the_run_loses_the_keys_and_breaks_subscriptions() {
    let (memory, _hand) = memory();
    let before = memory.beat(&line()).await.unwrap();
    let mut listener = memory.subscribe(&[line()]).await.unwrap();
    memory.set("k", Bytes::new(), MINUTE).await.unwrap();
    memory.restart();
    let after = memory.beat(&line()).await.unwrap();
    assert_ne!(before.run, after.run);
    assert!(after.created);
    assert!(!memory.exists("k").await.unwrap());
    assert_eq!(event(&mut *listener).await, BusEvent::Lost);
    assert_eq!(event(&mut *listener).await, BusEvent::Restored);
    let n = delete(&memory, "k").await;
    let BusEvent::Message { line: 0, payload } = event(&mut *listener).await else { panic!("no message") };
    assert_eq!(Message::parse(&payload), Some(Message::Keys { n, node: NODE, keys: vec!["k".into()] }));
}

#[tokio::test]
async fn a_flush_is_silent_and_the_next_beat_makes_the_sequence_again() {
    let (memory, _hand) = memory();
    let before = memory.beat(&line()).await.unwrap();
    memory.flush();
    let after = memory.beat(&line()).await.unwrap();
    assert_eq!(before.run, after.run);
    assert!(after.created && after.seq > before.seq);
    assert!(!memory.beat(&line()).await.unwrap().created);
}

#[tokio::test]
async fn a_fork_has_what_was_there_and_nothing_that_came_later() {
    let (memory, hand) = memory();
    let mut listener = memory.subscribe(&[line()]).await.unwrap();
    memory.set("k", Bytes::from_static(b"old"), MINUTE).await.unwrap();
    let n = memory.bump(&line(), NODE, 7, 1, MINUTE).await.unwrap();
    let replica = memory.fork();
    let lost = delete(&memory, "k").await;
    assert_eq!(replica.get("k").await.unwrap().as_deref(), Some(&b"old"[..]));
    let (beat, other) = (replica.beat(&line()).await.unwrap(), memory.beat(&line()).await.unwrap());
    assert_eq!((beat.seq, other.seq), (Some(n), Some(lost)));
    assert_ne!(beat.run, other.run);
    assert_eq!(replica.generations(&line(), &[7], 1, MINUTE).await.unwrap().bumps, [n]);
    assert_eq!(delete(&replica, "k").await, lost, "both give the same number to different changes");
    // a listener of the one hears nothing of the other
    for heard in [n, lost] {
        let BusEvent::Message { payload, .. } = event(&mut *listener).await else { panic!("no message") };
        assert!(
            matches!(Message::parse(&payload), Some(Message::Tag { n, .. } | Message::Keys { n, .. }) if n == heard)
        );
    }
    assert!(tokio::time::timeout(Duration::from_millis(20), listener.next()).await.is_err());
    // deadlines are the same
    replica.set("k", Bytes::new(), MINUTE).await.unwrap();
    let third = replica.fork();
    hand.advance(MINUTE);
    assert!(!third.exists("k").await.unwrap());
}

#[tokio::test]
async fn a_sequence_that_is_no_number_is_dropped_and_the_change_still_told() {
    let (memory, _hand) = memory();
    let mut listener = memory.subscribe(&[line()]).await.unwrap();
    memory.set(&line().seq, Bytes::from_static(b"junk"), MINUTE).await.unwrap();
    assert_eq!(delete(&memory, "k").await, 0);
    let BusEvent::Message { payload, .. } = event(&mut *listener).await else { panic!("no message") };
    assert!(matches!(Message::parse(&payload), Some(Message::Keys { n: 0, .. })));
    assert!(memory.beat(&line()).await.unwrap().created);
}

#[tokio::test]
async fn a_listener_that_falls_behind_is_told_so() {
    let (clock, _hand) = Clock::manual();
    let memory = Memory::builder().clock(clock).buffer(2).build();
    let mut listener = memory.subscribe(&[line()]).await.unwrap();
    for _ in 0..2 {
        delete(&memory, "k").await;
    }
    let last = delete(&memory, "k").await;
    assert_eq!(event(&mut *listener).await, BusEvent::Lost);
    assert_eq!(event(&mut *listener).await, BusEvent::Restored);
    let BusEvent::Message { payload, .. } = event(&mut *listener).await else { panic!("no message") };
    assert!(matches!(Message::parse(&payload), Some(Message::Keys { n, .. }) if n == last));
}

#[tokio::test]
async fn a_waiting_listener_wakes_and_a_dropped_wait_loses_nothing() {
    let (memory, _hand) = memory();
    let mut listener = memory.subscribe(&[line()]).await.unwrap();
    assert!(tokio::time::timeout(Duration::ZERO, listener.next()).await.is_err());
    let waiting = tokio::spawn(async move { listener.next().await });
    tokio::task::yield_now().await;
    delete(&memory, "k").await;
    let event = tokio::time::timeout(SECOND, waiting).await.expect("woken").unwrap();
    assert!(matches!(event, Some(BusEvent::Message { .. })));
}

#[tokio::test]
async fn a_soft_expired_value_carries_the_lease_and_comes_back_as_a_fallback() {
    let (memory, hand) = memory();
    let soft_exp = memory.beat(&line()).await.unwrap().server_ms + 1000;
    let fresh = frame("k", Header { soft_exp, stamp: Stamp(1), ..Header::value() });
    memory.set("k", fresh, MINUTE).await.unwrap();
    assert!(matches!(memory.lease("k", Stamp(2), SECOND).await.unwrap(), Lease::Found(_)));
    hand.advance(SECOND);
    assert_eq!(memory.lease("k", Stamp(2), SECOND).await.unwrap(), Lease::Granted);
    assert_eq!(memory.lease("k", Stamp(3), SECOND).await.unwrap(), Lease::Held { holder: Stamp(2), left: SECOND });
    assert_eq!(state(&memory, "k").await, Some(State::Stale));
    assert!(memory.release("k", Stamp(2), "ns:ch").await.unwrap());
    assert_eq!(memory.lease("k", Stamp(3), SECOND).await.unwrap(), Lease::Granted);
    assert!(!memory.fill("k", Stamp(2), Bytes::new(), SECOND, "ns:ch").await.unwrap());
}

#[tokio::test]
async fn the_token_of_no_lease_never_holds_one() {
    let (memory, _hand) = memory();
    memory.set("k", frame("k", Header::value()), MINUTE).await.unwrap();
    memory.change(&line(), NODE, &["k"], Change::Soften { grace: MINUTE }).await.unwrap();
    assert_eq!(state(&memory, "k").await, Some(State::Stale));
    assert!(!memory.fill("k", Stamp::NONE, Bytes::new(), SECOND, "ns:ch").await.unwrap());
    assert!(matches!(memory.wait("k", Stamp::NONE).await.unwrap(), Wait::Changed(_)));
    assert_eq!(memory.lease("k", Stamp::NONE, SECOND).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_hold_that_outlived_its_deadline_gives_way_to_a_lease() {
    let (memory, hand) = memory();
    let deadline = memory.beat(&line()).await.unwrap().server_ms + 1000;
    memory.set("k", Bytes::copy_from_slice(&Frame::tombstone(deadline)), MINUTE).await.unwrap();
    assert_eq!(memory.lease("k", Stamp(2), SECOND).await.unwrap(), Lease::Barred { left: SECOND });
    hand.advance(SECOND);
    assert_eq!(memory.lease("k", Stamp(2), SECOND).await.unwrap(), Lease::Granted);
    assert_eq!(state(&memory, "k").await, Some(State::Lease));
}

mod generations {
    use super::*;

    const TAG: u64 = 5;

    async fn known(memory: &Memory, period: u64) -> (u64, u64) {
        let known = memory.generations(&line(), &[TAG], period, DAY).await.unwrap();
        (known.floor, known.bumps[0])
    }

    #[tokio::test]
    async fn reach_back_over_one_change_of_period() {
        let (memory, hand) = memory();
        let (floor, _) = known(&memory, 10).await;
        let n = memory.bump(&line(), NODE, TAG, 10, DAY).await.unwrap();
        assert_eq!(known(&memory, 10).await, (floor, n));
        hand.advance(DAY);
        assert_eq!(known(&memory, 11).await, (floor, n));
        hand.advance(DAY);
        memory.beat(&line()).await.unwrap();
        assert!(known(&memory, 12).await.0 >= n, "a record lives for two periods");
    }

    #[tokio::test]
    async fn know_nothing_older_than_a_lost_record() {
        let (memory, _hand) = memory();
        known(&memory, 10).await;
        let n = memory.bump(&line(), NODE, TAG, 10, DAY).await.unwrap();
        assert!(memory.evict("ns:tags:10"));
        assert!(known(&memory, 10).await.0 >= n);

        // the newer one of two
        let n = memory.bump(&line(), NODE, TAG, 11, DAY).await.unwrap();
        assert!(memory.evict("ns:tags:11"));
        assert!(known(&memory, 11).await.0 >= n);

        // the older one of two
        let n = memory.bump(&line(), NODE, TAG, 11, DAY).await.unwrap();
        let (reach, bump) = known(&memory, 12).await;
        assert!(reach < n && bump == n);
        assert!(memory.evict("ns:tags:11"));
        assert!(known(&memory, 12).await.0 >= n);
    }

    #[tokio::test]
    async fn a_bump_by_a_process_that_is_behind_is_not_lost_with_the_old_period() {
        let (memory, _hand) = memory();
        known(&memory, 10).await;
        known(&memory, 11).await;
        let n = memory.bump(&line(), NODE, TAG, 10, DAY).await.unwrap();
        let _ = memory.evict("ns:tags:10");
        for period in [10, 11] {
            let (floor, bump) = known(&memory, period).await;
            assert!(bump == n || floor >= n, "period {period}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_behind_sees_that_the_newer_record_was_lost() {
        let (memory, _hand) = memory();
        known(&memory, 10).await;
        let n = memory.bump(&line(), NODE, TAG, 11, DAY).await.unwrap();
        assert_eq!(known(&memory, 10).await.1, n);
        assert!(memory.evict("ns:tags:11"));
        assert!(known(&memory, 10).await.0 >= n);
    }

    #[tokio::test]
    async fn a_bump_without_a_number_forgets_everything() {
        let (memory, _hand) = memory();
        let n = memory.bump(&line(), NODE, TAG, 10, DAY).await.unwrap();
        memory.set(&line().seq, Bytes::from_static(b"junk"), MINUTE).await.unwrap();
        assert_eq!(memory.bump(&line(), NODE, TAG, 10, DAY).await.unwrap(), 0);
        assert!(known(&memory, 10).await.0 > n);
    }
}

mod near {
    use std::sync::Arc;

    use super::*;
    use crate::memory::LocalMemory;
    use crate::{Entry, LocalStore, Tick};

    fn entry(bytes: usize) -> Arc<Entry> {
        Arc::new(Entry::plain(Bytes::from(vec![0; bytes]), Tick::NEVER))
    }

    #[test]
    fn the_weight_is_exact_and_within_the_budget() {
        let near = LocalMemory::new(50_000);
        for i in 0..2000_usize {
            near.put(&format!("k{}", i % 300), entry(i * 7919 % 5000));
            if i % 3 == 0 {
                near.remove(&format!("k{}", i * 31 % 300));
            }
            assert!(near.weight() <= 50_000);
        }
        let mut sum = 0;
        near.each(&mut |key, entry| {
            sum += entry.weight(key.len());
            true
        });
        assert_eq!(sum, near.weight());
    }

    #[test]
    fn an_entry_over_the_budget_is_refused_and_the_old_one_does_not_stay() {
        let near = LocalMemory::new(1000);
        near.put("k", entry(10));
        near.put("k", entry(1000));
        assert!(near.get("k").is_none());
        assert_eq!((near.len(), near.weight()), (0, 0));
    }

    #[test]
    fn what_is_read_outlives_a_scan() {
        let near = LocalMemory::new(20_000);
        near.put("hot", entry(100));
        for i in 0..1000 {
            near.put(&format!("scan:{i}"), entry(100));
            assert!(near.get("hot").is_some(), "after {i}");
        }
    }
}
