//! Read-modify-write: read, compute, store if what was read still stands, else again.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cache_core::{Atomic, Change, Entry, Error, ErrorKind, Frame, Header, Result, Stamp, State, check_value};

use super::near::Probe;
use super::{Engine, Far, Where};
use crate::coherence::Cause;
use crate::coherence::mutate::{Mutation, broken};
use crate::loaded::Produced;
use crate::space::Space;

/// How long an update is tried while the value keeps changing.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest pause before the first retry, and before any: doubled each time, each a random part of it.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// What an update wants done.
pub(crate) enum Wish {
    Store(Produced),
    Remove,
    Leave,
}

/// What an update makes of the entry that may be served, if there is one.
pub(crate) type Step<'a> = dyn FnMut(Option<&Entry>) -> Result<Wish> + Send + 'a;

/// What a round came to.
enum Round {
    Done,
    /// Somebody else changed the key since it was read.
    Lost,
}

/// What the far store holds, as far as it takes to tell whether it still does.
struct Held {
    bytes: Option<Bytes>,
    header: Option<Header>,
}

impl Held {
    /// The stamp of the value, be it one that may be served or not.
    fn stamp(&self) -> Stamp {
        match &self.header {
            Some(header) if matches!(header.state, State::Value | State::Negative) => header.stamp,
            _ => Stamp::NONE,
        }
    }

    fn is_bar(&self) -> bool {
        self.header.is_some_and(|header| header.state == State::Tombstone)
    }
}

impl Engine {
    /// Applies `step` to what is there and stores what it makes of it, as one step for everybody. `step` runs again
    /// when somebody else was faster.
    pub(crate) async fn update(self: &Arc<Self>, at: &Where, space: &Space, step: &mut Step<'_>) -> Result<()> {
        let until = self.clock.now() + PATIENCE;
        let mut pause = PAUSE.0;
        loop {
            let round = match &self.far {
                Some(far) => self.update_far(far, at, space, step).await?,
                None => self.update_near(at, space, step)?,
            };
            if matches!(round, Round::Done) {
                return Ok(());
            }
            if self.clock.now() >= until {
                let text = format!("the value kept changing for {PATIENCE:?}; let fewer writers share the key");
                return Err(Error::new(ErrorKind::Conflict, text).with_operation("update").with_retry_after(PAUSE.1));
            }
            tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// One round: the far store is read and changed, whatever is near.
    async fn update_far(self: &Arc<Self>, far: &Far, at: &Where, space: &Space, step: &mut Step<'_>) -> Result<Round> {
        self.settle_writes(std::slice::from_ref(at)).await;
        // as a load's: a tag bumped from here on counts for what is made of the value, too
        let s0 = self.lines[0].view.applied();
        let sent = self.clock.now();
        let found = far.call(&self.clock, &self.counters, far.leases().read(&at.far)).await?;
        let held = Held {
            header: found.as_ref().and_then(|found| Header::parse(&found.frame).ok()),
            bytes: found.as_ref().map(|found| found.frame.clone()),
        };
        if held.is_bar() {
            return Ok(Round::Lost);
        }
        let entry = match &found {
            Some(found) => self.take(at, found, sent, space).await?,
            None => None,
        };
        match step(entry.as_deref())? {
            Wish::Leave => Ok(Round::Done),
            // what may not be served is nothing, and nothing is what there is to be
            Wish::Remove if entry.is_none() => Ok(Round::Done),
            Wish::Remove => self.unswap(far, at, &held).await,
            Wish::Store(produced) => {
                let (frame, ttl) = self.updated(produced, entry.as_deref(), s0, space)?;
                let ttl = self.far_ttl(&frame, ttl, &space.policy);
                let bytes = far.packing().pack(&at.far, &frame)?;
                check_value(bytes.len(), far.store().max_value())?;
                self.swap(far, at, &held, bytes, ttl).await
            }
        }
    }

    async fn swap(self: &Arc<Self>, far: &Far, at: &Where, held: &Held, frame: Bytes, ttl: Duration) -> Result<Round> {
        if far.bus().is_none() {
            let atomic = atomic(far)?;
            let call = async {
                match &held.bytes {
                    Some(old) => atomic.compare_and_set(&at.far, old, frame, ttl).await,
                    None => atomic.set_if_absent(&at.far, frame, ttl).await,
                }
            };
            let swapped = far.call(&self.clock, &self.counters, call).await;
            return self.unheard(at, swapped);
        }
        let change = if broken(Mutation::SwapBlind) {
            Change::Put { frame, ttl }
        } else {
            Change::Swap { seen: held.stamp(), frame, ttl }
        };
        let applied = self.change(vec![at.clone()], change).await?;
        Ok(if applied.stored { Round::Done } else { Round::Lost })
    }

    async fn unswap(self: &Arc<Self>, far: &Far, at: &Where, held: &Held) -> Result<Round> {
        if far.bus().is_none() {
            let atomic = atomic(far)?;
            let Some(old) = &held.bytes else { return Ok(Round::Done) };
            let removed = far.call(&self.clock, &self.counters, atomic.compare_and_delete(&at.far, old)).await;
            return self.unheard(at, removed);
        }
        let applied = self.change(vec![at.clone()], Change::DeleteSeen { seen: held.stamp() }).await?;
        Ok(if applied.kept { Round::Lost } else { Round::Done })
    }

    /// A far store that can't be heard was changed, was not, or did not say.
    fn unheard(&self, at: &Where, changed: Result<bool>) -> Result<Round> {
        if !matches!(changed, Ok(false)) {
            self.purge(&at.near, Cause::Own);
        }
        Ok(if changed? { Round::Done } else { Round::Lost })
    }

    /// One round where there is only a near store. `step` runs outside the lock: it is the application's.
    fn update_near(&self, at: &Where, space: &Space, step: &mut Step<'_>) -> Result<Round> {
        let usable = || match self.probe_for(&at.near, space) {
            Probe::Hit(entry, _) => Some(entry),
            Probe::Suspect(_) | Probe::Miss => None,
        };
        let s0 = self.lines[0].view.applied();
        let seen = usable();
        let wish = step(seen.as_deref())?;
        let _alone = self.near_writes.lock().unwrap_or_else(PoisonError::into_inner);
        let same = match (&seen, &usable()) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        match wish {
            Wish::Leave => return Ok(Round::Done),
            Wish::Remove if seen.is_none() => return Ok(Round::Done),
            _ if self.holds.bars(&at.near, self.clock.now()) => return Ok(Round::Lost),
            _ if !same && !broken(Mutation::SwapBlind) => return Ok(Round::Lost),
            Wish::Remove => {
                self.purge(&at.near, Cause::Own);
                self.number();
            }
            Wish::Store(produced) => {
                let decoded = produced.decoded.clone();
                let (frame, ttl) = self.updated(produced, seen.as_deref(), s0, space)?;
                self.put_near(at, frame, decoded, ttl, &space.policy);
            }
        }
        Ok(Round::Done)
    }

    /// The frame of what was made of `old`: as a put's, with the old tags and row version where it names none.
    fn updated(&self, produced: Produced, old: Option<&Entry>, s0: u64, space: &Space) -> Result<(Frame, Duration)> {
        let mut produced = produced;
        if let Some(old) = old {
            if produced.tags.as_slice().is_empty() {
                produced.tags = old.to_frame().tags;
            }
            if produced.row == 0 {
                produced.row = old.header().row;
            }
        }
        let ttl = self.ttl_of(&produced, &space.policy);
        let payload = produced.payload.clone();
        Ok((self.frame(payload, &produced, Stamp::random(), s0, ttl, Duration::ZERO), ttl))
    }
}

fn atomic(far: &Far) -> Result<&dyn Atomic> {
    far.store().atomic().ok_or_else(|| {
        let text = "the far store can neither number changes nor compare and set, so an update could be lost; \
                    use another store, or set";
        Error::new(ErrorKind::Config, text).with_operation("update").with_store(far.store().name())
    })
}
