//! Loading a near entry again ahead of its time, in the order of `Engine::refresh` and `LoadTask::reload`.
//!
//! The lease on a key of its own, by which only one process does so, saves loads and orders nothing: it is not modelled.

use cache_core::Stamp;
use cache_tiered::coherence::mutate::Mutation;
use cache_tiered::coherence::{FlightId, Refreshing, ends_with_purge};

use crate::config::Config;
use crate::far::Frame;
use crate::flight::{Flight, Pc, Put, Shared};
use crate::ghost::{Need, Rule};
use crate::load::Next;
use crate::node::KEY;
use crate::world::World;

impl World {
    /// A hit was due: a flight begins that nobody waits for, unless there is one.
    pub fn refresh(&mut self, index: usize) -> bool {
        self.events.refresh -= 1;
        let (id, begun) = (self.fresh(), self.now);
        let node = &mut self.nodes[index];
        let epoch = node.seen.epoch;
        let entry = node.near.and_then(|id| node.entry(id)).filter(|entry| !entry.late && entry.epoch == epoch);
        let Some(entry) = entry.filter(|_| node.fence.join(&KEY, epoch, |_| true).is_none()) else { return false };
        node.fence.begin(KEY, FlightId(id), epoch, Shared { id, begun });
        let (need, joined, suspect, fallback) = (Need::default(), Vec::new(), Some(entry.id), None);
        let flight = Flight { id, epoch, begun, need, joined, suspect, refreshes: true, fallback, pc: Pc::Glance };
        node.flights.push(flight);
        true
    }

    /// Such a flight goes on.
    pub(crate) fn refresh_on(&mut self, config: &Config, index: usize, flight: &Flight) -> Next {
        let Some(old) = flight.suspect.and_then(|id| self.nodes[index].entry(id)) else { return Next::Blocked };
        match flight.pc {
            Pc::Glance => {
                let header = self.far.frame.map(|frame| frame.header());
                match Refreshing::by(header.as_ref(), Stamp(old.stamp)) {
                    Refreshing::Load if config.tag.is_none() => Next::On(Pc::Reload { s0: u64::MAX }),
                    Refreshing::Load => Next::On(Pc::Glanced),
                    Refreshing::Take => Next::On(Pc::Read),
                    Refreshing::Leave => self.leave(config, index, flight),
                }
            }
            Pc::Glanced => Next::On(Pc::Reload { s0: self.s0(config, index) }),
            Pc::Reload { s0 } => {
                let stamp = self.fresh();
                Next::On(Pc::Restore(Frame::value(self.origin, stamp, s0)))
            }
            Pc::Restore(frame) => {
                Next::On(Pc::Restored(frame, self.far.swap(old.stamp, frame, Mutation::RefreshBlind)))
            }
            Pc::Restored(frame, true) => self.put(config, index, flight, frame, Put::Loaded),
            _ => self.leave(config, index, flight),
        }
    }

    /// It comes to nothing: whoever joined boards again, as `LoadTask::leave`.
    pub(crate) fn leave(&mut self, config: &Config, index: usize, flight: &Flight) -> Next {
        self.conclude_empty(index, flight);
        for join in &flight.joined {
            self.begin_look(config, index, join.need);
        }
        Next::Over
    }

    /// Ends a flight that tells no value, as `Engine::conclude_empty`.
    pub(crate) fn conclude_empty(&mut self, index: usize, flight: &Flight) {
        let node = &mut self.nodes[index];
        let (epoch, near) = (node.seen.epoch, node.near);
        let may = node.settle(flight.id, epoch, None);
        if ends_with_purge(may, false) {
            node.near = None;
        }
        let taken = may && node.near != near;
        self.ghost.note(Rule::Kept, taken);
    }
}
