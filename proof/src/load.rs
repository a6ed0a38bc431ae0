//! A flight, in the order of `Engine::read_phase`, `LoadTask` and `Engine::conclude`.

use cache_core::{State, envelope};
use cache_tiered::coherence::mutate::{Mutation, broken};
use cache_tiered::coherence::{Judged, Overtaken, Take, UNCONFIRMED, ends_with_purge, take_joined};

use crate::config::Config;
use crate::far::{Frame, Lease};
use crate::flight::{Flight, Own, Pc, Put, Then, Told};
use crate::ghost::How;
use crate::node::{Entry, KEY};
use crate::read::tags_of;
use crate::world::World;

/// What a step comes to.
pub(crate) enum Next {
    /// The flight goes on here.
    On(Pc),
    /// What it found past its time stands; it goes on with a miss.
    StandsIn(Frame),
    /// The flight is over.
    Over,
    /// It can't be done now.
    Blocked,
}

impl World {
    /// A flight goes on.
    pub fn fly(&mut self, config: &Config, index: usize, place: usize) -> bool {
        let mut flight = self.nodes[index].flights.remove(place);
        match self.step(config, index, &flight) {
            Next::Blocked => return false,
            Next::Over => {}
            Next::StandsIn(frame) => {
                flight.fallback = Some(frame);
                flight.suspect = None;
                flight.pc = self.missed();
                self.nodes[index].flights.insert(place, flight);
            }
            Next::On(pc) => {
                // replies that say "look again" lead back to where the flight was
                flight.suspect = flight.suspect.filter(|_| !matches!(pc, Pc::Read | Pc::Lease));
                flight.pc = pc;
                self.nodes[index].flights.insert(place, flight);
            }
        }
        true
    }

    fn step(&mut self, config: &Config, index: usize, flight: &Flight) -> Next {
        match flight.pc.clone() {
            Pc::Peek => {
                let entry = flight.suspect.and_then(|id| self.nodes[index].entry(id));
                let same =
                    |frame: Frame| frame.state == State::Value && entry.is_some_and(|entry| entry.stamp == frame.stamp);
                // the steps of a reply that change nothing here are not told apart from the store's
                Next::On(if self.far.frame.is_some_and(same) { Pc::Peeked } else { Pc::Read })
            }
            Pc::Peeked => match flight.suspect.and_then(|id| self.nodes[index].entry(id)) {
                Some(entry) => {
                    self.judge(config, index, flight, Frame::value(entry.value, entry.stamp, entry.s0), Then::Peek)
                }
                None => Next::Blocked,
            },
            Pc::Read => match self.far.frame {
                Some(frame) if frame.is_fresh() => Next::On(Pc::Found(frame)),
                _ if flight.refreshes => self.leave(config, index, flight),
                found => match found.filter(|_| config.fail_safe).and_then(Frame::as_fallback) {
                    Some(frame) => self.judge(config, index, flight, frame, Then::StandIn),
                    None => Next::On(self.missed()),
                },
            },
            Pc::Found(frame) => self.judge(config, index, flight, frame, Then::Read),
            Pc::Ask(epoch, frame, then) => {
                let told = self.far.generations(1 + tags_of(config).len(), config.remade);
                Next::On(Pc::Told(epoch, told, frame, then))
            }
            Pc::Told(epoch, told, frame, then) => {
                let node = &mut self.nodes[index];
                if node.publishing {
                    return Next::Blocked;
                }
                let asked: Vec<u64> = [envelope::ALL].iter().chain(tags_of(config)).copied().collect();
                node.track.learn(epoch, &asked, &told);
                node.publish();
                self.judge(config, index, flight, frame, then)
            }
            Pc::Lease => {
                let token = self.fresh();
                match self.far.lease(token) {
                    Lease::Held => Next::Blocked,
                    Lease::Granted if config.tag.is_none() => Next::On(Pc::Load { token, s0: u64::MAX }),
                    lease => Next::On(Pc::Answered(lease, token)),
                }
            }
            Pc::Answered(lease, token) => self.answered(config, index, flight, lease, token),
            Pc::Discard(frame, own) => {
                self.far.discard(frame);
                Next::On(own.map_or(Pc::Lease, Pc::Over))
            }
            Pc::Load { token, s0 } => Next::On(Pc::Fill(Frame::value(self.origin, token, s0))),
            Pc::Fill(frame) => {
                let s0 = if broken(Mutation::S0AfterLoad) { self.s0(config, index) } else { frame.s0 };
                let frame = Frame { s0, ..frame };
                Next::On(Pc::Filled(frame, self.far.fill(frame)))
            }
            Pc::Filled(frame, ok) if ok || broken(Mutation::InstallRejected) => {
                self.put(config, index, flight, frame, Put::Loaded)
            }
            Pc::Filled(frame, _) if broken(Mutation::ReturnRejected) => {
                self.bare(config, index, flight, frame, How::Plain)
            }
            Pc::Filled(frame, _) => Next::On(Pc::Over(Own { value: frame.value, s0: frame.s0 })),
            Pc::Over(own) => match self.far.frame {
                Some(frame) if matches!(Overtaken::by(Some(&frame.header())), Overtaken::Wait(_)) => Next::Blocked,
                found => Next::On(Pc::Looked(own, found)),
            },
            Pc::Looked(own, found) => match found {
                Some(frame) if frame.is_fresh() => self.judge(config, index, flight, frame, Then::Over(own)),
                found => self.overtaken(config, index, flight, own, found),
            },
            Pc::Barred { s0 } => {
                let frame = Frame::value(self.origin, 0, s0);
                Next::On(if broken(Mutation::HoldFills) { Pc::BarredFill(frame) } else { Pc::BarredHas(frame) })
            }
            Pc::BarredFill(frame) => {
                self.far.frame = Some(frame);
                Next::On(Pc::BarredHas(frame))
            }
            Pc::BarredHas(frame) if broken(Mutation::BarredTells) => {
                self.bare(config, index, flight, frame, How::Plain)
            }
            Pc::BarredHas(frame) => Next::On(Pc::Over(Own { value: frame.value, s0: frame.s0 })),
            Pc::Cut { s0 } => Next::On(Pc::CutHas(Frame::value(self.origin, 0, s0))),
            Pc::CutHas(frame) => self.put_unconfirmed(config, index, flight, frame),
            Pc::Early => Next::On(Pc::EarlyLease(self.origin)),
            Pc::EarlyLease(own) => {
                let token = self.fresh();
                Next::On(Pc::EarlyAnswered(own, self.far.lease(token), token))
            }
            Pc::EarlyAnswered(own, Lease::Granted, token) => {
                Next::On(Pc::Fill(Frame::value(own, token, self.s0(config, index))))
            }
            Pc::EarlyAnswered(_, Lease::Found(frame), _) => self.judge(config, index, flight, frame, Then::Lease),
            Pc::EarlyAnswered(own, Lease::Held, _) => Next::On(Pc::EarlyLease(own)),
            Pc::EarlyAnswered(own, Lease::Barred, _) => {
                self.bare(config, index, flight, Frame::value(own, 0, u64::MAX), How::Plain)
            }
            Pc::Glance | Pc::Glanced | Pc::Reload { .. } | Pc::Restore(_) | Pc::Restored(..) => {
                self.refresh_on(config, index, flight)
            }
            Pc::Settle { entry, epoch, put } => self.settle(config, index, flight, entry, epoch, put),
            Pc::PutAfter(id) => {
                self.nodes[index].near = Some(id);
                let Some(Entry { value, s0, .. }) = self.nodes[index].entry(id) else { return Next::Blocked };
                self.tell(config, index, flight, Told { value, s0, how: How::Outage, loaded: true }, true)
            }
            Pc::Sweep(told) => {
                self.nodes[index].near = None;
                self.tell(config, index, flight, told, false)
            }
        }
    }

    /// The number applied now; without tags it plays no part, so that one value stands for all.
    pub(crate) fn s0(&self, config: &Config, index: usize) -> u64 {
        if config.tag.is_some() { self.nodes[index].seen.applied } else { u64::MAX }
    }

    fn missed(&self) -> Pc {
        if broken(Mutation::LeaseAfterLoad) { Pc::Early } else { Pc::Lease }
    }

    fn answered(&mut self, config: &Config, index: usize, flight: &Flight, lease: Lease, token: u64) -> Next {
        let s0 = self.s0(config, index);
        match lease {
            Lease::Granted => Next::On(Pc::Load { token, s0 }),
            Lease::Found(frame) => self.judge(config, index, flight, frame, Then::Lease),
            Lease::Held => Next::On(Pc::Lease),
            Lease::Barred => {
                if !broken(Mutation::HoldJoinable) {
                    self.nodes[index].fence.detach(&KEY);
                }
                Next::On(Pc::Barred { s0 })
            }
        }
    }

    /// Whether the tags of what was found still stand, as `Engine::tags_valid`; then what follows.
    pub(crate) fn judge(&mut self, config: &Config, index: usize, flight: &Flight, frame: Frame, then: Then) -> Next {
        let track = &self.nodes[index].track;
        let judged = track.judge(frame.s0, tags_of(config));
        // as `Floors::admits`, in versions
        let judged = if frame.value < self.nodes[index].barred { Judged::Invalid } else { judged };
        match (judged, then) {
            (Judged::Ask, _) => Next::On(Pc::Ask(track.epoch(), frame, then)),
            (Judged::Valid, Then::Peek) => self.revalidated(config, index, flight),
            (Judged::Valid, Then::StandIn) => Next::StandsIn(frame),
            (Judged::Valid, _) => self.put(config, index, flight, frame, Put::Found),
            (Judged::Invalid, Then::Peek) => Next::On(Pc::Read),
            (Judged::Invalid, Then::Read) if flight.refreshes => self.leave(config, index, flight),
            (Judged::Invalid, Then::Read | Then::StandIn) => Next::On(self.missed()),
            (Judged::Invalid, Then::Lease) => Next::On(Pc::Discard(frame, None)),
            (Judged::Invalid, Then::Over(own)) => self.overtaken(config, index, flight, own, Some(frame)),
        }
    }

    fn overtaken(&mut self, config: &Config, index: usize, flight: &Flight, own: Own, found: Option<Frame>) -> Next {
        let header = found.map(|frame| frame.header());
        match Overtaken::by(header.as_ref()) {
            Overtaken::Wait(_) => Next::On(Pc::Over(own)),
            Overtaken::Discard => found.map_or(Next::Blocked, |frame| Next::On(Pc::Discard(frame, Some(own)))),
            Overtaken::Alone => self.bare(config, index, flight, Frame::value(own.value, 0, own.s0), How::Plain),
        }
    }

    /// The stamp stands: the near entry is confirmed where it is, as `Engine::conclude_confirmed`.
    fn revalidated(&mut self, config: &Config, index: usize, flight: &Flight) -> Next {
        let Some(id) = flight.suspect else { return Next::Blocked };
        if broken(Mutation::ConfirmLate) {
            let (epoch, now) = (self.nodes[index].seen.epoch, self.now);
            self.nodes[index].confirm(id, epoch, now);
        }
        if broken(Mutation::PutConfirmed) {
            let now = self.now;
            self.nodes[index].confirm(id, flight.epoch, now);
            self.nodes[index].near = Some(id);
        }
        self.install(config, index, flight, id, Put::Stands)
    }

    /// Puts what was found or filled, inert, as `Engine::conclude`.
    pub(crate) fn put(&mut self, config: &Config, index: usize, flight: &Flight, frame: Frame, put: Put) -> Next {
        if self.nodes[index].written(config).is_some() {
            // a write that is on its way is newer
            let how = if put == Put::StandIn { How::Fallback } else { How::Plain };
            let told = Told { value: frame.value, s0: frame.s0, how, loaded: put == Put::Loaded };
            return self.end_bare(config, index, flight, frame.stamp, told);
        }
        let (id, late) = (self.fresh(), put == Put::StandIn);
        let entry = Entry { id, value: frame.value, stamp: frame.stamp, s0: frame.s0, epoch: 0, confirmed: 0, late };
        self.nodes[index].entries.push(entry);
        self.nodes[index].near = Some(id);
        self.install(config, index, flight, id, put)
    }

    /// Reads the origin while cut off, and installs for the outage window, as `Engine::conclude_unconfirmed`.
    fn put_unconfirmed(&mut self, config: &Config, index: usize, flight: &Flight, frame: Frame) -> Next {
        let id = self.fresh();
        if config.outage == 0 {
            return self.bare(config, index, flight, Frame { stamp: id, ..frame }, How::Outage);
        }
        let entry = Entry { id, value: frame.value, stamp: id, s0: frame.s0, epoch: 0, confirmed: 0, late: false };
        self.nodes[index].entries.push(entry);
        if broken(Mutation::UnconfirmedUnfenced) {
            return self.install(config, index, flight, id, Put::After);
        }
        self.nodes[index].near = Some(id);
        self.install(config, index, flight, id, Put::Unconfirmed)
    }

    /// The line's epoch is read; then the flight settles.
    fn install(&mut self, config: &Config, index: usize, flight: &Flight, entry: u64, put: Put) -> Next {
        let epoch = self.nodes[index].seen.epoch;
        if config.fine && put != Put::After {
            return Next::On(Pc::Settle { entry, epoch, put });
        }
        self.settle(config, index, flight, entry, epoch, put)
    }

    fn settle(&mut self, config: &Config, index: usize, flight: &Flight, id: u64, epoch: u64, put: Put) -> Next {
        let now = self.now;
        let node = &mut self.nodes[index];
        let Some(entry) = node.entry(id) else { return Next::Blocked };
        let may = node.settle(flight.id, epoch, Some(entry.stamp));
        let how = match put {
            Put::Unconfirmed | Put::After => How::Outage,
            Put::StandIn => How::Fallback,
            Put::Found | Put::Loaded | Put::Stands => How::Plain,
        };
        let loaded = matches!(put, Put::Loaded | Put::Unconfirmed | Put::After);
        let told = Told { value: entry.value, s0: entry.s0, how, loaded };
        if may {
            match put {
                Put::Found | Put::Loaded | Put::Stands | Put::StandIn => {
                    node.confirm(id, if broken(Mutation::NoFlightEpoch) { epoch } else { flight.epoch }, now);
                }
                // current as of the load's beginning
                Put::Unconfirmed => {
                    let since = if broken(Mutation::UnconfirmedFromEnd) { now } else { flight.begun };
                    node.confirm(id, UNCONFIRMED, since);
                }
                Put::After => {
                    node.confirm(id, UNCONFIRMED, flight.begun);
                    return Next::On(Pc::PutAfter(id));
                }
            }
        }
        self.conclude(config, index, flight, told, may)
    }

    /// Ends a flight with a value that is not installed, as `Engine::conclude_bare`.
    fn bare(&mut self, config: &Config, index: usize, flight: &Flight, frame: Frame, how: How) -> Next {
        let told = Told { value: frame.value, s0: frame.s0, how, loaded: true };
        self.end_bare(config, index, flight, frame.stamp, told)
    }

    fn end_bare(&mut self, config: &Config, index: usize, flight: &Flight, stamp: u64, told: Told) -> Next {
        let node = &mut self.nodes[index];
        let epoch = node.seen.epoch;
        let may = node.settle(flight.id, epoch, Some(stamp));
        if may && !broken(Mutation::BareKeepsNear) {
            node.near = None;
        }
        self.conclude(config, index, flight, told, may)
    }

    /// A flight that may not install purges; then its callers are told.
    fn conclude(&mut self, config: &Config, index: usize, flight: &Flight, told: Told, may: bool) -> Next {
        if ends_with_purge(may, true) {
            if config.fine {
                return Next::On(Pc::Sweep(told));
            }
            self.nodes[index].near = None;
        }
        self.tell(config, index, flight, told, may)
    }

    /// The callers are told; those that joined take what the rules let them, as `Engine::accept`.
    fn tell(&mut self, config: &Config, index: usize, flight: &Flight, told: Told, settled: bool) -> Next {
        if told.how == How::Fallback {
            self.stand_in(config, index, flight, settled);
            return Next::Over;
        }
        let written = self.nodes[index].written(config).filter(|_| !broken(Mutation::BehindUntold));
        let told = written.map_or(told, |value| Told { value, how: How::Plain, loaded: false, ..told });
        let before = self.nodes[index].told;
        if !flight.refreshes {
            self.answer(index, flight.need, told.value, told.how);
        }
        for join in &flight.joined {
            let node = &self.nodes[index];
            let same = flight.epoch == node.seen.epoch || broken(Mutation::NoFlightEpoch);
            let stands = same && node.stands(config, told.s0);
            match take_joined(join.joining, told.loaded, stands, join.contested && !settled) {
                Take::Plain => self.answer(index, join.need, told.value, told.how),
                Take::Unconfirmed => self.answer(index, join.need, told.value, How::Unconfirmed),
                Take::Again => self.begin_look(config, index, join.need),
            }
        }
        if self.nodes[index].spared.contains(&flight.id) {
            // values may go back once over a failover
            self.nodes[index].told = before;
        }
        Next::Over
    }

    /// A call of a flight fails.
    pub fn fail_flight(&mut self, config: &Config, index: usize, place: usize) -> bool {
        self.events.fail -= 1;
        let mut flight = self.nodes[index].flights.remove(place);
        let s0 = self.s0(config, index);
        match flight.pc.clone() {
            Pc::Settle { .. } | Pc::Reload { .. } => false,
            // a far store that can't tell is no reason to load early
            _ if flight.refreshes => {
                let _ = self.leave(config, index, &flight);
                true
            }
            // the load goes on without the far store
            Pc::Peek | Pc::Peeked | Pc::Read | Pc::Found(_) | Pc::Lease | Pc::Answered(..) | Pc::Ask(..) => {
                flight.pc = Pc::Cut { s0 };
                flight.suspect = None;
                self.nodes[index].flights.insert(place, flight);
                true
            }
            // whether it was stored is unknown
            Pc::Fill(frame) | Pc::Filled(frame, _) => {
                let _ = self.bare(config, index, &flight, frame, How::Outage);
                true
            }
            Pc::Over(own) | Pc::Looked(own, _) | Pc::Discard(_, Some(own)) => {
                let _ = self.bare(config, index, &flight, Frame::value(own.value, 0, own.s0), How::Contended);
                true
            }
            _ => false,
        }
    }
}
