//! Counters.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;

use super::value::foreign;
use super::{BAD_TTLS, Context, bad_keys, promises, refused};
use crate::recipe::Counters;
use crate::recipe::counter::{Balances, CounterStore, InsufficientBalance, InsufficientStock, LimitExceeded};
use crate::recipe::value::Changed;
use crate::testkit::context::LONG;
use crate::testkit::eventually;
use crate::{ErrorKind, Reply};

promises! { dyn CounterStore:
    "A missing counter is `None`, and counts as 0." => a_missing_counter_counts_as_0,
    "`increment` stops at the limit, and says where it stands." => increment_stops_at_the_limit,
    "Of many concurrent increments exactly as many pass as the limit allows." => concurrent_increments_keep_the_limit,
    "`deduct` takes what is there, and tells sold out from unknown." => deduct_takes_what_is_there,
    "Of many concurrent deductions exactly the stock is sold." => concurrent_deductions_sell_the_stock,
    "`transfer` moves the whole amount or nothing." => transfer_moves_all_or_nothing,
    "Concurrent transfers keep the sum." => concurrent_transfers_keep_the_sum,
    "`get_and_set`, `set_if_absent` and `compare_and_swap` are one step each." => counters_are_set_in_one_step,
    "Integers keep all 64 bits, and an overflow is `Conflict` and changes nothing." => integers_have_64_bits,
    "Random calls agree with a simple model." => random_calls_agree_with_a_model,
    "A counter keeps the ttl that it got when it was made." => a_counter_keeps_its_ttl,
    "A renewing counter gets the whole ttl with each change." => a_renewing_counter_is_prolonged,
    "What holds no integer is `Conflict`, and it is untouched." => no_integer_is_untouched,
    "A key that holds another kind of value is `Conflict`, and it is untouched." => another_kind_is_untouched,
    "A zero or negative increment, limit, quantity or amount is refused." => amounts_are_positive,
    "A bad key or ttl is refused." => bad_arguments_are_refused,
    "A transfer from a key to itself is refused." => a_transfer_needs_two_keys,
    "Keys that a cluster keeps apart are refused with `CrossSlot`, and nothing is changed." =>
        keys_apart_are_refused_or_moved,
}

type Store = Context<dyn CounterStore>;

const BRIEF: Duration = Duration::from_millis(150);

fn counters(t: &Store) -> Counters {
    Counters::new(t.store(), LONG).expect("counters")
}

async fn a_missing_counter_counts_as_0(t: Store) {
    let counters = counters(&t);
    assert_eq!(counters.get(&t.key("add")).await.unwrap(), None);
    assert_eq!(counters.add(&t.key("add"), -3).await.unwrap(), -3);
    assert_eq!(counters.get(&t.key("add")).await.unwrap(), Some(-3));
    assert_eq!(counters.increment(&t.key("inc"), 2, 2).await.unwrap(), Ok(2));
    assert_eq!(t.store().get(&t.key("add")).await.unwrap().as_deref(), Some(&b"-3"[..]), "it is decimal text");
}

async fn increment_stops_at_the_limit(t: Store) {
    let (counters, key) = (counters(&t), t.key("k"));
    assert_eq!(counters.increment(&key, 4, 3).await.unwrap(), Err(LimitExceeded { current: 0 }));
    assert_eq!(counters.get(&key).await.unwrap(), None, "a refusal made a counter");
    assert_eq!(counters.increment(&key, 2, 3).await.unwrap(), Ok(2));
    assert_eq!(counters.increment(&key, 2, 3).await.unwrap(), Err(LimitExceeded { current: 2 }));
    assert_eq!(counters.increment(&key, 1, 3).await.unwrap(), Ok(3));
    assert_eq!(counters.increment(&key, 1, 3).await.unwrap(), Err(LimitExceeded { current: 3 }));
    assert_eq!(counters.increment(&key, i64::MAX, 3).await.unwrap(), Err(LimitExceeded { current: 3 }));
    assert_eq!(counters.get(&key).await.unwrap(), Some(3));
}

async fn concurrent_increments_keep_the_limit(t: Store) {
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (counters, key) = (counters(&t), t.key("k"));
        tasks.spawn(async move {
            let mut passed = 0;
            for _ in 0..10 {
                passed += i64::from(counters.increment(&key, 3, 100).await.unwrap().is_ok());
            }
            passed
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<i64>(), 33);
    assert_eq!(counters(&t).get(&t.key("k")).await.unwrap(), Some(99));
}

async fn deduct_takes_what_is_there(t: Store) {
    let (counters, key) = (counters(&t), t.key("k"));
    assert_eq!(counters.deduct(&key, 1).await.unwrap(), Err(InsufficientStock { stock: None }));
    assert_eq!(counters.get(&key).await.unwrap(), None, "a refusal made a counter");
    counters.set(&key, 5).await.unwrap();
    assert_eq!(counters.deduct(&key, 3).await.unwrap(), Ok(2));
    assert_eq!(counters.deduct(&key, 3).await.unwrap(), Err(InsufficientStock { stock: Some(2) }));
    assert_eq!(counters.deduct(&key, 2).await.unwrap(), Ok(0));
    assert_eq!(counters.deduct(&key, 1).await.unwrap(), Err(InsufficientStock { stock: Some(0) }));
    assert_eq!(counters.deduct(&key, i64::MAX).await.unwrap(), Err(InsufficientStock { stock: Some(0) }));
}

async fn concurrent_deductions_sell_the_stock(t: Store) {
    let key = t.key("k");
    counters(&t).set(&key, 100).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 1..=16 {
        let (counters, key) = (counters(&t), key.clone());
        tasks.spawn(async move {
            let mut sold = 0;
            for _ in 0..10 {
                let quantity = 1 + task % 2;
                sold += counters.deduct(&key, quantity).await.unwrap().map_or(0, |_| quantity);
            }
            sold
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<i64>(), 100);
    assert_eq!(counters(&t).get(&key).await.unwrap(), Some(0));
}

async fn transfer_moves_all_or_nothing(t: Store) {
    let (counters, a, b) = (counters(&t), t.key("a"), t.key("b"));
    assert_eq!(counters.transfer(&a, &b, 1).await.unwrap(), Err(InsufficientBalance { balance: None }));
    counters.set(&a, 10).await.unwrap();
    assert_eq!(counters.transfer(&a, &b, 7).await.unwrap(), Ok(Balances { from: 3, to: 7 }));
    assert_eq!(counters.transfer(&a, &b, 4).await.unwrap(), Err(InsufficientBalance { balance: Some(3) }));
    assert_eq!(counters.transfer(&b, &a, 7).await.unwrap(), Ok(Balances { from: 0, to: 10 }));
    counters.set(&b, i64::MAX - 2).await.unwrap();
    refused("an overflow", ErrorKind::Conflict, counters.transfer(&a, &b, 3).await);
    assert_eq!(counters.get(&a).await.unwrap(), Some(10), "an overflow took from the first");
    assert_eq!(counters.transfer(&a, &b, 2).await.unwrap(), Ok(Balances { from: 8, to: i64::MAX }));
    counters.set(&a, -5).await.unwrap();
    assert_eq!(counters.transfer(&a, &b, 1).await.unwrap(), Err(InsufficientBalance { balance: Some(-5) }));
}

async fn concurrent_transfers_keep_the_sum(t: Store) {
    let keys: Vec<String> = ["a", "b", "c"].map(|name| t.key(name)).into();
    for key in &keys {
        counters(&t).set(key, 20).await.unwrap();
    }
    let mut tasks = JoinSet::new();
    for task in 0..12 {
        let (counters, keys) = (counters(&t), keys.clone());
        tasks.spawn(async move {
            for round in 0..10 {
                let (from, to) = (task % 3, (task + 1 + round % 2) % 3);
                let moved = counters.transfer(&keys[from], &keys[to], 7).await.unwrap();
                assert!(moved.is_ok_and(|left| left.from >= 0) || moved.is_err());
            }
        });
    }
    while let Some(end) = tasks.join_next().await {
        end.unwrap();
    }
    let mut sum = 0;
    for key in &keys {
        let held = counters(&t).get(key).await.unwrap().unwrap();
        assert!(held >= 0);
        sum += held;
    }
    assert_eq!(sum, 60);
}

async fn counters_are_set_in_one_step(t: Store) {
    let (counters, key) = (counters(&t), t.key("k"));
    assert_eq!(counters.compare_and_swap(&key, Some(0), 1).await.unwrap(), Err(Changed { current: None }));
    assert!(counters.set_if_absent(&key, 1).await.unwrap());
    assert!(!counters.set_if_absent(&key, 2).await.unwrap());
    assert_eq!(counters.get_and_set(&key, -7).await.unwrap(), Some(1));
    assert_eq!(counters.compare_and_swap(&key, Some(7), 1).await.unwrap(), Err(Changed { current: Some(-7) }));
    assert_eq!(counters.compare_and_swap(&key, None, 1).await.unwrap(), Err(Changed { current: Some(-7) }));
    assert_eq!(counters.compare_and_swap(&key, Some(-7), i64::MIN).await.unwrap(), Ok(()));
    assert_eq!(counters.get(&key).await.unwrap(), Some(i64::MIN));
    assert_eq!(counters.get_and_set(&t.key("new"), 5).await.unwrap(), None);
}

async fn integers_have_64_bits(t: Store) {
    let (counters, key) = (counters(&t), t.key("k"));
    // where numbers of 53 bits round
    for n in [(1 << 53) + 1, i64::MAX - 1, i64::MIN + 1, -(1 << 53) - 1] {
        counters.set(&key, n).await.unwrap();
        assert_eq!(counters.add(&key, 1).await.unwrap(), n + 1);
        assert_eq!(counters.add(&key, -2).await.unwrap(), n - 1);
        assert_eq!(counters.get(&key).await.unwrap(), Some(n - 1));
    }
    counters.set(&key, i64::MAX - 1).await.unwrap();
    assert_eq!(counters.increment(&key, 2, i64::MAX).await.unwrap(), Err(LimitExceeded { current: i64::MAX - 1 }));
    assert_eq!(counters.increment(&key, 1, i64::MAX).await.unwrap(), Ok(i64::MAX));
    refused("an overflow", ErrorKind::Conflict, counters.add(&key, 1).await);
    assert_eq!(counters.deduct(&key, i64::MAX).await.unwrap(), Ok(0));
    counters.set(&key, i64::MIN).await.unwrap();
    refused("an overflow", ErrorKind::Conflict, counters.add(&key, -1).await);
    assert_eq!(counters.deduct(&key, 1).await.unwrap(), Err(InsufficientStock { stock: Some(i64::MIN) }));
    assert_eq!(counters.get(&key).await.unwrap(), Some(i64::MIN));
}

async fn random_calls_agree_with_a_model(t: Store) {
    let seed = fastrand::u64(..);
    let mut random = Rng::with_seed(seed);
    let counters = counters(&t);
    let mut model: BTreeMap<String, i64> = BTreeMap::new();
    for step in 0..300 {
        let told = || format!("seed {seed}, step {step}");
        let pick = |random: &mut Rng| t.key(["a", "b", "c"][random.usize(..3)]);
        let (key, other, n) = (pick(&mut random), pick(&mut random), some(&mut random));
        let held = model.get(&key).copied();
        let sum = |by| held.unwrap_or(0).checked_add(by);
        match random.u8(..6) {
            0 => match (counters.add(&key, n).await, sum(n)) {
                (Ok(got), Some(sum)) => assert_eq!((got, model.insert(key, sum)), (sum, held), "{}", told()),
                (got, None) => drop(refused(&told(), ErrorKind::Conflict, got)),
                (got, sum) => panic!("{}: {got:?}, not {sum:?}", told()),
            },
            1 => {
                let (by, limit) = (n.saturating_abs().max(1), some(&mut random).saturating_abs().max(1));
                let expected = match sum(by).filter(|sum| *sum <= limit) {
                    Some(sum) => {
                        model.insert(key.clone(), sum);
                        Ok(sum)
                    }
                    None => Err(LimitExceeded { current: held.unwrap_or(0) }),
                };
                assert_eq!(counters.increment(&key, by, limit).await.unwrap(), expected, "{}", told());
            }
            2 => {
                let by = n.saturating_abs().max(1);
                let expected = match held.filter(|held| *held >= by) {
                    Some(held) => {
                        model.insert(key.clone(), held - by);
                        Ok(held - by)
                    }
                    None => Err(InsufficientStock { stock: held }),
                };
                assert_eq!(counters.deduct(&key, by).await.unwrap(), expected, "{}", told());
            }
            3 if key != other => {
                let by = n.saturating_abs().max(1);
                let there = model.get(&other).copied().unwrap_or(0).checked_add(by);
                let got = counters.transfer(&key, &other, by).await;
                match (held.filter(|held| *held >= by), there) {
                    (None, _) => assert_eq!(got.unwrap(), Err(InsufficientBalance { balance: held }), "{}", told()),
                    (_, None) => drop(refused(&told(), ErrorKind::Conflict, got)),
                    (Some(held), Some(to)) => {
                        assert_eq!(got.unwrap(), Ok(Balances { from: held - by, to }), "{}", told());
                        model.extend([(key, held - by), (other, to)]);
                    }
                }
            }
            4 => {
                let expected = if random.bool() { held } else { Some(n) };
                let result = counters.compare_and_swap(&key, expected, n).await.unwrap();
                assert_eq!(result.is_ok(), expected == held, "{}", told());
                if result.is_ok() {
                    model.insert(key, n);
                }
            }
            _ => assert_eq!(counters.get_and_set(&key, n).await.unwrap(), model.insert(key, n), "{}", told()),
        }
    }
    for (key, n) in model {
        assert_eq!(counters.get(&key).await.unwrap(), Some(n), "seed {seed}");
    }
}

/// An integer, often small or near an edge.
fn some(random: &mut Rng) -> i64 {
    let near = random.i64(-2..=2);
    match random.u8(..8) {
        0 => i64::MAX.saturating_add(near),
        1 => i64::MIN.saturating_add(near),
        2 => (1 << 53) + near,
        3 => -(1 << 53) + near,
        4 => random.i64(..),
        _ => random.i64(-20..=20),
    }
}

async fn a_counter_keeps_its_ttl(t: Store) {
    let (brief, long) = (Counters::new(t.store(), BRIEF).unwrap(), counters(&t));
    let [plain, within, paid, kept] = ["plain", "within", "paid", "kept"].map(|name| t.key(name));
    long.set(&kept, 10).await.unwrap();
    brief.add(&kept, 1).await.unwrap();
    brief.add(&plain, 1).await.unwrap();
    brief.increment(&within, 1, 9).await.unwrap().unwrap();
    brief.transfer(&kept, &paid, 1).await.unwrap().unwrap();
    // whatever is done meanwhile, these end with the ttl that they were made with
    eventually("counters with a brief ttl are gone", || async {
        let mut left = 0;
        for key in [&plain, &within, &paid] {
            if long.get(key).await.unwrap().is_some_and(|n| n < 5) {
                left += 1;
            }
        }
        left == 0
    })
    .await;
    assert_eq!(long.get(&kept).await.unwrap(), Some(10), "a change shortened the ttl");
}

async fn a_renewing_counter_is_prolonged(t: Store) {
    // long enough to be prolonged in time on a busy machine
    let brief = Counters::new(t.store(), BRIEF * 12).unwrap();
    let long = counters(&t).renewing();
    let keys = ["a", "b", "c", "d"].map(|name| t.key(name));
    let ends = t.key("ends");
    for key in keys.iter().chain([&ends]) {
        brief.set(key, 10).await.unwrap();
    }
    assert_eq!(long.add(&keys[0], 1).await.unwrap(), 11);
    assert_eq!(long.deduct(&keys[1], 1).await.unwrap(), Ok(9));
    assert_eq!(long.transfer(&keys[2], &keys[3], 1).await.unwrap(), Ok(Balances { from: 9, to: 11 }));
    eventually("the one that was left alone is gone", || async { long.get(&ends).await.unwrap().is_none() }).await;
    for key in &keys {
        assert!(long.get(key).await.unwrap().is_some(), "a change did not prolong");
    }
}

async fn no_integer_is_untouched(t: Store) {
    let (counters, key, fine) = (counters(&t), t.key("k"), t.key("fine"));
    counters.set(&fine, 5).await.unwrap();
    for text in ["", "x", "1.5", " 1", "1 ", "+1", "01", "-0", "1e3", "0x10", "\u{661}", "9223372036854775808", "1\n"] {
        t.store().set(&key, text.into(), LONG).await.unwrap();
        let results = [
            counters.get(&key).await.map(drop),
            counters.add(&key, 1).await.map(drop),
            counters.increment(&key, 1, 10).await.map(drop),
            counters.deduct(&key, 1).await.map(drop),
            counters.transfer(&key, &fine, 1).await.map(drop),
            counters.transfer(&fine, &key, 1).await.map(drop),
            counters.get_and_set(&key, 1).await.map(drop),
            counters.set_if_absent(&key, 1).await.map(drop),
            counters.compare_and_swap(&key, Some(1), 2).await.map(drop),
        ];
        for result in results {
            refused(text, ErrorKind::Conflict, result);
        }
        assert_eq!(t.store().get(&key).await.unwrap().as_deref(), Some(text.as_bytes()));
    }
    assert_eq!(counters.get(&fine).await.unwrap(), Some(5));
}

async fn another_kind_is_untouched(t: Store) {
    let (counters, fine) = (counters(&t), t.key("fine"));
    counters.set(&fine, 5).await.unwrap();
    let key = foreign(&*t.store(), t.key("")).await;
    let results = [
        counters.get(&key).await.map(drop),
        counters.add(&key, 1).await.map(drop),
        counters.increment(&key, 1, 10).await.map(drop),
        counters.deduct(&key, 1).await.map(drop),
        counters.transfer(&key, &fine, 1).await.map(drop),
        counters.transfer(&fine, &key, 1).await.map(drop),
        counters.get_and_set(&key, 1).await.map(drop),
        counters.set_if_absent(&key, 1).await.map(drop),
        counters.compare_and_swap(&key, Some(1), 2).await.map(drop),
    ];
    for result in results {
        assert_eq!(refused("a call", ErrorKind::Conflict, result).reply(), Some(Reply::WrongType));
    }
    assert!(t.store().exists(&key).await.unwrap(), "the foreign key is gone");
    assert_eq!(counters.get(&fine).await.unwrap(), Some(5));
}

async fn amounts_are_positive(t: Store) {
    let (counters, key, other) = (counters(&t), t.key("k"), t.key("other"));
    counters.set(&key, 5).await.unwrap();
    for n in [0, -1, i64::MIN] {
        refused("an increment", ErrorKind::Invalid, counters.increment(&key, n, 10).await);
        refused("a limit", ErrorKind::Invalid, counters.increment(&key, 1, n).await);
        refused("a quantity", ErrorKind::Invalid, counters.deduct(&key, n).await);
        refused("an amount", ErrorKind::Invalid, counters.transfer(&key, &other, n).await);
    }
    assert_eq!(counters.get(&key).await.unwrap(), Some(5));
    assert_eq!(counters.get(&other).await.unwrap(), None);
}

async fn bad_arguments_are_refused(t: Store) {
    let (counters, fine) = (counters(&t), t.key("fine"));
    for key in bad_keys() {
        refused("get", ErrorKind::Invalid, counters.get(&key).await);
        refused("add", ErrorKind::Invalid, counters.add(&key, 1).await);
        refused("increment", ErrorKind::Invalid, counters.increment(&key, 1, 1).await);
        refused("deduct", ErrorKind::Invalid, counters.deduct(&key, 1).await);
        refused("transfer", ErrorKind::Invalid, counters.transfer(&key, &fine, 1).await);
        refused("transfer", ErrorKind::Invalid, counters.transfer(&fine, &key, 1).await);
        refused("get_and_set", ErrorKind::Invalid, counters.get_and_set(&key, 1).await);
        refused("set_if_absent", ErrorKind::Invalid, counters.set_if_absent(&key, 1).await);
        refused("compare_and_swap", ErrorKind::Invalid, counters.compare_and_swap(&key, None, 1).await);
    }
    assert_eq!(counters.get(&fine).await.unwrap(), None);
    for ttl in BAD_TTLS {
        refused("a ttl", ErrorKind::Invalid, Counters::new(t.store(), ttl));
    }
}

async fn a_transfer_needs_two_keys(t: Store) {
    let (counters, key) = (counters(&t), t.key("k"));
    counters.set(&key, 5).await.unwrap();
    refused("a transfer to itself", ErrorKind::Invalid, counters.transfer(&key, &key, 1).await);
    assert_eq!(counters.get(&key).await.unwrap(), Some(5));
}

async fn keys_apart_are_refused_or_moved(t: Store) {
    let counters = counters(&t);
    let apart = |i: u32| t.key("apart").replace(['{', '}'], "") + &i.to_string();
    counters.set(&apart(0), 100).await.unwrap();
    let mut moved = 0;
    for i in 1..=20 {
        match counters.transfer(&apart(0), &apart(i), 1).await {
            Ok(balances) => {
                assert_eq!(balances, Ok(Balances { from: 100 - moved - 1, to: 1 }));
                moved += 1;
            }
            Err(error) => {
                assert_eq!((error.kind(), error.reply()), (ErrorKind::Invalid, Some(Reply::CrossSlot)), "{error}");
                assert_eq!(counters.get(&apart(i)).await.unwrap(), None);
            }
        }
    }
    assert_eq!(counters.get(&apart(0)).await.unwrap(), Some(100 - moved));
}
