#![cfg(all(feature = "bincode", feature = "postcard", feature = "msgpack", feature = "json"))]

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Product {
    id: u64,
    name: String,
    price: f64,
    stock: Option<i32>,
    labels: BTreeMap<String, Vec<u8>>,
}

fn codecs() -> [Box<dyn Codec<Product>>; 4] {
    [Box::new(Bincode), Box::new(Postcard), Box::new(MsgPack), Box::new(Json)]
}

fn product() -> impl Strategy<Value = Product> {
    let labels = prop::collection::btree_map(".{0,8}", prop::collection::vec(any::<u8>(), 0..8), 0..4);
    let price = prop::num::f64::NORMAL;
    (any::<u64>(), ".{0,20}", price, any::<Option<i32>>(), labels)
        .prop_map(|(id, name, price, stock, labels)| Product { id, name, price, stock, labels })
}

#[test]
fn every_codec_has_a_number_of_its_own() {
    let mut ids: Vec<u8> = codecs().iter().map(|c| c.id()).collect();
    ids.push(Codec::<Bytes>::id(&Raw));
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
}

#[test]
fn a_length_that_is_only_claimed_allocates_nothing() {
    // a string length of 2^40 in the varint of each binary format
    let claims: [&[u8]; 3] = [
        &[1, 253, 0, 0, 0, 0, 0, 1, 0, 0],
        &[1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20],
        &[0x81, 0xdb, 0xff, 0xff, 0xff, 0xff],
    ];
    for codec in codecs() {
        for claim in claims {
            assert!(codec.decode(&Bytes::from_static(claim)).is_err(), "{codec:?}");
        }
    }
}

proptest! {
    #[test]
    fn values_survive_the_round_trip(value in product()) {
        for codec in codecs() {
            let bytes = codec.encode(&value).unwrap();
            prop_assert_eq!(&codec.decode(&bytes).unwrap(), &value);
        }
    }

    #[test]
    fn bytes_after_the_value_are_refused(value in product(), tail in 1u8..) {
        for codec in codecs() {
            let mut bytes = codec.encode(&value).unwrap().to_vec();
            bytes.push(tail);
            prop_assert!(codec.decode(&Bytes::from(bytes)).is_err() || codec.id() == 5 && tail.is_ascii_whitespace());
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for codec in codecs() {
            let _ = codec.decode(&Bytes::from(bytes.clone()));
        }
    }
}
