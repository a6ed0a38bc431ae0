//! Scanning and clearing.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::LONG;
use crate::testkit::wait::eventually;

cases! { "sweep", [Service, Sweep]:
    "`keys` returns every key that begins with the prefix, once, and no other." => keys_returns_what_begins_so,
    "`keys` finds thousands of keys." => keys_finds_thousands,
    "A prefix is taken as it is: no character of it is a pattern." => a_prefix_is_no_pattern,
    "`clear` removes every key that begins with the prefix, no other, and says how many." => clear_removes_what_begins_so,
    "A key whose ttl has passed is not found." => an_expired_key_is_not_found,
}

async fn keys_of(t: &Context, prefix: &str) -> BTreeSet<String> {
    let keys = t.sweep().keys(&t.key(prefix)).await.unwrap();
    let set: BTreeSet<String> = keys.iter().cloned().collect();
    assert_eq!(set.len(), keys.len(), "a key was returned twice");
    set
}

fn named(t: &Context, names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| t.key(name)).collect()
}

async fn keys_returns_what_begins_so(t: Context) {
    assert_eq!(keys_of(&t, "").await, BTreeSet::new());
    for name in ["a", "ab", "abc", "b", "ba", "Ab", "猫"] {
        t.set(&t.key(name), "v", LONG).await;
    }
    // the prefix stands within it, but not at its beginning
    t.set(&format!("x{}", t.key("ab")), "v", LONG).await;
    assert_eq!(keys_of(&t, "ab").await, named(&t, &["ab", "abc"]));
    assert_eq!(keys_of(&t, "").await, named(&t, &["a", "ab", "abc", "b", "ba", "Ab", "猫"]));
    assert_eq!(keys_of(&t, "猫").await, named(&t, &["猫"]));
    assert_eq!(keys_of(&t, "zz").await, BTreeSet::new());
    let everything = t.sweep().keys("").await.unwrap();
    assert!(named(&t, &["a", "b"]).iter().all(|key| everything.contains(key)), "an empty prefix begins every key");
}

async fn keys_finds_thousands(t: Context) {
    let keys: BTreeSet<String> = (0..2500).map(|i| t.key(&i.to_string())).collect();
    let entries: Vec<_> = keys.iter().map(|key| (&**key, bytes::Bytes::new())).collect();
    t.store().set_many(&entries, LONG).await.unwrap();
    assert!(keys_of(&t, "").await == keys, "not the 2500 keys that were set");
    assert_eq!(t.sweep().clear(t.prefix()).await.unwrap(), 2500);
    assert!(keys_of(&t, "").await.is_empty());
}

async fn a_prefix_is_no_pattern(t: Context) {
    let odd = ["*", "?x", "[ab]", "\\", "[^a]", "{a,b}", "%", "_"];
    for name in odd.iter().chain(&["a", "bx", "abc", "\\\\x"]) {
        t.set(&t.key(name), "v", LONG).await;
    }
    for name in odd {
        let expected = if name == "\\" { named(&t, &["\\", "\\\\x"]) } else { named(&t, &[name]) };
        assert_eq!(keys_of(&t, name).await, expected, "prefix {name:?}");
    }
    assert_eq!(t.sweep().clear(&t.key("*")).await.unwrap(), 1);
    assert!(t.store().exists(&t.key("abc")).await.unwrap());
}

async fn clear_removes_what_begins_so(t: Context) {
    for name in ["a", "ab", "abc", "b"] {
        t.set(&t.key(name), "v", LONG).await;
    }
    let within = format!("x{}", t.key("ab"));
    t.set(&within, "v", LONG).await;
    assert_eq!(t.sweep().clear(&t.key("ab")).await.unwrap(), 2);
    assert_eq!(keys_of(&t, "").await, named(&t, &["a", "b"]));
    assert_eq!(t.sweep().clear(&t.key("ab")).await.unwrap(), 0);
    assert!(t.store().exists(&within).await.unwrap(), "the prefix stands within the key, not at its beginning");
}

async fn an_expired_key_is_not_found(t: Context) {
    t.set(&t.key("brief"), "v", Duration::from_millis(50)).await;
    t.set(&t.key("long"), "v", LONG).await;
    let expected = named(&t, &["long"]);
    eventually("the expired key is not found", async || keys_of(&t, "").await == expected).await;
}
