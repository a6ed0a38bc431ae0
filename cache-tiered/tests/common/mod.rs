//! What the engine's tests share.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod audit;
pub(crate) mod batch;
pub(crate) mod cancel;
#[macro_use]
pub(crate) mod freshness;
pub(crate) mod invariants;

use std::sync::Arc;
use std::time::Duration;

use cache_core::testkit::Chaos;
use cache_core::{Memory, codec::Raw, memory::LocalMemory};
use cache_tiered::{Cache, Tiered};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) use audit::watched;

/// D in tests.
pub(crate) const BOUND: Duration = Duration::from_millis(300);

/// A process, as far as the far store can tell.
pub(crate) async fn node(far: &Memory) -> Tiered {
    let builder = Tiered::builder().near(LocalMemory::new(1 << 20)).far(far.clone()).bound(BOUND);
    watched(builder.build().await.unwrap())
}

/// One without a far store.
pub(crate) async fn alone() -> Tiered {
    watched(Tiered::builder().near(LocalMemory::new(1 << 20)).build().await.unwrap())
}

pub(crate) fn names(tiered: &Tiered) -> Cache<String> {
    tiered.cache("names").codec(Raw).build().unwrap()
}

/// Waits until `holds` does.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A load of the key `k` that has read `value` and waits to be told to go on.
pub(crate) async fn dawdle(cache: &Cache<String>, value: &'static str) -> (JoinHandle<Arc<String>>, Arc<Notify>) {
    let (reading, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let load = tokio::spawn({
        let (cache, reading, go) = (cache.clone(), Arc::clone(&reading), Arc::clone(&go));
        async move {
            let load = move || async move {
                reading.notify_one();
                go.notified().await;
                Ok::<_, std::io::Error>(value.to_owned())
            };
            cache.get_or_load("k", load).await.unwrap()
        }
    });
    soon(reading.notified()).await;
    (load, go)
}

/// Waits for what should come at once.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.expect("it hangs")
}

/// A loader's answer.
pub(crate) fn ok(value: &str) -> impl Future<Output = Result<String, std::io::Error>> + Send + 'static {
    std::future::ready(Ok(value.to_owned()))
}

/// A reader that hears no messages and holds a value that was replaced; it samples every hit.
pub(crate) async fn deaf_reader() -> (Tiered, Cache<String>) {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    far.mute(true);
    let near = LocalMemory::new(1 << 20);
    let tiered = Tiered::builder().near(near).far(far).bound(BOUND).monitor(1).build().await.unwrap();
    let reader = names(&tiered);
    reader.get_or_load("k", || ok("old")).await.unwrap();
    let writer = node(&memory).await;
    names(&writer).set("k", "new".into()).await.unwrap();
    (tiered, reader)
}
