//! Reading under a consistency stronger than the namespace's.

use std::sync::Arc;

use cache_core::{Entry, Result, Tick};

use super::near::Probe;
use super::trust::Footing;
use super::{Engine, Where};
use crate::answer::{Freshness, Served, Tier};
use crate::coherence::{Cause, UNCONFIRMED};
use crate::consistency::Consistency;
use crate::space::Space;

impl Engine {
    /// Near, then far, as current as `wish` asks; never loads.
    pub(crate) async fn get_as(
        self: &Arc<Self>,
        near_key: &Arc<str>,
        space: &Arc<Space>,
        wish: Consistency,
    ) -> Result<Option<Served>> {
        if wish == Consistency::Local {
            return self.get(near_key, space).await;
        }
        Box::pin(self.get_proved(near_key, space, wish)).await
    }

    async fn get_proved(
        self: &Arc<Self>,
        near_key: &Arc<str>,
        space: &Arc<Space>,
        wish: Consistency,
    ) -> Result<Option<Served>> {
        let begun = self.clock.now();
        let at = self.place_shared(near_key)?;
        self.settle_writes(std::slice::from_ref(&at)).await;
        let held = match self.probe_for(near_key, space) {
            Probe::Hit(entry, _) if self.far.is_none() => return Ok(Some(near(entry))),
            Probe::Hit(entry, freshness) => match wish {
                Consistency::Bounded(d) if self.proved_within(&at, &entry, d) => {
                    return Ok(Some(Served { entry, tier: Tier::Near, freshness }));
                }
                // loaded while cut off: its stamp was never in the far store
                _ if entry.epoch() == UNCONFIRMED => None,
                _ => Some(entry),
            },
            Probe::Suspect(entry) => Some(entry),
            Probe::Miss => None,
        };
        if self.far.is_none() {
            return Ok(None);
        }
        if self.footing(at.line).await == Footing::CutOff || !self.primary_since(&at, wish, begun).await {
            return Err(self.unreachable());
        }
        self.ask(&at, space, held).await
    }

    /// Whether what the entry holds was current at most `d` ago: as of the beat that gave trust its end, or, loaded
    /// while cut off, as of its load.
    fn proved_within(&self, at: &Where, entry: &Entry, d: std::time::Duration) -> bool {
        let now = self.clock.now();
        if entry.epoch() == UNCONFIRMED {
            return now < entry.confirmed() + d;
        }
        // trust ends a bound after its beat was sent
        now + self.options.bound < self.trust_until(at.line) + d
    }

    /// Whether a writable primary answered a beat that was sent after `begun`, if `wish` asks for that.
    async fn primary_since(&self, at: &Where, wish: Consistency, begun: Tick) -> bool {
        if wish != Consistency::Strict || self.far.as_ref().is_none_or(|far| far.bus().is_none()) {
            return true;
        }
        self.beat(at.line).await;
        self.trust_until(at.line) >= begun + self.options.bound
    }

    /// Asks the far store without a flight: nothing is installed. If the answer is not what the near store holds or a
    /// flight may bring, both must go, or values would go backwards for whoever reads near next.
    async fn ask(self: &Arc<Self>, at: &Where, space: &Arc<Space>, held: Option<Arc<Entry>>) -> Result<Option<Served>> {
        if let Some(entry) = held
            && self.revalidate(at, &entry).await?
        {
            return Ok(Some(near(entry)));
        }
        let found = self.read_far(at, space, self.clock.now()).await?;
        self.drop_near(&at.near, Cause::Own);
        Ok(found.map(|entry| Served::fresh(entry, Tier::Far)))
    }
}

const fn near(entry: Arc<Entry>) -> Served {
    Served { entry, tier: Tier::Near, freshness: Freshness::Fresh }
}
