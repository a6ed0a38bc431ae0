//! What may happen.

/// Something that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time moves on.
    Tick,
    /// A caller comes to a node.
    Get(usize),
    /// A caller of a node goes on.
    Look(usize, usize),
    /// A caller of a node gives up waiting for its footing.
    Impatient(usize, usize),
    /// A flight of a node goes on.
    Fly(usize, usize),
    /// A call of a flight fails.
    FlightFails(usize, usize),
    /// The load of a flight fails.
    LoadFails(usize, usize),
    /// A node loads its near entry again, ahead of time.
    Refresh(usize),
    /// The time of the far store's value is over.
    Age,
    /// The time of a near entry is over.
    NearAge(usize),
    /// The server's clock is set back.
    SetClock,
    /// The next background write of a node departs.
    Depart(usize),
    /// The write with this index begins.
    Write(usize),
    /// A writer of a node goes on.
    Change(usize, usize),
    /// A writer's call fails; whether it was executed.
    ChangeFails(usize, usize, bool),
    /// A message reaches a node.
    Deliver(usize, usize),
    /// A node goes on applying a message.
    Apply(usize),
    /// A node sends a beat.
    Beat(usize),
    /// A beat goes on: executed, judged.
    BeatGoesOn(usize),
    /// A beat fails.
    BeatFails(usize),
    /// The rest of a track is published.
    Publish(usize),
    /// A lease or hold runs out.
    Expire,
    /// The far store evicts the key.
    Evict,
    /// A near store evicts the key.
    NearEvict(usize),
    /// The sequence is lost.
    SeqLost,
    /// The tag generations are lost.
    TagsLost,
    /// The far store restarts empty.
    Restart,
    /// The replica catches up.
    Replicate,
    /// The replica takes over.
    FailOver,
    /// The far store can't number changes, or can again.
    Full,
}
