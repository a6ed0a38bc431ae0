//! Changes: what a message says of one, and how far each is.

use crate::config::Kind;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// The key changed.
    Key(u64),
    /// Another key changed.
    Other(u64),
    /// The tag was bumped.
    Tag(u64),
}

/// How far the application of a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purge {
    /// The flight is detached; the entry goes next.
    Remove,
    /// The entry is gone; the number is marked next.
    Mark,
}

/// How far a writer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Holds the key before it commits.
    Hold,
    /// The hold was numbered so.
    Held(u64),
    /// The hold is acknowledged, since then; the commit comes.
    Commit(u8),
    /// Reads what an update works on.
    Look,
    /// Has read the value with this stamp; stores what it made of it.
    Swap {
        /// The stamp.
        seen: u64,
        /// The version that it holds.
        value: u8,
        /// What was applied before it was read.
        s0: u64,
    },
    /// Has committed; waits for its turn among the background writes of the key.
    Turn,
    /// Has committed; the change is on its way.
    Send,
    /// The first half of a change that publishes too early.
    Half(u64),
    /// The change was executed and got this number.
    Done(u64),
    /// The same, by a server that was replaced since.
    Lost(u64),
    /// The acknowledgement is being applied.
    Apply(u64, Purge),
}

/// A change under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Writer {
    /// What it does.
    pub kind: Kind,
    /// The version that it committed.
    pub version: u8,
    /// The server's run when it left, as far as the process knew.
    pub run: Option<u64>,
    /// Whether it flies in the queue of background writes.
    pub flies: bool,
    /// How far it is.
    pub step: Step,
}

impl Writer {
    /// Whether it is a background write that the far store has not taken.
    #[must_use]
    pub fn is_to_store(&self) -> bool {
        self.kind == Kind::Behind && self.step == Step::Send
    }
}

/// A value that waits to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Put {
    /// The version.
    pub version: u8,
    /// The number applied when it was given.
    pub s0: u64,
}
