//! Merging sorted runs of entries into one segment, page by page.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::entry::Entry;
use crate::error::{Broken, Damage, Error};
use crate::page;
use crate::segment::{Writer, check_count};
use crate::store::{SegmentInfo, SegmentStore, Segments};

/// A sorted run of entries, of which one page is in memory.
#[derive(Debug)]
pub struct Run {
    entries: Vec<Entry>,
    at: usize,
    rest: Option<Rest>,
}

/// The pages of a segment that were not read yet.
#[derive(Debug)]
struct Rest {
    info: SegmentInfo,
    next: u32,
    seen: u64,
    bytes: Vec<u8>,
}

impl Run {
    /// A run that is in memory altogether.
    pub fn of_entries(entries: Vec<Entry>) -> Self {
        Self { entries, at: 0, rest: None }
    }

    /// A sealed segment, with its first page read.
    pub fn of_segment<S: Segments>(store: &mut S, info: SegmentInfo) -> Result<Self, Error<S::Error>> {
        let rest = Rest { info, next: 0, seen: 0, bytes: Vec::new() };
        let mut run = Self { entries: Vec::new(), at: 0, rest: Some(rest) };
        run.next_page(store)?;
        Ok(run)
    }

    /// The entries of the page in memory; none after the last page.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Reads and checks the next page.
    pub fn next_page<S: Segments>(&mut self, store: &mut S) -> Result<(), Error<S::Error>> {
        let last = self.entries.last().copied();
        self.entries.clear();
        self.at = 0;
        let Some(rest) = &mut self.rest else { return Ok(()) };
        let (segment, number) = (rest.info.id, rest.next);
        if number >= rest.info.pages {
            return Ok(check_count(rest.info, rest.seen)?);
        }
        store.read_page(segment, number, &mut rest.bytes).map_err(Error::Store)?;
        let entries = page::entries(segment, number, &rest.bytes)?;
        self.entries.extend(entries.iter().map(Entry::from_bytes));
        let damaged = |what| Error::Broken(Broken::Page { segment, page: number, what });
        let first = self.entries.first().ok_or(damaged(Damage::Count))?;
        if last.is_some_and(|last| last.key >= first.key) || !self.entries.is_sorted_by(|a, b| a.key < b.key)
        {
            return Err(damaged(Damage::Order));
        }
        let read = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        rest.seen = rest.seen.saturating_add(read);
        rest.next = number.saturating_add(1);
        Ok(())
    }

    fn take<S: Segments>(&mut self, store: &mut S) -> Result<Option<Entry>, Error<S::Error>> {
        if self.at >= self.entries.len() {
            self.next_page(store)?;
        }
        let entry = self.entries.get(self.at).copied();
        self.at = self.at.saturating_add(1);
        Ok(entry)
    }
}

/// The next entry of a run. The smallest identity is the greatest head, because the heap gives the greatest.
struct Head {
    entry: Entry,
    run: usize,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.entry.key == other.entry.key
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        other.entry.key.cmp(&self.entry.key)
    }
}

/// Writes all entries of all runs, in order.
pub fn merge<S: SegmentStore>(
    store: &mut S,
    mut runs: Vec<Run>,
    writer: &mut Writer,
) -> Result<(), Error<S::Error>> {
    let mut heads = BinaryHeap::with_capacity(runs.len());
    for (number, run) in runs.iter_mut().enumerate() {
        heads.extend(run.take(store)?.map(|entry| Head { entry, run: number }));
    }
    while let Some(mut head) = heads.peek_mut() {
        writer.push(store, head.entry)?;
        let next = match runs.get_mut(head.run) {
            Some(run) => run.take(store)?,
            None => None,
        };
        match next {
            Some(entry) => head.entry = entry,
            None => {
                PeekMut::pop(head);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
