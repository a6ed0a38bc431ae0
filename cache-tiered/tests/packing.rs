//! What stands in the far store, compressed and encrypted, between processes.

mod common;

use cache_core::observe::Metric;
use cache_core::packing::{Compression, Keyring, Packing};
use cache_core::{CacheService, Memory};
use cache_tiered::{Cache, Tier, Tiered};
use common::{BOUND, names, ok};

const SECRET: [u8; 32] = [7; 32];

/// A process without memory of its own: every read is a far read.
async fn reader(far: &Memory, packing: Packing) -> (Tiered, Cache<String>) {
    let tiered = Tiered::builder().far(far.clone()).bound(BOUND).packing(packing).build().await.unwrap();
    let names = names(&tiered);
    (tiered, names)
}

/// The bytes of the only value in the store.
async fn stored(far: &Memory) -> (String, bytes::Bytes) {
    let keys = far.sweep().unwrap().keys("strata:k:").await.unwrap();
    let [key] = keys.as_slice() else { panic!("{} keys", keys.len()) };
    (key.clone(), far.get(key).await.unwrap().unwrap())
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn processes_with_the_same_keys_read_each_other_and_nobody_else_does() {
    let far = Memory::new();
    let sealed = || Packing::default().compress(Compression::zstd()).encrypt(Keyring::new(1, &SECRET).unwrap());
    let (_one, writer) = reader(&far, sealed()).await;
    let (_two, friend) = reader(&far, sealed()).await;
    let stranger = Packing::default().encrypt(Keyring::new(1, &[9; 32]).unwrap());
    let (three, stranger) = reader(&far, stranger).await;
    let secret = "a secret ".repeat(1000);
    writer.set("k", secret.clone()).await.unwrap();
    let (_, bytes) = stored(&far).await;
    assert!(!contains(&bytes, "a secret") && bytes.len() < 500, "{} bytes", bytes.len());

    let answer = friend.lookup("k").await.unwrap().unwrap();
    assert_eq!((answer.value.as_deref(), answer.tier), (Some(&secret), Tier::Far));

    assert!(stranger.get("k").await.unwrap().is_none());
    assert_eq!(three.metrics().get(Metric::Malformed), 1);
    assert_eq!(*stranger.get_or_load("k", || ok("own")).await.unwrap(), "own");
}

#[tokio::test]
async fn a_value_copied_to_another_key_is_a_miss() {
    let far = Memory::new();
    let (tiered, cache) = reader(&far, Packing::default().encrypt(Keyring::new(1, &SECRET).unwrap())).await;
    cache.set("admin", "yes".into()).await.unwrap();
    let (key, bytes) = stored(&far).await;
    far.set(&key.replace("admin", "guest"), bytes, BOUND * 100).await.unwrap();
    assert!(cache.get("guest").await.unwrap().is_none());
    assert_eq!(tiered.metrics().get(Metric::Malformed), 1);
    assert_eq!(cache.get("admin").await.unwrap().as_deref().map(String::as_str), Some("yes"));
}

#[tokio::test]
async fn loads_batches_and_negatives_are_packed_too() {
    let far = Memory::new();
    let sealed = || Packing::default().compress(Compression::lz4().over(1)).encrypt(Keyring::new(1, &SECRET).unwrap());
    let (_one, writer) = reader(&far, sealed()).await;
    let long = "b".repeat(5000);
    let same = long.clone();
    writer.get_or_load("long", async move || Ok::<_, std::io::Error>(same)).await.unwrap();
    let none = async || Ok::<Option<String>, std::io::Error>(None);
    assert!(writer.find_or_load("none", none).await.unwrap().is_none());
    let (_two, friend) = reader(&far, sealed()).await;
    let found: Vec<_> = friend.get_many(&["long", "none", "missing"]).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(found[0].as_deref(), Some(&long));
    assert!(found[1].is_none() && found[2].is_none());
    let asked = friend.lookup("none").await.unwrap().expect("remembered as nothing");
    assert!(asked.value.is_none());
}

#[tokio::test]
async fn a_namespace_becomes_compressed_while_it_is_used() {
    let far = Memory::new();
    let (_old, plain) = reader(&far, Packing::default()).await;
    let (_new, packed) = reader(&far, Packing::default().compress(Compression::lz4())).await;
    let value = "c".repeat(4000);
    plain.set("old", value.clone()).await.unwrap();
    packed.set("new", value.clone()).await.unwrap();
    for cache in [&plain, &packed] {
        for key in ["old", "new"] {
            assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&value), "{key}");
        }
    }
}
