//! Connections that are supervised: opened, watched, rebuilt.

mod backoff;
mod cluster;
mod gather;
mod handshake;
mod heard;
mod lane;
mod large;
mod link;
mod node;
mod pace;
mod pulse;
mod pushes;
mod reads;
mod request;
mod sentinel;
mod silence;
mod stream;
mod subscriber;
mod supervise;
mod switch;
mod target;
mod tracker;
mod wire;

pub(crate) use handshake::{Connector, Fresh};
pub(crate) use heard::{TrackEvent, Tracker};
pub(crate) use link::{Link, explain};
pub(crate) use node::Node;
pub(crate) use pace::{Load, ROOM};
pub(crate) use reads::Read;
pub(crate) use request::{Failure, Request};
#[cfg(feature = "recipe")]
pub(crate) use subscriber::{PATTERNS, PLAIN};
pub(crate) use subscriber::{SubEvent, Subscriber};

#[cfg(all(test, feature = "testkit"))]
mod tests;
