//! The waiting room of a process: who waits for which lock, and whom a call wakes.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Token;

/// Those who wait in this process. Clones share it.
#[derive(Clone, Default)]
pub struct Room(Arc<Mutex<HashMap<String, Vec<Arc<Chair>>>>>);

struct Chair {
    token: Token,
    called: AtomicBool,
    bell: Notify,
}

impl Chair {
    /// Calls; false if it was called already.
    fn call(&self) -> bool {
        let first = !self.called.swap(true, Ordering::AcqRel);
        if first {
            self.bell.notify_one();
        }
        first
    }
}

impl Room {
    fn seats(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Chair>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat for `key`.
    #[must_use]
    pub fn enter(&self, key: &str, token: &Token) -> Seat {
        let chair = Arc::new(Chair { token: token.clone(), called: AtomicBool::new(false), bell: Notify::new() });
        self.seats().entry(key.to_owned()).or_default().push(Arc::clone(&chair));
        Seat { room: self.clone(), key: key.to_owned(), chair, owes: false, held: None }
    }

    /// Calls who waits for `key` under `token`. Without a token it is the one who waits longest and was not called
    /// yet: one is enough, since its own release calls the next.
    pub fn call(&self, key: &str, token: Option<&str>) {
        let seats = self.seats();
        let Some(chairs) = seats.get(key) else { return };
        match token {
            Some(token) => {
                if let Some(chair) = chairs.iter().find(|chair| chair.token.as_str() == token) {
                    chair.call();
                }
            }
            None => {
                let _one = chairs.iter().any(|chair| chair.call());
            }
        }
    }

    /// Calls everybody: messages may have been lost.
    pub fn call_all(&self) {
        for chair in self.seats().values().flatten() {
            chair.call();
        }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("keys", &self.seats().len()).finish()
    }
}

/// A place in a [`Room`]. Dropping it leaves, and passes a call on that led to nothing.
pub struct Seat {
    room: Room,
    key: String,
    chair: Arc<Chair>,
    /// It was called and has neither won nor asked to be called again.
    owes: bool,
    held: Option<Box<dyn Any + Send + Sync>>,
}

impl Seat {
    /// The same, keeping `what` alive.
    #[must_use]
    pub fn holding(mut self, what: impl Any + Send + Sync) -> Self {
        self.held = Some(Box::new(what));
        self
    }

    /// Waits for a call. May be dropped at any await: a call is not lost.
    pub async fn called(&mut self) {
        self.owes = false;
        self.chair.bell.notified().await;
        self.owes = true;
        self.chair.called.store(false, Ordering::Release);
    }

    /// Leaves as the winner.
    pub(super) fn won(mut self) {
        self.owes = false;
        self.chair.called.store(false, Ordering::Release);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        {
            let mut seats = self.room.seats();
            if let Some(chairs) = seats.get_mut(&self.key) {
                chairs.retain(|chair| !Arc::ptr_eq(chair, &self.chair));
                if chairs.is_empty() {
                    seats.remove(&self.key);
                }
            }
        }
        if self.owes || self.chair.called.load(Ordering::Acquire) {
            self.room.call(&self.key, None);
        }
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("owes", &self.owes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_now::now;

    use super::*;

    mod futures_now {
        use std::pin::pin;
        use std::task::{Context, Poll, Waker};

        /// Whether `future` is ready at once.
        pub(super) fn now(future: impl Future<Output = ()>) -> bool {
            let mut context = Context::from_waker(Waker::noop());
            matches!(pin!(future).poll(&mut context), Poll::Ready(()))
        }
    }

    #[test]
    fn a_call_wakes_one_and_is_passed_on_if_it_leaves() {
        let room = Room::default();
        let tokens = [Token::random().unwrap(), Token::random().unwrap(), Token::random().unwrap()];
        let [mut a, mut b, mut c] = tokens.clone().map(|token| room.enter("k", &token));
        room.call("other", None);
        assert!(!now(a.called()) && !now(b.called()) && !now(c.called()));
        room.call("k", None);
        assert!(!now(b.called()) && !now(c.called()));
        drop(a);
        assert!(now(b.called()), "the call was lost with the seat");
        drop(b);
        assert!(now(c.called()), "the call was lost with the seat that had heard it");
        assert!(!now(c.called()));
        room.call("k", Some(tokens[2].as_str()));
        room.call("k", Some(tokens[1].as_str()));
        assert!(now(c.called()));
        let mut d = room.enter("k", &tokens[0]);
        c.won();
        assert!(!now(d.called()), "a winner passes nothing on");
        room.call_all();
        assert!(now(d.called()));
        drop(d);
        assert!(room.seats().is_empty());
    }
}
