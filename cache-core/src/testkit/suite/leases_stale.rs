//! Leases on stale values and tombstones.

use bytes::Bytes;

use super::frames::{RIVAL, TOKEN, future, negative, past, stale, until, value};
use super::leases::{BRIEF, ROOMY, SPAN};
use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::LONG;
use crate::testkit::wait::eventually;
use crate::{Frame, Lease, Stamp, State};

cases! { "leases", [Service, Leases]:
    "A lease on a stale value without a lease is granted, and the value stays readable." =>
        a_lease_on_a_stale_value_is_granted,
    "A lease on a value or negative past its soft expiry is granted, and it becomes stale." =>
        a_lease_past_the_soft_expiry_is_granted,
    "A lease that a stale value carries is `Held` until it runs out." => a_lease_on_a_stale_value_is_held,
    "A lease that a stale value carries can be taken over once it has run out." => a_stale_lease_is_taken_over,
    "A fill replaces the stale value whose lease the token holds." => a_fill_replaces_the_stale_value,
    "A stale value without a lease can't be filled, not even with no token." => a_stale_value_needs_a_lease,
    "`renew` prolongs the lease that a stale value carries and keeps the value." => renew_keeps_the_stale_value,
    "`release` keeps the stale value, without lease." => release_keeps_the_stale_value,
    "`rest` keeps the stale value and keeps everybody from its lease, for its span at most." => a_rest_keeps_others_out,
    "`rest` on a bare lease removes it." => a_rest_on_a_bare_lease_removes_it,
    "A lease on a tombstone is `Barred` until its hold has run out, then granted." => a_tombstone_bars,
    "Taking a lease on a stale value does not prolong the value." => a_lease_does_not_prolong_a_stale_value,
}

async fn stale_payload(t: &Context, key: &str) -> (Stamp, Bytes) {
    let frame = t.frame(key).await.expect("the stale value is there");
    assert_eq!(frame.header.state, State::Stale);
    (frame.header.stamp, frame.payload)
}

async fn a_lease_on_a_stale_value_is_granted(t: Context) {
    let key = t.key("k");
    for frame in [value(RIVAL, "old"), negative(RIVAL)] {
        t.put(&key, &stale(frame.clone(), Stamp::NONE, 0)).await;
        assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
        assert_eq!(stale_payload(&t, &key).await, (TOKEN, frame.payload));
        assert_eq!(t.frame(&key).await.map(|f| f.header.is_negative()), Some(frame.header.is_negative()));
    }
}

async fn a_lease_past_the_soft_expiry_is_granted(t: Context) {
    let key = t.key("k");
    for frame in [value(RIVAL, "old"), negative(RIVAL)] {
        t.put(&key, &until(frame.clone(), past())).await;
        assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
        assert_eq!(stale_payload(&t, &key).await, (TOKEN, frame.payload), "the value stays as a fallback");
        assert!(matches!(t.lease(&key, RIVAL, SPAN).await, Lease::Held { holder: TOKEN, .. }));
        assert!(t.fill(&key, TOKEN, "new").await);
    }
}

async fn a_lease_on_a_stale_value_is_held(t: Context) {
    let key = t.key("k");
    t.put(&key, &stale(value(RIVAL, "old"), RIVAL, future())).await;
    match t.lease(&key, TOKEN, SPAN).await {
        Lease::Held { holder, left } => assert!(holder == RIVAL && left > SPAN, "{holder:?} {left:?}"),
        other => panic!("expected Held, got {other:?}"),
    }
    assert_eq!(stale_payload(&t, &key).await.0, RIVAL);
}

async fn a_stale_lease_is_taken_over(t: Context) {
    let key = t.key("k");
    t.put(&key, &stale(value(RIVAL, "old"), RIVAL, past())).await;
    assert_eq!(t.lease(&key, TOKEN, BRIEF).await, Lease::Granted);
    assert!(!t.fill(&key, RIVAL, "late").await);
    eventually("the lease is taken over", async || t.lease(&key, RIVAL, SPAN).await == Lease::Granted).await;
    assert!(!t.fill(&key, TOKEN, "late").await);
    assert_eq!(stale_payload(&t, &key).await, (RIVAL, Bytes::from_static(b"old")));
    assert!(t.fill(&key, RIVAL, "new").await);
}

async fn a_fill_replaces_the_stale_value(t: Context) {
    let key = t.key("k");
    t.put(&key, &stale(value(RIVAL, "old"), Stamp::NONE, 0)).await;
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    assert!(t.fill(&key, TOKEN, "new").await);
    assert_eq!(t.payload(&key).await.as_deref(), Some(&b"new"[..]));
    assert!(matches!(t.lease(&key, RIVAL, SPAN).await, Lease::Found(_)));
}

async fn a_stale_value_needs_a_lease(t: Context) {
    let (key, channel) = (t.key("k"), t.line().channel);
    let bytes = stale(value(RIVAL, "old"), Stamp::NONE, 0).to_bytes(&key);
    t.set(&key, bytes.clone(), LONG).await;
    for token in [TOKEN, RIVAL, Stamp::NONE] {
        assert!(!t.fill(&key, token, "new").await, "filled with {token:?}");
        assert!(!t.leases().renew(&key, token, SPAN).await.unwrap(), "renewed with {token:?}");
        assert!(!t.leases().release(&key, token, &channel).await.unwrap(), "released with {token:?}");
        assert_eq!(t.get(&key).await, Some(bytes.clone()), "changed with {token:?}");
    }
}

async fn renew_keeps_the_stale_value(t: Context) {
    let key = t.key("k");
    t.put(&key, &stale(value(RIVAL, "old"), Stamp::NONE, 0)).await;
    assert_eq!(t.lease(&key, TOKEN, ROOMY).await, Lease::Granted);
    assert!(t.leases().renew(&key, TOKEN, SPAN).await.unwrap());
    assert!(!t.leases().renew(&key, RIVAL, BRIEF).await.unwrap());
    tokio::time::sleep(ROOMY + BRIEF).await;
    assert!(matches!(t.lease(&key, RIVAL, SPAN).await, Lease::Held { holder: TOKEN, .. }), "the lease was not renewed");
    assert_eq!(stale_payload(&t, &key).await, (TOKEN, Bytes::from_static(b"old")));
    let left = t.leases().read(&key).await.unwrap().unwrap().left;
    assert!(left.is_none_or(|left| left > SPAN), "renewing the lease shortened the value's own ttl to {left:?}");
}

async fn release_keeps_the_stale_value(t: Context) {
    let (key, channel) = (t.key("k"), t.line().channel);
    t.put(&key, &stale(value(RIVAL, "old"), Stamp::NONE, 0)).await;
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    assert!(!t.leases().release(&key, RIVAL, &channel).await.unwrap());
    assert!(t.leases().release(&key, TOKEN, &channel).await.unwrap());
    assert_eq!(stale_payload(&t, &key).await, (Stamp::NONE, Bytes::from_static(b"old")));
    assert!(!t.fill(&key, TOKEN, "late").await);
    assert_eq!(t.lease(&key, RIVAL, SPAN).await, Lease::Granted, "the next loader need not wait");
}

async fn a_rest_keeps_others_out(t: Context) {
    let (key, channel) = (t.key("k"), t.line().channel);
    t.put(&key, &stale(value(RIVAL, "old"), Stamp::NONE, 0)).await;
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    assert!(!t.leases().rest(&key, RIVAL, SPAN, &channel).await.unwrap(), "only its holder gives a lease back");
    assert!(t.leases().rest(&key, TOKEN, SPAN, &channel).await.unwrap());
    assert!(!t.leases().rest(&key, TOKEN, SPAN, &channel).await.unwrap(), "it is given back once");
    match t.lease(&key, RIVAL, SPAN).await {
        Lease::Held { holder: Stamp::NONE, left } => assert!(left > SPAN / 2 && left <= SPAN, "{left:?}"),
        other => panic!("expected a rest, got {other:?}"),
    }
    assert_eq!(stale_payload(&t, &key).await, (Stamp::NONE, Bytes::from_static(b"old")));
    for token in [TOKEN, RIVAL, Stamp::NONE] {
        assert!(!t.fill(&key, token, "late").await, "filled with {token:?}");
    }
    let left = t.leases().read(&key).await.unwrap().unwrap().left;
    assert!(left.is_none_or(|left| left > SPAN), "the rest shortened the value's own ttl to {left:?}");

    let brief = t.key("brief");
    t.put(&brief, &stale(value(RIVAL, "old"), Stamp::NONE, 0)).await;
    assert_eq!(t.lease(&brief, TOKEN, SPAN).await, Lease::Granted);
    assert!(t.leases().rest(&brief, TOKEN, BRIEF, &channel).await.unwrap());
    eventually("the rest is over", async || t.lease(&brief, RIVAL, SPAN).await == Lease::Granted).await;
}

async fn a_rest_on_a_bare_lease_removes_it(t: Context) {
    let (key, channel) = (t.key("k"), t.line().channel);
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    assert!(t.leases().rest(&key, TOKEN, SPAN, &channel).await.unwrap());
    assert_eq!(t.lease(&key, RIVAL, SPAN).await, Lease::Granted, "without a value there is nothing to rest on");
}

async fn a_tombstone_bars(t: Context) {
    let key = t.key("k");
    t.set(&key, Frame::tombstone(future()).to_vec(), LONG).await;
    match t.lease(&key, TOKEN, SPAN).await {
        Lease::Barred { left } => assert!(left > SPAN, "{left:?}"),
        other => panic!("expected Barred, got {other:?}"),
    }
    assert!(!t.fill(&key, TOKEN, "v").await && !t.fill(&key, Stamp::NONE, "v").await, "filled a barred key");
    assert_eq!(t.frame(&key).await.map(|f| f.header.state), Some(State::Tombstone));
    t.set(&key, Frame::tombstone(past()).to_vec(), LONG).await;
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    assert!(matches!(t.lease(&key, RIVAL, SPAN).await, Lease::Held { holder: TOKEN, .. }));
    assert!(t.fill(&key, TOKEN, "v").await);
    assert_eq!(t.payload(&key).await.as_deref(), Some(&b"v"[..]));
}

async fn a_lease_does_not_prolong_a_stale_value(t: Context) {
    let key = t.key("k");
    let bytes = stale(value(RIVAL, "old"), Stamp::NONE, 0).to_bytes(&key);
    t.set(&key, bytes, BRIEF * 5).await;
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    eventually("the stale value's own ttl passed", async || {
        t.get(&key).await.is_none_or(|bytes| Frame::parse(&key, &bytes).is_ok_and(|f| f.payload.is_empty()))
    })
    .await;
}
