//! What a run of the model contains.

/// What a writer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Commit, then remove the key.
    Delete,
    /// Commit, then keep the key as a fallback.
    Soften,
    /// Commit, then bump the tag that the key carries.
    Tag,
    /// Change another key of the line: only its number matters here.
    Other,
    /// Hold, commit, remove.
    Guard,
    /// Hold, commit, crash.
    Crash,
    /// Hold, wait for the bound, commit, remove.
    Strict,
    /// Read-modify-write of the value that stands: what is made of it is as old as it is.
    Update,
    /// Commit, then store the value in the background. Who else commits is ordered by the far store, not by the origin:
    /// another process changes the key only once it was stored.
    Behind,
}

/// What is there when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Warm {
    /// Nothing.
    Cold,
    /// The far store holds the value.
    Far,
    /// And so does every near store.
    Near,
}

/// How often something may happen in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Events {
    /// A lease runs out, or a hold that protects nothing any more.
    pub expire: u8,
    /// The far store evicts the key.
    pub evict: u8,
    /// A near store evicts the key.
    pub near_evict: u8,
    /// The far store loses the sequence.
    pub seq_lost: u8,
    /// The far store loses the tag generations.
    pub tags_lost: u8,
    /// The far store restarts empty.
    pub restart: u8,
    /// A replica takes over that lacks the last changes.
    pub failover: u8,
    /// From here on the far store can't number changes, until it can again.
    pub full: u8,
    /// A call to the far store fails, executed or not.
    pub fail: u8,
    /// A beat fails.
    pub deaf: u8,
    /// The time of a value is over, in the far store or in a near one.
    pub age: u8,
    /// The server's clock is set back, so that a value whose time was over is fresh again.
    pub clock: u8,
    /// A load fails.
    pub origin: u8,
    /// A near entry is loaded again ahead of its time.
    pub refresh: u8,
}

/// One run of the model: sizes, what may happen, and what is checked.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The run's name.
    pub name: &'static str,
    /// How many processes.
    pub nodes: usize,
    /// How often time moves on by one.
    pub ticks: u8,
    /// D, in ticks.
    pub bound: u8,
    /// D_out, in ticks.
    pub outage: u8,
    /// The bound that is checked, in ticks; equals `bound` except to show that the check bites.
    pub checked: u8,
    /// Gets of each node.
    pub gets: [u8; 3],
    /// Beats of each node, beyond the first that starts it.
    pub beats: [u8; 3],
    /// The changes that are made, by node, in any order.
    pub writes: &'static [(usize, Kind)],
    /// The tag that is bumped; entries carry it, unless it is `ALL`, which everything carries.
    pub tag: Option<u64>,
    /// Whether a probe, a purge and an install run in steps that others may run between.
    pub fine: bool,
    /// Whether a value past its time stands in for a load that fails or is late.
    pub fail_safe: bool,
    /// What else may happen.
    pub events: Events,
    /// The number from which a lost sequence is made again; `None` for one above all that were given.
    pub remade: Option<u64>,
    /// The first number of the sequence.
    pub first: u64,
    /// What is there already when the run begins.
    pub warm: Warm,
    /// Whether the second process has missed a change when the run begins, and applied the one after it, which a replica
    /// lacks.
    pub gapped: bool,
    /// Whether all nodes may do the same, so that they need not be told apart.
    pub alike: bool,
    /// Whether the promise counts invalidations that a failover lost as acknowledged. It should not hold then.
    pub full_promise: bool,
}

impl Config {
    /// Two processes, one of which writes once; a bound of one tick.
    pub const BASE: Self = Self {
        name: "base",
        nodes: 2,
        ticks: 3,
        bound: 2,
        outage: 0,
        checked: 2,
        gets: [1, 2, 0],
        beats: [1, 1, 0],
        writes: &[(0, Kind::Delete)],
        tag: None,
        fine: false,
        fail_safe: false,
        events: Events {
            expire: 0,
            evict: 0,
            near_evict: 0,
            seq_lost: 0,
            tags_lost: 0,
            restart: 0,
            failover: 0,
            full: 0,
            fail: 0,
            deaf: 0,
            age: 0,
            clock: 0,
            origin: 0,
            refresh: 0,
        },
        remade: None,
        first: 1,
        warm: Warm::Cold,
        gapped: false,
        alike: false,
        full_promise: false,
    };

    /// Whether there are background writes.
    #[must_use]
    pub fn writes_behind(&self) -> bool {
        self.writes.iter().any(|(_, kind)| *kind == Kind::Behind)
    }

    /// Whether processes act on what the far store lost, so that those that nobody asks matter too.
    #[must_use]
    pub const fn is_repaired(&self) -> bool {
        let events = &self.events;
        events.restart + events.failover + events.seq_lost + events.fail > 0
    }
}
