//! Leases: a value's life prolonged where it stands.

use bytes::Bytes;

use super::frames::{RIVAL, TOKEN, foreign, future, negative, past, stale, until, value};
use super::leases::BRIEF;
use super::limits::{bad_keys, bad_ttls, refused};
use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::LONG;
use crate::testkit::wait::eventually;
use crate::{ErrorKind, Frame, Stamp, Tags};

cases! { "leases", [Service, Leases]:
    "`touch` prolongs a value or negative whose stamp still stands, and changes nothing else in it." =>
        a_touch_prolongs_and_changes_nothing_else,
    "`touch` sets the ttl that the store keeps the value for." => a_touch_sets_the_ttl,
    "`touch` never shortens." => a_touch_never_shortens,
    "`touch` changes nothing if the stamp changed, or the key holds no value." => a_touch_needs_the_stamp,
    "A bad key or ttl of a `touch` is refused, and nothing is touched." => bad_arguments_of_a_touch_are_refused,
}

/// The frames that can be touched: with tags and without, with a payload and without.
fn frames() -> Vec<Frame> {
    let mut bare = value(TOKEN, "no tags");
    bare.tags = Tags::default();
    let many = Frame { tags: Tags::new((1..=64).collect()).expect("the most"), ..value(TOKEN, "many tags") };
    vec![value(TOKEN, "v"), negative(TOKEN), bare, many, value(TOKEN, &"long ".repeat(1000))]
}

async fn a_touch_prolongs_and_changes_nothing_else(t: Context) {
    let key = t.key("k");
    for frame in frames() {
        let mut soft_exp = future();
        t.put(&key, &until(frame.clone(), soft_exp)).await;
        // every byte of the end is different once
        for _ in 0..5 {
            soft_exp = soft_exp + soft_exp / 3 + 0x0102_0304;
            assert!(t.leases().touch(&key, TOKEN, soft_exp, LONG).await.unwrap());
            let seen = t.frame(&key).await.expect("it is there");
            assert_eq!((seen.header.soft_exp, &seen.payload), (soft_exp, &frame.payload));
            assert_eq!(seen.tags, frame.tags);
            let again = until(seen, frame.header.soft_exp).to_bytes(&key);
            assert_eq!(again, frame.to_bytes(&key), "nothing else changed");
        }
    }
}

async fn a_touch_sets_the_ttl(t: Context) {
    let key = t.key("k");
    t.put(&key, &value(TOKEN, "v")).await;
    assert!(t.leases().touch(&key, TOKEN, future() * 2, BRIEF).await.unwrap());
    eventually("the ttl passed", async || t.get(&key).await.is_none()).await;
}

async fn a_touch_never_shortens(t: Context) {
    let key = t.key("k");
    let frame = value(TOKEN, "v");
    t.put(&key, &frame).await;
    for soft_exp in [0, past(), frame.header.soft_exp - 1, frame.header.soft_exp] {
        assert!(!t.leases().touch(&key, TOKEN, soft_exp, BRIEF).await.unwrap());
        assert_eq!(t.get(&key).await, Some(frame.to_bytes(&key)));
    }
}

async fn a_touch_needs_the_stamp(t: Context) {
    let (key, leases, later) = (t.key("k"), t.leases(), future() * 2);
    assert!(!leases.touch(&key, TOKEN, later, LONG).await.unwrap(), "touched a missing key");
    let frames =
        [value(RIVAL, "theirs"), stale(value(RIVAL, "old"), TOKEN, future()), stale(negative(RIVAL), Stamp::NONE, 0)];
    let bare = [Frame::lease(TOKEN, future()), Frame::tombstone(future())];
    let bare = bare.iter().map(|head| Bytes::copy_from_slice(head));
    for bytes in frames.iter().map(|frame| frame.to_bytes(&key)).chain(bare).chain(foreign()) {
        t.set(&key, bytes.clone(), LONG).await;
        for seen in [TOKEN, Stamp::NONE] {
            assert!(!leases.touch(&key, seen, later, LONG).await.unwrap(), "touched {bytes:?}");
        }
        assert_eq!(t.get(&key).await, Some(bytes));
    }
}

async fn bad_arguments_of_a_touch_are_refused(t: Context) {
    let (key, leases, later) = (t.key("k"), t.leases(), future() * 2);
    for bad in bad_keys(&t) {
        refused("touch", ErrorKind::Invalid, leases.touch(&bad, TOKEN, later, LONG).await);
    }
    let bytes = value(TOKEN, "v").to_bytes(&key);
    t.set(&key, bytes.clone(), LONG).await;
    for ttl in bad_ttls() {
        refused("touch", ErrorKind::Invalid, leases.touch(&key, TOKEN, later, ttl).await);
    }
    assert_eq!(t.get(&key).await, Some(bytes));
}
