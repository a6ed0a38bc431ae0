//! How payloads stand in the far store: compressed, encrypted, or as they are.
//!
//! A near entry holds the plain payload; packing happens where a frame becomes bytes, unpacking where bytes become a
//! frame. What was done stands in the frame's flags, so processes with different options read each other, as far as
//! they link the algorithms and hold the keys. What can't be unpacked is a miss and a count, never a wrong value.
//!
//! A payload is compressed first: `u8` algorithm, `u32` plain length, data. Then it is encrypted: `u8` form, `u32` key
//! id, 12 bytes of nonce, ciphertext, 16 bytes of tag. Integers are little-endian.

#[cfg(any(feature = "lz4", feature = "zstd"))]
mod compress;
#[cfg(feature = "encryption")]
mod encrypt;
#[cfg(all(test, feature = "lz4", feature = "zstd", feature = "encryption"))]
mod tests;

use bytes::Bytes;

#[cfg(any(feature = "lz4", feature = "zstd"))]
pub use self::compress::Compression;
#[cfg(feature = "encryption")]
pub use self::encrypt::Keyring;
use crate::codec::DECODE_LIMIT;
use crate::envelope::flag;
use crate::{Error, ErrorKind, Frame, Header, Malformed, Result, State};

/// What is done to payloads on their way to the far store. By default nothing.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Packing {
    #[cfg(any(feature = "lz4", feature = "zstd"))]
    compression: Option<Compression>,
    #[cfg(feature = "encryption")]
    encryption: Option<Keyring>,
}

impl Packing {
    /// With payloads compressed where that pays.
    ///
    /// Together with encryption: the length of a ciphertext then tells how well the plaintext compresses. Don't
    /// compress values that mix secrets with text that strangers choose.
    #[cfg(any(feature = "lz4", feature = "zstd"))]
    pub const fn compress(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// With payloads encrypted, and bytes that aren't refused.
    #[cfg(feature = "encryption")]
    pub fn encrypt(mut self, keys: Keyring) -> Self {
        self.encryption = Some(keys);
        self
    }

    /// The bytes of `frame` as they stand under `key`.
    ///
    /// # Errors
    /// `TooLarge` for a payload over [`DECODE_LIMIT`], which could not be read again.
    pub fn pack(&self, key: &str, frame: &Frame) -> Result<Bytes> {
        if frame.payload.len() > DECODE_LIMIT {
            let text = format!("the payload has {} bytes, the limit is {DECODE_LIMIT}", frame.payload.len());
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        #[cfg(any(feature = "lz4", feature = "zstd", feature = "encryption"))]
        if let Some(packed) = self.packed(key, frame)? {
            return Ok(packed.to_bytes(key));
        }
        Ok(frame.to_bytes(key))
    }

    /// The frame with its payload packed; `None` if it stays as it is.
    #[cfg(any(feature = "lz4", feature = "zstd", feature = "encryption"))]
    fn packed(&self, key: &str, frame: &Frame) -> Result<Option<Frame>> {
        let mut packed = None;
        #[cfg(any(feature = "lz4", feature = "zstd"))]
        if let Some(payload) = self.compression.as_ref().and_then(|it| it.pack(&frame.payload)) {
            let mut header = frame.header;
            header.flags |= flag::COMPRESSED;
            packed = Some(Frame { header, tags: frame.tags.clone(), payload });
        }
        #[cfg(feature = "encryption")]
        if let Some(keys) = &self.encryption {
            let mut sealed = packed.unwrap_or_else(|| frame.clone());
            sealed.header.flags |= flag::SEALED;
            sealed.payload = keys.seal(key, &sealed)?;
            packed = Some(sealed);
        }
        let _ = key;
        Ok(packed)
    }

    /// The frame that stood under `key`, with its plain payload.
    ///
    /// # Errors
    /// Why the bytes are no frame of ours, whole and unchanged; or why its payload can't be had.
    pub fn unpack(&self, key: &str, bytes: &Bytes) -> Result<Frame, Malformed> {
        let mut frame = Frame::parse(key, bytes)?;
        if matches!(frame.header.state, State::Lease | State::Tombstone) {
            return Ok(frame);
        }
        self.open(key, &mut frame)?;
        if frame.header.flags & flag::COMPRESSED != 0 {
            #[cfg(any(feature = "lz4", feature = "zstd"))]
            let plain = compress::unpack(&frame.payload);
            #[cfg(not(any(feature = "lz4", feature = "zstd")))]
            let plain = None;
            frame.payload = plain.ok_or(Malformed::Packing)?;
            frame.header.flags &= !flag::COMPRESSED;
        }
        Ok(frame)
    }

    /// The header of a value that stands under `key` as it is, without tags or packing, and where its payload begins:
    /// the rest of the bytes. `None` for everything else, which [`unpack`](Self::unpack) tells apart.
    #[must_use]
    #[inline]
    pub fn plain(&self, key: &str, bytes: &[u8]) -> Option<(Header, usize)> {
        if !self.admits_plain() {
            return None;
        }
        Frame::untagged(key, bytes).filter(|(header, _)| is_plain(header))
    }

    /// As [`plain`](Self::plain), of each of `frames` under its key; cheaper than one by one.
    #[must_use]
    pub fn plain_many(&self, keys: &[&str], frames: &[Option<Bytes>]) -> Vec<Option<(Header, usize)>> {
        if !self.admits_plain() {
            return vec![None; frames.len()];
        }
        let mut found = Frame::untagged_many(keys, frames);
        for found in &mut found {
            if found.as_ref().is_some_and(|(header, _)| !is_plain(header)) {
                *found = None;
            }
        }
        found
    }

    /// Whether a payload may be taken as it is.
    #[inline]
    fn admits_plain(&self) -> bool {
        #[cfg(feature = "encryption")]
        if self.encryption.as_ref().is_some_and(|keys| !keys.admits_plain()) {
            return false;
        }
        true
    }

    /// Decrypts the payload, if it is encrypted; refuses one that should be and isn't.
    fn open(&self, key: &str, frame: &mut Frame) -> Result<(), Malformed> {
        let sealed = frame.header.flags & flag::SEALED != 0;
        #[cfg(feature = "encryption")]
        if let Some(keys) = &self.encryption {
            if sealed {
                frame.payload = keys.open(key, frame).ok_or(Malformed::Encryption)?;
                frame.header.flags &= !flag::SEALED;
                return Ok(());
            }
            return if keys.admits_plain() { Ok(()) } else { Err(Malformed::Encryption) };
        }
        let _ = key;
        if sealed { Err(Malformed::Encryption) } else { Ok(()) }
    }
}

/// Whether nothing was done to the payload.
#[inline]
const fn is_plain(header: &Header) -> bool {
    header.flags & (flag::COMPRESSED | flag::SEALED) == 0
}
