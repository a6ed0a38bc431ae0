//! The invalidation stream: numbered changes, and the beat that proves that none was missed.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Result, Stamp};

/// A process's random id on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The names of one numbered line of changes: a namespace, or one bucket of it in a cluster.
///
/// In a cluster all names of a line hash to one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The key of the sequence: the number of the last change. First set from the server's clock in µs, or by another
    /// rule that keeps a lost sequence from ever using a number twice.
    pub seq: String,
    /// The channel that changes are published on.
    pub channel: String,
    /// The key prefix of the tag generations; the period's number is appended.
    pub tags: String,
}

/// What an invalidation does to its keys, in the same atomic step that numbers and publishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Removes them: values, leases and tombstones alike.
    Delete,
    /// As `Delete`, but only if the key still holds the value (`V` or `N`) with the stamp that was seen; otherwise
    /// nothing is changed, numbered or published. One key only.
    DeleteSeen {
        /// The stamp.
        seen: Stamp,
    },
    /// Keeps values as a fallback (state `S`, no lease) for at most `grace`; removes everything else.
    Soften {
        /// How long the fallback is kept at most.
        grace: Duration,
    },
    /// Removes them and bars fills for `hold`: until then loads go to the origin and nothing is stored.
    Hold {
        /// How long fills are barred.
        hold: Duration,
    },
    /// Removes the key, then stores `frame` for `ttl`. One key only.
    Put {
        /// The frame to store.
        frame: Bytes,
        /// How long.
        ttl: Duration,
    },
    /// As `Put`, but only if the key holds no value, be it fresh, negative or stale, with a row version at or above
    /// the frame's. That one is left alone, and the change is numbered and published all the same: who brought it need
    /// not have told anybody, as a load does not, and others may hold older ones. One key only.
    PutNewer {
        /// The frame to store; its header's row version decides.
        frame: Bytes,
        /// How long.
        ttl: Duration,
    },
    /// As `Put`, but only if the key still holds what was seen; otherwise, and if the store's memory is full, nothing
    /// is changed, numbered or published. A bar is never replaced. One key only.
    Swap {
        /// The stamp of the value (`V` or `N`) that the key has to hold; [`Stamp::NONE`] if it has to hold none, be it
        /// missing, leased, a fallback or foreign.
        seen: Stamp,
        /// The frame to store.
        frame: Bytes,
        /// How long.
        ttl: Duration,
    },
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The change's number in its line, that of the last part if it was done in parts; 0 if the store could not
    /// number it (every process then revalidates), or if a `Swap` or `DeleteSeen` found nothing to change.
    pub n: u64,
    /// Whether the value of a `Put`, `PutNewer` or `Swap` was stored. An unstored value leaves a miss, never an old
    /// value, unless it was `kept`.
    pub stored: bool,
    /// Whether a `PutNewer`, `Swap` or `DeleteSeen` left the key as it was, for its condition did not hold.
    pub kept: bool,
    /// How many of the keys held something before, leases included.
    pub removed: u64,
}

impl Applied {
    /// What a `Swap` or `DeleteSeen` did whose condition did not hold: nothing.
    pub const NOTHING: Self = Self { n: 0, stored: false, kept: true, removed: 0 };
}

/// The reply to a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The number of the last change; `None` if the store has no sequence and could not make one.
    pub seq: Option<u64>,
    /// Whether this beat made the sequence: everything before it counts as missed.
    pub created: bool,
    /// The store's clock, in milliseconds since the Unix epoch.
    pub server_ms: u64,
    /// Identifies the run of the server that answered; another value means a restart or a failover.
    pub run: u64,
}

/// The generations of some tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generations {
    /// Bumps at or before this number may be forgotten: an entry whose `s0` is lower can't be judged and is invalid.
    pub floor: u64,
    /// For each tag asked for, in order, the number of its last bump; 0 if none is known.
    pub bumps: Vec<u64>,
}

/// A message on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Keys changed. `n` is 0 if the change could not be numbered.
    Keys {
        /// The change's number.
        n: u64,
        /// Who made it.
        node: NodeId,
        /// The physical keys.
        keys: Vec<String>,
    },
    /// A tag was invalidated.
    Tag {
        /// The change's number.
        n: u64,
        /// Who made it.
        node: NodeId,
        /// The tag's hash; [`ALL`](crate::envelope::ALL) is everything.
        tag: u64,
    },
    /// A lease was filled or released: its waiters may look again.
    Wake {
        /// The physical key.
        key: String,
    },
}

impl Message {
    /// Reads a message; `None` for anything that isn't one, newer kinds included (the beat then finds the gap).
    ///
    /// Forms: `i <n> <node> {<len>:<key>}`, `t <n> <node> <tag>`, `w <len>:<key>`; node and tag are 16 hex digits.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (kind, rest) = text.split_once(' ')?;
        match kind {
            "i" => {
                let (n, rest) = number(rest)?;
                let (node, mut rest) = hex(rest)?;
                let mut keys = Vec::new();
                while !rest.is_empty() {
                    let (key, after) = counted(rest)?;
                    keys.push(key.to_owned());
                    rest = after;
                }
                (!keys.is_empty()).then_some(Self::Keys { n, node: NodeId(node), keys })
            }
            "t" => {
                let (n, rest) = number(rest)?;
                let (node, rest) = hex(rest)?;
                let (tag, rest) = hex(rest)?;
                rest.is_empty().then_some(Self::Tag { n, node: NodeId(node), tag })
            }
            "w" => {
                let (key, rest) = counted(rest)?;
                rest.is_empty().then(|| Self::Wake { key: key.to_owned() })
            }
            _ => None,
        }
    }

    /// The message's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let text = match self {
            Self::Keys { n, node, keys } => {
                let mut text = format!("i {n} {node}");
                for key in keys {
                    text.push_str(&format!(" {}:{key}", key.len()));
                }
                text
            }
            Self::Tag { n, node, tag } => format!("t {n} {node} {tag:016x}"),
            Self::Wake { key } => format!("w {}:{key}", key.len()),
        };
        Bytes::from(text)
    }
}

fn word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

fn number(text: &str) -> Option<(u64, &str)> {
    let (digits, rest) = word(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(|n| (n, rest)))?
}

fn hex(text: &str) -> Option<(u64, &str)> {
    let (digits, rest) = word(text);
    let plain = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok().map(|n| (n, rest)))?
}

/// `<len>:<key>` and what follows the separating space.
fn counted(text: &str) -> Option<(&str, &str)> {
    let (len, rest) = text.split_once(':')?;
    if len.is_empty() || !len.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let len: usize = len.parse().ok()?;
    let (key, after) = (rest.get(..len)?, rest.get(len..)?);
    match after.strip_prefix(' ') {
        Some(next) if !next.is_empty() => Some((key, next)),
        None if after.is_empty() => Some((key, "")),
        _ => None,
    }
}

/// What a subscription delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusEvent {
    /// A message on the channel of the line with this index in the list that was subscribed to.
    Message {
        /// The line's index.
        line: usize,
        /// The raw message, for [`Message::parse`].
        payload: Bytes,
    },
    /// A key was changed, perhaps by a program that isn't ours (client tracking); there is no number. Changes, fills
    /// and leases of our own show too: the key is to be compared with the store, not dropped.
    Foreign {
        /// The physical key; `None` if anything may have changed.
        key: Option<String>,
    },
    /// Messages may have been lost from here on: the connection broke, or the buffer was full.
    Lost,
    /// The stream flows again: the subscription is confirmed.
    Restored,
}

/// An open subscription. Dropping it unsubscribes.
#[async_trait]
pub trait Listener: Send {
    /// The next event; `None` once the store is closed for good. May be dropped at any await: no event is lost.
    async fn next(&mut self) -> Option<BusEvent>;
}

/// Numbered changes with publish, and the beat.
///
/// Every change runs as one atomic step in the order: mutate keys, number it, publish it. Removing comes first, so
/// that a store with full memory can still invalidate. The published message is only a hint for speed: what proves
/// that nothing was missed is the number that the beat returns.
///
/// Each method is one round trip. All keys are physical and, in a cluster, of the line's slot.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Applies `change` to `keys`, numbers and publishes it.
    ///
    /// A store may do a change of very many keys in parts, each an atomic step with a number and a message of its own.
    ///
    /// # Errors
    /// `Invalid` for no key at all, a bad key or ttl, more than one key to put, or bytes that are no frame to `PutNewer`;
    /// `TooLarge` for a frame over [`max_value`](crate::CacheService::max_value). Nothing was touched then.
    async fn change(&self, line: &Line, node: NodeId, keys: &[&str], change: Change) -> Result<Applied>;

    /// Bumps the generation of `tag` in `period`, numbers and publishes it; generations are kept for two periods of
    /// length `span`.
    async fn bump(&self, line: &Line, node: NodeId, tag: u64, period: u64, span: Duration) -> Result<u64>;

    /// The generations of `tags` over `period` and its neighbours.
    async fn generations(&self, line: &Line, tags: &[u64], period: u64, span: Duration) -> Result<Generations>;

    /// Reads the line's last number by a command that only a writable primary answers; makes a missing sequence.
    async fn beat(&self, line: &Line) -> Result<Beat>;

    /// Opens a subscription to the channels of `lines`; returns once it is confirmed.
    ///
    /// The listener reconnects by itself, for ever, and reports each gap as `Lost`, then `Restored`. Its buffer is
    /// bounded; overflow is reported as `Lost`, `Restored`.
    async fn subscribe(&self, lines: &[Line]) -> Result<Box<dyn Listener>>;

    /// Whether changes are also told by message. Where they are not, a subscription stays silent, and a cache over the
    /// store polls: beats alone tell of changes.
    fn publishes(&self) -> bool {
        true
    }

    /// Whether subscriptions also report [`BusEvent::Foreign`]: what programs that aren't ours do to keys.
    fn sees_foreign(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(n: u64, keys: &[&str]) -> Message {
        Message::Keys { n, node: NodeId(7), keys: keys.iter().map(|k| (*k).to_owned()).collect() }
    }

    #[test]
    fn messages_read_back_what_was_written() {
        for message in [
            keys(1_700_000_000_123_456, &["a", "b:c d", "9:z"]),
            keys(0, &[""]),
            keys(3, &["", ""]),
            Message::Tag { n: 4, node: NodeId(u64::MAX), tag: 5 },
            Message::Wake { key: "k e y".into() },
        ] {
            assert_eq!(Message::parse(&message.to_bytes()), Some(message));
        }
    }

    #[test]
    fn anything_else_is_no_message() {
        for text in [
            "",
            "i",
            "i ",
            "i 1",
            "i 1 0000000000000007",
            "i x 0000000000000007 1:a",
            "i 1 7 1:a",
            "i 1 0000000000000007 2:a",
            "i 1 0000000000000007 1:ab",
            "i 1 0000000000000007 1:a ",
            "i -1 0000000000000007 1:a",
            "i 1 0000000000000007 99999999999999999999:a",
            "t 1 0000000000000007 5",
            "w 1:ab",
            "z 1",
            "i 1 0000000000000007 1:\u{e9}",
        ] {
            assert_eq!(Message::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Message::parse(b"w 1:\xff"), None);
    }
}
