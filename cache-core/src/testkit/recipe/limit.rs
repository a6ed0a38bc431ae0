//! Rate limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::value::foreign;
use super::{Context, promises};
use crate::recipe::limit::{Algorithm, Limit, LimitStore, Limits, Source};
use crate::testkit::eventually;
use crate::{CacheService, Clock, ErrorKind, Reply, Tick, Ticks};

/// A store with limits, in which other programs may have put bytes.
pub trait Subject: LimitStore + CacheService {}
impl<S: LimitStore + CacheService> Subject for S {}

type T = Context<dyn Subject>;

promises! { dyn Subject:
    "What the limit gives is allowed, then denied until the time that the denial tells." => a_limit_is_kept,
    "Each key has its own limit." => keys_have_their_own_limit,
    "A cost is taken whole or not at all." => a_cost_is_taken_whole,
    "A peek takes nothing and tells what a take would be told." => a_peek_takes_nothing,
    "Denials change nothing: who keeps trying is let in as soon as one who waits." => denials_change_nothing,
    "A reset forgets what was taken." => a_reset_forgets,
    "Of many takes at once exactly the limit is allowed." => takes_at_once_are_counted,
    "No window sees more than its algorithm says, whatever the clocks of clients show." => windows_are_kept,
    "A denial is remembered in the process and ends when the store's does." => denials_are_remembered,
    "Bad arguments are refused, and nothing is touched." => bad_arguments_are_refused,
    "A key of another kind is refused and left as it is." => foreign_keys_are_left_alone,
    "`Debug` and errors show no key." => nothing_is_shown,
}

const ALL: [Algorithm; 4] = [Algorithm::Gcra, Algorithm::Fixed, Algorithm::Sliding, Algorithm::Log];
const LONG: Duration = Duration::from_secs(3600);

fn limits(t: &T, limit: Limit) -> Limits {
    Limits::new(t.store(), limit).unwrap()
}

/// A clock that is off, and goes half as fast or twice as fast as it should.
struct Skewed {
    base: Tick,
    start: u64,
    twice: bool,
}

impl Skewed {
    fn clock(i: u64) -> Clock {
        let base = Clock::system().now();
        Clock::from_source(Self { base, start: i * 3_600_000_000_000, twice: i.is_multiple_of(2) })
    }
}

impl Ticks for Skewed {
    fn now(&self) -> Tick {
        let passed = Clock::system().now().since(self.base).as_nanos();
        let passed = if self.twice { passed * 2 } else { passed / 2 };
        Tick::from_nanos(self.start + u64::try_from(passed).unwrap())
    }
    fn unix_ms(&self) -> u64 {
        self.now().as_nanos() / 1_000_000
    }
}

async fn a_limit_is_kept(t: T) {
    for algorithm in ALL {
        let (key, limit) = (t.key(&format!("{algorithm:?}")), Limit::new(3, LONG).by(algorithm));
        let limits = limits(&t, limit);
        for left in [2, 1, 0] {
            let decision = limits.take(&key, 1).await.unwrap();
            assert!(decision.allowed && decision.retry_after.is_zero(), "{decision:?}");
            assert_eq!((decision.remaining, decision.source, decision.limit), (left, Source::Store, limit));
            assert!(!decision.reset_after.is_zero() && decision.reset_after <= LONG * 2);
        }
        let denied = limits.take(&key, 1).await.unwrap();
        assert!(!denied.allowed && denied.remaining == 0, "{denied:?}");
        assert!(!denied.retry_after.is_zero() && denied.retry_after <= LONG * 2, "{denied:?}");
        assert!(denied.retry_after <= denied.reset_after, "{denied:?}");
        assert_eq!(denied.require().unwrap_err().kind(), ErrorKind::Overloaded);
    }
}

async fn keys_have_their_own_limit(t: T) {
    let limits = limits(&t, Limit::new(1, LONG));
    for key in ["a", "b", "c"] {
        assert!(limits.take(&t.key(key), 1).await.unwrap().allowed);
        assert!(!limits.take(&t.key(key), 1).await.unwrap().allowed);
    }
}

async fn a_cost_is_taken_whole(t: T) {
    for algorithm in ALL {
        let key = t.key(&format!("{algorithm:?}"));
        let limits = limits(&t, Limit::new(10, LONG).by(algorithm));
        assert_eq!(limits.take(&key, 7).await.unwrap().remaining, 3);
        assert!(!limits.take(&key, 4).await.unwrap().allowed);
        let rest = limits.take(&key, 3).await.unwrap();
        assert!(rest.allowed && rest.remaining == 0, "a denial took something: {rest:?}");
    }
}

async fn a_peek_takes_nothing(t: T) {
    for algorithm in ALL {
        let key = t.key(&format!("{algorithm:?}"));
        let limits = limits(&t, Limit::new(2, LONG).by(algorithm));
        for left in [2, 1] {
            for _ in 0..3 {
                let peek = limits.peek(&key).await.unwrap();
                assert!(peek.allowed && peek.remaining == left, "{peek:?}");
            }
            assert!(limits.take(&key, 1).await.unwrap().allowed);
        }
        let peek = limits.peek(&key).await.unwrap();
        assert!(!peek.allowed && peek.remaining == 0 && !peek.retry_after.is_zero(), "{peek:?}");
    }
}

async fn denials_change_nothing(t: T) {
    for algorithm in ALL {
        let (key, limit) = (t.key(&format!("{algorithm:?}")), Limit::new(2, Duration::from_millis(400)).by(algorithm));
        let store = t.store();
        while store.take(&key, &limit, 1).await.unwrap().allowed {}
        let peek = store.take(&key, &limit, 0).await.unwrap();
        let began = Instant::now();
        while !store.take(&key, &limit, 1).await.unwrap().allowed {
            // a generous margin for a machine that is busy
            assert!(began.elapsed() < Duration::from_micros(peek.retry_us) + Duration::from_secs(20), "{algorithm:?}");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn a_reset_forgets(t: T) {
    for algorithm in ALL {
        let key = t.key(&format!("{algorithm:?}"));
        let limits = limits(&t, Limit::new(1, LONG).by(algorithm));
        assert!(limits.take(&key, 1).await.unwrap().allowed);
        assert!(!limits.take(&key, 1).await.unwrap().allowed);
        limits.reset(&key).await.unwrap();
        assert!(limits.take(&key, 1).await.unwrap().allowed);
    }
    limits(&t, Limit::new(1, LONG)).reset(&t.key("missing")).await.unwrap();
}

async fn takes_at_once_are_counted(t: T) {
    for algorithm in ALL {
        let key = t.key(&format!("{algorithm:?}"));
        let mut tasks = JoinSet::new();
        for i in 0..8 {
            let limits = limits(&t, Limit::new(20, LONG).by(algorithm)).clock(Skewed::clock(i));
            let key = key.clone();
            tasks.spawn(async move {
                let mut allowed = 0;
                for _ in 0..10 {
                    allowed += u32::from(limits.take(&key, 1).await.unwrap().allowed);
                }
                allowed
            });
        }
        assert_eq!(tasks.join_all().await.into_iter().sum::<u32>(), 20, "{algorithm:?}");
    }
}

/// Takes of many clients, each known to lie between its call and its answer: what lies wholly in a window is counted.
async fn windows_are_kept(t: T) {
    let (window, most) = (Duration::from_millis(150), 12_u32);
    for algorithm in ALL {
        let key = t.key(&format!("{algorithm:?}"));
        let (began, all) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for i in 0..6 {
            let limits = limits(&t, Limit::new(most, window).by(algorithm)).clock(Skewed::clock(i));
            let (key, all) = (key.clone(), Arc::clone(&all));
            tasks.spawn(async move {
                let mut taken = Vec::new();
                // on a busy machine six windows may pass with a handful of calls
                let more = || all.load(Ordering::Relaxed) <= most.into() && began.elapsed() < Duration::from_secs(20);
                while began.elapsed() < window * 6 || more() {
                    let called = began.elapsed();
                    let cost = fastrand::u32(1..3);
                    if limits.take(&key, cost).await.unwrap().allowed {
                        taken.push((called, began.elapsed(), cost));
                        all.fetch_add(cost.into(), Ordering::Relaxed);
                    }
                    sleep(Duration::from_micros(fastrand::u64(..3000))).await;
                }
                taken
            });
        }
        let taken: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        let bound = match algorithm {
            Algorithm::Log => most,
            // the burst, and what the rate gives in a window
            _ => most * 2,
        };
        for (start, _, _) in &taken {
            let inside = taken.iter().filter(|(called, answered, _)| called >= start && *answered < *start + window);
            let sum: u32 = inside.map(|(_, _, cost)| cost).sum();
            assert!(sum <= bound, "{algorithm:?}: {sum} in a window");
        }
        let sum: u32 = taken.iter().map(|(_, _, cost)| cost).sum();
        assert!(sum > most, "{algorithm:?}: only {sum} came through");
    }
}

async fn denials_are_remembered(t: T) {
    let key = t.key("k");
    let limits = limits(&t, Limit::new(2, Duration::from_secs(6)));
    assert!(limits.take(&key, 2).await.unwrap().allowed);
    let denied = limits.take(&key, 2).await.unwrap();
    assert_eq!((denied.allowed, denied.source), (false, Source::Store));
    let again = limits.clone().take(&key, 2).await.unwrap();
    assert_eq!((again.allowed, again.source), (false, Source::Remembered));
    assert!(again.retry_after <= denied.retry_after && again.remaining == denied.remaining);
    // one may come through where two may not
    assert_eq!(limits.take(&key, 1).await.unwrap().source, Source::Store);
    let asked = AtomicU64::new(0);
    eventually("the denial ends", || async {
        asked.fetch_add(1, Ordering::Relaxed);
        limits.take(&key, 2).await.unwrap().allowed
    })
    .await;
    assert!(asked.load(Ordering::Relaxed) > 1);
}

async fn bad_arguments_are_refused(t: T) {
    let second = Duration::from_secs(1);
    let nanos = Duration::from_nanos;
    for limit in [
        Limit::new(0, second),
        Limit::new(1, Duration::ZERO),
        Limit::new(1, nanos(999_999)),
        Limit::new(1, Duration::from_secs(367 * 24 * 3600)),
        Limit::new(1, Duration::MAX),
        Limit::new(1, second).with_burst(0),
        Limit::new(u32::MAX, second),
        Limit::new(1, Duration::from_secs(366 * 24 * 3600)).with_burst(u32::MAX),
        Limit::new(0, second).by(Algorithm::Fixed),
        Limit::new(2, second).by(Algorithm::Fixed).with_burst(3),
        Limit::new(1001, second).by(Algorithm::Log),
    ] {
        assert_eq!(Limits::new(t.store(), limit).unwrap_err().kind(), ErrorKind::Invalid, "{limit:?}");
    }
    let both = Limits::new(t.store(), Limit::new(0, Duration::ZERO)).unwrap_err();
    assert!(both.message().contains("limit") && both.message().contains("window"), "{both}");
    let (key, limits) = (t.key("k"), limits(&t, Limit::new(9, second).with_burst(3)));
    for cost in [0, 4, u32::MAX] {
        assert_eq!(limits.take(&key, cost).await.unwrap_err().kind(), ErrorKind::Invalid, "{cost}");
    }
    for key in ["", "a\nb"] {
        assert_eq!(limits.take(key, 1).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(limits.peek(key).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(limits.reset(key).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(limits.peek(&key).await.unwrap().remaining, 3, "something was taken");
}

async fn foreign_keys_are_left_alone(t: T) {
    let (key, store) = (t.key("k"), t.store());
    for value in ["not a limit", "12", "", "g:ada", "f:1:ada", "s:1:2:ada", "lilac"] {
        let value = Bytes::from_static(value.as_bytes());
        store.set(&key, value.clone(), LONG).await.unwrap();
        for algorithm in ALL {
            let limits = limits(&t, Limit::new(5, LONG).by(algorithm));
            for error in [limits.take(&key, 1).await.unwrap_err(), limits.peek(&key).await.unwrap_err()] {
                assert_eq!(error.reply(), Some(Reply::WrongType), "{error:?}");
            }
        }
        assert!(limits(&t, Limit::new(5, LONG)).reset(&key).await.is_err());
        assert_eq!(store.get(&key).await.unwrap(), Some(value));
    }
    let other = foreign(&*store, t.key("")).await;
    for algorithm in ALL {
        let error = limits(&t, Limit::new(5, LONG).by(algorithm)).take(&other, 1).await.unwrap_err();
        assert_eq!(error.reply(), Some(Reply::WrongType), "{error:?}");
    }
    assert!(limits(&t, Limit::new(5, LONG)).reset(&other).await.is_err());
    assert!(store.exists(&other).await.unwrap(), "the foreign key is gone");
    let key = t.key("other algorithm");
    assert!(limits(&t, Limit::new(5, LONG)).take(&key, 1).await.unwrap().allowed);
    for algorithm in [Algorithm::Fixed, Algorithm::Sliding, Algorithm::Log] {
        let error = limits(&t, Limit::new(5, LONG).by(algorithm)).take(&key, 1).await.unwrap_err();
        assert_eq!(error.reply(), Some(Reply::WrongType), "{error:?}");
    }
    assert_eq!(limits(&t, Limit::new(5, LONG)).peek(&key).await.unwrap().remaining, 4);
}

async fn nothing_is_shown(t: T) {
    let (key, limits) = (t.key("secret-key"), Arc::new(limits(&t, Limit::new(1, LONG))));
    limits.take(&key, 1).await.unwrap();
    let denied = limits.take(&key, 1).await.unwrap();
    let error = limits.take(&key, 2).await.unwrap_err();
    let shown = format!("{limits:?} {denied:?} {error:?} {error} {:?}", denied.require());
    assert!(!shown.contains("secret"), "{shown}");
}
