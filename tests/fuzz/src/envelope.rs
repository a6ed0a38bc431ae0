//! Frames of the far store.

use bytes::Bytes;
use cache_core::envelope::{Frame, HEADER, Header, State, Tags, flag};
use cache_core::{NodeId, Stamp};

const KEY: &str = "shop:k:a";

/// A header is refused, or says what it reads.
pub(crate) fn header(input: &[u8]) {
    let Ok(header) = Header::parse(input) else { return };
    assert_eq!(header.to_bytes(), input[..HEADER], "a header is written as it was read");
}

/// A frame is refused, or says what it reads.
pub(crate) fn frame(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let Ok(frame) = Frame::parse(KEY, &bytes) else { return };
    let mut expected = frame.clone();
    if matches!(frame.header.state, State::Lease | State::Tombstone) {
        // they have no tags, whatever the flag says
        expected.header.flags &= !flag::TAGS;
    }
    let again = Frame::parse(KEY, &frame.to_bytes(KEY));
    assert_eq!(again, Ok(expected), "a frame is read as it was written");
    assert!(frame.payload.len() < bytes.len(), "the payload is part of the frame");
}

/// A frame of any content, a byte of which changes: what is read then is no other value.
pub(crate) fn damage(input: &[u8]) {
    let Some((head, rest)) = input.split_first_chunk::<HEADER>() else { return };
    let Some(([count, at, with], rest)) = rest.split_first_chunk::<3>() else { return };
    let mut head = *head;
    // most inputs are to reach what lies behind the first three bytes
    (head[0], head[1], head[2]) = (0xc7, 1, [b'V', b'N', b'S'][usize::from(head[2]) % 3]);
    let Ok(mut header) = Header::parse(&head) else { return };
    let (tags, payload) = rest.split_at((usize::from(count % 4) * 8).min(rest.len()));
    let tags = tags.chunks_exact(8).map(|tag| u64::from_le_bytes(tag.try_into().unwrap_or_default())).collect();
    let tags = Tags::new(tags).expect("few tags");
    let told = |flag: u8, holds: bool, flags: u8| if holds { flags | flag } else { flags & !flag };
    header.flags = told(flag::TAGS, !tags.as_slice().is_empty(), header.flags);
    // a stale frame may have been either
    let negative = header.state == State::Negative || header.state == State::Stale && header.is_negative();
    header.flags = told(flag::NEGATIVE, negative, header.flags);
    let frame = Frame { header, tags, payload: Bytes::copy_from_slice(payload) };
    let bytes = frame.to_bytes(KEY);
    assert_eq!(Frame::parse(KEY, &bytes).as_ref(), Ok(&frame), "a frame is read as it was written");
    assert!(Frame::parse("shop:k:b", &bytes).is_err(), "a frame belongs to its key");
    let mut damaged = bytes.to_vec();
    let at = usize::from(u16::from_le_bytes([*at, *count])) % damaged.len();
    damaged[at] ^= with.max(&1);
    if let Ok(read) = Frame::parse(KEY, &Bytes::from(damaged)) {
        // what scripts change in place is outside the first half of the seal, by design
        assert_eq!((&read.payload, &read.tags), (&frame.payload, &frame.tags), "byte {at}");
        assert_eq!((read.header.codec, read.header.s0), (header.codec, header.s0), "byte {at}");
    }
}

pub(crate) fn headers() -> Vec<Vec<u8>> {
    let states = [State::Value, State::Negative, State::Lease, State::Stale, State::Tombstone];
    let of = |state| Header { state, stamp: Stamp(7), s0: 9, soft_exp: 11, ..Header::value() }.to_bytes().to_vec();
    states.map(of).to_vec()
}

pub(crate) fn frames() -> Vec<Vec<u8>> {
    let value = |state, tags: &[u64], payload: &'static [u8]| {
        let header = Header { state, stamp: Stamp(7), codec: 3, created: 1_700_000_000_000, ..Header::value() };
        let tags = Tags::new(tags.to_vec()).expect("few tags");
        Frame { header, tags, payload: Bytes::from_static(payload) }.to_bytes(KEY).to_vec()
    };
    vec![
        value(State::Value, &[], b"payload"),
        value(State::Value, &[1, 2, 3], b"payload"),
        value(State::Negative, &[], b""),
        value(State::Stale, &[u64::MAX], b"old"),
        Frame::lease(Stamp(5), 1).to_vec(),
        Frame::tombstone(2).to_vec(),
    ]
}

pub(crate) fn damages() -> Vec<Vec<u8>> {
    let spread = |n: u8| (0..120).map(|i: u8| i.wrapping_mul(n)).collect();
    vec![spread(1), spread(31), spread(77), NodeId(7).to_string().into_bytes().repeat(6)]
}
