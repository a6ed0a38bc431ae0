//! Locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::value::foreign;
use super::{Context, promises};
use crate::recipe::lock::{Claim, Claimed, LockStore, Locks, Token};
use crate::testkit::{eventually, within};
use crate::{CacheService, ErrorKind, MAX_TTL, Reply};

/// A store with locks, in which other programs may have put bytes.
pub trait Subject: LockStore + CacheService {}
impl<S: LockStore + CacheService> Subject for S {}

type T = Context<dyn Subject>;

promises! { dyn Subject:
    "A lock has one holder; a release makes it free." => a_lock_has_one_holder,
    "Fences grow with every hold, and each key has its own lock." => fences_grow,
    "A token that holds the lock keeps its fence when it claims again." => a_claim_may_be_repeated,
    "Only the holder's token extends or releases." => only_the_owner_changes_a_lock,
    "A hold ends with its ttl; then its token can do nothing." => a_hold_ends_with_its_ttl,
    "An extension never shortens a hold." => an_extension_never_shortens,
    "Work of many tasks under one lock never overlaps." => work_never_overlaps,
    "Work under a fair lock never overlaps, and nobody starves." => fair_work_never_overlaps,
    "A release calls who listens." => a_release_calls,
    "A line is served in its order, and a release calls who is next." => a_line_is_served_in_order,
    "Who stopped asking is skipped." => the_dead_are_skipped,
    "Who leaves the line lets the next one in." => leaving_lets_the_next_in,
    "A try does not pass the line, and does not join it." => a_try_respects_the_line,
    "A wait ends at its deadline and leaves nothing behind." => a_wait_ends,
    "A dropped guard, a panic and a dropped wait give the lock back." => drops_give_back,
    "A held lock is renewed past its ttl, up to the cap." => holds_are_renewed_up_to_the_cap,
    "`with_lock` gives back what the work returns, and the lock." => with_lock_returns,
    "`with_lock` drops the work when the lock is lost." => with_lock_drops_lost_work,
    "Bad arguments are refused, and nothing is touched." => bad_arguments_are_refused,
    "A key of another kind is refused and left as it is." => foreign_keys_are_left_alone,
    "`Debug` and errors show neither key nor token." => nothing_is_shown,
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);

fn token() -> Token {
    Token::random().unwrap()
}

fn locks(t: &T) -> Locks {
    Locks::new(t.store())
}

async fn grant(t: &T, key: &str, claim: &Claim) -> Option<u64> {
    match t.store().acquire(key, claim).await.unwrap() {
        Claimed::Granted { fence } => Some(fence),
        Claimed::Held { .. } => None,
    }
}

async fn a_lock_has_one_holder(t: T) {
    let (key, locks) = (t.key("k"), locks(&t));
    let guard = locks.try_acquire(&key, LONG).await.unwrap().unwrap();
    assert!(guard.remaining() > LONG / 2 && !guard.is_lost());
    assert!(locks.try_acquire(&key, LONG).await.unwrap().is_none());
    let other = locks.try_acquire(&t.key("other"), LONG).await.unwrap();
    assert!(other.is_some(), "each key has its own lock");
    let lost = guard.lost();
    guard.release().await.unwrap();
    assert!(lost.is_cancelled());
    assert!(locks.try_acquire(&key, LONG).await.unwrap().is_some());
}

async fn fences_grow(t: T) {
    let (key, locks) = (t.key("k"), locks(&t));
    let mut last = 1_000_000_000_000_000;
    for _ in 0..20 {
        let guard = locks.acquire(&key, LONG).await.unwrap();
        assert!(guard.fence() > last, "{} after {last}", guard.fence());
        last = guard.fence();
        guard.release().await.unwrap();
    }
    // the end of a hold by its ttl counts as one too
    let claim = Claim::new(token(), SHORT);
    let fence = grant(&t, &key, &claim).await.unwrap();
    let guard = locks.acquire(&key, LONG).await.unwrap();
    assert!(fence > last && guard.fence() > fence);
}

async fn a_claim_may_be_repeated(t: T) {
    let (key, claim) = (t.key("k"), Claim::new(token(), LONG));
    let fence = grant(&t, &key, &claim).await.unwrap();
    assert_eq!(grant(&t, &key, &claim).await, Some(fence));
    assert_eq!(grant(&t, &key, &Claim::new(token(), LONG)).await, None);
}

async fn only_the_owner_changes_a_lock(t: T) {
    let (key, store) = (t.key("k"), t.store());
    let claim = Claim::new(token(), LONG);
    let fence = grant(&t, &key, &claim).await.unwrap();
    let stranger = token();
    assert!(!store.extend(&key, &stranger, LONG).await.unwrap());
    assert!(!store.release(&key, &stranger).await.unwrap());
    assert_eq!(grant(&t, &key, &claim).await, Some(fence), "the lock stands");
    assert!(store.extend(&key, &claim.token, LONG).await.unwrap());
    assert!(store.release(&key, &claim.token).await.unwrap());
    assert!(!store.release(&key, &claim.token).await.unwrap(), "there is nothing left to release");
    assert!(!store.extend(&key, &claim.token, LONG).await.unwrap());
}

async fn a_hold_ends_with_its_ttl(t: T) {
    let (key, store) = (t.key("k"), t.store());
    let old = Claim::new(token(), SHORT);
    grant(&t, &key, &old).await.unwrap();
    let new = Claim::new(token(), LONG);
    let Claimed::Held { left } = store.acquire(&key, &new).await.unwrap() else { panic!("granted twice") };
    assert!(left <= SHORT);
    eventually("the ttl passes", || async { grant(&t, &key, &new).await.is_some() }).await;
    assert!(!store.extend(&key, &old.token, LONG).await.unwrap());
    assert!(!store.release(&key, &old.token).await.unwrap());
    assert!(store.extend(&key, &new.token, LONG).await.unwrap(), "the new holder was touched");
}

async fn an_extension_never_shortens(t: T) {
    let (key, store) = (t.key("k"), t.store());
    let claim = Claim::new(token(), LONG);
    grant(&t, &key, &claim).await.unwrap();
    assert!(store.extend(&key, &claim.token, SHORT).await.unwrap());
    let Claimed::Held { left } = store.acquire(&key, &Claim::new(token(), LONG)).await.unwrap() else {
        panic!("granted twice")
    };
    assert!(left > LONG / 2, "{left:?}");
    assert!(store.extend(&key, &claim.token, LONG * 2).await.unwrap());
    let Claimed::Held { left } = store.acquire(&key, &Claim::new(token(), LONG)).await.unwrap() else {
        panic!("granted twice")
    };
    assert!(left > LONG, "{left:?}");
}

/// Tasks that read, pause and write under the lock lose no update.
async fn contend(t: &T, locks: &Locks) {
    let key = t.key("k");
    let (count, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let (locks, key, count, last) = (locks.clone(), key.clone(), Arc::clone(&count), Arc::clone(&last));
        tasks.spawn(async move {
            for _ in 0..5 {
                let work = async |fence| {
                    let seen = count.load(Ordering::SeqCst);
                    assert!(last.swap(fence, Ordering::SeqCst) < fence, "an older fence after a newer one");
                    sleep(Duration::from_millis(2)).await;
                    count.store(seen + 1, Ordering::SeqCst);
                };
                locks.with_lock(&key, LONG, |hold| work(hold.fence())).await.unwrap();
            }
        });
    }
    within("all turns", tasks.join_all()).await;
    assert_eq!(count.load(Ordering::SeqCst), 30, "two were in at once");
}

async fn work_never_overlaps(t: T) {
    contend(&t, &locks(&t)).await;
}

async fn fair_work_never_overlaps(t: T) {
    contend(&t, &locks(&t).fair()).await;
}

async fn a_release_calls(t: T) {
    let (key, store) = (t.key("k"), t.store());
    let (holder, waiter) = (Claim::new(token(), LONG), token());
    for _ in 0..3 {
        grant(&t, &key, &holder).await.unwrap();
        let mut seat = store.listen(&key, &waiter).await.unwrap();
        assert!(store.release(&key, &holder.token).await.unwrap());
        within("a call", seat.called()).await;
    }
}

async fn a_line_is_served_in_order(t: T) {
    let (key, store) = (t.key("k"), t.store());
    let claims: Vec<Claim> = (0..5).map(|_| Claim::new(token(), LONG).with_queue(LONG)).collect();
    assert!(grant(&t, &key, &claims[0]).await.is_some());
    for claim in &claims[1..] {
        assert_eq!(grant(&t, &key, claim).await, None);
    }
    // asking again keeps the place
    assert_eq!(grant(&t, &key, &claims[1]).await, None);
    for pair in claims.windows(2) {
        let mut seat = store.listen(&key, &pair[1].token).await.unwrap();
        assert!(store.release(&key, &pair[0].token).await.unwrap());
        within("the call of who is next", seat.called()).await;
        for late in claims.iter().filter(|claim| claim.token != pair[1].token && claim.token != pair[0].token) {
            let first = claims.iter().position(|claim| claim.token == late.token);
            if first > claims.iter().position(|claim| claim.token == pair[1].token) {
                assert_eq!(grant(&t, &key, late).await, None, "out of order");
            }
        }
        assert!(grant(&t, &key, &pair[1]).await.is_some());
    }
}

async fn the_dead_are_skipped(t: T) {
    let (key, store) = (t.key("k"), t.store());
    let holder = Claim::new(token(), LONG);
    grant(&t, &key, &holder).await.unwrap();
    let dead = Claim::new(token(), LONG).with_queue(SHORT);
    let next = Claim::new(token(), LONG).with_queue(LONG);
    assert_eq!(grant(&t, &key, &dead).await, None);
    assert_eq!(grant(&t, &key, &next).await, None);
    assert!(store.release(&key, &holder.token).await.unwrap());
    eventually("the dead place ends", || async { grant(&t, &key, &next).await.is_some() }).await;
}

async fn leaving_lets_the_next_in(t: T) {
    let (key, store) = (t.key("k"), t.store());
    let holder = Claim::new(token(), LONG);
    grant(&t, &key, &holder).await.unwrap();
    let [a, b, c] = [(); 3].map(|()| Claim::new(token(), LONG).with_queue(LONG));
    for claim in [&a, &b, &c] {
        assert_eq!(grant(&t, &key, claim).await, None);
    }
    assert!(!store.release(&key, &b.token).await.unwrap(), "it only waited");
    assert!(store.release(&key, &holder.token).await.unwrap());
    let mut seat = store.listen(&key, &c.token).await.unwrap();
    assert!(!store.release(&key, &a.token).await.unwrap());
    within("the call of who is next", seat.called()).await;
    assert!(grant(&t, &key, &c).await.is_some());
}

async fn a_try_respects_the_line(t: T) {
    let (key, store) = (t.key("k"), t.store());
    let locks = locks(&t).fair();
    let holder = Claim::new(token(), LONG);
    grant(&t, &key, &holder).await.unwrap();
    assert!(locks.try_acquire(&key, LONG).await.unwrap().is_none());
    let next = Claim::new(token(), LONG).with_queue(LONG);
    assert_eq!(grant(&t, &key, &next).await, None);
    assert!(store.release(&key, &holder.token).await.unwrap());
    assert!(locks.try_acquire(&key, LONG).await.unwrap().is_none(), "it passed the line");
    assert!(grant(&t, &key, &next).await.is_some(), "a try stands in line");
    assert!(store.release(&key, &next.token).await.unwrap());
    assert!(locks.try_acquire(&key, LONG).await.unwrap().is_some());
}

async fn a_wait_ends(t: T) {
    let key = t.key("k");
    for locks in [locks(&t), locks(&t).fair()] {
        let guard = locks.acquire(&key, LONG).await.unwrap();
        for wait in [Duration::ZERO, SHORT] {
            let late = within("the deadline", locks.acquire_within(&key, LONG, wait)).await.unwrap_err();
            assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
        }
        guard.release().await.unwrap();
        let again = || async { locks.try_acquire(&key, LONG).await.unwrap().is_some() };
        eventually("no place is left in line", again).await;
        // that guard was dropped
        eventually("free again", || async { t.store().acquire(&key, &Claim::new(token(), SHORT)).await.is_ok() }).await;
    }
}

async fn drops_give_back(t: T) {
    let (key, locks) = (t.key("k"), locks(&t).fair());
    let guard = locks.acquire(&key, LONG).await.unwrap();
    let wait = tokio::spawn({
        let (locks, key) = (locks.clone(), key.clone());
        async move { locks.acquire(&key, LONG).await.map(drop) }
    });
    sleep(SHORT / 4).await;
    wait.abort();
    let lost = guard.lost();
    drop(guard);
    assert!(lost.is_cancelled());
    let free = async || {
        let taken = locks.try_acquire(&key, LONG).await.unwrap();
        let free = taken.is_some();
        if let Some(guard) = taken {
            guard.release().await.unwrap();
        }
        free
    };
    eventually("a dropped guard is released, a dropped wait forgotten", &free).await;
    let broken = tokio::spawn({
        let (locks, key) = (locks.clone(), key.clone());
        async move { locks.with_lock(&key, LONG, |_| async { assert_eq!(1, 2, "on purpose") }).await }
    });
    assert!(broken.await.unwrap_err().is_panic());
    eventually("a panic releases", &free).await;
}

async fn holds_are_renewed_up_to_the_cap(t: T) {
    let key = t.key("k");
    let ttl = Duration::from_secs(3);
    let guard = locks(&t).max_hold(Duration::from_millis(7500)).acquire(&key, ttl).await.unwrap();
    let began = std::time::Instant::now();
    within("the cap", guard.lost().cancelled()).await;
    let held = began.elapsed();
    assert!(held > ttl * 2, "not renewed: {held:?}");
    let next = within("the next holder", locks(&t).acquire(&key, LONG)).await.unwrap();
    assert!(next.fence() > guard.fence());
    assert_eq!(guard.release().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(!next.is_lost());
    let by_hand = locks(&t).max_hold(Duration::ZERO).acquire(&t.key("other"), ttl).await.unwrap();
    by_hand.extend(LONG).await.unwrap();
    assert!(by_hand.remaining() > ttl);
}

async fn with_lock_returns(t: T) {
    let (key, locks) = (t.key("k"), locks(&t));
    let said = locks.with_lock(&key, LONG, |hold| async move { (hold.is_lost(), hold.fence()) }).await.unwrap();
    assert!(!said.0 && said.1 > 0);
    assert!(locks.try_acquire(&key, LONG).await.unwrap().is_some(), "it was released before it returned");
}

async fn with_lock_drops_lost_work(t: T) {
    struct Flag(Arc<AtomicU64>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (key, dropped) = (t.key("k"), Arc::new(AtomicU64::new(0)));
    let flag = Flag(Arc::clone(&dropped));
    let work = |_| async move {
        let _flag = flag;
        std::future::pending::<()>().await;
    };
    let locks = locks(&t).max_hold(Duration::ZERO);
    let lost = within("the loss", locks.with_lock(&key, SHORT, work)).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Conflict);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

async fn bad_arguments_are_refused(t: T) {
    let (key, locks) = (t.key("k"), locks(&t));
    let long = "x".repeat(1025);
    for bad in ["", "a\nb", long.as_str()] {
        assert_eq!(locks.try_acquire(bad, LONG).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(locks.acquire(bad, LONG).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(locks.with_lock(bad, LONG, async |_| ()).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let bad = [Duration::ZERO, Duration::from_micros(999), Duration::from_millis(9), MAX_TTL + Duration::from_nanos(1)];
    for ttl in bad {
        assert_eq!(locks.try_acquire(&key, ttl).await.unwrap_err().kind(), ErrorKind::Invalid, "{ttl:?}");
        assert_eq!(locks.acquire(&key, ttl).await.unwrap_err().kind(), ErrorKind::Invalid, "{ttl:?}");
    }
    assert!(!t.store().exists(&key).await.unwrap());
    let guard = locks.acquire(&key, LONG).await.unwrap();
    for ttl in bad {
        assert_eq!(guard.extend(ttl).await.unwrap_err().kind(), ErrorKind::Invalid, "{ttl:?}");
    }
    assert!(!guard.is_lost());
    guard.extend(MAX_TTL).await.unwrap();
}

async fn foreign_keys_are_left_alone(t: T) {
    let (key, store) = (t.key("k"), t.store());
    let value = Bytes::from_static(b"not a lock");
    store.set(&key, value.clone(), LONG).await.unwrap();
    let token = token();
    // the other one is a hash on a server, as a lock is
    for key in [&key, &foreign(&*store, t.key("")).await] {
        let said = [
            locks(&t).acquire(key, LONG).await.map(drop).unwrap_err(),
            locks(&t).fair().try_acquire(key, LONG).await.map(drop).unwrap_err(),
            store.extend(key, &token, LONG).await.unwrap_err(),
            LockStore::release(&store, key, &token).await.unwrap_err(),
        ];
        for error in said {
            assert_eq!(error.reply(), Some(Reply::WrongType), "{error:?}");
        }
        assert!(store.exists(key).await.unwrap(), "the foreign key is gone");
    }
    assert_eq!(store.get(&key).await.unwrap(), Some(value));
}

async fn nothing_is_shown(t: T) {
    let (key, locks) = (t.key("secret-key"), locks(&t));
    let claim = Claim::new(token(), LONG);
    let guard = locks.acquire(&key, LONG).await.unwrap();
    let late = locks.acquire_within(&key, LONG, Duration::ZERO).await.unwrap_err();
    let bad = locks.acquire(&key, Duration::ZERO).await.unwrap_err();
    let shown = format!("{claim:?} {:?} {guard:?} {:?} {locks:?} {late:?} {bad:?} {late}", claim.token, guard.hold());
    assert!(!shown.contains("secret") && !shown.contains(claim.token.as_str()), "{shown}");
}
