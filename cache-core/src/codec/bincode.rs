use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, DECODE_LIMIT, broken, trailing};
use crate::Result;

/// bincode 2.0.1, standard configuration, decoding limited to [`DECODE_LIMIT`].
///
/// The crate is no longer maintained (RUSTSEC-2025-0141); the format is small and frozen. For new code
/// `Postcard` is the better choice; frames name their codec, so both can live in one namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bincode;

impl<V: Serialize + DeserializeOwned + 'static> Codec<V> for Bincode {
    fn id(&self) -> u8 {
        2
    }

    fn encode(&self, value: &V) -> Result<Bytes> {
        let config = bincode::config::standard();
        bincode::serde::encode_to_vec(value, config).map(Bytes::from).map_err(broken)
    }

    fn decode(&self, bytes: &Bytes) -> Result<V> {
        let config = bincode::config::standard().with_limit::<DECODE_LIMIT>();
        let (value, used) = bincode::serde::decode_from_slice(bytes, config).map_err(broken)?;
        if used == bytes.len() { Ok(value) } else { Err(trailing()) }
    }
}
