//! Counters.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use cache_core::Result;
use cache_core::recipe::Expiry;
use cache_core::recipe::counter::{Balances, CounterStore, Step};

use crate::script;
use crate::service::Redis;

#[async_trait]
impl CounterStore for Redis {
    async fn count(&self, key: &str, by: i64, allowed: RangeInclusive<i64>, expiry: Expiry) -> Result<Step<i64>> {
        let call = script::COUNT.on(&[key]).arg(by).arg(*allowed.start()).arg(*allowed.end());
        let call = call.arg(expiry.millis()).arg(expiry.renews());
        let (done, held): (bool, Option<i64>) = call.run(self.link(), "count").await?;
        Ok(match held {
            Some(sum) if done => Step::Done(sum),
            held => Step::Refused(held),
        })
    }

    async fn transfer(&self, from: &str, to: &str, amount: i64, expiry: Expiry) -> Result<Step<Balances>> {
        self.link().together([from, to]).map_err(|error| error.with_operation("transfer"))?;
        let call = script::TRANSFER.on(&[from, to]).arg(amount).arg(i64::MAX - amount);
        let call = call.arg(expiry.millis()).arg(expiry.renews());
        let (done, from, to): (bool, Option<i64>, Option<i64>) = call.run(self.link(), "transfer").await?;
        Ok(match (done, from, to) {
            (true, Some(from), Some(to)) => Step::Done(Balances { from, to }),
            (_, held, _) => Step::Refused(held),
        })
    }

    async fn replace(&self, key: &str, value: i64, expiry: Expiry) -> Result<Option<i64>> {
        script::REPLACE.on(&[key]).arg(value).arg(expiry.millis()).run(self.link(), "replace").await
    }
}
