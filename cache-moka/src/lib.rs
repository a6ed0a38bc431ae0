//! Strata's in-process tier on [moka](https://docs.rs/moka): good victims (TinyLFU), a byte budget, many threads.
//!
//! [`Moka`] is a [`LocalStore`](cache_core::LocalStore), so it can be the near store of a tiered cache, and a
//! [`CacheService`](cache_core::CacheService), so it can be the whole cache of a program without a server.
//!
//! ```
//! # use std::time::Duration;
//! use bytes::Bytes;
//! use cache_core::CacheService;
//! use cache_moka::Moka;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> cache_core::Result<()> {
//! let store = Moka::builder().bytes(16 << 20).build();
//! store.set("user:1", Bytes::from_static(b"ada"), Duration::from_secs(60)).await?;
//! assert_eq!(store.get("user:1").await?.as_deref(), Some(&b"ada"[..]));
//! # Ok(())
//! # }
//! ```

mod atomic;
mod builder;
mod held;
mod service;
mod store;
mod stripes;
mod sweep;
mod text;

pub use builder::Builder;
pub use store::Moka;

#[cfg(test)]
mod tests;
