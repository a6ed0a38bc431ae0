//! The seal: two checksums that find cut, flipped and misplaced frames.

use super::words::Words;
use super::{Header, Malformed, State, flag};

/// The seal's length in bytes.
pub(super) const LEN: usize = 8;

/// Both halves of the seal.
pub(super) fn of(key: &str, header: &Header, tags: &[u8], payload: &[u8]) -> (u32, u32) {
    let fixed = fixed(key, header, tags, payload);
    (fixed, moving(fixed, header))
}

/// What never changes: flags, codec, s0, created, load time, row, the key's length, key, tags, payload.
fn fixed(key: &str, header: &Header, tags: &[u8], payload: &[u8]) -> u32 {
    // in registers: what was just written to memory piece by piece is slow to read in one piece
    let words = Words::new()
        .byte(header.flags & !flag::WAITER)
        .u32(header.codec)
        .u64(header.s0)
        .u64(header.created)
        .u64(u64::from(header.load_ms) | u64::from(header.row) << 32)
        .u64(key.len() as u64);
    let mut crc = crc32fast::Hasher::new_with_initial(words.sum());
    crc.update(key.as_bytes());
    if !tags.is_empty() {
        crc.update(tags);
    }
    crc.update(payload);
    crc.finalize()
}

/// What a script may rewrite, beside the first half.
fn moving(fixed: u32, header: &Header) -> u32 {
    Words::new().u32(fixed).u64(header.stamp.0).u64(header.soft_exp).sum()
}

/// The two halves as they stand in a frame.
fn halves(sealed: &[u8]) -> (u32, u32) {
    let half = |at| u32::from_le_bytes(sealed.get(at..at + 4).and_then(|it| it.try_into().ok()).unwrap_or_default());
    (half(0), half(4))
}

/// Whether `sealed` fits. A stale frame had its stamp and deadline rewritten, so only the first half counts there.
pub(super) fn check(key: &str, header: &Header, tags: &[u8], payload: &[u8], sealed: &[u8]) -> Result<(), Malformed> {
    let (first, second) = halves(sealed);
    // of the first half as it stands there, so that neither sum waits for the other
    let moves = || moving(first, header) == second;
    let fits = match header.state {
        State::Value => !header.is_negative() && moves(),
        State::Negative => header.is_negative() && moves(),
        State::Stale | State::Lease | State::Tombstone => true,
    };
    if fits && first == fixed(key, header, tags, payload) { Ok(()) } else { Err(Malformed::Seal) }
}

/// What [`fixed`] sums up before the payload, of values without tags: written down for some before the first is read, for
/// what was just written is slow to read.
pub(super) struct Heads {
    crc: crc32fast::Hasher,
    text: Vec<u8>,
    read: usize,
}

impl Heads {
    /// What stands before the key.
    const FIXED: usize = 37;

    /// Of nothing, with room for `n`.
    pub(super) fn with_capacity(n: usize) -> Self {
        Self { crc: crc32fast::Hasher::new(), text: Vec::with_capacity(n * 96), read: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.read = 0;
    }

    pub(super) fn write(&mut self, key: &str, header: &Header) {
        let mut fixed = [0; Self::FIXED];
        fixed[0] = header.flags & !flag::WAITER;
        fixed[1..5].copy_from_slice(&header.codec.to_le_bytes());
        fixed[5..13].copy_from_slice(&header.s0.to_le_bytes());
        fixed[13..21].copy_from_slice(&header.created.to_le_bytes());
        fixed[21..25].copy_from_slice(&header.load_ms.to_le_bytes());
        fixed[25..29].copy_from_slice(&header.row.to_le_bytes());
        fixed[29..].copy_from_slice(&(key.len() as u64).to_le_bytes());
        self.text.extend_from_slice(&fixed);
        self.text.extend_from_slice(key.as_bytes());
    }

    /// As [`check`], for the first that was written and not read yet.
    pub(super) fn fits(&mut self, key: &str, header: &Header, payload: &[u8], sealed: &[u8]) -> bool {
        let end = self.read + Self::FIXED + key.len();
        let Some(head) = self.text.get(self.read..end) else { return false };
        self.read = end;
        let (first, second) = halves(sealed);
        let mut crc = self.crc.clone();
        crc.update(head);
        crc.update(payload);
        !header.is_negative() && moving(first, header) == second && first == crc.finalize()
    }
}
