//! The atomic steps of a lock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Seat;
use crate::{Error, ErrorKind, Result};

/// The secret of one hold: 128 random bits that only the holder knows, checked by every step that changes its lock.
///
/// `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(Arc<str>);

impl Token {
    /// The length of its text.
    pub const LEN: usize = 32;

    /// A fresh one.
    ///
    /// # Errors
    /// `Other` if the operating system has no random numbers to give.
    pub fn random() -> Result<Self> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits)
            .map_err(|_| Error::new(ErrorKind::Other, "the operating system gives no random numbers"))?;
        Ok(Self(format!("{:032x}", u128::from_le_bytes(bits)).into()))
    }

    /// Its text: 32 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Who wants a lock, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claim {
    /// The secret of the hold to come.
    pub token: Token,
    /// How long the hold lasts unless it is extended; whole milliseconds.
    pub ttl: Duration,
    /// To stand in line while the lock is held: how long the place is kept unless the claim is made again; with zero
    /// the line is respected but not joined. `None` takes the lock whenever it is free, past any line.
    pub queue: Option<Duration>,
}

impl Claim {
    /// A claim that does not stand in line.
    #[must_use]
    pub const fn new(token: Token, ttl: Duration) -> Self {
        Self { token, ttl, queue: None }
    }

    /// The same, standing in line; the place is kept for `stay` after each attempt.
    #[must_use]
    pub const fn with_queue(mut self, stay: Duration) -> Self {
        self.queue = Some(stay);
        self
    }
}

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The lock is held by the claim's token.
    Granted {
        /// Above that of every earlier hold of the key.
        fence: u64,
    },
    /// Somebody else holds it, or is next in line.
    Held {
        /// When to look again at the latest: the end of the hold, or of the place of who is next.
        left: Duration,
    },
}

/// The atomic steps of a lock, one round trip each. A store sees arguments that the handle has checked.
///
/// A lock's time is the store's own clock. Under the key stand holder, end, fence and line; the fence begins at the
/// store's clock in microseconds and is kept for an hour after the last hold, so it grows even if the store loses the
/// key.
///
/// # Errors
/// A key that holds something else is `WrongType`, and is left as it is.
#[async_trait]
pub trait LockStore: fmt::Debug + Send + Sync + 'static {
    /// Takes the lock if it is free and, for a claim with a line, nobody alive is before it. A token that holds it
    /// already keeps its fence, so a lost reply may be asked for again.
    async fn acquire(&self, key: &str, claim: &Claim) -> Result<Claimed>;

    /// Lets the hold last for `ttl` from now, never shorter than it would; `false` if `token` does not hold it.
    async fn extend(&self, key: &str, token: &Token, ttl: Duration) -> Result<bool>;

    /// Ends the hold or the wait of `token`, and calls who is next; `false` if it did not hold the lock.
    async fn release(&self, key: &str, token: &Token) -> Result<bool>;

    /// Listens for the call that `key` may be free for `token`. What was released after this returned is heard,
    /// except when the connection to the store is lost: so who waits looks again from time to time.
    async fn listen(&self, key: &str, token: &Token) -> Result<Seat>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: LockStore + ?Sized> LockStore for Arc<S> {
    async fn acquire(&self, key: &str, claim: &Claim) -> Result<Claimed> {
        (**self).acquire(key, claim).await
    }
    async fn extend(&self, key: &str, token: &Token, ttl: Duration) -> Result<bool> {
        (**self).extend(key, token, ttl).await
    }
    async fn release(&self, key: &str, token: &Token) -> Result<bool> {
        (**self).release(key, token).await
    }
    async fn listen(&self, key: &str, token: &Token) -> Result<Seat> {
        (**self).listen(key, token).await
    }
}
