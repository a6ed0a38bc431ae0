//! Changing: keys and tags, for every process.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{Applied, Change, Entry, Error, ErrorKind, Result, Tick};

use super::recovery::Told;
use super::{Engine, Where};
use crate::coherence::mutate::{Mutation, broken};
use crate::coherence::{Cause, ack_purges};

impl Engine {
    /// Applies `change` to keys of any lines: one round trip a line, all lines at once. How many keys were there.
    ///
    /// Runs to its end even if the caller goes away: a change that has left can't be called back.
    pub(crate) async fn change(self: &Arc<Self>, keys: Vec<Where>, change: Change) -> Result<Applied> {
        self.open()?;
        if self.far.is_none() {
            // nothing waits here, so no caller can go away on the way
            return Ok(self.change_near(&keys, &change));
        }
        let voids = Kind::of(&change) == Kind::Always;
        if !voids {
            self.settle_writes(&keys).await;
        }
        let mut groups: BTreeMap<usize, Vec<Where>> = BTreeMap::new();
        for at in keys {
            groups.entry(at.line).or_default().push(at);
        }
        let tasks: Vec<_> = groups
            .into_iter()
            .map(|(line, keys)| {
                let (engine, change, shift) = (Arc::clone(self), change.clone(), self.work.begin());
                tokio::spawn(async move {
                    let _shift = shift;
                    // here, so that no write is taken back for a change that is never made
                    let _turn = if voids { engine.void_writes(&keys).await } else { None };
                    engine.change_line(line, &keys, change, None).await
                })
            })
            .collect();
        let mut total = Applied { n: 0, stored: true, kept: false, removed: 0 };
        let mut failed = None;
        for task in tasks {
            match task.await {
                Ok(Ok(applied)) => {
                    total = Applied {
                        n: total.n.max(applied.n),
                        stored: total.stored && applied.stored,
                        kept: total.kept || applied.kept,
                        removed: total.removed + applied.removed,
                    };
                }
                Ok(Err(error)) => failed = Some(error),
                Err(_) => failed = Some(Error::new(ErrorKind::Closed, "the runtime is shutting down")),
            }
        }
        failed.map_or(Ok(total), Err)
    }

    /// Applies `change` to keys of one line. If it is not answered within `most`, it fails.
    pub(super) async fn change_line(
        &self,
        line: usize,
        keys: &[Where],
        change: Change,
        most: Option<Duration>,
    ) -> Result<Applied> {
        let Some((far, bus)) = self.far.as_ref().and_then(|far| far.bus().map(|bus| (far, bus))) else {
            return self.change_unheard(keys, change).await;
        };
        let names = &self.lines[line].names;
        let far_keys: Vec<&str> = keys.iter().map(|at| &*at.far).collect();
        let run = self.track(line).run();
        let kind = Kind::of(&change);
        // it leaves nothing older than itself
        let replaces = matches!(change, Change::Delete | Change::Put { .. } | Change::Hold { .. });
        let floors: Vec<Option<u64>> = keys.iter().map(|at| self.floors.of(&at.near)).collect();
        let change = match change {
            Change::Delete if broken(Mutation::InvalidateSoftens) => Change::Soften { grace: self.options.max_ttl },
            change => change,
        };
        let call = bus.change(names, self.node, &far_keys, change);
        let call = async {
            match most {
                Some(most) => tokio::time::timeout(most, call).await.unwrap_or_else(|_| Err(unanswered(most))),
                None => call.await,
            }
        };
        match far.call(&self.clock, &self.counters, call).await {
            Ok(applied) if applied.kept && kind == Kind::IfSeen => Ok(applied),
            Ok(applied) => {
                let purges = ack_purges(self.track(line).knows(applied.n));
                for at in keys.iter().filter(|_| purges) {
                    self.purge(&at.near, Cause::Own);
                }
                for (at, floor) in keys.iter().zip(floors).filter(|_| replaces) {
                    self.floors.lift(&at.near, floor, self.clock.now());
                }
                self.mark_own(line, applied.n, run);
                self.counters.add(Metric::Invalidated, keys.len() as u64);
                self.remember(line, Told::keys(&far_keys), run);
                Ok(applied)
            }
            Err(error) => {
                for at in keys {
                    if kind != Kind::IfSeen {
                        // until the far store is told, what it holds is not for us
                        self.raise_floor(&at.near);
                    }
                    self.purge(&at.near, Cause::Own);
                }
                if kind != Kind::IfSeen {
                    let mut recovery = self.recovery(line);
                    keys.iter().for_each(|at| recovery.keep(&at.far));
                    drop(recovery);
                    self.counters.add(Metric::InvalidationPending, keys.len() as u64);
                }
                Err(error)
            }
        }
    }

    /// A change that no other process can hear: the far store has no bus.
    async fn change_unheard(&self, keys: &[Where], change: Change) -> Result<Applied> {
        let Some(far) = &self.far else { return Ok(self.change_near(keys, &change)) };
        let far_keys: Vec<&str> = keys.iter().map(|at| &*at.far).collect();
        let removed = far.call(&self.clock, &self.counters, far.store().delete_many(&far_keys)).await;
        for at in keys {
            match change {
                Change::Hold { hold } => self.bar(at, hold),
                _ => self.holds.lift(&at.near),
            }
            self.purge(&at.near, Cause::Own);
        }
        let removed = removed?;
        let mut stored = true;
        if let (Change::Put { frame, ttl } | Change::PutNewer { frame, ttl }, [at]) = (change, keys) {
            stored = far.call(&self.clock, &self.counters, far.store().set(&at.far, frame, ttl)).await.is_ok();
        }
        Ok(Applied { n: 0, stored, kept: false, removed })
    }

    /// A change where there is only a near store.
    fn change_near(&self, keys: &[Where], change: &Change) -> Applied {
        let _alone = self.near_writes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut removed = 0;
        for at in keys {
            match change {
                Change::Hold { hold } => self.bar(at, *hold),
                _ => self.holds.lift(&at.near),
            }
            let held = self.near.as_ref().and_then(|near| near.get(&at.near));
            self.purge(&at.near, Cause::Own);
            let Some(held) = held else { continue };
            let now = self.clock.now();
            removed += u64::from(now < held.deadline());
            if let Change::Soften { grace } = change {
                self.soften_near(at, &held, now, *grace);
            }
        }
        Applied { n: self.number(), stored: true, kept: false, removed }
    }

    fn bar(&self, at: &Where, hold: Duration) {
        let now = self.clock.now();
        self.holds.bar(&at.near, now + hold, now);
    }

    /// Puts the value that was just purged back as a fallback, if it may still be one.
    fn soften_near(&self, at: &Where, held: &Entry, now: Tick, grace: Duration) {
        let kept = held.kept().min(now + grace);
        let current = held.epoch() == self.epoch(at.line);
        if let Some(near) = self.near.as_ref().filter(|_| current && now < kept && !held.header().is_negative()) {
            let fallback = Arc::new(Entry::new(held.to_frame(), Tick::ZERO).kept_until(kept));
            fallback.confirm(held.epoch(), held.confirmed());
            near.put(&at.near, fallback);
        }
    }

    /// Frames loaded before now are not to be served by this process: it returned what is newer without the far store's
    /// word, or changed the key without it.
    pub(crate) fn raise_floor(&self, near_key: &Arc<str>) {
        let now = self.time.ms(&self.clock, self.clock.now());
        self.floors.raise(near_key, now.saturating_add(self.time_error()));
    }

    /// How far apart two processes' estimates of the server's clock may be, in ms.
    pub(super) fn time_error(&self) -> u64 {
        u64::try_from(self.beat_span().as_millis()).unwrap_or(u64::MAX)
    }

    /// Numbers a change that no store numbers.
    pub(super) fn number(&self) -> u64 {
        let mut track = self.track(0);
        let n = track.number();
        self.lines[0].view.publish(&track);
        n
    }

    /// Invalidates everything that carries `tag`: one round trip, whatever the number of entries.
    pub(crate) async fn bump(self: &Arc<Self>, tag: u64) -> Result<()> {
        self.open()?;
        let Some((far, bus)) = self.far.as_ref().and_then(|far| far.bus().map(|bus| (far, bus))) else {
            let mut track = self.track(0);
            let n = track.number();
            track.bump(n, tag);
            self.lines[0].view.publish(&track);
            return Ok(());
        };
        let (period, span) = self.period();
        let run = self.track(0).run();
        let bump = bus.bump(&self.lines[0].names, self.node, tag, period, span);
        let n = match far.call(&self.clock, &self.counters, bump).await {
            Ok(n) => n,
            Err(error) => {
                self.recovery(0).keep_tag(tag);
                self.counters.count(Metric::InvalidationPending);
                return Err(error);
            }
        };
        self.apply_bump(0, n, tag);
        self.remember(0, Told::Tag(tag), run);
        self.counters.count(Metric::Invalidated);
        Ok(())
    }

    /// The current period of tag generations, and the length of periods.
    pub(crate) fn period(&self) -> (u64, Duration) {
        let now = self.time.ms(&self.clock, self.clock.now());
        let span = self.options.max_ttl;
        (now / u64::try_from(span.as_millis()).unwrap_or(u64::MAX), span)
    }
}

/// The error of a change that was not answered in time.
fn unanswered(most: Duration) -> Error {
    let text = format!("the far store did not answer a background write within {most:?}");
    Error::new(ErrorKind::Timeout, text).with_operation("change")
}

/// What a change hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing: it is done. If it is not acknowledged, the keys are invalidated as soon as they can be.
    Always,
    /// The row version. If it is not acknowledged, the same.
    IfNewer,
    /// What was seen. If it is not acknowledged, either value may stand, and both are good: to remove them would lose
    /// the updates of others.
    IfSeen,
}

impl Kind {
    const fn of(change: &Change) -> Self {
        match change {
            Change::Swap { .. } | Change::DeleteSeen { .. } => Self::IfSeen,
            Change::PutNewer { .. } => Self::IfNewer,
            _ => Self::Always,
        }
    }
}
