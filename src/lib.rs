#![cfg_attr(
    all(feature = "moka", feature = "tiered", feature = "bincode"),
    doc = include_str!("../README.md")
)]
#![cfg_attr(
    not(all(feature = "moka", feature = "tiered", feature = "bincode")),
    doc = "Strata: a multi-tier cache with a bounded staleness. Features decide which tiers are linked."
)]

#[cfg(feature = "tiered")]
mod connect;
#[cfg(feature = "tower")]
mod limit_layer;
#[cfg(all(feature = "recipe", feature = "tiered"))]
mod recipe_store;
#[cfg(feature = "tower-sessions")]
mod tower_sessions;

/// The contract, whole: what backends implement.
pub use cache_core as core;
#[cfg(feature = "recipe")]
pub use cache_core::recipe;
pub use cache_core::{CacheService, Error, ErrorKind, LocalStore, Memory, Result, codec, memory, observe, packing};
#[cfg(feature = "memcached")]
pub use cache_memcached::{Memcached, MemcachedBuilder};
#[cfg(feature = "moka")]
pub use cache_moka::Moka;
#[cfg(feature = "redis")]
pub use cache_redis::{Redis, RedisBuilder, Tracking};
#[cfg(feature = "tiered")]
pub use cache_tiered::{
    Answer, Backoff, Batched, Cache, CacheBuilder, CacheKey, Consistency, FailSafe, Freshness, KeyText, Known, Loaded,
    Origin, OriginBreaker, Policy, Refresh, Sliding, StaleReason, Tier, Tiered, TieredBuilder, Timeouts, Update,
    Warmed, WriteGuard,
};
/// What only a server does: commands, scripts, pipelines and transactions of one's own, and how the servers are.
#[cfg(feature = "redis")]
pub mod server {
    pub use cache_redis::{
        Arg, Attempt, Command, Committed, FromValue, Pipeline, Script, ScriptCall, Transaction, Value,
    };
    pub use cache_redis::{Health, health};
}
#[cfg(feature = "tiered")]
pub use connect::{check_url, connect, from_env};
#[cfg(feature = "tower")]
pub use limit_layer::{LimitLayer, Limited};
#[cfg(all(feature = "recipe", feature = "tiered"))]
pub use recipe_store::{RecipeStore, connect_recipes, recipes_from_env};
#[cfg(feature = "tower-sessions")]
pub use tower_sessions::TowerSessions;
