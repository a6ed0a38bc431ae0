//! What its loader marks as not to be stored is stored nowhere, whichever way it comes.

mod common;

use std::future::ready;
use std::io;
use std::pin::Pin;

use cache_core::testkit::Chaos;
use cache_core::{ErrorKind, Memory, Sweep, codec::Raw, memory::LocalMemory};
use cache_tiered::{Cache, FailSafe, Loaded, Policy, Tiered, Update};
use common::{BOUND, eventually};

type Ended<'a> = Pin<Box<dyn Future<Output = Option<String>> + 'a>>;
type Way = for<'a> fn(&'a Cache<String>) -> Ended<'a>;
type Many = io::Result<Vec<(&'static str, io::Result<Loaded<String>>)>>;

fn marked() -> Loaded<String> {
    Loaded::value("passing".to_owned()).unstored()
}

fn many(keys: Vec<&'static str>) -> std::future::Ready<Many> {
    ready(Ok(keys.into_iter().map(|key| (key, Ok(marked()))).collect()))
}

/// A way and what its caller is told.
macro_rules! ways {
    ($($name:literal => |$cache:ident| $told:expr),+ $(,)?) => {
        &[$(($name, |$cache| Box::pin(async move { $told.as_deref().map(ToOwned::to_owned) }))),+]
    };
}

const WAYS: &[(&str, Way)] = ways! {
    "load_with" => |c| c.load_with("k", || ready(io::Result::Ok(marked()))).await.unwrap().value,
    "load_if" => |c| c.load_if("k", |_| ready(io::Result::Ok(marked()))).await.unwrap().value,
    "nothing" => |c| {
        let nothing = || ready(io::Result::Ok(Loaded::<String>::nothing().unstored()));
        c.load_with("k", nothing).await.unwrap().value
    },
    "load_many_with" => |c| c.load_many_with(&["k", "l"], many).await.swap_remove(0).unwrap().value,
    "batched" => |c| c.batched_with(many).find_or_load(&"k").await.unwrap(),
    "batched, many" => |c| c.batched_with(many).get_many_or_load(&["k", "l"]).await.swap_remove(0).unwrap(),
    "update" => |c| c.update("k", |_| Update::Store(marked())).await.unwrap(),
    "store" => |c| {
        let refused = c.store("k", marked()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.message().contains("not to be stored"), "{refused}");
        None::<std::sync::Arc<String>>
    },
};

fn cache(tiered: &Tiered) -> Cache<String> {
    tiered.cache("names").codec(Raw).policy(Policy::minutes(5).fail_safe(FailSafe::default())).build().unwrap()
}

#[tokio::test]
async fn what_is_not_to_be_stored_is_stored_nowhere() {
    for tiers in ["near and far", "near", "far", "background writes", "cut off"] {
        for (name, way) in WAYS {
            let what = format!("{name} over {tiers}");
            let memory = Memory::new();
            let far = Chaos::new(memory.clone());
            let near = || Tiered::builder().bound(BOUND).near(LocalMemory::new(1 << 20));
            let builder = match tiers {
                "near" => near(),
                "far" => Tiered::builder().bound(BOUND).far(far.clone()),
                "background writes" => near().far(far.clone()).background_writes(10),
                _ => near().far(far.clone()),
            };
            let tiered = builder.build().await.unwrap();
            let cache = cache(&tiered);
            if tiers == "cut off" {
                far.partition(true);
                eventually("it is cut off", async || tiered.is_cut_off()).await;
                if *name == "update" {
                    continue;
                }
            }
            let told = way(&cache).await;
            let passes = !matches!(*name, "nothing" | "update" | "store");
            assert_eq!(told.as_deref(), passes.then_some("passing"), "{what}");
            eventually("all is done", async || tiered.under_way() + tiered.pending_writes() == 0).await;
            assert_eq!(memory.keys("strata:k:").await.unwrap(), Vec::<String>::new(), "{what}: it is in the far store");
            if tiers == "cut off" {
                far.partition(false);
                eventually("it is heard again", async || !tiered.is_cut_off()).await;
            }
            assert!(cache.get("k").await.unwrap().is_none(), "{what}: it is served again");
        }
    }
}

#[tokio::test]
async fn what_is_not_to_be_stored_replaces_nothing_in_a_refresh() {
    // for no time is not at all
    let zero = || Loaded::value("passing".to_owned()).ttl(std::time::Duration::ZERO);
    for (with_far, passing) in [true, false].into_iter().flat_map(|far| [(far, marked as fn() -> _), (far, zero)]) {
        let memory = Memory::new();
        let near = Tiered::builder().near(LocalMemory::new(1 << 20));
        let tiered = if with_far { near.far(memory.clone()) } else { near }.build().await.unwrap();
        let policy = Policy::minutes(1).jitter(0.0).refresh_ahead(0.001);
        let cache: Cache<String> = tiered.cache("names").codec(Raw).policy(policy).build().unwrap();
        let first = || ready(io::Result::Ok(Loaded::value("first".to_owned())));
        cache.load_with("k", first).await.unwrap();
        let loads = tiered.metrics().get(cache_core::observe::Metric::Load);
        let refreshed = async || {
            let answer = cache.load_with("k", move || ready(io::Result::Ok(passing()))).await.unwrap();
            assert_eq!(answer.value.unwrap().as_str(), "first");
            tiered.metrics().get(cache_core::observe::Metric::Load) > loads && tiered.under_way() == 0
        };
        eventually("it is refreshed", refreshed).await;
        assert_eq!(cache.get("k").await.unwrap().as_deref().map(String::as_str), Some("first"));
        if with_far {
            let cold = common::names(&common::node(&memory).await);
            assert_eq!(cold.get("k").await.unwrap().as_deref().map(String::as_str), Some("first"));
        }
    }
    common::audit::at_the_end().await;
}
