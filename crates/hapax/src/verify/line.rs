//! One record of a range that differs.

use super::prints::Print;
use super::scratch::Entry;

/// Where a record stands in its end: the number of the split, as the comparison counts them, and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Spot {
    pub split: u32,
    pub ordinal: u64,
}

/// One record: what it is, what it contains, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub id: Print,
    pub content: Print,
    /// It may be at the destination, and need not: it was committed while the ends were read.
    pub optional: bool,
    pub spot: Spot,
}

/// The bit of a split's number that says that a line is optional.
const OPTIONAL: u32 = 1 << 31;

impl Entry for Spot {
    const BYTES: usize = 12;

    fn put(&self, into: &mut Vec<u8>) {
        into.extend(self.split.to_le_bytes());
        into.extend(self.ordinal.to_le_bytes());
    }

    fn take(bytes: &[u8]) -> Option<Self> {
        let (split, ordinal) = bytes.split_first_chunk::<4>()?;
        Some(Self { split: u32::from_le_bytes(*split), ordinal: u64::take(ordinal)? })
    }
}

impl Entry for Line {
    const BYTES: usize = 44;

    fn put(&self, into: &mut Vec<u8>) {
        into.extend(self.id.to_le_bytes());
        into.extend(self.content.to_le_bytes());
        let marked = if self.optional { self.spot.split | OPTIONAL } else { self.spot.split };
        Spot { split: marked, ..self.spot }.put(into);
    }

    fn take(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let (content, rest) = rest.split_first_chunk::<16>()?;
        let spot = Spot::take(rest)?;
        Some(Self {
            id: Print::from_le_bytes(*id),
            content: Print::from_le_bytes(*content),
            optional: spot.split & OPTIONAL != 0,
            spot: Spot { split: spot.split & !OPTIONAL, ..spot },
        })
    }
}
