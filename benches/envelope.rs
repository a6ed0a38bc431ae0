//! What the frame around a value costs, without a codec: made and sealed, its header read, the whole checked and taken
//! apart. The floor is a copy of the payload.

use std::hint::black_box;

use bytes::Bytes;
use cache_strata::core::{Frame, Header, Tags};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const KEY: &str = "shop:k:products:42";

fn envelope(c: &mut Criterion) {
    for length in [200, 4 << 10, 64 << 10] {
        let payload = Bytes::from(vec![7; length]);
        let mut group = c.benchmark_group(format!("envelope/{length}"));
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function("floor: copy", |b| b.iter(|| Bytes::copy_from_slice(black_box(&payload))));
        for (name, tags) in [("no tags", vec![]), ("3 tags", vec![1, 2, 3])] {
            let tags = Tags::new(tags).expect("few tags");
            let frame = Frame { header: Header::value(), tags, payload: payload.clone() };
            let bytes = frame.to_bytes(KEY);
            group.bench_function(BenchmarkId::new("seal", name), |b| b.iter(|| black_box(&frame).to_bytes(KEY)));
            group.bench_function(BenchmarkId::new("header", name), |b| b.iter(|| Header::parse(black_box(&bytes))));
            // the payload is not copied: it shares the bytes
            group.bench_function(BenchmarkId::new("check", name), |b| b.iter(|| Frame::parse(KEY, black_box(&bytes))));
        }
        group.finish();
    }
}

criterion_group!(benches, envelope);
criterion_main!(benches);
