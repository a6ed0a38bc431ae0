//! Slots and who owns them.

use std::sync::Arc;

use cache_core::Result;
use redis::Value;

use crate::config::Endpoint;
use crate::error;

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// No owner.
const NONE: u16 = u16::MAX;

/// The slot of a key or a channel: of what stands in its first braces, if anything does.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

/// The owner of every slot, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slots {
    /// An index into `owners` for each slot.
    slots: Box<[u16]>,
    owners: Vec<Arc<Endpoint>>,
}

impl Slots {
    /// Reads the reply of `CLUSTER SLOTS` that the server at `asked` gave.
    pub(super) fn parse(reply: &Value, asked: &Endpoint) -> Result<Self> {
        let unexpected = || error::unexpected("connect");
        let Value::Array(ranges) = reply else { return Err(unexpected()) };
        let mut all = Self { slots: vec![NONE; usize::from(SLOTS)].into(), owners: Vec::new() };
        for range in ranges {
            let Value::Array(parts) = range else { return Err(unexpected()) };
            let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = parts.as_slice() else {
                return Err(unexpected());
            };
            let [host, Value::Int(port), ..] = primary.as_slice() else { return Err(unexpected()) };
            let host = match host {
                Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Value::SimpleString(text) => text.clone(),
                _ => String::new(),
            };
            let owner = u16::try_from(*port).ok().and_then(|port| beside(&host, port, asked));
            let owner = all.index(&owner.ok_or_else(unexpected)?);
            let bounds = usize::try_from(*first).ok().zip(usize::try_from(*last).ok());
            let range = bounds.and_then(|(first, last)| all.slots.get_mut(first..=last));
            range.ok_or_else(unexpected)?.fill(owner);
        }
        if all.owners.is_empty() {
            return Err(error::server("CLUSTERDOWN", ""));
        }
        Ok(all)
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Endpoint> {
        let index = *self.slots.get(usize::from(slot))?;
        self.owners.get(usize::from(index)).map(|owner| &**owner)
    }

    /// The servers that own slots.
    pub(super) fn owners(&self) -> impl Iterator<Item = &Endpoint> {
        self.owners.iter().map(|owner| &**owner)
    }

    /// The same with another owner of one slot.
    pub(super) fn moved(&self, slot: u16, owner: &Endpoint) -> Self {
        let mut all = self.clone();
        let index = all.index(owner);
        if let Some(place) = all.slots.get_mut(usize::from(slot)) {
            *place = index;
        }
        all
    }

    fn index(&mut self, owner: &Endpoint) -> u16 {
        let known = self.owners.iter().position(|known| **known == *owner).unwrap_or_else(|| {
            self.owners.push(Arc::new(owner.clone()));
            self.owners.len() - 1
        });
        u16::try_from(known).unwrap_or(NONE)
    }
}

/// An address that a server named; without a host it means the one that was asked.
pub(super) fn beside(host: &str, port: u16, asked: &Endpoint) -> Option<Endpoint> {
    match asked {
        _ if !host.is_empty() && host != "?" => Some(Endpoint::Tcp { host: host.to_owned(), port }),
        Endpoint::Tcp { host, .. } => Some(Endpoint::Tcp { host: host.clone(), port }),
        Endpoint::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Endpoint {
        Endpoint::Tcp { host: "h".into(), port }
    }

    #[test]
    fn slots_are_redis_clusters() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_eq!(slot(b"foo{bar"), crc16(b"foo{bar") % SLOTS);
        assert_eq!(slot(b""), 0);
    }

    fn range(first: i64, last: i64, host: &str, port: i64) -> Value {
        let primary =
            Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString("id".into())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), primary])
    }

    #[test]
    fn owners_are_read_and_moved() {
        let reply = Value::Array(vec![range(0, 99, "h", 1), range(101, 16_383, "", 2)]);
        let slots = Slots::parse(&reply, &at(9)).unwrap();
        assert_eq!((slots.owner(0), slots.owner(100), slots.owner(16_383)), (Some(&at(1)), None, Some(&at(2))));
        assert_eq!(slots.owner(SLOTS), None);
        let slots = slots.moved(0, &at(3));
        assert_eq!((slots.owner(0), slots.owner(1)), (Some(&at(3)), Some(&at(1))));
    }

    #[test]
    fn nonsense_is_refused() {
        for reply in [
            Value::Okay,
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16_384, "h", 1)]),
            Value::Array(vec![range(5, 4, "h", 1), range(-1, 4, "h", 1)]),
            Value::Array(vec![range(0, 1, "h", 65_536)]),
        ] {
            assert!(Slots::parse(&reply, &at(9)).is_err(), "{reply:?}");
        }
    }
}
