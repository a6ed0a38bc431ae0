//! What each call of the contract costs on each backend.

use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use strata_benches::{backends, keys, runtime, server};

const TTL: Duration = Duration::from_secs(3600);

fn contract(c: &mut Criterion) {
    let runtime = runtime();
    let server = server();
    let keys = keys(1000);
    let value = Bytes::from(vec![7; 512]);
    for (name, store) in runtime.block_on(backends(&server)) {
        runtime.block_on(async {
            for key in &keys {
                store.set(key, value.clone(), TTL).await.expect("stored");
            }
        });
        let batch: Vec<&str> = keys.iter().take(100).map(String::as_str).collect();
        let mut next = keys.iter().cycle();
        let mut group = c.benchmark_group("contract");
        let mut bench = |what: &str, call: &mut dyn FnMut()| {
            group.bench_function(BenchmarkId::new(what, name), |b| b.iter(&mut *call));
        };
        bench("get", &mut || {
            let key = next.next().expect("keys");
            assert!(runtime.block_on(store.get(key)).expect("an answer").is_some());
        });
        bench("miss", &mut || assert!(runtime.block_on(store.get("no such key")).expect("an answer").is_none()));
        bench("set", &mut || runtime.block_on(store.set("one", value.clone(), TTL)).expect("stored"));
        bench("delete", &mut || assert!(!runtime.block_on(store.delete("gone")).expect("an answer")));
        bench("get_many/100", &mut || {
            assert_eq!(runtime.block_on(store.get_many(&batch)).expect("an answer").len(), 100);
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = contract
}
criterion_main!(benches);
