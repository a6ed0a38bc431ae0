//! Reading many keys where there is no near store.

use std::collections::BTreeMap;

use cache_core::{Found, Result, Stamp};

use super::{Results, join_all};
use crate::answer::{Served, Tier};
use crate::engine::trust::Footing;
use crate::engine::{Engine, Where};
use crate::space::Space;

impl Engine {
    /// Reads `keys` from the far store, one round trip a line, without a flight for each: nothing is installed, so there
    /// is nothing to fence. What was read is told to the flights that others have under way.
    pub(super) async fn read_bare(&self, keys: &[String], space: &Space) -> Results {
        let mut results: Vec<Option<Result<Option<Served>>>> = Vec::with_capacity(keys.len());
        let mut lines: BTreeMap<usize, Vec<(usize, Where)>> = BTreeMap::new();
        for (index, key) in keys.iter().enumerate() {
            results.push(match self.place(key) {
                Ok(at) => {
                    lines.entry(at.line).or_default().push((index, at));
                    None
                }
                Err(error) => Some(Err(error)),
            });
        }
        let reads = lines.iter().map(|(line, places)| self.read_line(*line, places, space));
        for (index, read) in join_all(reads).await.into_iter().flatten() {
            if let Some(result) = results.get_mut(index) {
                *result = Some(read);
            }
        }
        results.into_iter().map(|result| result.unwrap_or(Ok(None))).collect()
    }

    async fn read_line(
        &self,
        line: usize,
        places: &[(usize, Where)],
        space: &Space,
    ) -> Vec<(usize, Result<Option<Served>>)> {
        let Some(far) = &self.far else { return Vec::new() };
        if self.footing(line).await == Footing::CutOff {
            return places.iter().map(|(index, _)| (*index, Err(self.unreachable()))).collect();
        }
        let sent = self.clock.now();
        let names: Vec<&str> = places.iter().map(|(_, at)| &*at.far).collect();
        let frames = match far.call(&self.clock, &self.counters, far.leases().read_many(&names)).await {
            Ok(frames) => frames,
            Err(error) => return places.iter().map(|(index, _)| (*index, Err(error.clone()))).collect(),
        };
        let mut reads = Vec::with_capacity(places.len());
        let mut told: Vec<(&str, Stamp)> = Vec::with_capacity(places.len());
        for ((index, at), frame) in places.iter().zip(frames) {
            let read = match frame {
                Some(frame) => self.take(at, &Found { frame, left: None }, sent, space).await,
                None => Ok(None),
            };
            if let Ok(Some(entry)) = &read {
                told.push((&at.near, entry.header().stamp));
            }
            reads.push((*index, read.map(|found| found.map(|entry| Served::fresh(entry, Tier::Far)))));
        }
        self.flights.contest(told);
        reads
    }
}
