use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, broken, trailing};
use crate::Result;

/// MessagePack with field names: readable from other languages, and fields may be added.
#[derive(Clone, Copy, Debug, Default)]
pub struct MsgPack;

impl<V: Serialize + DeserializeOwned + 'static> Codec<V> for MsgPack {
    fn id(&self) -> u8 {
        4
    }

    fn encode(&self, value: &V) -> Result<Bytes> {
        rmp_serde::to_vec_named(value).map(Bytes::from).map_err(broken)
    }

    fn decode(&self, bytes: &Bytes) -> Result<V> {
        let mut rest = &bytes[..];
        let value = V::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).map_err(broken)?;
        if rest.is_empty() { Ok(value) } else { Err(trailing()) }
    }
}
