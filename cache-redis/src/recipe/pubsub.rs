//! Messages.

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::Result;
use cache_core::recipe::pubsub::{Feed, Heard, Interest, PubSubStore, Reach};

use crate::connect::{PATTERNS, PLAIN, SubEvent, Subscriber};
use crate::service::Redis;

#[async_trait]
impl PubSubStore for Redis {
    async fn publish(&self, channel: &str, payload: Bytes, reach: Reach) -> Result<u64> {
        let verb = match reach {
            Reach::Everywhere => "PUBLISH",
            Reach::Shard => self.link().publish(),
        };
        self.link().call("publish", redis::cmd(verb).arg(channel).arg(&payload[..])).await
    }

    async fn subscribe(&self, interest: &Interest) -> Result<Box<dyn Feed>> {
        let subscriber = match interest.clone() {
            Interest::Channels(channels, Reach::Shard) => self.link().subscribe(channels).await,
            Interest::Channels(channels, Reach::Everywhere) => self.link().listen(channels, &PLAIN).await,
            Interest::Patterns(patterns) => self.link().listen(patterns, &PATTERNS).await,
        };
        Ok(Box::new(Open(subscriber?)))
    }
}

struct Open(Subscriber);

#[async_trait]
impl Feed for Open {
    async fn next(&mut self) -> Option<Heard> {
        Some(match self.0.next().await? {
            SubEvent::Message { channel, payload } => Heard::Message { channel, payload },
            SubEvent::Lost => Heard::Lost,
            SubEvent::Restored => Heard::Restored,
        })
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
