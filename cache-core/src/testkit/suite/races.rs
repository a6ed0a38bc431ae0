//! The service under concurrency and cancellation.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::testkit::Context;
use crate::testkit::case::cases;
use crate::testkit::context::LONG;
use crate::testkit::wait::within;

cases! { "service", [Service]:
    "A value is never torn: 64 writers, and every read is one of their values." => concurrent_writers_never_tear_a_value,
    "A value is never another key's." => a_value_is_never_another_keys,
    "Of many that delete a key, one is told that it was there." => a_delete_race_has_one_winner,
    "A set that is dropped leaves the entry either as before or as asked." => a_dropped_set_is_all_or_nothing,
    "A delete that is dropped leaves the entry either as before or gone." => a_dropped_delete_is_all_or_nothing,
    "Dropped reads do no harm." => dropped_reads_do_no_harm,
}

/// A value that tells whether it is whole: its writer, over a length that the writer chose.
fn whole(writer: u8, len: usize) -> Bytes {
    let mut value = vec![writer; len.max(5)];
    let len = u32::try_from(value.len()).unwrap();
    value[..4].copy_from_slice(&len.to_le_bytes());
    Bytes::from(value)
}

#[track_caller]
fn check_whole(value: &[u8]) {
    let len = u32::from_le_bytes(*value.first_chunk().expect("a torn value: too short")) as usize;
    assert_eq!(value.len(), len, "a torn value: length");
    assert!(value[4..].iter().all(|b| *b == value[4]), "a torn value: two writers");
}

async fn join(mut tasks: JoinSet<()>) {
    while let Some(end) = within("the tasks", tasks.join_next()).await {
        if let Err(broken) = end {
            std::panic::resume_unwind(broken.into_panic());
        }
    }
}

async fn concurrent_writers_never_tear_a_value(t: Context) {
    let key = t.key("k");
    t.set(&key, whole(0xaa, 100), LONG).await;
    let mut tasks = JoinSet::new();
    for writer in 0..64 {
        let (store, key) = (t.shared(), key.clone());
        tasks.spawn(async move {
            for _ in 0..20 {
                let len = fastrand::usize(5..20_000);
                store.set(&key, whole(writer, len), LONG).await.unwrap();
                // a store that never waits would otherwise run one writer after the other
                tokio::task::yield_now().await;
                check_whole(&store.get(&key).await.unwrap().expect("the key is never missing"));
                tokio::task::yield_now().await;
                let answers = store.get_many(&[&key, &key]).await.unwrap();
                answers.iter().for_each(|value| check_whole(value.as_ref().expect("the key is never missing")));
            }
        });
    }
    join(tasks).await;
    check_whole(&t.get(&key).await.unwrap());
}

async fn a_value_is_never_another_keys(t: Context) {
    let mut tasks = JoinSet::new();
    for task in 0..32 {
        let t = t.clone();
        tasks.spawn(async move {
            for round in 0..30 {
                let keys: [String; 3] = std::array::from_fn(|i| t.scattered((task * 7 + round + i * 5) % 40));
                let names = keys.each_ref().map(|key| &**key);
                if (task + round) % 2 == 0 {
                    let entries = names.map(|key| (key, Bytes::copy_from_slice(key.as_bytes())));
                    t.store().set_many(&entries, LONG).await.unwrap();
                }
                for (key, value) in names.iter().zip(t.store().get_many(&names).await.unwrap()) {
                    assert!(value.is_none_or(|v| v == key.as_bytes()), "the value of another key");
                }
                if let Some(value) = t.get(names[0]).await {
                    assert_eq!(value, names[0].as_bytes(), "the value of another key");
                }
            }
        });
    }
    join(tasks).await;
}

async fn a_delete_race_has_one_winner(t: Context) {
    let key = t.key("k");
    for round in 0..20 {
        t.set(&key, "v", LONG).await;
        let mut tasks = JoinSet::new();
        for task in 0..16 {
            let (store, key) = (t.shared(), key.clone());
            tasks.spawn(async move {
                if task % 2 == 0 {
                    u64::from(store.delete(&key).await.unwrap())
                } else {
                    store.delete_many(&[&key]).await.unwrap()
                }
            });
        }
        assert_eq!(tasks.join_all().await.iter().sum::<u64>(), 1, "round {round}");
    }
}

/// Polls `inner` at most `polls` times, then is done without it.
struct Cut<F> {
    inner: F,
    polls: usize,
}

impl<F: Future + Unpin> Future for Cut<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        match Pin::new(&mut self.inner).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.polls == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Polls `future` `polls` times at most and drops it; whether it came to its end.
pub(super) async fn cut<F: Future>(polls: usize, future: F) -> bool {
    let inner = pin!(future);
    within("a future that is cut", Cut { inner, polls }).await.is_some()
}

async fn a_dropped_set_is_all_or_nothing(t: Context) {
    for round in 0..60 {
        // a late set may still land after the drop, so every round has keys of its own
        let keys: Vec<String> = (0..3).map(|i| t.key(&format!("{round}-{i}"))).collect();
        let (before, after) = (whole(1, 3000), whole(2, 9000));
        let old: Vec<_> = keys.iter().map(|key| (&**key, before.clone())).collect();
        let new: Vec<_> = keys.iter().map(|key| (&**key, after.clone())).collect();
        t.store().set_many(&old, LONG).await.unwrap();
        let polls = fastrand::usize(0..4);
        let ended = if round % 2 == 0 {
            cut(polls, t.store().set(&keys[0], after.clone(), LONG)).await
        } else {
            cut(polls, t.store().set_many(&new, LONG)).await
        };
        for (i, key) in keys.iter().enumerate() {
            let value = t.get(key).await.expect("a dropped set lost the entry");
            let touched = i == 0 || round % 2 == 1;
            assert!(value == before || (touched && value == after), "a dropped set left something else");
            assert!(!ended || !touched || value == after, "a finished set left the old value");
        }
    }
}

async fn a_dropped_delete_is_all_or_nothing(t: Context) {
    for round in 0..40 {
        let (key, beside) = (t.key(&round.to_string()), t.key(&format!("{round}-beside")));
        t.set(&key, whole(1, 2000), LONG).await;
        t.set(&beside, whole(2, 2000), LONG).await;
        let ended = cut(fastrand::usize(0..4), t.store().delete(&key)).await;
        let left = t.get(&key).await;
        assert!(left.is_none() || !ended, "a finished delete left the value");
        assert!(left.is_none_or(|value| value == whole(1, 2000)), "a dropped delete changed the value");
        assert_eq!(t.get(&beside).await, Some(whole(2, 2000)), "a dropped delete touched another key");
    }
}

async fn dropped_reads_do_no_harm(t: Context) {
    let keys: Vec<String> = (0..4).map(|i| t.scattered(i)).collect();
    let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
    for key in &keys {
        t.set(key, key.clone(), LONG).await;
    }
    for round in 0..100 {
        let polls = fastrand::usize(0..3);
        match round % 3 {
            0 => cut(polls, t.store().get(&keys[0])).await,
            1 => cut(polls, t.store().exists(&keys[1])).await,
            _ => cut(polls, t.store().get_many(&names)).await,
        };
        let i = round % keys.len();
        assert_eq!(t.get(&keys[i]).await.as_deref(), Some(keys[i].as_bytes()), "an answer for another call");
    }
}
