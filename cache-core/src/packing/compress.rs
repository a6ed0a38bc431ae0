//! Compression: lz4 for speed, zstd for size.

use bytes::Bytes;

use crate::codec::DECODE_LIMIT;

/// Algorithm and plain length before the data.
const HEAD: usize = 5;

#[cfg(feature = "lz4")]
const LZ4: u8 = 1;
#[cfg(feature = "zstd")]
const ZSTD: u8 = 2;

/// No block of lz4 unpacks to more than so many times its length.
#[cfg(feature = "lz4")]
const LZ4_MOST: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    #[cfg(feature = "lz4")]
    Lz4,
    #[cfg(feature = "zstd")]
    Zstd(i32),
}

/// How and when payloads are compressed: from a size on, and only where it saves a tenth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Compression {
    algorithm: Algorithm,
    least: usize,
}

impl Compression {
    /// With lz4: some hundreds of MB/s in, GB/s out.
    #[cfg(feature = "lz4")]
    pub const fn lz4() -> Self {
        Self { algorithm: Algorithm::Lz4, least: 1024 }
    }

    /// With zstd at its level 3: smaller than lz4, several times slower.
    #[cfg(feature = "zstd")]
    pub const fn zstd() -> Self {
        Self::zstd_level(3)
    }

    /// With zstd at `level`, from 1 to 22; others count as the nearest.
    #[cfg(feature = "zstd")]
    pub const fn zstd_level(level: i32) -> Self {
        let level = if level < 1 { 1 } else { level };
        Self { algorithm: Algorithm::Zstd(if level > 22 { 22 } else { level }), least: 1024 }
    }

    /// Leaves payloads of fewer than `bytes` alone. Default 1 KiB.
    pub const fn over(mut self, bytes: usize) -> Self {
        self.least = bytes;
        self
    }

    /// The payload, compressed; `None` if it is short or not a tenth would be saved.
    pub(super) fn pack(&self, plain: &[u8]) -> Option<Bytes> {
        if plain.len() < self.least {
            return None;
        }
        let (id, data) = match self.algorithm {
            #[cfg(feature = "lz4")]
            Algorithm::Lz4 => (LZ4, lz4_flex::block::compress(plain)),
            #[cfg(feature = "zstd")]
            Algorithm::Zstd(level) => (ZSTD, zstandard::compress(plain, level)?),
        };
        let most = plain.len() - plain.len() / 10;
        if HEAD + data.len() > most {
            return None;
        }
        let mut out = Vec::with_capacity(HEAD + data.len());
        out.push(id);
        out.extend_from_slice(&u32::try_from(plain.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&data);
        Some(out.into())
    }
}

/// The plain payload; `None` if the bytes are broken, of an algorithm that isn't linked, or claim more than may be.
pub(super) fn unpack(packed: &[u8]) -> Option<Bytes> {
    let (head, data) = packed.split_first_chunk::<HEAD>()?;
    let [id, length @ ..] = *head;
    let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
    if length > DECODE_LIMIT {
        return None;
    }
    let plain = match id {
        #[cfg(feature = "lz4")]
        LZ4 if length <= data.len().saturating_mul(LZ4_MOST) => lz4_flex::block::decompress(data, length).ok()?,
        #[cfg(feature = "zstd")]
        ZSTD => zstandard::decompress(data, length)?,
        _ => return None,
    };
    (plain.len() == length).then(|| plain.into())
}

#[cfg(feature = "zstd")]
mod zstandard {
    //! Contexts of zstd, one pair a thread: making one costs more than compressing a small payload.

    use std::cell::RefCell;

    use zstd::bulk::{Compressor, Decompressor};

    /// The first guess of the plain length, as a multiple of the packed one.
    const GUESS: usize = 8;

    thread_local! {
        static PACKER: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
        static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }

    pub(super) fn compress(plain: &[u8], level: i32) -> Option<Vec<u8>> {
        PACKER.with_borrow_mut(|held| {
            if held.as_ref().is_none_or(|(at, _)| *at != level) {
                *held = Some((level, Compressor::new(level).ok()?));
            }
            held.as_mut()?.1.compress(plain).ok()
        })
    }

    /// Memory is taken as the data fills it, not as it claims: the buffer grows while it proves too small, up to the
    /// claimed length.
    pub(super) fn decompress(data: &[u8], length: usize) -> Option<Vec<u8>> {
        UNPACKER.with_borrow_mut(|held| {
            if held.is_none() {
                *held = Some(Decompressor::new().ok()?);
            }
            let unpacker = held.as_mut()?;
            let mut room = data.len().saturating_mul(GUESS).max(4096).min(length);
            loop {
                match unpacker.decompress(data, room) {
                    Ok(plain) => return Some(plain),
                    Err(error) if room < length && error.to_string().contains("too small") => {
                        room = room.saturating_mul(4).min(length);
                    }
                    Err(_) => return None,
                }
            }
        })
    }
}
