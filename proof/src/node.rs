//! A process: the shipped coherence state, and what is under way around it.

use cache_core::{Beat, Stamp, Tick};
use cache_tiered::coherence::{BeatTicket, Fence, FlightId, Queue, Track};
use foldhash::fast::FixedState;

use crate::far::Far;
use crate::flight::{Caller, Flight, Look, Pc, Shared};
use crate::writer::{Message, Purge, Put, Writer};

/// The one key.
pub const KEY: u8 = 0;

/// A moment.
#[must_use]
pub const fn at(tick: u8) -> Tick {
    Tick::from_nanos(tick as u64)
}

/// An entry object: whoever holds it sees it confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The object's identity.
    pub id: u64,
    /// The version it holds.
    pub value: u8,
    /// Its fill's identity.
    pub stamp: u64,
    /// The number applied when its load began.
    pub s0: u64,
    /// The epoch in which it is current; 0 if none.
    pub epoch: u64,
    /// When it was confirmed.
    pub confirmed: u8,
    /// Whether its time is over.
    pub late: bool,
}

/// How far a beat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeatAt {
    /// None is under way.
    Idle,
    /// It left.
    Sent(BeatTicket),
    /// It was answered.
    Replied(BeatTicket, Beat),
    /// Changes are missing; it waits for them a little.
    Grace(BeatTicket, Beat),
}

/// What near hits read of the track, as last published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The moment from which near entries aren't trusted.
    pub trust: Tick,
    /// The epoch.
    pub epoch: u64,
    /// The last clear.
    pub cleared: u64,
    /// The number up to which everything was applied.
    pub applied: u64,
}

impl Seen {
    /// All that `track` shows.
    #[must_use]
    pub fn of(track: &Track) -> Self {
        Self { trust: track.trust_until(), epoch: track.epoch(), cleared: track.cleared(), applied: track.applied() }
    }
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it knows of the line.
    pub track: Track,
    /// What it shows of that.
    pub seen: Seen,
    /// Whether the track is locked while the rest of it is published.
    pub publishing: bool,
    /// Whether its last beat failed.
    pub failing: bool,
    /// The flight table.
    pub fence: Fence<u8, Shared, FixedState>,
    /// The near store: the entry under the key.
    pub near: Option<u64>,
    /// The entry objects that anybody holds.
    pub entries: Vec<Entry>,
    /// The flights, current and detached.
    pub flights: Vec<Flight>,
    /// The callers that have no flight yet.
    pub callers: Vec<Caller>,
    /// The changes under way.
    pub writers: Vec<Writer>,
    /// The flights that were under way in a failover: what they tell may be what it lost.
    pub spared: Vec<u64>,
    /// The least version that it takes from the far store.
    pub barred: u8,
    /// Its background writes.
    pub queue: Queue<u8, Put>,
    /// The message that is being applied.
    pub applying: Option<(u64, Purge)>,
    /// The beat.
    pub beat: BeatAt,
    /// Messages that may yet arrive, in any order, or never.
    pub inbox: Vec<Message>,
    /// The version of a change that waits to be repeated.
    pub pending: Option<u8>,
    /// The version of the last acknowledged change, to be repeated after a failover.
    pub ring: Option<u8>,
    /// The last own write that was acknowledged.
    pub own: u8,
    /// The same without writes that leave a fallback.
    pub own_hard: u8,
    /// The last own bump that was acknowledged.
    pub own_tag: u8,
    /// The newest version that was told here.
    pub told: u8,
    /// Whether anybody ever asks it.
    pub reads: bool,
    /// Whether nobody will ask it any more.
    pub idle: bool,
}

impl Node {
    /// A process that has just learnt from `far` that it is connected.
    #[must_use]
    pub fn new(bound: u8, far: &mut Far) -> Self {
        let mut track = Track::new(std::time::Duration::from_nanos(bound.into()));
        let ticket = track.beat_sent(at(0));
        let _ = track.beat_reply(ticket, &far.beat(None), at(0), true);
        Self {
            seen: Seen::of(&track),
            track,
            publishing: false,
            failing: false,
            fence: Fence::default(),
            near: None,
            entries: Vec::new(),
            flights: Vec::new(),
            callers: Vec::new(),
            writers: Vec::new(),
            spared: Vec::new(),
            barred: 0,
            queue: Queue::default(),
            applying: None,
            beat: BeatAt::Idle,
            inbox: Vec::new(),
            pending: None,
            ring: None,
            own: 0,
            own_hard: 0,
            own_tag: 0,
            told: 0,
            reads: false,
            idle: false,
        }
    }

    /// Whether it holds the newest value, as one that it may serve.
    #[must_use]
    pub fn holds_new(&self, world: &crate::world::World) -> bool {
        let entry = self.near.and_then(|id| self.entry(id));
        let trusted = at(world.now) < self.seen.trust;
        let new = |e: Entry| !e.late && e.epoch == self.seen.epoch && e.value > 0 && e.value == world.origin;
        trusted && entry.is_some_and(new)
    }

    /// The entry object `id`.
    #[must_use]
    pub fn entry(&self, id: u64) -> Option<Entry> {
        self.entries.iter().find(|entry| entry.id == id).copied()
    }

    /// Marks the entry object `id` current.
    pub fn confirm(&mut self, id: u64, epoch: u64, now: u8) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            (entry.epoch, entry.confirmed) = (epoch, now);
        }
    }

    /// Shows what the track knows.
    pub fn publish(&mut self) {
        self.seen = Seen::of(&self.track);
    }

    /// Whether the flight `id` is the current one.
    #[must_use]
    pub fn is_current(&self, id: u64) -> bool {
        self.fence.current(&KEY).is_some_and(|shared| shared.id == id)
    }

    /// Ends the place of a flight in the table, as `Flights::settle` does.
    pub fn settle(&mut self, id: u64, epoch: u64, told: Option<u64>) -> bool {
        self.fence.settle(&KEY, FlightId(id), epoch, told.map(Stamp))
    }

    /// Forgets entry objects that nobody holds.
    pub fn sweep(&mut self) {
        let Self { entries, near, flights, callers, .. } = self;
        entries.retain(|entry| {
            let id = entry.id;
            let installs =
                |flight: &Flight| matches!(flight.pc, Pc::Settle { entry, .. } | Pc::PutAfter(entry) if entry == id);
            let looks = |caller: &Caller| {
                caller.suspect == Some(id)
                    || matches!(caller.look, Look::Entry(_, held) | Look::Current(_, held, _) if held == id)
            };
            *near == Some(id)
                || flights.iter().any(|flight| flight.suspect == Some(id) || installs(flight))
                || callers.iter().any(looks)
        });
    }
}
