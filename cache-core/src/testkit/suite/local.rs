//! The store inside the process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;

use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::{Entry, Frame, Glance, Head, Header, LocalStore, Parted, Tags, Tick};

cases! { "local", [Local]:
    "`get` after `put` returns that very entry." => get_returns_the_very_entry,
    "A key in two parts is the key that they make." => a_parted_key_is_the_key,
    "A glance shows what the entry says, and the entry itself where that is not enough." => a_glance_shows_the_entry,
    "A missing key is `None`, for `get` and `remove`." => a_missing_key_is_none,
    "`put` replaces." => put_replaces,
    "`remove` returns what was there." => remove_returns_what_was_there,
    "`clear` removes everything, and the store works on." => clear_removes_everything,
    "`len`, `is_empty` and `weight` are exact once `settle` has run." => counts_are_exact_once_settled,
    "Replacing an entry counts its weight once." => replacing_counts_once,
    "The store does not judge freshness." => freshness_is_not_judged,
    "`budget` is the budget that was given." => budget_is_what_was_given,
    "`weight` stays within the budget once `settle` has run." => weight_stays_within_the_budget,
    "Sizes of all kinds, and entries that grow, stay within the budget." => odd_sizes_stay_within_the_budget,
    "An entry heavier than the whole budget is not kept." => an_entry_over_the_budget_is_not_kept,
    "`each` visits every entry once and stops when told." => each_visits_every_entry,
    "After `remove` returned, no `get` that begins later sees the entry." => removed_entries_are_never_seen,
    "After `clear` returned, no `get` that begins later sees an entry." => cleared_entries_are_never_seen,
    "Many threads at once tear nothing." => threads_tear_nothing,
}

const MIB: u64 = 1 << 20;

fn entry(len: usize) -> Arc<Entry> {
    Arc::new(Entry::plain(Bytes::from(vec![b'x'; len]), Tick::NEVER))
}

async fn get_returns_the_very_entry(t: Context) {
    let store = t.local(MIB);
    for i in 0..50 {
        let (key, entry) = (format!("k{i}"), entry(i));
        store.put(&key, Arc::clone(&entry));
        assert!(Arc::ptr_eq(&store.get(&key).expect("just put"), &entry));
    }
}

async fn a_parted_key_is_the_key(t: Context) {
    let store = t.local(MIB);
    let long = "k".repeat(200);
    let rests = ["", "k", "a:b:c", "tenant-7/product/00000001", &long];
    for (head, other) in [("3:users:", "4:users:"), ("31::", "32::"), ("1:a-space-of-more-than-16-bytes:", "1:a:")] {
        let (head, other) = (Head::new(head).expect("a head"), Head::new(other).expect("a head"));
        for (len, rest) in rests.into_iter().enumerate() {
            let key = format!("{}{rest}", head.as_str());
            store.put(&key, entry(len));
            let found = store.get_parted(&head.with(rest)).expect("just put");
            assert_eq!(found.payload().len(), len);
            assert!(store.get_parted(&other.with(rest)).is_none() && store.glance(&other.with(rest)).is_none());
            assert!(store.glance(&head.with(rest)).is_some() && store.remove(&key).is_some());
            assert!(store.get_parted(&head.with(rest)).is_none() && store.glance(&head.with(rest)).is_none());
        }
    }
}

async fn a_glance_shows_the_entry(t: Context) {
    let store = t.local(MIB);
    let tagged = Tags::new(vec![1]).expect("a tag");
    for (i, (tags, value)) in
        [(Tags::default(), Some(7)), (tagged, Some(7)), (Tags::default(), None)].into_iter().enumerate()
    {
        let key = format!("1:s:{i}");
        let header = Header { codec: 5, s0: 3, ..Header::value() };
        let plain = value.is_some() && tags.as_slice().is_empty();
        let entry = Entry::new(Frame { header, tags, payload: Bytes::new() }, Tick::from_nanos(9));
        entry.confirm(4, Tick::ZERO);
        value.into_iter().for_each(|value: u8| entry.remember(Arc::new(value)));
        store.put(&key, Arc::new(entry));
        // what is changed in place shows too
        store.get(&key).expect("just put").confirm(6, Tick::ZERO);
        match store.glance(&Parted::cut(&key)).expect("just put") {
            Glance::Whole(entry) => assert_eq!((entry.epoch(), entry.header().codec), (6, 5)),
            Glance::Part(part) => {
                assert!(plain, "tags and payload are not in a part");
                assert_eq!((part.epoch, part.attention, part.s0, part.codec), (6, Tick::from_nanos(9), 3, 5));
                assert_eq!(part.value.expect("a value").downcast_ref::<u8>(), Some(&7));
            }
        }
    }
}

async fn a_missing_key_is_none(t: Context) {
    let store = t.local(MIB);
    store.put("k", entry(1));
    assert!(store.get("kk").is_none() && store.get("").is_none() && store.remove("K").is_none());
}

async fn put_replaces(t: Context) {
    let store = t.local(MIB);
    for len in [10, 5000, 0, 77] {
        let entry = entry(len);
        store.put("k", Arc::clone(&entry));
        assert!(Arc::ptr_eq(&store.get("k").expect("just put"), &entry));
    }
    store.settle();
    assert_eq!(store.len(), 1);
}

async fn remove_returns_what_was_there(t: Context) {
    let (store, entry) = (t.local(MIB), entry(3));
    store.put("k", Arc::clone(&entry));
    assert!(Arc::ptr_eq(&store.remove("k").expect("it is there"), &entry));
    assert!(store.get("k").is_none() && store.remove("k").is_none());
    store.put("k", Arc::clone(&entry));
    assert!(store.get("k").is_some(), "a key can be put again after its removal");
}

async fn clear_removes_everything(t: Context) {
    let store = t.local(MIB);
    for i in 0..100 {
        store.put(&i.to_string(), entry(10));
    }
    store.clear();
    assert!((0..100).all(|i| store.get(&i.to_string()).is_none()));
    store.settle();
    assert!(store.is_empty() && store.weight() == 0, "{} left", store.len());
    store.put("k", entry(1));
    assert!(store.get("k").is_some());
}

async fn counts_are_exact_once_settled(t: Context) {
    let store = t.local(MIB);
    assert!(store.is_empty() && store.weight() == 0);
    let mut weight = 0;
    for i in 0..100_usize {
        let (key, entry) = ("k".repeat(i + 1), entry(i * 3));
        weight += entry.weight(key.len());
        store.put(&key, entry);
    }
    store.settle();
    assert_eq!((store.len(), store.weight(), store.is_empty()), (100, weight, false));
    weight -= store.remove("kkk").expect("it is there").weight(3);
    store.settle();
    assert_eq!((store.len(), store.weight()), (99, weight));
}

async fn replacing_counts_once(t: Context) {
    let store = t.local(MIB);
    for len in [10, 9000, 20] {
        store.put("k", entry(len));
        store.settle();
        assert_eq!((store.len(), store.weight()), (1, entry(len).weight(1)));
    }
}

async fn freshness_is_not_judged(t: Context) {
    let store = t.local(MIB);
    for deadline in [Tick::ZERO, Tick::from_nanos(1)] {
        store.put("k", Arc::new(Entry::plain(Bytes::from_static(b"v"), deadline)));
        store.settle();
        assert_eq!(store.get("k").expect("kept past its deadline").deadline(), deadline);
    }
}

async fn budget_is_what_was_given(t: Context) {
    for budget in [100_000, MIB, 64 * MIB] {
        assert_eq!(t.local(budget).budget(), budget);
    }
}

async fn weight_stays_within_the_budget(t: Context) {
    let store = t.local(200_000);
    for i in 0..3000 {
        store.put(&format!("key-{i}"), entry(1000));
    }
    store.settle();
    assert!(store.weight() <= store.budget(), "{} of {}", store.weight(), store.budget());
    assert_eq!(store.weight(), held(&*store), "the weight reported is not the weight held");
    assert!(store.weight() > store.budget() / 2, "only {} of {} used", store.weight(), store.budget());
}

/// The weight of what is really there.
fn held(store: &dyn LocalStore) -> u64 {
    let mut weight = 0;
    store.each(&mut |key, entry| {
        weight += entry.weight(key.len());
        true
    });
    weight
}

async fn odd_sizes_stay_within_the_budget(t: Context) {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let store = t.local(200_000);
    for step in 0..4000 {
        let key = format!("key-{}", random.u32(0..300));
        match random.u8(0..10) {
            0 => drop(store.remove(&key)),
            1 => drop(store.get(&key)),
            2 => store.put(&key, entry(0)),
            3 => store.put(&key, entry(random.usize(50_000..250_000))),
            _ => store.put(&key, entry(random.usize(0..3000))),
        }
        if step % 500 == 499 {
            store.settle();
            assert!(store.weight() <= store.budget(), "{} of {}, seed {seed}", store.weight(), store.budget());
            assert_eq!(store.weight(), held(&*store), "the weight reported is not the weight held, seed {seed}");
        }
    }
}

async fn an_entry_over_the_budget_is_not_kept(t: Context) {
    let store = t.local(100_000);
    store.put("small", entry(10));
    store.put("large", entry(100_001));
    store.settle();
    assert!(store.get("large").is_none());
    assert!(store.weight() <= store.budget());
    store.put("k", entry(10));
    store.put("k", entry(100_001));
    store.settle();
    assert!(store.get("k").is_none(), "neither the heavy entry nor the one that it replaced may be there");
}

async fn each_visits_every_entry(t: Context) {
    let store = t.local(MIB);
    for i in 0..50_usize {
        store.put(&format!("k{i}"), entry(i));
    }
    store.settle();
    let mut seen = BTreeSet::new();
    store.each(&mut |key, entry| {
        assert_eq!(key, format!("k{}", entry.payload().len()));
        assert!(seen.insert(key.to_owned()), "{key} was visited twice");
        true
    });
    assert_eq!(seen.len(), 50);
    let mut visits = 0;
    store.each(&mut |_, _| {
        visits += 1;
        visits < 7
    });
    assert_eq!(visits, 7);
}

/// One thread puts entries numbered upwards and takes them away; others read and compare with what is already gone.
fn never_seen_after(store: &dyn LocalStore, take: impl Fn() + Sync) {
    let gone = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while done.load(Ordering::Acquire) == 0 {
                    let gone = gone.load(Ordering::Acquire);
                    if let Some(entry) = store.get("k") {
                        let number = entry.deadline().as_nanos();
                        assert!(number > gone, "entry {number} was seen after {gone} was taken away");
                    }
                }
            });
        }
        for number in 1..=5000 {
            store.put("k", Arc::new(Entry::plain(Bytes::new(), Tick::from_nanos(number))));
            take();
            gone.store(number, Ordering::Release);
        }
        done.store(1, Ordering::Release);
    });
}

async fn removed_entries_are_never_seen(t: Context) {
    let store = t.local(MIB);
    never_seen_after(&*store, || drop(store.remove("k")));
}

async fn cleared_entries_are_never_seen(t: Context) {
    let store = t.local(MIB);
    never_seen_after(&*store, || store.clear());
}

async fn threads_tear_nothing(t: Context) {
    let store = t.local(60_000);
    thread::scope(|scope| {
        for thread in 0..4_usize {
            let store = &store;
            scope.spawn(move || {
                for i in 0..2000_usize {
                    let key = format!("{}", (thread * 31 + i * 7) % 200);
                    match i % 5 {
                        0 => drop(store.remove(&key)),
                        1 | 2 => store.put(&key, Arc::new(Entry::plain(key.repeat(200).into(), Tick::NEVER))),
                        _ => {
                            if let Some(entry) = store.get(&key) {
                                assert_eq!(entry.payload(), &key.repeat(200), "the entry of another key");
                            }
                        }
                    }
                }
            });
        }
    });
    store.settle();
    assert!(store.weight() <= store.budget());
    assert_eq!(store.weight(), held(&*store), "the weight reported is not the weight held");
}
