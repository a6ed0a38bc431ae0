//! The engine of the Strata cache: near and far tiers, one load per key, bounded staleness, typed caches.
//!
//! * [`Tiered`]: a near store, a far store, or both, kept coherent; built with [`Tiered::builder`].
//! * [`Cache`]: a typed cache over one key space of it.
//! * [`Policy`]: how entries live. [`Loaded`]: what a loader may decide. [`Answer`]: what a get tells.

mod answer;
mod batched;
mod builder;
mod cache;
mod cache_batch;
mod cache_builder;
mod cache_key;
mod cache_known;
mod cache_warm;
mod cache_write;
// public for our own proof, which drives the very types that ship; no part of the interface, and free to change
#[doc(hidden)]
pub mod coherence;
mod consistency;
mod engine;
mod flight;
mod gather;
mod key_list;
mod known;
mod loaded;
mod origin;
mod plain;
mod policy;
mod reader;
mod service;
mod space;
mod sync;
mod tiered;
mod update;
mod write_guard;

pub use answer::{Answer, Freshness, StaleReason, Tier};
pub use batched::Batched;
pub use builder::TieredBuilder;
pub use cache::Cache;
pub use cache_builder::{CacheBuilder, DefaultCodec, NoCodec};
pub use cache_key::{CacheKey, KeyText};
pub use cache_warm::Warmed;
pub use consistency::Consistency;
pub use known::Known;
pub use loaded::Loaded;
pub use origin::{Origin, OriginBreaker};
pub use policy::{Backoff, FailSafe, Policy, Refresh, Sliding, Timeouts};
pub use tiered::Tiered;
pub use update::Update;
pub use write_guard::WriteGuard;
