//! Positions: the next offset, and what tells the record before it from every other one.

use hapax_engine::identify::digest;
use hapax_protocol::position::{Position, SplitId};
use rdkafka::Message;

/// The first byte of a position of this encoding.
const VERSION: u8 = 1;

/// A place behind a record.
///
/// Its encoding begins with the next offset, eight bytes, most significant first, so the order of the bytes is the
/// order of the partition. The record before it is known by its timestamp and a digest of key and value: an offset
/// alone says nothing once a topic was made anew under the same name. The offset of that record is told only where it
/// is not the one before the next: markers that end transactions stand in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The offset that is read next.
    pub next: i64,
    /// The offset of the record before it.
    pub last: i64,
    /// That record.
    pub seen: Seen,
}

/// What is remembered of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its timestamp in milliseconds since 1970, -1 if it has none.
    pub unix_ms: i64,
    /// A digest of its key and its value.
    pub digest: [u8; 16],
}

/// A record that will be remembered if no other follows: the digest is made once, and not for each record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Glance {
    unix_ms: i64,
    bytes: Vec<u8>,
}

impl Glance {
    /// Looks at a record instead of the one before.
    pub(crate) fn take(&mut self, message: &impl Message) {
        self.unix_ms = message.timestamp().to_millis().unwrap_or(-1);
        self.bytes.clear();
        for part in [message.key(), message.payload()] {
            self.bytes.push(u8::from(part.is_some()));
            let part = part.unwrap_or_default();
            self.bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            self.bytes.extend_from_slice(part);
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen { unix_ms: self.unix_ms, digest: digest(&self.bytes).0 }
    }
}

impl Seen {
    pub(crate) fn of(message: &impl Message) -> Self {
        let mut glance = Glance::default();
        glance.take(message);
        glance.seen()
    }
}

impl Mark {
    /// The place directly behind a record.
    pub(crate) fn behind(last: i64, seen: Seen) -> Self {
        Self { next: last.saturating_add(1), last, seen }
    }

    pub(crate) fn encode(&self) -> Position {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.next.to_be_bytes());
        bytes.extend_from_slice(&self.seen.unix_ms.to_be_bytes());
        bytes.extend_from_slice(&self.seen.digest);
        if self.last.checked_add(1) != Some(self.next) {
            bytes.extend_from_slice(&self.last.to_be_bytes());
        }
        Position::new(bytes)
    }

    /// `None` if it is not such an encoding.
    pub(crate) fn decode(position: &Position) -> Option<Self> {
        let (version, rest) = position.as_bytes().split_first()?;
        let (next, rest) = rest.split_first_chunk::<8>()?;
        let (unix_ms, rest) = rest.split_first_chunk::<8>()?;
        let (digest, rest) = rest.split_first_chunk::<16>()?;
        let next = i64::from_be_bytes(*next);
        let last = match rest {
            [] => next.checked_sub(1)?,
            rest => i64::from_be_bytes(rest.try_into().ok()?),
        };
        let seen = Seen { unix_ms: i64::from_be_bytes(*unix_ms), digest: *digest };
        (*version == VERSION && last >= 0 && last < next).then_some(Self { next, last, seen })
    }
}

/// The name of a partition: `orders[3]`.
pub(crate) fn split_of(topic: &str, partition: i32) -> SplitId {
    SplitId::new(format!("{topic}[{partition}]"))
}

/// Topic and partition of a split.
pub(crate) fn partition_of(split: &SplitId) -> Option<(&str, i32)> {
    let (topic, rest) = split.as_str().rsplit_once('[')?;
    Some((topic, rest.strip_suffix(']')?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_and_grow() {
        let at = |last| Mark::behind(last, Seen { unix_ms: -1, digest: [7; 16] });
        assert_eq!(Mark::decode(&at(255).encode()), Some(at(255)));
        assert!(at(256).encode() > at(255).encode());
        assert!(at(i64::MAX - 1).encode() > at(1 << 40).encode());
        let later = Mark { next: 300, ..at(255) };
        assert_eq!(Mark::decode(&later.encode()), Some(later));
        assert!(later.encode() > at(255).encode() && later.encode() < at(300).encode());
        for wrong in [&b""[..], &[1; 32], &[2; 33], &[1, 0, 0, 0, 0, 0, 0, 0, 0], &[0; 33]] {
            assert_eq!(Mark::decode(&Position::new(wrong)), None);
        }
    }

    #[test]
    fn splits_are_named_after_their_partitions() {
        assert_eq!(partition_of(&split_of("a.b-c_d", 12)), Some(("a.b-c_d", 12)));
        for wrong in ["orders", "orders[x]", "orders[1"] {
            assert_eq!(partition_of(&SplitId::new(wrong)), None);
        }
    }
}
