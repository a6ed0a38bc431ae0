//! The steps that a store does.

use std::sync::Arc;

use async_trait::async_trait;

use crate::recipe::Expiry;
use crate::{CacheService, Result};

/// A store that keeps leaderboards. Each step is one round trip.
///
/// Every step fails with `Conflict` and [`Reply::WrongType`](crate::Reply::WrongType), and changes nothing, if the key
/// holds something else. Members and scores are checked by the handle.
#[async_trait]
pub trait BoardStore: CacheService {
    /// Sets a member's score; with `best`, only if it is better in that order.
    async fn put(&self, board: &str, member: &str, score: f64, best: Option<Order>, expiry: Expiry) -> Result<Put>;

    /// Adds to a member's score, 0 if it has none; the sum.
    ///
    /// # Errors
    /// `Conflict` if the sum is not finite; nothing is changed.
    async fn raise(&self, board: &str, member: &str, by: f64, expiry: Expiry) -> Result<f64>;

    /// Removes a member; whether it was there.
    async fn withdraw(&self, board: &str, member: &str) -> Result<bool>;

    /// How many members there are.
    async fn members(&self, board: &str) -> Result<u64>;

    /// A member's place.
    async fn standing(&self, board: &str, member: &str, order: Order) -> Result<Option<Standing>>;

    /// `count` members, the first `skip` left out.
    async fn ranked(&self, board: &str, skip: u32, count: u32, order: Order) -> Result<Vec<Standing>>;

    /// A member, as many as `before` that stand before it, and as many as `after` it; none if there is no such member.
    async fn around(&self, board: &str, member: &str, before: u32, after: u32, order: Order) -> Result<Vec<Standing>>;

    /// The first `count` members with scores from `low` to `high`.
    async fn between(&self, board: &str, low: f64, high: f64, count: u32, order: Order) -> Result<Vec<Standing>>;
}

/// Which score comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Points: more is better.
    HighestFirst,
    /// Times and strokes: less is better.
    LowestFirst,
}

impl Order {
    /// Whether `new` is better than `old`.
    #[must_use]
    pub fn is_better(self, new: f64, old: f64) -> bool {
        match self {
            Self::HighestFirst => new > old,
            Self::LowestFirst => new < old,
        }
    }
}

/// What came of setting a score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Put {
    /// The score before.
    pub before: Option<f64>,
    /// Whether the new one was taken.
    pub taken: bool,
}

/// A member's place on a board.
#[derive(Clone, PartialEq)]
pub struct Standing {
    /// Who.
    pub member: String,
    /// With what.
    pub score: f64,
    /// From 1.
    pub rank: u64,
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standing").field("rank", &self.rank).field("score", &self.score).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: BoardStore + ?Sized> BoardStore for Arc<S> {
    async fn put(&self, board: &str, member: &str, score: f64, best: Option<Order>, expiry: Expiry) -> Result<Put> {
        (**self).put(board, member, score, best, expiry).await
    }

    async fn raise(&self, board: &str, member: &str, by: f64, expiry: Expiry) -> Result<f64> {
        (**self).raise(board, member, by, expiry).await
    }

    async fn withdraw(&self, board: &str, member: &str) -> Result<bool> {
        (**self).withdraw(board, member).await
    }

    async fn members(&self, board: &str) -> Result<u64> {
        (**self).members(board).await
    }

    async fn standing(&self, board: &str, member: &str, order: Order) -> Result<Option<Standing>> {
        (**self).standing(board, member, order).await
    }

    async fn ranked(&self, board: &str, skip: u32, count: u32, order: Order) -> Result<Vec<Standing>> {
        (**self).ranked(board, skip, count, order).await
    }

    async fn around(&self, board: &str, member: &str, before: u32, after: u32, order: Order) -> Result<Vec<Standing>> {
        (**self).around(board, member, before, after, order).await
    }

    async fn between(&self, board: &str, low: f64, high: f64, count: u32, order: Order) -> Result<Vec<Standing>> {
        (**self).between(board, low, high, count, order).await
    }
}
