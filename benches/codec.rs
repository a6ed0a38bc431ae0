//! What a value costs on its way to bytes and back: each codec, then each packing. The floor is a copy of the bytes.

use std::hint::black_box;

use bytes::Bytes;
use cache_strata::codec::{Bincode, Codec, Json, MsgPack, Postcard};
use cache_strata::core::{Frame, Header, Tags};
use cache_strata::packing::{Compression, Keyring, Packing};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use strata_benches::Product;

fn codecs() -> [(&'static str, Box<dyn Codec<Product>>); 4] {
    [
        ("bincode", Box::new(Bincode)),
        ("postcard", Box::new(Postcard)),
        ("msgpack", Box::new(MsgPack)),
        ("json", Box::new(Json)),
    ]
}

fn codec(c: &mut Criterion) {
    let product = Product::new(42);
    let mut group = c.benchmark_group("codec");
    for (name, codec) in codecs() {
        let bytes = codec.encode(&product).expect("a product encodes");
        println!("{name}: {} bytes", bytes.len());
        group.bench_function(BenchmarkId::new("encode", name), |b| b.iter(|| codec.encode(black_box(&product))));
        group.bench_function(BenchmarkId::new("decode", name), |b| b.iter(|| codec.decode(black_box(&bytes))));
    }
    group.finish();
}

/// A page of products as json: text that compresses as text does.
fn page(length: usize) -> Bytes {
    let mut text = Vec::new();
    for id in 0.. {
        if text.len() >= length {
            break;
        }
        text.extend_from_slice(&Json.encode(&Product::new(id * 7919)).expect("a product encodes"));
    }
    text.truncate(length);
    text.into()
}

fn packing(c: &mut Criterion) {
    let keys = || Keyring::new(1, &[7; 32]).expect("a key");
    let (lz4, zstd) = (Compression::lz4(), Compression::zstd());
    let packings = [
        ("plain", Packing::default()),
        ("lz4", Packing::default().compress(lz4)),
        ("zstd", Packing::default().compress(zstd)),
        ("aes", Packing::default().encrypt(keys())),
        ("zstd and aes", Packing::default().compress(zstd).encrypt(keys())),
    ];
    for length in [1 << 10, 16 << 10, 256 << 10] {
        let frame = Frame { header: Header::value(), tags: Tags::default(), payload: page(length) };
        let mut group = c.benchmark_group(format!("packing/{length}"));
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function("floor: copy", |b| b.iter(|| Bytes::copy_from_slice(black_box(&frame.payload))));
        for (name, packing) in &packings {
            let bytes = packing.pack("shop:k:products:42", &frame).expect("packs");
            println!("{name} of {length}: {} bytes", bytes.len());
            group.bench_function(BenchmarkId::new("pack", name), |b| {
                b.iter(|| packing.pack("shop:k:products:42", black_box(&frame)));
            });
            group.bench_function(BenchmarkId::new("unpack", name), |b| {
                b.iter(|| packing.unpack("shop:k:products:42", black_box(&bytes)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, codec, packing);
criterion_main!(benches);
