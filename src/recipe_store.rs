//! From the url of the tiers to a store for recipes.

use std::sync::Arc;

use cache_core::recipe::counter::CounterStore;
use cache_core::recipe::leaderboard::BoardStore;
use cache_core::recipe::limit::LimitStore;
use cache_core::recipe::lock::LockStore;
use cache_core::recipe::pubsub::PubSubStore;
use cache_core::recipe::session::SessionStore;
use cache_core::{Memory, Result};

use crate::connect::{MEMCACHED, config, plan, url_of_env};

/// A store of every recipe, as [`connect_recipes`] hands one out: what each handle's `new` takes.
///
/// Implemented for all that stores each recipe: [`Memory`] and `Redis` do.
pub trait RecipeStore: BoardStore + CounterStore + LimitStore + LockStore + PubSubStore + SessionStore {}

impl<S> RecipeStore for S where S: BoardStore + CounterStore + LimitStore + LockStore + PubSubStore + SessionStore {}

/// The store for recipes beside the tiers that [`connect`](crate::connect()) makes of the same `url`: the far store's server,
/// over connections of its own; a new [`Memory`] where the url has none. What is said of the tiers is left aside.
///
/// Make it once in a process: two in memory share nothing.
///
/// # Errors
/// As [`connect`](crate::connect()); `Config` for memcached, which keeps no recipes.
///
/// ```
/// use std::time::Duration;
///
/// use cache_strata::recipe::{Counters, Limit, Limits, Locks};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cache_strata::Result<()> {
/// // in production the url of the tiers, such as "tiered:redis://localhost:6379"
/// let store = cache_strata::connect_recipes("memory:").await?;
/// let locks = Locks::new(store.clone());
/// let limits = Limits::new(store.clone(), Limit::per_minute(60))?;
/// let views = Counters::new(store, Duration::from_secs(3600))?;
/// # let _ = (locks, limits, views);
/// # Ok(())
/// # }
/// ```
pub async fn connect_recipes(url: &str) -> Result<Arc<dyn RecipeStore>> {
    match plan(url)?.far {
        None => Ok(Arc::new(Memory::new())),
        Some(far) if far.starts_with(MEMCACHED) => {
            Err(config("memcached keeps no recipes; use memory: or the url of a redis for them"))
        }
        Some(far) => server(&far).await,
    }
}

/// The store for recipes beside the tiers of [`from_env`](crate::from_env), by the same variables.
///
/// # Errors
/// As [`connect_recipes`].
pub async fn recipes_from_env() -> Result<Arc<dyn RecipeStore>> {
    connect_recipes(&url_of_env()?).await
}

#[cfg(feature = "redis")]
async fn server(url: &str) -> Result<Arc<dyn RecipeStore>> {
    Ok(Arc::new(cache_redis::Redis::connect(url).await.map_err(crate::connect::ours)?))
}

#[cfg(not(feature = "redis"))]
async fn server(_: &str) -> Result<Arc<dyn RecipeStore>> {
    Err(crate::connect::off("redis"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cache_core::ErrorKind;
    use cache_core::codec::Postcard;
    use cache_core::recipe::session::Lifetime;
    use cache_core::recipe::{Counters, Leaderboards, Limit, Limits, Locks, Sessions, Topic, Values};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn every_recipe_runs(url: &str) {
        let store = connect_recipes(url).await.unwrap();
        let store = || Arc::clone(&store);
        let lock = Locks::new(store()).acquire("lock", HOUR).await.unwrap();
        assert!(Locks::new(store()).try_acquire("lock", HOUR).await.unwrap().is_none(), "two stores");
        lock.release().await.unwrap();
        let limits = Limits::new(store(), Limit::per_minute(1)).unwrap();
        assert!(limits.take("limit", 1).await.unwrap().allowed);
        let sessions: Sessions<u64> = Sessions::new(store(), Postcard, Lifetime::default()).unwrap();
        let id = sessions.create(None, &7).await.unwrap();
        assert_eq!(sessions.get(&id).await.unwrap().unwrap().data, 7);
        let boards = Leaderboards::new(store(), HOUR).unwrap();
        boards.add("board", "ada", 1.0).await.unwrap();
        assert_eq!(boards.rank("board", "ada").await.unwrap(), Some(1));
        let counters = Counters::new(store(), HOUR).unwrap();
        assert_eq!(counters.increment("counter", 1, 10).await.unwrap(), Ok(1));
        let values: Values<u64> = Values::new(store(), Postcard, HOUR).unwrap();
        values.set("value", &7).await.unwrap();
        let topic: Topic<u64> = Topic::new(store(), "topic", Postcard).unwrap();
        topic.publish(&7).await.unwrap();
    }

    #[tokio::test]
    async fn recipes_run_by_the_url_of_the_tiers() {
        every_recipe_runs("memory:").await;
        every_recipe_runs("moka:?bytes=1MiB&namespace=shop").await;
        #[cfg(feature = "redis")]
        {
            let server = cache_redis::testkit::Server::spawn().unwrap();
            every_recipe_runs(&format!("tiered:{}?bound=1s&bytes=1MiB", server.url())).await;
            assert!(server.cli(&["EXISTS", "counter"]).unwrap().contains('1'), "not on the server");
        }
    }

    #[tokio::test]
    async fn a_url_without_room_for_recipes_is_refused() {
        for url in ["memcached://localhost", "tiered:memcached://localhost", "tiered:", "http://x"] {
            assert_eq!(connect_recipes(url).await.unwrap_err().kind(), ErrorKind::Config, "{url}");
        }
    }
}
