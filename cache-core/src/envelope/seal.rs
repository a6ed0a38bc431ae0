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

/// Whether `sealed` fits. A stale frame had its stamp and deadline rewritten, so only the first half counts there.
pub(super) fn check(key: &str, header: &Header, tags: &[u8], payload: &[u8], sealed: &[u8]) -> Result<(), Malformed> {
    let half = |at| u32::from_le_bytes(sealed.get(at..at + 4).and_then(|it| it.try_into().ok()).unwrap_or_default());
    let (first, second) = (half(0), half(4));
    // of the first half as it stands there, so that neither sum waits for the other
    let moves = || moving(first, header) == second;
    let fits = match header.state {
        State::Value => !header.is_negative() && moves(),
        State::Negative => header.is_negative() && moves(),
        State::Stale | State::Lease | State::Tombstone => true,
    };
    if fits && first == fixed(key, header, tags, payload) { Ok(()) } else { Err(Malformed::Seal) }
}
