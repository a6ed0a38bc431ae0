//! What stands in for a load that fails or is late, in the order of `engine/fallback.rs`.

use std::time::Duration;

use cache_core::Tick;
use cache_tiered::coherence::{UNCONFIRMED, found_current, stands_in};

use crate::config::Config;
use crate::flight::{Flight, Pc, Put};
use crate::ghost::{Ghost, How};
use crate::node::{Node, at};
use crate::world::World;

impl Node {
    /// The time of the near entry is over; whether there is one.
    pub fn age(&mut self) -> bool {
        let near = self.near;
        let aged = self.entries.iter_mut().find(|entry| Some(entry.id) == near && !entry.late);
        aged.map(|entry| entry.late = true).is_some()
    }

    /// What is near, if it may stand in, as `Engine::near_fallback`.
    fn near_fallback(&self, config: &Config, now: Tick) -> Option<u8> {
        let entry = self.entry(self.near?)?;
        let current = entry.epoch == self.seen.epoch && self.stands(config, entry.s0);
        let may = self.may_stand_in(config, current, (entry.epoch, at(entry.confirmed)), entry.s0, now);
        may.then_some(entry.value)
    }

    /// What stands in for a flight, as `Engine::fall_back`.
    fn fallback(&self, config: &Config, flight: &Flight, settled: bool, now: Tick) -> Option<u8> {
        let found = flight.fallback.filter(|frame| {
            let linked = self.is_current(flight.id) || settled;
            let current = found_current(flight.epoch == self.seen.epoch, linked, self.stands(config, frame.s0));
            self.may_stand_in(config, current, (flight.epoch, at(flight.begun)), frame.s0, now)
        });
        found.map(|frame| frame.value).or_else(|| self.near_fallback(config, now))
    }

    fn may_stand_in(&self, config: &Config, current: bool, confirmed: (u64, Tick), s0: u64, now: Tick) -> bool {
        let (epoch, confirmed) = confirmed;
        let outage = self.cut_off(now).then_some(Duration::from_nanos(config.outage.into()));
        let stands = epoch == UNCONFIRMED && self.surely_stands(config, s0);
        stands_in(epoch, confirmed, self.seen.trust, current, stands, now, outage)
    }
}

impl World {
    /// Whether whatever may stand in now may be told to a caller that comes now, while its key is left alone, and so to
    /// those that wait: what was invalidated is never a fallback, not even for callers that came before.
    #[must_use]
    pub fn may_fall_back(&self, config: &Config) -> bool {
        let now = at(self.now);
        let process = |(index, node): (usize, &Node)| {
            let need = self.need(config, index);
            let may = |value: Option<u8>| value.is_none_or(|value| Ghost::stands_in(need, value));
            let waits = |flight: &Flight| may(node.fallback(config, flight, false, now));
            (self.gets[index] == 0 || may(node.near_fallback(config, now))) && node.flights.iter().all(waits)
        };
        !config.fail_safe || self.nodes.iter().enumerate().all(process)
    }

    /// The load of a flight fails: its lease is given back, and its callers are told what stands in, or an error.
    pub fn fail_load(&mut self, config: &Config, index: usize, place: usize) -> bool {
        self.events.origin -= 1;
        let mut flight = self.nodes[index].flights.remove(place);
        match flight.pc {
            Pc::Load { token, .. } => self.far.release(token),
            Pc::Barred { .. } | Pc::Cut { .. } => {}
            // a load failed elsewhere, or here a moment ago: the key is left alone
            Pc::Lease if flight.fallback.is_some() => {}
            Pc::Reload { .. } => {
                // whoever joined is told the error
                flight.joined.clear();
                let _ = self.leave(config, index, &flight);
                return true;
            }
            _ => return false,
        }
        let Some(frame) = flight.fallback else {
            self.conclude_empty(index, &flight);
            return true;
        };
        if let crate::load::Next::On(pc) = self.put(config, index, &flight, frame, Put::StandIn) {
            flight.pc = pc;
            self.nodes[index].flights.insert(place, flight);
        }
        true
    }

    /// Callers of a flight whose load failed are told what stands in.
    pub(crate) fn stand_in(&mut self, config: &Config, index: usize, flight: &Flight, settled: bool) {
        let (now, need) = (at(self.now), self.need(config, index));
        if let Some(value) = self.nodes[index].fallback(config, flight, settled, now) {
            self.answer(index, need, value, How::Fallback);
        }
    }
}
