//! Gathering single loads into calls of a batch loader.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result, Tick};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::engine::Engine;
use crate::loaded::{KeysLoader, Loader, Produced};
use crate::space::Space;

/// How many times everybody else is let run before it is believed that nobody more comes.
const TURNS: u32 = 2;

/// Loads that were asked for one by one and are made together.
///
/// A load is held back while other keys are on their way to it, that is, missed near and may yet be found far, but no
/// longer than the window. Alone, it is made at once.
pub(crate) struct Gather<Q> {
    engine: Arc<Engine>,
    /// Whose gate stands before the calls.
    space: Arc<Space>,
    loader: KeysLoader<Q>,
    state: Mutex<State<Q>>,
    /// Rung when nobody is on the way any more, or enough have come.
    bell: Notify,
}

struct State<Q> {
    /// The texts of keys on their way.
    coming: HashSet<String>,
    waiting: Vec<Waiting<Q>>,
    /// Whether a task gathers.
    gathering: bool,
}

struct Waiting<Q> {
    key: Q,
    /// When its flight began, or a little earlier.
    since: Tick,
    answer: oneshot::Sender<Result<Produced>>,
}

/// A key on its way; until it is dropped, others wait for it.
struct Coming<Q> {
    gather: Arc<Gather<Q>>,
    text: String,
}

impl<Q> Drop for Coming<Q> {
    fn drop(&mut self) {
        let mut state = self.gather.state();
        state.coming.remove(&self.text);
        let none = state.coming.is_empty();
        drop(state);
        if none {
            self.gather.bell.notify_one();
        }
    }
}

impl<Q: Clone + Send + Sync + 'static> Gather<Q> {
    pub(crate) fn new(engine: Arc<Engine>, space: Arc<Space>, loader: KeysLoader<Q>) -> Arc<Self> {
        let state = State { coming: HashSet::new(), waiting: Vec::new(), gathering: false };
        Arc::new(Self { engine, space, loader, state: Mutex::new(state), bell: Notify::new() })
    }

    /// A load of `key`, whose text is `text`, as part of a call that is made `window` later at most. From now on the key
    /// is on its way.
    pub(crate) fn loader(self: &Arc<Self>, key: Q, text: &str, window: Duration) -> Loader {
        // one of several callers of a key comes for all of them
        let coming = self.state().coming.insert(text.to_owned());
        let coming = coming.then(|| Coming { gather: Arc::clone(self), text: text.to_owned() });
        let (gather, since) = (Arc::clone(self), self.engine.clock.now());
        Box::new(move |_| {
            Box::pin(async move {
                let (answer, answered) = oneshot::channel();
                gather.join(Waiting { key, since, answer }, window);
                drop(coming);
                let lost = || Err(Error::new(ErrorKind::Loader, "the loader panicked"));
                answered.await.unwrap_or_else(|_| lost())
            })
        })
    }

    fn join(self: &Arc<Self>, waiting: Waiting<Q>, window: Duration) {
        let mut state = self.state();
        state.waiting.push(waiting);
        let (full, begins) = (state.waiting.len() >= self.space.max_batch, !state.gathering);
        state.gathering = true;
        drop(state);
        if full {
            self.bell.notify_one();
        }
        if begins {
            tokio::spawn(Arc::clone(self).gather(window));
        }
    }

    /// Lets loads come, and calls the loader for them, until there are none.
    async fn gather(self: Arc<Self>, window: Duration) {
        let mut gathering = Gathering { gather: &self, armed: true };
        loop {
            self.come(window).await;
            let mut state = self.state();
            state.waiting.retain(|waiting| !waiting.answer.is_closed());
            if state.waiting.is_empty() {
                state.gathering = false;
                gathering.armed = false;
                return;
            }
            let most = self.space.max_batch.max(1).min(state.waiting.len());
            let batch: Vec<Waiting<Q>> = state.waiting.drain(..most).collect();
            drop(state);
            tokio::spawn(Arc::clone(&self).call(batch));
        }
    }

    /// Waits until enough have come, or nobody more is on the way, or the window is over.
    async fn come(&self, window: Duration) {
        let ends = Instant::now() + window;
        loop {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            {
                let state = self.state();
                if state.coming.is_empty()
                    || state.waiting.is_empty()
                    || state.waiting.len() >= self.space.max_batch
                    || window.is_zero()
                {
                    return;
                }
            }
            if tokio::time::timeout_at(ends, self.bell.notified()).await.is_err() {
                return;
            }
        }
    }

    /// One call of the loader. Ended early if everybody who waits for it has left.
    async fn call(self: Arc<Self>, mut batch: Vec<Waiting<Q>>) {
        let keys: Vec<Q> = batch.iter().map(|waiting| waiting.key.clone()).collect();
        let since = batch.iter().map(|waiting| waiting.since).min().unwrap_or(Tick::NEVER);
        let due = since + self.space.policy.timeouts.hard;
        let load = self.engine.call_loader(&self.space, due, || (self.loader)(keys));
        tokio::pin!(load);
        let left = std::future::poll_fn(|context| {
            let all = batch.iter_mut().all(|waiting| waiting.answer.poll_closed(context).is_ready());
            if all { Poll::Ready(()) } else { Poll::Pending }
        });
        let loaded = tokio::select! {
            biased;
            loaded = &mut load => loaded,
            () = left => return,
        };
        let mut loaded = match loaded {
            Ok((loaded, _)) => loaded.into_iter(),
            Err(error) => batch.iter().map(|_| Err(error.clone())).collect::<Vec<_>>().into_iter(),
        };
        for waiting in batch {
            let unanswered = || Err(Error::new(ErrorKind::Loader, "the loader gave no answer for a key"));
            // who has left needs no answer
            let _ = waiting.answer.send(loaded.next().unwrap_or_else(unanswered));
        }
    }
}

impl<Q> Gather<Q> {
    fn state(&self) -> MutexGuard<'_, State<Q>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A gathering task that ends before its work is done leaves it to the next.
struct Gathering<'a, Q> {
    gather: &'a Gather<Q>,
    armed: bool,
}

impl<Q> Drop for Gathering<'_, Q> {
    fn drop(&mut self) {
        if self.armed {
            self.gather.state().gathering = false;
        }
    }
}
