//! The whole state, and what may happen next.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;

use crate::action::Action;
use crate::config::{Config, Events, Kind, Warm};
use crate::far::{Far, Frame};
use crate::ghost::{Ghost, Need, What};
use crate::node::{BeatAt, Entry, Node};
use crate::writer::{Message, Step};

/// The whole state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// The moment.
    pub now: u8,
    /// The version of the origin's row.
    pub origin: u8,
    /// The far store.
    pub far: Far,
    /// The processes.
    pub nodes: Vec<Node>,
    /// What the promise demands.
    pub ghost: Ghost,
    /// Gets that may yet come, by node.
    pub gets: [u8; 3],
    /// Beats that may yet be sent, by node.
    pub beats: [u8; 3],
    /// The writes that have begun, as a set of indices.
    pub begun: u16,
    /// What else may yet happen.
    pub events: Events,
    /// The moment after each node's last beat.
    pub beaten: [u8; 3],
    /// The spans after which acknowledgements are due: the bound, and the bound with the outage.
    spans: [u8; 2],
    /// The highest version whose removal a failover may have lost.
    pub(crate) lost: u8,
    writes: &'static [(usize, Kind)],
    alike: bool,
    next: u64,
}

impl World {
    /// The state in which a run begins: every process is connected.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut far = Far::new(config.first);
        let nodes = (0..config.nodes).map(|_| Node::new(config.bound, &mut far)).collect();
        let mut world = Self {
            now: 0,
            origin: 0,
            far,
            nodes,
            ghost: Ghost::default(),
            gets: config.gets,
            beats: config.beats,
            begun: 0,
            events: config.events,
            beaten: [0; 3],
            spans: [config.checked, config.checked + config.outage],
            lost: 0,
            writes: config.writes,
            alike: config.alike,
            next: 1,
        };
        for (node, gets) in world.nodes.iter_mut().zip(config.gets) {
            node.reads = gets > 0;
        }
        world.warm(config);
        if config.gapped {
            world.far.number(None);
            world.far.replicate();
            let after = world.far.number(None);
            world.nodes[1].mark(after);
        }
        world.tidy(config);
        world
    }

    fn warm(&mut self, config: &Config) {
        if config.warm == Warm::Cold {
            return;
        }
        let s0 = self.s0(config, 0);
        let stamp = self.fresh();
        self.far.frame = Some(Frame::value(0, stamp, s0));
        for node in self.nodes.iter_mut().filter(|_| config.warm == Warm::Near) {
            let epoch = node.seen.epoch;
            node.entries.push(Entry { id: stamp, value: 0, stamp, s0, epoch, confirmed: 0, late: false });
            node.near = Some(stamp);
        }
    }

    /// An identity that was never used.
    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// What a caller that comes to `node` now may demand.
    #[must_use]
    pub fn need(&self, config: &Config, node: usize) -> Need {
        let process = &self.nodes[node];
        let (bound, loose) = (config.checked, config.checked + config.outage);
        let due = |span, what| self.ghost.due(self.now, span, what);
        Need {
            own: process.own,
            bound: due(bound, What::Key).max(due(bound, What::Soft)),
            loose: due(loose, What::Key).max(due(loose, What::Soft)),
            told: process.told,
            tags: process.own_tag.max(due(bound, What::Tag)),
            tags_loose: process.own_tag.max(due(loose, What::Tag)),
            strict: self.ghost.strict,
            hard: process.own_hard.max(due(loose, What::Key)),
        }
    }

    /// Sends `message` to every process.
    pub fn publish(&mut self, message: Message) {
        for node in &mut self.nodes {
            if node.idle {
                continue;
            }
            let place = node.inbox.partition_point(|held| *held <= message);
            node.inbox.insert(place, message);
        }
    }

    /// Whether the far store holds a value that was read before a removal. One that a failover lost counts once every
    /// process has learnt of the failover and has repeated what it had to.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let settled = |node: &Node| {
            let waits = node.pending.is_some() || !node.writers.is_empty() || node.beat != BeatAt::Idle;
            node.track.run() == Some(self.far.run) && !waits
        };
        let floor = if self.nodes.iter().all(settled) { self.lost.max(self.far.floor) } else { self.far.floor };
        self.far.is_older_than(floor)
    }

    /// Whether every process holds the newest value, as one that it may serve.
    #[must_use]
    pub fn all_hold_a_new_value(&self) -> bool {
        self.nodes.iter().all(|node| !node.reads || node.holds_new(self))
    }

    /// Lists what may happen next.
    pub fn actions(&self, config: &Config, into: &mut Vec<Action>) {
        if self.nodes.iter().all(|node| node.idle) {
            return;
        }
        for (index, node) in self.nodes.iter().enumerate() {
            self.actions_of(index, node, into);
        }
        for (index, (node, kind)) in config.writes.iter().enumerate() {
            let begun = |index: usize| self.begun & (1 << index) != 0;
            // of equal writes the first goes first
            let twin = config.writes[..index].iter().rposition(|other| *other == (*node, *kind));
            if !begun(index) && twin.is_none_or(begun) {
                into.push(Action::Write(index));
            }
        }
        let events = &self.events;
        let budgets = [
            (events.expire, Action::Expire),
            (events.evict, Action::Evict),
            (events.seq_lost, Action::SeqLost),
            (events.tags_lost, Action::TagsLost),
            (events.restart, Action::Restart),
            (events.failover, Action::FailOver),
            (events.full, Action::Full),
            (events.age, Action::Age),
            (events.clock, Action::SetClock),
        ];
        into.extend(budgets.iter().filter(|(left, _)| *left > 0).map(|(_, action)| *action));
        if events.failover > 0 && self.far.replica.is_none() {
            into.push(Action::Replicate);
        }
        if self.now < config.ticks {
            into.push(Action::Tick);
        }
    }

    fn actions_of(&self, index: usize, node: &Node, into: &mut Vec<Action>) {
        if self.gets[index] > 0 {
            into.push(Action::Get(index));
        }
        for place in 0..node.callers.len() {
            into.push(Action::Look(index, place));
            if self.events.deaf > 0 {
                into.push(Action::Impatient(index, place));
            }
        }
        for place in 0..node.flights.len() {
            into.push(Action::Fly(index, place));
            if self.events.fail > 0 {
                into.push(Action::FlightFails(index, place));
            }
            if self.events.origin > 0 {
                into.push(Action::LoadFails(index, place));
            }
        }
        for (place, writer) in node.writers.iter().enumerate() {
            into.push(Action::Change(index, place));
            if self.events.fail > 0 && matches!(writer.step, Step::Send | Step::Done(_)) {
                into.push(Action::ChangeFails(index, place, false));
                if writer.step == Step::Send {
                    into.push(Action::ChangeFails(index, place, true));
                }
            }
        }
        if node.queue.waiting() > 0 {
            into.push(Action::Depart(index));
        }
        if node.idle {
            return;
        }
        if node.publishing {
            into.push(Action::Publish(index));
        }
        if node.applying.is_some() {
            into.push(Action::Apply(index));
        } else {
            into.extend((0..node.inbox.len()).map(|place| Action::Deliver(index, place)));
        }
        if node.beat != BeatAt::Idle {
            into.push(Action::BeatGoesOn(index));
            if self.events.deaf > 0 {
                into.push(Action::BeatFails(index));
            }
        } else if self.beats[index] > 0 && self.beaten[index] <= self.now {
            into.push(Action::Beat(index));
        }
        if self.events.near_evict > 0 && node.near.is_some() {
            into.push(Action::NearEvict(index));
        }
        if self.events.age > 0 && node.near.is_some() {
            into.push(Action::NearAge(index));
        }
        if self.events.refresh > 0 && node.near.is_some() {
            into.push(Action::Refresh(index));
        }
    }

    /// The state after `action`, if it changes anything.
    #[must_use]
    pub fn after(&self, config: &Config, action: Action) -> Option<Self> {
        let mut next = self.clone();
        next.act(config, action).then(|| {
            next.tidy(config);
            next
        })
    }

    /// Forgets what can't matter any more.
    fn tidy(&mut self, config: &Config) {
        for ((node, gets), beats) in self.nodes.iter_mut().zip(self.gets).zip(&self.beats) {
            // without another beat it learns of nothing that it would repair
            let repairs = config.is_repaired() && (*beats > 0 || node.beat != BeatAt::Idle);
            node.idle = gets == 0 && node.callers.is_empty() && node.flights.is_empty() && !repairs;
            if node.idle {
                node.inbox.clear();
                node.beat = BeatAt::Idle;
                node.applying = None;
                node.publishing = false;
            }
            let track = &node.track;
            // what is known already is skipped when it comes
            node.inbox.retain(|message| !matches!(message, Message::Key(n) | Message::Other(n) if track.knows(*n)));
            node.sweep();
        }
    }

    fn act(&mut self, config: &Config, action: Action) -> bool {
        match action {
            Action::Tick => {
                self.now += 1;
                for node in &mut self.nodes {
                    node.give_up_late(config, self.now);
                }
                true
            }
            Action::Get(node) => {
                self.gets[node] -= 1;
                self.arrive(config, node);
                true
            }
            Action::Look(node, place) => self.look(config, node, place),
            Action::Impatient(node, place) => self.lose_patience(node, place),
            Action::Fly(node, place) => self.fly(config, node, place),
            Action::FlightFails(node, place) => self.fail_flight(config, node, place),
            Action::Write(index) => {
                let (node, kind) = config.writes[index];
                // what two processes store and invalidate is ordered by the far store, not by the origin: one that
                // changes what the other stores waits until it was stored
                if kind == Kind::Delete && self.stores(|other| other != node) {
                    return false;
                }
                self.begun |= 1 << index;
                self.begin_write(config, node, kind);
                true
            }
            Action::Depart(node) => self.depart(node),
            Action::Change(node, place) => self.change(config, node, place),
            Action::ChangeFails(node, place, executed) => self.fail_change(config, node, place, executed),
            Action::Deliver(node, place) => self.deliver(config, node, place),
            Action::Apply(node) => self.apply_on(node),
            Action::Beat(node) => self.send_beat(node),
            Action::BeatGoesOn(node) => self.go_on_beating(config, node),
            Action::BeatFails(node) => self.fail_beat(node),
            Action::Publish(node) => {
                self.nodes[node].publishing = false;
                self.nodes[node].publish();
                true
            }
            Action::LoadFails(node, place) => self.fail_load(config, node, place),
            Action::Refresh(node) => self.refresh(node),
            Action::Age => {
                self.events.age -= 1;
                self.far.age(true)
            }
            Action::NearAge(node) => {
                self.events.age -= 1;
                self.nodes[node].age()
            }
            Action::SetClock => {
                self.events.clock -= 1;
                self.far.age(false)
            }
            Action::Expire => self.expire(),
            Action::Evict => {
                self.events.evict -= 1;
                self.far.frame.take().is_some()
            }
            Action::NearEvict(node) => {
                self.events.near_evict -= 1;
                self.nodes[node].near.take().is_some()
            }
            Action::SeqLost => {
                self.events.seq_lost -= 1;
                self.far.seq.take().is_some()
            }
            Action::TagsLost => {
                self.events.tags_lost -= 1;
                self.far.lose_tags()
            }
            Action::Restart => {
                self.events.restart -= 1;
                self.far.restart();
                // what was on its way from the old server is lost
                self.nodes.iter_mut().for_each(|node| node.inbox.clear());
                true
            }
            Action::Replicate => {
                self.far.replicate();
                true
            }
            Action::FailOver => self.fail_over(config),
            Action::Full => {
                self.events.full -= 1;
                self.far.full = !self.far.full;
                true
            }
        }
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, into: &mut H) {
        (self.now, self.origin, self.events, self.lost).hash(into);
        self.far.digest(into);
        let outage = self.spans[1] - self.spans[0];
        let mut nodes = [0; 3];
        for (index, node) in self.nodes.iter().enumerate() {
            let mut hasher = FixedState::with_seed(3).build_hasher();
            // of the last beat it matters only whether it was in this very tick
            let beaten = self.beaten[index] > self.now;
            (self.gets[index], self.beats[index], beaten).hash(&mut hasher);
            for (bit, (writer, kind)) in self.writes.iter().enumerate() {
                (*writer == index && self.begun & (1 << bit) == 0).then_some(kind).hash(&mut hasher);
            }
            if node.idle {
                (node.holds_new(self), node.track.run(), node.pending).hash(&mut hasher);
                node.digest_writes(&self.far, &mut hasher);
            } else {
                node.digest(&self.far, self.now, outage, &mut hasher);
            }
            nodes[index] = hasher.finish();
        }
        if self.alike {
            // processes that may do the same are told apart by nothing but their state
            nodes.sort_unstable();
        }
        nodes.hash(into);
        self.ghost.digest(self.now, self.spans, into);
    }
}
