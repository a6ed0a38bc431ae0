//! What the test drivers share.

pub mod allowed;
pub mod audit;
pub mod origin;
pub mod papers;
pub mod process;
pub mod relay;

pub use cache_core::testkit::{eventually, within};
