//! What has to be done about an entry while it is served: prolong it, or load it again.

use std::sync::Arc;
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{Entry, Header, Result, Stamp, Tick};

use super::load::{Held, LoadTask, late};
use super::{Engine, Far, Where};
use crate::answer::{Served, Tier};
use crate::coherence::Refreshing;
use crate::coherence::mutate::{Mutation, broken};
use crate::flight::{Boarding, Outcome};
use crate::loaded::Loader;
use crate::policy::{Life, Policy, Verdict};
use crate::space::Space;

/// How soon a refresh that came to nothing is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Engine {
    /// Does what is due about an entry that is served. Says whether the caller is to refresh it: the one of all hits
    /// that `loads`.
    #[cold]
    pub(crate) fn due(self: &Arc<Self>, near_key: &str, entry: &Arc<Entry>, space: &Arc<Space>, loads: bool) -> bool {
        let now = self.clock.now();
        let seen = entry.attention();
        if now < seen || entry.header().is_negative() {
            return false;
        }
        let policy = &space.policy;
        match policy.decide(&self.life(entry, policy, now), now, 1.0 - fastrand::f64()) {
            Verdict::Touch => {
                self.touch(near_key, entry, policy, seen, now);
                false
            }
            Verdict::Refresh if loads => match self.pauses.active(near_key, now) {
                Some((_, left)) => {
                    entry.attend(seen, now + left);
                    false
                }
                None => entry.attend(seen, now + RETRY),
            },
            Verdict::Refresh | Verdict::Fresh | Verdict::Fallback | Verdict::Gone => false,
        }
    }

    /// The times of an entry.
    fn life(&self, entry: &Entry, policy: &Policy, now: Tick) -> Life {
        let header = entry.header();
        let ends = now + self.time.left(&self.clock, now, header.soft_exp);
        Life { deadline: entry.deadline(), kept: entry.kept(), ..Life::of(header, policy, ends) }
    }

    /// Makes a sliding ttl count anew: near at once, far in the background, once in a share of the ttl.
    fn touch(self: &Arc<Self>, near_key: &str, entry: &Arc<Entry>, policy: &Policy, seen: Tick, now: Tick) {
        let Some(sliding) = policy.sliding else { return };
        let ttl = policy.jittered(policy.ttl);
        entry.prolong(now + self.near_ttl(policy, ttl));
        if !entry.attend(seen, now + ttl.mul_f64(sliding.after)) || self.far.is_none() {
            return;
        }
        let (Ok(at), Ok(runtime)) = (self.place(near_key), tokio::runtime::Handle::try_current()) else { return };
        let (engine, entry, grace) = (Arc::clone(self), Arc::clone(entry), policy.grace());
        let shift = self.work.begin();
        runtime.spawn(async move {
            let _shift = shift;
            // a touch that is lost is made up for by the next one
            let _ = engine.touch_far(&at, &entry, ttl, grace).await;
        });
    }

    /// Prolongs the entry where it stands, if the far store still holds its stamp. Nobody is told: it is the same value,
    /// and it does not travel.
    async fn touch_far(&self, at: &Where, entry: &Entry, ttl: Duration, grace: Duration) -> Result<bool> {
        let Some(far) = &self.far else { return Ok(false) };
        self.counters.count(Metric::Touched);
        let now = self.time.ms(&self.clock, self.clock.now());
        let soft_exp = now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let ttl = ttl.saturating_add(grace).min(self.options.max_ttl);
        let touch = far.leases().touch(&at.far, entry.header().stamp, soft_exp, ttl);
        far.call(&self.clock, &self.counters, touch).await
    }

    /// Loads an entry again in the background, unless a flight of its key is under way.
    pub(crate) fn refresh(self: &Arc<Self>, near_key: &str, entry: Arc<Entry>, space: &Arc<Space>, loader: Loader) {
        let (Ok(at), Ok(runtime)) = (self.place(near_key), tokio::runtime::Handle::try_current()) else { return };
        let epoch = self.epoch(at.line);
        let Boarding::Leads(mut lead) = self.flights.board(&at.near, epoch, self.clock.now(), true, |_| true) else {
            return;
        };
        let flight = Arc::clone(lead.flight());
        flight.set_refreshes();
        lead.hand_over();
        self.counters.count(Metric::Refresh);
        let task = LoadTask::new(self, at, Arc::clone(&flight), space);
        let handle = runtime.spawn(async move {
            // the seat of nobody in particular: the flight goes on without callers
            let _lead = lead;
            task.refresh(&entry, loader).await;
        });
        flight.set_task(handle.abort_handle());
    }
}

impl LoadTask {
    /// Loads the entry again and ends the flight. Whatever comes of it, the entry stays unless it was changed meanwhile.
    async fn refresh(self, old: &Arc<Entry>, loader: Loader) {
        let deadline = self.space.policy.timeouts.hard;
        let refreshed = {
            let reload = tokio::time::timeout(deadline, self.reload(old, loader));
            tokio::pin!(reload);
            let refreshed = tokio::select! {
                biased;
                refreshed = &mut reload => refreshed.unwrap_or_else(|_| Err(late(deadline))),
                closed = self.engine.work.cancelled() => Err(closed),
            };
            // before the right is given back: how long it rests hangs on it
            let _ = refreshed.as_ref().inspect_err(|error| self.failed(error));
            refreshed
        };
        match refreshed {
            Ok(Some(served)) => self.finish(Ok(served)),
            Ok(None) => self.leave(),
            Err(error) => self.finish(Err(error)),
        }
    }

    /// A newer value, installed; `None` if there is none to be had now.
    async fn reload(&self, old: &Arc<Entry>, loader: Loader) -> Result<Option<Served>> {
        let engine = &self.engine;
        let Some(far) = &engine.far else {
            if engine.holds.bars(&self.at.near, engine.clock.now()) {
                return Ok(None);
            }
            let s0 = engine.s0();
            let (produced, took) = self.produce_over(loader, Some(Arc::clone(old))).await?;
            return Ok(produced.is_stored().then(|| self.loaded_alone((produced, took), s0)));
        };
        // somebody may have been faster; a far store that can't tell is no reason to load early
        let Ok(head) = far.call(&engine.clock, &engine.counters, far.leases().peek(&self.at.far)).await else {
            return Ok(None);
        };
        let seen = old.header().stamp;
        match Refreshing::by(head.and_then(|head| Header::parse(&head).ok()).as_ref(), seen) {
            Refreshing::Load => {}
            Refreshing::Take => {
                let found = engine.read_far(&self.at, &self.space, engine.clock.now()).await.unwrap_or_default();
                return Ok(found.map(|entry| self.serve(entry, Tier::Far)));
            }
            Refreshing::Leave => return Ok(None),
        }
        let Some(alone) = self.alone_among_processes(far).await else { return Ok(None) };
        let s0 = engine.s0();
        let load = self.renewing(far, &alone, self.produce_over(loader, Some(Arc::clone(old))));
        let loaded = load.await.inspect_err(|error| self.failed(error))?;
        if !loaded.0.is_stored() {
            return Ok(None);
        }
        let (entry, packed) = self.packed(far, Stamp::random(), loaded, s0);
        let Some((bytes, ttl)) = packed else { return Ok(None) };
        // an invalidation since the look has removed the stamp: then what was loaded may be older than it
        let store = async {
            if broken(Mutation::RefreshBlind) {
                return far.store().set(&self.at.far, bytes, ttl).await.map(|()| true);
            }
            far.leases().refresh(&self.at.far, seen, bytes, ttl).await
        };
        let stored = far.call(&engine.clock, &engine.counters, store).await.unwrap_or(false);
        Ok(stored.then(|| self.serve(entry, Tier::Origin)))
    }

    /// The right to refresh the key, held by one process: a lease on a key of its own. Nobody has it in the pause after a
    /// refresh that failed, in whichever process.
    async fn alone_among_processes(&self, far: &Far) -> Option<Held> {
        let engine = &self.engine;
        let at = Where { far: engine.names.refresh_key(&self.at)?, ..self.at.clone() };
        let held = Held::to_refresh(Arc::clone(engine), at, Stamp::random());
        let lease = far.leases().lease(held.claim().key, held.token, engine.options.lease);
        match far.call(&engine.clock, &engine.counters, lease).await {
            Ok(cache_core::Lease::Granted) => Some(held),
            Ok(answer) => {
                if let cache_core::Lease::Found(found) = answer
                    && Header::parse(&found.frame).is_err()
                {
                    // none of ours; in its place there could never be a right again
                    let discard = far.leases().discard(held.claim().key, &found.frame);
                    let _ = far.call(&engine.clock, &engine.counters, discard).await;
                }
                held.over();
                None
            }
            Err(_) => None,
        }
    }

    /// Ends the flight without a value: whoever joined boards again.
    fn leave(mut self) {
        self.engine.conclude_empty(&self.at, &self.flight);
        self.over();
        self.flight.end(Outcome::Abandoned);
    }
}
