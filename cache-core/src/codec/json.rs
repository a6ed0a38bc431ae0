use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, broken};
use crate::Result;

/// JSON: readable by people and every language; floats survive the round trip.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<V: Serialize + DeserializeOwned + 'static> Codec<V> for Json {
    fn id(&self) -> u8 {
        5
    }

    fn encode(&self, value: &V) -> Result<Bytes> {
        serde_json::to_vec(value).map(Bytes::from).map_err(broken)
    }

    fn decode(&self, bytes: &Bytes) -> Result<V> {
        serde_json::from_slice(bytes).map_err(broken)
    }
}
