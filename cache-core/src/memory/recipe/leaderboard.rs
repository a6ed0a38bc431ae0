//! [`BoardStore`] of a [`Memory`].

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::memory::Memory;
use crate::memory::objects::Object;
use crate::memory::state::State;
use crate::recipe::Expiry;
use crate::recipe::leaderboard::{BoardStore, Order, Put, Standing};
use crate::{Error, ErrorKind, Result};

/// Bytes counted for a member beside its name.
const SLOT: usize = 120;

/// Members by name and in order. A rank is a binary search; a change moves what stands behind it, which is one copy of
/// adjacent memory.
#[derive(Default)]
struct Board {
    scores: HashMap<Arc<str>, f64>,
    /// The lowest first, ties by name.
    order: Vec<(f64, Arc<str>)>,
    names: usize,
}

impl Object for Board {
    fn weight(&self) -> usize {
        self.names + self.order.len() * SLOT
    }
}

fn compare(a: (f64, &str), b: (f64, &str)) -> Ordering {
    a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1))
}

impl Board {
    fn index(&self, score: f64, member: &str) -> std::result::Result<usize, usize> {
        self.order.binary_search_by(|(other, name)| compare((*other, name), (score, member)))
    }

    fn remove(&mut self, member: &str) -> Option<f64> {
        let score = self.scores.remove(member)?;
        if let Ok(index) = self.index(score, member) {
            self.order.remove(index);
        }
        self.names -= member.len();
        Some(score)
    }

    fn put(&mut self, member: &str, score: f64) {
        self.remove(member);
        let name: Arc<str> = member.into();
        let index = self.index(score, member).unwrap_or_else(|index| index);
        self.order.insert(index, (score, Arc::clone(&name)));
        self.scores.insert(name, score);
        self.names += member.len();
    }

    /// Where a member stands, from 0.
    fn place(&self, member: &str, order: Order) -> Option<usize> {
        let index = self.index(*self.scores.get(member)?, member).ok()?;
        Some(match order {
            Order::LowestFirst => index,
            Order::HighestFirst => self.order.len() - 1 - index,
        })
    }

    fn standings(&self, skip: usize, count: usize, order: Order) -> Vec<Standing> {
        let standing = |(i, (score, member)): (usize, &(f64, Arc<str>))| Standing {
            member: member.to_string(),
            score: *score,
            rank: (skip + i) as u64 + 1,
        };
        match order {
            Order::LowestFirst => self.order.iter().skip(skip).take(count).enumerate().map(standing).collect(),
            Order::HighestFirst => self.order.iter().rev().skip(skip).take(count).enumerate().map(standing).collect(),
        }
    }
}

/// Stores a member's score; the board, if it is new, gets its ttl.
fn keep(state: &mut State, board: &str, member: &str, score: f64, expiry: Expiry) -> Result<()> {
    let weight = state.object::<Board>(board)?.map_or(0, |held| held.weight());
    state.fits(weight + member.len() + SLOT)?;
    let whole = state.now() + Duration::from_millis(expiry.millis());
    let (mut held, deadline) = state.take_object::<Board>(board)?.unwrap_or_else(|| (Board::default(), whole));
    held.put(member, score);
    state.put_object(board, held, if expiry.renews() { whole } else { deadline });
    Ok(())
}

fn score(state: &mut State, board: &str, member: &str) -> Result<Option<f64>> {
    Ok(state.object::<Board>(board)?.and_then(|held| held.scores.get(member).copied()))
}

#[async_trait]
impl BoardStore for Memory {
    async fn put(&self, board: &str, member: &str, new: f64, best: Option<Order>, expiry: Expiry) -> Result<Put> {
        self.run("put", |state| {
            let before = score(state, board, member)?;
            let taken = best.zip(before).is_none_or(|(order, old)| order.is_better(new, old));
            if taken {
                keep(state, board, member, new, expiry)?;
            }
            Ok(Put { before, taken })
        })
    }

    async fn raise(&self, board: &str, member: &str, by: f64, expiry: Expiry) -> Result<f64> {
        self.run("raise", |state| {
            let sum = score(state, board, member)?.unwrap_or(0.0) + by;
            if !sum.is_finite() {
                return Err(Error::new(ErrorKind::Conflict, "the score would overflow"));
            }
            keep(state, board, member, sum, expiry)?;
            Ok(sum)
        })
    }

    async fn withdraw(&self, board: &str, member: &str) -> Result<bool> {
        self.run("withdraw", |state| {
            let Some((mut held, deadline)) = state.take_object::<Board>(board)? else { return Ok(false) };
            let removed = held.remove(member).is_some();
            if !held.order.is_empty() {
                state.put_object(board, held, deadline);
            }
            Ok(removed)
        })
    }

    async fn members(&self, board: &str) -> Result<u64> {
        self.run("members", |state| Ok(state.object::<Board>(board)?.map_or(0, |held| held.order.len() as u64)))
    }

    async fn standing(&self, board: &str, member: &str, order: Order) -> Result<Option<Standing>> {
        self.run("standing", |state| {
            let Some(held) = state.object::<Board>(board)? else { return Ok(None) };
            Ok(held.place(member, order).and_then(|place| held.standings(place, 1, order).pop()))
        })
    }

    async fn ranked(&self, board: &str, skip: u32, count: u32, order: Order) -> Result<Vec<Standing>> {
        self.run("ranked", |state| {
            let Some(held) = state.object::<Board>(board)? else { return Ok(Vec::new()) };
            Ok(held.standings(skip as usize, count as usize, order))
        })
    }

    async fn around(&self, board: &str, member: &str, before: u32, after: u32, order: Order) -> Result<Vec<Standing>> {
        self.run("around", |state| {
            let Some(held) = state.object::<Board>(board)? else { return Ok(Vec::new()) };
            let Some(place) = held.place(member, order) else { return Ok(Vec::new()) };
            let skip = place.saturating_sub(before as usize);
            Ok(held.standings(skip, (place - skip).saturating_add(after as usize).saturating_add(1), order))
        })
    }

    async fn between(&self, board: &str, low: f64, high: f64, count: u32, order: Order) -> Result<Vec<Standing>> {
        self.run("between", |state| {
            let Some(held) = state.object::<Board>(board)? else { return Ok(Vec::new()) };
            let (from, to) = (
                held.order.partition_point(|(score, _)| *score < low),
                held.order.partition_point(|(score, _)| *score <= high),
            );
            let skip = match order {
                Order::LowestFirst => from,
                Order::HighestFirst => held.order.len() - to,
            };
            Ok(held.standings(skip, (to - from).min(count as usize), order))
        })
    }
}
