//! What the far store holds, judged before it is served.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use cache_core::observe::Metric;
use cache_core::{Entry, Found, Frame, Header, Result, Stamp, State, Tags, Tick, envelope};

use super::{Engine, Where};
use crate::coherence::Judged;
use crate::coherence::mutate::{Mutation, broken};
use crate::space::Space;

/// What bytes from the far store turned out to be.
pub(super) enum Admitted {
    Usable(Arc<Entry>),
    /// Past its time, but kept as a fallback; for how long yet nobody is to load the key.
    Stale(Arc<Entry>, Duration),
    Miss,
    Junk,
}

impl Engine {
    /// Reads the frame under a key; an entry if it may be served.
    ///
    /// As in a batch, how long it has left is what its header says: to ask the store for the ttl as well would double
    /// what a read costs it. Only who may load needs to know how long a fallback is kept.
    /// It is sent at `sent`, or later.
    pub(crate) async fn read_far(&self, at: &Where, space: &Space, sent: Tick) -> Result<Option<Arc<Entry>>> {
        let Some(far) = &self.far else { return Ok(None) };
        let Some(mut frame) = far.read(&self.clock, &self.counters, far.store().get(&at.far)).await? else {
            return Ok(None);
        };
        if let Some(entry) = self.take_at_once(at, &mut frame, sent, space) {
            return Ok(Some(entry));
        }
        // on the heap, as all that few reads come to: their futures stay small
        Box::pin(async move { self.take(at, &Found { frame, left: None }, sent, space).await }).await
    }

    /// What was found, as an entry, if it may be served.
    pub(crate) async fn take(
        &self,
        at: &Where,
        found: &Found,
        sent: Tick,
        space: &Space,
    ) -> Result<Option<Arc<Entry>>> {
        match self.sift(at, found, sent, space).await? {
            Admitted::Usable(entry) => Ok(Some(entry)),
            Admitted::Stale(..) | Admitted::Miss | Admitted::Junk => Ok(None),
        }
    }

    /// What was found, if that can be said at once: a plain value without tags, in its time, that nothing speaks against.
    /// Else the frame is left as it was.
    pub(super) fn take_at_once(&self, at: &Where, frame: &mut Bytes, sent: Tick, space: &Space) -> Option<Arc<Entry>> {
        let (header, at_payload) = self.far.as_ref()?.packing().plain(&at.far, frame)?;
        let left = self.time.left(&self.clock, sent, header.soft_exp);
        if left.is_zero()
            || !self.floors.admits(&at.near, &header, sent)
            || header.s0 < self.lines[0].view.stands_from()
        {
            return None;
        }
        // moved, not shared: to share a reply that nobody else holds takes an allocation
        let mut payload = std::mem::take(frame);
        payload.advance(at_payload);
        let plain = Frame { header, tags: Tags::default(), payload };
        let entry = self.near_entry(plain, &space.policy, sent, left);
        if (space.accepts)(&entry) {
            return Some(Arc::new(entry));
        }
        // its seal fits, so these are the bytes that came
        *frame = entry.to_frame().to_bytes(&at.far);
        None
    }

    /// What was found, judged. Junk is removed, so that a load can fill the key; so is a value that may be older than
    /// what this process returned while it was cut off.
    pub(super) async fn sift(&self, at: &Where, found: &Found, sent: Tick, space: &Space) -> Result<Admitted> {
        match self.admit(at, found, sent, space).await? {
            Admitted::Usable(entry) | Admitted::Stale(entry, _)
                if !self.floors.admits(&at.near, entry.header(), sent) => {}
            Admitted::Usable(entry) | Admitted::Stale(entry, _) if !(space.accepts)(&entry) => {
                self.counters.count(Metric::Undecodable);
            }
            Admitted::Junk => self.counters.count(Metric::Malformed),
            judged => return Ok(judged),
        }
        if let Some(far) = &self.far {
            far.call(&self.clock, &self.counters, far.leases().discard(&at.far, &found.frame)).await?;
        }
        Ok(Admitted::Miss)
    }

    pub(super) async fn admit(&self, at: &Where, found: &Found, sent: Tick, space: &Space) -> Result<Admitted> {
        let Some(Ok(frame)) = self.far.as_ref().map(|far| far.packing().unpack(&at.far, &found.frame)) else {
            return Ok(Admitted::Junk);
        };
        let left = self.time.left(&self.clock, sent, frame.header.soft_exp);
        match frame.header.state {
            State::Value | State::Negative if !left.is_zero() => {}
            State::Value | State::Stale => return self.admit_stale(frame, found, left, sent, space).await,
            State::Negative | State::Lease | State::Tombstone => return Ok(Admitted::Miss),
        }
        // what the store returned was alive there, even if it says that less than a millisecond is left
        let left = found.left.map_or(left, |stored| stored.min(left));
        if !self.tags_valid(&frame.header, frame.tags.as_slice()).await? {
            return Ok(Admitted::Miss);
        }
        Ok(Admitted::Usable(Arc::new(self.near_entry(frame, &space.policy, sent, left))))
    }

    /// A value past its time, as a fallback: judged as a fresh one.
    async fn admit_stale(
        &self,
        mut frame: Frame,
        found: &Found,
        left: Duration,
        sent: Tick,
        space: &Space,
    ) -> Result<Admitted> {
        let Some(fail_safe) = space.policy.fail_safe.filter(|_| !frame.header.is_negative()) else {
            return Ok(Admitted::Miss);
        };
        if !self.tags_valid(&frame.header, frame.tags.as_slice()).await? {
            return Ok(Admitted::Miss);
        }
        let stale = frame.header.state == State::Stale;
        // without a holder its time is that of a rest
        let rest = if stale && frame.header.stamp == Stamp::NONE { left } else { Duration::ZERO };
        if stale {
            // a lease's token becomes the stamp of what its holder fills
            frame.header.stamp = Stamp::NONE;
        }
        let kept = sent + found.left.unwrap_or(fail_safe.span);
        Ok(Admitted::Stale(Arc::new(Entry::new(frame, sent).kept_until(kept)), rest))
    }

    /// Whether the far store still holds a near entry's stamp: 48 bytes instead of the value. Confirms nothing: only
    /// where a flight settles is it known that no purge and no push came in between.
    pub(crate) async fn revalidate(&self, at: &Where, entry: &Arc<Entry>) -> Result<bool> {
        let Some(far) = &self.far else { return Ok(false) };
        let head = far.read(&self.clock, &self.counters, far.leases().peek(&at.far)).await?;
        let same = head.and_then(|head| Header::parse(&head).ok()).is_some_and(|header| {
            header.stamp == entry.header().stamp && matches!(header.state, State::Value | State::Negative)
        });
        if !same || !self.tags_valid(entry.header(), entry.tags()).await? {
            return Ok(false);
        }
        self.counters.count(Metric::Revalidated);
        if broken(Mutation::ConfirmLate) {
            entry.confirm(self.epoch(at.line), self.clock.now());
        }
        Ok(true)
    }

    /// Lets the far store begin its records of generations, if it has none: what is stored before they begin can't be
    /// judged by a process that comes later. If it can't be done now, the first question does it.
    pub(super) async fn open_generations(&self) {
        let Some((far, bus)) = self.far.as_ref().and_then(|far| far.bus().map(|bus| (far, bus))) else { return };
        let (period, span) = self.period();
        let epoch = self.track(0).epoch();
        let asked = bus.generations(&self.lines[0].names, &[envelope::ALL], period, span);
        if let Ok(answer) = far.call(&self.clock, &self.counters, asked).await {
            let mut track = self.track(0);
            track.learn(epoch, &[envelope::ALL], &answer);
            self.lines[0].view.publish(&track);
        }
    }

    /// Whether the tags still stand, asking the far store where this process can't know.
    pub(crate) async fn tags_valid(&self, header: &Header, tags: &[u64]) -> Result<bool> {
        loop {
            let (judged, epoch) = {
                let track = self.track(0);
                (track.judge(header.s0, tags), track.epoch())
            };
            match judged {
                Judged::Valid => return Ok(true),
                Judged::Invalid => return Ok(false),
                Judged::Ask => {}
            }
            let Some((far, bus)) = self.far.as_ref().and_then(|far| far.bus().map(|bus| (far, bus))) else {
                // its tags were forgotten, and nobody else knows them
                return Ok(false);
            };
            let mut asked = vec![envelope::ALL];
            asked.extend_from_slice(tags);
            let (period, span) = self.period();
            let line = &self.lines[0].names;
            let answer = far.call(&self.clock, &self.counters, bus.generations(line, &asked, period, span)).await?;
            let mut track = self.track(0);
            track.learn(epoch, &asked, &answer);
            self.lines[0].view.publish(&track);
        }
    }
}
