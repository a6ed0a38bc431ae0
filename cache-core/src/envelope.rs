//! The frame in which a value stands in the far store.
//!
//! A 48-byte header, the tags, an 8-byte seal, the payload. Integers are little-endian. Scripts on the server read and
//! write the header at fixed offsets (`GETRANGE 0 47`), so offsets never move within a format.
//!
//! | offset | field |
//! |---|---|
//! | 0 | magic `0xC7` |
//! | 1 | format, 1 |
//! | 2 | state: `V` value, `N` negative, `L` lease, `S` stale, `T` tombstone |
//! | 3 | flags: 1 compressed, 2 has tags, 4 waiter, 8 sealed, 16 negative, 32 refreshed, 64 notes, 128 far only |
//! | 4 u32 | codec and schema id |
//! | 8 u64 | stamp: random, unique per fill; the token in a lease |
//! | 16 u64 | s0: the sequence number applied when the load began |
//! | 24 u64 | soft expiry, server ms; in `S` and `L` the lease's deadline, in `T` the hold's |
//! | 32 u64 | created, server ms |
//! | 40 u32 | load time in ms |
//! | 44 u32 | row version |
//! | 48 | u8 n, n tags of u64, if the flag says so |
//! | | seal: u32 CRC over key, fixed header fields, tags and payload; u32 CRC over that, stamp and soft expiry |
//! | | payload |
//!
//! The first half of the seal survives `S` (which zeroes stamp and deadline), the second half guards them while the
//! frame is `V` or `N`. The key is part of it: a frame copied under another key does not parse.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

mod many;
mod seal;
mod words;

/// The length of the fixed header in bytes.
pub const HEADER: usize = 48;
/// The first byte of every frame.
pub const MAGIC: u8 = 0xC7;
/// The format that this version writes and the only one it reads.
pub const FORMAT: u8 = 1;
/// The most tags that an entry can carry.
pub const MAX_TAGS: usize = 64;
/// The hash that stands for "every entry": `clear` bumps it.
pub const ALL: u64 = 0;

/// A frame's random identity; in a lease its token. Compared for equality only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// No lease.
    pub const NONE: Self = Self(0);

    /// A fresh random stamp, never [`NONE`](Self::NONE).
    ///
    /// # Panics
    /// If the operating system has no random numbers to give.
    #[must_use]
    pub fn random() -> Self {
        let bits = getrandom::u64().expect("the operating system gives random numbers");
        Self(bits.max(1))
    }

    /// The stamp's bytes as they stand in the header.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// A value.
    Value = b'V',
    /// The loader said that there is nothing.
    Negative = b'N',
    /// A loader holds the lease; no payload.
    Lease = b'L',
    /// A value that may only be served as a fallback; may carry a lease.
    Stale = b'S',
    /// A guarded write is under way; no payload.
    Tombstone = b'T',
}

impl State {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            b'V' => Self::Value,
            b'N' => Self::Negative,
            b'L' => Self::Lease,
            b'S' => Self::Stale,
            b'T' => Self::Tombstone,
            _ => return None,
        })
    }
}

/// The header's flag bits.
pub mod flag {
    /// The payload is compressed.
    pub const COMPRESSED: u8 = 1;
    /// Tags follow the header.
    pub const TAGS: u8 = 2;
    /// Somebody waits for the lease.
    pub const WAITER: u8 = 4;
    /// The payload is encrypted.
    pub const SEALED: u8 = 8;
    /// The entry is negative; unlike the state it survives softening.
    pub const NEGATIVE: u8 = 16;
    /// The value replaced one that had not been invalidated: nodes that still hold that one serve nothing stale.
    pub const REFRESHED: u8 = 32;
    /// What the origin said beside the value, its etag and time, stands before the payload.
    pub const NOTES: u8 = 64;
    /// The loader said that near stores are not to keep it.
    pub const FAR_ONLY: u8 = 128;
}

/// The fixed header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// in this order: what a near hit reads stands first
#[repr(C)]
pub struct Header {
    /// The sequence number applied when the load began.
    pub s0: u64,
    /// The codec in the low byte, the schema's fingerprint above it.
    pub codec: u32,
    /// See [`flag`].
    pub flags: u8,
    /// What the frame is.
    pub state: State,
    /// The fill's identity, or the lease's token.
    pub stamp: Stamp,
    /// The end of freshness in server ms, 0 for none; a deadline in the states `L`, `S`, `T`.
    pub soft_exp: u64,
    /// The moment of creation in server ms.
    pub created: u64,
    /// How long the load took.
    pub load_ms: u32,
    /// The row version given by the application; 0 if none.
    pub row: u32,
}

impl Header {
    /// The header of a value, with every number zero.
    #[must_use]
    pub const fn value() -> Self {
        Self {
            state: State::Value,
            flags: 0,
            codec: 0,
            stamp: Stamp::NONE,
            s0: 0,
            soft_exp: 0,
            created: 0,
            load_ms: 0,
            row: 0,
        }
    }

    /// Whether the entry says "there is nothing".
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        self.flags & flag::NEGATIVE != 0
    }

    /// Reads a header alone, as `peek` returns it. Says nothing about the seal.
    ///
    /// # Errors
    /// Why it is none.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let head: &[u8; HEADER] = bytes.first_chunk().ok_or(Malformed::Short)?;
        if head[0] != MAGIC {
            return Err(Malformed::Foreign);
        }
        if head[1] != FORMAT {
            return Err(Malformed::Format(head[1]));
        }
        let state = State::from_byte(head[2]).ok_or(Malformed::State)?;
        Ok(Self {
            state,
            flags: head[3],
            codec: le32(head, 4),
            stamp: Stamp(le64(head, 8)),
            s0: le64(head, 16),
            soft_exp: le64(head, 24),
            created: le64(head, 32),
            load_ms: le32(head, 40),
            row: le32(head, 44),
        })
    }

    /// The header's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0] = MAGIC;
        out[1] = FORMAT;
        out[2] = self.state as u8;
        out[3] = self.flags;
        out[4..8].copy_from_slice(&self.codec.to_le_bytes());
        out[8..16].copy_from_slice(&self.stamp.to_bytes());
        out[16..24].copy_from_slice(&self.s0.to_le_bytes());
        out[24..32].copy_from_slice(&self.soft_exp.to_le_bytes());
        out[32..40].copy_from_slice(&self.created.to_le_bytes());
        out[40..44].copy_from_slice(&self.load_ms.to_le_bytes());
        out[44..48].copy_from_slice(&self.row.to_le_bytes());
        out
    }
}

#[inline]
fn le32(head: &[u8; HEADER], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&head[at..at + 4]);
    u32::from_le_bytes(bytes)
}

#[inline]
fn le64(head: &[u8; HEADER], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// The hashes of an entry's tags. Empty costs no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Option<Box<[u64]>>);

impl Tags {
    /// The tags with these hashes, duplicates removed.
    ///
    /// # Errors
    /// `Invalid` for more than [`MAX_TAGS`].
    pub fn new(mut hashes: Vec<u64>) -> crate::Result<Self> {
        hashes.sort_unstable();
        hashes.dedup();
        if hashes.len() > MAX_TAGS {
            let text = format!("{} tags on one entry, the limit is {MAX_TAGS}", hashes.len());
            return Err(crate::Error::new(crate::ErrorKind::Invalid, text));
        }
        Ok(Self((!hashes.is_empty()).then(|| hashes.into_boxed_slice())))
    }

    /// The hash of a tag's name: FNV-1a with a final mix, never [`ALL`].
    #[must_use]
    pub fn hash(name: &str) -> u64 {
        let h = name.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        (h ^ (h >> 32)).max(1)
    }

    /// `flags` as a header with these tags has them.
    pub(crate) const fn flagged(&self, flags: u8) -> u8 {
        if self.0.is_none() { flags & !flag::TAGS } else { flags | flag::TAGS }
    }

    /// The hashes.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// A frame: header, tags and payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The fixed header.
    pub header: Header,
    /// The tags.
    pub tags: Tags,
    /// The encoded value.
    pub payload: Bytes,
}

impl Frame {
    /// The frame's bytes as they stand under `key`.
    #[must_use]
    pub fn to_bytes(&self, key: &str) -> Bytes {
        let tags = self.tags.as_slice();
        let mut header = self.header;
        header.flags = self.tags.flagged(header.flags);
        let mut out = BytesMut::with_capacity(HEADER + 1 + size_of_val(tags) + seal::LEN + self.payload.len());
        out.put_slice(&header.to_bytes());
        if !tags.is_empty() {
            out.put_u8(u8::try_from(tags.len()).unwrap_or(u8::MAX));
            for tag in tags {
                out.put_u64_le(*tag);
            }
        }
        if !matches!(header.state, State::Lease | State::Tombstone) {
            let tags_at = HEADER..out.len();
            let (fixed, moving) = seal::of(key, &header, &out[tags_at], &self.payload);
            out.put_u32_le(fixed);
            out.put_u32_le(moving);
        }
        out.put_slice(&self.payload);
        out.freeze()
    }

    /// Reads the frame that stood under `key`. The payload shares `bytes`; nothing is copied, and nothing is allocated
    /// by a length that was read.
    ///
    /// # Errors
    /// Why the bytes are no frame of ours, whole and unchanged.
    pub fn parse(key: &str, bytes: &Bytes) -> Result<Self, Malformed> {
        let header = Header::parse(bytes)?;
        if matches!(header.state, State::Lease | State::Tombstone) {
            let whole = bytes.len() == HEADER;
            return if whole {
                Ok(Self { header, tags: Tags::default(), payload: Bytes::new() })
            } else {
                Err(Malformed::Length)
            };
        }
        let mut at = HEADER;
        if header.flags & flag::TAGS != 0 {
            let n = usize::from(*bytes.get(at).ok_or(Malformed::Short)?);
            if n == 0 || n > MAX_TAGS {
                return Err(Malformed::Length);
            }
            at += 1 + n * 8;
        }
        let sealed = bytes.get(at..at + seal::LEN).ok_or(Malformed::Short)?;
        let payload = bytes.slice(at + seal::LEN..);
        seal::check(key, &header, &bytes[HEADER..at], &payload, sealed)?;
        let tags = match bytes.get(HEADER + 1..at) {
            Some(raw) => raw.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap_or_default())).collect(),
            None => Vec::new(),
        };
        Ok(Self { header, tags: Tags((!tags.is_empty()).then(|| tags.into_boxed_slice())), payload })
    }

    /// The header of a value without tags that stood under `key`, whole and unchanged, and where its payload begins.
    #[inline]
    pub(crate) fn untagged(key: &str, bytes: &[u8]) -> Option<(Header, usize)> {
        let header = Self::untagged_header(bytes)?;
        let (sealed, payload) = bytes.get(HEADER..)?.split_at_checked(seal::LEN)?;
        seal::check(key, &header, &[], payload, sealed).ok()?;
        Some((header, HEADER + seal::LEN))
    }

    /// The header of what says that it is a value without tags, with room for a seal.
    #[inline]
    fn untagged_header(bytes: &[u8]) -> Option<Header> {
        let header = Header::parse(bytes).ok()?;
        let plain = header.state == State::Value && header.flags & flag::TAGS == 0;
        (plain && bytes.len() >= HEADER + seal::LEN).then_some(header)
    }

    /// The bytes that stood under `key` with a later end of freshness; `None` if they are not the value with the stamp
    /// `seen`, or are as fresh as that already. The payload is as it was, whatever was done to it.
    #[must_use]
    pub fn prolonged(key: &str, bytes: &Bytes, seen: Stamp, soft_exp: u64) -> Option<Bytes> {
        let mut frame = Self::parse(key, bytes).ok()?;
        let header = &mut frame.header;
        let same = header.stamp == seen && matches!(header.state, State::Value | State::Negative);
        if !same || header.soft_exp >= soft_exp {
            return None;
        }
        header.soft_exp = soft_exp;
        Some(frame.to_bytes(key))
    }

    /// The frame of a lease.
    #[must_use]
    pub fn lease(token: Stamp, deadline_ms: u64) -> [u8; HEADER] {
        Header { state: State::Lease, stamp: token, soft_exp: deadline_ms, ..Header::value() }.to_bytes()
    }

    /// The frame of a tombstone.
    #[must_use]
    pub fn tombstone(deadline_ms: u64) -> [u8; HEADER] {
        Header { state: State::Tombstone, soft_exp: deadline_ms, ..Header::value() }.to_bytes()
    }
}

/// Why bytes are no frame of ours. To a reader each of them is a miss and a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Cut.
    #[error("cut short")]
    Short,
    /// Written by something else.
    #[error("not a frame")]
    Foreign,
    /// Written by another version.
    #[error("format {0} is not known")]
    Format(u8),
    /// A state that isn't known.
    #[error("state is not known")]
    State,
    /// A count that can't be.
    #[error("a length is wrong")]
    Length,
    /// Changed since it was written, or written under another key.
    #[error("seal is broken")]
    Seal,
    /// The payload is compressed by an algorithm that isn't linked, or is no whole work of it.
    #[error("payload can't be decompressed")]
    Packing,
    /// The payload was encrypted for another place or with a key that isn't here; or should be encrypted and isn't.
    #[error("payload can't be decrypted")]
    Encryption,
}

#[cfg(test)]
mod tests;
