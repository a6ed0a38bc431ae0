//! What the promise demands of an answer: knowledge that no process has.

/// A line of the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rule {
    /// The far store holds nothing that was read before a removal that was executed.
    Far = 0,
    /// A process reads its own writes.
    Own = 1,
    /// Nothing is served that was invalidated more than the bound ago; in an outage, more than both bounds.
    Bound = 2,
    /// What a process is told of a key never goes back.
    Monotonic = 3,
    /// As the second and third, for tags.
    Tags = 4,
    /// After a strict write committed, nobody is told an older value, not even marked.
    Strict = 5,
    /// What stands in for a load is held to the same lines, but for writes that leave it as a fallback.
    Fallback = 6,
    /// A load ahead of time that comes to nothing takes nothing away.
    Kept = 7,
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// Invalidated the key.
    Key,
    /// Left the key's value as a fallback.
    Soft,
    /// Bumped the tag.
    Tag,
}

/// The least version that an answer may carry, by rule. Merged, where several callers wait for the same answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Need {
    /// Own writes.
    pub own: u8,
    /// Writes acknowledged longer ago than the bound.
    pub bound: u8,
    /// The same for an answer that is marked unconfirmed.
    pub loose: u8,
    /// What was told before.
    pub told: u8,
    /// Own bumps, and bumps acknowledged longer ago than the bound.
    pub tags: u8,
    /// The same for an answer that is marked unconfirmed.
    pub tags_loose: u8,
    /// Strict writes that were committed.
    pub strict: u8,
    /// Writes that leave no fallback, own and due.
    pub hard: u8,
}

impl Need {
    /// What satisfies both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            own: self.own.max(other.own),
            bound: self.bound.max(other.bound),
            loose: self.loose.max(other.loose),
            told: self.told.max(other.told),
            tags: self.tags.max(other.tags),
            tags_loose: self.tags_loose.max(other.tags_loose),
            strict: self.strict.max(other.strict),
            hard: self.hard.max(other.hard),
        }
    }
}

/// How an answer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// As fresh, or within the bound.
    Plain,
    /// As loaded from the origin while the far store could not be asked.
    Outage,
    /// Marked as unconfirmed.
    Unconfirmed,
    /// Marked as contended.
    Contended,
    /// Marked as standing in for a load.
    Fallback,
}

/// An acknowledged change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ack {
    version: u8,
    at: u8,
    what: What,
}

/// What was acknowledged, and what was violated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ghost {
    acks: Vec<Ack>,
    /// The last strict write that was committed.
    pub strict: u8,
    violated: u8,
}

impl Ghost {
    /// Notes that the change to `version` was acknowledged.
    pub fn ack(&mut self, version: u8, at: u8, what: What) {
        let covered = |ack: &Ack| ack.what == what && ack.version >= version;
        if version > 0 && !self.acks.iter().any(covered) {
            self.acks.retain(|ack| ack.what != what || ack.version > version || ack.at < at);
            self.acks.push(Ack { version, at, what });
        }
    }

    /// Forgets every acknowledgement above `version`: the store lost it.
    pub fn lost(&mut self, version: u8) {
        self.acks.retain(|ack| ack.version <= version);
    }

    /// The version that is due `span` after it was acknowledged.
    #[must_use]
    pub fn due(&self, now: u8, span: u8, what: What) -> u8 {
        let due = self.acks.iter().filter(|ack| ack.what == what && ack.at + span <= now);
        due.map(|ack| ack.version).max().unwrap_or(0)
    }

    /// Checks an answer.
    pub fn check(&mut self, need: Need, value: u8, how: How) {
        if how == How::Fallback {
            return self.note(Rule::Fallback, !Self::stands_in(need, value));
        }
        let marked = how == How::Unconfirmed;
        let (bound, tags) = if marked { (need.loose, need.tags_loose) } else { (need.bound, need.tags) };
        self.note(Rule::Own, value < need.own);
        self.note(Rule::Bound, value < bound);
        self.note(Rule::Tags, value < tags);
        self.note(Rule::Monotonic, how == How::Plain && value < need.told);
        self.note(Rule::Strict, value < need.strict);
    }

    /// Whether a fallback may be served to whoever may demand `need`.
    #[must_use]
    pub fn stands_in(need: Need, value: u8) -> bool {
        value >= need.hard && value >= need.tags_loose
    }

    /// Notes whether `rule` was violated.
    pub fn note(&mut self, rule: Rule, violated: bool) {
        self.violated |= u8::from(violated) << rule as u8;
    }

    /// Whether no answer violated `rule`.
    #[must_use]
    pub const fn holds(&self, rule: Rule) -> bool {
        self.violated & (1 << rule as u8) == 0
    }

    /// What still matters of it at `now`: acknowledgements that are long due differ only in their version.
    pub fn digest(&self, now: u8, spans: [u8; 2], into: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        for what in [What::Key, What::Soft, What::Tag] {
            for span in spans {
                self.due(now, span, what).hash(into);
            }
        }
        let open = self.acks.iter().filter(|ack| spans.iter().any(|span| ack.at + span > now));
        let mut open: Vec<_> = open.map(|ack| (ack.version, ack.at, ack.what)).collect();
        open.sort_unstable();
        open.hash(into);
        (self.strict, self.violated).hash(into);
    }
}
