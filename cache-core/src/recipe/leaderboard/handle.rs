//! What an application calls.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::{BoardStore, Order, Standing};
use crate::recipe::Expiry;
use crate::{Error, ErrorKind, Result, check_key};

/// Leaderboards under keys, the highest score first unless told otherwise. Each call is one round trip; clones share
/// the store.
///
/// A board gets its ttl when it is made and keeps it; with [`renewing`](Self::renewing), each change prolongs it. A
/// board a day is a [`Window`](crate::recipe::Window) away.
///
/// # Errors
/// Every call: `Invalid` for a bad key, a bad member (what is no key is no member), a score that is not finite or a
/// count of 0; `Conflict` if the key holds something else, and nothing is changed; else what the store says.
///
/// # Cancellation
/// Dropping a call leaves the board either as before or as asked.
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// use cache_core::Memory;
/// use cache_core::recipe::{Leaderboards, Window};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cache_core::Result<()> {
/// let daily = Window::daily();
/// let boards = Leaderboards::new(Memory::new(), daily.ttl(7))?; // readable for a week
/// let today = daily.key("points", SystemTime::now());
///
/// boards.increment(&today, "ada", 120.0).await?;
/// boards.increment(&today, "bob", 150.0).await?;
/// let top = boards.top(&today, 10).await?;
/// assert_eq!((&*top[0].member, top[0].rank), ("bob", 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Leaderboards {
    store: Arc<dyn BoardStore>,
    expiry: Expiry,
    order: Order,
}

impl Leaderboards {
    /// Boards in `store` that live for `ttl` from when they were made.
    ///
    /// # Errors
    /// `Invalid` if `ttl` is below 1 ms or beyond [`MAX_TTL`](crate::MAX_TTL).
    pub fn new(store: impl BoardStore, ttl: Duration) -> Result<Self> {
        Ok(Self { store: Arc::new(store), expiry: Expiry::kept(ttl)?, order: Order::HighestFirst })
    }

    /// The same, but each change lets the board live for the whole ttl again.
    #[must_use]
    pub fn renewing(self) -> Self {
        Self { expiry: self.expiry.renewed(), ..self }
    }

    /// The same, but the lowest score comes first, as for lap times.
    #[must_use]
    pub fn lowest_first(self) -> Self {
        Self { order: Order::LowestFirst, ..self }
    }

    /// Sets a member's score; the one before.
    ///
    /// # Errors
    /// As every call.
    pub async fn add(&self, board: &str, member: &str, score: f64) -> Result<Option<f64>> {
        named(board, member)?;
        let score = finite("the score", score)?;
        Ok(self.store.put(board, member, score, None, self.expiry).await?.before)
    }

    /// Sets a member's score if it is the member's best; whether it was.
    ///
    /// # Errors
    /// As every call.
    pub async fn add_best(&self, board: &str, member: &str, score: f64) -> Result<bool> {
        named(board, member)?;
        let score = finite("the score", score)?;
        Ok(self.store.put(board, member, score, Some(self.order), self.expiry).await?.taken)
    }

    /// Adds `by`, which may be negative, to a member's score, 0 if it has none; the sum.
    ///
    /// # Errors
    /// `Conflict` if the sum is not finite, and nothing is changed; and as every call.
    pub async fn increment(&self, board: &str, member: &str, by: f64) -> Result<f64> {
        named(board, member)?;
        self.store.raise(board, member, finite("the increment", by)?, self.expiry).await
    }

    /// Removes a member; whether it was there.
    ///
    /// # Errors
    /// As every call.
    pub async fn remove(&self, board: &str, member: &str) -> Result<bool> {
        named(board, member)?;
        self.store.withdraw(board, member).await
    }

    /// How many members the board has.
    ///
    /// # Errors
    /// As every call.
    pub async fn count(&self, board: &str) -> Result<u64> {
        check_key(board)?;
        self.store.members(board).await
    }

    /// The first `n`.
    ///
    /// # Errors
    /// As every call.
    pub async fn top(&self, board: &str, n: u32) -> Result<Vec<Standing>> {
        self.page(board, 0, n).await
    }

    /// `n` after the first `skip`.
    ///
    /// # Errors
    /// As every call.
    pub async fn page(&self, board: &str, skip: u32, n: u32) -> Result<Vec<Standing>> {
        check_key(board)?;
        some(n)?;
        self.store.ranked(board, skip, n, self.order).await
    }

    /// A member's rank and score; `None` if it has none.
    ///
    /// # Errors
    /// As every call.
    pub async fn standing(&self, board: &str, member: &str) -> Result<Option<Standing>> {
        named(board, member)?;
        self.store.standing(board, member, self.order).await
    }

    /// A member's rank, from 1.
    ///
    /// # Errors
    /// As every call.
    pub async fn rank(&self, board: &str, member: &str) -> Result<Option<u64>> {
        Ok(self.standing(board, member).await?.map(|standing| standing.rank))
    }

    /// A member's score.
    ///
    /// # Errors
    /// As every call.
    pub async fn score(&self, board: &str, member: &str) -> Result<Option<f64>> {
        Ok(self.standing(board, member).await?.map(|standing| standing.score))
    }

    /// A member with up to `before` that stand before it and `after` that stand after it; nobody if it has no score.
    ///
    /// # Errors
    /// As every call.
    pub async fn around(&self, board: &str, member: &str, before: u32, after: u32) -> Result<Vec<Standing>> {
        named(board, member)?;
        self.store.around(board, member, before, after, self.order).await
    }

    /// The first `n` with scores in `scores`, whose ends may be infinite.
    ///
    /// # Errors
    /// `Invalid` if the range is empty or an end is no number, and as every call.
    pub async fn by_score(&self, board: &str, scores: RangeInclusive<f64>, n: u32) -> Result<Vec<Standing>> {
        check_key(board)?;
        some(n)?;
        let (low, high) = scores.into_inner();
        if low <= high {
            return self.store.between(board, low, high, n, self.order).await;
        }
        Err(Error::new(ErrorKind::Invalid, "the range of scores is empty; its lower end comes first"))
    }
}

impl fmt::Debug for Leaderboards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaderboards")
            .field("store", &self.store.name())
            .field("expiry", &self.expiry)
            .field("order", &self.order)
            .finish()
    }
}

fn named(board: &str, member: &str) -> Result<()> {
    check_key(board)?;
    let text = "the member is empty, longer than 1024 bytes, or holds a control character";
    check_key(member).map_err(|_| Error::new(ErrorKind::Invalid, text))
}

fn finite(what: &str, score: f64) -> Result<f64> {
    if score.is_finite() {
        // there is one zero
        return Ok(score + 0.0);
    }
    Err(Error::new(ErrorKind::Invalid, format!("{what} is not a finite number")))
}

fn some(n: u32) -> Result<()> {
    if n > 0 { Ok(()) } else { Err(Error::new(ErrorKind::Invalid, "a list of 0 members was asked for")) }
}
