//! A caller on its way to a flight, in the order of `Engine::probe`, `footing` and `board`.

use std::time::Duration;

use cache_core::{Tick, envelope};
use cache_tiered::coherence::mutate::{Mutation, broken};
use cache_tiered::coherence::{FlightId, Joining, Judged, UNCONFIRMED, Worth, doubtful, is_fresh, may_join};

use crate::config::Config;
use crate::flight::{Caller, Flight, Join, Look, Pc, Shared};
use crate::ghost::{How, Need};
use crate::node::{Entry, KEY, Node, at};
use crate::world::World;

impl Node {
    /// Whether no tag of the entry was bumped since its load began, as `Engine::stands`.
    #[must_use]
    pub fn stands(&self, config: &Config, s0: u64) -> bool {
        let tags = tags_of(config);
        s0 >= self.seen.cleared && (tags.is_empty() || self.track.judge(s0, tags) != Judged::Invalid)
    }

    /// Whether that is sure without asking the far store.
    #[must_use]
    pub fn surely_stands(&self, config: &Config, s0: u64) -> bool {
        self.track.judge(s0, tags_of(config)) == Judged::Valid
    }
}

/// The tags that entries carry.
#[must_use]
pub(crate) fn tags_of(config: &Config) -> &[u64] {
    match &config.tag {
        Some(tag) if *tag != envelope::ALL => std::slice::from_ref(tag),
        _ => &[],
    }
}

impl World {
    /// A caller comes: its probe begins.
    pub fn arrive(&mut self, config: &Config, index: usize) {
        let need = self.need(config, index);
        self.begin_look(config, index, need);
    }

    /// A probe begins.
    pub fn begin_look(&mut self, config: &Config, index: usize, need: Need) {
        if let Some(version) = self.nodes[index].written(config) {
            self.answer(index, need, version, How::Plain);
            return;
        }
        let trust = self.nodes[index].seen.trust;
        let caller = Caller { need, suspect: None, look: Look::Trust(trust) };
        self.nodes[index].callers.push(caller);
        if !config.fine {
            let last = self.nodes[index].callers.len() - 1;
            self.look(config, index, last);
        }
    }

    /// A caller goes on: one step if steps are told apart, else as far as it comes.
    pub fn look(&mut self, config: &Config, index: usize, place: usize) -> bool {
        let callers = self.nodes[index].callers.len();
        let mut moved = false;
        while self.nodes[index].callers.len() == callers && self.look_once(config, index, place) {
            moved = true;
            if config.fine {
                break;
            }
        }
        moved
    }

    fn look_once(&mut self, config: &Config, index: usize, place: usize) -> bool {
        let now = at(self.now);
        let node = &mut self.nodes[index];
        let mut caller = node.callers.remove(place);
        caller.look = match caller.look {
            Look::Trust(trust) => match node.near {
                Some(entry) => Look::Entry(trust, entry),
                None => Look::Footing,
            },
            Look::Entry(trust, id) => {
                let trust = if broken(Mutation::TrustAfterEntry) { node.seen.trust } else { trust };
                let entry = node.entry(id);
                let current = entry.is_some_and(|e| e.epoch == node.seen.epoch && node.stands(config, e.s0));
                Look::Current(trust, id, current)
            }
            Look::Current(trust, id, current) => {
                let Some(entry) = node.entry(id) else { return false };
                let worth = self.worth(config, index, entry, trust, current, now);
                match if entry.late { Worth::Nothing } else { worth } {
                    Worth::Fresh => {
                        self.answer(index, caller.need, entry.value, How::Plain);
                        return true;
                    }
                    Worth::Unconfirmed => {
                        if broken(Mutation::OutageFromServe) {
                            self.nodes[index].confirm(id, UNCONFIRMED, self.now);
                        }
                        self.answer(index, caller.need, entry.value, How::Unconfirmed);
                        return true;
                    }
                    Worth::Suspect => {
                        caller.suspect = Some(id);
                        Look::Footing
                    }
                    Worth::Nothing => Look::Footing,
                }
            }
            Look::Footing if now < node.seen.trust => Look::Board(false),
            // the engine may wait for another beat to fail; who comes later here has done so
            Look::Footing if node.cut_off(now) => Look::Board(true),
            Look::Footing => {
                node.callers.insert(place, caller);
                return false;
            }
            Look::Board(cut_off) => {
                self.board(config, index, &caller, cut_off);
                return true;
            }
        };
        self.nodes[index].callers.insert(place, caller);
        true
    }

    fn worth(&self, config: &Config, index: usize, entry: Entry, trust: Tick, current: bool, now: Tick) -> Worth {
        let node = &self.nodes[index];
        if is_fresh(trust, current, now) {
            return Worth::Fresh;
        }
        let outage = node.cut_off(now).then_some(Duration::from_nanos(config.outage.into()));
        let stands = entry.epoch == UNCONFIRMED && node.surely_stands(config, entry.s0);
        doubtful(entry.epoch, at(entry.confirmed), node.seen.trust, current, stands, now, outage)
    }

    /// A caller gives up waiting: it goes on as if cut off.
    pub fn lose_patience(&mut self, index: usize, place: usize) -> bool {
        self.events.deaf -= 1;
        let caller = &mut self.nodes[index].callers[place];
        let waits = caller.look == Look::Footing;
        caller.look = Look::Board(true);
        waits
    }

    /// Joins the flight of the key, or begins one.
    fn board(&mut self, config: &Config, index: usize, caller: &Caller, cut_off: bool) {
        let (id, s0) = (self.fresh(), self.s0(config, index));
        let now = self.now;
        let node = &mut self.nodes[index];
        let window = if node.cut_off(at(now)) { config.bound.max(config.outage) } else { config.bound };
        let window = Duration::from_nanos(window.into());
        let (trust, epoch) = (node.seen.trust, node.seen.epoch);
        let bound = Duration::from_nanos(config.bound.into());
        let joining = |begun: u8| may_join(trust, at(now), at(begun), bound, window);
        let joined = node.fence.join(&KEY, epoch, |shared| joining(shared.begun).is_some());
        let joined = joined.map(|joined| (*joined.shared, joined.contested));
        if let Some((shared, contested)) = joined
            && let Some(flight) = node.flights.iter_mut().find(|flight| flight.id == shared.id)
        {
            let joining = joining(shared.begun).unwrap_or(Joining::Trusted);
            match flight.joined.iter_mut().find(|join| (join.joining, join.contested) == (joining, contested)) {
                Some(join) => join.need = join.need.and(caller.need),
                None => flight.joined.push(Join { joining, contested, need: caller.need }),
            }
            return;
        }
        node.fence.begin(KEY, FlightId(id), epoch, Shared { id, begun: now });
        let suspect = caller.suspect.filter(|_| !cut_off);
        let pc = match suspect {
            _ if cut_off => Pc::Cut { s0 },
            Some(_) => Pc::Peek,
            None => Pc::Read,
        };
        let (need, joined, refreshes, fallback) = (caller.need, Vec::new(), false, None);
        node.flights.push(Flight { id, epoch, begun: now, need, joined, suspect, refreshes, fallback, pc });
    }

    /// Tells a caller, or all of a flight.
    pub fn answer(&mut self, index: usize, need: Need, value: u8, how: How) {
        self.ghost.check(need, value, how);
        let node = &mut self.nodes[index];
        // what was loaded while cut off may be newer than what the far store holds
        if how == How::Plain {
            node.told = node.told.max(value);
        }
    }
}
