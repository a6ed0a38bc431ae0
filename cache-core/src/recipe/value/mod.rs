//! Atomic values: compare-and-swap, get-and-set, set-if-absent.

mod handle;
mod store;

pub use handle::{Changed, Values};
pub use store::{Exchanged, ValueStore};
