//! The monitor would see staleness beyond the bound. In a file of its own: a broken rule is broken for the whole process.
#![cfg(feature = "mutate")]

mod common;

use std::time::Duration;

use cache_core::observe::Metric;
use cache_tiered::coherence::mutate::{Mutation, set};
use common::{deaf_reader, eventually};

#[tokio::test]
async fn staleness_beyond_the_bound_would_be_seen() {
    set(Some(Mutation::IgnoreGap));
    let (tiered, reader) = deaf_reader().await;
    eventually("it was seen", async || {
        reader.get("k").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        tiered.metrics().get(Metric::StaleBeyondBound) > 0
    })
    .await;
}
