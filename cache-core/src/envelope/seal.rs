//! The seal: two checksums that find cut, flipped and misplaced frames.

use super::{Header, Malformed, State, flag};

/// The seal's length in bytes.
pub(super) const LEN: usize = 8;

/// What stands before the key: flags, codec, s0, created, load time, row, the key's length.
const FIXED: usize = 37;
/// As much of what comes before the payload as is checked in one piece: a key of the usual length and a few tags.
const BLOCK: usize = 256;

/// Both halves of the seal.
pub(super) fn of(key: &str, header: &Header, tags: &[u8], payload: &[u8]) -> (u32, u32) {
    let mut crc = crc32fast::Hasher::new();
    // in one piece: what a small piece costs is hardly its bytes
    let mut block = [0; BLOCK];
    let (fixed, rest) = block.split_at_mut(FIXED);
    fixed[0] = header.flags & !flag::WAITER;
    fixed[1..5].copy_from_slice(&header.codec.to_le_bytes());
    fixed[5..13].copy_from_slice(&header.s0.to_le_bytes());
    fixed[13..21].copy_from_slice(&header.created.to_le_bytes());
    fixed[21..25].copy_from_slice(&header.load_ms.to_le_bytes());
    fixed[25..29].copy_from_slice(&header.row.to_le_bytes());
    fixed[29..].copy_from_slice(&(key.len() as u64).to_le_bytes());
    if let Some(room) = rest.get_mut(..key.len() + tags.len()) {
        let (first, second) = room.split_at_mut(key.len());
        first.copy_from_slice(key.as_bytes());
        second.copy_from_slice(tags);
        crc.update(&block[..FIXED + key.len() + tags.len()]);
    } else {
        crc.update(fixed);
        crc.update(key.as_bytes());
        crc.update(tags);
    }
    crc.update(payload);
    let fixed = crc.finalize();
    (fixed, moving(fixed, header))
}

fn moving(fixed: u32, header: &Header) -> u32 {
    let mut block = [0; 20];
    block[..4].copy_from_slice(&fixed.to_le_bytes());
    block[4..12].copy_from_slice(&header.stamp.to_bytes());
    block[12..].copy_from_slice(&header.soft_exp.to_le_bytes());
    crc32fast::hash(&block)
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
