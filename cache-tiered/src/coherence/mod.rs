//! The coherence protocol as pure state: no clock, no I/O, no lock.
//!
//! [`Track`] follows one numbered line of changes: what was applied, which epoch it is, until when near entries are
//! trusted. [`Fence`] knows which loads are in flight and which of them may still install what they bring. [`View`]
//! is what a near hit reads of a `Track`: a few atomics. [`Queue`] keeps the background writes of a key in order.
//!
//! The same types run in the product, in the model checker and in the simulation. Each rule names the mutation that
//! the model must catch when the rule is broken.

mod fence;
pub mod mutate;
mod queue;
mod ring;
mod rules;
mod track;
mod view;

pub use fence::{Fence, FlightId, Joined};
pub use queue::{Newest, Queue};
pub use ring::Ring;
pub use rules::{
    Cause, Joining, Overtaken, Refreshing, Take, Worth, ack_purges, doubtful, ends_with_purge, found_current, is_fresh,
    may_join, settles_after, stands_in, take_joined,
};
pub use track::{BeatTicket, Bump, Judged, Track, Verdict};
pub use view::{SUSPECT, UNCONFIRMED, View};
