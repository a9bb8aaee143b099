//! How far a comparison is, for whoever looks on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::reading::{End, Prepared};

/// Counters of one comparison, updated as it goes. Cheap to clone, safe to read at any time.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    step: AtomicU8,
    expected: AtomicU64,
    source: AtomicU64,
    destination: AtomicU64,
    moved: AtomicU64,
    bytes: AtomicU64,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Both ends are counted and digested by ranges.
    Digesting,
    /// The ranges that differ are compared record by record.
    Comparing,
    /// Some of what was found is looked up.
    Describing,
    /// What is missing is moved.
    Repairing,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// What is being done.
    pub step: Step,
    /// Records of the source that should be at the destination, about; 0 if unknown.
    pub expected: u64,
    /// Records of the source read in this step.
    pub source_records: u64,
    /// Records of the destination read in this step.
    pub destination_records: u64,
    /// Records that were moved.
    pub moved: u64,
    /// Bytes read in this step, of both ends.
    pub bytes: u64,
}

impl Step {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digesting => "digesting",
            Self::Comparing => "comparing",
            Self::Describing => "describing",
            Self::Repairing => "repairing",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Digesting => 0,
            Self::Comparing => 1,
            Self::Describing => 2,
            Self::Repairing => 3,
        }
    }
}

impl Progress {
    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let step = match self.0.step.load(Ordering::Relaxed) {
            0 => Step::Digesting,
            1 => Step::Comparing,
            2 => Step::Describing,
            _ => Step::Repairing,
        };
        Snapshot {
            step,
            expected: get(&self.0.expected),
            source_records: get(&self.0.source),
            destination_records: get(&self.0.destination),
            moved: get(&self.0.moved),
            bytes: get(&self.0.bytes),
        }
    }

    /// Begins a step.
    pub fn begin(&self, step: Step, expected: u64) {
        self.0.step.store(step.number(), Ordering::Relaxed);
        self.0.expected.store(expected, Ordering::Relaxed);
        for counter in [&self.0.source, &self.0.destination, &self.0.bytes] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Says how many records were moved so far.
    pub fn moved(&self, records: u64) {
        self.0.moved.store(records, Ordering::Relaxed);
    }

    pub(super) fn read(&self, end: End, records: u64, prepared: &Prepared) {
        let counter = match end {
            End::Source => &self.0.source,
            End::Destination => &self.0.destination,
        };
        counter.fetch_add(records.saturating_add(prepared.left_out), Ordering::Relaxed);
        self.0.bytes.fetch_add(prepared.source_bytes, Ordering::Relaxed);
    }
}
