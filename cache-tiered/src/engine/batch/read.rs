//! The read phase of a batch: one far round trip a line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_core::observe::Metric;
use cache_core::{Entry, ErrorKind, Found, Header, Result, State, Tick};
use tokio::time::timeout_at;

use super::super::Far;
use super::super::pauses::Why;
use super::super::read::ReadToLoad;
use super::{Ask, Batch, Led, join_all};
use crate::answer::Tier;

/// Flights that the far store left to be loaded, each with the time for which nobody is to load its key.
#[derive(Default)]
pub(super) struct Missing {
    /// The far store does not hold them.
    pub(super) leased: Vec<(Led, Duration)>,
    /// The far store could not tell.
    pub(super) cut_off: Vec<(Led, Duration)>,
    /// When the far store had answered, or before.
    answered: Tick,
}

impl Batch<'_> {
    /// Reads what this call leads. Ends what was found, and if nothing is loaded also what was not; the rest is missing.
    pub(super) async fn read(&mut self, leads: Vec<Led>) -> Missing {
        let mut missing = Missing::default();
        let Some(far) = &self.engine.far else {
            missing.leased = leads.into_iter().map(|led| (led, Duration::ZERO)).collect();
            return missing;
        };
        let mut lines: BTreeMap<usize, Vec<Led>> = BTreeMap::new();
        if self.engine.lines.len() == 1 && leads.iter().all(|led| led.ask == Ask::Read) {
            // as most batches are; nothing is moved
            let lines = if leads.is_empty() { Vec::new() } else { vec![leads] };
            return self.read_lines(far, lines, missing).await;
        }
        for led in leads {
            match led.ask {
                Ask::Read => lines.entry(led.at.line).or_default().push(led),
                Ask::Missed => missing.leased.push((led, Duration::ZERO)),
                Ask::CutOff => missing.cut_off.push((led, Duration::ZERO)),
            }
        }
        self.read_lines(far, lines.into_values().collect(), missing).await
    }

    async fn read_lines(&mut self, far: &Far, lines: Vec<Vec<Led>>, mut missing: Missing) -> Missing {
        let asking = join_all(lines.iter().map(|leads| self.ask(far, leads)));
        let answers = match self.patience(&lines) {
            None => asking.await,
            Some((soft, throttle)) => match timeout_at(self.called + soft, asking).await {
                Ok(answers) => answers,
                // the flights' task asks again, beside the callers' fallbacks
                Err(_) => {
                    for led in lines.into_iter().flatten() {
                        self.engine.pauses.rest(&led.at.near, self.engine.clock.now() + throttle, Why::Late);
                        missing.leased.push((led, Duration::ZERO));
                    }
                    return missing;
                }
            },
        };
        missing.answered = self.engine.clock.now();
        for (leads, (sent, frames)) in lines.into_iter().zip(answers) {
            match frames {
                Ok(frames) => {
                    let mut frames = frames.into_iter();
                    for led in leads {
                        tokio::task::consume_budget().await;
                        if let Some((led, frame)) = self.found_at_once(led, frames.next().flatten(), sent, &mut missing)
                        {
                            self.found(led, frame, sent, &mut missing).await;
                        }
                    }
                }
                Err(error) => {
                    for led in leads {
                        self.ended(led, Err(error.clone()), &mut missing);
                    }
                }
            }
        }
        missing
    }

    /// How long the far store is waited for, counted from the call, if there is something near to serve for every key that
    /// is asked for, and the throttle then. For one that has nothing the call has to wait in any case.
    fn patience(&self, lines: &[Vec<Led>]) -> Option<(Duration, Duration)> {
        let policy = &self.space.policy;
        let (soft, fail_safe) = policy.timeouts.soft.zip(policy.fail_safe).filter(|_| self.may_fall_back())?;
        let served = |led: &Led| self.engine.near_fallback(&led.at.near, self.space).is_some();
        lines.iter().flatten().all(served).then_some((soft, fail_safe.throttle))
    }

    async fn ask(&self, far: &Far, leads: &[Led]) -> (Tick, Result<Vec<Option<Bytes>>>) {
        let engine = self.engine;
        let sent = engine.clock.now();
        let keys: Vec<&str> = leads.iter().map(|led| &*led.at.far).collect();
        let frames = far.call(&engine.clock, &engine.counters, far.leases().read_many(&keys)).await;
        (sent, frames)
    }

    /// Ends a flight that found nothing, or what can be judged at once, as most do; what it is else is returned.
    fn found_at_once(
        &mut self,
        led: Led,
        frame: Option<Bytes>,
        sent: Tick,
        missing: &mut Missing,
    ) -> Option<(Led, Bytes)> {
        let Some(mut frame) = frame else {
            self.ended(led, Ok(None), missing);
            return None;
        };
        if led.suspect.is_some() {
            return Some((led, frame));
        }
        match self.engine.take_at_once(&led.at, &mut frame, sent, self.space) {
            Some(entry) => {
                self.ended(led, Ok(Some((entry, Tier::Far))), missing);
                None
            }
            None => Some((led, frame)),
        }
    }

    /// Ends a flight that found `frame`, after a closer look.
    async fn found(&mut self, led: Led, mut frame: Bytes, sent: Tick, missing: &mut Missing) {
        let engine = self.engine;
        // the near entry that the far store still holds is decoded already
        if let Some(suspect) = &led.suspect
            && let Ok(header) = Header::parse(&frame)
            && header.stamp == suspect.header().stamp
            && matches!(header.state, State::Value | State::Negative)
        {
            match engine.tags_valid(suspect.header(), suspect.tags()).await {
                Ok(true) => {
                    engine.counters.count(Metric::Revalidated);
                    let entry = Arc::clone(suspect);
                    return self.ended(led, Ok(Some((entry, Tier::Near))), missing);
                }
                Ok(false) => {}
                Err(error) => return self.ended(led, Err(error), missing),
            }
        }
        if let Some(entry) = engine.take_at_once(&led.at, &mut frame, sent, self.space) {
            return self.ended(led, Ok(Some((entry, Tier::Far))), missing);
        }
        let found = Found { frame, left: None };
        if self.loader.is_none() {
            let read = engine.take(&led.at, &found, sent, self.space).await;
            return self.ended(led, read.map(|found| found.map(|entry| (entry, Tier::Far))), missing);
        }
        match engine.take_to_load(&led.at, led.lead.flight(), &found, sent, self.space).await {
            Ok(ReadToLoad::Found(entry, tier)) => self.ended(led, Ok(Some((entry, tier))), missing),
            Ok(ReadToLoad::Missed(rest)) => missing.leased.push((led, rest)),
            Err(error) => self.ended(led, Err(error), missing),
        }
    }

    /// Ends a flight with what was read, unless it goes on to load.
    fn ended(&mut self, led: Led, read: Result<Option<(Arc<Entry>, Tier)>>, missing: &mut Missing) {
        let loads = self.loader.is_some();
        match read {
            Ok(None) if loads => missing.leased.push((led, Duration::ZERO)),
            Err(error) if loads && error.kind() != ErrorKind::Invalid => missing.cut_off.push((led, Duration::ZERO)),
            read => {
                let Led { index, at, lead, .. } = led;
                self.results[index] = self.engine.end_read(missing.answered, &at, lead, self.space, read).into_result();
            }
        }
    }
}
