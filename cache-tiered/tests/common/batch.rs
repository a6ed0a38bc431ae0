//! What the tests of batches share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache_core::testkit::Chaos;
use cache_core::{CacheService, Memory, memory::LocalMemory};
use cache_tiered::Tiered;
use tokio::sync::Notify;

use super::{BOUND, eventually, watched};

/// What a loader answers.
type Answers = io::Result<Vec<(String, String)>>;

/// The keys that a loader was asked for, call by call.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<Vec<String>>>>);

impl Calls {
    pub(crate) fn note(&self, keys: &[String]) {
        let mut keys = keys.to_vec();
        keys.sort();
        self.0.lock().unwrap().push(keys);
    }

    pub(crate) fn all(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.all().concat();
        keys.sort();
        keys
    }

    /// A loader that answers every key with `v:<key>`.
    pub(crate) fn loader(&self) -> impl Fn(Vec<String>) -> Ready<Answers> + Send + Sync + 'static + use<> {
        let calls = self.clone();
        move |keys| {
            calls.note(&keys);
            ready(Ok(keys.into_iter().map(answer).collect()))
        }
    }
}

pub(crate) fn answer(key: String) -> (String, String) {
    let value = format!("v:{key}");
    (key, value)
}

pub(crate) fn texts(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|n| format!("k{n:03}")).collect()
}

pub(crate) fn values(found: &[cache_core::Result<Option<Arc<String>>>]) -> Vec<Option<String>> {
    found.iter().map(|found| found.as_ref().unwrap().as_deref().cloned()).collect()
}

/// A loader that says when it began and waits to be let go.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    pub(crate) began: Arc<Notify>,
    pub(crate) go: Arc<Notify>,
    pub(crate) calls: Calls,
}

impl Gate {
    pub(crate) fn many(
        &self,
    ) -> impl Fn(Vec<String>) -> Pin<Box<dyn Future<Output = Answers> + Send>> + Send + Sync + 'static + use<> {
        let gate = self.clone();
        move |keys| {
            let gate = gate.clone();
            Box::pin(async move {
                gate.calls.note(&keys);
                gate.began.notify_one();
                gate.go.notified().await;
                Ok(keys.into_iter().map(answer).collect())
            })
        }
    }
}

pub(crate) async fn chaos(far: &Memory) -> (Chaos<Memory>, Tiered) {
    chaos_within(far, BOUND).await
}

/// As [`chaos`], with a bound that slow beats don't exceed.
pub(crate) async fn slow_chaos(far: &Memory) -> (Chaos<Memory>, Tiered) {
    chaos_within(far, Duration::from_secs(60)).await
}

async fn chaos_within(far: &Memory, bound: Duration) -> (Chaos<Memory>, Tiered) {
    let far = Chaos::new(far.clone());
    let builder = Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.clone()).bound(bound);
    (far, watched(builder.build().await.unwrap()))
}

/// Nothing is in flight, and no lease is left on `keys`.
pub(crate) async fn nothing_is_left(tiered: &Tiered, far: &Memory, keys: &[String]) {
    eventually("nothing is in flight", async || tiered.in_flight() == 0).await;
    eventually("no lease is left", async || {
        for key in keys {
            if far.exists(&format!("strata:k:names:{key}")).await.unwrap() {
                return false;
            }
        }
        true
    })
    .await;
}
