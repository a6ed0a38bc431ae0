//! Counters: integers of 64 bits with limits, changed atomically.

mod handle;
mod outcome;
mod store;

pub use handle::Counters;
pub use outcome::{InsufficientBalance, InsufficientStock, LimitExceeded};
pub use store::{Balances, CounterStore, Step};
