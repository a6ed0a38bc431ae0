//! Atomic values.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::leases::ROOMY;
use super::limits::{bad_keys, bad_ttls, refused};
use crate::ErrorKind;
use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::LONG;
use crate::testkit::wait::eventually;

cases! { "atomic", [Service, Atomic]:
    "`set_if_absent` stores only if the key is missing." => set_if_absent_stores_once,
    "Of many `set_if_absent` at once one stores." => set_if_absent_has_one_winner,
    "`compare_and_set` stores only over exactly the expected bytes." => compare_and_set_needs_the_expected_bytes,
    "Of many `compare_and_set` that expect the same one stores." => compare_and_set_has_one_winner,
    "`compare_and_delete` removes only exactly the expected bytes." => compare_and_delete_needs_the_expected_bytes,
    "A missing counter is 0, and `add` returns the sum." => add_returns_the_sum,
    "Concurrent `add`s lose nothing." => concurrent_adds_lose_nothing,
    "A counter is stored as decimal text." => a_counter_is_decimal_text,
    "A missing counter gets the ttl, a present one keeps the ttl that it has." => a_counter_keeps_its_ttl,
    "`add` on a key that holds no integer is `Conflict`, and nothing is changed." => add_to_no_integer_is_a_conflict,
    "A sum that overflows is `Conflict`, and nothing is changed." => an_overflow_is_a_conflict,
    "A stored value has its ttl, and an expired one is missing." => atomic_values_expire,
    "A bad key, ttl or value is refused, and nothing is touched." => bad_arguments_are_refused,
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn set_if_absent_stores_once(t: Context) {
    let (key, atomic) = (t.key("k"), t.atomic());
    assert!(atomic.set_if_absent(&key, bytes("first"), LONG).await.unwrap());
    assert!(!atomic.set_if_absent(&key, bytes("second"), LONG).await.unwrap());
    assert_eq!(t.get(&key).await, Some(bytes("first")));
    t.set(&key, "", LONG).await;
    assert!(!atomic.set_if_absent(&key, bytes("third"), LONG).await.unwrap(), "an empty value is there");
}

async fn set_if_absent_has_one_winner(t: Context) {
    for round in 0..10 {
        let mut tasks = JoinSet::new();
        for task in 0..16_u8 {
            let (t, key) = (t.clone(), t.key(&round.to_string()));
            tasks.spawn(async move {
                let stored = t.atomic().set_if_absent(&key, vec![task].into(), LONG).await.unwrap();
                stored.then_some(task)
            });
        }
        let winners: Vec<u8> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(t.get(&t.key(&round.to_string())).await.as_deref(), Some(&winners[..]));
    }
}

async fn compare_and_set_needs_the_expected_bytes(t: Context) {
    let (key, atomic) = (t.key("k"), t.atomic());
    assert!(!atomic.compare_and_set(&key, &bytes(""), bytes("new"), LONG).await.unwrap(), "a missing key isn't empty");
    assert_eq!(t.get(&key).await, None);
    t.set(&key, "old\0x", LONG).await;
    for other in ["", "old", "old\0", "old\0xy", "OLD\0x"] {
        assert!(!atomic.compare_and_set(&key, &bytes(other), bytes("new"), LONG).await.unwrap(), "{other:?}");
    }
    assert_eq!(t.get(&key).await, Some(bytes("old\0x")));
    assert!(atomic.compare_and_set(&key, &bytes("old\0x"), bytes(""), LONG).await.unwrap());
    assert!(atomic.compare_and_set(&key, &bytes(""), bytes("last"), LONG).await.unwrap());
    assert_eq!(t.get(&key).await, Some(bytes("last")));
}

async fn compare_and_set_has_one_winner(t: Context) {
    let key = t.key("k");
    t.set(&key, "0", LONG).await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (t, key) = (t.clone(), key.clone());
        tasks.spawn(async move {
            let mut done = 0;
            while done < 10 {
                let old = t.get(&key).await.unwrap();
                let n: u64 = std::str::from_utf8(&old).unwrap().parse().unwrap();
                let new = Bytes::from((n + 1).to_string());
                done += u8::from(t.atomic().compare_and_set(&key, &old, new, LONG).await.unwrap());
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(t.get(&key).await, Some(bytes("80")), "an update was lost");
}

async fn compare_and_delete_needs_the_expected_bytes(t: Context) {
    let (key, atomic) = (t.key("k"), t.atomic());
    assert!(!atomic.compare_and_delete(&key, &bytes("")).await.unwrap(), "a missing key isn't empty");
    t.set(&key, "value", LONG).await;
    assert!(!atomic.compare_and_delete(&key, &bytes("other")).await.unwrap());
    assert!(!atomic.compare_and_delete(&key, &bytes("valu")).await.unwrap());
    assert_eq!(t.get(&key).await, Some(bytes("value")));
    assert!(atomic.compare_and_delete(&key, &bytes("value")).await.unwrap());
    assert_eq!(t.get(&key).await, None);
    assert!(!atomic.compare_and_delete(&key, &bytes("value")).await.unwrap());
}

async fn add_returns_the_sum(t: Context) {
    let (key, atomic) = (t.key("k"), t.atomic());
    let mut sum = 0_i64;
    for by in [5, -7, 0, 1_000_000_007, i64::MIN / 2, 9_007_199_254_740_993] {
        sum += by;
        assert_eq!(atomic.add(&key, by, LONG).await.unwrap(), sum);
    }
}

async fn concurrent_adds_lose_nothing(t: Context) {
    let key = t.key("k");
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let (t, key) = (t.clone(), key.clone());
        tasks.spawn(async move {
            for _ in 0..20 {
                let store = if task % 2 == 0 { t.store() } else { t.second() };
                store.atomic().expect("atomic").add(&key, 3, LONG).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(t.atomic().add(&key, 0, LONG).await.unwrap(), 16 * 20 * 3);
}

async fn a_counter_is_decimal_text(t: Context) {
    let key = t.key("k");
    t.atomic().add(&key, -42, LONG).await.unwrap();
    assert_eq!(t.get(&key).await, Some(bytes("-42")));
    t.set(&key, "1700000000123456", LONG).await;
    assert_eq!(t.atomic().add(&key, 1, LONG).await.unwrap(), 1_700_000_000_123_457);
    assert_eq!(t.get(&key).await, Some(bytes("1700000000123457")));
    t.set(&key, i64::MIN.to_string(), LONG).await;
    assert_eq!(t.atomic().add(&key, i64::MAX, LONG).await.unwrap(), -1);
}

const BRIEF: Duration = Duration::from_millis(80);

async fn a_counter_keeps_its_ttl(t: Context) {
    let (brief, long) = (t.key("brief"), t.key("long"));
    t.atomic().add(&brief, 1, ROOMY).await.unwrap();
    t.atomic().add(&brief, 1, LONG).await.unwrap();
    t.atomic().add(&long, 1, LONG).await.unwrap();
    t.atomic().add(&long, 1, BRIEF).await.unwrap();
    eventually("the counter's first ttl passed", async || t.get(&brief).await.is_none()).await;
    assert_eq!(t.atomic().add(&brief, 1, LONG).await.unwrap(), 1, "a counter begins anew after its ttl");
    tokio::time::sleep(BRIEF).await;
    assert_eq!(t.get(&long).await, Some(bytes("2")), "the second add shortened the ttl");
    assert_eq!(t.get(&brief).await, Some(bytes("1")), "the counter begun anew has the old ttl");
}

async fn add_to_no_integer_is_a_conflict(t: Context) {
    let key = t.key("k");
    for text in ["", "x", "1.5", "1 ", " 1", "0x1", "9223372036854775808", "1e3"] {
        t.set(&key, text, LONG).await;
        refused(&format!("add to {text:?}"), ErrorKind::Conflict, t.atomic().add(&key, 1, LONG).await);
        assert_eq!(t.get(&key).await, Some(bytes(text)));
    }
}

async fn an_overflow_is_a_conflict(t: Context) {
    let key = t.key("k");
    for (start, by) in [(i64::MAX, 1), (i64::MIN, -1), (i64::MAX, i64::MAX)] {
        t.set(&key, start.to_string(), LONG).await;
        refused("add", ErrorKind::Conflict, t.atomic().add(&key, by, LONG).await);
        assert_eq!(t.get(&key).await, Some(Bytes::from(start.to_string())));
    }
}

async fn atomic_values_expire(t: Context) {
    let (key, atomic) = (t.key("k"), t.atomic());
    assert!(atomic.set_if_absent(&key, bytes("a"), BRIEF).await.unwrap());
    eventually("an expired value is absent", async || atomic.set_if_absent(&key, bytes("b"), LONG).await.unwrap())
        .await;
    assert!(atomic.compare_and_set(&key, &bytes("b"), bytes("c"), BRIEF).await.unwrap());
    eventually("the value set is gone", async || t.get(&key).await.is_none()).await;
    assert!(!atomic.compare_and_set(&key, &bytes("c"), bytes("d"), LONG).await.unwrap());
    assert!(!atomic.compare_and_delete(&key, &bytes("c")).await.unwrap());
}

async fn bad_arguments_are_refused(t: Context) {
    let (key, atomic, value, invalid) = (t.key("k"), t.atomic(), bytes("v"), ErrorKind::Invalid);
    for bad in bad_keys(&t) {
        refused("set_if_absent", invalid, atomic.set_if_absent(&bad, value.clone(), LONG).await);
        refused("compare_and_set", invalid, atomic.compare_and_set(&bad, &value, value.clone(), LONG).await);
        refused("compare_and_delete", invalid, atomic.compare_and_delete(&bad, &value).await);
        refused("add", invalid, atomic.add(&bad, 1, LONG).await);
    }
    for ttl in bad_ttls() {
        refused("set_if_absent", invalid, atomic.set_if_absent(&key, value.clone(), ttl).await);
        refused("compare_and_set", invalid, atomic.compare_and_set(&key, &value, value.clone(), ttl).await);
        refused("add", invalid, atomic.add(&key, 1, ttl).await);
    }
    let over = Bytes::from(vec![0; t.store().max_value() + 1]);
    refused("set_if_absent", ErrorKind::TooLarge, atomic.set_if_absent(&key, over.clone(), LONG).await);
    refused("compare_and_set", ErrorKind::TooLarge, atomic.compare_and_set(&key, &value, over, LONG).await);
    assert_eq!(t.get(&key).await, None);
}
