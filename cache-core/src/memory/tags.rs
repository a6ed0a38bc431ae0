//! Tag generations by period.
//!
//! A period's record holds the last bump of each tag, and its *marker*: the line's number when the record was made.
//! Bumps up to the marker are not in it. The record before it notes the marker as its *successor*; as long as the two
//! agree nothing between them was lost, and what is known reaches back to the older marker.
//!
//! Processes do not agree on the period to the millisecond. Once a record has a successor, bumps go into that one and
//! readers begin there, so the loss of either shows.

use std::collections::BTreeMap;

use super::state::State;
use crate::{Generations, Line, Result};

/// What is known about the bumps of one period.
#[derive(Clone)]
pub(super) struct Period {
    marker: u64,
    successor: Option<u64>,
    bumps: BTreeMap<u64, u64>,
}

impl Period {
    pub(super) fn weight(&self) -> usize {
        48 + self.bumps.len() * 32
    }
}

fn key(line: &Line, period: u64) -> String {
    format!("{}{period}", line.tags)
}

/// The period to use for `period`; its record is made, with marker `seq`, if there is none.
pub(super) fn open(state: &mut State, line: &Line, period: u64, seq: u64, ttl: u64) -> Result<u64> {
    let next = period.saturating_add(1);
    let succeeded = state.period(&key(line, period))?.is_some_and(|record| record.successor.is_some());
    let period = if succeeded || state.period(&key(line, next))?.is_some() { next } else { period };
    if state.period(&key(line, period))?.is_none() {
        state.put_period(&key(line, period), Period { marker: seq, successor: None, bumps: BTreeMap::new() }, ttl);
        if let Some(before) = period.checked_sub(1)
            && let Some(older) = state.period(&key(line, before))?
        {
            older.successor.get_or_insert(seq);
        }
    }
    Ok(period)
}

/// Notes bump `n` of `tag` in the record of `period`, as [`open`] gave it.
pub(super) fn note(state: &mut State, line: &Line, tag: u64, period: u64, n: u64, ttl: u64) -> Result<()> {
    let key = key(line, period);
    if let Some(record) = state.period(&key)? {
        record.bumps.insert(tag, n);
    }
    state.touch_period(&key, ttl);
    Ok(())
}

/// Drops what is known around `period`: nothing may be judged by it any more.
pub(super) fn forget(state: &mut State, line: &Line, period: u64) {
    for period in period.saturating_sub(1)..=period.saturating_add(1) {
        state.remove(&key(line, period));
    }
}

/// What is known about `tags` in `period`, which has been [`open`]ed.
pub(super) fn read(state: &mut State, line: &Line, tags: &[u64], period: u64) -> Result<Generations> {
    // without any record nothing can be judged
    let mut known = Generations { floor: u64::MAX, bumps: vec![0; tags.len()] };
    let (mut begun, mut broken) = (false, false);
    for period in (period.saturating_sub(1)..=period.saturating_add(1)).rev() {
        let Some(record) = state.period(&key(line, period))? else {
            broken |= begun;
            continue;
        };
        broken |= begun && record.successor != Some(known.floor);
        begun = true;
        if !broken {
            known.floor = record.marker;
        }
        for (bump, tag) in known.bumps.iter_mut().zip(tags) {
            *bump = record.bumps.get(tag).copied().unwrap_or(0).max(*bump);
        }
    }
    Ok(known)
}
