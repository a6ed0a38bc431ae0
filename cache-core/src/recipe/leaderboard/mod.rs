//! Leaderboards: members in the order of their scores.
//!
//! * **Scores** are finite floats of 64 bits; integers are exact up to 2^53. Sums are rounded as IEEE says, in every
//!   store alike.
//! * **Ties**: members with the same score stand in the byte order of their names: ascending where the lowest score
//!   comes first, descending where the highest does, as `ZREVRANGE` has it. For "earlier first", add to the score what
//!   tells them apart.
//! * **Ranks** begin at 1, and no two members share one.
//! * A board is a sorted set on a server; other programs can read it.

mod handle;
mod store;

pub use handle::Leaderboards;
pub use store::{BoardStore, Order, Put, Standing};
