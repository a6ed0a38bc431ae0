//! Waiting for a lease, and being woken.

use std::time::Duration;

use super::frames::{RIVAL, TOKEN, stale, value};
use super::leases::SPAN;
use crate::envelope::flag;
use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::{Ear, ME};
use crate::{Change, Lease, Message, Stamp, State, Wait};

cases! { "leases", [Service, Leases, Bus]:
    "`wait` on a missing key says so." => wait_on_a_missing_key_says_so,
    "`wait` returns what the key holds once it no longer holds that lease." => wait_returns_what_changed,
    "`wait` flags the lease and says how long it runs." => wait_flags_the_lease,
    "A flagged lease can be renewed, filled and released as before." => a_flagged_lease_works_as_before,
}

/// What takes a bus that sends messages.
pub(super) mod messages {
    use super::*;

    cases! { "leases", [Service, Leases, Bus, Messages]:
        "A fill wakes flagged waiters." => a_fill_wakes_flagged_waiters,
        "A release wakes flagged waiters." => a_release_wakes_flagged_waiters,
        "A fill and a release without waiters publish nothing." => nobody_is_woken_without_waiters,
        "The lease that a stale value carries can be waited for." => a_stale_values_lease_can_be_waited_for,
    }
}

async fn wait_on_a_missing_key_says_so(t: Context) {
    assert_eq!(t.leases().wait(&t.key("k"), TOKEN).await.unwrap(), Wait::Missing);
}

async fn wait_returns_what_changed(t: Context) {
    let key = t.key("k");
    assert_eq!(t.lease(&key, RIVAL, SPAN).await, Lease::Granted);
    let bytes = t.get(&key).await.unwrap();
    match t.leases().wait(&key, TOKEN).await.unwrap() {
        Wait::Changed(found) => assert_eq!(found.frame, bytes, "another's lease was flagged"),
        other => panic!("expected Changed, got {other:?}"),
    }
    // the stamp of a filled value is the token of its lease
    let filled = value(TOKEN, "v");
    t.put(&key, &filled).await;
    match t.leases().wait(&key, TOKEN).await.unwrap() {
        Wait::Changed(found) => assert_eq!(found.frame, filled.to_bytes(&key)),
        other => panic!("expected Changed, got {other:?}"),
    }
    assert_eq!(t.get(&key).await, Some(filled.to_bytes(&key)), "a finished value was flagged");
}

async fn flagged(t: &Context, key: &str) {
    match t.leases().wait(key, TOKEN).await.unwrap() {
        Wait::Flagged { left } => assert!(left <= SPAN && left > SPAN / 2, "{left:?} left of {SPAN:?}"),
        other => panic!("expected Flagged, got {other:?}"),
    }
}

async fn wait_flags_the_lease(t: Context) {
    let key = t.key("k");
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    for _ in 0..3 {
        flagged(&t, &key).await;
        let header = t.frame(&key).await.unwrap().header;
        assert_eq!((header.state, header.stamp), (State::Lease, TOKEN));
        assert_eq!(header.flags & flag::WAITER, flag::WAITER);
    }
}

async fn a_flagged_lease_works_as_before(t: Context) {
    let key = t.key("k");
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    flagged(&t, &key).await;
    assert!(matches!(t.lease(&key, RIVAL, SPAN).await, Lease::Held { holder: TOKEN, .. }));
    assert!(!t.fill(&key, RIVAL, "v").await);
    assert!(t.leases().renew(&key, TOKEN, SPAN).await.unwrap());
    flagged(&t, &key).await;
    assert!(t.fill(&key, TOKEN, "v").await);
    assert_eq!(t.payload(&key).await.as_deref(), Some(&b"v"[..]));
}

async fn woken(ear: &mut Ear, key: &str) {
    assert_eq!(ear.message().await, (0, Message::Wake { key: key.to_owned() }));
}

async fn a_fill_wakes_flagged_waiters(t: Context) {
    let key = t.key("k with space:");
    let mut ear = t.listen(&[t.line()]).await;
    for _ in 0..5 {
        assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
        flagged(&t, &key).await;
        assert!(t.fill(&key, TOKEN, "v").await);
        woken(&mut ear, &key).await;
        assert_eq!(t.payload(&key).await.as_deref(), Some(&b"v"[..]), "woken before the value was there");
        t.store().delete(&key).await.unwrap();
    }
}

async fn a_release_wakes_flagged_waiters(t: Context) {
    let key = t.key("k");
    let mut ear = t.listen(&[t.line()]).await;
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    flagged(&t, &key).await;
    assert!(t.leases().release(&key, TOKEN, &t.line().channel).await.unwrap());
    woken(&mut ear, &key).await;
}

async fn nobody_is_woken_without_waiters(t: Context) {
    let (line, marker) = (t.line(), t.key("marker"));
    let mut ear = t.listen(std::slice::from_ref(&line)).await;
    let (filled, released, refused) = (t.key("filled"), t.key("released"), t.key("refused"));
    for key in [&filled, &released, &refused] {
        assert_eq!(t.lease(key, TOKEN, SPAN).await, Lease::Granted);
    }
    assert!(t.fill(&filled, TOKEN, "v").await);
    assert!(t.leases().release(&released, TOKEN, &line.channel).await.unwrap());
    flagged(&t, &refused).await;
    assert!(!t.fill(&refused, RIVAL, "v").await);
    // one channel keeps its order, so what would have been published came before the marker
    t.bus().change(&line, ME, &[&marker], Change::Delete).await.unwrap();
    match ear.message().await {
        (0, Message::Keys { keys, .. }) => assert_eq!(keys, [marker]),
        other => panic!("expected the marker, got {other:?}"),
    }
}

async fn a_stale_values_lease_can_be_waited_for(t: Context) {
    let key = t.key("k");
    let mut ear = t.listen(&[t.line()]).await;
    for fill in [true, false] {
        t.put(&key, &stale(value(RIVAL, "old"), Stamp::NONE, 0)).await;
        assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
        match t.leases().wait(&key, TOKEN).await.unwrap() {
            Wait::Flagged { left } => assert!(left > Duration::ZERO && left <= SPAN, "{left:?} left of {SPAN:?}"),
            other => panic!("expected Flagged, got {other:?}"),
        }
        assert_eq!(t.frame(&key).await.unwrap().payload, "old", "the flag broke the stale value");
        if fill {
            assert!(t.fill(&key, TOKEN, "new").await);
        } else {
            assert!(t.leases().release(&key, TOKEN, &t.line().channel).await.unwrap());
        }
        woken(&mut ear, &key).await;
    }
}
