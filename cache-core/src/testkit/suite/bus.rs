//! The bus: numbers, messages, beats, subscriptions.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;

use super::limits::{bad_keys, refused};
use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::{Ear, LONG, ME, OTHER};
use crate::testkit::wait::{PATIENCE, within};
use crate::{BusEvent, Change, ErrorKind, Line, Message, Stamp};

cases! { "bus", [Service, Bus]:
    "A change has the number after the last one." => numbers_increase_by_one,
    "Every kind of change is numbered in the same line." => every_kind_of_change_is_numbered,
    "Lines are numbered apart." => lines_are_numbered_apart,
    "A line's first number comes from the server's clock, in microseconds." => the_first_number_comes_from_the_clock,
    "The first beat makes the sequence and says so; a later one doesn't." => the_first_beat_makes_the_sequence,
    "The beat's number is the number of the last change." => the_beat_knows_the_last_number,
    "A change on a fresh line makes the sequence." => a_change_makes_the_sequence,
    "The beat tells the store's clock and run." => the_beat_tells_clock_and_run,
    "A change with a bad key is refused, and nothing is touched or numbered." => a_bad_change_is_refused,
}

/// What takes a bus that sends messages.
pub(super) mod messages {
    use super::*;

    cases! { "bus", [Service, Bus, Messages]:
        "A change publishes its number, node and keys." => a_change_is_published,
        "Another node's changes are heard, and so are one's own." => every_nodes_changes_are_heard,
        "When the message is heard, the change is done." => the_change_is_done_when_it_is_heard,
        "A subscription is open when `subscribe` returns." => a_subscription_is_open_when_it_returns,
        "A message comes with the index of its line." => a_message_knows_its_line,
        "Messages of other lines are not heard." => other_lines_are_not_heard,
        "Every listener hears every message." => every_listener_hears_every_message,
        "A dropped listener does no harm." => a_dropped_listener_does_no_harm,
        "Dropping `next` loses no event." => dropping_next_loses_no_event,
        "A listener that doesn't read holds nobody up, and is told what it lost." => a_slow_listener_holds_nobody_up,
        "Concurrent changes have different numbers without gaps, and all are heard." => concurrent_changes_have_no_gaps,
    }
}

impl Context {
    pub(super) async fn change(&self, keys: &[&str], change: Change) -> crate::Applied {
        self.bus().change(&self.line(), ME, keys, change).await.expect("change")
    }

    /// The number of the last change.
    pub(super) async fn last(&self) -> u64 {
        self.bus().beat(&self.line()).await.expect("beat").seq.expect("a sequence")
    }
}

async fn numbers_increase_by_one(t: Context) {
    let mut last = t.last().await;
    for i in 0..20 {
        let n = t.change(&[&t.key(&i.to_string())], Change::Delete).await.n;
        assert_eq!(n, last + 1);
        last = n;
    }
}

async fn every_kind_of_change_is_numbered(t: Context) {
    let (key, mut last) = (t.key("k"), t.last().await);
    let frame = super::frames::value(super::frames::TOKEN, "v").to_bytes(&key);
    for change in [
        Change::Delete,
        Change::Put { frame: frame.clone(), ttl: LONG },
        Change::Soften { grace: LONG },
        Change::Hold { hold: Duration::from_millis(1) },
        Change::Delete,
        Change::PutNewer { frame, ttl: LONG },
        Change::Soften { grace: LONG },
        Change::Soften { grace: LONG },
    ] {
        let n = t.change(&[&key], change.clone()).await.n;
        assert_eq!(n, last + 1, "{change:?}");
        last = n;
    }
    let n = t.bus().bump(&t.line(), ME, 5, 100, LONG).await.unwrap();
    assert_eq!(n, last + 1, "a bump is numbered like any change");
    assert_eq!(t.last().await, n);
}

async fn lines_are_numbered_apart(t: Context) {
    let (one, two) = (t.line_called("1"), t.line_called("2"));
    let before = t.bus().beat(&two).await.unwrap().seq;
    for _ in 0..5 {
        t.bus().change(&one, ME, &[&t.key("k")], Change::Delete).await.unwrap();
    }
    assert_eq!(t.bus().beat(&two).await.unwrap().seq, before);
}

async fn the_first_number_comes_from_the_clock(t: Context) {
    let beat = t.bus().beat(&t.line()).await.unwrap();
    // a store without so fine a clock may begin at the start of its run, and count on
    let (first, micros) = (beat.seq.unwrap(), beat.server_ms * 1000);
    assert!(first > 1_500_000_000_000_000, "{first} is no time: after the loss of all data it would come again");
    assert!(first < micros + 60_000_000, "{} µs ahead of the server's clock", first - micros);
}

async fn the_first_beat_makes_the_sequence(t: Context) {
    let first = t.bus().beat(&t.line()).await.unwrap();
    assert!(first.created && first.seq.is_some(), "{first:?}");
    for _ in 0..3 {
        let again = t.second().bus().expect("bus").beat(&t.line()).await.unwrap();
        assert!(!again.created && again.seq == first.seq, "{first:?}, then {again:?}");
    }
}

async fn the_beat_knows_the_last_number(t: Context) {
    for _ in 0..5 {
        let n = t.change(&[&t.key("k")], Change::Delete).await.n;
        assert_eq!(t.last().await, n);
    }
}

async fn a_change_makes_the_sequence(t: Context) {
    let n = t.change(&[&t.key("k")], Change::Delete).await.n;
    assert!(n > 0);
    let beat = t.bus().beat(&t.line()).await.unwrap();
    assert!(!beat.created && beat.seq == Some(n), "{beat:?} after change {n}");
}

async fn the_beat_tells_clock_and_run(t: Context) {
    let first = t.bus().beat(&t.line()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let second = t.bus().beat(&t.line()).await.unwrap();
    let passed = second.server_ms.saturating_sub(first.server_ms);
    assert!((20..20_000).contains(&passed), "the server's clock moved {passed} ms in 30 ms or a little more");
    assert!(first.server_ms > 1_500_000_000_000, "not milliseconds since 1970: {}", first.server_ms);
    assert_eq!(first.run, second.run);
    assert_eq!(t.second().bus().expect("bus").beat(&t.line()).await.unwrap().run, first.run);
}

async fn a_change_is_published(t: Context) {
    let mut ear = t.listen(&[t.line()]).await;
    let many: Vec<String> = (0..200).map(|i| t.key(&i.to_string())).collect();
    let odd = ["k", "with space", "1:x", "é 猫", "{}"].map(|name| t.key(name)).to_vec();
    for keys in [vec![t.key("one")], odd, many] {
        let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let n = t.change(&names, Change::Delete).await.n;
        assert_eq!(ear.message().await, (0, Message::Keys { n, node: ME, keys }));
    }
    let n = t.bus().bump(&t.line(), OTHER, 0xfeed, 7, LONG).await.unwrap();
    assert_eq!(ear.message().await, (0, Message::Tag { n, node: OTHER, tag: 0xfeed }));
    let n = t.bus().bump(&t.line(), ME, crate::envelope::ALL, 7, LONG).await.unwrap();
    assert_eq!(ear.message().await, (0, Message::Tag { n, node: ME, tag: crate::envelope::ALL }));
}

async fn every_nodes_changes_are_heard(t: Context) {
    let (mut ear, key) = (t.listen(&[t.line()]).await, t.key("k"));
    for node in [ME, OTHER, crate::NodeId(u64::MAX), crate::NodeId(0)] {
        let bus = t.second().bus().expect("bus");
        let n = bus.change(&t.line(), node, &[&key], Change::Delete).await.unwrap().n;
        assert_eq!(ear.message().await, (0, Message::Keys { n, node, keys: vec![key.clone()] }));
    }
}

async fn the_change_is_done_when_it_is_heard(t: Context) {
    let (mut ear, key) = (t.listen(&[t.line()]).await, t.key("k"));
    for _ in 0..50 {
        t.set(&key, "old", LONG).await;
        let task = tokio::spawn({
            let (t, key) = (t.clone(), key.clone());
            async move { t.change(&[&key], Change::Delete).await }
        });
        ear.message().await;
        assert_eq!(t.get(&key).await, None, "heard before it was done");
        task.await.unwrap();
    }
}

async fn a_subscription_is_open_when_it_returns(t: Context) {
    for i in 0..20 {
        let line = t.line_called(&i.to_string());
        let mut ear = t.listen(std::slice::from_ref(&line)).await;
        let bus = t.second().bus().expect("bus");
        let n = bus.change(&line, ME, &[&t.key("k")], Change::Delete).await.unwrap().n;
        assert!(matches!(ear.message().await, (0, Message::Keys { n: heard, .. }) if heard == n));
    }
}

async fn a_message_knows_its_line(t: Context) {
    let lines = ["a", "b", "c"].map(|name| t.line_called(name));
    let mut ear = t.listen(&lines).await;
    for i in [2, 0, 1, 1, 2] {
        let n = t.bus().change(&lines[i], ME, &[&t.key("k")], Change::Delete).await.unwrap().n;
        let (line, message) = ear.message().await;
        assert!(line == i && matches!(message, Message::Keys { n: heard, .. } if heard == n), "{line} {message:?}");
    }
}

async fn other_lines_are_not_heard(t: Context) {
    let (mine, theirs) = (t.line_called("mine"), t.line_called("theirs"));
    let mut ear = t.listen(std::slice::from_ref(&mine)).await;
    for _ in 0..3 {
        t.bus().change(&theirs, ME, &[&t.key("theirs")], Change::Delete).await.unwrap();
        t.bus().change(&mine, ME, &[&t.key("mine")], Change::Delete).await.unwrap();
        let (_, message) = ear.message().await;
        assert!(matches!(&message, Message::Keys { keys, .. } if *keys == [t.key("mine")]), "{message:?}");
    }
}

async fn every_listener_hears_every_message(t: Context) {
    let mut ears = Vec::new();
    for _ in 0..5 {
        ears.push(t.listen(&[t.line()]).await);
    }
    for _ in 0..5 {
        let n = t.change(&[&t.key("k")], Change::Delete).await.n;
        for ear in &mut ears {
            assert!(matches!(ear.message().await, (0, Message::Keys { n: heard, .. }) if heard == n));
        }
    }
}

async fn a_dropped_listener_does_no_harm(t: Context) {
    let mut stays = t.listen(&[t.line()]).await;
    for _ in 0..20 {
        let gone = t.listen(&[t.line()]).await;
        t.change(&[&t.key("k")], Change::Delete).await;
        drop(gone);
        let n = t.change(&[&t.key("k")], Change::Delete).await.n;
        stays.message().await;
        assert!(matches!(stays.message().await, (0, Message::Keys { n: heard, .. }) if heard == n));
    }
}

async fn dropping_next_loses_no_event(t: Context) {
    let mut ear = t.listen(&[t.line()]).await;
    let task = tokio::spawn({
        let t = t.clone();
        async move {
            for i in 0..100 {
                t.change(&[&t.key(&i.to_string())], Change::Delete).await;
            }
        }
    });
    let mut heard = 0;
    let end = tokio::time::Instant::now() + PATIENCE;
    while heard < 100 {
        assert!(tokio::time::Instant::now() < end, "only {heard} of 100 messages were heard");
        let patience = Duration::from_micros(fastrand::u64(0..2000));
        match tokio::time::timeout(patience, ear.0.next()).await {
            Ok(Some(BusEvent::Message { .. })) => heard += 1,
            Ok(other) => panic!("expected a message, got {other:?}"),
            Err(_) => {}
        }
    }
    task.await.unwrap();
}

async fn a_slow_listener_holds_nobody_up(t: Context) {
    const CHANGES: u64 = 3000;
    let mut ear = t.listen(&[t.line()]).await;
    let mut last = 0;
    for _ in 0..CHANGES {
        last = within("a change beside a listener that doesn't read", t.change(&[&t.key("k")], Change::Delete)).await.n;
    }
    // it hears all of them up to the last one, or is told that some are lost
    let mut heard = 0;
    loop {
        match within("an event", ear.0.next()).await {
            Some(BusEvent::Message { payload, .. }) => {
                heard += 1;
                if matches!(Message::parse(&payload), Some(Message::Keys { n, .. }) if n == last) {
                    assert_eq!(heard, CHANGES, "messages were lost in silence");
                    break;
                }
            }
            Some(BusEvent::Lost) => {
                // what was in flight may still come before the stream flows again
                while within("`Restored` after `Lost`", ear.0.next()).await != Some(BusEvent::Restored) {}
                let n = t.change(&[&t.key("k")], Change::Delete).await.n;
                until(&mut ear, n).await;
                break;
            }
            other => panic!("expected a message or `Lost`, got {other:?}"),
        }
    }
}

/// Reads on until change `last` is heard.
async fn until(ear: &mut Ear, last: u64) {
    loop {
        match within("a message", ear.0.next()).await {
            Some(BusEvent::Message { payload, .. }) => {
                if matches!(Message::parse(&payload), Some(Message::Keys { n, .. }) if n == last) {
                    return;
                }
            }
            Some(_) => {}
            None => panic!("the stream ended"),
        }
    }
}

async fn concurrent_changes_have_no_gaps(t: Context) {
    let mut ear = t.listen(&[t.line()]).await;
    let before = t.last().await;
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let t = t.clone();
        tasks.spawn(async move {
            let mut numbers = Vec::new();
            for i in 0..15 {
                let bus = if task % 2 == 0 { t.bus() } else { t.second().bus().expect("bus") };
                let key = t.key(&format!("{task}-{i}"));
                numbers.push(bus.change(&t.line(), ME, &[&key], Change::Delete).await.unwrap().n);
            }
            assert!(numbers.is_sorted(), "numbers went back within one task: {numbers:?}");
            numbers
        });
    }
    let numbers: BTreeSet<u64> = tasks.join_all().await.into_iter().flatten().collect();
    let expected: BTreeSet<u64> = (before + 1..=before + 240).collect();
    assert_eq!(numbers, expected);
    let mut heard = BTreeSet::new();
    while heard.len() < 240 {
        match ear.message().await {
            (0, Message::Keys { n, .. }) => assert!(heard.insert(n), "{n} was heard twice"),
            other => panic!("expected a message on keys, got {other:?}"),
        }
    }
    assert_eq!(heard, expected);
}

async fn a_bad_change_is_refused(t: Context) {
    let (kept, line, before) = (t.key("kept"), t.line(), t.last().await);
    t.set(&kept, "old", LONG).await;
    let refuse = async |keys: &[&str], change: Change| {
        let shown = format!("{} keys, {change:?}", keys.len());
        refused(&shown, ErrorKind::Invalid, t.bus().change(&line, ME, keys, change).await);
    };
    let frame = super::frames::value(super::frames::TOKEN, "v").to_bytes(&kept);
    for bad in bad_keys(&t) {
        refuse(&[&kept, &bad], Change::Delete).await;
        refuse(&[&kept, &bad], Change::Hold { hold: LONG }).await;
        refuse(&[&kept, &bad], Change::Soften { grace: LONG }).await;
        refuse(&[&bad], Change::Put { frame: frame.clone(), ttl: LONG }).await;
    }
    refuse(&[], Change::Delete).await;
    for ttl in super::limits::bad_ttls() {
        refuse(&[&kept], Change::Hold { hold: ttl }).await;
        refuse(&[&kept], Change::Soften { grace: ttl }).await;
        refuse(&[&kept], Change::Put { frame: frame.clone(), ttl }).await;
        refuse(&[&kept], Change::PutNewer { frame: frame.clone(), ttl }).await;
        refuse(&[&kept], Change::Swap { seen: Stamp::NONE, frame: frame.clone(), ttl }).await;
        refused("bump", ErrorKind::Invalid, t.bus().bump(&line, ME, 5, 1, ttl).await);
    }
    let two = [&*kept, &t.key("other")];
    refuse(&two, Change::Put { frame: frame.clone(), ttl: LONG }).await;
    refuse(&two, Change::PutNewer { frame: frame.clone(), ttl: LONG }).await;
    refuse(&two, Change::Swap { seen: Stamp::NONE, frame, ttl: LONG }).await;
    refuse(&[&kept], Change::PutNewer { frame: "no frame".into(), ttl: LONG }).await;
    let no_seq = Line { seq: String::new(), ..line.clone() };
    refused("beat", ErrorKind::Invalid, t.bus().beat(&no_seq).await);
    assert_eq!(t.get(&kept).await.as_deref(), Some(&b"old"[..]));
    assert_eq!(t.last().await, before, "a refused change was numbered");
}
