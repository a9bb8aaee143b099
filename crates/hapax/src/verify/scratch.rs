//! More entries than fit into memory, put in order: sorted runs in scratch files without a name, merged.
//!
//! The files vanish with the process, however it ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Something of a fixed size that has an order.
pub(super) trait Entry: Copy + Ord + Send + 'static {
    /// How many bytes it takes in a file.
    const BYTES: usize;
    /// Appends it.
    fn put(&self, into: &mut Vec<u8>);
    /// Reads it back from [`Self::BYTES`] bytes.
    fn take(bytes: &[u8]) -> Option<Self>;
}

/// How many runs are merged at once: more are merged into longer ones first.
const RUNS_MAX: usize = 128;

/// How much of a run is read at once, in bytes. [`RUNS_MAX`] times this is what a merge holds.
const READ_BYTES: usize = 32 * 1024;

/// How much is written at once, in bytes.
const WRITE_BYTES: usize = 256 * 1024;

/// Collects entries. What exceeds its bound is in a scratch file.
pub(super) struct Sorter<T> {
    entries: Vec<T>,
    entries_max: usize,
    runs: Vec<Run>,
    file: Option<(Arc<File>, u64)>,
}

/// Entries in order, in a file.
struct Run {
    file: Arc<File>,
    at: u64,
    entries: u64,
}

impl<T: Entry> Sorter<T> {
    /// One that holds at most `bytes_max` in memory.
    pub fn new(bytes_max: usize) -> Self {
        let entries_max = (bytes_max / size_of::<T>()).max(1);
        Self { entries: Vec::new(), entries_max, runs: Vec::new(), file: None }
    }

    /// Takes an entry.
    pub fn push(&mut self, entry: T) -> io::Result<()> {
        if self.entries.len() >= self.entries_max {
            self.spill()?;
        }
        if self.entries.capacity() == self.entries.len() {
            // A vector doubles itself: not beyond the bound.
            let more = self.entries.len().max(1024).min(self.entries_max.saturating_sub(self.entries.len()));
            self.entries.reserve_exact(more.max(1));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.runs.clear();
        self.file = None;
    }

    /// Gives the first `entries_max` entries to another one, and forgets the rest.
    pub fn give(&mut self, to: &mut Self, entries_max: u64) -> io::Result<()> {
        let number = usize::try_from(entries_max).unwrap_or(usize::MAX);
        if self.runs.is_empty() {
            self.entries.sort_unstable();
            self.entries.drain(..).take(number).try_for_each(|entry| to.push(entry))?;
        } else {
            let all = Self {
                entries: std::mem::take(&mut self.entries),
                entries_max: self.entries_max,
                runs: std::mem::take(&mut self.runs),
                file: self.file.take(),
            };
            merge(vec![all])?.take(number).try_for_each(|entry| to.push(entry?))?;
        }
        self.clear();
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.entries.sort_unstable();
        let (file, at) = match self.file.take() {
            Some(open) => open,
            None => (Arc::new(tempfile::tempfile()?), 0),
        };
        let run = write(&file, at, self.entries.drain(..).map(Ok))?;
        self.file = Some((file, at.saturating_add(run.entries.saturating_mul(size::<T>()))));
        self.runs.push(run);
        Ok(())
    }
}

fn size<T: Entry>() -> u64 {
    u64::try_from(T::BYTES).unwrap_or(u64::MAX)
}

/// Writes entries, which are in order, as a run.
fn write<T: Entry>(
    file: &Arc<File>,
    at: u64,
    entries: impl Iterator<Item = io::Result<T>>,
) -> io::Result<Run> {
    let mut bytes = Vec::with_capacity(WRITE_BYTES.saturating_add(T::BYTES));
    let (mut number, mut end) = (0_u64, at);
    let mut flush = |bytes: &mut Vec<u8>| -> io::Result<()> {
        file.write_all_at(bytes, end)?;
        end = end.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        bytes.clear();
        Ok(())
    };
    for entry in entries {
        entry?.put(&mut bytes);
        number = number.saturating_add(1);
        if bytes.len() >= WRITE_BYTES {
            flush(&mut bytes)?;
        }
    }
    flush(&mut bytes)?;
    Ok(Run { file: Arc::clone(file), at, entries: number })
}

/// Everything that these collected, in order.
pub(super) fn merge<T: Entry>(sorters: Vec<Sorter<T>>) -> io::Result<Merged<T>> {
    let (mut runs, mut sources) = (Vec::new(), Vec::new());
    for mut sorter in sorters {
        sorter.entries.sort_unstable();
        sources.push(Source::Memory(sorter.entries.into_iter()));
        runs.append(&mut sorter.runs);
    }
    while runs.len() > RUNS_MAX {
        let rest = runs.split_off(RUNS_MAX);
        let some: Vec<Source<T>> = runs.into_iter().map(Source::of).collect();
        let joined = write(&Arc::new(tempfile::tempfile()?), 0, Merged::of(some)?)?;
        runs = rest;
        runs.push(joined);
    }
    sources.extend(runs.into_iter().map(Source::of));
    Merged::of(sources)
}

/// Entries in order, from memory or a file.
enum Source<T> {
    Memory(std::vec::IntoIter<T>),
    File { run: Run, ready: std::vec::IntoIter<T> },
}

impl<T: Entry> Source<T> {
    fn of(run: Run) -> Self {
        Self::File { run, ready: Vec::new().into_iter() }
    }

    fn next(&mut self) -> io::Result<Option<T>> {
        let (run, ready) = match self {
            Self::Memory(entries) => return Ok(entries.next()),
            Self::File { run, ready } => (run, ready),
        };
        if let Some(entry) = ready.next() {
            return Ok(Some(entry));
        }
        let fitting = u64::try_from(READ_BYTES / T::BYTES).unwrap_or(1).max(1).min(run.entries);
        if fitting == 0 {
            return Ok(None);
        }
        let length = fitting.saturating_mul(size::<T>());
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        run.file.read_exact_at(&mut bytes, run.at)?;
        run.at = run.at.saturating_add(length);
        run.entries = run.entries.saturating_sub(fitting);
        let entries: Vec<T> = bytes.chunks_exact(T::BYTES).filter_map(T::take).collect();
        *ready = entries.into_iter();
        Ok(ready.next())
    }
}

/// Entries in order, merged from several places.
pub(super) struct Merged<T> {
    sources: Vec<Source<T>>,
    /// The next entry of each place that has one.
    heads: BinaryHeap<Reverse<(T, usize)>>,
}

impl<T: Entry> Merged<T> {
    fn of(mut sources: Vec<Source<T>>) -> io::Result<Self> {
        let mut heads = BinaryHeap::with_capacity(sources.len());
        for (index, source) in sources.iter_mut().enumerate() {
            heads.extend(source.next()?.map(|entry| Reverse((entry, index))));
        }
        Ok(Self { sources, heads })
    }

    /// The next entry, which stays.
    pub fn peek(&self) -> Option<&T> {
        self.heads.peek().map(|Reverse((entry, _))| entry)
    }
}

impl<T: Entry> Iterator for Merged<T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut head = self.heads.peek_mut()?;
        let Reverse((entry, index)) = *head;
        match self.sources.get_mut(index).map(Source::next) {
            Some(Ok(Some(next))) => head.0.0 = next,
            Some(Err(error)) => return Some(Err(error)),
            Some(Ok(None)) | None => {
                PeekMut::pop(head);
            }
        }
        Some(Ok(entry))
    }
}

impl Entry for u64 {
    const BYTES: usize = 8;

    fn put(&self, into: &mut Vec<u8>) {
        into.extend(self.to_le_bytes());
    }

    fn take(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_le_bytes)
    }
}

#[cfg(test)]
mod tests;
