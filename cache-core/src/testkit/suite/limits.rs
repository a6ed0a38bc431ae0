//! The service: what is refused, and that nothing was touched.

use std::time::Duration;

use bytes::Bytes;

use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::LONG;
use crate::{Error, ErrorKind, MAX_TTL};

cases! { "service", [Service]:
    "A value of the largest size is taken." => a_value_of_the_largest_size_is_taken,
    "A value over the largest size is refused with `TooLarge` before any data is touched." =>
        a_value_over_the_largest_size_is_refused,
    "A key that is empty, too long or holds a control character is refused by every method." => a_bad_key_is_refused,
    "A batch with one bad argument is refused before any data is touched." => a_batch_with_one_bad_key_does_nothing,
    "A zero ttl and one beyond ten years are refused before any data is touched." => a_bad_ttl_is_refused,
    "The longest ttl is taken." => the_longest_ttl_is_taken,
    "An error shows no key and no value." => an_error_shows_no_key_and_no_value,
}

/// Keys that every method refuses.
pub(super) fn bad_keys(t: &Context) -> Vec<String> {
    let most = t.store().max_key();
    let mut bad = vec![String::new(), "x".repeat(most + 1), t.key(&"é".repeat(most / 2))];
    bad.extend(["\n", "\0", "\r\n", "\t", "\x7f", "\u{85}", "\x1b[0m"].map(|c| t.key(&format!("bad{c}key"))));
    bad
}

/// That `result` is an error of `kind`.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(what: &str, kind: ErrorKind, result: Result<T, Error>) {
    match result {
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error}"),
        Ok(answer) => panic!("{what} was not refused: {answer:?}"),
    }
}

async fn a_value_of_the_largest_size_is_taken(t: Context) {
    let key = t.key("k");
    let value = Bytes::from(vec![b'x'; t.store().max_value()]);
    t.set(&key, value.clone(), LONG).await;
    assert!(t.get(&key).await == Some(value), "the largest value was not read back whole");
    t.store().delete(&key).await.unwrap();
}

async fn a_value_over_the_largest_size_is_refused(t: Context) {
    let (key, fine) = (t.key("k"), t.key("fine"));
    let over = Bytes::from(vec![b'x'; t.store().max_value() + 1]);
    t.set(&key, "before", LONG).await;
    refused("set", ErrorKind::TooLarge, t.store().set(&key, over.clone(), LONG).await);
    let entries = [(&*fine, Bytes::from_static(b"fine")), (&*key, over)];
    refused("set_many", ErrorKind::TooLarge, t.store().set_many(&entries, LONG).await);
    assert_eq!(t.get(&key).await.as_deref(), Some(&b"before"[..]), "the old value was touched");
    assert_eq!(t.get(&fine).await, None, "a part of a refused batch was stored");
}

async fn a_bad_key_is_refused(t: Context) {
    let (store, value) = (t.store(), Bytes::from_static(b"v"));
    for key in bad_keys(&t) {
        let invalid = ErrorKind::Invalid;
        refused("get", invalid, store.get(&key).await);
        refused("set", invalid, store.set(&key, value.clone(), LONG).await);
        refused("delete", invalid, store.delete(&key).await);
        refused("exists", invalid, store.exists(&key).await);
        refused("get_many", invalid, store.get_many(&[&key]).await);
        refused("set_many", invalid, store.set_many(&[(&key, value.clone())], LONG).await);
        refused("delete_many", invalid, store.delete_many(&[&key]).await);
    }
}

async fn a_batch_with_one_bad_key_does_nothing(t: Context) {
    let (store, value) = (t.store(), Bytes::from_static(b"new"));
    let (kept, absent) = (t.key("kept"), t.key("absent"));
    t.set(&kept, "old", LONG).await;
    for bad in bad_keys(&t) {
        refused("get_many", ErrorKind::Invalid, store.get_many(&[&kept, &bad]).await);
        refused("delete_many", ErrorKind::Invalid, store.delete_many(&[&kept, &bad]).await);
        let entries = [(&*kept, value.clone()), (&*absent, value.clone()), (&*bad, value.clone())];
        refused("set_many", ErrorKind::Invalid, store.set_many(&entries, LONG).await);
    }
    assert_eq!(t.get(&kept).await.as_deref(), Some(&b"old"[..]));
    assert_eq!(t.get(&absent).await, None);
}

/// Ttls that every method refuses.
pub(super) fn bad_ttls() -> [Duration; 4] {
    [Duration::ZERO, MAX_TTL + Duration::from_nanos(1), Duration::from_secs(u64::MAX / 1000), Duration::MAX]
}

async fn a_bad_ttl_is_refused(t: Context) {
    let (kept, absent) = (t.key("kept"), t.key("absent"));
    t.set(&kept, "old", LONG).await;
    for ttl in bad_ttls() {
        let value = Bytes::from_static(b"new");
        refused("set", ErrorKind::Invalid, t.store().set(&kept, value.clone(), ttl).await);
        let entries = [(&*absent, value.clone()), (&*kept, value)];
        refused("set_many", ErrorKind::Invalid, t.store().set_many(&entries, ttl).await);
    }
    assert_eq!(t.get(&kept).await.as_deref(), Some(&b"old"[..]));
    assert_eq!(t.get(&absent).await, None);
}

async fn the_longest_ttl_is_taken(t: Context) {
    let key = t.key("k");
    t.set(&key, "v", MAX_TTL).await;
    assert_eq!(t.get(&key).await.as_deref(), Some(&b"v"[..]));
    t.store().delete(&key).await.unwrap();
}

async fn an_error_shows_no_key_and_no_value(t: Context) {
    let key = t.key("marker\n");
    let over = Bytes::from(b"marker".repeat(t.store().max_value() / 6 + 1));
    for error in [
        t.store().get(&key).await.unwrap_err(),
        t.store().delete_many(&[&key]).await.unwrap_err(),
        t.store().set(&t.key("marker"), over, LONG).await.unwrap_err(),
        t.store().set(&t.key("marker"), Bytes::from_static(b"marker"), Duration::ZERO).await.unwrap_err(),
    ] {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("marker") && !text.contains(t.id()), "{text}");
    }
}
