//! Atomic values.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{BAD_TTLS, Context, bad_keys, promises, refused};
use crate::codec::Raw;
use crate::recipe::Values;
use crate::recipe::value::{Changed, ValueStore};
use crate::testkit::context::LONG;
use crate::testkit::eventually;
use crate::{ErrorKind, Line, NodeId, Reply};

promises! { dyn ValueStore:
    "A value that was set is read back, and a missing one is `None`." => what_was_set_is_read,
    "`get_and_set` returns what was there before." => get_and_set_returns_what_was_there,
    "Of many `get_and_set` at once each sees another value before its own." => get_and_set_is_one_step,
    "`set_if_absent` stores only if the key is missing." => set_if_absent_stores_once,
    "`set_if_present` stores only if the key is there." => set_if_present_revives_nothing,
    "`compare_and_swap` stores only over exactly the expected value, and tells what is there instead." =>
        compare_and_swap_needs_the_expected_value,
    "Of many `compare_and_swap` that expect the same one stores." => compare_and_swap_loses_no_update,
    "`compare_and_delete` removes only exactly the expected value." => compare_and_delete_needs_the_expected_value,
    "Every write gives the key the whole ttl, and an expired value is missing." => values_expire,
    "A bad key, ttl or value is refused, and nothing is touched." => bad_arguments_are_refused,
    "A key that holds another kind of value is `Conflict`, and it is untouched." => another_kind_is_untouched,
}

type Store = Context<dyn ValueStore>;

fn values(t: &Store, ttl: Duration) -> Values<Bytes> {
    Values::new(t.store(), Raw, ttl).expect("values")
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn what_was_set_is_read(t: Store) {
    let (values, key) = (values(&t, LONG), t.key("k"));
    assert_eq!(values.get(&key).await.unwrap(), None);
    for text in ["", "a", "b\0c\r\n"] {
        values.set(&key, &bytes(text)).await.unwrap();
        assert_eq!(values.get(&key).await.unwrap(), Some(bytes(text)));
        assert_eq!(t.store().get(&key).await.unwrap(), Some(bytes(text)), "the key holds what the codec writes");
    }
}

async fn get_and_set_returns_what_was_there(t: Store) {
    let (values, key) = (values(&t, LONG), t.key("k"));
    assert_eq!(values.get_and_set(&key, &bytes("")).await.unwrap(), None);
    assert_eq!(values.get_and_set(&key, &bytes("b")).await.unwrap(), Some(bytes("")));
    assert_eq!(values.get_and_set(&key, &bytes("b")).await.unwrap(), Some(bytes("b")));
}

async fn get_and_set_is_one_step(t: Store) {
    let (values, key) = (values(&t, LONG), t.key("k"));
    let mut tasks = JoinSet::new();
    for task in 0..16_u8 {
        let (values, key) = (values.clone(), key.clone());
        tasks.spawn(async move {
            let mut seen = Vec::new();
            for round in 0..10_u8 {
                seen.extend(values.get_and_set(&key, &vec![task, round].into()).await.unwrap());
            }
            seen
        });
    }
    let mut seen: Vec<Bytes> = tasks.join_all().await.into_iter().flatten().collect();
    seen.extend(values.get(&key).await.unwrap());
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 160, "a value was lost, or seen twice");
}

async fn set_if_absent_stores_once(t: Store) {
    let (values, key) = (values(&t, LONG), t.key("k"));
    assert!(values.set_if_absent(&key, &bytes("")).await.unwrap());
    assert!(!values.set_if_absent(&key, &bytes("b")).await.unwrap(), "an empty value is there");
    assert_eq!(values.get(&key).await.unwrap(), Some(bytes("")));
}

async fn set_if_present_revives_nothing(t: Store) {
    let (values, key) = (values(&t, LONG), t.key("k"));
    assert!(!values.set_if_present(&key, &bytes("a")).await.unwrap());
    assert_eq!(values.get(&key).await.unwrap(), None);
    values.set(&key, &bytes("")).await.unwrap();
    assert!(values.set_if_present(&key, &bytes("b")).await.unwrap());
    assert_eq!(values.get(&key).await.unwrap(), Some(bytes("b")));
    assert!(t.store().delete(&key).await.unwrap());
    assert!(!values.set_if_present(&key, &bytes("c")).await.unwrap(), "it was revived");
}

async fn compare_and_swap_needs_the_expected_value(t: Store) {
    let (values, key) = (values(&t, LONG), t.key("k"));
    let gone = values.compare_and_swap(&key, Some(&bytes("")), &bytes("b")).await.unwrap();
    assert_eq!(gone, Err(Changed { current: None }), "a missing key isn't empty");
    assert_eq!(values.get(&key).await.unwrap(), None);
    assert_eq!(values.compare_and_swap(&key, None, &bytes("old\0x")).await.unwrap(), Ok(()));
    for other in [Some(bytes("")), Some(bytes("old")), Some(bytes("OLD\0x")), None] {
        let refused = values.compare_and_swap(&key, other.as_ref(), &bytes("new")).await.unwrap();
        assert_eq!(refused, Err(Changed { current: Some(bytes("old\0x")) }), "{other:?}");
    }
    assert_eq!(values.compare_and_swap(&key, Some(&bytes("old\0x")), &bytes("")).await.unwrap(), Ok(()));
    assert_eq!(values.get(&key).await.unwrap(), Some(bytes("")));
}

async fn compare_and_swap_loses_no_update(t: Store) {
    let (values, key) = (values(&t, LONG), t.key("k"));
    values.set(&key, &bytes("0")).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (values, key) = (values.clone(), key.clone());
        tasks.spawn(async move {
            for _ in 0..10 {
                let mut held = values.get(&key).await.unwrap().unwrap();
                loop {
                    let n: u64 = std::str::from_utf8(&held).unwrap().parse().unwrap();
                    match values.compare_and_swap(&key, Some(&held), &(n + 1).to_string().into()).await.unwrap() {
                        Ok(()) => break,
                        Err(changed) => held = changed.current.unwrap(),
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(values.get(&key).await.unwrap(), Some(bytes("80")));
}

async fn compare_and_delete_needs_the_expected_value(t: Store) {
    let (values, key) = (values(&t, LONG), t.key("k"));
    let gone = values.compare_and_delete(&key, &bytes("")).await.unwrap();
    assert_eq!(gone, Err(Changed { current: None }));
    values.set(&key, &bytes("a")).await.unwrap();
    let other = values.compare_and_delete(&key, &bytes("b")).await.unwrap();
    assert_eq!(other, Err(Changed { current: Some(bytes("a")) }));
    assert_eq!(values.compare_and_delete(&key, &bytes("a")).await.unwrap(), Ok(()));
    assert_eq!(values.get(&key).await.unwrap(), None);
}

async fn values_expire(t: Store) {
    let (brief, long) = (values(&t, Duration::from_millis(80)), values(&t, LONG));
    let keys = ["set", "swap", "absent", "cas", "kept"].map(|name| t.key(name));
    long.set(&keys[3], &bytes("a")).await.unwrap();
    brief.set(&keys[4], &bytes("a")).await.unwrap();
    long.get_and_set(&keys[4], &bytes("b")).await.unwrap();
    brief.set(&keys[0], &bytes("b")).await.unwrap();
    brief.get_and_set(&keys[1], &bytes("b")).await.unwrap();
    assert!(brief.set_if_absent(&keys[2], &bytes("b")).await.unwrap());
    assert_eq!(brief.compare_and_swap(&keys[3], Some(&bytes("a")), &bytes("b")).await.unwrap(), Ok(()));
    eventually("every value with a brief ttl is gone", || async {
        let mut left = 0;
        for key in &keys[..4] {
            left += u8::from(long.get(key).await.unwrap().is_some());
        }
        left == 0
    })
    .await;
    assert_eq!(long.get(&keys[4]).await.unwrap(), Some(bytes("b")), "a write did not renew the ttl");
}

async fn bad_arguments_are_refused(t: Store) {
    let (values, b) = (values(&t, LONG), bytes("b"));
    for key in bad_keys() {
        refused("get", ErrorKind::Invalid, values.get(&key).await);
        refused("set", ErrorKind::Invalid, values.set(&key, &b).await);
        refused("get_and_set", ErrorKind::Invalid, values.get_and_set(&key, &b).await);
        refused("set_if_absent", ErrorKind::Invalid, values.set_if_absent(&key, &b).await);
        refused("set_if_present", ErrorKind::Invalid, values.set_if_present(&key, &b).await);
        refused("compare_and_swap", ErrorKind::Invalid, values.compare_and_swap(&key, None, &b).await);
        refused("compare_and_delete", ErrorKind::Invalid, values.compare_and_delete(&key, &b).await);
    }
    for ttl in BAD_TTLS {
        refused("a ttl", ErrorKind::Invalid, Values::<Bytes>::new(t.store(), Raw, ttl));
    }
    let (key, over) = (t.key("k"), Bytes::from(vec![0; t.store().max_value() + 1]));
    values.set(&key, &b).await.unwrap();
    refused("set", ErrorKind::TooLarge, values.set(&key, &over).await);
    refused("get_and_set", ErrorKind::TooLarge, values.get_and_set(&key, &over).await);
    refused("compare_and_swap", ErrorKind::TooLarge, values.compare_and_swap(&key, Some(&b), &over).await);
    refused("set_if_absent", ErrorKind::TooLarge, values.set_if_absent(&t.key("new"), &over).await);
    assert_eq!(values.get(&key).await.unwrap(), Some(b));
    assert_eq!(values.get(&t.key("new")).await.unwrap(), None);
}

async fn another_kind_is_untouched(t: Store) {
    let (values, b) = (values(&t, LONG), bytes("b"));
    let foreign = foreign(&*t.store(), t.key("")).await;
    let results = [
        values.get(&foreign).await.map(drop),
        values.set(&foreign, &b).await,
        values.set_if_present(&foreign, &b).await.map(drop),
        values.get_and_set(&foreign, &b).await.map(drop),
        values.set_if_absent(&foreign, &b).await.map(drop),
        values.compare_and_swap(&foreign, Some(&b), &b).await.map(drop),
        values.compare_and_swap(&foreign, None, &b).await.map(drop),
        values.compare_and_delete(&foreign, &b).await.map(drop),
    ];
    for result in results {
        assert_eq!(refused("a call", ErrorKind::Conflict, result).reply(), Some(Reply::WrongType));
    }
    assert!(t.store().exists(&foreign).await.unwrap(), "the foreign key is gone");
}

/// A key that holds neither bytes nor anything of a recipe: tag generations.
pub(super) async fn foreign<S: crate::CacheService + ?Sized>(store: &S, prefix: String) -> String {
    let line = Line { seq: format!("{prefix}seq"), channel: format!("{prefix}ch"), tags: format!("{prefix}foreign") };
    store.bus().expect("a bus").bump(&line, NodeId(1), 7, 0, LONG).await.expect("a bump");
    format!("{prefix}foreign0")
}
