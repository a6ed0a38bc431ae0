//! The recipes of [`cache_core::recipe`] on a server: one script, one round trip, a step.

mod counter;
mod limit;
mod lock;
mod session;
mod value;

pub(crate) use lock::Hub;
