//! The service: values, keys, deletes.

use bytes::Bytes;

use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::LONG;

cases! { "service", [Service]:
    "A value set without error is read back whole." => a_value_is_read_back_whole,
    "A miss is `Ok(None)`." => a_miss_is_none,
    "Setting a key replaces its value." => setting_a_key_replaces_its_value,
    "An empty value is a value, not a miss." => an_empty_value_is_a_value,
    "A value of one byte is kept, whichever byte it is." => a_value_of_one_byte_is_kept,
    "Deleting a missing key succeeds and says `false`." => deleting_a_missing_key_says_false,
    "Deleting a present key says `true` and removes it." => deleting_a_present_key_says_true,
    "`exists` agrees with `get`." => exists_agrees_with_get,
    "A key is taken as it is: case, spaces, colons, braces, globs and Unicode." => a_key_is_taken_as_it_is,
    "A key of the longest length is taken." => a_key_of_the_longest_length_is_taken,
    "Another handle of the same store sees the same data." => another_handle_sees_the_same_data,
    "The name is a short constant in lower case." => the_name_is_a_short_constant,
    "`Debug` shows no key and no value." => debug_shows_no_key_and_no_value,
    "A value handed out does not change when the key does." => a_value_handed_out_does_not_change,
    "Any sequence of calls has the results of the same calls on a map." => any_sequence_agrees_with_a_map,
}

async fn a_value_is_read_back_whole(t: Context) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let looks_like_protocol = b"$3\r\nfoo\r\n*1\r\n+OK\r\n\0".to_vec();
    let long: Vec<u8> = (0..100_000_u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
    for (i, value) in [every_byte, looks_like_protocol, long].into_iter().enumerate() {
        let key = t.key(&format!("v{i}"));
        t.set(&key, value.clone(), LONG).await;
        assert_eq!(t.get(&key).await.as_deref(), Some(&value[..]), "value {i}");
    }
}

async fn a_miss_is_none(t: Context) {
    assert_eq!(t.store().get(&t.key("nothing")).await.expect("a miss is no error"), None);
}

async fn setting_a_key_replaces_its_value(t: Context) {
    let key = t.key("k");
    for value in ["first", "a longer second", "3rd", ""] {
        t.set(&key, value, LONG).await;
        assert_eq!(t.get(&key).await, Some(Bytes::from_static(value.as_bytes())));
    }
}

async fn an_empty_value_is_a_value(t: Context) {
    let key = t.key("k");
    t.set(&key, "", LONG).await;
    assert_eq!(t.get(&key).await, Some(Bytes::new()));
    assert!(t.store().exists(&key).await.unwrap());
    assert_eq!(t.store().get_many(&[&key]).await.unwrap(), [Some(Bytes::new())]);
    assert!(t.store().delete(&key).await.unwrap());
}

async fn a_value_of_one_byte_is_kept(t: Context) {
    let key = t.key("k");
    for byte in [0, b'\n', b'0', b'V', 0x7f, 0x80, 0xc7, 0xff] {
        t.set(&key, vec![byte], LONG).await;
        assert_eq!(t.get(&key).await.as_deref(), Some(&[byte][..]));
    }
}

async fn deleting_a_missing_key_says_false(t: Context) {
    assert!(!t.store().delete(&t.key("nothing")).await.unwrap());
}

async fn deleting_a_present_key_says_true(t: Context) {
    let (key, beside) = (t.key("k"), t.key("kk"));
    t.set(&key, "v", LONG).await;
    t.set(&beside, "w", LONG).await;
    assert!(t.store().delete(&key).await.unwrap());
    assert_eq!(t.get(&key).await, None);
    assert!(!t.store().delete(&key).await.unwrap(), "the second time nothing is there");
    assert_eq!(t.get(&beside).await.as_deref(), Some(&b"w"[..]), "a key beside it was removed too");
}

async fn exists_agrees_with_get(t: Context) {
    let key = t.key("k");
    let agree = async |present: bool| {
        assert_eq!(t.store().exists(&key).await.unwrap(), present);
        assert_eq!(t.get(&key).await.is_some(), present);
    };
    agree(false).await;
    t.set(&key, "v", LONG).await;
    agree(true).await;
    t.set(&key, "", LONG).await;
    agree(true).await;
    t.store().delete(&key).await.unwrap();
    agree(false).await;
}

async fn a_key_is_taken_as_it_is(t: Context) {
    let names = [
        "a", "A", "a ", " a", "a:b", "a::b", "a/b", "*", "?", "[a]", "{", "}", "{}", "\\", "\"'", "%41", "é",
        "e\u{301}", "猫", "🦀",
    ];
    for name in names {
        t.set(&t.key(name), name, LONG).await;
    }
    for name in names {
        assert_eq!(t.get(&t.key(name)).await.as_deref(), Some(name.as_bytes()), "key {name:?}");
    }
    assert!(t.store().delete(&t.key("*")).await.unwrap());
    assert!(t.store().exists(&t.key("a")).await.unwrap(), "a star in a key is not a pattern");
}

async fn a_key_of_the_longest_length_is_taken(t: Context) {
    let most = t.store().max_key();
    let fill = most - t.prefix().len();
    let (one, two) = (t.key(&("x".repeat(fill - 1) + "1")), t.key(&("x".repeat(fill - 1) + "2")));
    assert_eq!(one.len(), most);
    t.set(&one, "1", LONG).await;
    t.set(&two, "2", LONG).await;
    assert_eq!(t.get(&one).await.as_deref(), Some(&b"1"[..]));
    assert_eq!(t.get(&two).await.as_deref(), Some(&b"2"[..]));
}

async fn another_handle_sees_the_same_data(t: Context) {
    let key = t.key("k");
    t.set(&key, "v", LONG).await;
    assert_eq!(t.second().get(&key).await.unwrap().as_deref(), Some(&b"v"[..]));
    t.second().set(&key, Bytes::from_static(b"w"), LONG).await.unwrap();
    assert_eq!(t.get(&key).await.as_deref(), Some(&b"w"[..]));
    assert!(t.second().delete(&key).await.unwrap());
    assert_eq!(t.get(&key).await, None);
}

async fn the_name_is_a_short_constant(t: Context) {
    let name = t.store().name();
    assert!((1..=32).contains(&name.len()), "{name:?}");
    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_'), "{name:?}");
    assert_eq!(t.store().name(), name);
    assert_eq!(t.second().name(), name);
}

async fn debug_shows_no_key_and_no_value(t: Context) {
    let key = t.key("marker-in-key");
    t.set(&key, "marker-in-value", LONG).await;
    let text = format!("{:?} {:#?}", t.store(), t.store());
    assert!(!text.contains("marker-in"), "{text}");
    assert!(!text.contains(t.id()), "{text}");
}

async fn a_value_handed_out_does_not_change(t: Context) {
    let key = t.key("k");
    t.set(&key, vec![b'a'; 5000], LONG).await;
    let held = t.get(&key).await.unwrap();
    t.set(&key, vec![b'b'; 5000], LONG).await;
    t.store().delete(&key).await.unwrap();
    assert!(held.iter().all(|b| *b == b'a') && held.len() == 5000);
}

async fn any_sequence_agrees_with_a_map(t: Context) {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut map = std::collections::HashMap::new();
    for step in 0..600 {
        let key = t.key(&random.u8(0..8).to_string());
        let at = format!("step {step} of seed {seed}");
        match random.u8(0..4) {
            0 => {
                let value: Vec<u8> = (0..random.usize(0..40)).map(|_| random.u8(..)).collect();
                t.set(&key, value.clone(), LONG).await;
                map.insert(key, value);
            }
            1 => assert_eq!(t.store().delete(&key).await.unwrap(), map.remove(&key).is_some(), "{at}"),
            2 => assert_eq!(t.store().exists(&key).await.unwrap(), map.contains_key(&key), "{at}"),
            _ => assert_eq!(t.get(&key).await.as_deref(), map.get(&key).map(Vec::as_slice), "{at}"),
        }
    }
}
