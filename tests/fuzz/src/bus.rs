//! Messages of the invalidation stream.

use cache_core::{Message, NodeId};

/// A message is none, or says what it reads, and holds no more than it was sent.
pub(crate) fn message(input: &[u8]) {
    let Some(message) = Message::parse(input) else { return };
    assert_eq!(Message::parse(&message.to_bytes()).as_ref(), Some(&message), "a message is read as it was written");
    if let Message::Keys { keys, .. } = &message {
        assert!(
            keys.iter().map(String::len).sum::<usize>() + keys.len() * 2 < input.len(),
            "no key comes from nowhere"
        );
    }
}

pub(crate) fn messages() -> Vec<Vec<u8>> {
    let node = NodeId(0x1234);
    let keys = ["shop:k:a", "b c", "\u{e4}:5:x"].map(str::to_owned).to_vec();
    [
        Message::Keys { n: 1, node, keys: keys.clone() },
        Message::Keys { n: u64::MAX, node, keys: keys[..1].to_vec() },
        Message::Tag { n: 0, node, tag: 0 },
        Message::Tag { n: 17, node, tag: u64::MAX },
        Message::Wake { key: keys[1].clone() },
    ]
    .iter()
    .map(|message| message.to_bytes().to_vec())
    .collect()
}
