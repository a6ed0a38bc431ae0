//! The far store: one key, one line, as the scripts of the protocol leave them.

use cache_core::{Beat, Generations, Header, Stamp, State};
use cache_tiered::coherence::mutate::{Mutation, broken};

/// What stands under the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its state.
    pub state: State,
    /// Its identity, or the lease's token; 0 for none.
    pub stamp: u64,
    /// The version of the origin's row that it holds.
    pub value: u8,
    /// The number applied where it was loaded, when the load began.
    pub s0: u64,
    /// Whether the lease in a stale value has run out.
    pub lapsed: bool,
    /// Whether the value's time is over.
    pub expired: bool,
}

impl Frame {
    /// A value.
    #[must_use]
    pub const fn value(value: u8, stamp: u64, s0: u64) -> Self {
        Self { state: State::Value, stamp, value, s0, lapsed: false, expired: false }
    }

    const fn bare(state: State, stamp: u64) -> Self {
        Self { state, stamp, value: 0, s0: 0, lapsed: false, expired: false }
    }

    /// Whether it is a value whose time is not over.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.state == State::Value && !self.expired
    }

    /// What of it may stand in for a load: the value, past its time; a lease's token is not its stamp.
    #[must_use]
    pub fn as_fallback(self) -> Option<Self> {
        match self.state {
            State::Value => Some(self),
            State::Stale => Some(Self { stamp: 0, ..self }),
            _ => None,
        }
    }

    /// Its header, for the rules that read one.
    #[must_use]
    pub fn header(&self) -> Header {
        Header { state: self.state, stamp: Stamp(self.stamp), s0: self.s0, ..Header::value() }
    }
}

/// What a request for the lease is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It is the caller's.
    Granted,
    /// A value stands there.
    Found(Frame),
    /// Somebody else's.
    Held,
    /// A guarded write is under way.
    Barred,
}

/// What was last replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The key.
    pub frame: Option<Frame>,
    seq: Option<u64>,
    tags: Option<Bumps>,
    /// The version of the last removal that it has.
    pub floor: u8,
}

/// The generations of the one tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Bumps {
    marker: u64,
    last: u64,
}

/// The far store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Far {
    /// The key.
    pub frame: Option<Frame>,
    /// The number of the last change.
    pub seq: Option<u64>,
    /// The highest number ever given.
    pub highest: u64,
    /// The server's run.
    pub run: u64,
    /// Whether changes can't be numbered.
    pub full: bool,
    /// What a failover would bring.
    pub replica: Option<Replica>,
    /// The highest version whose removal was executed.
    pub floor: u8,
    tags: Option<Bumps>,
}

impl Far {
    /// A store whose line begins at `first`.
    #[must_use]
    pub const fn new(first: u64) -> Self {
        Self {
            frame: None,
            seq: Some(first),
            highest: first,
            run: 1,
            full: false,
            replica: None,
            floor: 0,
            tags: Some(Bumps { marker: first, last: 0 }),
        }
    }

    /// Whether it holds a value older than `floor`.
    #[must_use]
    pub fn is_older_than(&self, floor: u8) -> bool {
        self.frame.is_some_and(|frame| frame.state == State::Value && frame.value < floor)
    }

    fn sequence(&mut self, remade: Option<u64>) -> bool {
        let made = self.seq.is_none() && !self.full;
        if made {
            let number = remade.unwrap_or(self.highest + 1);
            self.seq = Some(number);
            self.highest = self.highest.max(number);
        }
        made
    }

    /// The number of a change; 0, and no sequence any more, if there is none to be had.
    pub fn number(&mut self, remade: Option<u64>) -> u64 {
        if self.full {
            self.seq = None;
            return 0;
        }
        self.sequence(remade);
        self.seq = self.seq.map(|n| n + 1);
        self.highest = self.highest.max(self.seq.unwrap_or(0));
        self.seq.unwrap_or(0)
    }

    /// Keeps a value as a fallback without a lease; removes anything else.
    pub fn soften(&mut self) {
        self.frame = self.frame.filter(|frame| matches!(frame.state, State::Value | State::Stale)).map(|frame| Frame {
            state: State::Stale,
            stamp: 0,
            lapsed: false,
            expired: false,
            ..frame
        });
    }

    /// Bars fills.
    pub fn hold(&mut self) {
        self.frame = Some(Frame::bare(State::Tombstone, 0));
    }

    /// Bumps the tag, as change `n`.
    pub fn bump(&mut self, n: u64) {
        if n == 0 {
            self.tags = None;
        } else {
            let tags = self.tags.get_or_insert(Bumps { marker: n - 1, last: 0 });
            tags.last = n;
        }
    }

    /// The generations of `asked` tags, of which the last is the one that is ever bumped.
    pub fn generations(&mut self, asked: usize, remade: Option<u64>) -> Generations {
        self.sequence(remade);
        match self.seq {
            Some(seq) => {
                let tags = *self.tags.get_or_insert(Bumps { marker: seq, last: 0 });
                let mut bumps = vec![0; asked];
                bumps[asked - 1] = tags.last;
                Generations { floor: tags.marker, bumps }
            }
            None => Generations { floor: u64::MAX, bumps: vec![0; asked] },
        }
    }

    /// Answers a beat.
    pub fn beat(&mut self, remade: Option<u64>) -> Beat {
        let created = self.sequence(remade);
        Beat { seq: self.seq, created, server_ms: 0, run: self.run }
    }

    /// Asks for the lease.
    pub fn lease(&mut self, token: u64) -> Lease {
        match self.frame {
            Some(frame) if frame.is_fresh() => return Lease::Found(frame),
            Some(frame) if frame.state == State::Lease => return Lease::Held,
            Some(frame) if frame.state == State::Tombstone => return Lease::Barred,
            Some(frame) if frame.state == State::Stale && frame.stamp != 0 && !frame.lapsed => return Lease::Held,
            Some(past) => {
                self.frame = Some(Frame { state: State::Stale, stamp: token, lapsed: false, expired: false, ..past });
            }
            None => self.frame = Some(Frame::bare(State::Lease, token)),
        }
        Lease::Granted
    }

    /// Stores `frame` if its stamp holds the lease.
    pub fn fill(&mut self, frame: Frame) -> bool {
        let holds = |held: Frame| matches!(held.state, State::Lease | State::Stale) && held.stamp == frame.stamp;
        let may = self.frame.is_some_and(holds) || broken(Mutation::NoCas);
        if may {
            self.frame = Some(frame);
        }
        may
    }

    /// Stores `frame` if the key still holds the value with the stamp `seen`, or if the rule `blind` is broken.
    pub fn swap(&mut self, seen: u64, frame: Frame, blind: Mutation) -> bool {
        let holds = |held: Frame| held.state == State::Value && held.stamp == seen;
        let may = self.frame.is_some_and(holds) || broken(blind);
        if may {
            self.frame = Some(frame);
        }
        may
    }

    /// Removes the key if it still holds `seen`.
    pub fn discard(&mut self, seen: Frame) {
        // its bytes do not say whether its time is over
        if self.frame.map(|frame| Frame { expired: seen.expired, ..frame }) == Some(seen) {
            self.frame = None;
        }
    }

    /// Gives the lease back: a value stays, past its time.
    pub fn release(&mut self, token: u64) {
        self.frame = match self.frame {
            Some(frame) if frame.stamp == token && frame.state == State::Lease => None,
            Some(frame) if frame.stamp == token && frame.state == State::Stale => {
                Some(Frame { stamp: 0, lapsed: false, ..frame })
            }
            other => other,
        };
    }

    /// The value's time is over, or by a clock that was set it is not; whether there is one.
    pub fn age(&mut self, expired: bool) -> bool {
        let ages = |frame: &&mut Frame| frame.state == State::Value && frame.expired != expired;
        self.frame.as_mut().filter(ages).map(|frame| frame.expired = expired).is_some()
    }

    /// The lease runs out; a hold ends.
    pub fn expire(&mut self) -> bool {
        match self.frame {
            Some(frame) if matches!(frame.state, State::Lease | State::Tombstone) => self.frame = None,
            Some(frame) if frame.state == State::Stale && frame.stamp != 0 && !frame.lapsed => {
                self.frame = Some(Frame { lapsed: true, ..frame });
            }
            _ => return false,
        }
        true
    }

    /// Loses the tag generations; whether there were any.
    pub fn lose_tags(&mut self) -> bool {
        self.tags.take().is_some()
    }

    /// Everything is lost.
    pub fn restart(&mut self) {
        *self = Self { highest: self.highest, run: self.run + 1, floor: self.floor, ..Self::new(0) };
        self.seq = None;
        self.tags = None;
    }

    /// What is there now is replicated.
    pub fn replicate(&mut self) {
        self.replica = Some(Replica { frame: self.frame, seq: self.seq, tags: self.tags, floor: self.floor });
    }

    /// The replica takes over.
    pub fn fail_over(&mut self) -> bool {
        let Some(replica) = self.replica.take() else { return false };
        self.frame = replica.frame;
        self.seq = replica.seq;
        self.tags = replica.tags;
        self.run += 1;
        true
    }

    /// What tells two stores apart that behave differently; stamps are told by what they match.
    pub fn digest(&self, into: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let frame = |frame: Option<Frame>| frame.map(|f| (f.state, f.stamp != 0, f.value, f.s0, f.lapsed, f.expired));
        frame(self.frame).hash(into);
        (self.seq, self.highest, self.run, self.full, self.tags, self.floor).hash(into);
        if let Some(replica) = self.replica {
            (frame(replica.frame), replica.seq, replica.tags, replica.floor).hash(into);
        }
    }

    /// What a stamp matches: nothing that is stored or can come back, if 0.
    #[must_use]
    pub fn matches(&self, stamp: u64) -> u8 {
        let is = |frame: Option<Frame>| stamp != 0 && frame.is_some_and(|frame| frame.stamp == stamp);
        u8::from(is(self.frame)) + 2 * u8::from(is(self.replica.and_then(|replica| replica.frame)))
    }
}
