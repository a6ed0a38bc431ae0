//! Ids and lists of keys that come from outside.

use std::sync::LazyLock;

use cache_core::Memory;
use cache_core::recipe::session::{SessionId, SessionName};
use cache_strata::{Cache, ErrorKind, Moka, Tiered};
use tokio::runtime::Runtime;

/// A cookie is no id, or spells the one that it spells.
pub(crate) fn session(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(id) = SessionId::parse(text) {
        assert_eq!(id.expose(), text, "an id is written as it was read");
    }
    if let Some(name) = SessionName::parse(text) {
        assert_eq!(name.to_string(), text, "a name is written as it was read");
    }
}

struct Shop {
    runtime: Runtime,
    cache: Cache<u64>,
}

static SHOP: LazyLock<Shop> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tiered = runtime.block_on(Tiered::builder().near(Moka::new()).far(Memory::new()).build()).expect("a cache");
    Shop { cache: tiered.cache("s").build().expect("a cache"), runtime }
});

/// A list of keys is refused, whatever is wrong with it; one with a sum that fits may hold anything.
pub(crate) fn key_list(input: &[u8]) {
    let Shop { runtime, cache } = &*SHOP;
    let sum = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let summed = [input, &sum.to_le_bytes()].concat();
    for list in [input, &summed] {
        if let Err(error) = runtime.block_on(cache.import(list)) {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        }
    }
}

pub(crate) fn key_lists() -> Vec<Vec<u8>> {
    let list = |keys: &[&str]| {
        let mut list = b"strata\0\x01".to_vec();
        for key in std::iter::once(&"strata:s:").chain(keys) {
            list.extend(u16::try_from(key.len()).unwrap_or_default().to_le_bytes());
            list.extend(key.as_bytes());
        }
        list
    };
    vec![list(&[]), list(&["a"]), list(&["a", "\u{e4}", "", "a\n"]), list(&[&"x".repeat(1100)])]
}

pub(crate) fn sessions() -> Vec<Vec<u8>> {
    vec![b"0123456789abcdef".repeat(5), b"0123456789ABCDEF".repeat(5), b"0".repeat(32), b"f".repeat(64)]
}
