//! How payloads stand in the far store: compressed, encrypted, or as they are.
//!
//! A near entry holds the plain payload; packing happens where a frame becomes bytes, unpacking where bytes become a
//! frame. What was done stands in the frame's flags, so that processes with different options read each other, as far
//! as they hold the keys.

use bytes::Bytes;

use crate::{Frame, Malformed, Result};

/// What is done to payloads on their way to the far store. By default nothing.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Packing {}

impl Packing {
    /// The bytes of `frame` as they stand under `key`.
    ///
    /// # Errors
    /// `TooLarge` for a payload that could not be unpacked again.
    pub fn pack(&self, key: &str, frame: &Frame) -> Result<Bytes> {
        Ok(frame.to_bytes(key))
    }

    /// The frame that stood under `key`, with its plain payload.
    ///
    /// # Errors
    /// Why the bytes are no frame of ours, whole and unchanged.
    pub fn unpack(&self, key: &str, bytes: &Bytes) -> Result<Frame, Malformed> {
        Frame::parse(key, bytes)
    }
}
