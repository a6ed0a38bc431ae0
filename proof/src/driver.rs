//! Beats and messages, in the order of `engine/driver.rs`.

use cache_core::Tick;
use cache_tiered::coherence::mutate::{Mutation, broken};
use cache_tiered::coherence::{Bump, Cause, Verdict};

use crate::config::{Config, Kind};
use crate::node::{BeatAt, KEY, Node, at};
use crate::world::World;
use crate::writer::{Message, Purge, Step, Writer};

impl Node {
    /// Detaches the flight, as the first half of a purge.
    pub fn detach(&mut self, cause: Cause) {
        if cause.detaches() {
            self.fence.detach(&KEY);
        }
    }

    /// Marks a change applied; its key is already purged.
    pub fn mark(&mut self, n: u64) {
        self.track.mark(n);
        self.publish();
    }

    /// Marks an own change applied that left in `run`.
    pub fn mark_own(&mut self, n: u64, run: Option<u64>) {
        if self.track.run() == run || broken(Mutation::LateNumbers) {
            self.mark(n);
        }
    }

    /// Remembers the tag's bump.
    pub fn bump(&mut self, n: u64, tag: u64) {
        self.track.bump(n, tag);
        self.publish();
    }
}

impl World {
    /// A message reaches a node, as `Engine::deliver`.
    pub fn deliver(&mut self, config: &Config, index: usize, place: usize) -> bool {
        let node = &mut self.nodes[index];
        let message = node.inbox.remove(place);
        if node.publishing {
            return false;
        }
        match message {
            Message::Other(n) => node.mark(n),
            Message::Tag(n) => node.bump(n, config.tag.unwrap_or_default()),
            Message::Key(n) if node.track.knows(n) => {}
            Message::Key(n) => {
                node.detach(Cause::Message);
                node.applying = Some((n, Purge::Remove));
                if !config.fine {
                    self.apply_on(index);
                    self.apply_on(index);
                }
            }
        }
        true
    }

    /// Goes on applying a message: the entry goes, then the number is marked.
    pub fn apply_on(&mut self, index: usize) -> bool {
        let node = &mut self.nodes[index];
        match node.applying {
            Some((n, Purge::Remove)) => {
                node.near = None;
                node.applying = Some((n, Purge::Mark));
                true
            }
            Some((n, Purge::Mark)) if !node.publishing => {
                node.applying = None;
                node.mark(n);
                true
            }
            _ => false,
        }
    }

    /// A node sends a beat.
    pub fn send_beat(&mut self, index: usize) -> bool {
        self.beats[index] -= 1;
        self.beaten[index] = self.now + 1;
        let node = &mut self.nodes[index];
        node.beat = BeatAt::Sent(node.track.beat_sent(at(self.now)));
        !node.publishing
    }

    /// The beat of a node goes on.
    pub fn go_on_beating(&mut self, config: &Config, index: usize) -> bool {
        let (ticket, beat, patient) = match self.nodes[index].beat {
            BeatAt::Idle => return false,
            BeatAt::Sent(ticket) => {
                self.nodes[index].beat = BeatAt::Replied(ticket, self.far.beat(config.remade));
                return true;
            }
            BeatAt::Replied(ticket, beat) => (ticket, beat, true),
            BeatAt::Grace(ticket, beat) => (ticket, beat, false),
        };
        let now = at(self.now);
        let node = &mut self.nodes[index];
        if node.publishing {
            return false;
        }
        node.beat = BeatAt::Idle;
        let before = node.seen;
        let verdict = node.track.beat_reply(ticket, &beat, now, patient);
        node.publish();
        if config.fine && node.seen.trust != before.trust && node.seen.epoch != before.epoch {
            // the track's lock is held while the rest of it is published
            node.publishing = true;
            if broken(Mutation::TrustBeforeEpoch) {
                node.seen = crate::node::Seen { trust: node.seen.trust, ..before };
            } else {
                node.seen.trust = before.trust;
            }
        }
        match verdict {
            Verdict::Wait => {
                node.beat = BeatAt::Grace(ticket, beat);
                return true;
            }
            Verdict::Trusted => {}
            Verdict::Untrusted => {}
            Verdict::Bumped(Bump::Run | Bump::Reset) => {
                // acknowledged changes may be gone with the old server
                if !broken(Mutation::NoReplay) {
                    node.pending = node.ring.take().max(node.pending);
                }
            }
            Verdict::Bumped(_) => {}
        }
        if verdict == Verdict::Untrusted {
            node.failing = true;
        } else if now < node.track.trust_until() {
            node.failing = false;
        }
        if let Some(version) = node.pending.take() {
            node.writers.push(Writer {
                kind: Kind::Delete,
                version,
                run: node.track.run(),
                flies: false,
                step: Step::Send,
            });
        }
        true
    }

    /// A beat of a node fails.
    pub fn fail_beat(&mut self, index: usize) -> bool {
        self.events.deaf -= 1;
        let node = &mut self.nodes[index];
        if !matches!(node.beat, BeatAt::Sent(_) | BeatAt::Replied(..)) {
            return false;
        }
        node.beat = BeatAt::Idle;
        node.failing = true;
        true
    }
}

impl Node {
    /// Whether it is cut off, as `Engine::cut_off`.
    #[must_use]
    pub fn cut_off(&self, now: Tick) -> bool {
        self.failing && now >= self.seen.trust
    }
}
