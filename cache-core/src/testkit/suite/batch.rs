//! The service: a batch equals the loop of its single calls.

use std::collections::HashMap;

use bytes::Bytes;

use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::LONG;

cases! { "service", [Service]:
    "`get_many` answers in the order of its keys, misses included." => get_many_keeps_the_order,
    "A batch may name a key twice." => a_batch_may_name_a_key_twice,
    "An empty batch is fine." => an_empty_batch_is_fine,
    "`set_many` stores every entry." => set_many_stores_every_entry,
    "`delete_many` removes its keys and counts those that were there." => delete_many_counts_what_was_there,
    "A batch may have thousands of keys." => a_batch_may_have_thousands_of_keys,
    "Any sequence of batches has the results of the loops of single calls." => any_batches_agree_with_a_map,
}

async fn get_many_keeps_the_order(t: Context) {
    for i in [0, 1, 3] {
        t.set(&t.scattered(i), i.to_string(), LONG).await;
    }
    let keys = [3, 2, 0, 4, 1].map(|i| t.scattered(i));
    let answers = t.store().get_many(&keys.each_ref().map(|key| &**key)).await.unwrap();
    let expected = [Some("3"), None, Some("0"), None, Some("1")].map(|v| v.map(Bytes::from));
    assert_eq!(answers, expected);
}

async fn a_batch_may_name_a_key_twice(t: Context) {
    let (key, other) = (t.key("k"), t.key("other"));
    let entries = [(&*key, "first"), (&*other, "other"), (&*key, "last")];
    let entries = entries.map(|(key, value)| (key, Bytes::from_static(value.as_bytes())));
    t.store().set_many(&entries, LONG).await.unwrap();
    let answers = t.store().get_many(&[&key, &other, &key]).await.unwrap();
    assert_eq!(answers, ["last", "other", "last"].map(|v| Some(Bytes::from_static(v.as_bytes()))));
    assert_eq!(t.store().delete_many(&[&key, &other, &key]).await.unwrap(), 2, "a key is there only once");
}

async fn an_empty_batch_is_fine(t: Context) {
    assert!(t.store().get_many(&[]).await.unwrap().is_empty());
    t.store().set_many(&[], LONG).await.unwrap();
    assert_eq!(t.store().delete_many(&[]).await.unwrap(), 0);
}

async fn set_many_stores_every_entry(t: Context) {
    let keys: Vec<String> = (0..50).map(|i| t.scattered(i)).collect();
    let entries: Vec<_> = keys.iter().map(|key| (&**key, Bytes::copy_from_slice(key.as_bytes()))).collect();
    t.set(&keys[7], "old", LONG).await;
    t.store().set_many(&entries, LONG).await.unwrap();
    for key in &keys {
        assert_eq!(t.get(key).await.as_deref(), Some(key.as_bytes()));
    }
}

async fn delete_many_counts_what_was_there(t: Context) {
    let keys: Vec<String> = (0..10).map(|i| t.scattered(i)).collect();
    for key in &keys[..7] {
        t.set(key, "v", LONG).await;
    }
    let some: Vec<&str> = keys[3..].iter().map(|key| &**key).collect();
    assert_eq!(t.store().delete_many(&some).await.unwrap(), 4);
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(t.get(key).await.is_some(), i < 3, "key {i}");
    }
}

async fn a_batch_may_have_thousands_of_keys(t: Context) {
    let keys: Vec<String> = (0..3000).map(|i| t.scattered(i)).collect();
    let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
    let entries: Vec<_> = names.iter().map(|key| (*key, Bytes::copy_from_slice(key.as_bytes()))).collect();
    t.store().set_many(&entries, LONG).await.unwrap();
    let answers = t.store().get_many(&names).await.unwrap();
    assert_eq!(answers.len(), names.len());
    for (key, answer) in names.iter().zip(answers) {
        assert_eq!(answer.as_deref(), Some(key.as_bytes()));
    }
    assert_eq!(t.store().delete_many(&names).await.unwrap(), 3000);
}

async fn any_batches_agree_with_a_map(t: Context) {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut map: HashMap<String, Bytes> = HashMap::new();
    for step in 0..150 {
        let keys: Vec<String> = (0..random.usize(0..6)).map(|_| t.scattered(random.usize(0..8))).collect();
        let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let at = format!("step {step} of seed {seed}");
        match random.u8(0..3) {
            0 => {
                let values: Vec<Bytes> = keys.iter().map(|_| Bytes::from(random.u32(..).to_string())).collect();
                let entries: Vec<_> = names.iter().copied().zip(values.iter().cloned()).collect();
                t.store().set_many(&entries, LONG).await.unwrap();
                map.extend(keys.into_iter().zip(values));
            }
            1 => {
                let expected: Vec<_> = keys.iter().map(|key| map.get(key).cloned()).collect();
                assert_eq!(t.store().get_many(&names).await.unwrap(), expected, "{at}");
            }
            _ => {
                let removed = keys.iter().filter(|key| map.remove(*key).is_some()).count() as u64;
                assert_eq!(t.store().delete_many(&names).await.unwrap(), removed, "{at}");
            }
        }
    }
}
