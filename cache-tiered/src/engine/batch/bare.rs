//! Reading one key or many where there is no near store.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use cache_core::{Entry, Found, Frame, Header, Result, Stamp, Tags, Tick};

use super::{Results, join_all};
use crate::answer::{Served, Tier};
use crate::engine::trust::Footing;
use crate::engine::{Engine, Far};
use crate::space::Space;

/// The far names of some keys of a call, in one buffer.
#[derive(Debug)]
pub(crate) struct FarNames {
    text: String,
    names: Vec<Name>,
}

#[derive(Debug)]
struct Name {
    line: usize,
    end: usize,
}

impl FarNames {
    /// Room for `keys` keys, most of them no longer than `longest` bytes.
    pub(crate) fn with_capacity(keys: usize, longest: usize) -> Self {
        Self { text: String::with_capacity(keys * (longest + 16)), names: Vec::with_capacity(keys) }
    }

    /// Adds the key whose near form is `near`.
    fn push(&mut self, engine: &Engine, near: &str) -> Result<()> {
        let line = engine.names.append_far(near, &mut self.text)?;
        self.names.push(Name { line, end: self.text.len() });
        Ok(())
    }

    /// Adds a plain key, which was [checked](cache_core::check_key).
    pub(crate) fn push_plain(&mut self, engine: &Engine, key: &str) -> Result<()> {
        let line = engine.names.append_far_of_plain(key, &mut self.text)?;
        self.names.push(Name { line, end: self.text.len() });
        Ok(())
    }

    /// Line and name of each.
    fn iter(&self) -> impl ExactSizeIterator<Item = (usize, &str)> {
        let mut begin = 0;
        self.names.iter().map(move |name| {
            let text = self.text.get(begin..name.end).unwrap_or_default();
            begin = name.end;
            (name.line, text)
        })
    }
}

/// What a caller makes of what was read.
pub(crate) trait Take: Sync {
    type Out: Send;

    /// The key space that is read.
    fn space(&self) -> &Space;

    /// Of a value as it came, whose payload begins at `payload`; `None` leaves the frame as it is, for a closer look.
    fn plain(&self, header: Header, frame: &mut Bytes, payload: usize) -> Option<Self::Out>;

    /// Of what a closer look admitted.
    fn entry(&self, entry: Arc<Entry>) -> Self::Out;
}

/// Takes entries.
pub(crate) struct Entries<'a>(pub(crate) &'a Space);

impl Take for Entries<'_> {
    type Out = Served;

    fn space(&self) -> &Space {
        self.0
    }

    fn plain(&self, header: Header, frame: &mut Bytes, payload: usize) -> Option<Served> {
        // a read makes its ttl count anew, for which its times have to be known
        if self.0.policy.sliding.is_some() {
            return None;
        }
        let frame = Frame { header, tags: Tags::default(), payload: frame.slice(payload..) };
        // stands in no near store: nobody asks for its deadline
        let entry = Entry::new(frame, Tick::ZERO);
        (self.0.accepts)(&entry).then(|| self.entry(Arc::new(entry)))
    }

    fn entry(&self, entry: Arc<Entry>) -> Served {
        Served::fresh(entry, Tier::Far)
    }
}

/// Takes plain bytes that carry the id of one codec.
pub(crate) struct Payloads<'a> {
    pub(crate) space: &'a Space,
    pub(crate) codec: u32,
}

impl Take for Payloads<'_> {
    type Out = Bytes;

    fn space(&self) -> &Space {
        self.space
    }

    fn plain(&self, header: Header, frame: &mut Bytes, payload: usize) -> Option<Bytes> {
        if header.codec != self.codec {
            return None;
        }
        let mut bytes = std::mem::take(frame);
        bytes.advance(payload);
        Some(bytes)
    }

    fn entry(&self, entry: Arc<Entry>) -> Bytes {
        entry.payload().clone()
    }
}

/// What became of each key of a call, in order.
type Reads<T> = Vec<Result<Option<T>>>;

impl Engine {
    /// Reads `keys` from the far store.
    pub(super) async fn read_bare(&self, keys: &[Arc<str>], space: &Space) -> Results {
        let mut results: Results = Vec::with_capacity(keys.len());
        let mut names = FarNames::with_capacity(keys.len(), keys.first().map_or(0, |key| key.len()));
        for key in keys {
            results.push(self.open().and_then(|()| names.push(self, key)).map(|()| None));
        }
        let reads = self.read_names(&names, &Entries(space)).await;
        // what has no name has its error already
        for (result, read) in results.iter_mut().filter(|result| result.is_ok()).zip(reads) {
            *result = read;
        }
        results
    }

    /// Reads what stands under `names` in the far store, one round trip a line, without a flight for each: nothing is
    /// installed, so there is nothing to fence. What was read is told to the flights that others have under way.
    pub(crate) async fn read_names<T: Take>(&self, names: &FarNames, take: &T) -> Reads<T::Out> {
        let Some(far) = &self.far else { return names.iter().map(|_| Ok(None)).collect() };
        if self.lines.len() == 1 {
            let names: Vec<&str> = names.iter().map(|(_, name)| name).collect();
            return if names.is_empty() { Vec::new() } else { self.read_line(far, 0, &names, take).await };
        }
        let mut reads: Reads<T::Out> = names.iter().map(|_| Ok(None)).collect();
        let mut lines: BTreeMap<usize, (Vec<usize>, Vec<&str>)> = BTreeMap::new();
        for (place, (line, name)) in names.iter().enumerate() {
            let (places, names) = lines.entry(line).or_default();
            places.push(place);
            names.push(name);
        }
        let answers = join_all(lines.iter().map(|(line, (_, names))| self.read_line(far, *line, names, take))).await;
        for ((places, _), answers) in lines.values().zip(answers) {
            for (place, answer) in places.iter().zip(answers) {
                if let Some(read) = reads.get_mut(*place) {
                    *read = answer;
                }
            }
        }
        reads
    }

    /// As [`read_name`](Self::read_name), for the key whose near form is `near`.
    pub(crate) async fn read_one<T: Take>(&self, near: &str, take: &T) -> Result<Option<T::Out>> {
        self.open()?;
        let mut name = String::with_capacity(near.len() + 64);
        let line = self.names.append_far(near, &mut name)?;
        self.read_name(line, name, take).await
    }

    /// As [`read_names`](Self::read_names), for one key of an open cache, that stands under `name` on `line`.
    ///
    /// Reads of a key do not join each other: what a flight costs is more than what a store takes for a read that shares
    /// its request with others.
    pub(crate) async fn read_name<T: Take>(&self, line: usize, name: String, take: &T) -> Result<Option<T::Out>> {
        let Some(far) = &self.far else { return Ok(None) };
        let mut sent = self.clock.now();
        if sent >= self.trust_until(line) {
            if self.footing(line).await == Footing::CutOff {
                return Err(self.unreachable());
            }
            sent = self.clock.now();
        }
        let Some(mut frame) = far.read(&self.clock, &self.counters, far.store().get(&name)).await? else {
            return Ok(None);
        };
        let past = self.time.surely_past(&self.clock, sent);
        let stands = |header: &Header| header.s0 >= self.lines[0].view.stands_from();
        let plain = far.packing().plain(&name, &frame);
        let plain = plain.filter(|(header, _)| !self.floors.any() && header.soft_exp > past && stands(header));
        let read = plain.and_then(|(header, at)| Some((take.plain(header, &mut frame, at)?, header.stamp)));
        let read = match read {
            Some(read) => Some(read),
            None => {
                let entry = Box::pin(self.take_closer(line, &name, frame, sent, take.space())).await?;
                entry.map(|entry| (take.entry(Arc::clone(&entry)), entry.header().stamp))
            }
        };
        Ok(read.map(|(out, stamp)| {
            if !self.flights.is_empty() {
                self.flights.contest(self.names.near_of(line, &name).map(|near| (near, stamp)));
            }
            out
        }))
    }

    async fn read_line<T: Take>(&self, far: &Far, line: usize, names: &[&str], take: &T) -> Reads<T::Out> {
        if self.footing(line).await == Footing::CutOff {
            return names.iter().map(|_| Err(self.unreachable())).collect();
        }
        let sent = self.clock.now();
        let frames = match far.call(&self.clock, &self.counters, far.leases().read_many(names)).await {
            Ok(frames) => frames,
            Err(error) => return names.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut told: Vec<(&str, Stamp)> = Vec::with_capacity(names.len());
        let (mut reads, odd) = self.take_plain(far, names, frames, sent, take, &mut told);
        for (place, frame) in odd {
            let (Some(name), Some(read)) = (names.get(place), reads.get_mut(place)) else { continue };
            let taken = self.take_closer(line, name, frame, sent, take.space()).await;
            if let Ok(Some(entry)) = &taken {
                told.push((name, entry.header().stamp));
            }
            *read = taken.map(|entry| entry.map(|entry| take.entry(entry)));
        }
        if !self.flights.is_empty() {
            let near = |(name, stamp)| Some((self.names.near_of(line, name)?, stamp));
            self.flights.contest(told.into_iter().filter_map(near));
        }
        reads
    }

    /// Takes what needs no second look: whole, in time, untagged, of the space's codec. And what needs one, by place.
    fn take_plain<'a, T: Take>(
        &self,
        far: &Far,
        names: &[&'a str],
        frames: Vec<Option<Bytes>>,
        sent: Tick,
        take: &T,
        told: &mut Vec<(&'a str, Stamp)>,
    ) -> (Reads<T::Out>, Vec<(usize, Bytes)>) {
        let (mut reads, mut odd) = (Vec::with_capacity(names.len()), Vec::new());
        let past = self.time.surely_past(&self.clock, sent);
        // what no floor is raised for needs no near form
        let closer = self.floors.any();
        let stands_from = self.lines[0].view.stands_from();
        let plain = far.packing().plain_many(names, &frames);
        for (place, ((name, frame), plain)) in names.iter().zip(frames).zip(plain).enumerate() {
            let mut read = None;
            if let Some(mut frame) = frame {
                if let Some((header, at)) = plain
                    && !closer
                    && header.s0 >= stands_from
                    && header.soft_exp > past
                {
                    read = take.plain(header, &mut frame, at);
                    if read.is_some() {
                        told.push((name, header.stamp));
                    }
                }
                if read.is_none() {
                    odd.push((place, frame));
                }
            }
            reads.push(Ok(read));
        }
        // a store that answers for fewer keys than it was asked for
        reads.resize_with(names.len(), || Ok(None));
        (reads, odd)
    }

    async fn take_closer(
        &self,
        line: usize,
        name: &str,
        frame: Bytes,
        sent: Tick,
        space: &Space,
    ) -> Result<Option<Arc<Entry>>> {
        let Some(near) = self.names.near_of(line, name) else { return Ok(None) };
        self.take(&self.place(&near)?, &Found { frame, left: None }, sent, space).await
    }
}
