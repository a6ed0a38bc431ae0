//! The recipes of [`cache_core::recipe`] on a server: one script, one round trip, a step.

mod counter;
mod leaderboard;
mod limit;
mod lock;
mod pubsub;
mod session;
#[cfg(all(test, feature = "testkit"))]
mod tests;
mod value;

pub(crate) use lock::Hub;
