use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::Tags;
use crate::envelope::{Header, Stamp};

const SECRET: [u8; 32] = [7; 32];
const OTHER: [u8; 32] = [8; 32];

fn keys() -> Keyring {
    Keyring::new(1, &SECRET).unwrap()
}

fn every() -> [Packing; 7] {
    let (lz4, zstd) = (Compression::lz4().over(16), Compression::zstd().over(16));
    [
        Packing::default(),
        Packing::default().compress(lz4),
        Packing::default().compress(zstd),
        Packing::default().compress(Compression::zstd_level(19).over(16)),
        Packing::default().encrypt(keys()),
        Packing::default().compress(lz4).encrypt(keys()),
        Packing::default().compress(zstd).encrypt(keys()),
    ]
}

fn frame(state: State, tags: &[u64], payload: impl Into<Bytes>) -> Frame {
    let mut flags = if state == State::Negative { flag::NEGATIVE } else { 0 };
    if !tags.is_empty() {
        flags |= flag::TAGS;
    }
    let header =
        Header { state, flags, codec: 2, stamp: Stamp(5), soft_exp: 9, created: 3, row: 4, s0: 6, ..Header::value() };
    Frame { header, tags: Tags::new(tags.to_vec()).unwrap(), payload: payload.into() }
}

fn text(length: usize) -> Bytes {
    b"a cache hierarchy ".iter().copied().cycle().take(length).collect::<Vec<u8>>().into()
}

#[test]
fn what_was_packed_unpacks() {
    for packing in every() {
        for state in [State::Value, State::Negative, State::Stale] {
            for tags in [&[][..], &[1, 2]] {
                for length in [0, 1, 15, 16, 5000, 300_000] {
                    let frame = frame(state, tags, text(length));
                    let bytes = packing.pack("ns:k", &frame).unwrap();
                    assert_eq!(packing.unpack("ns:k", &bytes), Ok(frame), "{packing:?} {state:?} {length}");
                }
            }
        }
    }
}

#[test]
fn leases_pass_as_they_are() {
    for packing in every() {
        let lease = Bytes::copy_from_slice(&Frame::lease(Stamp(5), 9));
        assert_eq!(packing.unpack("k", &lease).unwrap().header.state, State::Lease);
    }
}

#[test]
fn only_what_saves_a_tenth_is_compressed() {
    let packing = Packing::default().compress(Compression::lz4());
    let size = |payload: Bytes| packing.pack("k", &frame(State::Value, &[], payload)).unwrap().len();
    let plain = |length: usize| length + 56;
    assert_eq!(size(text(1023)), plain(1023), "too short");
    assert!(size(text(1024)) < 200);
    let noise: Vec<u8> = std::iter::repeat_with(random_byte).take(4096).collect();
    assert_eq!(size(noise.into()), plain(4096), "noise");
}

fn random_byte() -> u8 {
    getrandom::u32().unwrap().to_le_bytes()[0]
}

#[test]
fn a_ciphertext_moved_to_another_key_or_header_is_a_miss() {
    let packing = Packing::default().encrypt(keys());
    let bytes = packing.pack("ns:alice", &frame(State::Value, &[1], text(64))).unwrap();
    // the checksum is no secret: whoever moves a frame can write it anew
    let moved = |key: &str, change: &dyn Fn(&mut Frame)| {
        let mut frame = Frame::parse("ns:alice", &bytes).unwrap();
        change(&mut frame);
        packing.unpack(key, &frame.to_bytes(key))
    };
    assert!(moved("ns:alice", &|_| {}).is_ok());
    assert_eq!(moved("ns:mallory", &|_| {}), Err(Malformed::Encryption));
    assert_eq!(moved("sn:alice", &|_| {}), Err(Malformed::Encryption));
    let changes: [&dyn Fn(&mut Frame); 6] = [
        &|f| f.header.codec = 3,
        &|f| f.header.row = 5,
        &|f| f.header.created = 4,
        &|f| f.header.s0 = 7,
        &|f| f.tags = Tags::new(vec![2]).unwrap(),
        &|f| f.header.flags |= flag::COMPRESSED,
    ];
    for (index, change) in changes.iter().enumerate() {
        assert_eq!(moved("ns:alice", change), Err(Malformed::Encryption), "change {index}");
    }
    // what scripts rewrite: softened, leased, waited for, prolonged
    assert!(moved("ns:alice", &|f| (f.header.state, f.header.stamp) = (State::Stale, Stamp(1))).is_ok());
    assert!(moved("ns:alice", &|f| f.header.flags |= flag::WAITER).is_ok());
    assert!(moved("ns:alice", &|f| f.header.soft_exp += 1).is_ok());
}

#[test]
fn what_should_be_encrypted_and_is_not_is_refused() {
    let bytes = Packing::default().pack("k", &frame(State::Value, &[], text(10))).unwrap();
    assert_eq!(Packing::default().encrypt(keys()).unpack("k", &bytes), Err(Malformed::Encryption));
    assert!(Packing::default().encrypt(keys().and_plain()).unpack("k", &bytes).is_ok());
    let sealed = Packing::default().encrypt(keys()).pack("k", &frame(State::Value, &[], text(10))).unwrap();
    assert_eq!(Packing::default().unpack("k", &sealed), Err(Malformed::Encryption));
}

#[test]
fn keys_rotate() {
    let old = Packing::default().encrypt(keys());
    let both = Packing::default().encrypt(Keyring::new(2, &OTHER).unwrap().and(1, &SECRET).unwrap());
    let new = Packing::default().encrypt(Keyring::new(2, &OTHER).unwrap());
    let value = frame(State::Value, &[], text(10));
    let before = old.pack("k", &value).unwrap();
    assert!(both.unpack("k", &before).is_ok());
    assert_eq!(new.unpack("k", &before), Err(Malformed::Encryption));
    let after = both.pack("k", &value).unwrap();
    assert!(new.unpack("k", &after).is_ok());
    assert_eq!(old.unpack("k", &after), Err(Malformed::Encryption));
    let same_id = Packing::default().encrypt(Keyring::new(1, &OTHER).unwrap());
    assert_eq!(same_id.unpack("k", &before), Err(Malformed::Encryption));
}

#[test]
fn contradictions_are_refused_and_secrets_are_masked() {
    assert!(Keyring::new(1, &[0; 32]).is_err());
    assert!(keys().and(1, &OTHER).is_err());
    let shown = format!("{:?}", Packing::default().encrypt(keys()));
    assert!(shown.contains("ids: [1]") && !shown.contains('7'), "{shown}");
}

#[test]
fn the_same_value_never_looks_the_same_twice() {
    let packing = Packing::default().encrypt(keys());
    let value = frame(State::Value, &[], text(10));
    assert_ne!(packing.pack("k", &value).unwrap(), packing.pack("k", &value).unwrap());
}

#[test]
fn a_length_that_is_only_claimed_takes_no_memory() {
    for packing in [Packing::default().compress(Compression::lz4()), Packing::default().compress(Compression::zstd())] {
        let bytes = packing.pack("k", &frame(State::Value, &[], text(100_000))).unwrap();
        let claims = |length: u32| {
            let mut frame = Frame::parse("k", &bytes).unwrap();
            let mut payload = frame.payload.to_vec();
            payload[1..5].copy_from_slice(&length.to_le_bytes());
            frame.payload = payload.into();
            packing.unpack("k", &frame.to_bytes("k"))
        };
        assert!(claims(100_000).is_ok());
        for length in [0, 99_999, 100_001, 16 << 20, (16 << 20) + 1, u32::MAX] {
            assert_eq!(claims(length), Err(Malformed::Packing), "{length}");
        }
    }
}

#[test]
fn a_payload_that_could_not_be_read_again_is_refused() {
    let large = frame(State::Value, &[], Bytes::from(vec![0; DECODE_LIMIT + 1]));
    for packing in every() {
        assert_eq!(packing.pack("k", &large).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}

proptest! {
    #[test]
    fn foreign_payloads_never_panic(flags in 0_u8..16, payload in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut foreign = frame(State::Value, &[], payload.clone());
        foreign.header.flags = flags & !flag::TAGS;
        let bytes = foreign.to_bytes("k");
        for packing in every() {
            let _ = packing.unpack("k", &bytes);
        }
        for algorithm in 0..3 {
            let _ = compress::unpack(&[&[algorithm], payload.as_slice()].concat());
        }
    }

    #[test]
    fn a_flipped_bit_is_a_miss(at in 56_usize..200, bit in 0..8_u32) {
        let packing = Packing::default().encrypt(keys());
        let bytes = packing.pack("k", &frame(State::Value, &[], text(115))).unwrap();
        let mut parsed = Frame::parse("k", &bytes).unwrap();
        let mut payload = parsed.payload.to_vec();
        let place = (at - 56) % payload.len();
        payload[place] ^= 1_u8 << bit;
        parsed.payload = payload.into();
        prop_assert_eq!(packing.unpack("k", &parsed.to_bytes("k")), Err(Malformed::Encryption));
    }
}

#[test]
fn many_payloads_are_plain_or_not_as_each_alone_is() {
    let written: Vec<Bytes> = every()
        .iter()
        .flat_map(|packing| {
            [&[][..], &[1]].map(|tags| packing.pack("k", &frame(State::Value, tags, text(99))).unwrap())
        })
        .collect();
    let (names, frames) = (vec!["k"; written.len()], written.iter().cloned().map(Some).collect::<Vec<_>>());
    for packing in every().into_iter().chain([Packing::default().encrypt(keys().and_plain())]) {
        let alone: Vec<_> = written.iter().map(|bytes| packing.plain("k", bytes)).collect();
        assert_eq!(packing.plain_many(&names, &frames), alone, "{packing:?}");
    }
}
