//! Taking a cache down.

use std::sync::PoisonError;
use std::time::Duration;

use cache_core::observe::Metric;

use super::Engine;

/// After how long it is looked again whether anything is pending, first and at most: twice as long each time, so that a
/// server that does not answer is not asked without a pause.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

impl Engine {
    /// Refuses calls, ends near hits, waits until nothing is under way; cancels after four fifths of `deadline` what
    /// still is; then ends the background tasks and with them the subscription. Whether nothing was cancelled or left.
    pub(crate) async fn close(&self, deadline: Duration) -> bool {
        self.work.close();
        for line in &self.lines {
            let _track = line.track.lock().unwrap_or_else(PoisonError::into_inner);
            line.view.close();
        }
        let drained = tokio::time::timeout(deadline.mul_f32(0.8), self.drained()).await.is_ok();
        if !drained {
            self.work.cancel();
        }
        // the leases of what was cancelled are given back; then everything that is left is dropped
        let rest = deadline.mul_f32(0.1);
        let _ = tokio::time::timeout(rest, self.work.ended()).await;
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = tokio::time::timeout(rest, tasks.shutdown()).await;
        let unsent = self.behind.as_ref().map_or(0, |behind| behind.len());
        self.counters.add(Metric::BackgroundWriteFailed, unsent as u64);
        drained
    }

    async fn drained(&self) {
        let mut pause = LOOK.0;
        loop {
            self.work.ended().await;
            let written = self.behind.as_ref().is_none_or(|behind| behind.len() == 0);
            if written && self.flights.is_empty() && self.pending() == 0 && self.work.running() == 0 {
                return;
            }
            if self.pending() > 0 {
                // what a beat finds answered is retried
                self.lines.iter().for_each(|line| line.beat.notify_one());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }
}
