//! Leaderboards: a sorted set each.

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::recipe::Expiry;
use cache_core::recipe::leaderboard::{BoardStore, Order, Put, Standing};
use cache_core::{ErrorKind, Result};

use crate::error;
use crate::script::{self, Call, Script};
use crate::service::Redis;

/// What a script tells of a range: how many stand before it, then member, score and so on.
type Told = Option<Vec<Bytes>>;

#[async_trait]
impl BoardStore for Redis {
    async fn put(&self, board: &str, member: &str, score: f64, best: Option<Order>, expiry: Expiry) -> Result<Put> {
        let best = best.map_or("", |order| if order == Order::HighestFirst { "1" } else { "0" });
        let call = script::BOARD_PUT.on(&[board]).arg(best).arg(member).arg(text(score));
        let call = call.arg(expiry.millis()).arg(expiry.renews());
        let (before, taken): (Option<Bytes>, bool) = call.run(self.link(), "put").await?;
        let before = before.map(|bytes| number("put", &bytes)).transpose()?;
        Ok(Put { before, taken })
    }

    async fn raise(&self, board: &str, member: &str, by: f64, expiry: Expiry) -> Result<f64> {
        let call = script::BOARD_RAISE.on(&[board]).arg(member).arg(text(by));
        let call = call.arg(expiry.millis()).arg(expiry.renews());
        match call.run::<Option<Bytes>>(self.link(), "raise").await? {
            Some(sum) => number("raise", &sum),
            None => Err(error::fault(ErrorKind::Conflict, "the score would overflow").with_operation("raise")),
        }
    }

    async fn withdraw(&self, board: &str, member: &str) -> Result<bool> {
        self.link().call("withdraw", redis::cmd("ZREM").arg(board).arg(member)).await
    }

    async fn members(&self, board: &str) -> Result<u64> {
        self.link().call("members", redis::cmd("ZCARD").arg(board)).await
    }

    async fn standing(&self, board: &str, member: &str, order: Order) -> Result<Option<Standing>> {
        let told = on(&script::BOARD_STANDING, board, order).arg(member).run(self.link(), "standing").await?;
        Ok(standings("standing", told)?.pop())
    }

    async fn ranked(&self, board: &str, skip: u32, count: u32, order: Order) -> Result<Vec<Standing>> {
        let call = on(&script::BOARD_RANKED, board, order).arg(skip).arg(count);
        standings("ranked", call.run(self.link(), "ranked").await?)
    }

    async fn around(&self, board: &str, member: &str, before: u32, after: u32, order: Order) -> Result<Vec<Standing>> {
        let call = on(&script::BOARD_AROUND, board, order).arg(member).arg(before).arg(after);
        standings("around", call.run(self.link(), "around").await?)
    }

    async fn between(&self, board: &str, low: f64, high: f64, count: u32, order: Order) -> Result<Vec<Standing>> {
        let call = on(&script::BOARD_BETWEEN, board, order).arg(text(low)).arg(text(high)).arg(count);
        standings("between", call.run(self.link(), "between").await?)
    }
}

fn on(script: &'static Script, board: &str, order: Order) -> Call {
    script.on(&[board]).arg(order == Order::HighestFirst)
}

/// The shortest text that reads back as the same float, with an exponent where it is large.
fn text(score: f64) -> String {
    format!("{score:?}")
}

fn number(operation: &'static str, bytes: &[u8]) -> Result<f64> {
    let parsed = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| error::unexpected(operation))
}

fn standings(operation: &'static str, told: Told) -> Result<Vec<Standing>> {
    let Some(told) = told else { return Ok(Vec::new()) };
    let Some((first, rest)) = told.split_first() else { return Err(error::unexpected(operation)) };
    let skipped: u64 = std::str::from_utf8(first)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| error::unexpected(operation))?;
    let standing = |(rank, pair): (u64, &[Bytes])| match pair {
        [member, score] => {
            let member = String::from_utf8_lossy(member).into_owned();
            Ok(Standing { member, score: number(operation, score)?, rank })
        }
        _ => Err(error::unexpected(operation)),
    };
    (skipped.saturating_add(1)..).zip(rest.chunks(2)).map(standing).collect()
}
