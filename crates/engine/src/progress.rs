//! What a run has done so far, for whoever looks on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hapax_protocol::position::{SplitId, Totals};

/// Counters of one run, updated as it goes. Cheap to clone, safe to read at any time.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    read: AtomicU64,
    moved: AtomicU64,
    suppressed: AtomicU64,
    set_aside: AtomicU64,
    filtered: AtomicU64,
    source_bytes: AtomicU64,
    source_bytes_total: AtomicU64,
    splits: AtomicU64,
    splits_done: AtomicU64,
    commits: AtomicU64,
    in_doubt: AtomicU64,
    waiting: Mutex<BTreeMap<SplitId, String>>,
}

/// A split waits for a system, until this is dropped.
pub(crate) struct Waiting<'a> {
    progress: &'a Progress,
    split: &'a SplitId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.progress.waits().remove(self.split);
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Records of this run whose effect, or setting aside, is committed.
    pub totals: Totals,
    /// Bytes of the source read in this run.
    pub source_bytes: u64,
    /// Bytes of the source that this run has before it, as far as known; 0 if unknown.
    pub source_bytes_total: u64,
    /// Splits of the source.
    pub splits: u64,
    /// Splits that are done.
    pub splits_done: u64,
    /// Commits of this run.
    pub commits: u64,
    /// Commits whose answer was lost and that were looked up.
    pub in_doubt: u64,
}

impl Progress {
    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let c = &self.0;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            totals: Totals {
                read: get(&c.read),
                moved: get(&c.moved),
                suppressed: get(&c.suppressed),
                set_aside: get(&c.set_aside),
                filtered: get(&c.filtered),
            },
            source_bytes: get(&c.source_bytes),
            source_bytes_total: get(&c.source_bytes_total),
            splits: get(&c.splits),
            splits_done: get(&c.splits_done),
            commits: get(&c.commits),
            in_doubt: get(&c.in_doubt),
        }
    }

    /// What is waited for, in the words of the error: of the first split that waits, if one does.
    pub fn waits_for(&self) -> Option<String> {
        self.waits().values().next().cloned()
    }

    fn waits(&self) -> MutexGuard<'_, BTreeMap<SplitId, String>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn waiting<'a>(&'a self, split: &'a SplitId, error: &impl fmt::Display) -> Waiting<'a> {
        self.waits().insert(split.clone(), error.to_string());
        Waiting { progress: self, split }
    }

    pub(crate) fn expect(&self, splits: u64, source_bytes: u64) {
        self.0.splits.store(splits, Ordering::Relaxed);
        self.0.source_bytes_total.store(source_bytes, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, source_bytes: u64) {
        self.0.source_bytes.fetch_add(source_bytes, Ordering::Relaxed);
    }

    pub(crate) fn committed(&self, totals: Totals) {
        let c = &self.0;
        let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
        add(&c.read, totals.read);
        add(&c.moved, totals.moved);
        add(&c.suppressed, totals.suppressed);
        add(&c.set_aside, totals.set_aside);
        add(&c.filtered, totals.filtered);
        add(&c.commits, 1);
    }

    pub(crate) fn in_doubt(&self) {
        self.0.in_doubt.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn split_done(&self) {
        self.0.splits_done.fetch_add(1, Ordering::Relaxed);
    }
}
