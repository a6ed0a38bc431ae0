use std::time::Duration;

use bytes::Bytes;

use super::{Chaos, Op};
use crate::memory::Memory;
use crate::testkit::{Report, Subject, eventually, within};
use crate::{BusEvent, CacheService, Change, ErrorKind, Line, NodeId};

const TTL: Duration = Duration::from_secs(60);

fn line() -> Line {
    Line { seq: "seq".into(), channel: "ch".into(), tags: "tags:".into() }
}

async fn kind(store: &dyn CacheService) -> Option<ErrorKind> {
    store.get("k").await.err().map(|error| error.kind())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_it_keeps_the_whole_contract() {
    let store = Chaos::new(Memory::new());
    let report = Report::of(&Subject::new(store.clone())).await;
    assert!(report.failed().is_empty(), "{report}");
    for op in Op::ALL {
        assert!(store.calls(*op) > 0, "{} was never called through it", op.as_str());
    }
}

#[tokio::test]
async fn failures_come_as_often_as_asked_and_where_asked() {
    let store = Chaos::new(Memory::new());
    store.fail_next_of(Op::Set, 1, ErrorKind::Denied);
    store.fail_next(2, ErrorKind::Overloaded);
    assert_eq!(kind(&store).await, Some(ErrorKind::Overloaded));
    let set = store.set("k", Bytes::new(), TTL).await;
    assert_eq!(set.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(kind(&store).await, Some(ErrorKind::Overloaded));
    assert_eq!(kind(&store).await, None);
    assert!(!store.inner().exists("k").await.unwrap(), "a failed call was executed");
    assert_eq!((store.calls(Op::Get), store.calls(Op::Set), store.total_calls()), (3, 1, 4));
}

#[tokio::test]
async fn a_lost_reply_is_an_executed_call() {
    let store = Chaos::new(Memory::new());
    store.lose_replies(1);
    let bus = store.bus().unwrap();
    let lost = bus.change(&line(), NodeId(1), &["k"], Change::Delete).await;
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::Timeout);
    let beat = bus.beat(&line()).await.unwrap();
    assert!(!beat.created, "the change had made the sequence");
}

#[tokio::test(start_paused = true)]
async fn hanging_and_slow_calls_take_their_time() {
    let store = Chaos::new(Memory::new());
    store.hang();
    assert!(tokio::time::timeout(TTL, store.get("k")).await.is_err());
    let call = tokio::spawn({
        let store = store.clone();
        async move { store.get("k").await }
    });
    tokio::task::yield_now().await;
    assert!(!call.is_finished());
    store.unhang();
    assert_eq!(call.await.unwrap().unwrap(), None);
    store.slow(Duration::from_secs(5));
    let start = tokio::time::Instant::now();
    store.get("k").await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    store.calm();
    store.get("k").await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn scattered_replies_overtake_each_other() {
    let store = Chaos::new(Memory::new());
    let most = Duration::from_secs(5);
    store.scatter_replies(most);
    let start = tokio::time::Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..50 {
        let store = store.clone();
        calls.spawn(async move { store.get("k").await.map(|_| n) });
    }
    let mut came = Vec::new();
    while let Some(call) = calls.join_next().await {
        came.push(call.unwrap().unwrap());
    }
    assert!(!came.is_sorted() && start.elapsed() <= most, "{came:?}");
    store.calm();
    let start = tokio::time::Instant::now();
    store.get("k").await.unwrap();
    assert!(start.elapsed().is_zero());
}

#[tokio::test]
async fn a_partition_is_heard_and_loses_what_is_published() {
    let store = Chaos::new(Memory::new());
    let mut ear = store.bus().unwrap().subscribe(&[line()]).await.unwrap();
    store.partition(true);
    assert_eq!(kind(&store).await, Some(ErrorKind::Unavailable));
    assert_eq!(within("lost", ear.next()).await, Some(BusEvent::Lost));
    let inner = store.inner().bus().unwrap();
    inner.change(&line(), NodeId(2), &["lost"], Change::Delete).await.unwrap();
    eventually("the message is dropped", async || store.dropped() == 1).await;
    store.partition(false);
    assert_eq!(within("restored", ear.next()).await, Some(BusEvent::Restored));
    inner.change(&line(), NodeId(2), &["heard"], Change::Delete).await.unwrap();
    match within("a message", ear.next()).await {
        Some(BusEvent::Message { payload, .. }) => assert!(payload.ends_with(b"5:heard")),
        other => panic!("{other:?}"),
    }
    store.partition(true);
    store.partition(false);
    assert_eq!(within("lost", ear.next()).await, Some(BusEvent::Lost), "a short partition is told too");
    assert_eq!(within("restored", ear.next()).await, Some(BusEvent::Restored));
}

#[tokio::test]
async fn muted_messages_are_lost_in_silence() {
    let store = Chaos::new(Memory::new());
    let bus = store.bus().unwrap();
    let mut ear = bus.subscribe(&[line()]).await.unwrap();
    store.mute(true);
    bus.change(&line(), NodeId(2), &["lost"], Change::Delete).await.unwrap();
    eventually("the message is dropped", async || store.dropped() == 1).await;
    store.mute(false);
    bus.change(&line(), NodeId(2), &["heard"], Change::Delete).await.unwrap();
    match within("a message", ear.next()).await {
        Some(BusEvent::Message { payload, .. }) => assert!(payload.ends_with(b"5:heard")),
        other => panic!("{other:?}"),
    }
}
