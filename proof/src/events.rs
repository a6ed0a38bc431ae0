//! What befalls the far store.

use crate::config::{Config, Kind};
use crate::ghost::Need;
use crate::world::World;
use crate::writer::{Step, Writer};

impl World {
    /// A lease runs out, or a hold that protects nothing any more.
    pub(crate) fn expire(&mut self) -> bool {
        self.events.expire -= 1;
        // a hold is longer than the transaction that it guards
        let guarded = |writer: &Writer| {
            matches!(writer.step, Step::Held(_) | Step::Commit(_))
                || writer.kind == Kind::Strict && matches!(writer.step, Step::Send)
        };
        let guarded = self.nodes.iter().any(|node| node.writers.iter().any(guarded));
        let hold = self.far.frame.is_some_and(|frame| frame.state == cache_core::State::Tombstone);
        !(guarded && hold) && self.far.expire()
    }

    /// The replica takes over.
    pub(crate) fn fail_over(&mut self, config: &Config) -> bool {
        self.events.failover -= 1;
        let Some(replica) = self.far.replica else { return false };
        self.lost = self.far.floor;
        self.far.fail_over();
        for node in &mut self.nodes {
            node.inbox.clear();
            if !config.full_promise {
                // what the replica lacks counts as not acknowledged until it is repeated; answers may go back
                for writer in &mut node.writers {
                    if let Step::Done(n) = writer.step {
                        writer.step = Step::Lost(n);
                    }
                }
                node.own = node.own.min(replica.floor);
                node.own_hard = node.own_hard.min(replica.floor);
                node.told = 0;
            }
        }
        if !config.full_promise {
            self.ghost.lost(replica.floor);
            self.far.floor = replica.floor;
            // callers that came before are promised no more than those that come now
            for node in &mut self.nodes {
                node.spared = node.flights.iter().map(|flight| flight.id).collect();
                for flight in &mut node.flights {
                    flight.need = Need::default();
                    flight.joined.iter_mut().for_each(|join| join.need = Need::default());
                }
                node.callers.iter_mut().for_each(|caller| caller.need = Need::default());
            }
        }
        true
    }
}
