//! A directory of a ledger as another process sees it: read, never written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use hapax_protocol::position::SplitId;

use super::error::{Action, StoreError};
use super::segment_file::SegmentFile;
use super::splits;
use crate::store::{SegmentId, SegmentInfo, Segments, SplitNumber};

/// The sealed segments of a directory, open for reading.
///
/// Nothing is removed or completed. Whoever writes may remove segments at any time: one that was opened stays
/// readable, and whether the list was whole is for the caller to find out, who knows what commits name.
#[derive(Debug)]
pub struct Look {
    sealed: BTreeMap<SegmentId, SegmentFile>,
    names: Vec<SplitId>,
}

impl Look {
    /// Opens the segments up to `last`.
    pub fn through(path: &Path, last: SegmentId) -> Result<Self, StoreError> {
        let mut sealed = BTreeMap::new();
        let mut replaced = BTreeSet::new();
        for entry in fs::read_dir(path).map_err(StoreError::io(Action::List, path))? {
            let entry = entry.map_err(StoreError::io(Action::List, path))?;
            let name = entry.file_name();
            let is_segment =
                name.to_str().is_some_and(|name| name.starts_with("seg-") && name.ends_with(".led"));
            let file = entry.path();
            if !is_segment {
                continue;
            }
            // An empty segment is a name that was reserved and not used. One that is gone was merged into another,
            // which was there before this one went.
            let (segment, replaces) = match fs::metadata(&file).map(|data| data.len()) {
                Ok(0) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::io(Action::Read, &file)(error)),
                Ok(_) => match SegmentFile::open(file) {
                    Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                        continue;
                    }
                    opened => opened?,
                },
            };
            if segment.info().id <= last {
                replaced.extend(replaces);
                sealed.insert(segment.info().id, segment);
            }
        }
        sealed.retain(|id, _| !replaced.contains(id));
        // A number is durable before a segment uses it: what is read last knows every number.
        let names = splits::names(&path.join("splits.led"))?;
        Ok(Self { sealed, names })
    }
}

impl Segments for Look {
    type Error = StoreError;

    fn segments(&mut self) -> Result<Vec<SegmentInfo>, StoreError> {
        Ok(self.sealed.values().map(SegmentFile::info).collect())
    }

    fn read_page(&mut self, segment: SegmentId, page: u32, into: &mut Vec<u8>) -> Result<(), StoreError> {
        self.sealed.get(&segment).ok_or(StoreError::NoSuchPage { segment, page })?.read(page, into)
    }

    fn split(&mut self, number: SplitNumber) -> Result<SplitId, StoreError> {
        let place = usize::try_from(number.0).unwrap_or(usize::MAX);
        self.names.get(place).cloned().ok_or(StoreError::NoSuchSplit(number))
    }
}
