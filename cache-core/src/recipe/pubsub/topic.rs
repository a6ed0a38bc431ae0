//! A channel with a type.

use std::fmt;
use std::sync::Arc;

use super::{Events, Listening, PubSubStore, Reach};
use crate::codec::Codec;
use crate::{Result, check_key, check_value};

/// The longest message in bytes, its channel included: 1 MiB less some room for the protocol.
pub const MAX_MESSAGE: usize = (1 << 20) - 4096;

/// A channel whose messages are of type `T`. Clones share the store.
///
/// ```
/// use cache_core::Memory;
/// use cache_core::codec::Raw;
/// use cache_core::recipe::Topic;
/// use cache_core::recipe::pubsub::Event;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cache_core::Result<()> {
/// let orders: Topic<bytes::Bytes> = Topic::new(Memory::new(), "orders", Raw)?;
/// let mut events = orders.subscribe().await?;
/// orders.publish(&"order 7".into()).await?;
/// match events.next().await {
///     Some(Event::Message { value, .. }) => assert_eq!(value, "order 7"),
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
pub struct Topic<T> {
    store: Arc<dyn PubSubStore>,
    codec: Arc<dyn Codec<T>>,
    channel: String,
    reach: Reach,
}

impl<T: Send + Sync + 'static> Topic<T> {
    /// The topic on `channel`, its messages written by `codec`.
    ///
    /// # Errors
    /// `Invalid` for a channel that is empty, over 1024 bytes or holds a control character.
    pub fn new(store: impl PubSubStore, channel: impl Into<String>, codec: impl Codec<T>) -> Result<Self> {
        let channel = channel.into();
        check_key(&channel).map_err(|error| error.with_operation("topic"))?;
        Ok(Self { store: Arc::new(store), codec: Arc::new(codec), channel, reach: Reach::Everywhere })
    }

    /// The same, with another reach in a cluster; publishers and subscribers have to agree on it. Default
    /// [`Reach::Everywhere`].
    #[must_use]
    pub fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Sends `value` to everybody who is subscribed; how many these are, as far as the server that was asked knows. One
    /// round trip; nobody is waited for.
    ///
    /// # Errors
    /// `Codec` if it can't be encoded, `TooLarge` over [`MAX_MESSAGE`] or the store's largest value; what the store says.
    pub async fn publish(&self, value: &T) -> Result<u64> {
        let payload = self.codec.encode(value)?;
        let most = self.store.max_value().min(MAX_MESSAGE - self.channel.len());
        check_value(payload.len(), most).map_err(|error| error.with_operation("publish"))?;
        self.store.publish(&self.channel, payload, self.reach).await
    }

    /// Subscribes with every default; returns once that is confirmed: what is published from then on is heard. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// What the store says.
    pub async fn subscribe(&self) -> Result<Events<T>> {
        self.listening().open().await
    }

    /// A subscription in the making, to set its buffer or to add channels.
    pub fn listening(&self) -> Listening<T> {
        let listening = Listening::of(Arc::clone(&self.store), Arc::clone(&self.codec));
        listening.channel(self.channel.clone()).reach(self.reach)
    }
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        let Self { store, codec, channel, reach } = self;
        Self { store: Arc::clone(store), codec: Arc::clone(codec), channel: channel.clone(), reach: *reach }
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("store", &self.store.name()).field("reach", &self.reach).finish_non_exhaustive()
    }
}
