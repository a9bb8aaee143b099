//! A source and a sink in memory, with planned faults.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{
    Completeness, Durability, Effect, Fencing, InDoubt, LedgerFacts, LedgerPlace, Order, Replay, Retention,
    Settle, SourceFacts,
};
use hapax_protocol::identity::{Duplicates, Identity, Place, RecordId};
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::ledger::{Claim, decide};
use hapax_protocol::position::{Checkpoint, Position, SplitId, Standing};

use super::super::{Limits, OnError, Run, Stop};
use crate::Fut;
use crate::batch::{Batch, Ordinals, ReadLimit, Rejected};
use crate::clock::SystemClock;
use crate::dead_letter::DeadLetter;
use crate::durable::Durable;
use crate::fault::{CommitError, Fault as Described, SinkError, SourceError};
use crate::progress::Progress;
use crate::sink::{Arrival, CoCommit, CoCommitSink, CommitSize, Destination, Shape, Sink, Traits, Writer};
use crate::source::{Source, Split, SplitReader};
use crate::transform::RefusedRow;

#[derive(Debug, thiserror::Error)]
#[error("planned")]
struct PlannedFault;

impl Described for PlannedFault {
    fn code(&self) -> Code {
        Code(199)
    }
    fn help(&self) -> String {
        "none".to_owned()
    }
}

pub(super) fn run_of(tape: &Tape, table: &Table) -> Run {
    Run {
        source: Arc::new(tape.clone()),
        transform: None,
        sink: Sink::CoCommit(Arc::new(table.clone())),
        identity: Identity::Position,
        duplicates: Duplicates::Keep,
        on_error: OnError::SetAside,
        parallel: 1,
        applicant: Applicant {
            pipeline: PipelineName::new("test").unwrap(),
            holder: "test".to_owned(),
            definition: "test".to_owned(),
        },
        clock: Arc::new(SystemClock::default()),
        progress: Progress::default(),
        stop: Stop::default(),
        limits: Limits { batch_records_max: 10, ..Limits::default() },
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, true)]))
}

fn at(ordinal: u64) -> Position {
    Position::new(ordinal.to_be_bytes().as_slice())
}

fn ordinal(position: &Position) -> u64 {
    u64::from_be_bytes(position.as_bytes().try_into().unwrap())
}

/// A source of numbers. Its batches are of ten records.
#[derive(Clone, Default)]
pub(super) struct Tape(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    splits: Vec<(SplitId, Vec<i64>)>,
    spoiled: BTreeSet<u64>,
    skip_at: Option<u64>,
    stop_at: Option<(u64, Stop)>,
    watched: Option<Table>,
    acknowledged: HashMap<SplitId, Position>,
    early: u64,
}

impl Tape {
    pub fn of(splits: &[(&str, Range<i64>)]) -> Self {
        let tape = Self::default();
        tape.0.lock().unwrap().splits =
            splits.iter().map(|(name, values)| (SplitId::new(*name), values.clone().collect())).collect();
        tape
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
        SourceFacts {
            completeness: Completeness::Complete,
            replay: Replay::Exact,
            retention: Retention::Unbounded,
            order: Order::PerKey,
            settle: Settle::Seek,
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
            }
            let good: Vec<u64> = (first..end).filter(|n| !recorded.spoiled.contains(n)).collect();
            let rejected = (first..end)
                .filter(|n| recorded.spoiled.contains(n))
                .map(|ordinal| Rejected {
                    ordinal,
                    code: Code(198),
                    reason: "spoiled".into(),
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

/// What goes wrong at one commit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    AnswerLostAfterEffect,
    AnswerLostBeforeEffect,
    AnswerLostAndPositionMoved,
    Unavailable,
    AnotherRunTakesOver,
}

/// A sink with transactions.
#[derive(Clone, Default)]
pub(super) struct Table(Arc<Mutex<Durably>>);

#[derive(Default)]
struct Durably {
    values: Vec<i64>,
    standings: BTreeMap<SplitId, (FencingToken, Standing)>,
    letters: BTreeMap<Place, DeadLetter>,
    ledger: HashMap<RecordId, Place>,
    token: Holder,
    refused: BTreeSet<i64>,
    commits: u64,
    planned: HashMap<u64, Fault>,
}

#[derive(Default)]
struct Holder(Option<FencingToken>);

pub(super) fn lease_of(table: &Table) -> Option<FencingToken> {
    table.0.lock().unwrap().token.0
}

impl Table {
    pub fn values(&self) -> Vec<i64> {
        self.0.lock().unwrap().values.clone()
    }

    pub fn letters(&self) -> Vec<DeadLetter> {
        self.0.lock().unwrap().letters.values().cloned().collect()
    }

    pub fn position(&self, split: &SplitId) -> Option<Position> {
        self.0.lock().unwrap().standings.get(split).and_then(|(_, standing)| standing.position.clone())
    }

    pub fn standing(&self, split: &str) -> Standing {
        self.0.lock().unwrap().standings.get(&SplitId::new(split)).unwrap().1.clone()
    }

    pub fn commits(&self) -> u64 {
        self.0.lock().unwrap().commits
    }

    pub fn lose(&self, values: &[i64]) {
        self.0.lock().unwrap().values.retain(|value| !values.contains(value));
    }

    pub fn plan(&self, nth_commit: u64, fault: Fault) {
        self.0.lock().unwrap().planned.insert(nth_commit, fault);
    }

    pub fn heal(&self) {
        self.0.lock().unwrap().planned.clear();
    }

    pub fn refuse(&self, value: i64) {
        self.0.lock().unwrap().refused.insert(value);
    }

    pub fn accept_all(&self) {
        self.0.lock().unwrap().refused.clear();
    }
}

impl Destination for Table {
    fn traits(&self) -> Traits {
        Traits {
            effect: Effect::Insert,
            fencing: Fencing::Token,
            durability: Durability::Durable,
            readers: None,
            ledger: Some(LedgerFacts {
                place: LedgerPlace::InsideCommit,
                retention: Retention::Unbounded,
                in_doubt: InDoubt::Resend,
            }),
        }
    }

    fn commit_size(&self) -> CommitSize {
        CommitSize { records_max: 30, bytes_max: 1 << 20, interval_ms: 10_000 }
    }

    fn check<'a>(&'a self, _: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn prepare<'a>(&'a self, _: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(async { Ok(()) })
    }

    fn acquire<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(async move {
            let mut held = self.0.lock().unwrap();
            let token = held.token.0.unwrap_or(FencingToken::NOBODY).next();
            held.token.0 = Some(token);
            Ok(Lease { pipeline: applicant.pipeline.clone(), token })
        })
    }

    fn finish<'a>(&'a self, _: &'a Lease) -> Fut<'a, (), SinkError> {
        Box::pin(async { Ok(()) })
    }

    fn standings<'a>(&'a self, _: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn dead_letters<'a>(&'a self, _: &'a PipelineName, _: usize) -> Fut<'a, Vec<DeadLetter>, SinkError> {
        Box::pin(async { Ok(self.letters()) })
    }

    fn read_back(&self, _: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(async { Err(SinkError::stop(PlannedFault)) })
    }
}

impl CoCommitSink for Table {
    fn writer(&self, split: &SplitId) -> Fut<'_, Box<dyn CoCommit>, SinkError> {
        let pen = Pen {
            table: self.clone(),
            split: split.clone(),
            token: FencingToken::NOBODY,
            open: Open::default(),
        };
        Box::pin(async move { Ok(Box::new(pen) as Box<dyn CoCommit>) })
    }
}

struct Pen {
    table: Table,
    split: SplitId,
    token: FencingToken,
    open: Open,
}

#[derive(Default)]
struct Open {
    values: Vec<i64>,
    letters: Vec<DeadLetter>,
    settled: Vec<Place>,
    claimed: HashMap<RecordId, Place>,
}

impl Writer for Pen {
    fn take_over<'a>(&'a mut self, lease: &'a Lease) -> Fut<'a, Standing, SinkError> {
        Box::pin(async move {
            let mut held = self.table.0.lock().unwrap();
            if held.token.0 != Some(lease.token) {
                return Err(SinkError::fenced(PlannedFault));
            }
            self.token = lease.token;
            let entry = held.standings.entry(self.split.clone()).or_default_standing();
            entry.0 = lease.token;
            Ok(entry.1.clone())
        })
    }

    fn claim<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        Box::pin(async move {
            let held = self.table.0.lock().unwrap();
            Ok(arrivals
                .iter()
                .map(|arrival| {
                    let at = Place { split: self.split.clone(), ordinal: arrival.ordinal };
                    let first =
                        held.ledger.get(&arrival.id).or_else(|| self.open.claimed.get(&arrival.id)).cloned();
                    let claim = decide(first, &at);
                    if claim == Claim::New {
                        self.open.claimed.insert(arrival.id, at);
                    }
                    claim
                })
                .collect())
        })
    }

    fn write<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let held = self.table.0.lock().unwrap();
            let mut refused = Vec::new();
            for (row, &value) in records.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
                if held.refused.contains(&value) {
                    refused.push(RefusedRow { row, code: Code(197), reason: "refused".to_owned() });
                } else {
                    self.open.values.push(value);
                }
            }
            Ok(refused)
        })
    }

    fn set_aside<'a>(&'a mut self, letters: &'a [DeadLetter]) -> Fut<'a, (), SinkError> {
        self.open.letters.extend_from_slice(letters);
        Box::pin(async { Ok(()) })
    }

    fn settle<'a>(&'a mut self, places: &'a [Place]) -> Fut<'a, (), SinkError> {
        self.open.settled.extend_from_slice(places);
        Box::pin(async { Ok(()) })
    }

    fn abort(&mut self) -> Fut<'_, (), SinkError> {
        self.open = Open::default();
        Box::pin(async { Ok(()) })
    }
}

impl CoCommit for Pen {
    fn commit<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> Fut<'a, (), CommitError> {
        Box::pin(async move {
            let open = std::mem::take(&mut self.open);
            let mut held = self.table.0.lock().unwrap();
            held.commits += 1;
            let nth = held.commits;
            let fault = held.planned.remove(&nth);
            match fault {
                Some(Fault::Unavailable) => {
                    return Err(CommitError::Refused(SinkError::unavailable(PlannedFault)));
                }
                Some(Fault::AnswerLostBeforeEffect) => {
                    return Err(CommitError::Unknown(SinkError::unavailable(PlannedFault)));
                }
                Some(Fault::AnswerLostAndPositionMoved) => {
                    held.standings.get_mut(&self.split).unwrap().1.position = Some(at(9999));
                    return Err(CommitError::Unknown(SinkError::unavailable(PlannedFault)));
                }
                Some(Fault::AnotherRunTakesOver) => {
                    let next = held.token.0.unwrap().next();
                    held.token.0 = Some(next);
                    held.standings.get_mut(&self.split).unwrap().0 = next;
                }
                Some(Fault::AnswerLostAfterEffect) | None => {}
            }
            let standing = held.standings.get_mut(&self.split).unwrap();
            if standing.0 != self.token || standing.1.position != checkpoint.after {
                return Err(CommitError::Refused(SinkError::fenced(PlannedFault)));
            }
            standing.1 = checkpoint.standing();
            held.values.extend(open.values);
            for place in open.settled {
                held.letters.remove(&place);
            }
            held.letters.extend(open.letters.into_iter().map(|letter| (letter.place.clone(), letter)));
            held.ledger.extend(open.claimed);
            if matches!(fault, Some(Fault::AnswerLostAfterEffect)) {
                return Err(CommitError::Unknown(SinkError::unavailable(PlannedFault)));
            }
            Ok(())
        })
    }
}

trait OrDefaultStanding<'a> {
    fn or_default_standing(self) -> &'a mut (FencingToken, Standing);
}

impl<'a> OrDefaultStanding<'a> for std::collections::btree_map::Entry<'a, SplitId, (FencingToken, Standing)> {
    fn or_default_standing(self) -> &'a mut (FencingToken, Standing) {
        self.or_insert_with(|| (FencingToken::NOBODY, Standing::default()))
    }
}
