//! The seal: two checksums that find cut, flipped and misplaced frames.

use super::{Header, Malformed, State, flag};

/// The seal's length in bytes.
pub(super) const LEN: usize = 8;

/// Both halves of the seal.
pub(super) fn of(key: &str, header: &Header, tags: &[u8], payload: &[u8]) -> (u32, u32) {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[header.flags & !flag::WAITER]);
    crc.update(&header.codec.to_le_bytes());
    crc.update(&header.s0.to_le_bytes());
    crc.update(&header.created.to_le_bytes());
    crc.update(&header.load_ms.to_le_bytes());
    crc.update(&header.row.to_le_bytes());
    crc.update(&(key.len() as u64).to_le_bytes());
    crc.update(key.as_bytes());
    crc.update(tags);
    crc.update(payload);
    let fixed = crc.finalize();
    (fixed, moving(fixed, header))
}

fn moving(fixed: u32, header: &Header) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&fixed.to_le_bytes());
    crc.update(&header.stamp.to_bytes());
    crc.update(&header.soft_exp.to_le_bytes());
    crc.finalize()
}

/// Whether `sealed` fits. A stale frame had its stamp and deadline rewritten, so only the first half counts there.
pub(super) fn check(key: &str, header: &Header, tags: &[u8], payload: &[u8], sealed: &[u8]) -> Result<(), Malformed> {
    let (fixed, moving) = of(key, header, tags, payload);
    let negative = header.is_negative();
    let fits = match header.state {
        State::Value => !negative && sealed[4..] == moving.to_le_bytes(),
        State::Negative => negative && sealed[4..] == moving.to_le_bytes(),
        State::Stale | State::Lease | State::Tombstone => true,
    };
    if fits && sealed[..4] == fixed.to_le_bytes() { Ok(()) } else { Err(Malformed::Seal) }
}
