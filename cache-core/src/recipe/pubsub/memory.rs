//! [`PubSubStore`] of a [`Memory`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};

use super::glob::matches;
use super::{Feed, Heard, Interest, PubSubStore, Reach};
use crate::{Memory, Result};

/// How many messages wait for a feed that is not read.
const BUFFER: usize = 4096;

/// Who is subscribed. Lost with the store's data, and each subscription then comes back with a gap.
#[derive(Default)]
struct Exchange(Mutex<Vec<Subscriber>>);

struct Subscriber {
    interest: Interest,
    messages: mpsc::Sender<(String, Bytes)>,
    /// Messages were dropped and the feed does not know yet.
    behind: Arc<AtomicBool>,
}

impl Subscriber {
    /// Delivers, once for each interest that fits; how often. `None` if nobody listens any more.
    fn deliver(&self, channel: &str, payload: &Bytes) -> Option<u64> {
        if self.messages.is_closed() {
            return None;
        }
        let times = match &self.interest {
            Interest::Channels(channels, _) => usize::from(channels.iter().any(|name| name == channel)),
            Interest::Patterns(patterns) => patterns.iter().filter(|pattern| matches(pattern, channel)).count(),
        };
        for _ in 0..times {
            if self.behind.load(Ordering::Acquire) {
                continue;
            }
            match self.messages.try_send((channel.to_owned(), payload.clone())) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => self.behind.store(true, Ordering::Release),
                Err(TrySendError::Closed(_)) => return None,
            }
        }
        Some(times as u64)
    }
}

/// An open subscription.
struct Inlet {
    memory: Memory,
    interest: Interest,
    messages: mpsc::Receiver<(String, Bytes)>,
    behind: Arc<AtomicBool>,
    /// A gap was begun.
    lost: bool,
}

fn subscribe(memory: &Memory, interest: &Interest) -> Inlet {
    let (sender, messages) = mpsc::channel(BUFFER);
    let behind = Arc::new(AtomicBool::new(false));
    let subscriber = Subscriber { interest: interest.clone(), messages: sender, behind: Arc::clone(&behind) };
    let exchange = memory.extension::<Exchange>();
    exchange.0.lock().unwrap_or_else(PoisonError::into_inner).push(subscriber);
    Inlet { memory: memory.clone(), interest: interest.clone(), messages, behind, lost: false }
}

#[async_trait]
impl Feed for Inlet {
    async fn next(&mut self) -> Option<Heard> {
        if std::mem::take(&mut self.lost) {
            return Some(Heard::Restored);
        }
        let next = match self.messages.try_recv() {
            // all that came before the gap was read
            Err(TryRecvError::Empty) if self.behind.swap(false, Ordering::AcqRel) => {
                self.lost = true;
                return Some(Heard::Lost);
            }
            Ok(message) => Some(message),
            Err(TryRecvError::Empty) => self.messages.recv().await,
            Err(TryRecvError::Disconnected) => None,
        };
        Some(match next {
            Some((channel, payload)) => Heard::Message { channel, payload },
            None => {
                *self = Self { lost: true, ..subscribe(&self.memory, &self.interest) };
                Heard::Lost
            }
        })
    }
}

#[async_trait]
impl PubSubStore for Memory {
    async fn publish(&self, channel: &str, payload: Bytes, _reach: Reach) -> Result<u64> {
        let exchange = self.extension::<Exchange>();
        let mut open = exchange.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut heard = 0;
        open.retain(|subscriber| match subscriber.deliver(channel, &payload) {
            Some(times) => {
                heard += times;
                true
            }
            None => false,
        });
        Ok(heard)
    }

    async fn subscribe(&self, interest: &Interest) -> Result<Box<dyn Feed>> {
        Ok(Box::new(subscribe(self, interest)))
    }
}
