use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::Poll;

use async_trait::async_trait;
use tokio::task::yield_now;

use super::super::{Room, Seat};
use super::*;
use crate::Memory;

const LONG: Duration = Duration::from_secs(60);

/// A store with a flaw at one place, which yields before and after each step.
#[derive(Clone, Debug, Default)]
struct Odd {
    memory: Memory,
    /// Released, unheard, when somebody begins to listen.
    late: Arc<Mutex<Option<Token>>>,
    /// Nobody is ever called.
    deaf: bool,
    /// Listening fails.
    broken: bool,
}

#[async_trait]
impl LockStore for Odd {
    async fn acquire(&self, key: &str, claim: &Claim) -> Result<Claimed> {
        yield_now().await;
        let claimed = self.memory.acquire(key, claim).await;
        yield_now().await;
        claimed
    }
    async fn extend(&self, key: &str, token: &Token, ttl: Duration) -> Result<bool> {
        yield_now().await;
        let held = self.memory.extend(key, token, ttl).await;
        yield_now().await;
        held
    }
    async fn release(&self, key: &str, token: &Token) -> Result<bool> {
        yield_now().await;
        let held = self.memory.release(key, token).await;
        yield_now().await;
        held
    }
    async fn listen(&self, key: &str, token: &Token) -> Result<Seat> {
        yield_now().await;
        let late = self.late.lock().unwrap().take();
        if let Some(holder) = late {
            self.memory.release(key, &holder).await?;
        }
        if self.broken {
            return Err(Error::new(ErrorKind::Unavailable, "can't listen"));
        }
        if self.deaf { Ok(Room::default().enter(key, token)) } else { self.memory.listen(key, token).await }
    }
}

/// Holds the lock of `k`.
async fn held(store: &Odd) -> Token {
    let claim = Claim::new(Token::random().unwrap(), LONG);
    assert!(matches!(store.memory.acquire("k", &claim).await, Ok(Claimed::Granted { .. })));
    claim.token
}

#[tokio::test(start_paused = true)]
async fn a_release_between_the_look_and_the_listening_is_seen_at_once() {
    for fair in [false, true] {
        let store = Odd::default();
        let holder = held(&store).await;
        *store.late.lock().unwrap() = Some(holder);
        let locks = if fair { Locks::new(store.clone()).fair() } else { Locks::new(store.clone()) };
        let began = Instant::now();
        let guard = locks.acquire("k", LONG).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(1), "{:?}", began.elapsed());
        guard.release().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_not_called_looks_again_about_once_a_second() {
    for (deaf, broken) in [(true, false), (false, true)] {
        let store = Odd { deaf, broken, ..Odd::default() };
        let holder = held(&store).await;
        let waiting = tokio::spawn({
            let locks = Locks::new(store.clone());
            async move { locks.acquire("k", LONG).await.map(drop) }
        });
        sleep(Duration::from_secs(7)).await;
        assert!(!waiting.is_finished());
        let released = Instant::now();
        store.memory.release("k", &holder).await.unwrap();
        waiting.await.unwrap().unwrap();
        assert!(released.elapsed() <= POLL.mul_f64(1.25) + Duration::from_millis(2), "{:?}", released.elapsed());
    }
}

/// Polls `future` so many times that it waits at `point`, then drops it; `false` if it ended before.
async fn dropped_at<T>(point: u32, future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|context| {
        let future: Pin<&mut _> = future.as_mut();
        match future.poll(context) {
            Poll::Ready(_) => Poll::Ready(false),
            Poll::Pending if polls == point => Poll::Ready(true),
            Poll::Pending => {
                polls += 1;
                Poll::Pending
            }
        }
    })
    .await
}

/// Waits until nobody holds the lock or stands in its line.
async fn free(store: &Odd, what: &str) {
    let end = Instant::now() + LONG / 2;
    let claim = Claim::new(Token::random().unwrap(), LONG).with_queue(Duration::ZERO);
    while !matches!(store.memory.acquire("k", &claim).await, Ok(Claimed::Granted { .. })) {
        assert!(Instant::now() < end, "{what}: not given back before its ttl");
        sleep(Duration::from_millis(1)).await;
    }
    store.memory.release("k", &claim.token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_future_may_be_dropped_wherever_it_waits() {
    for fair in [false, true] {
        let store = Odd::default();
        let locks = Locks::new(store.clone());
        let locks = if fair { locks.fair() } else { locks };
        let (mut ends, mut points) = (0, 0);
        for point in 0..40 {
            let what = format!("fair {fair}, point {point}");
            ends += u32::from(!dropped_at(point, locks.try_acquire("k", LONG)).await);
            free(&store, &what).await;
            ends += u32::from(!dropped_at(point, locks.acquire("k", LONG)).await);
            free(&store, &what).await;
            ends += u32::from(!dropped_at(point, locks.with_lock("k", LONG, async |_| yield_now().await)).await);
            free(&store, &what).await;
            // waiting for somebody who gives it back in the middle of it
            let holder = held(&store).await;
            let release = tokio::spawn({
                let store = store.clone();
                async move {
                    sleep(Duration::from_millis(u64::from(point))).await;
                    store.release("k", &holder).await
                }
            });
            let dropped = dropped_at(point, locks.acquire("k", LONG)).await;
            points += u32::from(dropped);
            release.await.unwrap().unwrap();
            free(&store, &what).await;
            let guard = locks.acquire("k", LONG).await.unwrap();
            dropped_at(point, guard.extend(LONG)).await;
            dropped_at(point, guard.release()).await;
            free(&store, &what).await;
        }
        assert!(ends > 60 && points >= 5, "{ends} ended, {points} were dropped while waiting");
    }
}

#[tokio::test]
async fn a_lock_without_a_runtime_is_refused() {
    let locks = Locks::new(Memory::new());
    let without = std::thread::spawn(move || {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match pin!(locks.try_acquire("k", LONG)).poll(&mut context) {
            Poll::Ready(said) => said.unwrap_err().kind(),
            Poll::Pending => panic!("it waits for nothing"),
        }
    });
    assert_eq!(without.join().unwrap(), ErrorKind::Config);
}
