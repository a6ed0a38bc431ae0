//! Typed pub/sub.

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Context, bad_keys, promises, refused};
use crate::ErrorKind;
use crate::codec::{Codec, Raw};
use crate::recipe::Topic;
use crate::recipe::pubsub::{Event, Events, Listening, MAX_MESSAGE, Overflow, PubSubStore, Reach};
use crate::testkit::{eventually, within};

promises! { dyn PubSubStore:
    "What is published once `subscribe` has returned is heard, in order." => messages_arrive_in_order,
    "Every subscriber hears every message, and its publisher learns of it." => every_subscriber_hears_every_message,
    "Other channels are not heard." => other_channels_are_not_heard,
    "A pattern hears every channel that it matches, and is told which one it was." => patterns_hear_what_they_match,
    "A topic that stays in its shard is heard by those who know that." => a_shard_is_heard,
    "A dropped subscription hears no more." => a_dropped_subscription_hears_no_more,
    "Dropping `next` loses no event." => dropping_next_loses_no_event,
    "A reader that is too slow loses the oldest, and is told how many." => a_slow_reader_loses_the_oldest,
    "With `DropNewest` it keeps the oldest, and is told how many are missing behind them." =>
        a_slow_reader_may_keep_the_oldest,
    "A message that can't be read is told and counted, and the next one is heard." => an_undecodable_message_is_told,
    "An empty message is one, and so is one of the largest size." => messages_have_any_length,
    "A message over the largest size is refused, and nobody hears of it." => a_message_over_the_largest_size_is_refused,
    "A bad channel, both kinds at once, a shard's pattern or a buffer for nothing is refused." =>
        bad_arguments_are_refused,
    "Neither `Debug` shows a channel or a message." => debug_shows_nothing,
}

type Store = Context<dyn PubSubStore>;

fn topic(t: &Store, name: &str) -> Topic<Bytes> {
    Topic::new(t.store(), t.key(name), Raw).expect("a topic")
}

fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

async fn next<T: 'static>(events: &mut Events<T>) -> Event<T> {
    within("an event", events.next()).await.expect("the store is open")
}

async fn message(events: &mut Events<Bytes>) -> (String, Bytes) {
    match next(events).await {
        Event::Message { channel, value } => (channel, value),
        other => panic!("expected a message, got {other:?}"),
    }
}

async fn messages_arrive_in_order(t: Store) {
    let topic = topic(&t, "c");
    let mut events = topic.subscribe().await.unwrap();
    assert!(events.is_live());
    for i in 0..300 {
        topic.publish(&bytes(i.to_string())).await.unwrap();
    }
    for i in 0..300 {
        assert_eq!(message(&mut events).await, (t.key("c"), bytes(i.to_string())));
    }
}

async fn every_subscriber_hears_every_message(t: Store) {
    // on a channel of its own: what is on its way between nodes is heard by who subscribes meanwhile
    assert_eq!(topic(&t, "deserted").publish(&bytes("to nobody")).await.unwrap(), 0);
    let topic = topic(&t, "c");
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(topic.subscribe().await.unwrap());
    }
    for i in 0..20 {
        // in a cluster the node that was asked knows its own subscribers only
        assert!(topic.publish(&bytes(i.to_string())).await.unwrap() <= 5);
    }
    for events in &mut all {
        for i in 0..20 {
            assert_eq!(message(events).await.1, bytes(i.to_string()));
        }
    }
}

async fn other_channels_are_not_heard(t: Store) {
    let (mine, theirs) = (topic(&t, "mine"), topic(&t, "mine.too"));
    let mut events = mine.subscribe().await.unwrap();
    for _ in 0..3 {
        theirs.publish(&bytes("theirs")).await.unwrap();
        mine.publish(&bytes("mine")).await.unwrap();
        assert_eq!(message(&mut events).await, (t.key("mine"), bytes("mine")));
    }
}

async fn patterns_hear_what_they_match(t: Store) {
    let (eu, us, other) = (topic(&t, "orders.eu"), topic(&t, "orders.us"), topic(&t, "returns.eu"));
    // the braces of the case's keys are no special characters
    let listening = Listening::new(t.store(), Raw).pattern(t.key("orders.*")).pattern(t.key("x[yz]?"));
    let mut events: Events<Bytes> = listening.open().await.unwrap();
    for _ in 0..3 {
        other.publish(&bytes("other")).await.unwrap();
        eu.publish(&bytes("eu")).await.unwrap();
        assert_eq!(message(&mut events).await, (t.key("orders.eu"), bytes("eu")));
        us.publish(&bytes("us")).await.unwrap();
        assert_eq!(message(&mut events).await, (t.key("orders.us"), bytes("us")));
        topic(&t, "xz7").publish(&bytes("class")).await.unwrap();
        assert_eq!(message(&mut events).await, (t.key("xz7"), bytes("class")));
    }
}

async fn a_shard_is_heard(t: Store) {
    let (one, two) = (topic(&t, "one").reach(Reach::Shard), topic(&t, "two").reach(Reach::Shard));
    let mut events = one.listening().channel(t.key("two")).open().await.unwrap();
    for i in 0..10 {
        let topic = if i % 2 == 0 { &one } else { &two };
        assert_eq!(topic.publish(&bytes(i.to_string())).await.unwrap(), 1, "the shard knows all of its subscribers");
        assert_eq!(message(&mut events).await, (topic.channel().to_owned(), bytes(i.to_string())));
    }
}

async fn a_dropped_subscription_hears_no_more(t: Store) {
    let topic = topic(&t, "c").reach(Reach::Shard);
    let events = topic.subscribe().await.unwrap();
    assert_eq!(topic.publish(&bytes("one")).await.unwrap(), 1);
    drop(events);
    eventually("nobody is subscribed", async || topic.publish(&bytes("more")).await.unwrap() == 0).await;
}

async fn dropping_next_loses_no_event(t: Store) {
    let topic = topic(&t, "c");
    let mut events = topic.subscribe().await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for i in 0..200 {
            topic.publish(&bytes(i.to_string())).await.unwrap();
        }
    });
    let mut heard = 0;
    within("all messages", async {
        while heard < 200 {
            let patience = std::time::Duration::from_micros(fastrand::u64(0..500));
            match tokio::time::timeout(patience, events.next()).await {
                Ok(Some(Event::Message { value, .. })) => {
                    assert_eq!(value, bytes(heard.to_string()));
                    heard += 1;
                }
                Ok(other) => panic!("expected a message, got {other:?}"),
                Err(_) => {}
            }
        }
    })
    .await;
    tasks.join_all().await;
}

/// Publishes 100 messages to a reader with a buffer for 10 that reads none of them yet.
async fn flooded(t: &Store, overflow: Overflow) -> (Topic<Bytes>, Events<Bytes>) {
    let topic = topic(t, "c").reach(Reach::Shard);
    let events = topic.listening().buffer(10, 1 << 20).overflow(overflow).open().await.unwrap();
    let mut beside = topic.subscribe().await.unwrap();
    for i in 0..100 {
        topic.publish(&bytes(i.to_string())).await.unwrap();
        // one that keeps up is not slowed down by one that doesn't
        assert_eq!(message(&mut beside).await.1, bytes(i.to_string()));
    }
    eventually("the rest is counted", async || events.lost() == 90).await;
    (topic, events)
}

async fn a_slow_reader_loses_the_oldest(t: Store) {
    let (topic, mut events) = flooded(&t, Overflow::DropOldest).await;
    assert_eq!(next(&mut events).await, Event::Gap { lost: Some(90) });
    for i in 90..100 {
        assert_eq!(message(&mut events).await.1, bytes(i.to_string()));
    }
    assert_eq!(events.lost(), 90);
    topic.publish(&bytes("later")).await.unwrap();
    assert_eq!(message(&mut events).await.1, bytes("later"));
}

async fn a_slow_reader_may_keep_the_oldest(t: Store) {
    let (topic, mut events) = flooded(&t, Overflow::DropNewest).await;
    for i in 0..10 {
        assert_eq!(message(&mut events).await.1, bytes(i.to_string()));
    }
    assert_eq!(next(&mut events).await, Event::Gap { lost: Some(90) });
    topic.publish(&bytes("later")).await.unwrap();
    assert_eq!(message(&mut events).await.1, bytes("later"));
}

/// Reads what begins with `n`.
#[derive(Debug)]
struct Numbers;

impl Codec<u32> for Numbers {
    fn id(&self) -> u8 {
        200
    }

    fn encode(&self, value: &u32) -> crate::Result<Bytes> {
        Ok(Bytes::from(format!("n{value}")))
    }

    fn decode(&self, bytes: &Bytes) -> crate::Result<u32> {
        let text = std::str::from_utf8(bytes).ok().and_then(|text| text.strip_prefix('n'));
        let number = text.and_then(|text| text.parse().ok());
        number.ok_or_else(|| crate::Error::new(ErrorKind::Codec, "no number"))
    }
}

async fn an_undecodable_message_is_told(t: Store) {
    let (foreign, numbers) = (topic(&t, "c"), Topic::new(t.store(), t.key("c"), Numbers).unwrap());
    let mut events = numbers.subscribe().await.unwrap();
    for count in 1..=3 {
        foreign.publish(&bytes("something else")).await.unwrap();
        numbers.publish(&7).await.unwrap();
        let told = Event::Undecodable { channel: t.key("c"), bytes: 14, count };
        assert_eq!(next(&mut events).await, told);
        assert_eq!(next(&mut events).await, Event::Message { channel: t.key("c"), value: 7 });
    }
    assert_eq!(events.undecodable(), 3);
}

async fn messages_have_any_length(t: Store) {
    let topic = topic(&t, "c");
    let mut events = topic.subscribe().await.unwrap();
    let most = t.store().max_value().min(MAX_MESSAGE - topic.channel().len());
    for value in [Bytes::new(), Bytes::from_static(b"\r\n$5\0"), Bytes::from(vec![b'x'; most]), bytes("after")] {
        topic.publish(&value).await.unwrap();
        assert!(message(&mut events).await.1 == value, "a message of {} bytes was changed", value.len());
    }
}

async fn a_message_over_the_largest_size_is_refused(t: Store) {
    let topic = topic(&t, "c");
    let mut events = topic.subscribe().await.unwrap();
    let over = Bytes::from(vec![b'x'; MAX_MESSAGE - topic.channel().len() + 1]);
    refused("publish", ErrorKind::TooLarge, topic.publish(&over).await);
    topic.publish(&bytes("after")).await.unwrap();
    assert_eq!(message(&mut events).await.1, bytes("after"));
}

async fn bad_arguments_are_refused(t: Store) {
    let invalid = ErrorKind::Invalid;
    let listening = || Listening::<Bytes>::new(t.store(), Raw);
    for bad in bad_keys() {
        refused("topic", invalid, Topic::<Bytes>::new(t.store(), bad.clone(), Raw));
        refused("channel", invalid, listening().channel(t.key("fine")).channel(bad.clone()).open().await);
        refused("pattern", invalid, listening().pattern(bad).open().await);
    }
    refused("nothing", invalid, listening().open().await);
    refused("both kinds", invalid, listening().channel(t.key("c")).pattern(t.key("*")).open().await);
    refused("a shard's pattern", invalid, listening().pattern(t.key("*")).reach(Reach::Shard).open().await);
    refused("no room", invalid, listening().channel(t.key("c")).buffer(0, 1000).open().await);
    refused("no bytes", invalid, listening().channel(t.key("c")).buffer(1000, 0).open().await);
}

async fn debug_shows_nothing(t: Store) {
    let topic = topic(&t, "marker");
    let mut events = topic.subscribe().await.unwrap();
    topic.publish(&bytes("marker")).await.unwrap();
    let shown = format!("{topic:?} {:?} {:?}", topic.listening(), events);
    let shown = format!("{shown} {:?} {events:?}", next(&mut events).await);
    assert!(!shown.contains("marker"), "{shown}");
}
