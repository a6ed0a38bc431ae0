//! Connections that are supervised: opened, watched, rebuilt.

mod backoff;
mod gather;
mod handshake;
mod lane;
mod large;
mod link;
mod sentinel;
mod stream;
mod subscriber;
mod supervise;
mod switch;
mod target;
mod wire;

pub(crate) use lane::{Failure, Request};
pub(crate) use link::Link;
pub(crate) use subscriber::{SubEvent, Subscriber};

#[cfg(all(test, feature = "testkit"))]
mod tests;
