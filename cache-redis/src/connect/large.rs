//! Keys whose last reply was large, so that the next read of them takes the bulk connection.

use std::sync::atomic::{AtomicU32, Ordering};

/// Replies and requests over this many bytes don't share a connection with small ones.
pub(crate) const LARGE: usize = 64 * 1024;

const SLOTS: usize = 1024;

/// A fixed table of key hashes. A forgotten key costs one large reply among small ones; a collision sends a small
/// read over the bulk connection. Neither is wrong.
#[derive(Debug)]
pub(crate) struct LargeKeys(Box<[AtomicU32]>);

impl LargeKeys {
    pub(crate) fn new() -> Self {
        Self((0..SLOTS).map(|_| AtomicU32::new(0)).collect())
    }

    /// Whether the last reply for this hash was large.
    pub(crate) fn holds(&self, hash: u64) -> bool {
        let (slot, tag) = self.place(hash);
        slot.is_some_and(|slot| slot.load(Ordering::Relaxed) == tag)
    }

    /// Remembers how large the reply for this hash was.
    pub(crate) fn note(&self, hash: u64, large: bool) {
        let (Some(slot), tag) = self.place(hash) else { return };
        if large {
            slot.store(tag, Ordering::Relaxed);
        } else if slot.load(Ordering::Relaxed) == tag {
            slot.store(0, Ordering::Relaxed);
        }
    }

    fn place(&self, hash: u64) -> (Option<&AtomicU32>, u32) {
        #[expect(clippy::cast_possible_truncation, reason = "a slot and a tag out of different bits")]
        let (index, tag) = (hash as usize % SLOTS, (hash >> 32) as u32 | 1);
        (self.0.get(index), tag)
    }
}

/// A command and its key as a hash: its name and first argument, or a script's digest and first key. The name
/// counts, so that the small reply of a write doesn't make a large read of the same key forgotten.
pub(crate) fn key_hash(command: &redis::Cmd) -> Option<u64> {
    let mut args = command.args_iter();
    let mut next = |skip| match args.nth(skip) {
        Some(redis::Arg::Simple(bytes)) => Some::<&[u8]>(bytes),
        _ => None,
    };
    let name = next(0)?;
    let script = name.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(b"EVAL"));
    let (name, key) = if script { (next(0)?, next(1)?) } else { (name, next(0)?) };
    Some(hash(name, key))
}

/// A name and a key as a hash.
pub(crate) fn hash(name: &[u8], key: &[u8]) -> u64 {
    mix(mix(0xcbf2_9ce4_8422_2325, name), key)
}

/// Eight bytes at a time: every read is hashed.
fn mix(hash: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, word: u64| {
        let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^ (hash >> 29)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(hash, |hash, word| step(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // the length too, for the last word is filled up
    step(step(hash, u64::from_le_bytes(last)), bytes.len() as u64)
}

/// The bytes of a command's arguments.
pub(crate) fn size(command: &redis::Cmd) -> usize {
    command.args_iter().map(|arg| if let redis::Arg::Simple(bytes) = arg { bytes.len() } else { 20 }).sum()
}

/// Whether a reply carries over [`LARGE`] bytes, looking two levels deep.
pub(crate) fn is_large(value: &redis::Value) -> bool {
    weigh(value, 2) > LARGE
}

/// The bytes that a reply carries, so many levels deep.
pub(crate) fn weigh(value: &redis::Value, depth: u32) -> usize {
    match value {
        redis::Value::BulkString(bytes) => bytes.len(),
        redis::Value::Array(values) if depth > 0 => values.iter().map(|value| weigh(value, depth - 1)).sum(),
        redis::Value::VerbatimString { text, .. } => text.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_keys_are_remembered_until_they_shrink() {
        let keys = LargeKeys::new();
        let hash = key_hash(redis::cmd("GET").arg("a")).unwrap();
        assert_ne!(key_hash(redis::cmd("SET").arg("a").arg("x")), Some(hash));
        let script = |key: &str, arg: &str| key_hash(redis::cmd("EVALSHA").arg("sha").arg(1).arg(key).arg(arg));
        assert_eq!(script("a", "x"), script("a", "y"));
        assert_ne!(script("a", "x"), script("b", "x"));
        assert_eq!(key_hash(redis::cmd("PING").arg(&[] as &[&str])), None);
        assert!(!keys.holds(hash));
        keys.note(hash, false);
        assert!(!keys.holds(hash));
        keys.note(hash, true);
        assert!(keys.holds(hash));
        keys.note(hash, false);
        assert!(!keys.holds(hash));
    }

    #[test]
    fn replies_are_weighed_with_their_parts() {
        let part = redis::Value::BulkString(vec![0; LARGE / 2]);
        assert!(!is_large(&part));
        assert!(!is_large(&redis::Value::Array(vec![part.clone(), part.clone()])));
        assert!(is_large(&redis::Value::Array(vec![part.clone(), part.clone(), part])));
    }
}
