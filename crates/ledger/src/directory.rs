//! The embedded store: a directory of its own, for destinations that cannot keep a ledger themselves.
//!
//! ```text
//! seg-<id>-l<level>.led   a sealed segment
//! tmp-<id>-<pid>-<n>.led  a segment being written; removed when the directory is opened
//! splits.led              the names of splits, in the order of their numbers
//! ```
//!
//! What `seal` and `number` return is on the disk: file synchronised, renamed, directory synchronised.
//!
//! A commit elsewhere decides which claims count: it names the last segment it rests on, and
//! [`DirectoryStore::open_through`] drops every later one. Segments that were merged into a later one stay
//! until [`DirectoryStore::forget_replaced`] says that the commit took effect. The
//! lease of the destination keeps a second run away. If one writes all the same, no file is ever written
//! over: whoever comes second gets [`StoreError::OtherWriter`].

pub(crate) mod disk;
mod error;
mod look;
mod segment_file;
mod splits;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hapax_protocol::position::SplitId;

pub use error::{Action, StoreError};
pub use look::Look;
use segment_file::{Draft, SegmentFile};
use splits::Splits;

use crate::store::{SegmentId, SegmentInfo, SegmentStore, Segments, SplitNumber};

/// Behind every segment.
const EVERY: SegmentId = SegmentId(u64::MAX);

/// A directory that holds a ledger.
#[derive(Debug)]
pub struct DirectoryStore {
    path: PathBuf,
    sealed: BTreeMap<SegmentId, SegmentFile>,
    /// Merged into segments that no commit names yet.
    replaced: Vec<SegmentFile>,
    draft: Option<Draft>,
    splits: Splits,
    usable: bool,
}

impl DirectoryStore {
    /// Opens a directory, makes it if it is not there, and removes what a crash left behind. Every sealed
    /// segment counts.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_through(path, EVERY)
    }

    /// Opens a directory as it was when `last` was its last segment, 0 before the first: later ones are removed,
    /// and what they had replaced counts again. Without `last` itself it is damaged.
    pub fn open_through(path: impl Into<PathBuf>, last: SegmentId) -> Result<Self, StoreError> {
        let path = path.into();
        disk::make_directory(&path)?;
        let sealed = sealed_files(&path, last)?;
        // Claims that were committed are gone: to go on would let their records take effect again.
        if last > SegmentId(0) && last < EVERY && !sealed.contains_key(&last) {
            return Err(StoreError::Damaged { path: path.join(format!("seg-{}", last.0)) });
        }
        let splits = Splits::open(path.join("splits.led"))?;
        disk::sync_directory(&path)?;
        Ok(Self { path, sealed, replaced: Vec::new(), draft: None, splits, usable: true })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses everything once the system failed to confirm that bytes are on the disk: what is on it then
    /// is anyone's guess, and asking again would get a false yes.
    fn usable(&self) -> Result<(), StoreError> {
        if self.usable { Ok(()) } else { Err(StoreError::Poisoned { path: self.path.clone() }) }
    }

    fn judge<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::NotDurable { .. }) = &result {
            self.usable = false;
        }
        result
    }

    fn publish(&mut self, info: SegmentInfo, replaces: &[SegmentId]) -> Result<(), StoreError> {
        let draft = self.draft.take().filter(|draft| draft.id() == info.id);
        let draft = draft.ok_or(StoreError::NoSuchPage { segment: info.id, page: 0 })?;
        let path = self.path.join(segment_file::name(info));
        let file = draft.publish(info, replaces, path)?;
        self.sealed.insert(info.id, file);
        disk::sync_directory(&self.path)?;
        for replaced in replaces {
            self.replaced.extend(self.sealed.remove(replaced));
        }
        Ok(())
    }

    /// Removes what merges replaced: the commit that rests on them took effect.
    pub fn forget_replaced(&mut self) {
        for file in self.replaced.drain(..) {
            // If it stays, the next opening removes it: the new segment names those it replaces.
            let _ = fs::remove_file(file.path());
        }
    }
}

impl Segments for DirectoryStore {
    type Error = StoreError;

    fn segments(&mut self) -> Result<Vec<SegmentInfo>, StoreError> {
        self.usable()?;
        Ok(self.sealed.values().map(SegmentFile::info).collect())
    }

    fn read_page(&mut self, segment: SegmentId, page: u32, into: &mut Vec<u8>) -> Result<(), StoreError> {
        self.usable()?;
        self.sealed.get(&segment).ok_or(StoreError::NoSuchPage { segment, page })?.read(page, into)
    }

    fn split(&mut self, number: SplitNumber) -> Result<SplitId, StoreError> {
        self.usable()?;
        self.splits.name(number)
    }
}

impl SegmentStore for DirectoryStore {
    fn write_page(&mut self, segment: SegmentId, page: u32, bytes: &[u8]) -> Result<(), StoreError> {
        self.usable()?;
        if page == 0 {
            // Dropping an earlier draft removes its file.
            self.draft = None;
            self.draft = Some(Draft::create(&self.path, segment)?);
        }
        match &mut self.draft {
            Some(draft) if draft.id() == segment => draft.write(page, bytes),
            _ => Err(StoreError::NoSuchPage { segment, page }),
        }
    }

    fn seal(&mut self, info: SegmentInfo, replaces: &[SegmentId]) -> Result<(), StoreError> {
        self.usable()?;
        let result = self.publish(info, replaces);
        self.judge(result)
    }

    fn number(&mut self, split: &SplitId) -> Result<SplitNumber, StoreError> {
        self.usable()?;
        let result = self.splits.number(split);
        // A name that was written in part must not be followed by another.
        self.usable = result.is_ok();
        result
    }
}

/// The sealed segments of a directory up to `last`, after removing drafts, later segments and segments that
/// others replace.
fn sealed_files(path: &Path, last: SegmentId) -> Result<BTreeMap<SegmentId, SegmentFile>, StoreError> {
    let mut sealed = BTreeMap::new();
    let mut replaced = BTreeSet::new();
    for entry in fs::read_dir(path).map_err(StoreError::io(Action::List, path))? {
        let entry = entry.map_err(StoreError::io(Action::List, path))?;
        let (name, file) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".led")) else { continue };
        let length = || entry.metadata().map(|data| data.len()).map_err(StoreError::io(Action::Read, &file));
        // An empty segment is a name that was reserved and not used.
        if name.starts_with("tmp-") || (name.starts_with("seg-") && length()? == 0) {
            remove(&file)?;
        } else if name.starts_with("seg-") {
            let (segment, replaces) = SegmentFile::open(file)?;
            if segment.info().id > last {
                remove(segment.path())?;
                continue;
            }
            replaced.extend(replaces);
            sealed.insert(segment.info().id, segment);
        }
    }
    for id in replaced {
        if let Some(file) = sealed.remove(&id) {
            remove(file.path())?;
        }
    }
    Ok(sealed)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io(Action::Remove, path)(error))
        }
        _ => Ok(()),
    }
}
