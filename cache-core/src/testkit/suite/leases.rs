//! Leases: grant, hold, fill, renew, release.

use std::time::Duration;

use bytes::Bytes;

use super::frames::{RIVAL, TOKEN, foreign, negative, until, value};
use super::limits::{bad_keys, bad_ttls, refused};
use super::races::cut;
use crate::envelope::HEADER;
use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::LONG;
use crate::testkit::wait::eventually;
use crate::{ErrorKind, Found, Frame, Lease, Stamp, State};

cases! { "leases", [Service, Leases]:
    "`read` returns the bytes under a key and the time that they have left." => read_returns_bytes_and_time_left,
    "`read_many` answers in the order of its keys." => read_many_keeps_the_order,
    "`peek` returns the header alone, and fewer bytes of a shorter value." => peek_returns_the_header_alone,
    "A lease on a missing key is granted, and stands under the key as a frame in state `L`." =>
        a_lease_on_a_missing_key_is_granted,
    "A lease that another loader has is `Held`, with its token and the time left." => a_lease_is_held,
    "Who asks again with its own token is told that it holds the lease." => asking_again_shows_the_own_token,
    "A lease on a key that holds a fresh value or negative is `Found`." => a_fresh_value_is_found,
    "A value without a soft expiry is fresh." => a_value_without_a_soft_expiry_is_found,
    "A lease with no token is refused." => a_lease_with_no_token_is_refused,
    "A lease on bytes that aren't ours is `Found`, and nothing changes them but `discard`." => foreign_bytes_are_found,
    "A lease that has run out is granted to the next." => a_lease_that_has_run_out_is_granted,
    "Of many that ask at once, one is granted the lease." => a_lease_race_has_one_winner,
    "A fill by the lease's holder is stored for its ttl." => a_fill_by_the_holder_is_stored,
    "A fill with another token is refused." => a_fill_with_another_token_is_refused,
    "A fill without a lease is refused." => a_fill_without_a_lease_is_refused,
    "A second fill by the same token is refused." => a_second_fill_is_refused,
    "A fill after an invalidation is refused." => a_fill_after_a_delete_is_refused,
    "A fill by a holder whose lease was taken over is refused." => a_fill_after_a_takeover_is_refused,
    "A fill that is dropped leaves the lease or the whole frame." => a_dropped_fill_is_all_or_nothing,
    "A frame over the largest value is refused with `TooLarge`." => a_frame_over_the_largest_size_is_refused,
    "`renew` prolongs the lease to the span from now." => renew_prolongs_the_lease,
    "`renew` says `false` and changes nothing if the token doesn't hold the lease." => renew_needs_the_lease,
    "`release` removes the lease at once." => release_removes_the_lease,
    "`release` says `false` and changes nothing if the token doesn't hold the lease." => release_needs_the_lease,
    "`refresh` replaces a value or negative whose stamp still stands." => refresh_replaces_what_was_seen,
    "`refresh` is refused if the stamp changed, or the key holds no value." => refresh_is_refused_otherwise,
    "`discard` removes a key that still holds exactly those bytes." => discard_removes_exactly_those_bytes,
    "A bad key, span or ttl is refused by every method, and nothing is touched." => bad_arguments_are_refused,
}

/// The span of a lease that no case outlives.
pub(super) const SPAN: Duration = Duration::from_secs(60);
pub(super) const BRIEF: Duration = Duration::from_millis(60);
/// One that ends within a case, but not between two of its calls, even on a busy machine.
pub(super) const ROOMY: Duration = Duration::from_secs(1);

impl Context {
    pub(super) async fn lease(&self, key: &str, token: Stamp, span: Duration) -> Lease {
        self.leases().lease(key, token, span).await.expect("lease")
    }

    /// Who holds the lease on `key`, by asking for it with a token of its own.
    pub(super) async fn holder(&self, key: &str) -> Option<(Stamp, Duration)> {
        match self.lease(key, Stamp::random(), Duration::from_millis(1)).await {
            Lease::Held { holder, left } => Some((holder, left)),
            _ => None,
        }
    }
}

async fn read_returns_bytes_and_time_left(t: Context) {
    let key = t.key("k");
    assert_eq!(t.leases().read(&key).await.unwrap(), None);
    let frame = value(TOKEN, "v").to_bytes(&key);
    t.set(&key, frame.clone(), LONG).await;
    let found = t.leases().read(&key).await.unwrap().unwrap();
    assert_eq!(found.frame, frame);
    if let Some(left) = found.left {
        assert!(left <= LONG && left > LONG / 2, "{left:?} left of {LONG:?}");
    }
    t.set(&key, "", BRIEF).await;
    if let Some(Found { left: Some(left), .. }) = t.leases().read(&key).await.unwrap() {
        assert!(left <= BRIEF, "{left:?} left of {BRIEF:?}");
    }
    eventually("the value is gone", async || t.leases().read(&key).await.unwrap().is_none()).await;
}

async fn read_many_keeps_the_order(t: Context) {
    let keys: Vec<String> = (0..5).map(|i| t.scattered(i)).collect();
    for i in [1, 3] {
        t.set(&keys[i], i.to_string(), LONG).await;
    }
    let names = [3, 0, 1, 3, 4].map(|i: usize| &*keys[i]);
    let expected = [Some("3"), None, Some("1"), Some("3"), None].map(|v| v.map(Bytes::from));
    assert_eq!(t.leases().read_many(&names).await.unwrap(), expected);
    assert!(t.leases().read_many(&[]).await.unwrap().is_empty());
}

async fn peek_returns_the_header_alone(t: Context) {
    let key = t.key("k");
    assert_eq!(t.leases().peek(&key).await.unwrap(), None);
    let bytes = value(TOKEN, "a payload").to_bytes(&key);
    t.set(&key, bytes.clone(), LONG).await;
    assert_eq!(t.leases().peek(&key).await.unwrap().as_deref(), Some(&bytes[..HEADER]));
    t.set(&key, "short", LONG).await;
    assert_eq!(t.leases().peek(&key).await.unwrap().as_deref(), Some(&b"short"[..]));
    t.set(&key, "", LONG).await;
    assert_eq!(t.leases().peek(&key).await.unwrap(), Some(Bytes::new()), "an empty value is not a miss");
}

async fn a_lease_on_a_missing_key_is_granted(t: Context) {
    let key = t.key("k");
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    let frame = t.frame(&key).await.expect("the lease stands under the key");
    assert_eq!((frame.header.state, frame.header.stamp), (State::Lease, TOKEN));
    let found = t.leases().read(&key).await.unwrap().unwrap();
    assert!(found.left.is_none_or(|left| left <= SPAN && left > SPAN / 2), "{:?} left of {SPAN:?}", found.left);
}

async fn a_lease_is_held(t: Context) {
    let key = t.key("k");
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    match t.second().leases().expect("leases").lease(&key, RIVAL, SPAN).await.unwrap() {
        Lease::Held { holder, left } => {
            assert_eq!(holder, TOKEN);
            assert!(left <= SPAN && left > SPAN / 2, "{left:?} left of {SPAN:?}");
        }
        other => panic!("expected Held, got {other:?}"),
    }
}

async fn asking_again_shows_the_own_token(t: Context) {
    let key = t.key("k");
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    let again = t.lease(&key, TOKEN, SPAN).await;
    assert!(matches!(again, Lease::Held { holder: TOKEN, .. }), "{again:?}");
    assert!(t.fill(&key, TOKEN, "v").await);
}

async fn a_fresh_value_is_found(t: Context) {
    let key = t.key("k");
    for frame in [value(RIVAL, "v"), negative(RIVAL), value(TOKEN, "v")] {
        t.put(&key, &frame).await;
        match t.lease(&key, TOKEN, SPAN).await {
            Lease::Found(found) => assert_eq!(found.frame, frame.to_bytes(&key)),
            other => panic!("expected Found, got {other:?}"),
        }
        assert_eq!(t.get(&key).await, Some(frame.to_bytes(&key)), "asking for a lease changed the value");
    }
}

async fn a_value_without_a_soft_expiry_is_found(t: Context) {
    let key = t.key("k");
    for frame in [value(RIVAL, "v"), negative(RIVAL)] {
        let bytes = until(frame, 0).to_bytes(&key);
        t.set(&key, bytes.clone(), LONG).await;
        assert!(matches!(t.lease(&key, TOKEN, SPAN).await, Lease::Found(_)), "a soft expiry of zero is none");
        assert_eq!(t.get(&key).await, Some(bytes));
    }
}

async fn a_lease_with_no_token_is_refused(t: Context) {
    let key = t.key("k");
    refused("lease", ErrorKind::Invalid, t.leases().lease(&key, Stamp::NONE, SPAN).await);
    assert_eq!(t.get(&key).await, None);
}

async fn foreign_bytes_are_found(t: Context) {
    let (key, leases, channel) = (t.key("k"), t.leases(), t.line().channel);
    for bytes in foreign() {
        let shown = bytes.escape_ascii().to_string();
        t.set(&key, bytes.clone(), LONG).await;
        match t.lease(&key, TOKEN, SPAN).await {
            Lease::Found(found) => assert_eq!(found.frame, bytes),
            other => panic!("expected Found, got {other:?} on {shown}"),
        }
        let waited = leases.wait(&key, TOKEN).await.unwrap();
        assert!(matches!(waited, crate::Wait::Changed(_)), "wait said {waited:?} on {shown}");
        assert!(!t.fill(&key, TOKEN, "v").await, "filled over {shown}");
        assert!(!leases.renew(&key, TOKEN, SPAN).await.unwrap(), "renewed {shown}");
        assert!(!leases.release(&key, TOKEN, &channel).await.unwrap(), "released {shown}");
        let frame = value(RIVAL, "v").to_bytes(&key);
        assert!(!leases.refresh(&key, TOKEN, frame, LONG).await.unwrap(), "refreshed {shown}");
        assert_eq!(t.get(&key).await, Some(bytes.clone()), "foreign bytes were changed");
        assert!(leases.discard(&key, &bytes).await.unwrap());
        assert_eq!(t.get(&key).await, None);
    }
}

async fn a_lease_that_has_run_out_is_granted(t: Context) {
    let key = t.key("k");
    assert_eq!(t.lease(&key, TOKEN, BRIEF).await, Lease::Granted);
    eventually("the lease is granted to the next", async || t.lease(&key, RIVAL, SPAN).await == Lease::Granted).await;
    assert_eq!(t.holder(&key).await.map(|(holder, _)| holder), Some(RIVAL));
}

async fn a_lease_race_has_one_winner(t: Context) {
    for round in 0..10 {
        let key = t.key(&round.to_string());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (t, key) = (t.clone(), key.clone());
            tasks.spawn(async move { t.lease(&key, Stamp::random(), SPAN).await == Lease::Granted });
        }
        assert_eq!(tasks.join_all().await.into_iter().filter(|granted| *granted).count(), 1);
    }
}

async fn a_fill_by_the_holder_is_stored(t: Context) {
    let (key, brief) = (t.key("k"), t.key("brief"));
    assert_eq!(t.lease(&key, TOKEN, ROOMY).await, Lease::Granted);
    assert!(t.fill(&key, TOKEN, "v").await);
    assert_eq!(t.payload(&key).await.as_deref(), Some(&b"v"[..]));
    assert_eq!(t.lease(&brief, TOKEN, SPAN).await, Lease::Granted);
    let frame = value(TOKEN, "v").to_bytes(&brief);
    assert!(t.leases().fill(&brief, TOKEN, frame, BRIEF, &t.line().channel).await.unwrap());
    eventually("the filled value is gone", async || t.get(&brief).await.is_none()).await;
    tokio::time::sleep(ROOMY).await;
    assert_eq!(t.payload(&key).await.as_deref(), Some(&b"v"[..]), "the fill's ttl replaces the lease's");
}

async fn a_fill_with_another_token_is_refused(t: Context) {
    let key = t.key("k");
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    for other in [RIVAL, Stamp::NONE, Stamp(TOKEN.0 ^ (1 << 63)), Stamp(TOKEN.0 ^ 1)] {
        assert!(!t.fill(&key, other, "v").await, "{other:?} filled the lease of {TOKEN:?}");
    }
    assert_eq!(t.frame(&key).await.map(|f| f.header.state), Some(State::Lease));
    assert!(t.fill(&key, TOKEN, "v").await, "the holder can still fill");
}

async fn a_fill_without_a_lease_is_refused(t: Context) {
    let key = t.key("k");
    assert!(!t.fill(&key, TOKEN, "v").await);
    assert!(!t.fill(&key, Stamp::NONE, "v").await);
    assert_eq!(t.get(&key).await, None);
    assert_eq!(t.lease(&key, TOKEN, BRIEF).await, Lease::Granted);
    eventually("the lease has run out", async || t.get(&key).await.is_none()).await;
    assert!(!t.fill(&key, TOKEN, "v").await, "filled under a lease that has run out");
    assert_eq!(t.get(&key).await, None);
}

async fn a_second_fill_is_refused(t: Context) {
    let key = t.key("k");
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    assert!(t.fill(&key, TOKEN, "first").await);
    assert!(!t.fill(&key, TOKEN, "second").await, "the value's stamp is the token, but it is no lease");
    assert_eq!(t.payload(&key).await.as_deref(), Some(&b"first"[..]));
}

async fn a_fill_after_a_delete_is_refused(t: Context) {
    let key = t.key("k");
    for round in 0..3 {
        assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
        match round {
            0 => assert!(t.store().delete(&key).await.unwrap()),
            1 => assert_eq!(t.store().delete_many(&[&key]).await.unwrap(), 1),
            _ => assert!(t.second().delete(&key).await.unwrap()),
        }
        assert!(!t.fill(&key, TOKEN, "old").await, "a value from before the delete was stored");
        assert_eq!(t.get(&key).await, None);
    }
}

async fn a_fill_after_a_takeover_is_refused(t: Context) {
    let key = t.key("k");
    assert_eq!(t.lease(&key, TOKEN, BRIEF).await, Lease::Granted);
    eventually("the lease is taken over", async || t.lease(&key, RIVAL, SPAN).await == Lease::Granted).await;
    assert!(!t.fill(&key, TOKEN, "late").await);
    assert!(t.fill(&key, RIVAL, "new").await);
    assert!(!t.fill(&key, TOKEN, "later").await);
    assert_eq!(t.payload(&key).await.as_deref(), Some(&b"new"[..]));
}

async fn a_dropped_fill_is_all_or_nothing(t: Context) {
    for round in 0..40 {
        let (key, channel) = (t.key(&round.to_string()), t.line().channel);
        assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
        let lease = t.get(&key).await.expect("the lease");
        let frame = value(TOKEN, &"v".repeat(5000)).to_bytes(&key);
        let ended = cut(fastrand::usize(0..4), t.leases().fill(&key, TOKEN, frame.clone(), LONG, &channel)).await;
        let left = t.get(&key).await.expect("the lease or the frame");
        assert!(left == frame || (left == lease && !ended), "neither the lease nor the frame");
    }
}

async fn a_frame_over_the_largest_size_is_refused(t: Context) {
    let (key, channel) = (t.key("k"), t.line().channel);
    let over = value(TOKEN, &"v".repeat(t.store().max_value())).to_bytes(&key);
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    refused("fill", ErrorKind::TooLarge, t.leases().fill(&key, TOKEN, over.clone(), LONG, &channel).await);
    assert_eq!(t.frame(&key).await.map(|f| f.header.state), Some(State::Lease));
    let fits = value(TOKEN, &"v".repeat(t.store().max_value() - 200)).to_bytes(&key);
    assert!(t.leases().fill(&key, TOKEN, fits, LONG, &channel).await.unwrap());
    refused("refresh", ErrorKind::TooLarge, t.leases().refresh(&key, TOKEN, over, LONG).await);
    assert!(t.payload(&key).await.is_some());
    t.store().delete(&key).await.unwrap();
}

async fn renew_prolongs_the_lease(t: Context) {
    let key = t.key("k");
    assert_eq!(t.lease(&key, TOKEN, ROOMY).await, Lease::Granted);
    assert!(t.leases().renew(&key, TOKEN, SPAN).await.unwrap());
    let (holder, left) = t.holder(&key).await.expect("the lease is held");
    assert!(holder == TOKEN && left > SPAN / 2 && left <= SPAN, "{left:?} left of {SPAN:?}");
    tokio::time::sleep(ROOMY + BRIEF).await;
    assert_eq!(t.holder(&key).await.map(|(holder, _)| holder), Some(TOKEN), "the lease ran out though renewed");
    assert!(t.fill(&key, TOKEN, "v").await);
}

async fn renew_needs_the_lease(t: Context) {
    let (key, leases) = (t.key("k"), t.leases());
    assert!(!leases.renew(&key, TOKEN, SPAN).await.unwrap(), "renewed a missing lease");
    assert_eq!(t.get(&key).await, None);
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    assert!(!leases.renew(&key, RIVAL, BRIEF).await.unwrap(), "renewed with another token");
    assert!(t.holder(&key).await.is_some_and(|(_, left)| left > BRIEF));
    assert!(t.fill(&key, TOKEN, "v").await);
    assert!(!leases.renew(&key, TOKEN, BRIEF).await.unwrap(), "renewed a filled key");
    let left = leases.read(&key).await.unwrap().unwrap().left;
    assert!(left.is_none_or(|left| left > SPAN), "the value's ttl was changed");
}

async fn release_removes_the_lease(t: Context) {
    let key = t.key("k");
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    assert!(t.leases().release(&key, TOKEN, &t.line().channel).await.unwrap());
    assert_eq!(t.get(&key).await, None);
    assert!(!t.fill(&key, TOKEN, "v").await, "filled a released lease");
    assert_eq!(t.lease(&key, RIVAL, SPAN).await, Lease::Granted);
}

async fn release_needs_the_lease(t: Context) {
    let (key, leases, channel) = (t.key("k"), t.leases(), t.line().channel);
    assert!(!leases.release(&key, TOKEN, &channel).await.unwrap());
    assert_eq!(t.lease(&key, TOKEN, SPAN).await, Lease::Granted);
    assert!(!leases.release(&key, RIVAL, &channel).await.unwrap());
    assert_eq!(t.holder(&key).await.map(|(holder, _)| holder), Some(TOKEN));
    assert!(t.fill(&key, TOKEN, "v").await);
    assert!(!leases.release(&key, TOKEN, &channel).await.unwrap(), "released a value");
    assert_eq!(t.payload(&key).await.as_deref(), Some(&b"v"[..]));
}

async fn refresh_replaces_what_was_seen(t: Context) {
    let key = t.key("k");
    for old in [value(TOKEN, "old"), negative(TOKEN)] {
        t.put(&key, &old).await;
        let new = value(RIVAL, "new").to_bytes(&key);
        assert!(t.leases().refresh(&key, TOKEN, new.clone(), LONG).await.unwrap());
        assert_eq!(t.get(&key).await, Some(new.clone()));
        assert!(!t.leases().refresh(&key, TOKEN, new, LONG).await.unwrap(), "the stamp seen stands no more");
    }
    t.put(&key, &value(TOKEN, "old")).await;
    assert!(t.leases().refresh(&key, TOKEN, value(RIVAL, "new").to_bytes(&key), BRIEF).await.unwrap());
    eventually("the refreshed value's ttl passed", async || t.get(&key).await.is_none()).await;
}

async fn refresh_is_refused_otherwise(t: Context) {
    let (key, leases) = (t.key("k"), t.leases());
    let new = value(RIVAL, "new").to_bytes(&key);
    assert!(!leases.refresh(&key, TOKEN, new.clone(), LONG).await.unwrap(), "refreshed a missing key");
    assert_eq!(t.get(&key).await, None);
    let stale = super::frames::stale(value(TOKEN, "old"), TOKEN, super::frames::future());
    let lease = Bytes::copy_from_slice(&Frame::lease(TOKEN, super::frames::future()));
    let tomb = Bytes::copy_from_slice(&Frame::tombstone(super::frames::future()));
    for bytes in [value(RIVAL, "other").to_bytes(&key), stale.to_bytes(&key), lease, tomb] {
        t.set(&key, bytes.clone(), LONG).await;
        for seen in [TOKEN, Stamp::NONE] {
            let header = crate::Header::parse(&bytes).unwrap();
            assert!(!leases.refresh(&key, seen, new.clone(), LONG).await.unwrap(), "refreshed {header:?}");
        }
        assert_eq!(t.get(&key).await, Some(bytes));
    }
}

async fn discard_removes_exactly_those_bytes(t: Context) {
    let (key, leases) = (t.key("k"), t.leases());
    assert!(!leases.discard(&key, &Bytes::from_static(b"junk")).await.unwrap());
    assert!(!leases.discard(&key, &Bytes::new()).await.unwrap(), "a missing key holds no empty value");
    t.set(&key, "junk!", LONG).await;
    for other in ["junk", "junk!!", "JUNK!", ""] {
        assert!(!leases.discard(&key, &Bytes::from(other)).await.unwrap(), "{other:?}");
    }
    assert_eq!(t.get(&key).await.as_deref(), Some(&b"junk!"[..]));
    assert!(leases.discard(&key, &Bytes::from_static(b"junk!")).await.unwrap());
    assert_eq!(t.get(&key).await, None);
}

async fn bad_arguments_are_refused(t: Context) {
    let (leases, channel, invalid) = (t.leases(), t.line().channel, ErrorKind::Invalid);
    let good = t.key("good");
    let frame = value(TOKEN, "v").to_bytes(&good);
    for bad in bad_keys(&t) {
        refused("read", invalid, leases.read(&bad).await);
        refused("read_many", invalid, leases.read_many(&[&good, &bad]).await);
        refused("peek", invalid, leases.peek(&bad).await);
        refused("lease", invalid, leases.lease(&bad, TOKEN, SPAN).await);
        refused("wait", invalid, leases.wait(&bad, TOKEN).await);
        refused("renew", invalid, leases.renew(&bad, TOKEN, SPAN).await);
        refused("fill", invalid, leases.fill(&bad, TOKEN, frame.clone(), LONG, &channel).await);
        refused("refresh", invalid, leases.refresh(&bad, TOKEN, frame.clone(), LONG).await);
        refused("release", invalid, leases.release(&bad, TOKEN, &channel).await);
        refused("discard", invalid, leases.discard(&bad, &frame).await);
    }
    for ttl in bad_ttls() {
        refused("lease", invalid, leases.lease(&good, TOKEN, ttl).await);
        refused("renew", invalid, leases.renew(&good, TOKEN, ttl).await);
        refused("fill", invalid, leases.fill(&good, TOKEN, frame.clone(), ttl, &channel).await);
        refused("refresh", invalid, leases.refresh(&good, TOKEN, frame.clone(), ttl).await);
    }
    assert_eq!(t.get(&good).await, None);
}
