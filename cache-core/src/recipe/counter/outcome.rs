//! The refusals that an application expects: answers of the counter, not failures of the store.

use thiserror::Error;

/// The increment would pass the limit; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the limit would be exceeded")]
pub struct LimitExceeded {
    /// What the counter holds, 0 if it is missing.
    pub current: i64,
}

/// There is less in stock than was asked for; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{}", if self.stock.is_some() { "not enough in stock" } else { "the stock is not known; load it" })]
pub struct InsufficientStock {
    /// What is left; `None` if nothing is known about this stock, which is not the same as sold out.
    pub stock: Option<i64>,
}

/// There is less on the paying side than was to be moved; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{}", if self.balance.is_some() { "the balance is too low" } else { "the balance is not known; load it" })]
pub struct InsufficientBalance {
    /// What the paying side holds; `None` if nothing is known about it.
    pub balance: Option<i64>,
}
