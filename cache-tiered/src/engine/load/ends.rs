//! How loads end: what is stored, installed, and told to whom.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_core::envelope::flag;
use cache_core::observe::Metric;
use cache_core::{Entry, Frame, Header, Result, Stamp, check_value};

use super::{Held, LoadTask, MOST_ROUNDS};
use crate::answer::{Freshness, Served, StaleReason, Tier};
use crate::coherence::Overtaken;
use crate::coherence::mutate::{Mutation, broken};
use crate::engine::Far;
use crate::loaded::Produced;

impl LoadTask {
    /// The end of a load without a far store.
    pub(crate) fn loaded_alone(&self, (produced, took): (Produced, Duration), s0: u64) -> Served {
        let s0 = if broken(Mutation::S0AfterLoad) { self.s0() } else { s0 };
        let ((entry, store), _, _) = self.entry(produced, Stamp::random(), s0, took);
        if store {
            self.engine.conclude(&self.at, &self.flight, &entry, &self.space.policy);
        } else {
            self.engine.conclude_bare(&self.at, &self.flight, &entry);
        }
        Served::fresh(entry, Tier::Origin)
    }

    /// The end of a load while cut off.
    pub(crate) fn loaded_cut_off(&self, (produced, took): (Produced, Duration), s0: u64) -> Served {
        let ((entry, store), _, _) = self.entry(produced, Stamp::random(), s0, took);
        self.engine.raise_floor(&self.at.near);
        if store {
            self.engine.conclude_unconfirmed(&self.at, &self.flight, &entry, &self.space.policy);
        } else {
            self.engine.conclude_bare(&self.at, &self.flight, &entry);
        }
        Served::fresh(entry, Tier::Origin)
    }

    /// What was loaded under a lease, as an entry, and as bytes for their ttl; `None` if they are not to be stored.
    pub(crate) fn packed(
        &self,
        far: &Far,
        token: Stamp,
        (produced, took): (Produced, Duration),
        s0: u64,
    ) -> (Arc<Entry>, Option<(Bytes, Duration)>) {
        let s0 = if broken(Mutation::S0AfterLoad) { self.s0() } else { s0 };
        let ((entry, store), frame, ttl) = self.entry(produced, token, s0, took);
        let fits = |bytes: &Bytes| check_value(bytes.len(), far.store().max_value()).is_ok();
        let packed = far.packing().pack(&self.at.far, &frame).ok().filter(|bytes| store && fits(bytes));
        (entry, packed.map(|bytes| (bytes, self.engine.far_ttl(&frame, ttl, &self.space.policy))))
    }

    /// The end of a load whose fill was answered.
    pub(crate) async fn filled(
        &self,
        far: &Far,
        held: Held,
        entry: Arc<Entry>,
        answer: Result<bool>,
    ) -> Result<Served> {
        let engine = &self.engine;
        match answer {
            Ok(true) => {
                held.over();
                engine.floors.lift(&self.at.near, self.floor, engine.clock.now());
                engine.counters.count(Metric::Filled);
                Ok(self.serve(entry, Tier::Origin))
            }
            Ok(false) => {
                held.over();
                engine.counters.count(Metric::FillRejected);
                self.overtaken(far, entry).await
            }
            // whether it was stored is unknown; if it was, that was legal
            Err(_) => {
                self.engine.raise_floor(&self.at.near);
                Ok(self.bare(entry))
            }
        }
    }

    /// The end of a load that is not to be stored in the far store.
    pub(crate) fn unstored(&self, entry: Arc<Entry>) -> Served {
        if self.flight.fallback().is_some() {
            // what the far store still holds is older
            self.engine.raise_floor(&self.at.near);
        }
        self.bare(entry)
    }

    /// For the flight's own callers only.
    pub(crate) fn bare(&self, entry: Arc<Entry>) -> Served {
        self.engine.conclude_bare(&self.at, &self.flight, &entry);
        Served::fresh(entry, Tier::Origin)
    }

    /// The fill was refused, for the key was invalidated during the load, or none was due. Another process may have
    /// read an older row than ours and be about to fill it, so ours may only be returned once the key is seen without a
    /// value and without a lease; else values would go backwards for our callers.
    async fn overtaken(&self, far: &Far, own: Arc<Entry>) -> Result<Served> {
        let engine = &self.engine;
        if broken(Mutation::InstallRejected) {
            return Ok(self.serve(own, Tier::Origin));
        }
        if broken(Mutation::ReturnRejected) {
            engine.conclude_bare(&self.at, &self.flight, &own);
            return Ok(Served::fresh(own, Tier::Origin));
        }
        for _ in 0..MOST_ROUNDS {
            let sent = engine.clock.now();
            let found = far.read(&engine.clock, &engine.counters, far.leases().read(&self.at.far)).await;
            let Ok(found) = found else { break };
            let Some(found) = found else { return Ok(self.bare(own)) };
            match engine.take(&self.at, &found, sent, &self.space).await {
                Ok(Some(entry)) => return Ok(self.serve(entry, Tier::Far)),
                Ok(None) => {}
                Err(_) => break,
            }
            let settled = match Overtaken::by(Header::parse(&found.frame).ok().as_ref()) {
                Overtaken::Wait(holder) => self.wait(far, holder).await,
                Overtaken::Discard => {
                    let discard = far.leases().discard(&self.at.far, &found.frame);
                    far.call(&engine.clock, &engine.counters, discard).await.map(|_| ())
                }
                Overtaken::Alone => return Ok(self.bare(own)),
            };
            if settled.is_err() {
                break;
            }
        }
        self.engine.raise_floor(&self.at.near);
        engine.conclude_bare(&self.at, &self.flight, &own);
        let freshness = Freshness::Stale(StaleReason::Contended);
        Ok(Served { entry: own, tier: Tier::Origin, freshness })
    }

    /// The end of a load during a guarded write. The bar may have been lifted meanwhile, and others may be about to
    /// fill an older row: it is told as after a refused fill.
    pub(crate) async fn loaded_barred(&self, (produced, took): (Produced, Duration), s0: u64) -> Result<Served> {
        let ((entry, _), frame, ttl) = self.entry(produced, Stamp::random(), s0, took);
        let Some(far) = self.engine.far.as_ref().filter(|_| !broken(Mutation::BarredTells)) else {
            return Ok(self.bare(entry));
        };
        if broken(Mutation::HoldFills) {
            let _ = far.store().set(&self.at.far, frame.to_bytes(&self.at.far), ttl).await;
        }
        self.overtaken(far, entry).await
    }

    /// Installs if the flight may, and serves.
    pub(crate) fn serve(&self, entry: Arc<Entry>, tier: Tier) -> Served {
        self.engine.conclude(&self.at, &self.flight, &entry, &self.space.policy);
        Served::fresh(entry, tier)
    }

    /// What was produced, as an entry (and whether to keep it), its frame and its ttl.
    fn entry(
        &self,
        produced: Produced,
        stamp: Stamp,
        s0: u64,
        took: Duration,
    ) -> ((Arc<Entry>, bool), Frame, Duration) {
        let engine = &self.engine;
        let ttl = engine.ttl_of(&produced, &self.space.policy);
        let mut frame = engine.frame(produced.payload.clone(), &produced, stamp, s0, ttl, took);
        if self.flight.refreshes() {
            frame.header.flags |= flag::REFRESHED;
        }
        let entry = engine.near_entry(frame.clone(), &self.space.policy, engine.clock.now(), ttl);
        let store = produced.is_stored();
        if let Some(decoded) = produced.decoded {
            entry.remember(decoded);
        }
        ((Arc::new(entry), store), frame, ttl)
    }
}
