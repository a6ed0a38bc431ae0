//! Many keys at once where there is no near store: what is read, and what a look closer finds.

mod common;

use std::time::Duration;

use bytes::Bytes;
use cache_core::testkit::Chaos;
use cache_core::testkit::chaos::Op;
use cache_core::{CacheService, ErrorKind, Memory};
use cache_tiered::{Loaded, Tiered};
use common::batch::{texts, values};
use common::{BOUND, eventually, names, ok};

const TTL: Duration = Duration::from_secs(60);

async fn bare(far: impl CacheService) -> Tiered {
    Tiered::builder().far(far).bound(BOUND).build().await.unwrap()
}

#[tokio::test]
async fn a_batch_without_a_near_store_reads_what_each_key_alone_reads() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let (one, two) = (bare(far.clone()).await, bare(memory.clone()).await);
    let (cache, writer) = (names(&one), names(&two));
    writer.set("plain", "plain".to_owned()).await.unwrap();
    for (key, tag) in [("tagged", "kept"), ("bumped", "bumped")] {
        writer.store(key, Loaded::value(key.to_owned()).tag(tag)).await.unwrap();
    }
    two.invalidate_tag("bumped").await.unwrap();
    writer.find_or_load("negative", async || Ok::<_, std::io::Error>(None)).await.unwrap();
    writer.set("invalidated", "old".to_owned()).await.unwrap();
    writer.invalidate("invalidated").await.unwrap();
    // bytes that are none of ours, one cut, and one under another key's name
    let frame = memory.get("strata:k:names:plain").await.unwrap().unwrap();
    memory.set("strata:k:names:foreign", Bytes::from_static(b"hello"), TTL).await.unwrap();
    memory.set("strata:k:names:cut", frame.slice(..frame.len() - 1), TTL).await.unwrap();
    memory.set("strata:k:names:moved", frame, TTL).await.unwrap();

    let keys = ["plain", "tagged", "bumped", "negative", "invalidated", "foreign", "cut", "moved", "nowhere", "plain"];
    let found = values(&cache.get_many(&keys).await);
    assert_eq!(far.calls(Op::ReadMany), 1);
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found.as_deref(), cache.get(key).await.unwrap().as_deref().map(String::as_str), "{key}");
        assert_eq!(found.is_some(), matches!(*key, "plain" | "tagged"), "{key}");
    }
    for junk in ["foreign", "cut", "moved"] {
        assert!(!memory.exists(&format!("strata:k:names:{junk}")).await.unwrap(), "{junk} stays in the way of a load");
    }
}

#[tokio::test]
async fn plain_bytes_come_back_and_one_bad_key_refuses_the_call_before_anything_is_read() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiered = bare(far.clone()).await;
    for key in texts(0, 3) {
        tiered.set(&key, Bytes::from(format!("v:{key}")), TTL).await.unwrap();
    }
    let found = tiered.get_many(&["k002", "none", "k000", "k002"]).await.unwrap();
    assert_eq!(found, [Some("v:k002".into()), None, Some("v:k000".into()), Some("v:k002".into())]);
    assert_eq!(tiered.get_many(&[]).await.unwrap(), Vec::<Option<Bytes>>::new());
    let asked = far.calls(Op::ReadMany);
    for bad in ["", "a\nb", &"x".repeat(1100)] {
        let error = tiered.get_many(&["k000", bad]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{} bytes", bad.len());
    }
    assert_eq!(far.calls(Op::ReadMany), asked);
    tiered.close().await;
    assert_eq!(tiered.get_many(&["k000"]).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_batch_without_a_near_store_reads_the_writes_of_its_own_process_that_are_on_their_way() {
    let memory = Memory::new();
    let far = Chaos::new(memory.clone());
    let tiered = Tiered::builder().far(far.clone()).bound(BOUND).background_writes(100).build().await.unwrap();
    let cache = names(&tiered);
    cache.get_or_load("k", || ok("old")).await.unwrap();
    far.hang();
    cache.set("k", "new".into()).await.unwrap();
    assert_eq!(values(&cache.get_many(&["k"]).await), [Some("new".to_owned())]);
    far.unhang();
    eventually("it is written", async || tiered.pending_writes() == 0).await;
    assert_eq!(values(&cache.get_many(&["k"]).await), [Some("new".to_owned())]);
}

#[tokio::test]
async fn after_a_clear_a_batch_without_a_near_store_reads_nothing_from_before_it() {
    let memory = Memory::new();
    let (one, two) = (bare(memory.clone()).await, bare(memory.clone()).await);
    let (cache, writer) = (names(&one), names(&two));
    writer.set("old", "old".to_owned()).await.unwrap();
    assert_eq!(values(&cache.get_many(&["old"]).await), [Some("old".to_owned())]);
    two.clear().await.unwrap();
    writer.set("new", "new".to_owned()).await.unwrap();
    eventually("it is heard of", async || cache.get("old").await.unwrap().is_none()).await;
    memory.set("x", Bytes::new(), TTL).await.unwrap();
    assert_eq!(values(&cache.get_many(&["new", "old"]).await), [Some("new".to_owned()), None]);
    assert_eq!(values(&cache.get_many(&["old", "new"]).await), [None, Some("new".to_owned())]);
}
