//! One connection: requests in order to the server, replies in order back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cache_core::Memory;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::weather::{Ill, Weather};

/// What is done at the server; it gives what is done when the reply has arrived.
pub(crate) type Request = Box<dyn FnOnce(Memory) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send>;
pub(crate) type Reply = Box<dyn FnOnce() + Send>;

/// A connection. Dropped, it takes with it what is under way in either direction.
#[derive(Debug)]
pub(crate) struct Lane {
    requests: UnboundedSender<(Instant, Request)>,
    tasks: [AbortHandle; 2],
}

impl Lane {
    /// The connection with this number of its process.
    pub(crate) fn open(number: usize, server: Memory, weather: &Arc<Weather>) -> Self {
        let (requests, arriving) = unbounded_channel();
        let (replies, returning) = unbounded_channel();
        let there = tokio::spawn(there(server, Arc::clone(weather), arriving, replies));
        let back = tokio::spawn(back(number, Arc::clone(weather), returning));
        Self { requests, tasks: [there.abort_handle(), back.abort_handle()] }
    }

    pub(crate) fn send(&self, arrives: Instant, request: Request) {
        // a lane that is being taken down loses what is sent
        let _ = self.requests.send((arrives, request));
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn there(
    server: Memory,
    weather: Arc<Weather>,
    mut arriving: UnboundedReceiver<(Instant, Request)>,
    replies: UnboundedSender<(Instant, Reply)>,
) {
    while let Some((arrives, request)) = arriving.recv().await {
        sleep_until(arrives).await;
        weather.over(Ill::Requests).await;
        weather.over(Ill::Frozen).await;
        let reply = request(server.clone()).await;
        let slow = if weather.has(Ill::Slow) { weather.delay } else { std::time::Duration::ZERO };
        if replies.send((Instant::now() + weather.travel() + slow, reply)).is_err() {
            return;
        }
    }
}

async fn back(number: usize, weather: Arc<Weather>, mut returning: UnboundedReceiver<(Instant, Reply)>) {
    while let Some((arrives, reply)) = returning.recv().await {
        sleep_until(arrives).await;
        weather.over(Ill::Replies).await;
        if number == 0 {
            weather.over(Ill::Lane).await;
        }
        weather.over(Ill::Stopped).await;
        reply();
    }
}
