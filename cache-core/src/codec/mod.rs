//! How a typed value becomes the payload of an entry.
//!
//! A codec is named by a number in every frame, so bytes written by one codec are never read by another: they are a
//! miss and a count. Features decide which codecs are compiled in, never what bytes they write.

#[cfg(feature = "bincode")]
mod bincode;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;
#[cfg(feature = "postcard")]
mod postcard;
mod raw;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use ::bytes::Bytes;

use crate::Result;

#[cfg(feature = "bincode")]
pub use self::bincode::Bincode;
#[cfg(feature = "json")]
pub use self::json::Json;
#[cfg(feature = "msgpack")]
pub use self::msgpack::MsgPack;
#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;
pub use self::raw::Raw;

/// The most bytes that a codec decodes: 16 MiB. Guards against lengths that a payload only claims.
pub const DECODE_LIMIT: usize = 16 << 20;

/// Turns values of type `V` into bytes and back.
pub trait Codec<V>: Debug + Send + Sync + 'static {
    /// The codec's number in every frame: 1 raw, 2 bincode, 3 postcard, 4 msgpack, 5 json; your own from 128 on.
    fn id(&self) -> u8;

    /// The bytes of `value`.
    ///
    /// # Errors
    /// `Codec` if the value can't be encoded.
    fn encode(&self, value: &V) -> Result<Bytes>;

    /// The value of `bytes`, all of them.
    ///
    /// # Errors
    /// `Codec` if they are no value of this type; a reader treats that as a miss.
    fn decode(&self, bytes: &Bytes) -> Result<V>;
}

#[cfg(any(feature = "bincode", feature = "postcard", feature = "msgpack", feature = "json"))]
fn broken(cause: impl std::error::Error + Send + Sync + 'static) -> crate::Error {
    crate::Error::new(crate::ErrorKind::Codec, "value can't be encoded or decoded").with_cause(cause)
}

#[cfg(any(feature = "bincode", feature = "postcard", feature = "msgpack"))]
fn trailing() -> crate::Error {
    crate::Error::new(crate::ErrorKind::Codec, "bytes follow the value")
}
