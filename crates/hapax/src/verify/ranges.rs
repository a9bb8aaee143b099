//! Counts and digests of ranges of identities, independent of order.

use super::prints::Print;

/// How many ranges there are: the first twelve bits of an identity's print say which.
pub(super) const RANGES: usize = 4096;

/// How many bits of a print stand behind those that say the range.
const BITS_BEHIND: u32 = 64 - RANGES.ilog2();

/// What one end holds, by range of identities.
#[derive(Debug)]
pub(super) struct Ranges(Vec<Range>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Range {
    records: u64,
    sum: u128,
}

impl Default for Ranges {
    fn default() -> Self {
        Self(vec![Range::default(); RANGES])
    }
}

impl Ranges {
    /// Adds a record with this identity and content.
    pub fn add(&mut self, id: Print, content: Print) {
        if let Some(range) = self.0.get_mut(of(beginning(id))) {
            range.records = range.records.wrapping_add(1);
            range.sum = range.sum.wrapping_add(content);
        }
    }

    /// Adds what was counted elsewhere.
    pub fn join(&mut self, other: &Self) {
        for (range, more) in self.0.iter_mut().zip(&other.0) {
            range.records = range.records.wrapping_add(more.records);
            range.sum = range.sum.wrapping_add(more.sum);
        }
    }

    /// The ranges in which two ends differ.
    pub fn differing(one: &Self, other: &Self) -> Chosen {
        Chosen(one.0.iter().zip(&other.0).map(|(one, other)| one != other).collect())
    }
}

/// Some of the ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen(Box<[bool]>);

impl Chosen {
    /// Every range.
    pub fn every() -> Self {
        Self(vec![true; RANGES].into())
    }

    /// Chooses one more, by the beginning of an identity in it.
    pub fn choose(&mut self, beginning: u64) {
        if let Some(chosen) = self.0.get_mut(of(beginning)) {
            *chosen = true;
        }
    }

    /// Whether the range of an identity is among them.
    pub fn has(&self, id: Print) -> bool {
        self.0.get(of(beginning(id))).copied().unwrap_or(false)
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        u64::try_from(self.0.iter().filter(|chosen| **chosen).count()).unwrap_or(u64::MAX)
    }
}

/// The first 64 bits of a print.
pub(super) fn beginning(id: Print) -> u64 {
    u64::try_from(id >> 64).unwrap_or(u64::MAX)
}

fn of(beginning: u64) -> usize {
    usize::try_from(beginning >> BITS_BEHIND).unwrap_or(0)
}
