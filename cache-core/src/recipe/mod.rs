//! Recipes: what applications build on a shared store beside a cache, under the names that the field knows.
//!
//! Each recipe has two halves. A *store* trait holds its atomic steps, one round trip each; [`Memory`](crate::Memory)
//! implements it inside the process, and the redis backend on a server. A *handle* owns a store and gives the
//! application its calls: arguments are checked there, once for all stores, before anything is touched. So a program
//! swaps the store in one line, and both pass the same suite (`testkit::recipe`).
//!
//! * [`counter`]: integers with limits: increment up to a limit, deduct stock, transfer, compare-and-swap.
//! * [`leaderboard`]: members in the order of their scores.
//! * [`limit`]: rate limits: gcra, windows, a log; what may happen now and when again.
//! * [`lock`]: one holder at a time, with a fence.
//! * [`pubsub`]: typed messages to whoever listens, with gaps told.
//! * [`session`]: what a web application remembers of its visitors.
//! * [`value`]: typed values: compare-and-swap, get-and-set, set-if-absent.

pub mod counter;
mod expiry;
pub mod leaderboard;
pub mod limit;
pub mod lock;
pub mod pubsub;
pub mod session;
pub mod value;
mod window;

pub use counter::Counters;
pub use expiry::Expiry;
pub use leaderboard::Leaderboards;
pub use limit::{Limit, Limits};
pub use lock::Locks;
pub use pubsub::Topic;
pub use session::Sessions;
pub use value::Values;
pub use window::Window;
