//! The monitor sees staleness within the bound.

mod common;

use cache_core::observe::Metric;
use common::{deaf_reader, eventually};

#[tokio::test]
async fn staleness_within_the_bound_is_counted_and_none_beyond() {
    let (tiered, reader) = deaf_reader().await;
    assert_eq!(reader.get("k").await.unwrap().unwrap().as_str(), "old", "within the bound");
    eventually("it was seen", async || tiered.metrics().get(Metric::StaleWithinBound) > 0).await;
    assert_eq!(tiered.metrics().get(Metric::StaleBeyondBound), 0);
}
