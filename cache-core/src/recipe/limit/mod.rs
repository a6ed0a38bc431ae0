//! A rate limiter: how often something may happen, for all processes together.
//!
//! * [`Limits`]: the handle: take, peek, reset; answers denials it knows of without asking the store.
//! * [`Limit`]: what is allowed, and by which [`Algorithm`].
//! * [`Decision`]: the answer, with all that a client wants to be told; [`headers`](Decision::headers) tells it.
//! * [`LimitStore`]: the atomic step, for those who write a store.
//!
//! ```
//! # use std::time::Duration;
//! use cache_core::Memory;
//! use cache_core::recipe::limit::{Limit, Limits};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> cache_core::Result<()> {
//! let limits = Limits::new(Memory::new(), Limit::per_minute(2))?;
//! assert!(limits.take("user:7", 1).await?.allowed);
//! assert!(limits.take("user:7", 1).await?.allowed);
//! let denied = limits.take("user:7", 1).await?;
//! assert!(!denied.allowed && denied.retry_after <= Duration::from_secs(30));
//! # Ok(())
//! # }
//! ```
//!
//! Time is the store's own clock in microseconds, so the clocks of clients don't matter. A denial changes nothing:
//! who keeps trying is not punished for it. A store that loses its data (failover, eviction) forgets what was taken:
//! at most one more burst is allowed.

mod algorithm;
mod decision;
mod denials;
mod handle;
mod memory;
mod rule;
mod store;

pub use algorithm::{Mismatch, Outcome, Taken};
pub use decision::{Decision, Source};
pub use handle::{Away, Limits};
pub use rule::{Algorithm, Limit};
pub use store::LimitStore;
