//! A store in memory, for tests.

use std::collections::BTreeMap;

use hapax_protocol::position::SplitId;
use thiserror::Error;

use crate::store::{SegmentId, SegmentInfo, SegmentStore, Segments, SplitNumber};

/// Segments in memory. A clone is a snapshot: putting it back is a rollback.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    sealed: BTreeMap<SegmentId, (SegmentInfo, Vec<Vec<u8>>)>,
    open: BTreeMap<SegmentId, Vec<Vec<u8>>>,
    splits: Vec<SplitId>,
}

/// Something was asked for that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Absent {
    /// A page.
    #[error("there is no page {page} in segment {}", segment.0)]
    Page {
        /// The segment.
        segment: SegmentId,
        /// The page.
        page: u32,
    },
    /// A split.
    #[error("there is no split {}", .0.0)]
    Split(SplitNumber),
}

impl MemoryStore {
    /// Takes over the segments of another store, level and all, whose numbers do not overlap its own.
    /// Splits must be the same in both.
    pub fn adopt(&mut self, other: Self) {
        self.sealed.extend(other.sealed);
        self.splits = other.splits;
    }

    /// The bytes of all pages of sealed segments, to damage them.
    pub fn pages_mut(&mut self) -> impl Iterator<Item = &mut Vec<u8>> {
        self.sealed.values_mut().flat_map(|(_, pages)| pages)
    }
}

impl Segments for MemoryStore {
    type Error = Absent;

    fn segments(&mut self) -> Result<Vec<SegmentInfo>, Absent> {
        Ok(self.sealed.values().map(|(info, _)| *info).collect())
    }

    fn read_page(&mut self, segment: SegmentId, page: u32, into: &mut Vec<u8>) -> Result<(), Absent> {
        into.clear();
        let number = usize::try_from(page).unwrap_or(usize::MAX);
        let bytes = self.sealed.get(&segment).and_then(|(_, pages)| pages.get(number));
        into.extend_from_slice(bytes.ok_or(Absent::Page { segment, page })?);
        Ok(())
    }

    fn split(&mut self, number: SplitNumber) -> Result<SplitId, Absent> {
        let place = usize::try_from(number.0).unwrap_or(usize::MAX);
        self.splits.get(place).cloned().ok_or(Absent::Split(number))
    }
}

impl SegmentStore for MemoryStore {
    fn write_page(&mut self, segment: SegmentId, page: u32, bytes: &[u8]) -> Result<(), Absent> {
        let pages = self.open.entry(segment).or_default();
        if u32::try_from(pages.len()) != Ok(page) {
            return Err(Absent::Page { segment, page: page.saturating_sub(1) });
        }
        pages.push(bytes.to_vec());
        Ok(())
    }

    fn seal(&mut self, info: SegmentInfo, replaces: &[SegmentId]) -> Result<(), Absent> {
        let pages = self.open.remove(&info.id).unwrap_or_default();
        if u32::try_from(pages.len()) != Ok(info.pages) {
            return Err(Absent::Page { segment: info.id, page: info.pages.saturating_sub(1) });
        }
        self.sealed.insert(info.id, (info, pages));
        for replaced in replaces {
            self.sealed.remove(replaced);
        }
        Ok(())
    }

    fn number(&mut self, split: &SplitId) -> Result<SplitNumber, Absent> {
        let number = self.splits.iter().position(|known| known == split).unwrap_or_else(|| {
            self.splits.push(split.clone());
            self.splits.len().saturating_sub(1)
        });
        Ok(SplitNumber(u32::try_from(number).unwrap_or(u32::MAX)))
    }
}
