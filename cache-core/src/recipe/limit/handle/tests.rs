use std::sync::atomic::AtomicBool;

use async_trait::async_trait;

use super::*;

/// A store that counts what it is asked, and may be away.
#[derive(Clone, Debug, Default)]
struct Shaky {
    memory: Memory,
    away: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

impl Shaky {
    fn go(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn asked(&self) -> u64 {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

#[async_trait]
impl LimitStore for Shaky {
    async fn take(&self, key: &str, limit: &Limit, cost: u32) -> Result<Outcome> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "away"));
        }
        self.memory.take(key, limit, cost).await
    }
    async fn reset(&self, key: &str) -> Result<()> {
        self.memory.reset(key).await
    }
}

fn pair(limit: Limit, away: Away) -> (Shaky, Limits, crate::ManualClock) {
    let (clock, hand) = Clock::manual();
    let store = Shaky { memory: Memory::builder().clock(clock.clone()).build(), ..Shaky::default() };
    let limits = Limits::new(store.clone(), limit).unwrap().clock(clock).when_away(away);
    (store, limits, hand)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn while_the_store_is_away_the_rule_decides_and_the_store_is_asked_once_a_second() {
    for away in [Away::Open, Away::Closed] {
        let (store, limits, hand) = pair(Limit::per_second(5), away);
        store.go(true);
        for second in 0..4 {
            for _ in 0..50 {
                let decision = limits.take("k", 1).await.unwrap();
                assert_eq!((decision.allowed, decision.source), (away == Away::Open, Source::Away));
            }
            assert_eq!(store.asked(), 1, "in second {second}");
            hand.advance(SECOND);
        }
        store.go(false);
        assert_eq!(limits.take("k", 1).await.unwrap().source, Source::Store);
        assert_eq!(limits.take("k", 1).await.unwrap().source, Source::Store);
    }
    let (store, limits, _) = pair(Limit::per_second(5), Away::Fail);
    store.go(true);
    for _ in 0..3 {
        assert_eq!(limits.take("k", 1).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(store.asked(), 3);
}

#[tokio::test]
async fn a_share_is_what_a_process_allows_alone() {
    let share = NonZeroU32::new(3).unwrap();
    for algorithm in [Algorithm::Gcra, Algorithm::Fixed, Algorithm::Sliding, Algorithm::Log] {
        let (store, limits, hand) = pair(Limit::new(10, SECOND * 60).by(algorithm), Away::Local { share });
        store.go(true);
        let mut allowed = 0;
        for _ in 0..20 {
            allowed += u32::from(limits.take("k", 1).await.unwrap().allowed);
        }
        assert_eq!(allowed, 3, "{algorithm:?}");
        let much = limits.take("other", 9).await.unwrap();
        assert!(!much.allowed && !much.retry_after.is_zero(), "more than the share may ever give");
        hand.advance(SECOND * 121);
        assert!(limits.take("k", 1).await.unwrap().allowed);
    }
    let (store, limits, _) = pair(Limit::new(2, SECOND), Away::Local { share });
    store.go(true);
    assert!(limits.take("k", 1).await.unwrap().allowed, "at least one");
}

#[tokio::test]
async fn who_is_denied_costs_no_round_trip_until_the_denial_ends() {
    let (store, limits, hand) = pair(Limit::new(1, SECOND), Away::Open);
    assert!(limits.take("k", 1).await.unwrap().allowed);
    assert!(!limits.take("k", 1).await.unwrap().allowed);
    assert_eq!(store.asked(), 2);
    for _ in 0..9 {
        for _ in 0..100 {
            let denied = limits.take("k", 1).await.unwrap();
            assert!(!denied.allowed && denied.source == Source::Remembered && denied.retry_after <= SECOND);
        }
        hand.advance(SECOND / 10);
    }
    assert_eq!(store.asked(), 0);
    assert!(limits.take("other", 1).await.unwrap().allowed);
    hand.advance(SECOND / 10);
    assert!(limits.take("k", 1).await.unwrap().allowed, "it is remembered no longer than it holds");
    assert!(!limits.peek("k").await.unwrap().allowed);
    limits.reset("k").await.unwrap();
    assert!(limits.take("k", 1).await.unwrap().allowed, "a reset forgets the denial too");
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let (_, limits, _) = pair(Limit::new(1, SECOND), Away::Open);
    for i in 0..9000 {
        let key = i.to_string();
        limits.take(&key, 1).await.unwrap();
        limits.take(&key, 1).await.unwrap();
    }
    assert_eq!(limits.0.denials.len(), 8192);
}
