//! Background writes, in the order of `engine/behind.rs`.

use cache_tiered::coherence::Cause;

use crate::config::{Config, Kind};
use crate::far::Frame;
use crate::node::{KEY, Node};
use crate::world::World;
use crate::writer::{Put, Step, Writer};

impl Node {
    /// What it reads of its own, as `Engine::written`.
    #[must_use]
    pub fn written(&self, config: &Config) -> Option<u8> {
        self.queue.newest(&KEY).filter(|put| self.stands(config, put.s0)).map(|put| put.version)
    }
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
        let node = &mut self.nodes[index];
        let Some(put) = node.queue.depart() else { return false };
        let run = node.track.run();
        node.writers.push(Writer { kind: Kind::Behind, version: put.version, run, flies: true, step: Step::Send });
        true
    }

    /// The far store takes a value: it removes what is there first.
    pub(crate) fn store(&mut self, version: u8) {
        self.remove(version);
        let stamp = self.fresh();
        // without tags, that is
        self.far.frame = Some(Frame::value(version, stamp, u64::MAX));
    }
}
