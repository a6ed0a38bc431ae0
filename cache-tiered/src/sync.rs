//! The locks and atomics of flight table, line state and view; under the test of interleavings those of its scheduler,
//! which decides at each of them which thread goes on.

#[cfg(not(strata_interleave))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

#[cfg(strata_interleave)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};

#[cfg(all(strata_interleave, not(debug_assertions)))]
compile_error!("the scheduler of interleavings can't be in a release build");
