use std::sync::atomic::AtomicU8;
use std::time::Instant;

use async_trait::async_trait;
use tokio::time::timeout;

use super::super::{Claim, Claimed, Locks, Seat};
use super::*;
use crate::Memory;

const ANSWERS: u8 = 0;
const SILENT: u8 = 1;
const FAILS: u8 = 2;

const PATIENCE: Duration = Duration::from_secs(20);

/// A store that answers, stays silent, or fails.
#[derive(Clone, Debug)]
struct Moody {
    memory: Memory,
    mood: Arc<AtomicU8>,
}

impl Moody {
    fn new() -> Self {
        Self { memory: Memory::new(), mood: Arc::default() }
    }

    fn set(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }

    async fn answer(&self) -> Result<()> {
        match self.mood.load(Ordering::SeqCst) {
            ANSWERS => Ok(()),
            SILENT => std::future::pending().await,
            _ => Err(Error::new(ErrorKind::Unavailable, "away")),
        }
    }
}

#[async_trait]
impl LockStore for Moody {
    async fn acquire(&self, key: &str, claim: &Claim) -> Result<Claimed> {
        self.answer().await?;
        self.memory.acquire(key, claim).await
    }
    async fn extend(&self, key: &str, token: &Token, ttl: Duration) -> Result<bool> {
        self.answer().await?;
        self.memory.extend(key, token, ttl).await
    }
    async fn release(&self, key: &str, token: &Token) -> Result<bool> {
        self.answer().await?;
        self.memory.release(key, token).await
    }
    async fn listen(&self, key: &str, token: &Token) -> Result<Seat> {
        self.memory.listen(key, token).await
    }
}

#[tokio::test]
async fn a_guard_is_lost_at_its_deadline_whether_the_store_is_silent_or_fails() {
    for mood in [SILENT, FAILS] {
        let store = Moody::new();
        let ttl = Duration::from_millis(300);
        let began = Instant::now();
        let guard = Locks::new(store.clone()).acquire("k", ttl).await.unwrap();
        store.set(mood);
        timeout(PATIENCE, guard.lost().cancelled()).await.expect("the token fires");
        assert!(began.elapsed() >= ttl - ttl / 50, "{mood}: too early: {:?}", began.elapsed());
        assert!(guard.is_lost() && guard.remaining().is_zero());
    }
}

#[tokio::test]
async fn a_failure_that_passes_within_the_ttl_loses_nothing() {
    let store = Moody::new();
    let guard = Locks::new(store.clone()).acquire("k", Duration::from_secs(9)).await.unwrap();
    store.set(FAILS);
    sleep(Duration::from_millis(3500)).await;
    store.set(ANSWERS);
    let end = Instant::now() + PATIENCE;
    while guard.remaining() < Duration::from_secs(6) {
        assert!(Instant::now() < end && !guard.is_lost(), "it was not renewed again");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_guard_whose_lock_the_store_forgot_is_lost_at_the_next_renewal() {
    let store = Moody::new();
    let guard = Locks::new(store.clone()).acquire("k", Duration::from_secs(2)).await.unwrap();
    let fence = guard.fence();
    store.memory.flush();
    let remaining = guard.remaining();
    timeout(PATIENCE, guard.lost().cancelled()).await.expect("the token fires");
    assert!(remaining > Duration::from_secs(1));
    let claim = Claim::new(Token::random().unwrap(), PATIENCE);
    let Claimed::Granted { fence: next } = store.memory.acquire("k", &claim).await.unwrap() else { panic!("held") };
    assert!(next > fence);
}

#[tokio::test]
async fn a_wait_survives_a_store_that_is_away_and_tells_its_error_at_the_end() {
    let store = Moody::new();
    let locks = Locks::new(store.clone());
    let guard = locks.acquire("k", PATIENCE).await.unwrap();
    let wait = tokio::spawn({
        let locks = locks.clone();
        async move { locks.acquire_within("k", PATIENCE, PATIENCE).await }
    });
    let mut late = tokio::spawn({
        let locks = locks.clone();
        async move { locks.acquire_within("k", PATIENCE, Duration::from_millis(900)).await }
    });
    tokio::task::yield_now().await;
    store.set(FAILS);
    let error = timeout(PATIENCE, &mut late).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
    store.set(ANSWERS);
    guard.release().await.unwrap();
    let guard = timeout(PATIENCE, wait).await.unwrap().unwrap().unwrap();
    assert!(!guard.is_lost());
}

#[tokio::test]
async fn work_is_not_polled_past_the_deadline_of_its_lock() {
    let locks = Locks::new(Memory::new());
    let ttl = Duration::from_millis(100);
    let late = locks.with_lock("k", ttl, |hold| async move {
        // blocks the thread, so that no timer runs and nothing renews
        std::thread::sleep(ttl * 2);
        tokio::task::yield_now().await;
        hold.fence()
    });
    assert_eq!(late.await.unwrap_err().kind(), ErrorKind::Conflict);
}
