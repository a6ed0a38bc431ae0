//! Strata's far tier on memcached: [`CacheService`](cache_core::CacheService) over its meta commands.
//!
//! [`Memcached`] keeps a few connections to one server, each a pipeline that all calls share. Leases and atomic values
//! rest on compare-and-swap, the numbering of changes on a counter; there are no messages, so coherence is by polling
//! (`Tiered::builder().polling()`). What memcached can't do is said at [`Memcached`].
//!
//! ```no_run
//! # async fn doc() -> cache_core::Result<()> {
//! use std::time::Duration;
//! use cache_core::CacheService;
//! use cache_memcached::Memcached;
//!
//! let store = Memcached::connect("memcached://localhost:11211").await?;
//! store.set("greeting", "hello".into(), Duration::from_secs(60)).await?;
//! assert_eq!(store.get("greeting").await?.as_deref(), Some(&b"hello"[..]));
//! # Ok(())
//! # }
//! ```

mod atomic;
mod builder;
mod bus;
mod error;
mod item;
mod key;
mod lane;
mod leases;
mod reply;
mod request;
mod sequence;
mod service;
mod tags;
#[cfg(feature = "testkit")]
pub mod testkit;
mod time;

pub use builder::MemcachedBuilder;
pub use service::Memcached;
