//! Strata's far tier: [`CacheService`](cache_core::CacheService) on Redis, Valkey or Dragonfly.
//!
//! [`Redis`] holds a few supervised connections. Concurrent calls share one pipeline without being batched by the
//! caller; every call ends within its deadline; a lost, stalled or demoted server is left and reconnected to, for
//! ever, in the background.
//!
//! ```no_run
//! # async fn doc() -> cache_core::Result<()> {
//! use std::time::Duration;
//! use cache_core::CacheService;
//! use cache_redis::Redis;
//!
//! let redis = Redis::connect("redis://localhost:6379/0").await?;
//! redis.set("greeting", "hello".into(), Duration::from_secs(60)).await?;
//! assert_eq!(redis.get("greeting").await?.as_deref(), Some(&b"hello"[..]));
//! # Ok(())
//! # }
//! ```

mod atomic;
mod builder;
mod bus;
mod command;
mod config;
mod connect;
mod error;
pub mod health;
mod leases;
mod raw;
#[cfg(feature = "recipe")]
mod recipe;
mod script;
mod service;
mod sweep;
#[cfg(feature = "testkit")]
pub mod testkit;
mod tls;
mod tracking;

pub use builder::RedisBuilder;
pub use command::{Arg, Attempt, Command, Committed, FromValue, Pipeline, Script, ScriptCall, Transaction, Value};
pub use config::Config;
pub use health::Health;
pub use raw::Raw;
pub use service::Redis;
pub use tracking::Tracking;
