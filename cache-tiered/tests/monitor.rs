//! The monitor sees staleness within the bound.

mod common;

use std::io;

use cache_core::observe::Metric;
use cache_tiered::Loaded;
use common::{deaf_reader, eventually, ok};

#[tokio::test]
async fn staleness_within_the_bound_is_counted_and_none_beyond() {
    let (tiered, reader) = deaf_reader().await;
    assert_eq!(reader.get("k").await.unwrap().unwrap().as_str(), "old", "within the bound");
    eventually("it was seen", async || tiered.metrics().get(Metric::StaleWithinBound) > 0).await;
    assert_eq!(tiered.metrics().get(Metric::StaleBeyondBound), 0);
}

/// Whichever call is answered by it.
#[tokio::test]
async fn every_near_hit_may_be_sampled() {
    let load = async || Ok::<_, io::Error>(Loaded::value("new".to_owned()));
    for call in 0..7 {
        let (tiered, reader) = deaf_reader().await;
        match call {
            0 => drop(reader.get("k").await),
            1 => drop(reader.lookup("k").await),
            2 => drop(reader.get_or_load("k", || ok("new")).await),
            3 => drop(reader.load_with("k", load).await),
            4 => drop(reader.get_many(&["k"]).await),
            5 => drop(reader.get_many_or_load(&["k"], async |_| Ok::<_, io::Error>(Vec::new())).await),
            _ => drop(reader.load_if("k", async |_| Ok::<_, io::Error>(Loaded::value("new".to_owned()))).await),
        }
        assert_eq!(tiered.metrics().get(Metric::NearHit), 1, "call {call} is answered near");
        eventually("it was seen", async || tiered.metrics().get(Metric::StaleWithinBound) == 1).await;
    }
}
