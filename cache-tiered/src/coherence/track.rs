//! One line of changes as a process has seen it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use cache_core::{Beat, Generations, Tick, envelope};

use super::mutate::{Mutation, broken};

/// The most changes remembered beyond a gap. Past it the next beat begins an epoch, whatever it says.
const MOST_AHEAD: usize = 1 << 16;

/// The most tags of which something is remembered: about 10 MB.
const MOST_TAGS: usize = 1 << 18;

/// What a process knows of one line of changes.
///
/// The caller applies a change in this order: purge its keys, then [`mark`](Self::mark) its number. So "everything up
/// to the mark was applied" implies that the near store holds nothing older.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Track {
    bound: Duration,
    epoch: u64,
    /// Everything up to here was applied; `None` before the first beat.
    base: Option<u64>,
    /// Applied numbers beyond a gap.
    ahead: BTreeSet<u64>,
    overflowed: bool,
    /// The base at which the epoch began.
    epoch_start: u64,
    trust_until: Tick,
    run: Option<u64>,
    tags: Tags,
}

/// The tag generations that a process knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tags {
    /// The last bump of each tag, as far as known.
    bumps: HashMap<u64, u64>,
    /// The tags whose generation was asked for in this epoch, so that `bumps` speaks for the time before it too.
    asked: BTreeSet<u64>,
    /// Entries with a lower `s0` can't be judged.
    floor: u64,
}

impl std::hash::Hash for Tags {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let mut bumps: Vec<_> = self.bumps.iter().collect();
        bumps.sort_unstable();
        bumps.hash(state);
        self.asked.hash(state);
        self.floor.hash(state);
    }
}

/// What was known when a beat left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BeatTicket {
    sent: Tick,
    base: Option<u64>,
}

impl BeatTicket {
    /// The moment at which the beat was sent.
    #[must_use]
    pub const fn sent(self) -> Tick {
        self.sent
    }
}

/// Why an epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bump {
    /// The first beat of this process.
    First,
    /// Changes were missed.
    Gap,
    /// The sequence was missing, or went back.
    Reset,
    /// The server was restarted or replaced: changes that this process made may be lost there.
    Run,
}

/// What the reply to a beat means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Trust was renewed.
    Trusted,
    /// Some changes have not arrived; ask again after a short grace.
    Wait,
    /// An epoch began, and trust was renewed.
    Bumped(Bump),
    /// The store has no sequence; trust is left to lapse.
    Untrusted,
}

/// Whether an entry's tags still stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judged {
    /// None was bumped since the entry's load began.
    Valid,
    /// One was, or it can't be excluded.
    Invalid,
    /// The entry is older than the epoch: ask the far store for these tags' generations first.
    Ask,
}

impl Track {
    /// A track that knows nothing yet; near entries are trusted for `bound` from each beat.
    #[must_use]
    pub fn new(bound: Duration) -> Self {
        Self {
            bound,
            epoch: 1,
            base: None,
            ahead: BTreeSet::new(),
            overflowed: false,
            epoch_start: 0,
            trust_until: Tick::ZERO,
            run: None,
            tags: Tags::default(),
        }
    }

    /// A track without a far store: always trusted, numbered by the caller.
    #[must_use]
    pub fn local() -> Self {
        Self { base: Some(0), trust_until: Tick::NEVER, ..Self::new(Duration::ZERO) }
    }

    /// The epoch: entries of another one are revalidated before they are served.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The moment from which near entries aren't trusted.
    #[must_use]
    pub const fn trust_until(&self) -> Tick {
        self.trust_until
    }

    /// The number up to which every change was applied: `s0` of a load that begins now.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.base.unwrap_or(0)
    }

    /// The server's run as of the last beat that began an epoch.
    #[must_use]
    pub const fn run(&self) -> Option<u64> {
        self.run
    }

    /// Whether the change `n` was applied. An unnumbered change (0) never was.
    #[must_use]
    pub fn knows(&self, n: u64) -> bool {
        n != 0 && (self.base.is_some_and(|base| n <= base) || self.ahead.contains(&n))
    }

    /// Marks the change `n` applied; its keys are already purged.
    pub fn mark(&mut self, n: u64) {
        if n == 0 || self.knows(n) {
            return;
        }
        if self.ahead.len() >= MOST_AHEAD {
            self.overflowed = true;
            return;
        }
        self.ahead.insert(n);
        self.close_up();
    }

    /// Numbers a change of a [`local`](Self::local) track and marks it applied.
    pub fn number(&mut self) -> u64 {
        let n = self.applied() + 1;
        self.mark(n);
        n
    }

    /// Remembers the bump `n` of `tag` and marks it applied. An unnumbered one can't be compared with any entry: an
    /// epoch begins at once, in which nothing loaded so far is judged without the far store.
    pub fn bump(&mut self, n: u64, tag: u64) {
        if n == 0 {
            if !broken(Mutation::UnnumberedIgnored) {
                self.suspect_all();
                self.epoch_start = self.applied() + 1;
            }
            return;
        }
        if !broken(Mutation::NoTagBump) {
            let last = self.tags.bumps.entry(tag).or_insert(0);
            *last = n.max(*last);
        }
        self.mark(n);
        // a bump at a time comes here, so that what lies beyond a gap is kept until the gap is closed
        if self.tags.bumps.len() > MOST_TAGS && self.applied() > self.epoch_start {
            self.suspect_all();
            self.forget_tags();
        }
    }

    /// Forgets what is known of tags from before the epoch: for entries that are older the far store is asked again, and
    /// where there is none they are not served.
    fn forget_tags(&mut self) {
        let start = self.epoch_start;
        self.tags.bumps.retain(|_, n| *n > start);
        self.tags.asked.clear();
    }

    fn close_up(&mut self) {
        let Some(mut base) = self.base else { return };
        while self.ahead.remove(&(base + 1)) {
            base += 1;
        }
        self.base = Some(base);
    }

    /// Notes that a beat leaves at `now`.
    #[must_use]
    pub const fn beat_sent(&self, now: Tick) -> BeatTicket {
        BeatTicket { sent: now, base: self.base }
    }

    /// Judges the reply to a beat. `patient` allows [`Verdict::Wait`]; `now` is when the reply is judged.
    pub fn beat_reply(&mut self, ticket: BeatTicket, beat: &Beat, now: Tick, patient: bool) -> Verdict {
        let Some(high) = beat.seq else { return Verdict::Untrusted };
        let from = if broken(Mutation::TrustFromReply) { now } else { ticket.sent };
        let reason = self.reason(ticket, beat, high);
        match reason {
            None if self.base.is_some_and(|base| base >= high) => {
                self.renew(from);
                return Verdict::Trusted;
            }
            None if patient && !self.overflowed => return Verdict::Wait,
            None if broken(Mutation::IgnoreGap) => {
                self.renew(from);
                return Verdict::Trusted;
            }
            Some(_) | None => {}
        }
        let reason = reason.unwrap_or(Bump::Gap);
        if !(broken(Mutation::GapNoEpoch) && reason == Bump::Gap) {
            self.epoch += 1;
        }
        self.run = Some(beat.run);
        self.base = Some(high);
        self.epoch_start = high;
        self.overflowed = false;
        // numbers at or below the new base are covered by the epoch; those above it that another run, or another life of
        // the line, gave, will be given again
        self.ahead = self.ahead.split_off(&(high + 1));
        if reason == Bump::Reset || reason == Bump::Run && !broken(Mutation::RunKeepsNumbers) {
            self.ahead.clear();
        }
        self.close_up();
        self.tags.bumps.retain(|_, n| *n > high && reason != Bump::Reset);
        self.tags.asked.clear();
        self.tags.floor = 0;
        self.renew(from);
        Verdict::Bumped(reason)
    }

    /// Begins an epoch at once: a source without numbers says that anything may have changed.
    pub fn suspect_all(&mut self) {
        self.epoch += 1;
        self.tags.asked.clear();
        self.epoch_start = self.applied();
    }

    fn reason(&self, ticket: BeatTicket, beat: &Beat, high: u64) -> Option<Bump> {
        if self.base.is_none() {
            return Some(Bump::First);
        }
        if self.run.is_some_and(|run| run != beat.run) {
            return Some(Bump::Run);
        }
        if beat.created && !broken(Mutation::CreatedNoEpoch) {
            return Some(Bump::Reset);
        }
        // a reply may be late and its number low; only a number below what was known when it left is a step back
        let back = ticket.base.is_some_and(|base| high < base);
        (back && !broken(Mutation::IgnoreReset)).then_some(Bump::Reset)
    }

    fn renew(&mut self, from: Tick) {
        self.trust_until = self.trust_until.max(from + self.bound);
    }

    /// Whether an entry with these tags, whose load began at `s0`, still stands. Everything carries the tag
    /// [`ALL`](envelope::ALL).
    #[must_use]
    pub fn judge(&self, s0: u64, tags: &[u64]) -> Judged {
        let all = std::iter::once(&envelope::ALL).chain(tags);
        // what is known to be bumped needs no asking, whatever the epoch
        if all.clone().any(|tag| self.tags.bumps.get(tag).is_some_and(|n| *n > s0)) {
            return Judged::Invalid;
        }
        if s0 < self.epoch_start && !broken(Mutation::NoGenerations) {
            if !all.clone().all(|tag| self.tags.asked.contains(tag)) {
                return Judged::Ask;
            }
            if s0 < self.tags.floor && !broken(Mutation::IgnoreFloor) {
                return Judged::Invalid;
            }
        }
        Judged::Valid
    }

    /// The lowest `s0` with which an entry without tags is [`Valid`](Judged::Valid).
    #[must_use]
    pub fn stands_from(&self) -> u64 {
        let start = if broken(Mutation::NoGenerations) { 0 } else { self.epoch_start };
        let floor = if broken(Mutation::IgnoreFloor) { 0 } else { self.tags.floor };
        let start = if self.tags.asked.contains(&envelope::ALL) { start.min(floor) } else { start };
        start.max(self.cleared())
    }

    /// Learns the generations of `tags`, as asked in `epoch`. An answer of another epoch is dropped.
    pub fn learn(&mut self, epoch: u64, tags: &[u64], answer: &Generations) {
        if epoch != self.epoch {
            return;
        }
        if self.tags.asked.len() >= MOST_TAGS {
            self.forget_tags();
        }
        for (tag, n) in tags.iter().zip(&answer.bumps) {
            let last = self.tags.bumps.entry(*tag).or_insert(0);
            *last = (*n).max(*last);
            self.tags.asked.insert(*tag);
        }
        self.tags.floor = self.tags.floor.max(answer.floor);
    }

    /// The number of the last bump of everything, for [`View`](super::View).
    #[must_use]
    pub fn cleared(&self) -> u64 {
        self.tags.bumps.get(&envelope::ALL).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
