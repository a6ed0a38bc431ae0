//! Skeleton.

#[cfg(feature = "testkit")]
pub mod testkit;
