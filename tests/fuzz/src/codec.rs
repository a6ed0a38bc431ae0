//! Payloads: bytes that another version of a program may have written.

use std::collections::BTreeMap;

use bytes::Bytes;
use cache_core::codec::{Bincode, Codec, Json, MsgPack, Postcard, Raw};
use serde::{Deserialize, Serialize};

/// A bit of everything that a value may hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Value {
    id: u64,
    name: String,
    tags: Vec<String>,
    parent: Option<Box<Self>>,
    kind: Kind,
    scores: BTreeMap<u16, i64>,
    pair: (bool, char),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Plain,
    Named(String),
    Sized { width: u32, bytes: Vec<u8> },
}

/// The first byte chooses the codec. A payload is refused, or the value is written and read as it was.
pub(crate) fn decode(input: &[u8]) {
    let Some((which, payload)) = input.split_first() else { return };
    let payload = Bytes::copy_from_slice(payload);
    match which % 5 {
        0 => check(&Postcard, &payload),
        1 => check(&Bincode, &payload),
        2 => check(&MsgPack, &payload),
        3 => check(&Json, &payload),
        _ => assert_eq!(Codec::<Bytes>::decode(&Raw, &payload).ok(), Some(payload)),
    }
}

fn check(codec: &impl Codec<Value>, payload: &Bytes) {
    let Ok(value) = codec.decode(payload) else { return };
    let written = codec.encode(&value).expect("what was read can be written");
    assert_eq!(codec.decode(&written).expect("what was written can be read"), value);
}

pub(crate) fn encoded() -> Vec<Vec<u8>> {
    let child = Value {
        id: u64::MAX,
        name: String::new(),
        tags: vec!["a".into(), "\u{1f980}".into()],
        parent: None,
        kind: Kind::Sized { width: 7, bytes: vec![0, 255] },
        scores: BTreeMap::from([(1, -1), (2, i64::MAX)]),
        pair: (true, '\u{10ffff}'),
    };
    let value = Value { id: 1, parent: Some(Box::new(child.clone())), kind: Kind::Named("n".into()), ..child.clone() };
    let plain = Value { kind: Kind::Plain, tags: Vec::new(), ..child };
    let with = |which: u8, payload: cache_core::Result<Bytes>| {
        [&[which], &payload.expect("a value can be written")[..]].concat()
    };
    [&value, &plain]
        .into_iter()
        .flat_map(|value| {
            [
                with(0, Postcard.encode(value)),
                with(1, Bincode.encode(value)),
                with(2, MsgPack.encode(value)),
                with(3, Json.encode(value)),
                with(4, Ok(Bytes::from_static(b"raw"))),
            ]
        })
        .collect()
}
