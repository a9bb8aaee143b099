//! One pass over both ends: their parts are read by several workers at once, in any order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hapax_protocol::identity::Place;
use hapax_protocol::position::{Ordinal, SplitId};

use super::line::{Line, Spot};
use super::prints::Keys;
use super::ranges::{Chosen, Ranges, beginning};
use super::reading::{End, Prepared, Reading, Unit, number};
use super::scratch::Sorter;
use super::{Comparison, Moved, Stand, VerifyError};

/// What all workers of a pass hold in memory before it goes to scratch files, in bytes.
const MEMORY_BYTES: usize = 48 << 20;

/// How many workers read at once, at most. More would leave each too little memory.
const WORKERS_MAX: usize = 8;

/// What a pass gathers.
pub(super) enum Task {
    /// Counts and digests of ranges, and the beginnings of the destination's identities if asked.
    Digest { beginnings: bool },
    /// The records of these ranges.
    Lines(Arc<Chosen>),
}

/// The splits of both ends, by the numbers that this comparison gives them.
#[derive(Debug, Default)]
pub(super) struct Splits {
    source: Vec<SplitId>,
    destination: Vec<SplitId>,
}

/// How many splits of the source are left out.
#[derive(Debug, Default)]
pub(super) struct Uncompared {
    /// They were not moved yet.
    pub not_moved: u64,
    /// They were moved, and the source does not list them any more.
    pub gone: u64,
}

/// What a pass gave.
#[derive(Default)]
pub(super) struct Gathered {
    pub source: Counted,
    pub destination: Counted,
    pub beginnings: Vec<Sorter<u64>>,
    pub source_lines: Vec<Sorter<Line>>,
    pub destination_lines: Vec<Sorter<Line>>,
}

/// What one end gave.
#[derive(Default)]
pub(super) struct Counted {
    pub records: u64,
    pub left_out: u64,
    pub ranges: Ranges,
}

/// A pass, as its workers share it.
pub(super) struct Pass {
    pub comparison: Arc<Comparison>,
    pub keys: Keys,
    pub set_aside: Arc<HashSet<Place>>,
    pub task: Task,
}

impl Splits {
    /// The number of a split, given once and for all.
    fn number(&mut self, end: End, split: &SplitId) -> u32 {
        let of = match end {
            End::Source => &mut self.source,
            End::Destination => &mut self.destination,
        };
        let known = of.iter().position(|known| known == split);
        let place = known.unwrap_or_else(|| {
            of.push(split.clone());
            of.len().saturating_sub(1)
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// The split of a number.
    pub fn get(&self, end: End, number: u32) -> Option<&SplitId> {
        let of = match end {
            End::Source => &self.source,
            End::Destination => &self.destination,
        };
        of.get(usize::try_from(number).ok()?)
    }

    /// Everything that was moved, and all of the destination: source and destination by turns. Also says how
    /// many splits of the source are not in it.
    pub async fn units(&mut self, comparison: &Comparison) -> Result<(Vec<Unit>, Uncompared), VerifyError> {
        let mut moved: HashMap<&SplitId, &Moved> =
            comparison.moved.iter().map(|(split, moved)| (split, moved)).collect();
        let (mut units, mut uncompared) = (Vec::new(), Uncompared::default());
        for (place, split) in comparison.source.splits().await.map_err(VerifyError::Read)?.iter().enumerate()
        {
            let number = self.number(End::Source, &split.id);
            match moved.remove(&split.id) {
                Some(until) => {
                    let until = Some(Moved::clone(until));
                    units.push((place, Unit { until, ..Unit::all(End::Source, number, &split.id) }));
                }
                None => uncompared.not_moved = uncompared.not_moved.saturating_add(1),
            }
        }
        uncompared.gone = u64::try_from(moved.len()).unwrap_or(u64::MAX);
        let splits = comparison.destination.splits().await.map_err(VerifyError::Read)?;
        for (place, split) in splits.iter().enumerate() {
            let number = self.number(End::Destination, &split.id);
            units.push((place, Unit::all(End::Destination, number, &split.id)));
        }
        units.sort_by_key(|(place, _)| *place);
        Ok((units.into_iter().map(|(_, unit)| unit).collect(), uncompared))
    }

    /// What was committed, or settled, since the comparison began: the destination may or may not have it.
    pub async fn units_since(
        &mut self,
        comparison: &Comparison,
        now: &Stand,
    ) -> Result<Vec<Unit>, VerifyError> {
        let moved: HashMap<&SplitId, &Moved> =
            comparison.moved.iter().map(|(split, moved)| (split, moved)).collect();
        let mut replayed: HashMap<&SplitId, HashSet<Ordinal>> = HashMap::new();
        for place in comparison.set_aside.difference(&now.set_aside) {
            replayed.entry(&place.split).or_default().insert(place.ordinal);
        }
        let mut units = Vec::new();
        let listed = comparison.source.splits().await.map_err(VerifyError::Read)?;
        for (split, until) in &now.moved {
            if !listed.iter().any(|listed| listed.id == *split) {
                continue;
            }
            let before = moved.get(split);
            let number = self.number(End::Source, split);
            let unit = Unit { optional: true, ..Unit::all(End::Source, number, split) };
            if let Some(only) = replayed.remove(split) {
                let until = before.map(|before| Moved::clone(before));
                units.push(Unit { until, only: Some(Arc::new(only)), ..unit.clone() });
            }
            if before.is_none_or(|before| before.through < until.through) {
                let after = before.map(|before| before.through.clone());
                units.push(Unit { after, until: Some(until.clone()), ..unit });
            }
        }
        Ok(units)
    }
}

impl Unit {
    /// A whole split.
    pub fn all(end: End, number: u32, split: &SplitId) -> Self {
        let split = split.clone();
        Self { end, number, split, after: None, until: None, only: None, optional: false }
    }
}

impl Pass {
    /// Reads these parts.
    pub async fn over(self, units: Vec<Unit>) -> Result<Gathered, VerifyError> {
        let usual = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = usual.min(WORKERS_MAX).min(units.len()).max(1);
        let queue = Arc::new(Mutex::new(VecDeque::from(units)));
        let (pass, failed) = (Arc::new(self), Arc::new(AtomicBool::new(false)));
        let here = tokio::runtime::Handle::current();
        let work = |_| {
            let (pass, failed, queue) = (Arc::clone(&pass), Arc::clone(&failed), Arc::clone(&queue));
            let here = here.clone();
            // On a thread of its own: comparing is work, and its future borrows what it visits.
            tokio::task::spawn_blocking(move || {
                let done = here.block_on(pass.work(&queue, &failed, workers));
                if done.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                done
            })
        };
        let working: Vec<_> = (0..workers).map(work).collect();
        let (mut all, mut failure) = (Gathered::default(), None);
        for worker in working {
            match worker.await.map_err(|_| VerifyError::Defect).flatten() {
                Ok(gathered) => all.join(gathered),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(all), Err)
    }

    async fn work(
        &self,
        queue: &Mutex<VecDeque<Unit>>,
        failed: &AtomicBool,
        workers: usize,
    ) -> Result<Gathered, VerifyError> {
        let reading = Reading::new(&self.comparison, &self.set_aside, &self.keys)?;
        let memory_bytes = MEMORY_BYTES / workers;
        let mut gathered = Gathered::default();
        match self.task {
            Task::Digest { beginnings } => {
                gathered.beginnings.extend(beginnings.then(|| Sorter::new(memory_bytes)));
            }
            Task::Lines(_) => {
                gathered.source_lines.push(Sorter::new(memory_bytes / 2));
                gathered.destination_lines.push(Sorter::new(memory_bytes / 2));
            }
        }
        while !failed.load(Ordering::Relaxed) {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(unit) = next else { break };
            let mut take = |prepared: Prepared| {
                self.comparison.progress.read(unit.end, number(prepared.ids.len()), &prepared);
                gathered.take(&self.task, &unit, &prepared)?;
                Ok(!failed.load(Ordering::Relaxed))
            };
            reading.each(&unit, &mut take).await?;
        }
        Ok(gathered)
    }
}

impl Gathered {
    fn take(&mut self, task: &Task, unit: &Unit, prepared: &Prepared) -> Result<(), VerifyError> {
        let (counted, lines) = match unit.end {
            End::Source => (&mut self.source, &mut self.source_lines),
            End::Destination => (&mut self.destination, &mut self.destination_lines),
        };
        if !unit.optional {
            counted.records = counted.records.saturating_add(number(prepared.ids.len()));
            counted.left_out = counted.left_out.saturating_add(prepared.left_out);
        }
        let records = prepared.ids.iter().copied().zip(prepared.contents.iter().copied());
        match task {
            Task::Digest { .. } => {
                records.for_each(|(id, content)| counted.ranges.add(id, content));
                if let (End::Destination, [sorter]) = (unit.end, self.beginnings.as_mut_slice()) {
                    prepared.ids.iter().try_for_each(|id| sorter.push(beginning(*id)))?;
                }
            }
            Task::Lines(chosen) => {
                let [lines] = lines.as_mut_slice() else { return Ok(()) };
                for (row, (id, content)) in records.enumerate().filter(|(_, (id, _))| chosen.has(*id)) {
                    let spot = Spot { split: unit.number, ordinal: prepared.ordinals.of(row) };
                    lines.push(Line { id, content, optional: unit.optional, spot })?;
                }
            }
        }
        Ok(())
    }

    /// Adds what another worker gathered.
    pub fn join(&mut self, mut other: Self) {
        for (own, more) in [(&mut self.source, &other.source), (&mut self.destination, &other.destination)] {
            own.records = own.records.saturating_add(more.records);
            own.left_out = own.left_out.saturating_add(more.left_out);
            own.ranges.join(&more.ranges);
        }
        self.beginnings.append(&mut other.beginnings);
        self.source_lines.append(&mut other.source_lines);
        self.destination_lines.append(&mut other.destination_lines);
    }
}
