use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts};
use hapax_protocol::position::{Position, SplitId};

use super::{PlannedFault, Table, at, ordinal, schema};
use crate::Fut;
use crate::batch::{Batch, Ordinals, ReadLimit, Rejected};
use crate::dead_letter::DeadLetter;
use crate::durable::Durable;
use crate::fault::SourceError;
use crate::run::Stop;
use crate::source::{Arrangement, Extent, Group, Shift, Source, Split, SplitReader};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A source of numbers. Its batches are of ten records.
#[derive(Clone, Default)]
pub(in super::super) struct Tape(Arc<Mutex<Recorded>>, Option<Seat>);

#[derive(Default)]
struct Recorded {
    splits: Vec<(SplitId, Vec<i64>)>,
    spoiled: BTreeSet<u64>,
    skip_at: Option<u64>,
    stop_at: Option<(u64, Stop)>,
    away_at_stop: bool,
    watched: Option<Table>,
    acknowledged: HashMap<SplitId, Position>,
    early: u64,
    grows: bool,
    redelivers: bool,
    forgets: bool,
    grown: Arc<Notify>,
}

/// What one member of a group is told, by a test.
#[derive(Clone)]
pub(in super::super) struct Seat {
    shifts: Arc<tokio::sync::Mutex<UnboundedReceiver<Shift>>>,
    released: UnboundedSender<SplitId>,
}

impl Group for Seat {
    fn name(&self) -> &str {
        "readers"
    }

    fn shift(&self) -> Fut<'_, Shift, SourceError> {
        Box::pin(async move {
            match self.shifts.lock().await.recv().await {
                Some(shift) => Ok(shift),
                None => std::future::pending().await,
            }
        })
    }

    fn release<'a>(&'a self, splits: &'a [SplitId]) -> Fut<'a, (), SourceError> {
        for split in splits {
            let _ = self.released.send(split.clone());
        }
        Box::pin(async { Ok(()) })
    }

    fn leave(&self) -> Fut<'_, (), SourceError> {
        Box::pin(async { Ok(()) })
    }
}

impl Tape {
    /// The same tape, as a member of a group reads it; how it is told, and what it released.
    pub fn member(&self) -> (Self, UnboundedSender<Shift>, UnboundedReceiver<SplitId>) {
        let (tell, shifts) = unbounded_channel();
        let (released, release) = unbounded_channel();
        let shifts = Arc::new(tokio::sync::Mutex::new(shifts));
        (Self(Arc::clone(&self.0), Some(Seat { shifts, released })), tell, release)
    }

    /// Splits that go on, beside each other, each with these values now.
    pub fn growing(splits: &[(&str, Range<i64>)]) -> Self {
        let tape = Self::of(splits);
        tape.0.lock().unwrap().grows = true;
        tape
    }

    pub fn grow(&self, split: &str, values: Range<i64>) {
        let mut recorded = self.0.lock().unwrap();
        let of = recorded.splits.iter_mut().find(|(id, _)| id.as_str() == split).unwrap();
        of.1.extend(values);
        recorded.grown.notify_waiters();
    }

    pub fn of(splits: &[(&str, Range<i64>)]) -> Self {
        let tape = Self::default();
        tape.0.lock().unwrap().splits =
            splits.iter().map(|(name, values)| (SplitId::new(*name), values.clone().collect())).collect();
        tape
    }

    /// One split with these values.
    pub fn holding(values: &[i64]) -> Self {
        let tape = Self::default();
        tape.0.lock().unwrap().splits = vec![(SplitId::new("a"), values.to_vec())];
        tape
    }

    /// Its records may come back at other places.
    pub fn redelivers(&self) {
        self.0.lock().unwrap().redelivers = true;
    }

    /// It forgets what it is told is done.
    pub fn forgets(&self) {
        self.0.lock().unwrap().forgets = true;
    }

    pub fn spoil(&self, ordinal: u64) {
        self.0.lock().unwrap().spoiled.insert(ordinal);
    }

    pub fn skip_at(&self, ordinal: u64) {
        self.0.lock().unwrap().skip_at = Some(ordinal);
    }

    pub fn stop_at(&self, ordinal: u64, stop: Stop) {
        self.0.lock().unwrap().stop_at = Some((ordinal, stop));
    }

    /// It goes away in the moment in which the run is asked to stop.
    pub fn away_at(&self, ordinal: u64, stop: Stop) {
        self.stop_at(ordinal, stop);
        self.0.lock().unwrap().away_at_stop = true;
    }

    pub fn watch(&self, table: &Table) {
        self.0.lock().unwrap().watched = Some(table.clone());
    }

    pub fn acknowledged(&self, split: &str) -> Option<Position> {
        self.0.lock().unwrap().acknowledged.get(&SplitId::new(split)).cloned()
    }

    pub fn early_acknowledgements(&self) -> u64 {
        self.0.lock().unwrap().early
    }
}

impl Source for Tape {
    fn facts(&self) -> SourceFacts {
        let (redelivers, forgets) = {
            let recorded = self.0.lock().unwrap();
            (recorded.redelivers, recorded.forgets)
        };
        SourceFacts {
            completeness: Completeness::Complete,
            replay: if redelivers { Replay::Identified } else { Replay::Exact },
            retention: Retention::Unbounded,
            order: Order::PerKey,
            settle: if forgets { Settle::PerMessage } else { Settle::Seek },
            condition: None,
        }
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        let splits = self.0.lock().unwrap().splits.clone();
        Box::pin(
            async move { Ok(splits.into_iter().map(|(id, _)| Split { id, source_bytes: None }).collect()) },
        )
    }

    fn arrangement(&self) -> Arrangement {
        if self.0.lock().unwrap().grows { Arrangement::Partitions } else { Arrangement::Sequence }
    }

    fn extent(&self) -> Extent {
        if self.0.lock().unwrap().grows { Extent::Growing } else { Extent::Bounded }
    }

    fn group(&self) -> Option<&dyn Group> {
        let seat = self.1.as_ref()?;
        Some(seat)
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        let head = Head { tape: self.clone(), split: split.clone(), stood: after.cloned() };
        Box::pin(async move { Ok(Box::new(head) as Box<dyn SplitReader>) })
    }

    fn describe(&self, position: &Position) -> String {
        format!("record {}", ordinal(position))
    }

    fn rejects_with(&self, code: Code) -> bool {
        code == Code(198)
    }

    fn reread(&self, _: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        Box::pin(async { Err(SourceError::stop(PlannedFault)) })
    }
}

struct Head {
    tape: Tape,
    split: SplitId,
    stood: Option<Position>,
}

impl SplitReader for Head {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let recorded = self.tape.0.lock().unwrap();
            let values = recorded.splits.iter().find(|(id, _)| *id == self.split).unwrap().1.clone();
            let first = self.stood.as_ref().map_or(0, ordinal);
            let end = (first + limit.records_max as u64).min(values.len() as u64);
            if first >= end {
                return Ok(None);
            }
            if let Some((at, stop)) = &recorded.stop_at
                && first >= *at
            {
                stop.request();
                if recorded.away_at_stop {
                    return Err(SourceError::unavailable(PlannedFault));
                }
            }
            let good: Vec<u64> = (first..end).filter(|n| !recorded.spoiled.contains(n)).collect();
            let rejected = (first..end)
                .filter(|n| recorded.spoiled.contains(n))
                .map(|ordinal| Rejected {
                    ordinal,
                    code: Code(198),
                    reason: "spoiled".into(),
                    id: None,
                    raw: "?".into(),
                })
                .collect();
            let column = Int64Array::from_iter_values(good.iter().map(|&n| values[n as usize]));
            let after =
                if recorded.skip_at == Some(first) { Some(at(first + 1)) } else { self.stood.clone() };
            self.stood = Some(at(end));
            Ok(Some(Batch {
                split: self.split.clone(),
                after,
                through: at(end),
                records: RecordBatch::try_new(schema(), vec![Arc::new(column)]).unwrap(),
                ordinals: Ordinals::Each(good.into()),
                rejected,
                source_bytes: end - first,
            }))
        })
    }

    fn more(&mut self) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            loop {
                let grown = {
                    let recorded = self.tape.0.lock().unwrap();
                    let held = recorded.splits.iter().find(|(id, _)| *id == self.split).unwrap().1.len();
                    if self.stood.as_ref().map_or(0, ordinal) < held as u64 {
                        return Ok(());
                    }
                    Arc::clone(&recorded.grown).notified_owned()
                };
                grown.await;
            }
        })
    }

    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            let mut recorded = self.tape.0.lock().unwrap();
            let committed = recorded.watched.as_ref().and_then(|table| table.position(&self.split));
            if recorded.watched.is_some() && committed.as_ref() < Some(through.get()) {
                recorded.early += 1;
            }
            recorded.acknowledged.insert(self.split.clone(), through.get().clone());
            Ok(())
        })
    }
}
