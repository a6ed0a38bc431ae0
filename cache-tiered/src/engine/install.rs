//! Installing what a flight brought, and purging.

use std::sync::Arc;
use std::time::Duration;

use cache_core::envelope::flag;
use cache_core::observe::Metric;
use cache_core::{Entry, Frame, Tick};

use super::{Engine, Where};
use crate::coherence::mutate::{Mutation, broken};
use crate::coherence::{Cause, SUSPECT, UNCONFIRMED, ends_with_purge};
use crate::flight::Flight;
use crate::policy::{Life, Policy};

impl Engine {
    /// Ends a flight's place in the table, installing `entry`, which its callers are told, if the flight may.
    ///
    /// The insert comes first and outside any lock (a near store's insert may sleep); the entry is inert until the
    /// flight, still current, confirms it in the critical section that unlinks the flight. A purge takes the same
    /// lock to detach, then removes: so an entry is either confirmed before the purge, and removed by it, or never.
    /// For the same reason an entry is put once: one that was confirmed and put again could follow its purge.
    ///
    /// An entry past its deadline is installed as a fallback.
    pub(crate) fn conclude(&self, at: &Where, flight: &Flight, entry: &Arc<Entry>, policy: &Policy) {
        self.conclude_as_of(self.clock.now(), at, flight, entry, policy);
    }

    /// As [`conclude`](Self::conclude), for what was brought at `now` or later.
    pub(crate) fn conclude_as_of(&self, now: Tick, at: &Where, flight: &Flight, entry: &Arc<Entry>, policy: &Policy) {
        let keeps = self.keeps_near(at, entry, policy) && now < entry.kept();
        // a write that is on its way is newer
        let keeps = keeps && self.written(&at.near).is_none();
        let Some(near) = self.near.as_ref().filter(|_| keeps) else {
            return self.conclude_bare(at, flight, entry);
        };
        let early = !broken(Mutation::PutSettled);
        if early {
            near.put(&at.near, Arc::clone(entry));
        }
        if self.settle(at, flight, Some(entry), |epoch| entry.confirm(epoch, now)) && !early {
            near.put(&at.near, Arc::clone(entry));
        }
    }

    /// Ends a flight whose near entry proved itself at `now` or later: confirms it where it stands.
    pub(crate) fn conclude_confirmed(&self, now: Tick, at: &Where, flight: &Flight, entry: &Arc<Entry>) {
        if broken(Mutation::PutConfirmed) {
            entry.confirm(flight.epoch, now);
            if let Some(near) = &self.near {
                near.put(&at.near, Arc::clone(entry));
            }
        }
        self.settle(at, flight, Some(entry), |epoch| entry.confirm(epoch, now));
    }

    /// Ends a flight that tells its callers `entry` and installs nothing. What the near store holds may be older.
    pub(crate) fn conclude_bare(&self, at: &Where, flight: &Flight, entry: &Entry) {
        let may = self.settle(at, flight, Some(entry), |_| {});
        if let Some(near) = self.near.as_ref().filter(|_| may && !broken(Mutation::BareKeepsNear)) {
            near.remove(&at.near);
        }
    }

    /// Ends a flight that tells its callers no value.
    pub(crate) fn conclude_empty(&self, at: &Where, flight: &Flight) {
        self.settle(at, flight, None, |_| {});
    }

    /// Ends a flight whose load failed: its callers are told an error, or the fallback that it found, which then stands
    /// near for the next ones.
    pub(crate) fn conclude_failed(&self, at: &Where, flight: &Flight, policy: &Policy) {
        match flight.fallback().filter(|_| policy.fail_safe.is_some() && self.options.incoherent.is_none()) {
            Some(entry) => self.conclude(at, flight, entry, policy),
            None => self.conclude_empty(at, flight),
        }
    }

    /// Ends a flight that loaded while the far store could not be asked: the entry may be served for the outage
    /// window, marked, and belongs to no epoch.
    pub(crate) fn conclude_unconfirmed(&self, at: &Where, flight: &Flight, entry: &Arc<Entry>, policy: &Policy) {
        let keeps = self.keeps_near(at, entry, policy) && !self.options.outage.is_zero();
        let Some(near) = self.near.as_ref().filter(|_| keeps) else {
            return self.conclude_bare(at, flight, entry);
        };
        let early = !broken(Mutation::UnconfirmedUnfenced);
        if early {
            near.put(&at.near, Arc::clone(entry));
        }
        // current as of the load's beginning: what was changed while it ran, nobody said
        let since = if broken(Mutation::UnconfirmedFromEnd) { self.clock.now() } else { flight.begun };
        if self.settle(at, flight, Some(entry), |_| entry.confirm(UNCONFIRMED, since)) && !early {
            near.put(&at.near, Arc::clone(entry));
        }
    }

    /// Unlinks a flight whose callers are told `told`; if it may not install, what the near store holds goes: callers
    /// of a detached flight may know more.
    fn settle(&self, at: &Where, flight: &Flight, told: Option<&Entry>, install: impl FnOnce(u64)) -> bool {
        let told = told.map(|entry| entry.header().stamp);
        let may = self.flights.settle(flight, self.epoch(at.line), told, install);
        if let Some(near) = self.near.as_ref().filter(|_| ends_with_purge(may, told.is_some())) {
            near.remove(&at.near);
        }
        may
    }

    /// Forgets a key that was changed: in this process there is nothing left of it.
    pub(crate) fn purge(&self, near_key: &str, cause: Cause) {
        self.drop_near(near_key, cause);
        self.pauses.clear(near_key);
    }

    /// Drops a key from this process: its flight is detached, then its entry removed. A flight that settles in between
    /// would otherwise leave its entry behind, confirmed.
    pub(crate) fn drop_near(&self, near_key: &str, cause: Cause) {
        let remove = || self.near.as_ref().map(|near| near.remove(near_key));
        let early = broken(Mutation::PurgeRemovesFirst).then(remove);
        if cause.detaches() {
            self.flights.detach(near_key);
        }
        if early.is_none() {
            remove();
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
        let near_first = broken(Mutation::DoubtNearFirst);
        if !near_first {
            self.flights.doubt(near_key);
        }
        if let Some(entry) = self.near.as_ref().and_then(|near| near.get(near_key)) {
            entry.confirm(SUSPECT, entry.confirmed());
        }
        if near_first {
            self.flights.doubt(near_key);
        }
    }

    /// The entry of a frame that is fresh for `left` from `now` on. Inert until it is confirmed.
    pub(crate) fn near_entry(&self, frame: Frame, policy: &Policy, now: Tick, left: Duration) -> Entry {
        let deadline = now + self.near_ttl(policy, left);
        let header = frame.header;
        if header.is_negative() {
            return Entry::new(frame, deadline);
        }
        // where nothing is heard of changes, the near deadline is the only bound
        let grace = if self.options.incoherent.is_some() { Duration::ZERO } else { policy.grace() };
        let kept = if grace.is_zero() { deadline } else { now + left + grace };
        let life = Life { deadline, kept, ..Life::of(&header, policy, now + left) };
        let entry = Entry::new(frame, deadline).kept_until(life.kept);
        entry.attend(deadline, policy.attention(&life));
        entry
    }

    /// Whether an entry is for near stores: small enough, and its loader did not say otherwise. Counts what is kept nowhere.
    pub(super) fn keeps_near(&self, at: &Where, entry: &Entry, policy: &Policy) -> bool {
        let keeps = policy.keeps_near(entry.weight(at.near.len())) && entry.header().flags & flag::FAR_ONLY == 0;
        if !keeps && self.far.is_none() {
            self.counters.count(Metric::Unkept);
        }
        keeps
    }

    /// How long an entry with `left` to live may stay near.
    pub(super) fn near_ttl(&self, policy: &Policy, left: Duration) -> Duration {
        let cap = policy.near_ttl.unwrap_or(left);
        let cap = self.options.incoherent.map_or(cap, |most| most.min(cap));
        left.min(policy.jittered(cap))
    }

    /// How long the far store keeps a frame that is fresh for `ttl`: for as long as it may be a fallback.
    pub(crate) fn far_ttl(&self, frame: &Frame, ttl: Duration, policy: &Policy) -> Duration {
        let grace = if frame.header.is_negative() { Duration::ZERO } else { policy.grace() };
        ttl.saturating_add(grace).min(self.options.max_ttl)
    }
}
