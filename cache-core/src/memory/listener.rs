//! Publishing and subscriptions of a [`Memory`].

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use async_trait::async_trait;

use super::Memory;
use crate::{BusEvent, Line, Listener, Message};

/// The open subscriptions, each with the events that its listener has not taken yet.
pub(super) struct Inboxes {
    open: BTreeMap<u64, Inbox>,
    next_id: u64,
    limit: usize,
    wakers: Vec<Waker>,
}

struct Inbox {
    channels: Vec<String>,
    events: VecDeque<BusEvent>,
    waker: Option<Waker>,
}

impl Inbox {
    fn lose(&mut self) {
        self.events.clear();
        self.events.extend([BusEvent::Lost, BusEvent::Restored]);
    }
}

impl Inboxes {
    pub(super) fn new(limit: usize) -> Self {
        Self { open: BTreeMap::new(), next_id: 0, limit, wakers: Vec::new() }
    }

    /// How many events a listener may fall behind.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn subscribe(&mut self, lines: &[Line]) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let channels = lines.iter().map(|line| line.channel.clone()).collect();
        self.open.insert(id, Inbox { channels, events: VecDeque::new(), waker: None });
        id
    }

    /// Gives `message` to every listener on `channel`.
    pub(super) fn publish(&mut self, channel: &str, message: &Message) {
        let payload = message.to_bytes();
        for inbox in self.open.values_mut() {
            let Some(line) = inbox.channels.iter().position(|name| name == channel) else { continue };
            if inbox.events.len() >= self.limit {
                inbox.lose();
            }
            inbox.events.push_back(BusEvent::Message { line, payload: payload.clone() });
            self.wakers.extend(inbox.waker.take());
        }
    }

    /// Breaks every subscription; each comes back at once, without what was not taken yet.
    pub(super) fn sever(&mut self) {
        for inbox in self.open.values_mut() {
            inbox.lose();
            self.wakers.extend(inbox.waker.take());
        }
    }

    /// The wakers of those who got events. They are woken without the lock.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers)
    }
}

/// A subscription. Events stay in the store until [`next`](Listener::next) hands them out, so dropping that future
/// loses none.
pub(super) struct Subscription {
    pub(super) memory: Memory,
    pub(super) id: u64,
}

#[async_trait]
impl Listener for Subscription {
    async fn next(&mut self) -> Option<BusEvent> {
        poll_fn(|context| {
            let mut state = self.memory.lock();
            let Some(inbox) = state.inboxes.open.get_mut(&self.id) else { return Poll::Ready(None) };
            if let Some(event) = inbox.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            inbox.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.memory.lock().inboxes.open.remove(&self.id);
    }
}
