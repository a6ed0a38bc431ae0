//! Background writes, in the order of `engine/behind.rs`.

use std::time::Duration;

use cache_tiered::coherence::{Cause, Newest};

use crate::config::{Config, Kind};
use crate::far::Frame;
use crate::node::{KEY, Node, at};
use crate::world::World;
use crate::writer::{Put, Step, Writer};

impl Node {
    /// What it reads of its own, as `Engine::written`.
    #[must_use]
    pub fn written(&self, config: &Config) -> Option<u8> {
        // what is late was given up as time moved on
        let Newest::Read(put) = self.queue.newest(&KEY, at(0), bound(config))? else { return None };
        self.stands(config, put.s0).then_some(put.version)
    }

    /// Gives up what flies for the bound already, as `Engine::newest`: what is older is not for this process any more, and
    /// the key is to be invalidated. A put that the far store has not taken by then is not taken any more: one that is
    /// carried out later all the same is a put that ended with an error, of which less is promised.
    pub fn give_up_late(&mut self, config: &Config, now: u8) {
        let Some(Newest::Overdue(put)) = self.queue.newest(&KEY, at(now), bound(config)) else { return };
        let version = put.version;
        self.queue.give_up(&KEY);
        self.barred = self.barred.max(version);
        self.detach(Cause::Own);
        self.near = None;
        self.pending = self.pending.max(Some(version));
        let before = self.writers.len();
        self.writers.retain(|writer| !writer.is_to_store());
        if self.writers.len() < before {
            self.queue.land(&KEY);
        }
    }
}

fn bound(config: &Config) -> Duration {
    Duration::from_nanos(config.bound.into())
}

impl World {
    /// A value is given to be stored; its caller goes on.
    pub fn offer(&mut self, config: &Config, index: usize) {
        let put = Put { version: self.origin, s0: self.s0(config, index) };
        let node = &mut self.nodes[index];
        node.queue.offer(KEY, put, usize::MAX);
        node.detach(Cause::Own);
        node.near = None;
        node.own = node.own.max(put.version);
        node.own_hard = node.own_hard.max(put.version);
    }

    /// The next one departs.
    pub fn depart(&mut self, index: usize) -> bool {
        let now = at(self.now);
        let node = &mut self.nodes[index];
        let Some(put) = node.queue.depart(now) else { return false };
        let run = node.track.run();
        node.writers.push(Writer { kind: Kind::Behind, version: put.version, run, flies: true, step: Step::Send });
        true
    }

    /// Whether one of these processes has a value that the far store is yet to take.
    pub(crate) fn stores(&self, whose: impl Fn(usize) -> bool) -> bool {
        let stores = |node: &Node| node.queue.waiting() > 0 || node.writers.iter().any(Writer::is_to_store);
        self.nodes.iter().enumerate().any(|(index, node)| whose(index) && stores(node))
    }

    /// The far store takes a value: it removes what is there first.
    pub(crate) fn store(&mut self, version: u8) {
        self.remove(version);
        let stamp = self.fresh();
        // without tags, that is
        self.far.frame = Some(Frame::value(version, stamp, u64::MAX));
    }
}
