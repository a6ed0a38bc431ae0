//! The far store behind a breaker.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_core::observe::{Counters, Metric};
use cache_core::{Bus, CacheService, Clock, Error, ErrorKind, Leases, Packing, Reply, Result};

use super::Engine;
use crate::plain::PlainLeases;
use crate::policy::Breaker;

/// How long the breaker stays open.
const PAUSE: Duration = Duration::from_secs(1);

/// The far store: every call of a request passes its breaker; beats don't, they are the probe.
#[derive(Debug)]
pub(crate) struct Far {
    store: Arc<dyn CacheService>,
    /// In the place of leases that the store does not have.
    plain: PlainLeases,
    breaker: Mutex<Breaker>,
    /// Whether the breaker needs to hear of failures only: then calls that succeed pass without its lock.
    quiet: AtomicBool,
    packing: Packing,
}

/// Whether a store refused to read a key because it holds a list, a hash or the like.
pub(crate) fn is_other_kind(error: &Error) -> bool {
    error.reply() == Some(Reply::WrongType)
}

/// Whether an error says that the store, or a part of it, is not well: what it refuses on its merits does not.
fn is_sick(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

impl Far {
    pub(crate) fn new(store: Arc<dyn CacheService>, packing: Packing) -> Self {
        let plain = PlainLeases::new(Arc::clone(&store));
        Self { store, plain, breaker: Mutex::new(Breaker::new(PAUSE)), quiet: AtomicBool::new(false), packing }
    }

    pub(crate) fn store(&self) -> &dyn CacheService {
        &*self.store
    }

    /// How payloads stand in it.
    pub(crate) const fn packing(&self) -> &Packing {
        &self.packing
    }

    pub(crate) fn leases(&self) -> &dyn Leases {
        self.store.leases().unwrap_or(&self.plain)
    }

    pub(crate) fn bus(&self) -> Option<&dyn Bus> {
        self.store.bus()
    }

    /// Runs a call if the breaker admits it, and tells the breaker how it went.
    pub(crate) async fn call<T>(
        &self,
        clock: &Clock,
        counters: &Counters,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        if !self.is_quiet() && !self.lock().admit(clock.now()) {
            counters.count(Metric::FarSkipped);
            let text = "the far store failed repeatedly and is given a pause";
            return Err(Error::new(ErrorKind::Unavailable, text).with_store(self.store.name()).with_retry_after(PAUSE));
        }
        let result = call.await;
        let sick = matches!(&result, Err(error) if is_sick(error));
        if result.is_err() {
            counters.count(Metric::FarFailed);
        }
        if matches!(&result, Err(error) if sick && error.is_of_part()) {
            // its keys are kept waiting by nobody but the store, and the others are served
            self.lock().abstain(clock.now());
        } else if sick || !self.is_quiet() {
            self.report(clock, !sick);
        }
        result
    }

    /// As [`call`](Self::call), for a read of one key. Another kind of value, kept there by somebody else, is none of
    /// ours: nothing, and a count, as bytes are that are no frame, and as reads of many keys have it.
    pub(crate) async fn read<T>(
        &self,
        clock: &Clock,
        counters: &Counters,
        read: impl Future<Output = Result<Option<T>>> + Send,
    ) -> Result<Option<T>> {
        let read = async {
            match read.await {
                Err(error) if is_other_kind(&error) => {
                    counters.count(Metric::Malformed);
                    Ok(None)
                }
                read => read,
            }
        };
        self.call(clock, counters, read).await
    }

    /// As [`call`](Self::call) for `n` keys with a result each: the store is sick if none of them was answered.
    pub(crate) async fn call_many<T: Send>(
        &self,
        engine: &Engine,
        n: usize,
        call: impl Future<Output = Vec<Result<T>>> + Send,
    ) -> Vec<Result<T>> {
        let call = async {
            let answers = call.await;
            let sick = || answers.iter().map(|answer| answer.as_ref().err().filter(|error| is_sick(error)));
            match sick().collect::<Option<Vec<_>>>().as_deref() {
                Some(all @ [first, ..]) => {
                    let whole = all.iter().find(|error| !error.is_of_part());
                    Err(Error::clone(whole.unwrap_or(first)))
                }
                _ => Ok(answers),
            }
        };
        let answers = self.call(&engine.clock, &engine.counters, call).await;
        answers.unwrap_or_else(|error| (0..n).map(|_| Err(error.clone())).collect())
    }

    /// Notes the fate of a call, or of a beat, which passes no breaker.
    pub(crate) fn report(&self, clock: &Clock, success: bool) {
        let mut breaker = self.lock();
        breaker.report(clock.now(), success);
        self.quiet.store(breaker.is_quiet(), Ordering::Release);
    }

    fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Acquire)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use cache_core::Memory;

    use super::*;

    #[tokio::test]
    async fn a_part_that_fails_is_no_verdict_on_the_store() {
        let far = Far::new(Arc::new(Memory::new()), Packing::default());
        let (clock, hand) = Clock::manual();
        let counters = Counters::default();
        let call = async |answer: Result<()>| far.call(&clock, &counters, std::future::ready(answer)).await;
        let skipped = || counters.snapshot().get(Metric::FarSkipped);
        let whole = || Error::new(ErrorKind::Unavailable, "away");
        for _ in 0..100 {
            call(Err(whole().of_part())).await.unwrap_err();
        }
        call(Ok(())).await.unwrap();
        assert_eq!(skipped(), 0);
        while skipped() == 0 {
            call(Err(whole())).await.unwrap_err();
        }
        hand.advance(PAUSE);
        // the part's call was the probe, and told nothing
        assert!(call(Err(whole().of_part())).await.unwrap_err().is_of_part());
        call(Ok(())).await.unwrap();
        assert_eq!(skipped(), 1);
    }
}
