//! [`LimitStore`] of a [`Memory`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Limit, LimitStore, Outcome, Taken};
use crate::{Error, ErrorKind, Memory, Reply, Result};

/// Keys are looked through for forgotten ones when this many are held, and again when they have doubled.
const SWEEP: usize = 1024;

/// What was taken from a store, each with the moment from which it need not be kept.
#[derive(Default)]
struct Table(Mutex<Takes>);

#[derive(Default)]
struct Takes {
    held: HashMap<String, (Taken, u64)>,
    sweep: usize,
}

impl Memory {
    /// The clock in microseconds.
    fn limit_us(&self) -> u64 {
        self.clock().now().as_nanos() / 1000
    }
}

#[async_trait]
impl LimitStore for Memory {
    async fn take(&self, key: &str, limit: &Limit, cost: u32) -> Result<Outcome> {
        self.check_vacant(key, "limit")?;
        let table = self.extension::<Table>();
        let mut takes = table.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.limit_us();
        let (mut held, before) = match takes.held.remove(key).filter(|(_, until)| *until > now) {
            Some((taken, until)) => (Some(taken), Some(until)),
            None => (None, None),
        };
        let outcome = Taken::take(&mut held, limit, now, cost);
        let until = outcome.ok().map(|outcome| now + outcome.reset_us).or(before).unwrap_or(now);
        if before.is_some() || outcome.is_ok_and(|outcome| outcome.allowed && cost > 0) {
            if takes.held.len() > takes.sweep.max(SWEEP) {
                takes.held.retain(|_, (_, until)| *until > now);
                takes.sweep = takes.held.len() * 2;
            }
            takes.held.extend(held.map(|taken| (key.to_owned(), (taken, until))));
        }
        outcome.map_err(|_| {
            let text = "the key holds a limit that another algorithm counts";
            Error::new(ErrorKind::Conflict, text).with_reply(Reply::WrongType).with_operation("limit")
        })
    }

    async fn reset(&self, key: &str) -> Result<()> {
        self.check_vacant(key, "limit")?;
        self.extension::<Table>().0.lock().unwrap_or_else(PoisonError::into_inner).held.remove(key);
        Ok(())
    }
}
