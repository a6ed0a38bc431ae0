//! A line's number on a server that keeps no clock finer than a second and forgets what it likes.
//!
//! The number is a counter, raised by `ma`. A lost one must begin anew above every number that it ever had, or a change
//! could hide behind a number that somebody has seen. memcached numbers every store of any item with one counter of its
//! own, for compare-and-swap, and an increment is such a store: so a line that begins at that counter is above all
//! that it had in this run of the server. Runs are told apart by the server's clock in microseconds, which is added: that
//! counter would have to grow by more than a million a second for a run to reach into the next one's numbers. Only a
//! server that is restarted within the second in which a line began may give numbers again; it has another process id
//! then, which the beat tells, and a new run puts everything to the test.
//!
//! Made in two steps: a marker under the key, which nobody can raise, shows the counter; the marker is then replaced by
//! the first number, by whoever comes first.

use bytes::Bytes;
use cache_core::Result;

use crate::Memcached;
use crate::error;
use crate::item::Slot;
use crate::reply::Reply;
use crate::request::{Request, When};
use crate::service::{Attempt, value};
use crate::time::Expiry;

/// How long a sequence lives without a beat, in seconds; over 30 days it would be a date.
pub(crate) const SEQ_TTL: i64 = 29 * 24 * 3600;

const MARKER: &[u8] = b"new";

/// What `stats` says about the server's run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// The server's clock.
    pub(crate) time_s: u64,
    /// The second in which it began.
    began_s: u64,
    pid: u64,
}

impl Run {
    pub(crate) fn of(reply: Reply) -> Result<Self> {
        let stats = match reply {
            Reply::Stats(stats) => stats,
            Reply::Refused(error) => return Err(error),
            _ => return Err(error::garbled("no statistics")),
        };
        let number = |name| value(&stats, name).and_then(|text| text.parse::<u64>().ok());
        match (number("time"), number("uptime"), number("pid")) {
            (Some(time_s), Some(uptime), Some(pid)) => Ok(Self { time_s, began_s: time_s.saturating_sub(uptime), pid }),
            _ => Err(error::garbled("statistics without time, uptime and pid")),
        }
    }

    /// Another number after a restart.
    pub(crate) const fn id(&self) -> u64 {
        (self.began_s << 24) ^ self.pid
    }

    /// The first number of a line whose marker has this number.
    const fn first(&self, marker: u64) -> u64 {
        self.time_s.saturating_mul(1_000_000).saturating_add(marker)
    }
}

/// The number in a slot.
pub(crate) fn number(slot: &Slot) -> Option<u64> {
    match slot {
        Slot::Live(item) => std::str::from_utf8(&item.value).ok()?.trim_end().parse().ok(),
        Slot::Empty | Slot::Over(_) => None,
    }
}

impl Memcached {
    /// The line's last number, and whether it was made just now.
    pub(crate) async fn sequence(&self, key: &str, attempt: Attempt) -> Result<(u64, bool)> {
        let expiry = Expiry { seconds: SEQ_TTL, flags: 0 };
        loop {
            let request = Request::default().set(key, &Bytes::from_static(MARKER), expiry, When::Absent);
            let [marked, there, run] = self.ask(request.get(key).stats(""), attempt).await?;
            if let Reply::Refused(error) = marked {
                return Err(error);
            }
            let slot = self.slot(there)?;
            if let Some(number) = number(&slot) {
                return Ok((number, false));
            }
            let request = match &slot {
                Slot::Live(item) if item.value == MARKER => {
                    let first = Run::of(run)?.first(item.number);
                    let text = Bytes::from(first.to_string());
                    let request = Request::default().set(key, &text, expiry, When::Same(item.number));
                    match self.ask(request, attempt).await? {
                        [Reply::Done(_)] => return Ok((first, true)),
                        [Reply::Refused(error)] => return Err(error),
                        _ => continue,
                    }
                }
                // not ours, so it goes
                Slot::Live(item) => Request::default().delete(key, Some(item.number)),
                Slot::Over(number) => Request::default().delete(key, Some(*number)),
                Slot::Empty => continue,
            };
            let [_] = self.ask(request, attempt).await?;
        }
    }

    /// Gives the line its next number.
    pub(crate) async fn next(&self, key: &str, attempt: Attempt) -> Result<u64> {
        loop {
            let [raised] = self.ask(Request::default().increment(key), attempt).await?;
            match raised_to(&raised) {
                Some(number) => return Ok(number),
                None => self.sequence(key, attempt).await?,
            };
        }
    }
}

/// The number that an increment gave; `None` if there is no number to raise.
pub(crate) fn raised_to(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Value(value, _) => std::str::from_utf8(value).ok()?.trim_end().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(time: u64, uptime: u64, pid: u64) -> Run {
        let stat = |name: &str, value: u64| (name.to_owned(), value.to_string());
        Run::of(Reply::Stats(vec![stat("pid", pid), stat("uptime", uptime), stat("time", time)])).unwrap()
    }

    #[test]
    fn a_run_keeps_its_id_and_the_next_has_another() {
        let first = run(1_700_000_100, 100, 7);
        assert_eq!(first.id(), run(1_700_000_200, 200, 7).id());
        assert_ne!(first.id(), run(1_700_000_200, 0, 7).id());
        assert_ne!(first.id(), run(1_700_000_200, 200, 8).id());
        assert!(run(1_700_000_200, 0, 7).first(1) > first.first(50_000_000));
        assert!(run(1_700_000_101, 101, 7).first(2) > first.first(1) + 1);
    }

    #[test]
    fn statistics_that_lack_something_are_refused() {
        assert!(Run::of(Reply::Stats(Vec::new())).is_err());
        assert!(Run::of(Reply::Missing).is_err());
    }
}
