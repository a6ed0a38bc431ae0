//! Typed pub/sub: messages of one type to everybody who listens right now.
//!
//! A message reaches who is subscribed at that moment, once, and nobody later: what was missed is not sent again. So
//! every place where something may be missing is an [`Event::Gap`], after which a reader looks at the state itself
//! (a key, a row) and goes on. What must not be lost belongs into a stream or a table.

mod events;
mod glob;
mod memory;
mod queue;
mod store;
mod topic;

pub use events::{Event, Events, Listening};
pub use queue::Overflow;
pub use store::{Feed, Heard, Interest, PubSubStore, Reach};
pub use topic::{MAX_MESSAGE, Topic};
