use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, broken, trailing};
use crate::Result;

/// postcard 1: compact, maintained, with a stable wire format. Recommended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

impl<V: Serialize + DeserializeOwned + 'static> Codec<V> for Postcard {
    fn id(&self) -> u8 {
        3
    }

    fn encode(&self, value: &V) -> Result<Bytes> {
        postcard::to_stdvec(value).map(Bytes::from).map_err(broken)
    }

    fn decode(&self, bytes: &Bytes) -> Result<V> {
        let (value, rest) = postcard::take_from_bytes(bytes).map_err(broken)?;
        if rest.is_empty() { Ok(value) } else { Err(trailing()) }
    }
}
