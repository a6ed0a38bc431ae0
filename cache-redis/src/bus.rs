//! The invalidation stream: numbered changes, the beat, subscriptions.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::{
    Applied, Beat, Bus, BusEvent, CacheService, Change, ErrorKind, Frame, Generations, Header, Line, Listener, NodeId,
    Result, Stamp,
};

use crate::connect::{SubEvent, Subscriber, TrackEvent, Tracker};
use crate::error::{fault, unexpected};
use crate::script::{self, Script, within};
use crate::service::{Redis, checked, millis, sized};
use crate::tracking::{Tracking, prefixes};

/// The most keys in one script call, and the most bytes of their text: one message names them all, and what a script
/// hands on at once is under what its language takes (8000).
const CHUNK: usize = 1000;
const CHUNK_BYTES: usize = 256 * 1024;

#[async_trait]
impl Bus for Redis {
    /// One round trip for up to 1000 keys or 256 KiB of their text; longer lists are cut, each part with a number and a
    /// deadline of its own, and the last number is returned (0 if any part got none). After an error earlier parts stand.
    ///
    async fn change(&self, line: &Line, node: NodeId, keys: &[&str], change: Change) -> Result<Applied> {
        let invalid = |text: &str| fault(ErrorKind::Invalid, text).with_operation("change");
        checked(&line.seq, "change")?;
        for key in keys {
            checked(key, "change")?;
        }
        if keys.is_empty() {
            return Err(invalid("a change needs a key"));
        }
        let step = [line.seq.as_str(), line.channel.as_str()].into_iter().chain(keys.iter().copied());
        self.link().together(step).map_err(|error| error.with_operation("change"))?;
        let one = |script: &'static Script| {
            if keys.len() == 1 { Ok(script) } else { Err(invalid("this kind of change takes exactly one key")) }
        };
        let put = |script: &'static Script, frame: &Bytes| {
            sized(frame.len(), self.max_value(), "change")?;
            one(script)
        };
        let mut seen = Stamp::NONE;
        let (script, ms, frame) = match change {
            Change::Delete => (&script::DELETE, 0, Bytes::new()),
            Change::DeleteSeen { seen: stamp } => {
                let script = one(&script::DELETE_SEEN)?;
                if stamp == Stamp::NONE {
                    // no value has it
                    return Ok(Applied::NOTHING);
                }
                seen = stamp;
                (script, 0, Bytes::new())
            }
            Change::Soften { grace } => (&script::SOFTEN, millis(grace, "change")?, Bytes::new()),
            Change::Hold { hold } => {
                (&script::HOLD, millis(hold, "change")?, Bytes::copy_from_slice(&Frame::tombstone(0)))
            }
            Change::Put { frame, ttl } => (put(&script::PUT, &frame)?, millis(ttl, "change")?, frame),
            Change::PutNewer { frame, ttl } => {
                Header::parse(&frame).map_err(|why| invalid(&format!("the frame to put is malformed: {why}")))?;
                (put(&script::PUT_NEWER, &frame)?, millis(ttl, "change")?, frame)
            }
            Change::Swap { seen: stamp, frame, ttl } => {
                seen = stamp;
                (put(&script::SWAP, &frame)?, millis(ttl, "change")?, frame)
            }
            _ => return Err(invalid("this kind of change is not known")),
        };
        let call = Mutate { script, ms, frame, seen };
        let (first, mut rest) = keys.split_at(part(keys));
        let mut all = self.change_part(line, node, first, &call).await?;
        while !rest.is_empty() {
            let (next, after) = rest.split_at(part(rest));
            let applied = self.change_part(line, node, next, &call).await?;
            all.n = if all.n == 0 { 0 } else { applied.n };
            all.removed += applied.removed;
            rest = after;
        }
        Ok(all)
    }

    async fn bump(&self, line: &Line, node: NodeId, tag: u64, period: u64, span: Duration) -> Result<u64> {
        let keep = keep(span, "bump")?;
        let call = script::BUMP.on(&hashes(line, period, "bump")?).arg(self.link().publish()).arg(&line.channel);
        call.arg(node.to_string()).arg(field(tag)).arg(keep).run(self.link(), "bump").await
    }

    /// One round trip for up to 1000 tags.
    async fn generations(&self, line: &Line, tags: &[u64], period: u64, span: Duration) -> Result<Generations> {
        let keep = keep(span, "generations")?;
        let keys = hashes(line, period, "generations")?;
        let mut all = Generations { floor: 0, bumps: Vec::with_capacity(tags.len()) };
        // without tags the floor is still asked for
        let (mut part, mut rest) = tags.split_at(tags.len().min(CHUNK));
        loop {
            let mut call = script::GENERATIONS.on(&keys).arg(keep);
            for tag in part {
                call = call.arg(field(*tag));
            }
            let asked = call.run(self.link(), "generations");
            let said: Vec<u64> = within(self.link(), "generations", asked).await?;
            let [floor, bumps @ ..] = &said[..] else { return Err(unexpected("generations")) };
            if bumps.len() != part.len() {
                return Err(unexpected("generations"));
            }
            all.floor = all.floor.max(*floor);
            all.bumps.extend(bumps);
            if rest.is_empty() {
                return Ok(all);
            }
            (part, rest) = rest.split_at(rest.len().min(CHUNK));
        }
    }

    /// Refused by a replica everywhere; by a primary that lost its replicas (`min-replicas-to-write`) from Redis 7 on.
    async fn beat(&self, line: &Line) -> Result<Beat> {
        checked(&line.seq, "beat")?;
        let ((seq, created, server_ms), run): ((Option<Bytes>, bool, u64), u64) =
            script::BEAT.on(&[&line.seq]).run_at(self.link(), "beat").await?;
        // bytes that are no number are no sequence; the next change replaces them
        let seq = seq.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
        Ok(Beat { seq, created, server_ms, run })
    }

    /// One connection, and with [`Tracking::Bcast`] a second one, in a cluster one to each primary; they report gaps of
    /// their own, and the end of a gap in tracking is followed by a `Foreign` without a key.
    ///
    /// # Errors
    /// `Config` if keys are to be tracked and the server can't; `Invalid` if a channel's name does not tell the prefix
    /// of its keys.
    async fn subscribe(&self, lines: &[Line]) -> Result<Box<dyn Listener>> {
        let mut index = HashMap::new();
        for (i, line) in lines.iter().enumerate() {
            index.entry(line.channel.clone()).or_insert(i);
        }
        let tracked = if self.sees_foreign() { Some(prefixes(lines)?) } else { None };
        let subscriber = self.link().subscribe(index.keys().cloned().collect()).await?;
        let tracker = match tracked {
            Some(prefixes) if self.link().tracks_reads() => Some(self.link().track_reads(prefixes)),
            Some(prefixes) => Some(self.link().track_writes(prefixes).await?),
            None => None,
        };
        Ok(Box::new(Subscription { subscriber, index, tracker }))
    }

    fn sees_foreign(&self) -> bool {
        self.link().config().knobs.tracking != Tracking::Off
    }
}

impl Redis {
    /// One script call.
    async fn change_part(&self, line: &Line, node: NodeId, keys: &[&str], what: &Mutate) -> Result<Applied> {
        let names: Vec<&str> = std::iter::once(line.seq.as_str()).chain(keys.iter().copied()).collect();
        let call = what.script.on(&names).arg(self.link().publish()).arg(&line.channel).arg(node.to_string());
        let call = call.arg(what.ms).arg(&what.frame[..]).arg(&what.seen.to_bytes()[..]);
        let (n, fate, removed): (u64, u8, u64) = within(self.link(), "change", call.run(self.link(), "change")).await?;
        // as in publish.lua
        Ok(Applied { n, stored: fate == 1, kept: fate == 2, removed })
    }
}

/// A change as its script takes it.
struct Mutate {
    script: &'static Script,
    ms: u64,
    frame: Bytes,
    seen: Stamp,
}

/// An open subscription, the index of each channel's line, and the tracked keys.
struct Subscription {
    subscriber: Subscriber,
    index: HashMap<String, usize>,
    tracker: Option<Tracker>,
}

#[async_trait]
impl Listener for Subscription {
    async fn next(&mut self) -> Option<BusEvent> {
        let Self { subscriber, index, tracker } = self;
        loop {
            let event = tokio::select! {
                event = subscriber.next() => event?,
                event = tracked(tracker.as_mut()) => return Some(event),
            };
            return Some(match event {
                SubEvent::Message { channel, payload } => match index.get(&channel) {
                    Some(line) => BusEvent::Message { line: *line, payload },
                    None => continue,
                },
                SubEvent::Lost => BusEvent::Lost,
                SubEvent::Restored => BusEvent::Restored,
            });
        }
    }
}

/// The next event of tracking; for ever pending without it.
async fn tracked(tracker: Option<&mut Tracker>) -> BusEvent {
    let Some(tracker) = tracker else { return std::future::pending().await };
    match tracker.next().await {
        TrackEvent::Key(key) => BusEvent::Foreign { key: Some(key) },
        TrackEvent::All => BusEvent::Foreign { key: None },
        TrackEvent::Lost => BusEvent::Lost,
        TrackEvent::Restored => BusEvent::Restored,
    }
}

/// How many of `keys` go into one call.
fn part(keys: &[&str]) -> usize {
    let mut bytes = 0;
    let fits = keys.iter().take(CHUNK).take_while(|key| {
        bytes += key.len();
        bytes <= CHUNK_BYTES
    });
    fits.count().max(1)
}

/// The keys that tag scripts work on; see `lua/tags.lua`.
fn hashes(line: &Line, period: u64, operation: &'static str) -> Result<[String; 5]> {
    checked(&line.seq, operation)?;
    let hash = |period: u64| format!("{}{period}", line.tags);
    // wrapping: at the very first period the names before it are only unused
    let old = hash(period.wrapping_sub(2));
    checked(&old, operation)?;
    Ok([old, line.seq.clone(), hash(period.wrapping_add(1)), hash(period), hash(period.wrapping_sub(1))])
}

/// How long a period's hash is kept, in ms.
fn keep(span: Duration, operation: &'static str) -> Result<u64> {
    Ok(millis(span, operation)?.saturating_mul(2))
}

/// A tag's field in a hash, as in messages.
fn field(tag: u64) -> String {
    format!("{tag:016x}")
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
