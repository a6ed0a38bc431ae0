use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn frame(state: State, tags: &[u64], payload: &'static [u8]) -> Frame {
    let flags = if state == State::Negative { flag::NEGATIVE } else { 0 };
    let mut header = Header {
        state,
        flags,
        codec: 0x0102_0304,
        stamp: Stamp(11),
        s0: 12,
        soft_exp: 13,
        created: 14,
        load_ms: 15,
        row: 16,
    };
    if !tags.is_empty() {
        header.flags |= flag::TAGS;
    }
    Frame { header, tags: Tags::new(tags.to_vec()).unwrap(), payload: Bytes::from_static(payload) }
}

#[test]
fn a_frame_reads_back_whole() {
    for state in [State::Value, State::Negative, State::Stale] {
        for tags in [&[][..], &[1], &[3, 5, 9]] {
            let frame = frame(state, tags, b"payload");
            assert_eq!(Frame::parse("k", &frame.to_bytes("k")), Ok(frame));
        }
    }
}

#[test]
fn leases_and_tombstones_are_bare_headers() {
    let lease = Frame::parse("k", &Bytes::copy_from_slice(&Frame::lease(Stamp(5), 9))).unwrap();
    assert_eq!((lease.header.state, lease.header.stamp, lease.header.soft_exp), (State::Lease, Stamp(5), 9));
    let mut long = Frame::tombstone(9).to_vec();
    assert!(Frame::parse("k", &Bytes::copy_from_slice(&long)).is_ok());
    long.push(0);
    assert_eq!(Frame::parse("k", &Bytes::from(long)), Err(Malformed::Length));
}

#[test]
fn a_frame_under_another_key_does_not_parse() {
    let bytes = frame(State::Value, &[], b"payload").to_bytes("alice");
    assert_eq!(Frame::parse("mallory", &bytes), Err(Malformed::Seal));
}

#[test]
fn a_newer_format_and_foreign_bytes_say_so() {
    let mut bytes = frame(State::Value, &[], b"x").to_bytes("k").to_vec();
    bytes[1] = 2;
    assert_eq!(Frame::parse("k", &Bytes::from(bytes.clone())), Err(Malformed::Format(2)));
    bytes[0] = b'{';
    assert_eq!(Frame::parse("k", &Bytes::from(bytes)), Err(Malformed::Foreign));
    assert_eq!(Frame::parse("k", &Bytes::new()), Err(Malformed::Short));
}

#[test]
fn a_softened_frame_is_still_whole() {
    let mut bytes = frame(State::Value, &[7], b"payload").to_bytes("k").to_vec();
    // what the server's script does: state S, no token, no deadline
    bytes[2] = b'S';
    bytes[8..16].fill(0);
    bytes[24..32].fill(0);
    let stale = Frame::parse("k", &Bytes::from(bytes)).unwrap();
    assert_eq!(stale.header.state, State::Stale);
    assert_eq!(stale.payload, "payload");
}

proptest! {
    #[test]
    fn random_bytes_never_parse_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let parsed = Frame::parse("k", &Bytes::from(bytes));
        if let Ok(frame) = parsed {
            // a bare header carries no value that could be wrong
            prop_assert!(matches!(frame.header.state, State::Lease | State::Tombstone));
        }
    }

    #[test]
    fn a_frame_with_one_flipped_bit_is_no_value(bit in 0usize..8 * (HEADER + 1 + 16 + 8 + 7), negative in any::<bool>()) {
        let whole = frame(if negative { State::Negative } else { State::Value }, &[3, 5], b"payload");
        let mut bytes = whole.to_bytes("k").to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match Frame::parse("k", &Bytes::from(bytes)) {
            // a flag that a waiter sets is the one bit that may change
            Ok(frame) if bit == 8 * 3 + 2 => prop_assert_eq!(frame.payload, whole.payload),
            Ok(frame) => prop_assert!(!matches!(frame.header.state, State::Value | State::Negative), "bit {}", bit),
            Err(_) => {}
        }
    }

    #[test]
    fn a_cut_frame_never_parses(len in 0usize..(HEADER + 1 + 16 + 8 + 7)) {
        let whole = frame(State::Value, &[3, 5], b"payload").to_bytes("k");
        prop_assert!(Frame::parse("k", &whole.slice(..len)).is_err());
    }
}

/// The seal as it is written down: one CRC over the pieces, in order.
fn seal_of(key: &str, frame: &Frame, tags: &[u8]) -> (u32, u32) {
    let header = &frame.header;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[header.flags & !flag::WAITER]);
    crc.update(&header.codec.to_le_bytes());
    crc.update(&header.s0.to_le_bytes());
    crc.update(&header.created.to_le_bytes());
    crc.update(&header.load_ms.to_le_bytes());
    crc.update(&header.row.to_le_bytes());
    crc.update(&(key.len() as u64).to_le_bytes());
    for piece in [key.as_bytes(), tags, &frame.payload] {
        crc.update(piece);
    }
    let fixed = crc.finalize();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&fixed.to_le_bytes());
    crc.update(&header.stamp.to_bytes());
    crc.update(&header.soft_exp.to_le_bytes());
    (fixed, crc.finalize())
}

#[test]
fn the_seal_is_the_same_whatever_the_length_of_key_and_tags() {
    let tagged: Vec<u64> = (1..=64).collect();
    for key in [1, 40, 218, 219, 220, 1024].map(|len| "k".repeat(len)) {
        for tags in [&[][..], &[1, 2], &tagged] {
            let frame = frame(State::Value, tags, b"payload");
            let bytes = frame.to_bytes(&key);
            let (head, payload) = bytes.split_at(bytes.len() - frame.payload.len());
            let (head, sealed) = head.split_at(head.len() - seal::LEN);
            let (fixed, moving) = seal_of(&key, &frame, &head[HEADER..]);
            assert_eq!(sealed, [fixed.to_le_bytes(), moving.to_le_bytes()].concat(), "{} {}", key.len(), tags.len());
            assert_eq!(payload, frame.payload);
        }
    }
}

#[test]
fn a_plain_value_is_told_from_all_else_by_one_look() {
    let plain = frame(State::Value, &[], b"payload");
    let bytes = plain.to_bytes("k");
    assert_eq!(Frame::untagged("k", &bytes), Some((plain.header, bytes.len() - 7)));
    assert_eq!(Frame::untagged("l", &bytes), None);
    for other in [frame(State::Value, &[1], b"p"), frame(State::Negative, &[], b""), frame(State::Stale, &[], b"p")] {
        assert_eq!(Frame::untagged("k", &other.to_bytes("k")), None);
    }
    for len in 0..bytes.len() {
        assert_eq!(Frame::untagged("k", &bytes[..len]), None, "cut to {len}");
    }
    for bit in (0..8 * bytes.len()).filter(|bit| *bit != 8 * 3 + 2) {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Frame::untagged("k", &flipped), None, "bit {bit} flipped");
    }
}

#[test]
fn many_frames_are_told_apart_as_each_alone_is() {
    let keys: Vec<String> = (0..300).map(|n| format!("{}:{n}", "k".repeat(n % 70))).collect();
    let frame_of = |n: usize, key: &str| {
        let states = [State::Value, State::Value, State::Value, State::Negative, State::Stale];
        let tags: &[u64] = if n % 11 == 3 { &[3, 5] } else { &[] };
        let mut frame = frame(states[n % 5], tags, &b"a payload of some length"[n % 24..]);
        frame.header.s0 = n as u64;
        let mut bytes = frame.to_bytes(if n % 13 == 2 { "another" } else { key }).to_vec();
        match n % 17 {
            4 => bytes.truncate(n % 60),
            9 => bytes[n % HEADER] ^= 1 << (n % 8),
            // a waiter's flag is no change
            12 => bytes[3] |= flag::WAITER,
            15 => return None,
            _ => {}
        }
        Some(Bytes::from(bytes))
    };
    let frames: Vec<Option<Bytes>> = keys.iter().enumerate().map(|(n, key)| frame_of(n, key)).collect();
    let alone = |(key, frame): (&String, &Option<Bytes>)| Frame::untagged(key, frame.as_ref()?);
    let alone: Vec<Option<(Header, usize)>> = keys.iter().zip(&frames).map(alone).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert_eq!(Frame::untagged_many(&names, &frames), alone);
    let plain = alone.iter().flatten().count();
    assert!((100..200).contains(&plain), "{plain} of both kinds");
}
