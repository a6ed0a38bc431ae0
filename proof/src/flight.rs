//! Flights and callers: how far each has come.

use cache_core::{Generations, Tick};
use cache_tiered::coherence::Joining;

use crate::far::{Frame, Lease};
use crate::ghost::{How, Need};

/// What a flight shares with its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shared {
    /// Its identity.
    pub id: u64,
    /// When it began.
    pub begun: u8,
}

/// What a loader has in hand whose fill was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Own {
    /// The version.
    pub value: u8,
    /// The number applied when its load began.
    pub s0: u64,
}

/// What follows once an entry's tags were judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// It was read; if it does not stand, a lease is asked for.
    Read,
    /// It was found where a lease was asked for; if it does not stand, it is removed and the lease asked for again.
    Lease,
    /// It was found after a refused fill of this version.
    Over(Own),
    /// The near entry's stamp was found to stand.
    Peek,
    /// It is past its time: if it stands, it may stand in for a load.
    StandIn,
}

/// How far a flight has come. Where it waits for the far store, the store acts, and then the reply comes, in two steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pc {
    /// Asks for the header under its suspect's key.
    Peek,
    /// The stamp was the suspect's.
    Peeked,
    /// Reads the key.
    Read,
    /// It read a value.
    Found(Frame),
    /// Asks for generations, begun in this epoch.
    Ask(u64, Frame, Then),
    /// What they are.
    Told(u64, Generations, Frame, Then),
    /// Asks for the lease.
    Lease,
    /// What it was answered, and the token that it asked with.
    Answered(Lease, u64),
    /// Removes what it can't use, found where a lease was asked for, or after a refused fill of this version.
    Discard(Frame, Option<Own>),
    /// Holds the lease and reads the origin.
    Load {
        /// The lease.
        token: u64,
        /// The number applied when the load began.
        s0: u64,
    },
    /// Has read the origin and fills.
    Fill(Frame),
    /// Whether the fill was taken.
    Filled(Frame, bool),
    /// Its fill of this version was refused: looks again.
    Over(Own),
    /// What it then found.
    Looked(Own, Option<Frame>),
    /// A hold bars fills: reads the origin for its callers.
    Barred {
        /// The number applied when the load began.
        s0: u64,
    },
    /// Cut off: reads the origin for the outage window.
    Cut {
        /// The number applied when the load began.
        s0: u64,
    },
    /// A hold bars fills: has read the origin.
    BarredHas(Frame),
    /// Stores it all the same: a rule is broken.
    BarredFill(Frame),
    /// Cut off: has read the origin.
    CutHas(Frame),
    /// Has read the origin before it asked for the lease: a rule is broken.
    Early,
    /// The same, and the lease comes now.
    EarlyLease(u8),
    /// The same, and this is its answer.
    EarlyAnswered(u8, Lease, u64),
    /// Refreshes: asks for the header under the key.
    Glance,
    /// The stamp is its entry's.
    Glanced,
    /// Reads the origin again.
    Reload {
        /// The number applied when the load began.
        s0: u64,
    },
    /// Has read the origin again and stores.
    Restore(Frame),
    /// Whether that was taken.
    Restored(Frame, bool),
    /// Its entry stands in the near store, inert; the epoch was read.
    Settle {
        /// The entry.
        entry: u64,
        /// The line's epoch as last read.
        epoch: u64,
        /// How.
        put: Put,
    },
    /// Has settled and puts its entry now: a rule is broken.
    PutAfter(u64),
    /// It has not installed; what the near store holds goes.
    Sweep(Told),
}

/// How an entry is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Put {
    /// It was found and put, inert.
    Found,
    /// It was loaded and put, inert.
    Loaded,
    /// It stands there from before.
    Stands,
    /// It was put, inert, for the outage window.
    Unconfirmed,
    /// It is put for the outage window once the flight has settled: a rule is broken.
    After,
    /// The load failed; what was found past its time was put, inert.
    StandIn,
}

/// The callers that joined a flight on the same footing, merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Join {
    /// On what footing.
    pub joining: Joining,
    /// Whether the flight was contested.
    pub contested: bool,
    /// What they may demand.
    pub need: Need,
}

/// What a flight tells its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Told {
    /// The version.
    pub value: u8,
    /// The number applied when its load began.
    pub s0: u64,
    /// How it is told.
    pub how: How,
    /// Whether this flight loaded it from the origin.
    pub loaded: bool,
}

/// A flight and its merged callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Its identity.
    pub id: u64,
    /// The epoch in which it began.
    pub epoch: u64,
    /// When it began.
    pub begun: u8,
    /// What the caller that began it may demand.
    pub need: Need,
    /// Those that joined it.
    pub joined: Vec<Join>,
    /// The near entry whose stamp it checks, or that it refreshes.
    pub suspect: Option<u64>,
    /// Whether it began for no caller, to load ahead of time.
    pub refreshes: bool,
    /// What it found past its time.
    pub fallback: Option<Frame>,
    /// How far it is.
    pub pc: Pc,
}

/// How far a caller has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Look {
    /// Has read trust.
    Trust(Tick),
    /// Has the entry.
    Entry(Tick, u64),
    /// Has read whether the entry is current.
    Current(Tick, u64, bool),
    /// Waits until it is known on what footing it stands.
    Footing,
    /// Goes on to board a flight; whether the process is cut off.
    Board(bool),
}

/// A caller on its way to a flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What it may demand.
    pub need: Need,
    /// The near entry that it suspects.
    pub suspect: Option<u64>,
    /// How far it is.
    pub look: Look,
}
