//! [`Bus`] without messages: changes are numbered, and the beat tells.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::{
    Applied, Beat, Bus, BusEvent, CacheService, Change, Error, ErrorKind, Frame, Generations, Header, Line, Listener,
    NodeId, Result, Stamp, State, check_key, check_ttl, check_value,
};

use crate::Memcached;
use crate::item::{Edit, Item, Slot, Until};
use crate::leases::{rewritten, unleased};
use crate::reply::Reply;
use crate::request::{Request, When};
use crate::sequence::{Run, SEQ_TTL, number, raised_to};
use crate::service::Attempt;

/// How many keys of a change go out together.
const CHUNK: usize = 400;

#[async_trait]
impl Bus for Memcached {
    async fn change(&self, line: &Line, _node: NodeId, keys: &[&str], change: Change) -> Result<Applied> {
        self.run("change", async |attempt| {
            keys.iter().try_for_each(|key| check_key(key))?;
            check_key(&line.seq)?;
            if keys.is_empty() {
                return Err(Error::new(ErrorKind::Invalid, "a change needs a key"));
            }
            let distinct: Vec<&str> = keys.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
            match change {
                Change::Delete => self.in_parts(line, &distinct, attempt, Request::delete_any).await,
                Change::Hold { hold } => {
                    let hold = check_ttl(hold)?;
                    let deadline = self.time().now_ms().saturating_add(hold);
                    let tombstone = Bytes::copy_from_slice(&Frame::tombstone(deadline));
                    let expiry = self.time().expiry(hold);
                    self.in_parts(line, &distinct, attempt, |request, key| {
                        request.set(key, &tombstone, expiry, When::Always)
                    })
                    .await
                }
                Change::Soften { grace } => self.soften(line, &distinct, check_ttl(grace)?, attempt).await,
                Change::Put { frame, ttl } => {
                    let (key, ttl) = self.check_put(keys, &frame, ttl)?;
                    // replaced, not deleted first: nobody finds the key missing in between
                    let put = Request::default().head(key).set(key, &frame, self.time().expiry(ttl), When::Always);
                    let [head, stored, mut raised] = self.ask(put.increment(&line.seq), attempt).await?;
                    let stored = matches!(stored, Reply::Done(_));
                    if !stored {
                        let gone = Request::default().delete(key, None).increment(&line.seq);
                        let [_, again] = self.ask(gone, attempt).await?;
                        raised = again;
                    }
                    let n = self.numbered(line, &raised, attempt).await?;
                    Ok(Applied { n, stored, kept: false, removed: u64::from(self.slot(head)?.live().is_some()) })
                }
                Change::PutNewer { frame, ttl } => {
                    let (key, ttl) = self.check_put(keys, &frame, ttl)?;
                    self.put_newer(line, key, frame, ttl, attempt).await
                }
                Change::Swap { seen, frame, ttl } => {
                    let (key, ttl) = self.check_put(keys, &frame, ttl)?;
                    self.if_seen(line, key, attempt, |held| {
                        let answer = Some((true, u64::from(held.is_some())));
                        let store = Edit::Store(frame.clone(), Until::Ttl(ttl), answer);
                        if may_swap(held, seen) { store } else { Edit::Leave(None) }
                    })
                    .await
                }
                Change::DeleteSeen { seen } => {
                    let [key] = keys else {
                        return Err(Error::new(ErrorKind::Invalid, "what was seen is one key's; name exactly one"));
                    };
                    self.if_seen(line, key, attempt, |held| {
                        let there = held.is_some() && seen != Stamp::NONE && may_swap(held, seen);
                        if there { Edit::Remove(Some((false, 1))) } else { Edit::Leave(None) }
                    })
                    .await
                }
                _ => Err(Error::new(ErrorKind::Invalid, "memcached does not know this kind of change")),
            }
        })
        .await
    }

    async fn bump(&self, line: &Line, _node: NodeId, tag: u64, _period: u64, span: Duration) -> Result<u64> {
        self.run("bump", async |attempt| {
            check_key(&line.seq)?;
            self.bump_tag(line, tag, span, attempt).await
        })
        .await
    }

    async fn generations(&self, line: &Line, tags: &[u64], _period: u64, span: Duration) -> Result<Generations> {
        self.run("generations", async |attempt| {
            check_key(&line.seq)?;
            self.tag_generations(line, tags, span, attempt).await
        })
        .await
    }

    async fn beat(&self, line: &Line) -> Result<Beat> {
        self.run("beat", async |attempt| {
            check_key(&line.seq)?;
            let request = Request::default().get_and_touch(&line.seq, SEQ_TTL).stats("");
            let [last, run] = self.ask(request, attempt).await?;
            let run = Run::of(run)?;
            self.time().learn(run.time_s);
            let (seq, created) = match number(&self.slot(last)?) {
                Some(last) => (last, false),
                None => self.sequence(&line.seq, attempt).await?,
            };
            Ok(Beat { seq: Some(seq), created, server_ms: self.time().now_ms(), run: run.id() })
        })
        .await
    }

    async fn subscribe(&self, _lines: &[Line]) -> Result<Box<dyn Listener>> {
        Ok(Box::new(Silence))
    }

    fn publishes(&self) -> bool {
        false
    }
}

/// A subscription to a store that sends no messages.
struct Silence;

#[async_trait]
impl Listener for Silence {
    async fn next(&mut self) -> Option<BusEvent> {
        std::future::pending().await
    }
}

impl Request {
    fn delete_any(self, key: &str) -> Self {
        self.delete(key, None)
    }
}

impl Memcached {
    /// Changes keys without looking at what they hold, then takes a number: in one round trip if the keys are few.
    async fn in_parts(
        &self,
        line: &Line,
        keys: &[&str],
        attempt: Attempt,
        change: impl Fn(Request, &str) -> Request + Send + Sync,
    ) -> Result<Applied> {
        let (mut removed, mut n) = (0, 0);
        let last = keys.len().div_ceil(CHUNK);
        for (part, chunk) in keys.chunks(CHUNK).enumerate() {
            let mut request = chunk.iter().fold(Request::default(), |request, key| change(request.head(key), key));
            let is_last = part + 1 == last;
            if is_last {
                request = request.increment(&line.seq);
            }
            let mut replies = self.ask_all(request, attempt).await?;
            let raised = if is_last { replies.pop() } else { None };
            removed += self.count_held(replies)?;
            if let Some(raised) = raised {
                n = self.numbered(line, &raised, attempt).await?;
            }
        }
        Ok(Applied { n, stored: false, kept: false, removed })
    }

    /// How many keys held something, by the answers to pairs of `head` and a change.
    fn count_held(&self, replies: Vec<Reply>) -> Result<u64> {
        let mut held = 0;
        let mut replies = replies.into_iter();
        while let (Some(head), Some(done)) = (replies.next(), replies.next()) {
            held += u64::from(matches!(self.slot(head)?, Slot::Live(_)));
            if let Reply::Refused(error) = done {
                return Err(error);
            }
        }
        Ok(held)
    }

    /// The number of a change that was made already.
    async fn numbered(&self, line: &Line, raised: &Reply, attempt: Attempt) -> Result<u64> {
        match raised_to(raised) {
            Some(n) => Ok(n),
            None => self.next(&line.seq, attempt).await,
        }
    }

    fn check_put<'a>(&self, keys: &[&'a str], frame: &Bytes, ttl: Duration) -> Result<(&'a str, u64)> {
        let [key] = keys else {
            return Err(Error::new(ErrorKind::Invalid, "a put takes exactly one key"));
        };
        check_value(frame.len(), self.max_value())?;
        Ok((key, check_ttl(ttl)?))
    }

    async fn soften(&self, line: &Line, keys: &[&str], grace: u64, attempt: Attempt) -> Result<Applied> {
        let mut removed = 0;
        for chunk in keys.chunks(CHUNK) {
            let request = chunk.iter().fold(Request::default(), |request, key| request.get(key));
            for (key, reply) in chunk.iter().zip(self.ask_all(request, attempt).await?) {
                let slot = self.slot(reply)?;
                let held = self
                    .edit_from(slot, key, attempt, |held| {
                        let Some(item) = held else { return Ok(Edit::Leave(false)) };
                        Ok(match Header::parse(&item.value) {
                            Ok(header) if is_value(&header) => {
                                Edit::Store(rewritten(&unleased(header), &item.value), Until::AtMost(grace), true)
                            }
                            _ => Edit::Remove(true),
                        })
                    })
                    .await?;
                removed += u64::from(held);
            }
        }
        Ok(Applied { n: self.next(&line.seq, attempt).await?, stored: false, kept: false, removed })
    }

    async fn put_newer(&self, line: &Line, key: &str, frame: Bytes, ttl: u64, attempt: Attempt) -> Result<Applied> {
        let offered = Header::parse(&frame).map_err(|fault| Error::new(ErrorKind::Invalid, fault.to_string()))?;
        let applied = self.if_seen(line, key, attempt, |held| {
            let header = held.and_then(|item| Header::parse(&item.value).ok());
            if header.is_some_and(|header| is_value(&header) && header.row >= offered.row) {
                return Edit::Leave(None);
            }
            Edit::Store(frame.clone(), Until::Ttl(ttl), Some((true, u64::from(held.is_some()))))
        });
        let applied = applied.await?;
        // who polls asks for numbers alone, so the newer one's is given here
        Ok(if applied.kept { Applied { n: self.next(&line.seq, attempt).await?, ..applied } } else { applied })
    }

    /// Changes a key or leaves it; takes a number if it was changed. `decide` says whether a value is stored, and how
    /// many keys held something, or `None` if it is left.
    async fn if_seen(
        &self,
        line: &Line,
        key: &str,
        attempt: Attempt,
        mut decide: impl FnMut(Option<&Item>) -> Edit<Option<(bool, u64)>> + Send,
    ) -> Result<Applied> {
        let Some((stored, removed)) = self.edit(key, attempt, |held| Ok(decide(held))).await? else {
            return Ok(Applied::NOTHING);
        };
        Ok(Applied { n: self.next(&line.seq, attempt).await?, stored, kept: false, removed })
    }
}

/// Whether a swap that saw the stamp `seen` may go on.
fn may_swap(held: Option<&Item>, seen: Stamp) -> bool {
    match held.and_then(|item| Header::parse(&item.value).ok()) {
        Some(header) if matches!(header.state, State::Value | State::Negative) => {
            seen != Stamp::NONE && header.stamp == seen
        }
        Some(header) => header.state != State::Tombstone && seen == Stamp::NONE,
        None => seen == Stamp::NONE,
    }
}

/// Whether the frame holds a value, be it negative or stale.
fn is_value(header: &Header) -> bool {
    !matches!(header.state, State::Lease | State::Tombstone)
}
