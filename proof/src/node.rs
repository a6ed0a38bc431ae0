//! A process: the shipped coherence state, and what is under way around it.

use std::hash::{BuildHasher, Hash, Hasher};

use cache_core::{Beat, Generations, Stamp, Tick};
use cache_tiered::coherence::{BeatTicket, Fence, FlightId, Joining, Track};
use foldhash::fast::FixedState;

use crate::far::{Far, Frame, Lease};
use crate::ghost::{How, Need};

/// The one key.
pub const KEY: u8 = 0;

/// A moment.
#[must_use]
pub const fn at(tick: u8) -> Tick {
    Tick::from_nanos(tick as u64)
}

/// What a flight shares with its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shared {
    /// Its identity.
    pub id: u64,
    /// When it began.
    pub begun: u8,
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
    /// Removes what it can't use.
    Discard(Frame),
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
    /// The near entry whose stamp it checks.
    pub suspect: Option<u64>,
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
    pub kind: crate::config::Kind,
    /// The version that it committed.
    pub version: u8,
    /// The server's run when it left, as far as the process knew.
    pub run: Option<u64>,
    /// How far it is.
    pub step: Step,
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
    /// Whether it knows that it is cut off.
    pub outage: bool,
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
            outage: false,
            fence: Fence::default(),
            near: None,
            entries: Vec::new(),
            flights: Vec::new(),
            callers: Vec::new(),
            writers: Vec::new(),
            applying: None,
            beat: BeatAt::Idle,
            inbox: Vec::new(),
            pending: None,
            ring: None,
            own: 0,
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
        trusted && entry.is_some_and(|e| e.epoch == self.seen.epoch && e.value > 0 && e.value == world.origin)
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
    pub fn settle(&mut self, id: u64, epoch: u64, told: u64) -> bool {
        self.fence.settle(&KEY, FlightId(id), epoch, Some(Stamp(told)))
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

    /// What tells two processes apart that behave differently: identities are told by what they match.
    pub fn digest(&self, far: &Far, now: u8, outage: u8, into: &mut impl Hasher) {
        let object = |id: Option<u64>| {
            id.and_then(|id| self.entry(id)).map(|entry| {
                let near = self.near == Some(entry.id);
                // among objects that are not in the store, who shares one with whom is told by its place
                let alias = if near { None } else { self.entries.iter().position(|other| other.id == entry.id) };
                (near, alias, self.essence(&entry, far, now, outage))
            })
        };
        self.track.hash(into);
        self.seen.hash(into);
        (self.publishing, self.outage, self.applying, self.pending, self.ring).hash(into);
        (self.own, self.own_tag, self.told).hash(into);
        self.near.and_then(|id| self.entry(id)).map(|entry| self.essence(&entry, far, now, outage)).hash(into);
        // a current flight that is no more would be a leak; it is told by its number
        let lost = self.fence.current(&KEY).filter(|shared| !self.flights.iter().any(|flight| flight.id == shared.id));
        lost.hash(into);
        match self.beat {
            BeatAt::Idle => 0u8.hash(into),
            BeatAt::Sent(ticket) => (1u8, ticket).hash(into),
            BeatAt::Replied(ticket, beat) => (2u8, ticket, beat.seq, beat.created, beat.run).hash(into),
            BeatAt::Grace(ticket, beat) => (3u8, ticket, beat.seq, beat.created, beat.run).hash(into),
        }
        self.inbox.hash(into);
        let writer = |writer: &Writer, hasher: &mut Hash64| match writer.step {
            Step::Swap { seen, value, s0 } => (writer.kind, writer.run, far.matches(seen), value, s0).hash(hasher),
            _ => writer.hash(hasher),
        };
        unordered(self.writers.iter(), writer, into);
        let caller = |caller: &Caller, mut hasher: &mut Hash64| {
            (caller.need, object(caller.suspect)).hash(&mut hasher);
            match caller.look {
                Look::Entry(trust, id) => (1u8, trust, object(Some(id))).hash(&mut hasher),
                Look::Current(trust, id, current) => (2u8, trust, object(Some(id)), current).hash(&mut hasher),
                look => (3u8, look).hash(&mut hasher),
            }
        };
        unordered(self.callers.iter(), caller, into);
        let flight = |flight: &Flight, mut hasher: &mut Hash64| {
            (self.is_current(flight.id), flight.epoch, flight.begun, flight.need, object(flight.suspect))
                .hash(&mut hasher);
            unordered(flight.joined.iter(), |join, hasher| join.hash(hasher), hasher);
            let frame = |frame: Frame| (frame.state, far.matches(frame.stamp), frame.value, frame.s0, frame.lapsed);
            std::mem::discriminant(&flight.pc).hash(&mut hasher);
            match &flight.pc {
                Pc::Peek | Pc::Peeked | Pc::Read | Pc::Lease | Pc::Early => {}
                Pc::Found(found) => frame(*found).hash(&mut hasher),
                Pc::Ask(epoch, seen, then) => (epoch, frame(*seen), then).hash(&mut hasher),
                Pc::Told(epoch, told, seen, then) => {
                    (epoch, told.floor, &told.bumps, frame(*seen), then).hash(&mut hasher);
                }
                Pc::Answered(lease, token) => lease_digest(*lease, far, *token).hash(&mut hasher),
                Pc::Discard(seen) => frame(*seen).hash(&mut hasher),
                Pc::Load { token, s0 } => (far.matches(*token), s0).hash(&mut hasher),
                Pc::Fill(filled) => frame(*filled).hash(&mut hasher),
                Pc::BarredHas(read) | Pc::BarredFill(read) | Pc::CutHas(read) => frame(*read).hash(&mut hasher),
                Pc::Filled(filled, ok) => (frame(*filled), ok).hash(&mut hasher),
                Pc::Over(own) => own.hash(&mut hasher),
                Pc::EarlyLease(own) => own.hash(&mut hasher),
                Pc::Looked(own, found) => (own, found.map(frame)).hash(&mut hasher),
                Pc::Barred { s0 } | Pc::Cut { s0 } => s0.hash(&mut hasher),
                Pc::EarlyAnswered(own, lease, token) => (own, lease_digest(*lease, far, *token)).hash(&mut hasher),
                Pc::Settle { entry, epoch, put } => (object(Some(*entry)), epoch, put).hash(&mut hasher),
                Pc::PutAfter(id) => object(Some(*id)).hash(&mut hasher),
                Pc::Sweep(told) => told.hash(&mut hasher),
            }
        };
        let flights: Vec<u64> = self.flights.iter().map(|one| digest_of(|hasher| flight(one, hasher))).collect();
        // a stamp that several flights hold is told by the flights that hold it, any other by what it matches far
        let holders = |stamp: u64| {
            let held = self.flights.iter().zip(&flights).filter(|(one, _)| self.held(one) == Some(stamp));
            let mut holders: Vec<u64> = held.map(|(_, digest)| *digest).collect();
            holders.sort_unstable();
            holders
        };
        let contest = self.fence.contest(&KEY).map(|stamp| (far.matches(stamp.0), holders(stamp.0)));
        contest.hash(into);
        let mut flights: Vec<_> =
            self.flights.iter().zip(&flights).map(|(one, digest)| (*digest, self.held(one))).collect();
        flights.sort_unstable_by_key(|(digest, _)| *digest);
        for (digest, held) in flights {
            (digest, held.map(holders)).hash(into);
        }
    }

    /// The stamp of what a flight may tell.
    fn held(&self, flight: &Flight) -> Option<u64> {
        match flight.pc {
            Pc::Found(frame)
            | Pc::Ask(_, frame, _)
            | Pc::Told(_, _, frame, _)
            | Pc::Fill(frame)
            | Pc::Filled(frame, _)
            | Pc::Looked(_, Some(frame))
            | Pc::Answered(Lease::Found(frame), _) => Some(frame.stamp),
            Pc::Peek | Pc::Peeked => flight.suspect.and_then(|id| self.entry(id)).map(|entry| entry.stamp),
            Pc::Settle { entry, .. } => self.entry(entry).map(|entry| entry.stamp),
            _ => None,
        }
    }

    fn essence(&self, entry: &Entry, far: &Far, now: u8, outage: u8) -> (u8, u8, u64, u64, u8) {
        // how long ago it was confirmed matters only while the outage window is open
        let confirmed = if outage == 0 || entry.confirmed + outage <= now { 0 } else { entry.confirmed };
        (entry.value, far.matches(entry.stamp), entry.s0, entry.epoch, confirmed)
    }
}

type Hash64 = <FixedState as BuildHasher>::Hasher;

fn lease_digest(lease: Lease, far: &Far, token: u64) -> (u8, Option<(u8, u8, u64)>, u8) {
    let (kind, found) = match lease {
        Lease::Granted => (0, None),
        Lease::Held => (1, None),
        Lease::Barred => (2, None),
        Lease::Found(frame) => (3, Some((far.matches(frame.stamp), frame.value, frame.s0))),
    };
    (kind, found, if kind == 0 { far.matches(token) } else { 0 })
}

/// Hashes `items` without their order.
fn unordered<'a, T: 'a>(items: impl Iterator<Item = &'a T>, digest: impl Fn(&T, &mut Hash64), into: &mut impl Hasher) {
    let mut all: Vec<u64> = items.map(|item| digest_of(|hasher| digest(item, hasher))).collect();
    all.sort_unstable();
    all.hash(into);
}

fn digest_of(digest: impl FnOnce(&mut Hash64)) -> u64 {
    let mut hasher = FixedState::with_seed(7).build_hasher();
    digest(&mut hasher);
    hasher.finish()
}
