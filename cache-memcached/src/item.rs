//! Single items: read with their number, and changed if they are still what was read.

use bytes::Bytes;
use cache_core::{Error, ErrorKind, Result};

use crate::reply::{Flags, Reply};
use crate::request::{Request, When};
use crate::service::{Attempt, Memcached};
use crate::time::{Deadline, Expiry};

/// An item as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) value: Bytes,
    pub(crate) number: u64,
    pub(crate) deadline: Deadline,
}

/// What stands under a key.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    Empty,
    /// An item whose time has passed, which the server has not dropped yet.
    Over(u64),
    Live(Item),
}

impl Slot {
    pub(crate) fn live(self) -> Option<Item> {
        match self {
            Self::Live(item) => Some(item),
            Self::Empty | Self::Over(_) => None,
        }
    }

    /// The condition under which a store finds the slot as it was read.
    pub(crate) fn unchanged(&self) -> When {
        match self {
            Self::Empty => When::Absent,
            Self::Over(number) => When::Same(*number),
            Self::Live(item) => When::Same(item.number),
        }
    }
}

/// What is to become of an item, and what the caller is told then.
pub(crate) enum Edit<T> {
    /// Nothing.
    Leave(T),
    /// Another value, until then.
    Store(Bytes, Until, T),
    /// It goes.
    Remove(T),
}

/// How long an edited item lives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// As long as before.
    Before,
    /// So many milliseconds from now.
    Ttl(u64),
    /// So many milliseconds from now, but no longer than before.
    AtMost(u64),
}

impl Memcached {
    /// What an answer to a `get` says.
    pub(crate) fn slot(&self, reply: Reply) -> Result<Slot> {
        match reply {
            Reply::Missing => Ok(Slot::Empty),
            Reply::Value(value, flags) => Ok(self.held(value, flags)),
            Reply::Done(flags) => Ok(self.held(Bytes::new(), flags)),
            Reply::Refused(error) => Err(error),
            Reply::Present | Reply::Changed | Reply::Stats(_) => Err(crate::error::garbled("no answer to a read")),
        }
    }

    fn held(&self, value: Bytes, flags: Flags) -> Slot {
        if self.time().is_over(flags.client) {
            return Slot::Over(flags.number);
        }
        let deadline = self.time().deadline(flags.client, flags.left);
        Slot::Live(Item { value, number: flags.number, deadline })
    }

    /// What stands under `key`.
    pub(crate) async fn look(&self, key: &str, attempt: Attempt) -> Result<Slot> {
        let [reply] = self.ask(Request::default().get(key), attempt).await?;
        self.slot(reply)
    }

    /// Does what `decide` says of the slot under `key`, as one step: if the item changed since it was read, it is read
    /// and decided upon again.
    pub(crate) async fn edit<T>(
        &self,
        key: &str,
        attempt: Attempt,
        decide: impl FnMut(Option<&Item>) -> Result<Edit<T>>,
    ) -> Result<T> {
        let first = self.look(key, attempt).await?;
        self.edit_from(first, key, attempt, decide).await
    }

    /// As [`edit`](Self::edit), with the slot already read.
    pub(crate) async fn edit_from<T>(
        &self,
        mut slot: Slot,
        key: &str,
        attempt: Attempt,
        mut decide: impl FnMut(Option<&Item>) -> Result<Edit<T>>,
    ) -> Result<T> {
        loop {
            let live = match &slot {
                Slot::Live(item) => Some(item),
                Slot::Empty | Slot::Over(_) => None,
            };
            let (request, answer) = match decide(live)? {
                Edit::Leave(answer) => return Ok(answer),
                Edit::Store(value, until, answer) => {
                    let expiry = self.expiry(until, live);
                    (Request::default().set(key, &value, expiry, slot.unchanged()), answer)
                }
                Edit::Remove(answer) => match slot.unchanged() {
                    When::Same(number) => (Request::default().delete(key, Some(number)), answer),
                    When::Absent | When::Always => return Ok(answer),
                },
            };
            // the item is read again in the same round trip, in case it has changed
            let [done, again] = self.ask(request.get(key), attempt).await?;
            match done {
                Reply::Done(_) => return Ok(answer),
                Reply::Present | Reply::Changed | Reply::Missing => slot = self.slot(again)?,
                Reply::Refused(error) => return Err(error),
                Reply::Value(..) | Reply::Stats(_) => return Err(crate::error::garbled("no answer to a store")),
            }
        }
    }

    fn expiry(&self, until: Until, before: Option<&Item>) -> Expiry {
        let time = self.time();
        match (until, before) {
            (Until::Ttl(ms) | Until::AtMost(ms), None) => time.expiry(ms),
            (Until::Ttl(ms), Some(_)) => time.expiry(ms),
            (Until::AtMost(ms), Some(item)) => {
                let left = time.left(item.deadline).map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
                if left.is_some_and(|left| left <= ms) { time.until(item.deadline) } else { time.expiry(ms) }
            }
            (Until::Before, Some(item)) => time.until(item.deadline),
            // nothing is left of what is not there
            (Until::Before, None) => time.expiry(1),
        }
    }
}

/// The deadline of `edit` loops is the call's; this is what a number that is no number means.
pub(crate) fn no_integer() -> Error {
    Error::new(ErrorKind::Conflict, "the key holds no integer, or the sum overflows")
}
