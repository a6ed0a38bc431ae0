//! Packed payloads: compressed, encrypted, or claimed to be.

use bytes::Bytes;
use cache_core::codec::DECODE_LIMIT;
use cache_core::envelope::{Frame, Header, Tags, flag};
use cache_core::packing::{Compression, Keyring, Packing};

const KEY: &str = "shop:k:a";

/// The first byte chooses what is claimed of the rest. A payload is refused, or is read as it was packed.
pub(crate) fn unpack(input: &[u8]) {
    let Some((kind, payload)) = input.split_first() else { return };
    let flags = [flag::COMPRESSED, flag::SEALED, flag::COMPRESSED | flag::SEALED, 0][usize::from(kind % 4)];
    let header = Header { flags, ..Header::value() };
    let frame = Frame { header, tags: Tags::default(), payload: Bytes::copy_from_slice(payload) };
    let packings = [Packing::default(), Packing::default().encrypt(ring()), both()];
    for packing in &packings {
        if let Ok(read) = packing.unpack(KEY, &frame.to_bytes(KEY)) {
            assert_eq!(read.header.flags & (flag::COMPRESSED | flag::SEALED), 0, "a payload that was read is plain");
            assert!(read.payload.len() <= DECODE_LIMIT, "{} bytes came out", read.payload.len());
            let again = packing.unpack(KEY, &packing.pack(KEY, &read).expect("what was read can be packed"));
            assert_eq!(again, Ok(read), "a frame is read as it was packed");
        }
    }
}

fn ring() -> Keyring {
    Keyring::new(1, &[7; 32]).expect("a key")
}

fn both() -> Packing {
    Packing::default().compress(Compression::zstd()).encrypt(ring())
}

pub(crate) fn packed() -> Vec<Vec<u8>> {
    let plain = Frame { header: Header::value(), tags: Tags::default(), payload: Bytes::from(vec![b'a'; 2000]) };
    let of = |kind: u8, packing: Packing| {
        let bytes = packing.pack(KEY, &plain).expect("a packed frame");
        let payload = Frame::parse(KEY, &bytes).expect("a frame").payload;
        [&[kind], &payload[..]].concat()
    };
    vec![
        of(0, Packing::default().compress(Compression::lz4())),
        of(0, Packing::default().compress(Compression::zstd())),
        of(1, Packing::default().encrypt(ring())),
        of(2, both()),
        b"\x03plain".to_vec(),
    ]
}
