//! The steps that a store does.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{CacheService, Result};

/// How far a message goes in a cluster. On a single server and in [`Memory`](crate::Memory) there is no difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Through every node, so that patterns match it too.
    #[default]
    Everywhere,
    /// Within the channel's slot: the nodes of one shard carry it, so throughput grows with the cluster. Needs Redis 7
    /// or Valkey; patterns don't match it there.
    Shard,
}

/// What a subscription is to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// These channels, whose messages have this reach.
    Channels(Vec<String>, Reach),
    /// Every channel that matches one of these: `*` is any text, `?` a character, `[abc]` and `[a-z]` one of these,
    /// `[^a]` any but these, `\` takes the next character as it is.
    Patterns(Vec<String>),
}

/// What a feed delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message {
        /// Its channel.
        channel: String,
        /// Its bytes.
        payload: Bytes,
    },
    /// Messages may be lost from here on: the connection broke, or a buffer was full.
    Lost,
    /// The stream flows again: every channel is confirmed.
    Restored,
}

/// An open subscription. Dropping it unsubscribes.
#[async_trait]
pub trait Feed: Send {
    /// What comes next; `None` once the store is closed for good. May be dropped at any await: nothing is lost.
    async fn next(&mut self) -> Option<Heard>;
}

/// A store that carries messages. Each step is one round trip.
///
/// Channels, patterns and lengths are checked by the handle.
#[async_trait]
pub trait PubSubStore: CacheService {
    /// Sends `payload` to everybody who is subscribed to `channel`; how many these are, as far as the server that was
    /// asked knows: in a cluster, those at that node.
    async fn publish(&self, channel: &str, payload: Bytes, reach: Reach) -> Result<u64>;

    /// Subscribes; returns once that is confirmed. The feed reconnects by itself, for ever, reports every gap, and
    /// buffers a bounded number of messages.
    async fn subscribe(&self, interest: &Interest) -> Result<Box<dyn Feed>>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: PubSubStore + ?Sized> PubSubStore for Arc<S> {
    async fn publish(&self, channel: &str, payload: Bytes, reach: Reach) -> Result<u64> {
        (**self).publish(channel, payload, reach).await
    }

    async fn subscribe(&self, interest: &Interest) -> Result<Box<dyn Feed>> {
        (**self).subscribe(interest).await
    }
}
