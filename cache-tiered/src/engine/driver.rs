//! The tokio driver of the coherence core: one task beats for each line, one listens.

use std::sync::Arc;
use std::time::Duration;

use cache_core::observe::Metric;
use cache_core::{Beat, Bus, BusEvent, Listener, Message, Result, Tick};

use super::Engine;
use super::work::Home;
use crate::coherence::mutate::{Mutation, broken};
use crate::coherence::{BeatTicket, Bump, Cause, Verdict};

/// How long a beat waits for messages that are still on their way before it calls them lost.
const GRACE: Duration = Duration::from_millis(10);

impl Engine {
    /// Beats for `line` for ever: on time, and when asked to.
    // the guard comes from outside: a task that never ran holds it too
    pub(crate) async fn beat_loop(self: Arc<Self>, line: usize, _home: Home) {
        loop {
            self.beat(line).await;
            let asked = self.lines[line].beat.notified();
            let _ = tokio::time::timeout(self.beat_span(), asked).await;
        }
    }

    /// Sends one beat and acts on its reply.
    pub(crate) async fn beat(&self, line: usize) {
        let Some((far, bus)) = self.far.as_ref().and_then(|far| far.bus().map(|bus| (far, bus))) else { return };
        let state = &self.lines[line];
        let ticket = self.track(line).beat_sent(self.clock.now());
        let answer = tokio::time::timeout(self.beat_span(), bus.beat(&state.names)).await;
        let now = self.clock.now();
        match answer {
            Ok(Ok(beat)) => {
                far.report(&self.clock, true);
                self.counters.count(Metric::Beat);
                self.counters.add(Metric::BeatLag, now.since(ticket.sent()).as_micros().try_into().unwrap_or(u64::MAX));
                if let Some(latest) = self.time.learn(beat.server_ms, ticket.sent(), now) {
                    self.floors.raise_all(latest.saturating_add(self.time_error()));
                }
                self.judge_beat(line, ticket, &beat).await;
                self.recover(line).await;
            }
            Ok(Err(_)) | Err(_) => {
                self.counters.count(Metric::BeatFailed);
                self.lapse(line, ticket);
            }
        }
    }

    async fn judge_beat(&self, line: usize, ticket: BeatTicket, beat: &Beat) {
        self.note_lapse(line, true);
        let mut verdict = self.judge(line, ticket, beat, true);
        if verdict == Verdict::Wait {
            tokio::time::sleep(GRACE).await;
            verdict = self.judge(line, ticket, beat, false);
        }
        match verdict {
            Verdict::Trusted | Verdict::Wait => {}
            Verdict::Untrusted => return self.lapse(line, ticket),
            Verdict::Bumped(reason) => {
                self.counters.count(Metric::EpochBump);
                match reason {
                    Bump::Gap => self.counters.count(Metric::Gap),
                    // acknowledged changes may be gone with the old server
                    Bump::Run | Bump::Reset if !broken(Mutation::NoReplay) => self.replay(line).await,
                    Bump::First | Bump::Run | Bump::Reset => {}
                }
                tracing::debug!(line, ?reason, "a new epoch begins");
            }
        }
        if self.clock.now() < self.trust_until(line) {
            self.lines[line].view.set_heard();
        }
        self.lines[line].verdict.notify_waiters();
    }

    fn judge(&self, line: usize, ticket: BeatTicket, beat: &Beat, patient: bool) -> Verdict {
        let now = self.clock.now();
        let mut track = self.track(line);
        let verdict = track.beat_reply(ticket, beat, now, patient);
        self.lines[line].view.publish(&track);
        verdict
    }

    /// A beat failed: once trust has ended, the process is cut off.
    fn lapse(&self, line: usize, ticket: BeatTicket) {
        self.note_lapse(line, false);
        let view = &self.lines[line].view;
        view.set_failing(ticket.sent() >= view.trust_until());
        self.lines[line].verdict.notify_waiters();
    }

    /// Counts that trust has run out, once for each time, as a beat's end shows it; an `answered` one may give it back.
    fn note_lapse(&self, line: usize, answered: bool) {
        let view = &self.lines[line].view;
        let until = view.trust_until();
        // before the first beat there was nothing that could run out
        let over = until != Tick::ZERO && self.clock.now() >= until;
        let noted = view.set_lapsed(over && !answered);
        if over && !noted {
            self.counters.count(Metric::TrustLapse);
            tracing::debug!(line, answered, "trust ran out");
        }
    }

    /// Opens the subscription that [`listen`](Self::listen) reads.
    pub(crate) async fn subscribe(&self, bus: &dyn Bus) -> Result<Box<dyn Listener>> {
        let lines: Vec<_> = self.lines.iter().map(|line| line.names.clone()).collect();
        bus.subscribe(&lines).await
    }

    /// Applies what the bus delivers, for ever.
    pub(crate) async fn listen(self: Arc<Self>, mut listener: Box<dyn Listener>) {
        while let Some(event) = listener.next().await {
            match event {
                BusEvent::Message { line, payload } => {
                    self.counters.count(Metric::BusMessage);
                    self.deliver(line, &payload);
                }
                BusEvent::Foreign { key } => self.foreign(key.as_deref()),
                // what was missed shows in the number of the next beat
                BusEvent::Lost => {}
                BusEvent::Restored => self.lines.iter().for_each(|line| line.beat.notify_one()),
            }
        }
    }

    /// Applies one message: purge first, then mark.
    pub(crate) fn deliver(&self, line: usize, payload: &[u8]) {
        let message = if line < self.lines.len() { Message::parse(payload) } else { None };
        match message {
            Some(Message::Keys { n, keys, .. }) => {
                if self.track(line).knows(n) {
                    return;
                }
                for key in &keys {
                    if let Some(near) = self.names.near_of(line, key) {
                        self.purge(&near, Cause::Message);
                    }
                }
                self.mark(line, n);
            }
            Some(Message::Tag { n, tag, .. }) => self.apply_bump(line, n, tag),
            Some(Message::Wake { key }) => {
                if let Some(near) = self.names.near_of(line, &key) {
                    self.flights.wake(&near);
                }
            }
            None => self.counters.count(Metric::BusForeign),
        }
    }

    /// A push without a number. It may be the echo of an own lease or fill, or another process's, so nothing is
    /// dropped: what is near is compared with the far store before it is served again.
    fn foreign(&self, key: Option<&str>) {
        match key {
            Some(key) => {
                let near = (0..self.lines.len()).find_map(|line| self.names.near_of(line, key));
                if let Some(near) = near {
                    self.doubt(&near);
                }
            }
            None => {
                for line in 0..self.lines.len() {
                    let mut track = self.track(line);
                    track.suspect_all();
                    self.lines[line].view.publish(&track);
                }
                self.counters.count(Metric::EpochBump);
            }
        }
    }

    /// Marks the change `n` applied.
    pub(crate) fn mark(&self, line: usize, n: u64) {
        let mut track = self.track(line);
        track.mark(n);
        self.lines[line].view.publish(&track);
    }

    /// Marks an own change applied that was acknowledged with `n`. It left in `run`: if another server was met since, the
    /// number may be of the old one, and the new one will give it to another change.
    pub(crate) fn mark_own(&self, line: usize, n: u64, run: Option<u64>) {
        let mut track = self.track(line);
        if track.run() == run || broken(Mutation::LateNumbers) {
            track.mark(n);
            self.lines[line].view.publish(&track);
        }
    }

    /// Remembers a tag's bump.
    pub(crate) fn apply_bump(&self, line: usize, n: u64, tag: u64) {
        let mut track = self.track(line);
        track.bump(n, tag);
        self.lines[line].view.publish(&track);
    }
}

#[cfg(test)]
mod tests;
