//! Changes, in the order of `engine/change.rs`.

use std::time::Duration;

use cache_core::State;
use cache_tiered::coherence::mutate::{Mutation, broken};
use cache_tiered::coherence::{Cause, ack_purges, settles_after};

use crate::config::{Config, Kind};
use crate::far::Frame;
use crate::ghost::What;
use crate::node::{KEY, at};
use crate::world::World;
use crate::writer::{Message, Purge, Step, Writer};

impl World {
    /// A write begins: most commit at once.
    pub fn begin_write(&mut self, config: &Config, index: usize, kind: Kind) {
        let (version, step) = match kind {
            Kind::Other => (0, Step::Send),
            Kind::Update => (0, Step::Look),
            Kind::Guard | Kind::Crash | Kind::Strict => (0, Step::Hold),
            Kind::Behind => {
                self.origin += 1;
                return self.offer(config, index);
            }
            Kind::Delete | Kind::Soften | Kind::Tag => {
                self.origin += 1;
                (self.origin, if config.writes_behind() { Step::Turn } else { Step::Send })
            }
        };
        let run = self.nodes[index].track.run();
        self.nodes[index].writers.push(Writer { kind, version, run, flies: false, step });
    }

    /// A writer goes on.
    pub fn change(&mut self, config: &Config, index: usize, place: usize) -> bool {
        let mut writer = self.nodes[index].writers.remove(place);
        match writer.step {
            Step::Hold => {
                self.far.hold();
                let n = self.far.number(config.remade);
                self.publish(Message::Key(n));
                writer.step = Step::Held(n);
            }
            Step::Held(n) => {
                // a hold's acknowledgement purges as any change's does
                self.purge(index, n);
                if self.nodes[index].publishing {
                    return false;
                }
                self.nodes[index].mark_own(n, writer.run);
                writer.step = Step::Commit(self.now);
            }
            Step::Commit(since) => {
                let [bound, outage] = [config.bound, config.outage].map(|span| Duration::from_nanos(span.into()));
                if writer.kind == Kind::Strict && at(self.now) < at(since) + settles_after(bound, outage) {
                    return false;
                }
                self.commit(&mut writer);
                if writer.kind == Kind::Crash {
                    return true;
                }
                writer.step = Step::Send;
            }
            Step::Look => match self.far.frame {
                Some(Frame { state: State::Value, expired: false, stamp, value, .. }) => {
                    writer.step = Step::Swap { seen: stamp, value, s0: self.s0(config, index) };
                }
                // where nothing is, nothing is older than anything
                _ => return true,
            },
            Step::Swap { seen, value, s0 } => {
                let made = Frame::value(value, self.fresh(), s0);
                if !self.far.swap(seen, made, Mutation::SwapBlind) {
                    // it would begin anew
                    return true;
                }
                let n = self.far.number(config.remade);
                self.publish(Message::Key(n));
                writer.step = Step::Done(n);
            }
            Step::Turn => match self.nodes[index].queue.take_over(&KEY, at(self.now)) {
                None => return false,
                Some(taken) => (writer.flies, writer.step) = (taken, Step::Send),
            },
            Step::Send if broken(Mutation::PublishFirst) && writer.kind == Kind::Delete => {
                let n = self.far.number(config.remade);
                self.publish(Message::Key(n));
                writer.step = Step::Half(n);
            }
            Step::Send => writer.step = Step::Done(self.execute(config, writer)),
            Step::Half(n) => {
                self.remove(writer.version);
                writer.step = Step::Done(n);
            }
            Step::Done(n) | Step::Lost(n) => match self.acknowledge(config, index, writer, n) {
                None => return false,
                Some(None) => return true,
                Some(Some(purge)) => writer.step = Step::Apply(n, purge),
            },
            Step::Apply(n, Purge::Remove) => {
                self.nodes[index].near = None;
                writer.step = Step::Apply(n, Purge::Mark);
            }
            Step::Apply(n, Purge::Mark) => {
                if self.nodes[index].publishing {
                    return false;
                }
                self.nodes[index].mark_own(n, writer.run);
                self.returned(index, writer);
                return true;
            }
        }
        self.nodes[index].writers.push(writer);
        true
    }

    fn commit(&mut self, writer: &mut Writer) {
        self.origin += 1;
        writer.version = self.origin;
        if self.far.frame.is_some_and(|frame| frame.state == State::Tombstone) {
            // the bar stood from before the commit until now: nothing older can come in
            self.far.floor = self.far.floor.max(writer.version);
        }
        if writer.kind == Kind::Strict {
            self.ghost.strict = writer.version;
        }
    }

    pub(crate) fn remove(&mut self, version: u8) {
        self.far.frame = None;
        self.far.floor = self.far.floor.max(version);
    }

    /// The far store executes a change: mutates, numbers, publishes, in one step.
    fn execute(&mut self, config: &Config, writer: Writer) -> u64 {
        match writer.kind {
            Kind::Soften => {
                self.far.soften();
                self.far.floor = self.far.floor.max(writer.version);
            }
            Kind::Delete | Kind::Guard | Kind::Crash | Kind::Strict => self.remove(writer.version),
            Kind::Behind => self.store(writer.version),
            Kind::Tag | Kind::Other | Kind::Update => {}
        }
        let n = self.far.number(config.remade);
        if writer.kind == Kind::Tag {
            self.far.bump(n);
        }
        self.publish(match writer.kind {
            Kind::Tag => Message::Tag(n),
            Kind::Other => Message::Other(n),
            _ => Message::Key(n),
        });
        n
    }

    fn purge(&mut self, index: usize, n: u64) -> bool {
        let node = &mut self.nodes[index];
        let purges = ack_purges(node.track.knows(n));
        if purges {
            node.detach(Cause::Own);
            node.near = None;
        }
        purges
    }

    /// Applies an acknowledgement; `Some(None)` if that was all, `None` if it can't be done now.
    #[expect(clippy::option_option, reason = "three outcomes of one call site")]
    fn acknowledge(&mut self, config: &Config, index: usize, writer: Writer, n: u64) -> Option<Option<Purge>> {
        let node = &mut self.nodes[index];
        if node.publishing {
            return None;
        }
        match writer.kind {
            Kind::Other => node.mark_own(n, writer.run),
            Kind::Tag => node.bump(n, config.tag.unwrap_or_default()),
            _ if config.fine && ack_purges(node.track.knows(n)) => {
                node.detach(Cause::Own);
                return Some(Some(Purge::Remove));
            }
            _ => {
                self.purge(index, n);
                self.nodes[index].mark_own(n, writer.run);
            }
        }
        self.returned(index, writer);
        Some(None)
    }

    /// The writer's caller is told that it is done.
    fn returned(&mut self, index: usize, writer: Writer) {
        if writer.flies {
            self.nodes[index].queue.land(&KEY);
        }
        let what = match writer.kind {
            Kind::Tag => What::Tag,
            Kind::Soften => What::Soft,
            _ => What::Key,
        };
        let lost = matches!(writer.step, Step::Lost(_));
        if !lost {
            self.ghost.ack(writer.version, self.now, what);
        }
        let node = &mut self.nodes[index];
        if what == What::Tag {
            node.own_tag = node.own_tag.max(writer.version);
        } else if writer.kind != Kind::Other {
            if !lost {
                node.own = node.own.max(writer.version);
                if what == What::Key {
                    node.own_hard = node.own_hard.max(writer.version);
                }
            }
            node.ring = node.ring.max(Some(writer.version));
            if node.track.run() != writer.run && !broken(Mutation::NoLateReplay) {
                node.pending = node.pending.max(Some(writer.version));
            }
        }
    }

    /// A writer's call fails: purged here, kept to be repeated, not acknowledged.
    pub fn fail_change(&mut self, config: &Config, index: usize, place: usize, executed: bool) -> bool {
        self.events.fail -= 1;
        let writer = self.nodes[index].writers.remove(place);
        if writer.kind != Kind::Delete {
            return false;
        }
        if executed {
            self.execute(config, writer);
        }
        let node = &mut self.nodes[index];
        node.detach(Cause::Own);
        node.near = None;
        node.pending = node.pending.max(Some(writer.version));
        true
    }
}
