//! How much of long lists is under way at a server at once.

use cache_core::{Error, ErrorKind, Result};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

use crate::error;

/// The most keys that calls of many keys have under way at a server: enough for it never to wait for us, few enough that
/// each answer comes long before its deadline, and that a single call goes between them.
pub(crate) const ROOM: usize = 1024;
/// Of a request that is larger than that many keys' worth.
const MOST: usize = ROOM / 4;
/// So many bytes of values take the room of a key.
const BYTES: usize = 1024;

/// A request of a call of many keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// How many keys it is about.
    pub(crate) keys: usize,
    /// The bytes of the values that it sends.
    pub(crate) bytes: usize,
    /// When its call began.
    pub(crate) begun: Instant,
}

/// The room for requests of calls of many keys. Each waits here for its turn, and its deadline counts from then: a long
/// list is not late for its length.
///
/// Nobody waits longer than a server goes on answering: with a request that is late or refused by a server that can't serve,
/// all fail that wait, and those that come later in the same calls.
#[derive(Debug)]
pub(super) struct Pace {
    room: Semaphore,
    /// The last request that the server left without an answer, and when that was known.
    sick: watch::Sender<Option<(Instant, Error)>>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { room: Semaphore::new(ROOM), sick: watch::Sender::new(None) }
    }

    /// Runs `work` when there is room for it.
    pub(super) async fn run<T>(
        &self,
        operation: &'static str,
        load: Load,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let room = u32::try_from(load.keys.max(load.bytes / BYTES).clamp(1, MOST)).unwrap_or(1);
        self.well_since(load.begun).map_err(|error| error.with_operation(operation))?;
        let _room = match self.room.try_acquire_many(room) {
            Ok(turn) => turn,
            Err(_) => self.wait(room).await.map_err(|error| error.with_operation(operation))?,
        };
        let done = work.await;
        if let Err(error) = &done
            && matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable)
        {
            self.sick.send_replace(Some((Instant::now(), error.clone())));
        }
        done
    }

    fn well_since(&self, begun: Instant) -> Result<()> {
        match &*self.sick.borrow() {
            Some((at, error)) if *at >= begun => Err(error.clone()),
            _ => Ok(()),
        }
    }

    async fn wait(&self, room: u32) -> Result<SemaphorePermit<'_>> {
        let mut sick = self.sick.subscribe();
        let gone = || error::fault(ErrorKind::Closed, "the connection is closed");
        tokio::select! {
            biased;
            _ = sick.changed() => Err(sick.borrow().as_ref().map_or_else(gone, |(_, error)| error.clone())),
            turn = self.room.acquire_many(room) => turn.map_err(|_| gone()),
        }
    }
}
