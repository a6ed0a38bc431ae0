use bytes::Bytes;

use super::Codec;
use crate::{Error, ErrorKind, Result};

/// Bytes and strings as they are. A decoded `Bytes` shares the frame; nothing is copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec<Bytes> for Raw {
    fn id(&self) -> u8 {
        1
    }

    fn encode(&self, value: &Bytes) -> Result<Bytes> {
        Ok(value.clone())
    }

    fn decode(&self, bytes: &Bytes) -> Result<Bytes> {
        Ok(bytes.clone())
    }
}

impl Codec<String> for Raw {
    fn id(&self) -> u8 {
        1
    }

    fn encode(&self, value: &String) -> Result<Bytes> {
        Ok(Bytes::copy_from_slice(value.as_bytes()))
    }

    fn decode(&self, bytes: &Bytes) -> Result<String> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(cause) => Err(Error::new(ErrorKind::Codec, "bytes are no text").with_cause(cause)),
        }
    }
}
