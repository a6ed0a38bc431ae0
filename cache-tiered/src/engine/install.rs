//! Installing what a flight brought, and purging.

use std::sync::Arc;
use std::time::Duration;

use cache_core::Entry;
use cache_core::observe::Metric;

use super::{Engine, Where};
use crate::coherence::mutate::{Mutation, broken};
use crate::coherence::{Cause, SUSPECT, UNCONFIRMED};
use crate::flight::Flight;
use crate::policy::Policy;

impl Engine {
    /// Ends a flight's place in the table, installing `entry` if the flight may.
    ///
    /// The insert comes first and outside any lock (a near store's insert may sleep); the entry is inert until the
    /// flight, still current, confirms it in the critical section that unlinks the flight. A purge takes the same
    /// lock to detach, then removes: so an entry is either confirmed before the purge, and removed by it, or never.
    pub(crate) fn conclude(&self, at: &Where, flight: &Flight, entry: Option<&Arc<Entry>>, policy: &Policy) -> bool {
        let Some(near) = &self.near else {
            return self.flights.settle(&at.near, flight, self.epoch(at.line), None);
        };
        let now = self.clock.now();
        let kept = entry.filter(|e| e.weight(at.near.len()) <= policy.near_max && now < e.deadline());
        let may = match kept {
            Some(entry) => {
                near.put(&at.near, Arc::clone(entry));
                self.flights.settle(&at.near, flight, self.epoch(at.line), Some((entry, now)))
            }
            None => self.flights.settle(&at.near, flight, self.epoch(at.line), None),
        };
        if !may && !broken(Mutation::DetachedNoPurge) {
            // a detached flight's callers may know more than the near store does: what it holds must go
            near.remove(&at.near);
        }
        may
    }

    /// Ends a flight's place in the table with nothing to install.
    pub(crate) fn conclude_empty(&self, at: &Where, flight: &Flight) {
        let may = self.flights.settle(&at.near, flight, self.epoch(at.line), None);
        if let (false, Some(near)) = (may, &self.near) {
            near.remove(&at.near);
        }
    }

    /// Ends a flight that loaded while the far store could not be asked: the entry may be served for the outage
    /// window, marked, and belongs to no epoch.
    pub(crate) fn conclude_unconfirmed(&self, at: &Where, flight: &Flight, entry: &Arc<Entry>, policy: &Policy) {
        let may = self.flights.settle(&at.near, flight, self.epoch(at.line), None);
        let Some(near) = &self.near else { return };
        let fits = entry.weight(at.near.len()) <= policy.near_max;
        if may && fits && !self.options.outage.is_zero() {
            entry.confirm(UNCONFIRMED, self.clock.now());
            near.put(&at.near, Arc::clone(entry));
        } else {
            near.remove(&at.near);
        }
    }

    /// Drops a key from this process: its flight is detached, then its entry removed.
    pub(crate) fn purge(&self, near_key: &str, cause: Cause) {
        if cause.detaches() {
            self.flights.detach(near_key);
        }
        if let Some(near) = &self.near {
            near.remove(near_key);
        }
        self.counters.count(Metric::Purged);
    }

    /// Puts a key in doubt: what is near, and what a flight of it brings, is compared with the far store by its stamp
    /// before it is served again.
    ///
    /// The flight comes first. One that installs later than this installs suspect; one that installed before left its
    /// entry where it is found next; one that begins later reads what the push speaks of. So no order of the two lets
    /// an entry that is older than the push stand as confirmed.
    pub(crate) fn doubt(&self, near_key: &str) {
        self.flights.doubt(near_key);
        if let Some(entry) = self.near.as_ref().and_then(|near| near.get(near_key)) {
            entry.confirm(SUSPECT, entry.confirmed());
        }
    }

    /// How long an entry with `left` to live may stay near.
    pub(crate) fn near_ttl(&self, policy: &Policy, left: Duration) -> Duration {
        let cap = policy.near_ttl.unwrap_or(policy.ttl);
        let cap = self.options.incoherent.map_or(cap, |most| most.min(cap));
        left.min(policy.jittered(cap))
    }
}
