//! [`CounterStore`] of a [`Memory`].

use std::ops::RangeInclusive;

use async_trait::async_trait;

use crate::Result;
use crate::memory::Memory;
use crate::memory::atomic::{integer, overflow};
use crate::memory::state::State;
use crate::recipe::Expiry;
use crate::recipe::counter::{Balances, CounterStore, Step};

#[async_trait]
impl CounterStore for Memory {
    async fn count(&self, key: &str, by: i64, allowed: RangeInclusive<i64>, expiry: Expiry) -> Result<Step<i64>> {
        self.run("count", |state| {
            let held = held(state, key)?;
            if !allowed.contains(&held.unwrap_or(0)) {
                return Ok(Step::Refused(held));
            }
            let sum = held.unwrap_or(0).checked_add(by).ok_or_else(overflow)?;
            keep(state, key, held.is_some(), sum, expiry);
            Ok(Step::Done(sum))
        })
    }

    async fn transfer(&self, from: &str, to: &str, amount: i64, expiry: Expiry) -> Result<Step<Balances>> {
        self.run("transfer", |state| {
            let (payer, payee) = (held(state, from)?, held(state, to)?);
            let Some(left) = payer.unwrap_or(0).checked_sub(amount).filter(|left| *left >= 0) else {
                return Ok(Step::Refused(payer));
            };
            let sum = payee.unwrap_or(0).checked_add(amount).ok_or_else(overflow)?;
            keep(state, from, payer.is_some(), left, expiry);
            keep(state, to, payee.is_some(), sum, expiry);
            Ok(Step::Done(Balances { from: left, to: sum }))
        })
    }

    async fn replace(&self, key: &str, value: i64, expiry: Expiry) -> Result<Option<i64>> {
        self.run("replace", |state| {
            let before = held(state, key)?;
            state.put(key, value.to_string().into(), expiry.millis());
            Ok(before)
        })
    }
}

fn held(state: &mut State, key: &str) -> Result<Option<i64>> {
    state.bytes(key)?.as_deref().map(integer).transpose()
}

fn keep(state: &mut State, key: &str, present: bool, value: i64, expiry: Expiry) {
    if present && !expiry.renews() {
        state.replace(key, value.to_string().into());
    } else {
        state.put(key, value.to_string().into(), expiry.millis());
    }
}
