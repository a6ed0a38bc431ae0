//! Watching the bound in production: sampled near hits are compared with the far store (the idea of Meta's Polaris).

use std::collections::HashMap;
use std::sync::Arc;

use cache_core::envelope::flag;
use cache_core::observe::Metric;
use cache_core::{Entry, Header, Stamp, State};
use tokio::sync::mpsc;

use super::Engine;
use super::heat::Heat;

/// How many sampled hits may wait to be looked at; more are not sampled.
const WAITING: usize = 64;

/// What looks at near hits, where anything does.
#[derive(Debug)]
pub(crate) struct Monitor {
    compare: Option<Compare>,
    heat: Option<Heat>,
}

/// Where sampled hits go to be compared.
#[derive(Debug)]
struct Compare {
    one_in: u32,
    samples: mpsc::Sender<Sample>,
}

/// A near hit that was served as trusted.
#[derive(Debug)]
pub(crate) struct Sample {
    near_key: String,
    stamp: Stamp,
}

impl Monitor {
    /// A monitor that compares one hit in so many, and counts the heat of one in so many; and what is to be compared.
    pub(crate) fn new(compare: Option<u32>, heat: Option<u32>) -> (Option<Self>, Option<mpsc::Receiver<Sample>>) {
        let (compare, receiver) = compare
            .map(|one_in| {
                let (samples, receiver) = mpsc::channel(WAITING);
                (Compare { one_in, samples }, receiver)
            })
            .unzip();
        let heat = heat.map(Heat::new);
        let watches = compare.is_some() || heat.is_some();
        (watches.then_some(Self { compare, heat }), receiver)
    }

    /// Maybe samples a hit. Never waits.
    pub(crate) fn see(&self, near_key: &str, entry: &Entry) {
        if let Some(heat) = &self.heat {
            heat.see(near_key);
        }
        if let Some(compare) = &self.compare {
            compare.see(near_key, entry);
        }
    }

    /// How often sampled keys were hit.
    pub(crate) fn heat(&self) -> HashMap<Box<str>, u32> {
        self.heat.as_ref().map(Heat::counts).unwrap_or_default()
    }
}

impl Compare {
    fn see(&self, near_key: &str, entry: &Entry) {
        if fastrand::u32(..self.one_in) == 0 {
            let sample = Sample { near_key: near_key.to_owned(), stamp: entry.header().stamp };
            // while many wait, the next ones are not sampled
            let _ = self.samples.try_send(sample);
        }
    }
}

impl Engine {
    /// Looks at what was sampled, for ever.
    pub(crate) async fn watch(self: Arc<Self>, mut samples: mpsc::Receiver<Sample>) {
        while let Some(sample) = samples.recv().await {
            self.compare(&sample).await;
        }
    }

    /// Compares a sampled hit with the far store. Another value there means that the hit was stale: within the bound, if
    /// it is no longer served a bound later. A missing key says nothing: it may have been evicted.
    async fn compare(&self, sample: &Sample) {
        let (Ok(at), Some(far)) = (self.names.locate(&sample.near_key), &self.far) else { return };
        let Ok(Some(head)) = far.leases().peek(&at.far).await else { return };
        // what a refresh replaced was good to its end
        let replaced = Header::parse(&head).is_ok_and(|header| {
            matches!(header.state, State::Value | State::Negative)
                && header.stamp != sample.stamp
                && header.flags & flag::REFRESHED == 0
        });
        if !replaced {
            return;
        }
        tokio::time::sleep(self.options.bound).await;
        let served = matches!(self.probe(&sample.near_key), super::Probe::Hit(entry, freshness)
            if entry.header().stamp == sample.stamp && freshness == crate::Freshness::WithinBound);
        self.counters.count(if served { Metric::StaleBeyondBound } else { Metric::StaleWithinBound });
        if served {
            tracing::error!("a near entry was served for longer than the bound after it was replaced");
        }
    }
}
