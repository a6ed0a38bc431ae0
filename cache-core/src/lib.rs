//! The contract of the Strata cache.
//!
//! * [`CacheService`]: bytes under string keys with a ttl; what every backend implements.
//! * [`LocalStore`]: its synchronous sister for a store inside the process.
//! * [`Leases`], [`Bus`], [`Atomic`], [`Sweep`]: capabilities, objects that a store hands out when it has them.
//! * [`Entry`] and [`envelope`]: one cached value, in memory and as a frame of bytes.
//! * [`Memory`]: the reference backend, with every capability and no dependency.
//! * [`codec`]: how a typed value becomes the payload of an entry.
//! * `recipe` (feature): lock, limiter, session, counter, leaderboard, typed pub/sub, over any store that has them.
//! * `testkit` (feature): the conformance suite and the fault-injecting wrappers.
//!
//! A backend moves bytes. Codecs, key layout, compression and freshness live above it.

mod atomic;
mod bus;
mod clock;
pub mod codec;
mod entry;
pub mod envelope;
mod error;
mod glance;
mod key;
mod leases;
mod local;
pub mod memory;
pub mod observe;
pub mod packing;
mod parted;
#[cfg(feature = "recipe")]
pub mod recipe;
mod service;
mod sweep;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use atomic::Atomic;
pub use bus::{Applied, Beat, Bus, BusEvent, Change, Generations, Line, Listener, Message, NodeId};
pub use clock::{Clock, ManualClock, Tick, Ticks};
pub use entry::Entry;
pub use envelope::{Frame, Header, Malformed, Stamp, State, Tags};
pub use error::{Error, ErrorKind, Reply, Result};
pub use glance::{Glance, Part};
pub use key::{KeyHash, MAX_KEY, MAX_TTL, check_key, check_ttl, check_value};
pub use leases::{Claim, Fill, Found, Lease, Leases, Wait};
pub use local::LocalStore;
pub use memory::Memory;
pub use packing::Packing;
pub use parted::{Head, Parted};
pub use service::{CacheService, DEFAULT_MAX_VALUE};
pub use sweep::Sweep;
