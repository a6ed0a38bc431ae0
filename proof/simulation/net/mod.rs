//! The simulated network between a process and the server.
//!
//! A [`Link`] is a process's side of it: a store like any other to the engine. Each call travels as a message over one of
//! the link's connections, is carried out by the server when it arrives, and its reply travels back. Within a connection
//! order is kept; between connections it is not. A caller that gave up does not call its message back.

mod lane;
mod link;
mod pushes;
mod store;
mod weather;

pub(crate) use link::Link;
pub(crate) use weather::{Ill, Latency};
