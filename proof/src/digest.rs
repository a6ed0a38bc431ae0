//! What tells two processes apart.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;

use crate::far::{Far, Frame, Lease};
use crate::flight::{Caller, Flight, Look, Pc};
use crate::node::{BeatAt, Entry, KEY, Node};
use crate::writer::{Step, Writer};

impl Node {
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
        (self.publishing, self.failing, self.applying, self.pending, self.ring, self.barred).hash(into);
        (self.own, self.own_hard, self.own_tag, self.told).hash(into);
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
        self.digest_writes(far, into);
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
            self.spared.contains(&flight.id).hash(&mut hasher);
            (self.is_current(flight.id), flight.epoch, flight.begun, flight.need, object(flight.suspect))
                .hash(&mut hasher);
            unordered(flight.joined.iter(), |join, hasher| join.hash(hasher), hasher);
            let frame = |frame: Frame| {
                let Frame { state, stamp, value, s0, lapsed, expired } = frame;
                (state, far.matches(stamp), value, s0, lapsed, expired)
            };
            (flight.refreshes, flight.fallback.map(frame)).hash(&mut hasher);
            std::mem::discriminant(&flight.pc).hash(&mut hasher);
            match &flight.pc {
                Pc::Peek | Pc::Peeked | Pc::Read | Pc::Lease | Pc::Early | Pc::Glance | Pc::Glanced => {}
                Pc::Found(found) => frame(*found).hash(&mut hasher),
                Pc::Ask(epoch, seen, then) => (epoch, frame(*seen), then).hash(&mut hasher),
                Pc::Told(epoch, told, seen, then) => {
                    (epoch, told.floor, &told.bumps, frame(*seen), then).hash(&mut hasher);
                }
                Pc::Answered(lease, token) => lease_digest(*lease, far, *token).hash(&mut hasher),
                Pc::Discard(seen, own) => (frame(*seen), own).hash(&mut hasher),
                Pc::Load { token, s0 } => (far.matches(*token), s0).hash(&mut hasher),
                Pc::Fill(filled) | Pc::Restore(filled) => frame(*filled).hash(&mut hasher),
                Pc::BarredHas(read) | Pc::BarredFill(read) | Pc::CutHas(read) => frame(*read).hash(&mut hasher),
                Pc::Filled(filled, ok) | Pc::Restored(filled, ok) => (frame(*filled), ok).hash(&mut hasher),
                Pc::Over(own) => own.hash(&mut hasher),
                Pc::EarlyLease(own) => own.hash(&mut hasher),
                Pc::Looked(own, found) => (own, found.map(frame)).hash(&mut hasher),
                Pc::Barred { s0 } | Pc::Cut { s0 } | Pc::Reload { s0 } => s0.hash(&mut hasher),
                Pc::EarlyAnswered(own, lease, token) => (own, lease_digest(*lease, far, *token)).hash(&mut hasher),
                Pc::Settle { entry, epoch, put } => (object(Some(*entry)), epoch, put).hash(&mut hasher),
                Pc::PutAfter(id) => object(Some(*id)).hash(&mut hasher),
                Pc::Sweep(told) => told.hash(&mut hasher),
            }
        };
        let flights: Vec<u64> = self.flights.iter().map(|one| digest_of(|hasher| flight(one, hasher))).collect();
        // a stamp that several flights hold is told by the flights that hold it, any other by what it matches far
        let holders = |stamp: u64| {
            let held = |(one, digest): (&Flight, &u64)| {
                let [told, found] = self.held(one).map(|held| held == Some(stamp));
                (told || found).then_some((*digest, told, found))
            };
            let mut holders: Vec<_> = self.flights.iter().zip(&flights).filter_map(held).collect();
            holders.sort_unstable();
            holders
        };
        let contest = self.fence.contest(&KEY).map(|stamp| (far.matches(stamp.0), holders(stamp.0)));
        contest.hash(into);
        let mut flights: Vec<_> =
            self.flights.iter().zip(&flights).map(|(one, digest)| (*digest, self.held(one))).collect();
        flights.sort_unstable_by_key(|(digest, _)| *digest);
        for (digest, held) in flights {
            (digest, held.map(|stamp| stamp.map(holders))).hash(into);
        }
    }

    /// What tells two processes apart that nobody asks any more: what they write.
    pub fn digest_writes(&self, far: &Far, into: &mut impl Hasher) {
        self.queue.hash(into);
        let writer = |writer: &Writer, hasher: &mut Hash64| match writer.step {
            Step::Swap { seen, value, s0 } => (writer.kind, writer.run, far.matches(seen), value, s0).hash(hasher),
            _ => writer.hash(hasher),
        };
        unordered(self.writers.iter(), writer, into);
    }

    /// The stamps of what a flight may tell, and of what stands in for that.
    fn held(&self, flight: &Flight) -> [Option<u64>; 2] {
        let told = match flight.pc {
            Pc::Found(frame)
            | Pc::Ask(_, frame, _)
            | Pc::Told(_, _, frame, _)
            | Pc::Fill(frame)
            | Pc::Filled(frame, _)
            | Pc::Restore(frame)
            | Pc::Restored(frame, _)
            | Pc::Looked(_, Some(frame))
            | Pc::Answered(Lease::Found(frame), _) => Some(frame.stamp),
            Pc::Peek | Pc::Peeked => flight.suspect.and_then(|id| self.entry(id)).map(|entry| entry.stamp),
            Pc::Settle { entry, .. } => self.entry(entry).map(|entry| entry.stamp),
            _ => None,
        };
        [told, flight.fallback.map(|frame| frame.stamp).filter(|stamp| *stamp != 0)]
    }

    fn essence(&self, entry: &Entry, far: &Far, now: u8, outage: u8) -> (u8, u8, u64, u64, u8, bool) {
        // how long ago it was confirmed matters only while the outage window is open
        let confirmed = if outage == 0 || entry.confirmed + outage <= now { 0 } else { entry.confirmed };
        (entry.value, far.matches(entry.stamp), entry.s0, entry.epoch, confirmed, entry.late)
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
