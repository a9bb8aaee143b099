//! Counts and digests of ranges of identities, independent of order.

use std::collections::HashSet;

use hapax_protocol::identity::RecordId;

const RANGES: usize = 4096;

/// What one end holds, by range of identities.
pub(super) struct Ranges(Vec<Range>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Range {
    records: u64,
    sum: u128,
    xor: u128,
}

impl Default for Ranges {
    fn default() -> Self {
        Self(vec![Range::default(); RANGES])
    }
}

impl Ranges {
    /// The range of an identity: its first twelve bits.
    pub fn of(id: &RecordId) -> u16 {
        let [first, second, ..] = id.0;
        u16::from_be_bytes([first, second]) >> 4
    }

    /// Adds a record with this identity and content.
    pub fn add(&mut self, id: &RecordId, content: &RecordId) {
        if let Some(range) = self.0.get_mut(usize::from(Self::of(id))) {
            let content = u128::from_le_bytes(content.0);
            range.records = range.records.wrapping_add(1);
            range.sum = range.sum.wrapping_add(content);
            range.xor ^= content.rotate_left(17).wrapping_mul(content | 1);
        }
    }

    /// Every range.
    pub fn every() -> HashSet<u16> {
        (0_u16..).take(RANGES).collect()
    }

    /// The ranges in which two ends differ.
    pub fn differing(one: &Self, other: &Self) -> HashSet<u16> {
        let pairs = (0_u16..).zip(one.0.iter().zip(&other.0));
        pairs.filter(|(_, (one, other))| one != other).map(|(range, _)| range).collect()
    }
}
