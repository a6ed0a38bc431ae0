//! Storing values for everybody, in the far store's order.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{Applied, Change, Error, ErrorKind, Frame, Header, Result, Stamp, State, check_value, envelope};

use super::{Engine, Far, Where};
use crate::coherence::Cause;
use crate::coherence::mutate::{Mutation, broken};
use crate::loaded::{Decoded, Produced};
use crate::policy::Policy;

impl Engine {
    /// Stores a value for everybody: one round trip, ordered by the far store.
    pub(crate) async fn put(self: &Arc<Self>, at: Where, produced: Produced, policy: &Policy) -> Result<Applied> {
        let (frame, ttl) = self.fresh_frame(&produced, policy);
        match &self.far {
            Some(far) => {
                let ttl = self.far_ttl(&frame, ttl, policy);
                let frame = far.packing().pack(&at.far, &frame)?;
                check_value(frame.len(), far.store().max_value())?;
                if broken(Mutation::PutUnnumbered) {
                    far.call(&self.clock, &self.counters, far.store().set(&at.far, frame, ttl)).await?;
                    self.purge(&at.near, Cause::Own);
                    return Ok(Applied { n: 0, stored: true, kept: false, removed: 0 });
                }
                self.change(vec![at], Change::Put { frame, ttl }).await
            }
            None => {
                let _alone = self.near_writes.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(self.put_near(&at, frame, produced.decoded, ttl, policy))
            }
        }
    }

    /// As [`put`](Self::put), unless the same row version or a newer one is there; whether it was stored.
    pub(crate) async fn put_newer(self: &Arc<Self>, at: Where, produced: Produced, policy: &Policy) -> Result<bool> {
        let (frame, ttl) = self.fresh_frame(&produced, policy);
        match &self.far {
            Some(far) => {
                if far.bus().is_none() {
                    return Err(blind(far));
                }
                let ttl = self.far_ttl(&frame, ttl, policy);
                let frame = far.packing().pack(&at.far, &frame)?;
                check_value(frame.len(), far.store().max_value())?;
                match self.change(vec![at], Change::PutNewer { frame, ttl }).await? {
                    applied if applied.kept => Ok(false),
                    applied if applied.stored => Ok(true),
                    _ => Err(refused("set_versioned")),
                }
            }
            None => {
                let _alone = self.near_writes.lock().unwrap_or_else(PoisonError::into_inner);
                let held = self.near.as_ref().and_then(|near| near.get(&at.near));
                let newer = held.is_some_and(|e| self.clock.now() < e.kept() && e.header().row >= produced.row);
                if !newer {
                    self.put_near(&at, frame, produced.decoded, ttl, policy);
                }
                Ok(!newer)
            }
        }
    }

    pub(super) fn fresh_frame(&self, produced: &Produced, policy: &Policy) -> (Frame, Duration) {
        let ttl = self.ttl_of(produced, policy);
        let s0 = self.lines[0].view.applied();
        (self.frame(produced.payload.clone(), produced, Stamp::random(), s0, ttl, Duration::ZERO), ttl)
    }

    /// Stores a value where there is only a near store. Replaced, not removed first: a reader in between sees the old
    /// value or the new one.
    pub(super) fn put_near(
        &self,
        at: &Where,
        frame: Frame,
        decoded: Option<Decoded>,
        ttl: Duration,
        policy: &Policy,
    ) -> Applied {
        self.holds.lift(&at.near);
        self.flights.detach(&at.near);
        self.pauses.clear(&at.near);
        if let Some(near) = &self.near {
            let now = self.clock.now();
            let entry = Arc::new(self.near_entry(frame, policy, now, ttl));
            if let Some(decoded) = decoded {
                entry.remember(decoded);
            }
            entry.confirm(self.epoch(at.line), now);
            if self.keeps_near(at, &entry, policy) {
                near.put(&at.near, entry);
            } else {
                near.remove(&at.near);
            }
        }
        Applied { n: self.number(), stored: true, kept: false, removed: 0 }
    }

    /// The ttl that a value gets, jitter applied. A longer one of its own is cut to the namespace's: beyond that the tags'
    /// generations are forgotten.
    pub(crate) fn ttl_of(&self, produced: &Produced, policy: &Policy) -> Duration {
        let negative = produced.payload.is_none();
        let ttl = produced.ttl.unwrap_or(if negative { policy.negative_ttl } else { policy.ttl });
        // beyond it the tags' generations are forgotten
        policy.jittered(ttl.min(self.options.max_ttl))
    }

    /// The frame of a value that lives for `ttl` from now.
    pub(crate) fn frame(
        &self,
        payload: Option<Bytes>,
        produced: &Produced,
        stamp: Stamp,
        s0: u64,
        ttl: Duration,
        load: Duration,
    ) -> Frame {
        let created = self.time.ms(&self.clock, self.clock.now());
        let millis = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let negative = payload.is_none();
        let header = Header {
            state: if negative { State::Negative } else { State::Value },
            flags: match (negative, produced.noted) {
                (true, _) => envelope::flag::NEGATIVE,
                (false, true) => envelope::flag::NOTES,
                (false, false) => 0,
            } | if produced.far_only { envelope::flag::FAR_ONLY } else { 0 },
            codec: produced.codec,
            stamp,
            s0,
            soft_exp: created.saturating_add(millis),
            created,
            load_ms: u32::try_from(load.as_millis()).unwrap_or(u32::MAX),
            row: produced.row,
        };
        Frame { header, tags: produced.tags.clone(), payload: payload.unwrap_or_default() }
    }
}

/// The error of a write whose value the far store refused: the key is left missing.
pub(crate) fn refused(operation: &'static str) -> Error {
    let text = "the far store removed the old value and refused the new one; its memory may be full";
    Error::new(ErrorKind::Overloaded, text).with_operation(operation)
}

/// The error of a versioned write to a far store that would overwrite any version.
fn blind(far: &Far) -> Error {
    let text =
        "the far store can't number changes, so an older version could replace a newer one; use another store, or set";
    Error::new(ErrorKind::Config, text).with_operation("set_versioned").with_store(far.store().name())
}
