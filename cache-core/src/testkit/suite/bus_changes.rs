//! The bus: what each kind of change does to its keys.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::frames::{RIVAL, TOKEN, foreign, future, negative, stale, value};
use super::leases::SPAN;
use super::races::cut;
use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::{LONG, ME};
use crate::testkit::wait::eventually;
use crate::{Change, Frame, Lease, Message, Stamp, State};

cases! { "bus", [Service, Leases, Bus]:
    "`Delete` removes values, leases, tombstones and foreign bytes, and counts them." => delete_removes_everything,
    "A fill under a lease from before a change of any kind is refused." => a_change_ends_the_lease,
    "A load that began before a change never leaves its value, however the two race." => a_fill_never_survives_a_change,
    "`Soften` keeps the payload of a value or negative as `S`, without lease." => soften_keeps_the_payload,
    "`Soften` keeps the fallback for at most the grace." => soften_keeps_for_at_most_the_grace,
    "`Soften` never prolongs what was left." => soften_never_prolongs,
    "`Soften` takes the lease from a stale value." => soften_takes_the_lease,
    "`Soften` removes everything that is no value." => soften_removes_what_is_no_value,
    "`Hold` removes values and bars fills on every key." => hold_removes_and_bars,
    "`Hold` falls by itself when its time has passed." => hold_falls_by_itself,
    "`Put` leaves its frame for its ttl." => put_leaves_its_frame,
    "`PutNewer` stores over a miss, a lease, a bar or an older row version." => put_newer_stores_over_older,
    "`PutNewer` leaves a row version at or above its own alone, be it fresh, negative or stale, and is numbered all the same." =>
        put_newer_leaves_newer_alone,
}

/// What takes a bus that sends messages.
pub(super) mod messages {
    use super::*;

    cases! { "bus", [Service, Leases, Bus, Messages]:
        "A change that is dropped is done, numbered and published, or not at all." => a_dropped_change_is_all_or_nothing,
        "A `PutNewer` that leaves a newer row alone is heard." => a_put_that_leaves_a_newer_row_is_heard,
        "A change may name thousands of keys; its parts are numbered and published one after the other." =>
            a_change_may_name_thousands_of_keys,
    }
}

async fn delete_removes_everything(t: Context) {
    let keys: Vec<String> = (0..7).map(|i| t.key(&i.to_string())).collect();
    t.put(&keys[0], &value(TOKEN, "v")).await;
    t.put(&keys[1], &negative(TOKEN)).await;
    t.put(&keys[2], &stale(value(TOKEN, "v"), Stamp::NONE, 0)).await;
    assert_eq!(t.lease(&keys[3], TOKEN, SPAN).await, Lease::Granted);
    t.set(&keys[4], Frame::tombstone(future()).to_vec(), LONG).await;
    t.set(&keys[5], "foreign", LONG).await;
    let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
    let applied = t.change(&names, Change::Delete).await;
    assert_eq!(applied.removed, 6);
    assert!(!applied.stored);
    assert!(t.store().get_many(&names).await.unwrap().iter().all(Option::is_none));
    assert_eq!(t.change(&names, Change::Delete).await.removed, 0);
}

fn every_change(key: &str) -> Vec<Change> {
    let frame = value(RIVAL, "put").to_bytes(key);
    vec![
        Change::Delete,
        Change::Soften { grace: LONG },
        Change::Hold { hold: LONG },
        Change::Put { frame: frame.clone(), ttl: LONG },
        Change::PutNewer { frame: frame.clone(), ttl: LONG },
        Change::Swap { seen: Stamp::NONE, frame, ttl: LONG },
    ]
}

async fn a_change_ends_the_lease(t: Context) {
    let key = t.key("k");
    for change in every_change(&key) {
        for old in [None, Some(stale(value(RIVAL, "old"), Stamp::NONE, 0))] {
            t.store().delete(&key).await.unwrap();
            // a row version of 0 is no version, so the put that needs a newer one would find nothing newer
            if matches!(change, Change::PutNewer { .. }) && old.is_some() {
                continue;
            }
            if let Some(old) = old {
                t.put(&key, &old).await;
            }
            assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
            t.change(&[&key], change.clone()).await;
            assert!(!t.fill(&key, TOKEN, "late").await, "filled after {change:?}");
            assert!(!t.leases().renew(&key, TOKEN, SPAN).await.unwrap(), "renewed after {change:?}");
            assert!(!t.leases().release(&key, TOKEN, &t.line().channel).await.unwrap(), "released after {change:?}");
            assert_ne!(t.payload(&key).await.as_deref(), Some(&b"late"[..]));
        }
    }
}

async fn a_fill_never_survives_a_change(t: Context) {
    for round in 0..60 {
        let key = t.key(&round.to_string());
        let token = Stamp::random();
        assert_eq!(t.lease(&key, token, SPAN).await, Lease::Granted);
        let task = tokio::spawn({
            let (t, key) = (t.clone(), key.clone());
            async move { t.fill(&key, token, "late").await }
        });
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        t.second().bus().expect("bus").change(&t.line(), ME, &[&key], Change::Delete).await.unwrap();
        task.await.unwrap();
        assert_eq!(t.get(&key).await, None, "a value from before the change was left");
    }
}

async fn a_dropped_change_is_all_or_nothing(t: Context) {
    let mut ear = t.listen(&[t.line()]).await;
    for round in 0..30 {
        let (key, marker) = (t.key(&round.to_string()), t.key("marker"));
        t.put(&key, &value(TOKEN, "v")).await;
        let before = t.last().await;
        let ended = cut(fastrand::usize(0..4), t.bus().change(&t.line(), ME, &[&key], Change::Delete)).await;
        // what was sent before the drop may still be done
        eventually("number and key agree", async || {
            let done = t.get(&key).await.is_none();
            t.last().await == before + u64::from(done) && t.get(&key).await.is_none() == done
        })
        .await;
        assert!(!ended || t.get(&key).await.is_none(), "a finished change was not done");
        let last = t.change(&[&marker], Change::Delete).await.n;
        let mut heard = Vec::new();
        while heard.last() != Some(&last) {
            match ear.message().await {
                (0, Message::Keys { n, .. }) => heard.push(n),
                other => panic!("expected a message on keys, got {other:?}"),
            }
        }
        let expected: Vec<u64> = (before + 1..=last).collect();
        assert_eq!(heard, expected);
    }
}

async fn a_change_may_name_thousands_of_keys(t: Context) {
    let mut ear = t.listen(&[t.line()]).await;
    let keys: BTreeSet<String> = (0..5000).map(|i| t.key(&i.to_string())).collect();
    let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
    let entries: Vec<_> = names.iter().map(|key| (*key, Bytes::new())).collect();
    t.store().set_many(&entries, LONG).await.unwrap();
    let before = t.last().await;
    let applied = t.change(&names, Change::Delete).await;
    assert_eq!(applied.removed, 5000);
    assert_eq!(applied.n, t.last().await);
    assert!(t.store().get_many(&names).await.unwrap().iter().all(Option::is_none));
    let mut heard = BTreeSet::new();
    for expected in before + 1..=applied.n {
        match ear.message().await {
            (0, Message::Keys { n, node: ME, keys }) => {
                assert_eq!(n, expected);
                heard.extend(keys);
            }
            other => panic!("expected a message on keys, got {other:?}"),
        }
    }
    assert!(heard == keys, "{} keys were published, not the 5000 that changed", heard.len());
}

async fn soften_keeps_the_payload(t: Context) {
    let (one, two, old) = (t.key("one"), t.key("two"), t.key("old"));
    let (first, second) = (value(TOKEN, "kept"), negative(TOKEN));
    t.put(&one, &first).await;
    t.put(&two, &second).await;
    t.put(&old, &stale(value(RIVAL, "older"), Stamp::NONE, 0)).await;
    t.change(&[&one, &two, &old, &t.key("missing")], Change::Soften { grace: LONG }).await;
    for (key, payload, tags) in [(&one, "kept", first.tags), (&two, "", second.tags)] {
        let frame = t.frame(key).await.expect("the fallback is kept");
        assert_eq!((frame.header.state, frame.header.stamp, frame.header.soft_exp), (State::Stale, Stamp::NONE, 0));
        assert_eq!((frame.payload, frame.tags), (Bytes::from(payload), tags));
        assert_eq!(t.lease(key, TOKEN, SPAN).await, Lease::Granted);
    }
    assert!(t.frame(&two).await.is_some_and(|frame| frame.header.is_negative()), "still a negative, if stale");
    assert_eq!(t.frame(&old).await.map(|frame| frame.payload), Some(Bytes::from("older")));
    assert_eq!(t.get(&t.key("missing")).await, None);
}

const BRIEF: Duration = Duration::from_millis(80);

async fn soften_keeps_for_at_most_the_grace(t: Context) {
    let key = t.key("k");
    t.put(&key, &value(TOKEN, "v")).await;
    t.change(&[&key], Change::Soften { grace: BRIEF }).await;
    if let Some(left) = t.leases().read(&key).await.unwrap().and_then(|found| found.left) {
        assert!(left <= BRIEF, "{left:?} left of {BRIEF:?}");
    }
    eventually("the fallback is gone", async || t.get(&key).await.is_none()).await;
}

async fn soften_never_prolongs(t: Context) {
    let key = t.key("k");
    t.set(&key, value(TOKEN, "v").to_bytes(&key), BRIEF).await;
    t.change(&[&key], Change::Soften { grace: LONG }).await;
    eventually("the value's own ttl passed", async || t.get(&key).await.is_none()).await;
    t.put(&key, &value(TOKEN, "v")).await;
    t.change(&[&key], Change::Soften { grace: BRIEF }).await;
    t.change(&[&key], Change::Soften { grace: LONG }).await;
    eventually("the first grace passed", async || t.get(&key).await.is_none()).await;
}

async fn soften_takes_the_lease(t: Context) {
    let key = t.key("k");
    t.put(&key, &stale(value(RIVAL, "old"), Stamp::NONE, 0)).await;
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    t.change(&[&key], Change::Soften { grace: LONG }).await;
    let frame = t.frame(&key).await.expect("the fallback is kept");
    assert_eq!((frame.header.stamp, frame.header.soft_exp), (Stamp::NONE, 0));
    assert_eq!(t.lease(&key, RIVAL, SPAN).await, Lease::Granted, "the next loader need not wait");
    assert!(!t.fill(&key, TOKEN, "late").await);
}

async fn soften_removes_what_is_no_value(t: Context) {
    let key = t.key("k");
    let mut all = foreign();
    all.push(Bytes::copy_from_slice(&Frame::lease(TOKEN, future())));
    all.push(Bytes::copy_from_slice(&Frame::tombstone(future())));
    for bytes in all {
        t.set(&key, bytes.clone(), LONG).await;
        t.change(&[&key], Change::Soften { grace: LONG }).await;
        assert_eq!(t.get(&key).await, None, "kept {}", bytes.escape_ascii());
    }
}

async fn hold_removes_and_bars(t: Context) {
    let keys = [t.key("value"), t.key("lease"), t.key("missing")];
    t.put(&keys[0], &value(TOKEN, "v")).await;
    assert_eq!(t.lease(&keys[1], TOKEN, SPAN).await, Lease::Granted);
    t.change(&keys.each_ref().map(|key| &**key), Change::Hold { hold: SPAN }).await;
    for key in &keys {
        match t.lease(key, TOKEN, SPAN).await {
            Lease::Barred { left } => assert!(left <= SPAN && left > SPAN / 2, "{left:?} left of {SPAN:?}"),
            other => panic!("expected Barred, got {other:?}"),
        }
        assert!(!t.fill(key, TOKEN, "v").await && !t.fill(key, Stamp::NONE, "v").await);
        assert_eq!(t.frame(key).await.map(|frame| frame.header.state), Some(State::Tombstone));
    }
    t.change(&[&keys[0]], Change::Delete).await;
    assert_eq!(t.lease(&keys[0], TOKEN, SPAN).await, Lease::Granted, "an invalidation lifts the bar");
}

async fn hold_falls_by_itself(t: Context) {
    let key = t.key("k");
    t.change(&[&key], Change::Hold { hold: BRIEF }).await;
    eventually("the bar fell", async || t.lease(&key, TOKEN, SPAN).await == Lease::Granted).await;
    assert!(t.fill(&key, TOKEN, "v").await);
    assert_eq!(t.payload(&key).await.as_deref(), Some(&b"v"[..]));
}

async fn put_leaves_its_frame(t: Context) {
    let key = t.key("k");
    for before in [None, Some(value(TOKEN, "old")), Some(stale(value(TOKEN, "old"), TOKEN, future()))] {
        t.store().delete(&key).await.unwrap();
        if let Some(before) = &before {
            t.put(&key, before).await;
        }
        let frame = value(RIVAL, "put").to_bytes(&key);
        let applied = t.change(&[&key], Change::Put { frame: frame.clone(), ttl: LONG }).await;
        assert!(applied.stored && applied.n > 0, "{applied:?}");
        assert_eq!(t.get(&key).await, Some(frame));
    }
    let frame = value(RIVAL, "brief").to_bytes(&key);
    t.change(&[&key], Change::Put { frame, ttl: BRIEF }).await;
    eventually("the put's ttl passed", async || t.get(&key).await.is_none()).await;
}

fn row(mut frame: Frame, row: u32) -> Frame {
    frame.header.row = row;
    frame
}

async fn put_newer(t: &Context, key: &str, version: u32) -> bool {
    let before = t.last().await;
    let frame = row(value(RIVAL, "put"), version).to_bytes(key);
    let applied = t.change(&[key], Change::PutNewer { frame: frame.clone(), ttl: LONG }).await;
    assert_eq!((applied.n, t.last().await), (before + 1, before + 1), "others may hold an older one, stored or not");
    assert_ne!(applied.stored, applied.kept);
    if applied.stored {
        assert_eq!(t.get(key).await, Some(frame));
    }
    applied.stored
}

async fn put_newer_stores_over_older(t: Context) {
    let key = t.key("k");
    assert!(put_newer(&t, &key, 1).await, "not stored over a miss");
    assert!(put_newer(&t, &key, 2).await, "not stored over an older version");
    assert!(put_newer(&t, &key, u32::MAX).await, "not stored over an older version");
    for older in [row(negative(TOKEN), 4), row(stale(value(TOKEN, "old"), TOKEN, future()), 4)] {
        t.put(&key, &older).await;
        assert!(put_newer(&t, &key, 5).await, "not stored over {:?}", older.header);
    }
    let lease = Bytes::copy_from_slice(&Frame::lease(TOKEN, future()));
    let bar = Bytes::copy_from_slice(&Frame::tombstone(future()));
    for bytes in [lease, bar, Bytes::from("foreign")] {
        t.set(&key, bytes.clone(), LONG).await;
        assert!(put_newer(&t, &key, 1).await, "not stored over {}", bytes.escape_ascii());
    }
}

async fn put_newer_leaves_newer_alone(t: Context) {
    let key = t.key("k");
    for version in [5, 6, u32::MAX] {
        let newer = row(value(TOKEN, "newer"), version);
        let gone = row(negative(TOKEN), version);
        let fallback = stale(newer.clone(), Stamp::NONE, 0);
        for held in [newer, gone, fallback] {
            t.put(&key, &held).await;
            assert!(!put_newer(&t, &key, 5).await, "stored 5 over {:?}", held.header);
            assert_eq!(t.get(&key).await, Some(held.to_bytes(&key)));
        }
    }
}

async fn a_put_that_leaves_a_newer_row_is_heard(t: Context) {
    let key = t.key("k");
    t.put(&key, &row(value(TOKEN, "loaded"), 5)).await;
    let mut ear = t.listen(&[t.line()]).await;
    let frame = row(value(RIVAL, "written"), 5).to_bytes(&key);
    let n = t.change(&[&key], Change::PutNewer { frame, ttl: LONG }).await.n;
    let (_, message) = ear.message().await;
    assert!(matches!(&message, Message::Keys { n: heard, keys, .. } if *heard == n && *keys == [key]), "{message:?}");
}
