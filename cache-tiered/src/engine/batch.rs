//! Reading many keys: one near pass, one far round trip a line.

use std::collections::BTreeMap;
use std::sync::Arc;

use cache_core::observe::Metric;
use cache_core::{Found, Result};

use super::read::Probe;
use super::trust::Footing;
use super::{Engine, Where};
use crate::answer::{Served, Tier};
use crate::flight::{Boarding, Lead, Outcome, Seat};
use crate::space::Space;

/// What is still to be done for one position of a batch.
enum Pending {
    /// This call reads it.
    Lead(Where, Lead),
    /// Another call does.
    Join(Where, Seat),
}

impl Engine {
    /// The entries under `near_keys`, in order. One key's error does not touch another's result.
    pub(crate) async fn get_many(
        self: &Arc<Self>,
        near_keys: &[String],
        space: &Arc<Space>,
    ) -> Vec<Result<Option<Served>>> {
        let mut results: Vec<Option<Result<Option<Served>>>> = Vec::with_capacity(near_keys.len());
        let mut leads: BTreeMap<usize, Vec<(usize, Where, Lead)>> = BTreeMap::new();
        let mut joins = Vec::new();
        for (index, key) in near_keys.iter().enumerate() {
            results.push(match self.probe_for(key, space) {
                Probe::Hit(entry, freshness) => Some(Ok(Some(Served { entry, tier: Tier::Near, freshness }))),
                Probe::Suspect(_) | Probe::Miss => match self.pend(key).await {
                    Ok(None) => Some(Ok(None)),
                    Ok(Some(Pending::Join(at, seat))) => {
                        self.counters.count(Metric::Joined);
                        joins.push((index, at, seat));
                        None
                    }
                    Ok(Some(Pending::Lead(at, lead))) => {
                        leads.entry(at.line).or_default().push((index, at, lead));
                        None
                    }
                    Err(error) => Some(Err(error)),
                },
            });
        }
        // leads first: a duplicate of a key in this very batch joined the flight that is led here
        let mut reads = tokio::task::JoinSet::new();
        for (_, group) in leads {
            let (engine, space) = (Arc::clone(self), Arc::clone(space));
            reads.spawn(async move { engine.read_group(group, &space).await });
        }
        while let Some(done) = reads.join_next().await {
            for (index, outcome) in done.unwrap_or_default() {
                results[index] = outcome.into_result();
            }
        }
        for (index, at, seat) in joins {
            results[index] = match self.accept(&at, &seat, seat.read().await).into_result() {
                None => Some(self.get(&near_keys[index], space).await),
                result => result,
            };
        }
        results.into_iter().map(|result| result.unwrap_or_else(|| Err(self.unreachable()))).collect()
    }

    async fn pend(&self, near_key: &str) -> Result<Option<Pending>> {
        let at = self.names.locate(near_key)?;
        if self.far.is_none() {
            return Ok(None);
        }
        if self.footing(at.line).await == Footing::CutOff {
            return Err(self.unreachable());
        }
        Ok(Some(match self.board(&at, false, None) {
            Boarding::Joined(seat) => Pending::Join(at, seat),
            Boarding::Leads(lead) => Pending::Lead(at, lead),
        }))
    }

    async fn read_group(&self, group: Vec<(usize, Where, Lead)>, space: &Space) -> Vec<(usize, Outcome)> {
        let sent = self.clock.now();
        let keys: Vec<&str> = group.iter().map(|(_, at, _)| &*at.far).collect();
        let frames = match &self.far {
            Some(far) => far.call(&self.clock, &self.counters, far.leases().read_many(&keys)).await,
            None => Ok(vec![None; keys.len()]),
        };
        let mut results = Vec::with_capacity(group.len());
        for (position, (index, at, lead)) in group.into_iter().enumerate() {
            let read = match &frames {
                Ok(frames) => match frames.get(position).cloned().flatten() {
                    Some(frame) => self.take(&at, &Found { frame, left: None }, sent, space).await,
                    None => Ok(None),
                },
                Err(error) => Err(error.clone()),
            };
            let outcome = self.end_read(&at, lead, space, read.map(|found| found.map(|entry| (entry, Tier::Far))));
            results.push((index, outcome));
        }
        results
    }
}
