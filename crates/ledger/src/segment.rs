//! One sealed segment as the ledger holds it in memory, and the writer that makes one.

use crate::cache::Cache;
use crate::entry::{Entry, Key, Spot};
use crate::error::{Broken, Damage, Error};
use crate::filter::{Filter, Probe};
use crate::merge::Run;
use crate::page;
use crate::store::{SegmentId, SegmentInfo, SegmentStore, Segments};

/// What is known of a sealed segment without reading it: its filter and the first identity of each page.
#[derive(Debug)]
pub struct Segment {
    pub info: SegmentInfo,
    /// Sealed since the last commit that took effect: a rollback takes it back.
    pub fresh: bool,
    fences: Vec<Key>,
    filter: Filter,
}

impl Segment {
    /// Reads a sealed segment once, from its first page to its last.
    pub fn load<S: Segments>(store: &mut S, info: SegmentInfo) -> Result<Self, Error<S::Error>> {
        let mut filter = Filter::with_capacity(info.entries);
        let mut fences = Vec::new();
        let mut run = Run::of_segment(store, info)?;
        while !run.entries().is_empty() {
            fences.extend(run.entries().first().map(|entry| entry.key));
            for entry in run.entries() {
                filter.insert(Probe::of(entry.key));
            }
            run.next_page(store)?;
        }
        Ok(Self { info, fresh: false, fences, filter })
    }

    /// `false`: the identity is certainly not here.
    #[inline]
    pub fn may_contain(&self, probe: Probe) -> bool {
        self.filter.may_contain(probe)
    }

    /// Looks an identity up in the pages.
    pub fn find<S: Segments>(
        &self,
        store: &mut S,
        cache: &mut Cache,
        key: Key,
    ) -> Result<Option<Spot>, Error<S::Error>> {
        let Some(number) = self.fences.partition_point(|fence| *fence <= key).checked_sub(1) else {
            return Ok(None);
        };
        let segment = self.info.id;
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let bytes = cache.get((segment, number), |into| {
            store.read_page(segment, number, into).map_err(Error::Store)?;
            page::entries(segment, number, into)?;
            Ok::<_, Error<S::Error>>(())
        })?;
        Ok(page::find(page::checked_entries(bytes), key))
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> u64 {
        let fences = u64::try_from(self.fences.capacity().saturating_mul(16)).unwrap_or(u64::MAX);
        self.filter.bytes().saturating_add(fences)
    }
}

/// A segment being written. Entries come in ascending order; the same one twice is written once.
#[derive(Debug)]
pub struct Writer {
    id: SegmentId,
    page_entries: usize,
    draft: page::Draft,
    pages: u32,
    entries: u64,
    last: Option<Entry>,
    fences: Vec<Key>,
    filter: Filter,
}

impl Writer {
    /// A writer for at most `entries_max` entries.
    pub fn new(id: SegmentId, entries_max: u64, page_bytes: usize) -> Self {
        Self {
            id,
            page_entries: page::capacity(page_bytes),
            draft: page::Draft::default(),
            pages: 0,
            entries: 0,
            last: None,
            fences: Vec::new(),
            filter: Filter::with_capacity(entries_max),
        }
    }

    /// Adds an entry.
    pub fn push<S: SegmentStore>(&mut self, store: &mut S, entry: Entry) -> Result<(), Error<S::Error>> {
        if let Some(last) = self.last
            && last.key == entry.key
        {
            // Segments that a crash kept from being removed say the same again.
            return if last.spot == entry.spot {
                Ok(())
            } else {
                Err(Broken::Contradiction(entry.key.id()).into())
            };
        }
        if self.draft.is_empty() {
            self.fences.push(entry.key);
        }
        self.last = Some(entry);
        self.filter.insert(Probe::of(entry.key));
        self.draft.push(entry);
        self.entries = self.entries.saturating_add(1);
        if self.draft.len() >= self.page_entries { self.end_page(store) } else { Ok(()) }
    }

    fn end_page<S: SegmentStore>(&mut self, store: &mut S) -> Result<(), Error<S::Error>> {
        let bytes = self.draft.finish(self.id, self.pages);
        store.write_page(self.id, self.pages, bytes).map_err(Error::Store)?;
        self.pages = self.pages.saturating_add(1);
        self.draft.clear();
        Ok(())
    }

    /// Seals the segment in the place of others.
    pub fn seal<S: SegmentStore>(
        mut self,
        store: &mut S,
        level: u8,
        replaces: &[SegmentId],
    ) -> Result<Segment, Error<S::Error>> {
        if !self.draft.is_empty() {
            self.end_page(store)?;
        }
        let info = SegmentInfo { id: self.id, level, entries: self.entries, pages: self.pages };
        store.seal(info, replaces).map_err(Error::Store)?;
        self.fences.shrink_to_fit();
        Ok(Segment { info, fresh: true, fences: self.fences, filter: self.filter })
    }
}

/// Checks that a segment held what its description says.
pub fn check_count(info: SegmentInfo, entries: u64) -> Result<(), Broken> {
    if entries == info.entries {
        return Ok(());
    }
    Err(Broken::Page { segment: info.id, page: info.pages.saturating_sub(1), what: Damage::Count })
}
