//! The coherence core under a model checker.
//!
//! The processes of the model hold the shipped [`Track`](cache_tiered::coherence::Track) and
//! [`Fence`](cache_tiered::coherence::Fence) and ask the shipped rules; the far store, the network, the origin and the
//! order of the engine's steps are modelled here. Time is a counter; a message may arrive in any order or never; a
//! reply may take any time.

pub mod action;
mod behind;
mod change;
pub mod config;
mod digest;
mod driver;
mod events;
mod fallback;
pub mod far;
pub mod flight;
pub mod ghost;
mod load;
pub mod model;
pub mod node;
#[cfg(test)]
mod quotient_tests;
mod read;
mod refresh;
pub mod run;
pub mod table;
pub mod world;
pub mod writer;
