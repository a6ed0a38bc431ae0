//! The bus: a put that stands only if what was seen still does.

use std::time::Duration;

use bytes::Bytes;

use super::frames::{RIVAL, TOKEN, foreign, future, negative, past, stale, until, value};
use super::leases::SPAN;
use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::{LONG, ME};
use crate::testkit::wait::eventually;
use crate::{Change, ErrorKind, Frame, Lease, Message, Stamp};

cases! { "bus", [Service, Leases, Bus]:
    "`Swap` that saw no value stores over a miss, a lease, a fallback and foreign bytes." =>
        swap_that_saw_nothing_stores_over_no_value,
    "`Swap` never replaces a bar." => swap_never_replaces_a_bar,
    "`Swap` keeps its frame for its ttl." => swap_keeps_for_its_ttl,
    "Of many swaps that saw the same one is stored." => one_of_many_swaps_is_stored,
    "Read-modify-write by `Swap` loses no update." => no_update_is_lost,
}

/// What takes a bus that sends messages.
pub(super) mod messages {
    use super::*;

    cases! { "bus", [Service, Leases, Bus, Messages]:
        "`Swap` stores over the value or negative whose stamp was seen; it is numbered and published." =>
            swap_stores_over_what_was_seen,
        "`Swap` leaves everything else alone: nothing is changed, numbered or published." => swap_leaves_the_rest_alone,
        "`DeleteSeen` removes the value whose stamp was seen, is numbered and published, and leaves everything else alone." =>
            delete_seen_removes_what_was_seen,
    }
}

async fn swap(t: &Context, key: &str, seen: Stamp) -> bool {
    let before = (t.last().await, t.get(key).await);
    let frame = value(RIVAL, "swapped").to_bytes(key);
    let applied = t.change(&[key], Change::Swap { seen, frame: frame.clone(), ttl: LONG }).await;
    if applied.stored {
        assert_eq!(applied.n, before.0 + 1);
        assert_eq!(t.get(key).await, Some(frame));
    } else {
        assert_eq!((applied.n, applied.removed), (0, 0), "nothing changed, so there is nothing to number");
        assert_eq!((t.last().await, t.get(key).await), before);
    }
    applied.stored
}

async fn swap_stores_over_what_was_seen(t: Context) {
    let key = t.key("k");
    let mut ear = t.listen(&[t.line()]).await;
    for old in [value(TOKEN, "old"), negative(TOKEN), until(value(TOKEN, "past its soft expiry"), past())] {
        t.put(&key, &old).await;
        assert!(swap(&t, &key, TOKEN).await, "not stored over {:?}", old.header);
        let heard = Message::Keys { n: t.last().await, node: ME, keys: vec![key.clone()] };
        assert_eq!(ear.message().await, (0, heard));
    }
}

async fn swap_that_saw_nothing_stores_over_no_value(t: Context) {
    let key = t.key("k");
    assert!(swap(&t, &key, Stamp::NONE).await, "not stored over a miss");
    t.store().delete(&key).await.unwrap();
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    assert!(swap(&t, &key, Stamp::NONE).await, "not stored over a lease");
    assert!(!t.fill(&key, TOKEN, "late").await, "a load that began before the swap is not stored");
    for fallback in [stale(value(TOKEN, "old"), Stamp::NONE, 0), stale(negative(TOKEN), RIVAL, future())] {
        t.put(&key, &fallback).await;
        assert!(swap(&t, &key, Stamp::NONE).await, "not stored over {:?}", fallback.header);
    }
    for bytes in foreign() {
        t.set(&key, bytes.clone(), LONG).await;
        assert!(swap(&t, &key, Stamp::NONE).await, "not stored over {}", bytes.escape_ascii());
    }
}

async fn swap_leaves_the_rest_alone(t: Context) {
    let key = t.key("k");
    assert!(!swap(&t, &key, TOKEN).await, "stored where the value seen is gone");
    for held in [value(TOKEN, "v"), negative(TOKEN), until(value(TOKEN, "v"), past())] {
        t.put(&key, &held).await;
        assert!(!swap(&t, &key, RIVAL).await, "stored over a value that was not seen");
        assert!(!swap(&t, &key, Stamp::NONE).await, "stored over a value although none was seen");
    }
    // a token is no value's stamp
    t.put(&key, &stale(value(RIVAL, "v"), TOKEN, future())).await;
    assert!(!swap(&t, &key, TOKEN).await, "stored over a fallback whose lease has the stamp");
    t.store().delete(&key).await.unwrap();
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    assert!(!swap(&t, &key, TOKEN).await, "stored over a lease with the stamp");
    // a value without a stamp was never stored by us, and can't be told from another
    t.put(&key, &value(Stamp::NONE, "v")).await;
    assert!(!swap(&t, &key, Stamp::NONE).await, "stored over a value without a stamp");
    let mut ear = t.listen(&[t.line()]).await;
    assert!(!swap(&t, &key, TOKEN).await);
    let last = t.change(&[&t.key("marker")], Change::Delete).await.n;
    assert_eq!(ear.message().await, (0, Message::Keys { n: last, node: ME, keys: vec![t.key("marker")] }));
}

async fn swap_never_replaces_a_bar(t: Context) {
    let key = t.key("k");
    t.change(&[&key], Change::Hold { hold: LONG }).await;
    assert!(!swap(&t, &key, Stamp::NONE).await && !swap(&t, &key, TOKEN).await);
    t.set(&key, Bytes::copy_from_slice(&Frame::tombstone(past())), LONG).await;
    assert!(!swap(&t, &key, Stamp::NONE).await, "a bar stands as long as the store keeps it");
}

async fn swap_keeps_for_its_ttl(t: Context) {
    let key = t.key("k");
    let frame = value(RIVAL, "brief").to_bytes(&key);
    let ttl = Duration::from_millis(80);
    assert!(t.change(&[&key], Change::Swap { seen: Stamp::NONE, frame: frame.clone(), ttl }).await.stored);
    eventually("the ttl passed", async || t.get(&key).await.is_none()).await;
    let other = t.key("other");
    for keys in [&[][..], &[&*key, &*other]] {
        let swap = Change::Swap { seen: Stamp::NONE, frame: frame.clone(), ttl: LONG };
        assert_eq!(t.bus().change(&t.line(), ME, keys, swap).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let swap = Change::Swap { seen: Stamp::NONE, frame, ttl: Duration::ZERO };
    assert_eq!(t.bus().change(&t.line(), ME, &[&key], swap).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(t.get(&key).await, None);
}

async fn delete_seen_removes_what_was_seen(t: Context) {
    let key = t.key("k");
    let mut ear = t.listen(&[t.line()]).await;
    for held in [value(TOKEN, "v"), negative(TOKEN)] {
        t.put(&key, &held).await;
        let before = t.last().await;
        for seen in [RIVAL, Stamp::NONE] {
            let applied = t.change(&[&key], Change::DeleteSeen { seen }).await;
            assert_eq!((applied.n, applied.stored, applied.removed), (0, false, 0));
            assert_eq!((t.last().await, t.get(&key).await), (before, Some(held.to_bytes(&key))));
        }
        let applied = t.change(&[&key], Change::DeleteSeen { seen: TOKEN }).await;
        assert_eq!((applied.n, applied.stored, applied.removed), (before + 1, false, 1));
        assert_eq!(t.get(&key).await, None);
        assert_eq!(ear.message().await, (0, Message::Keys { n: before + 1, node: ME, keys: vec![key.clone()] }));
    }
    let last = t.last().await;
    t.put(&key, &stale(value(RIVAL, "v"), TOKEN, future())).await;
    for seen in [TOKEN, Stamp::NONE] {
        assert_eq!(t.change(&[&key], Change::DeleteSeen { seen }).await.n, 0, "a fallback is no value");
    }
    t.change(&[&key], Change::Hold { hold: LONG }).await;
    assert_eq!(t.change(&[&key], Change::DeleteSeen { seen: Stamp::NONE }).await.n, 0, "a bar stays");
    assert_eq!(t.last().await, last + 1);
    let two = [&*key, &t.key("other")];
    let refused = t.bus().change(&t.line(), ME, &two, Change::DeleteSeen { seen: TOKEN }).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

async fn one_of_many_swaps_is_stored(t: Context) {
    let key = t.key("k");
    for seen in [Stamp::NONE, TOKEN] {
        t.store().delete(&key).await.unwrap();
        if seen == TOKEN {
            t.put(&key, &value(TOKEN, "old")).await;
        }
        let swaps: Vec<_> = (1..=16u64)
            .map(|i| {
                let (t, key) = (t.clone(), key.clone());
                tokio::spawn(async move {
                    let frame = value(Stamp(i), &i.to_string()).to_bytes(&key);
                    let store = if i % 2 == 0 { t.store() } else { t.second() };
                    let bus = store.bus().expect("bus");
                    let swap = Change::Swap { seen, frame, ttl: LONG };
                    bus.change(&t.line(), ME, &[&key], swap).await.unwrap().stored.then_some(i)
                })
            })
            .collect();
        let mut stored = Vec::new();
        for swap in swaps {
            stored.extend(swap.await.unwrap());
        }
        let held = t.frame(&key).await.expect("one was stored").header.stamp;
        assert_eq!(stored, [held.0], "exactly the one that stands says that it was stored");
    }
}

async fn no_update_is_lost(t: Context) {
    const TASKS: u64 = 8;
    const EACH: u64 = 10;
    let key = t.key("k");
    let tasks: Vec<_> = (0..TASKS)
        .map(|i| {
            let (t, key) = (t.clone(), key.clone());
            tokio::spawn(async move {
                let bus = if i % 2 == 0 { t.store() } else { t.second() }.bus().expect("bus");
                let mut done = 0;
                while done < EACH {
                    let held = t.frame(&key).await;
                    let seen = held.as_ref().map_or(Stamp::NONE, |frame| frame.header.stamp);
                    let sum = held.map_or(0, |frame| number(&frame.payload)) + 1;
                    let frame = value(Stamp::random(), &sum.to_string()).to_bytes(&key);
                    let swap = Change::Swap { seen, frame, ttl: LONG };
                    done += u64::from(bus.change(&t.line(), ME, &[&key], swap).await.unwrap().stored);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let sum = t.frame(&key).await.expect("the sum").payload;
    assert_eq!(number(&sum), TASKS * EACH);
}

fn number(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}
