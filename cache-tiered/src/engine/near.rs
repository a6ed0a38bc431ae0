//! The near probe: what a hit meets.

use std::sync::Arc;

use cache_core::{Entry, Glance, LocalStore, Part, Parted, Tick};

use super::Engine;
use crate::answer::{Freshness, StaleReason};
use crate::coherence::mutate::{Mutation, broken};
use crate::coherence::{Judged, UNCONFIRMED, Worth, doubtful, is_fresh};
use crate::space::Space;

/// What the near store says.
#[derive(Debug)]
pub(crate) enum Probe {
    /// Serve it.
    Hit(Arc<Entry>, Freshness),
    /// There, but of an earlier epoch: its stamp decides.
    Suspect(Arc<Entry>),
    /// Nothing to serve.
    Miss,
}

/// What a near hit meets.
#[derive(Debug)]
pub(crate) enum Look {
    /// Most often this.
    Plain(Probe),
    /// A hit within the bound; by its time there may be something to [do](Engine::due) about it.
    Due(Arc<Entry>),
}

impl Engine {
    /// Looks into the near store. No future, no lock, no allocation.
    ///
    /// The order matters (see [`View`](crate::coherence::View)): trust, entry, epoch, clock.
    #[inline]
    pub(crate) fn look(&self, key: &Parted<'_>) -> Look {
        self.look_by(|| self.names.line_of_parted(key), |near| near.get_parted(key))
    }

    /// As [`look`](Self::look), for a caller that may do without the entry: what `take` makes of a hit within the bound
    /// about which nothing has to be done.
    ///
    /// The same order: of the entry, all was read before epoch and clear are; then the clock.
    #[inline]
    pub(crate) fn glance<T>(&self, key: &Parted<'_>, take: impl FnOnce(Part) -> Option<T>) -> Result<T, Look> {
        let Some(near) = &self.near else { return Err(Look::Plain(Probe::Miss)) };
        let line = self.names.line_of_parted(key);
        let views = self.views(line);
        let trust = views.trust_until();
        let glance = near.glance(key);
        // by reference: it was just written word by word, and would be moved by more at once
        let Some(Glance::Part(part)) = &glance else { return Err(self.look_at(line, trust, glance)) };
        let trust = if broken(Mutation::TrustAfterEntry) { views.trust_until() } else { trust };
        let current = part.epoch == views.epoch() && part.s0 >= views.cleared();
        let now = self.clock.now();
        if is_fresh(trust, current, now)
            && now < part.attention
            && let Some(Glance::Part(part)) = glance
            && let Some(taken) = take(part)
        {
            return Ok(taken);
        }
        Err(self.look(key))
    }

    #[inline(never)]
    fn look_at(&self, line: usize, trust: Tick, glance: Option<Glance>) -> Look {
        match glance {
            Some(Glance::Whole(entry)) => self.weigh(line, trust, entry),
            _ => Look::Plain(Probe::Miss),
        }
    }

    #[inline]
    fn look_by(&self, line: impl Fn() -> usize, find: impl Fn(&dyn LocalStore) -> Option<Arc<Entry>>) -> Look {
        let Some(near) = &self.near else { return Look::Plain(Probe::Miss) };
        let line = line();
        let trust = self.trust_until(line);
        let Some(entry) = find(&**near) else { return Look::Plain(Probe::Miss) };
        self.weigh(line, trust, entry)
    }

    #[inline]
    fn weigh(&self, line: usize, trust: Tick, entry: Arc<Entry>) -> Look {
        let trust = if broken(Mutation::TrustAfterEntry) { self.trust_until(line) } else { trust };
        let current = entry.epoch() == self.epoch(line) && self.stands(&entry);
        let now = self.clock.now();
        let fresh = is_fresh(trust, current, now);
        if fresh && now < entry.attention() {
            return Look::Plain(Probe::Hit(entry, Freshness::WithinBound));
        }
        self.look_closer(line, entry, fresh, current, now)
    }

    #[cold]
    fn look_closer(&self, line: usize, entry: Arc<Entry>, fresh: bool, current: bool, now: Tick) -> Look {
        if now >= entry.deadline() {
            return Look::Plain(Probe::Miss);
        }
        if fresh { Look::Due(entry) } else { Look::Plain(self.probe_untrusted(line, entry, current, now)) }
    }

    /// Looks into the near store and leaves what is due to others.
    pub(crate) fn probe(&self, near_key: &str) -> Probe {
        match self.look_by(|| self.names.line_of_near(near_key), |near| near.get(near_key)) {
            Look::Plain(probe) => probe,
            Look::Due(entry) => Probe::Hit(entry, Freshness::WithinBound),
        }
    }

    /// As [`probe`](Self::probe), for a key space: an entry that its codec does not read is a miss.
    pub(crate) fn probe_for(&self, near_key: &str, space: &Space) -> Probe {
        if let Some(entry) = self.written_for(near_key, space) {
            return Probe::Hit(entry, Freshness::WithinBound);
        }
        match self.probe(near_key) {
            Probe::Hit(entry, _) | Probe::Suspect(entry) if !(space.accepts)(&entry) => Probe::Miss,
            probe => probe,
        }
    }

    fn probe_untrusted(&self, line: usize, entry: Arc<Entry>, current: bool, now: Tick) -> Probe {
        if self.work.is_closed() {
            return Probe::Miss;
        }
        let outage = self.cut_off(line).then_some(self.options.outage);
        let (trust, epoch) = (self.trust_until(line), entry.epoch());
        let stands = epoch == UNCONFIRMED && self.surely_stands(&entry);
        match doubtful(epoch, entry.confirmed(), trust, current, stands, now, outage) {
            Worth::Fresh => Probe::Hit(entry, Freshness::WithinBound),
            Worth::Unconfirmed => {
                if broken(Mutation::OutageFromServe) {
                    entry.confirm(UNCONFIRMED, now);
                }
                Probe::Hit(entry, Freshness::Stale(StaleReason::Unconfirmed))
            }
            Worth::Suspect => Probe::Suspect(entry),
            Worth::Nothing => Probe::Miss,
        }
    }

    /// Whether no tag of the entry was bumped since its load began, as far as this process knows.
    #[inline]
    pub(super) fn stands(&self, entry: &Entry) -> bool {
        let s0 = entry.header().s0;
        s0 >= self.lines[0].view.cleared() && (!entry.is_tagged() || self.tags_stand(s0, entry.tags()))
    }

    /// Whether that is sure without asking the far store.
    pub(super) fn surely_stands(&self, entry: &Entry) -> bool {
        self.track(0).judge(entry.header().s0, entry.tags()) == Judged::Valid
    }

    #[cold]
    fn tags_stand(&self, s0: u64, tags: &[u64]) -> bool {
        // installed entries were judged against the time before the epoch; only what came since is asked here
        self.track(0).judge(s0, tags) != Judged::Invalid
    }
}
