//! Nothing but near hits, for an instruction counter: `cargo run --release --bin hits WHAT N`.
//!
//! N hits of `moka` with a fast hasher, of `default` as moka's builder makes it, of `strata` by `get`, of `load` by
//! `get_or_load`. In a program of its own: where a program calls a lookup from many places, the compiler inlines less of each,
//! and a hit cost 60 instructions more for what stood beside it.

use std::hint::black_box;
use std::io;
use std::sync::Arc;

use strata_benches::{Product, bare_moka, default_moka, keys, products, tiered};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, n] = &arguments[..] else { panic!("hits WHAT N") };
    hits(what, n.parse().expect("a number of hits"));
}

fn hits(what: &str, n: u64) {
    let keys = keys(64);
    let next = |i: u64| keys[usize::try_from(i % 64).unwrap_or(0)].as_str();
    let (bare, plain) = (bare_moka(1 << 24), default_moka(1 << 24));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cache = runtime.block_on(async { products(&tiered(None).await) });
    for (id, key) in (0..).zip(&keys) {
        bare.insert(key.as_str().into(), Arc::new(Product::new(id)));
        plain.insert(key.as_str().into(), Arc::new(Product::new(id)));
        runtime.block_on(cache.set(key.as_str(), Product::new(id))).expect("stored");
    }
    let keys = (0..n).map(next);
    runtime.block_on(async {
        match what {
            "moka" => keys.for_each(|key| drop(black_box(bare.get(key)))),
            "default" => keys.for_each(|key| drop(black_box(plain.get(key)))),
            "load" => {
                for key in keys {
                    drop(black_box(cache.get_or_load(key, nothing).await));
                }
            }
            _ => {
                for key in keys {
                    drop(black_box(cache.get(key).await));
                }
            }
        }
    });
}

/// The loader of a near hit: never called.
async fn nothing() -> Result<Product, io::Error> {
    Err(io::ErrorKind::NotFound.into())
}
