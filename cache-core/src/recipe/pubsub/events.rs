//! Listening.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::queue::{Item, Queue};
use super::{Feed, Heard, Interest, Overflow, PubSubStore, Reach};
use crate::codec::Codec;
use crate::{Error, ErrorKind, Result, check_key};

/// What a subscription delivers.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<T> {
    /// A message.
    Message {
        /// The channel that it came on.
        channel: String,
        /// What was published.
        value: T,
    },
    /// A message that the codec can't read: another program, another version. The subscription goes on.
    Undecodable {
        /// The channel that it came on.
        channel: String,
        /// How long it was.
        bytes: usize,
        /// How many of these this subscription has seen, this one included.
        count: u64,
    },
    /// Messages are missing here. The stream flows again, so what is looked up now can't be older than what was missed.
    Gap {
        /// How many: they came faster than they were read. `None` if nobody knows: the connection was lost.
        lost: Option<u64>,
    },
}

impl<T> fmt::Debug for Event<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // neither channels nor messages are for logs
        match self {
            Self::Message { .. } => f.write_str("Message"),
            Self::Undecodable { bytes, count, .. } => {
                f.debug_struct("Undecodable").field("bytes", bytes).field("count", count).finish_non_exhaustive()
            }
            Self::Gap { lost } => f.debug_struct("Gap").field("lost", lost).finish(),
        }
    }
}

/// A subscription in the making.
#[must_use = "nothing is heard until it is opened"]
pub struct Listening<T> {
    store: Arc<dyn PubSubStore>,
    codec: Arc<dyn Codec<T>>,
    channels: Vec<String>,
    patterns: Vec<String>,
    reach: Reach,
    messages: usize,
    bytes: usize,
    overflow: Overflow,
}

impl<T: Send + Sync + 'static> Listening<T> {
    /// A subscription to messages that `codec` reads; channels or patterns are added.
    pub fn new(store: impl PubSubStore, codec: impl Codec<T>) -> Self {
        Self::of(Arc::new(store), Arc::new(codec))
    }

    pub(super) fn of(store: Arc<dyn PubSubStore>, codec: Arc<dyn Codec<T>>) -> Self {
        Self {
            store,
            codec,
            channels: Vec::new(),
            patterns: Vec::new(),
            reach: Reach::Everywhere,
            messages: 1024,
            bytes: 16 << 20,
            overflow: Overflow::DropOldest,
        }
    }

    /// Adds a channel.
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.channels.push(channel.into());
        self
    }

    /// Adds a pattern, see [`Interest::Patterns`]. A subscription is to channels or to patterns.
    pub fn pattern(mut self, pattern: impl Into<String>) -> Self {
        self.patterns.push(pattern.into());
        self
    }

    /// The reach of the channels' messages. Default [`Reach::Everywhere`].
    pub fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// The most messages, and the most bytes in them, that wait for the reader. Default 1024 and 16 MiB.
    pub fn buffer(mut self, messages: usize, bytes: usize) -> Self {
        (self.messages, self.bytes) = (messages, bytes);
        self
    }

    /// What goes when the buffer is full. Default [`Overflow::DropOldest`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Subscribes; returns once that is confirmed. Needs a tokio runtime, on which a task fills the buffer.
    ///
    /// # Errors
    /// `Invalid` for a bad channel or pattern, none at all, both kinds at once, patterns with [`Reach::Shard`], or a buffer
    /// for nothing; what the store says.
    pub async fn open(self) -> Result<Events<T>> {
        let Self { store, codec, channels, patterns, reach, messages, bytes, overflow } = self;
        let invalid = |text: &str| Error::new(ErrorKind::Invalid, text).with_operation("subscribe");
        for name in channels.iter().chain(&patterns) {
            check_key(name).map_err(|error| error.with_operation("subscribe"))?;
        }
        if messages == 0 || bytes == 0 {
            return Err(invalid("the buffer holds nothing; let it hold one message at least"));
        }
        let interest = match (channels.is_empty(), patterns.is_empty()) {
            (true, true) => return Err(invalid("no channel to subscribe to; add one, or a pattern")),
            (false, false) => return Err(invalid("channels and patterns in one subscription; open one for each")),
            (true, false) if reach == Reach::Shard => {
                return Err(invalid(
                    "patterns don't match messages that stay in a shard; leave the reach or the pattern",
                ));
            }
            (false, true) => Interest::Channels(channels, reach),
            (true, false) => Interest::Patterns(patterns),
        };
        let feed = store.subscribe(&interest).await?;
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(messages, bytes, overflow)),
            wake: Notify::new(),
            live: AtomicBool::new(true),
            closed: AtomicBool::new(false),
        });
        let pump = tokio::spawn(pump(feed, Arc::clone(&shared))).abort_handle();
        Ok(Events { shared, codec, pump, undecodable: 0 })
    }
}

impl<T> fmt::Debug for Listening<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, codec: _, channels, patterns, reach, messages, bytes, overflow } = self;
        f.debug_struct("Listening")
            .field("store", &store.name())
            .field("channels", &channels.len())
            .field("patterns", &patterns.len())
            .field("reach", reach)
            .field("buffer", &(messages, bytes))
            .field("overflow", overflow)
            .finish()
    }
}

/// An open subscription. Dropping it unsubscribes.
pub struct Events<T> {
    shared: Arc<Shared>,
    codec: Arc<dyn Codec<T>>,
    pump: AbortHandle,
    undecodable: u64,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Notify,
    live: AtomicBool,
    closed: AtomicBool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes from the store as fast as it gives, so that its own buffer stays empty.
async fn pump(mut feed: Box<dyn Feed>, shared: Arc<Shared>) {
    while let Some(heard) = feed.next().await {
        match heard {
            Heard::Message { channel, payload } => shared.queue().push(channel, payload),
            Heard::Lost => {
                shared.live.store(false, Ordering::Release);
                continue;
            }
            Heard::Restored => {
                shared.queue().gap(None);
                shared.live.store(true, Ordering::Release);
            }
        }
        shared.wake.notify_one();
    }
    shared.live.store(false, Ordering::Release);
    shared.closed.store(true, Ordering::Release);
    shared.wake.notify_one();
}

impl<T: 'static> Events<T> {
    /// The next event; `None` once the store is closed for good. May be dropped at any await: no event is lost.
    pub async fn next(&mut self) -> Option<Event<T>> {
        loop {
            // read first: what came before the end is in the queue by then
            let closed = self.shared.closed.load(Ordering::Acquire);
            let item = self.shared.queue().pop();
            match item {
                Some(item) => return Some(self.event(item)),
                None if closed => return None,
                None => self.shared.wake.notified().await,
            }
        }
    }

    fn event(&mut self, item: Item) -> Event<T> {
        match item {
            Item::Gap(lost) => Event::Gap { lost },
            Item::Message { channel, payload } => match self.codec.decode(&payload) {
                Ok(value) => Event::Message { channel, value },
                Err(_) => {
                    self.undecodable += 1;
                    Event::Undecodable { channel, bytes: payload.len(), count: self.undecodable }
                }
            },
        }
    }

    /// How many messages could not be read so far.
    #[must_use]
    pub const fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// How many messages went so far because they came faster than they were read; a gap tells where.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.queue().dropped()
    }

    /// Whether the stream flows; if not, a gap will be told once it does again.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.shared.live.load(Ordering::Acquire)
    }
}

impl<T> Drop for Events<T> {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl<T> fmt::Debug for Events<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("live", &self.shared.live.load(Ordering::Acquire))
            .field("lost", &self.shared.queue().dropped())
            .field("undecodable", &self.undecodable)
            .finish_non_exhaustive()
    }
}
