use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Durability, Effect, Fencing, InDoubt, LedgerFacts, LedgerPlace, Retention};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::ledger::{Claim, decide};
use hapax_protocol::position::{Checkpoint, Epoch, Ordinal, Position, SplitId, Standing};

use super::{PlannedFault, at};
use crate::Fut;
use crate::dead_letter::{DeadLetter, SettledLetter, Settlement};
use crate::fault::{CommitError, SinkError};
use crate::history::{Committed, Remembered, Unfinished};
use crate::sink::{
    Arrival, CoCommit, CoCommitSink, CommitId, CommitSize, Destination, Shape, Traits, Writer,
};
use crate::source::Source;
use crate::transform::RefusedRow;

/// What goes wrong at one commit.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Fault {
    AnswerLostAfterEffect,
    AnswerLostBeforeEffect,
    AnswerLostAndPositionMoved,
    Unavailable,
    AnotherRunTakesOver,
}

/// A sink with transactions.
#[derive(Clone, Default)]
pub(in super::super) struct Table(Arc<Mutex<Durably>>);

#[derive(Default)]
struct Durably {
    values: Vec<i64>,
    standings: BTreeMap<SplitId, (FencingToken, Standing)>,
    letters: BTreeMap<Place, DeadLetter>,
    settled: BTreeMap<Place, SettledLetter>,
    history: Vec<(Committed, Vec<Range<Ordinal>>)>,
    ledger: HashMap<RecordId, Place>,
    token: Holder,
    /// How often each of these values is still refused.
    refused: HashMap<i64, u64>,
    commits: u64,
    /// How long a write takes.
    writing: Duration,
    /// The group that has the lease.
    group: String,
    planned: HashMap<u64, Fault>,
}

impl Durably {
    fn remembers(&self, place: &Place) -> Remembered {
        let of_split = || self.history.iter().filter(|(made, _)| made.commit.split == place.split);
        let find = |which: &dyn Fn(&Committed) -> bool| of_split().find(|(made, _)| which(made));
        let commit = find(&|made| made.records.contains(&place.ordinal));
        let settled = self.settled.get(place).cloned();
        let settled_in =
            settled.as_ref().and_then(|settled| find(&|made| made.commit.epoch == settled.settlement.epoch));
        let again = of_split().filter(|(_, again)| again.iter().any(|range| range.contains(&place.ordinal)));
        Remembered {
            commit: commit.map(|(made, _)| made.clone()),
            letter: self.letters.get(place).cloned(),
            settled_in: settled_in.map(|(made, _)| made.clone()),
            settled,
            again: again.map(|(made, _)| made.clone()).collect(),
        }
    }
}

#[derive(Default)]
struct Holder(Option<FencingToken>);

pub(in super::super) fn lease_of(table: &Table) -> Option<FencingToken> {
    table.0.lock().unwrap().token.0
}

impl Table {
    pub fn values(&self) -> Vec<i64> {
        self.0.lock().unwrap().values.clone()
    }

    pub fn letters(&self) -> Vec<DeadLetter> {
        self.0.lock().unwrap().letters.values().cloned().collect()
    }

    pub fn settled(&self) -> Vec<SettledLetter> {
        self.0.lock().unwrap().settled.values().cloned().collect()
    }

    pub fn position(&self, split: &SplitId) -> Option<Position> {
        self.0.lock().unwrap().standings.get(split).and_then(|(_, standing)| standing.position.clone())
    }

    pub fn standing(&self, split: &str) -> Standing {
        self.0.lock().unwrap().standings.get(&SplitId::new(split)).unwrap().1.clone()
    }

    /// The commits that moved a record again.
    pub fn moved_again(&self, split: &str, ordinal: Ordinal) -> Vec<Epoch> {
        let place = Place { split: SplitId::new(split), ordinal };
        let again = self.0.lock().unwrap().remembers(&place).again;
        again.into_iter().map(|made| made.commit.epoch).collect()
    }

    pub fn commits(&self) -> u64 {
        self.0.lock().unwrap().commits
    }

    pub fn lose(&self, values: &[i64]) {
        self.lose_if(|value| values.contains(&value));
    }

    pub fn lose_if(&self, is_lost: impl Fn(i64) -> bool) {
        self.0.lock().unwrap().values.retain(|value| !is_lost(*value));
    }

    pub fn plan(&self, nth_commit: u64, fault: Fault) {
        self.0.lock().unwrap().planned.insert(nth_commit, fault);
    }

    pub fn takes(&self, writing: Duration) {
        self.0.lock().unwrap().writing = writing;
    }

    pub fn heal(&self) {
        self.0.lock().unwrap().planned.clear();
    }

    pub fn refuse(&self, value: i64) {
        self.refuse_times(value, u64::MAX);
    }

    pub fn refuse_times(&self, value: i64, times: u64) {
        self.0.lock().unwrap().refused.insert(value, times);
    }

    pub fn accept_all(&self) {
        self.0.lock().unwrap().refused.clear();
    }
}

impl Destination for Table {
    fn traits(&self) -> Traits {
        Traits {
            effect: Effect::Insert,
            replaces: false,
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
            (held.token.0, held.group) = (Some(token), String::new());
            Ok(Lease { pipeline: applicant.pipeline.clone(), token })
        })
    }

    fn join<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(async move {
            let mut held = self.0.lock().unwrap();
            let token = match held.token.0 {
                Some(token) if held.group == applicant.holder => token,
                token => token.unwrap_or(FencingToken::NOBODY).next(),
            };
            (held.token.0, held.group) = (Some(token), applicant.holder.clone());
            Ok(Lease { pipeline: applicant.pipeline.clone(), token })
        })
    }

    fn finish<'a>(&'a self, _: &'a Lease) -> Fut<'a, (), SinkError> {
        Box::pin(async { Ok(()) })
    }

    fn standings<'a>(&'a self, _: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError> {
        let held = self.0.lock().unwrap();
        let standings = held.standings.iter().map(|(split, (_, standing))| (split.clone(), standing.clone()));
        let standings = standings.collect();
        Box::pin(async { Ok(standings) })
    }

    fn dead_letters<'a>(&'a self, _: &'a PipelineName, _: usize) -> Fut<'a, Vec<DeadLetter>, SinkError> {
        Box::pin(async { Ok(self.letters()) })
    }

    fn settled_letters<'a>(
        &'a self,
        _: &'a PipelineName,
        _: usize,
    ) -> Fut<'a, Vec<SettledLetter>, SinkError> {
        Box::pin(async { Ok(self.settled()) })
    }

    fn remembered<'a>(
        &'a self,
        _: &'a PipelineName,
        places: &'a [Place],
    ) -> Fut<'a, Vec<Remembered>, SinkError> {
        Box::pin(async move {
            let held = self.0.lock().unwrap();
            Ok(places.iter().map(|place| held.remembers(place)).collect())
        })
    }

    fn claimant<'a>(&'a self, _: &'a PipelineName, id: &'a RecordId) -> Fut<'a, Option<Place>, SinkError> {
        Box::pin(async move { Ok(self.0.lock().unwrap().ledger.get(id).cloned()) })
    }

    fn unfinished<'a>(&'a self, _: &'a PipelineName) -> Fut<'a, Vec<Unfinished>, SinkError> {
        Box::pin(async { Ok(Vec::new()) })
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
    settled: Vec<(Place, Settlement)>,
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

    fn withdraw<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, (), SinkError> {
        for arrival in arrivals {
            let at = Place { split: self.split.clone(), ordinal: arrival.ordinal };
            if self.open.claimed.get(&arrival.id) == Some(&at) {
                self.open.claimed.remove(&arrival.id);
            }
        }
        Box::pin(async { Ok(()) })
    }

    fn write<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let writing = self.table.0.lock().unwrap().writing;
            if !writing.is_zero() {
                tokio::time::sleep(writing).await;
            }
            let mut held = self.table.0.lock().unwrap();
            let mut refused = Vec::new();
            for (row, &value) in records.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
                if let Some(times) = held.refused.get_mut(&value).filter(|times| **times > 0) {
                    *times -= 1;
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

    fn settle<'a>(&'a mut self, places: &'a [Place], settlement: &'a Settlement) -> Fut<'a, (), SinkError> {
        self.open.settled.extend(places.iter().map(|place| (place.clone(), *settlement)));
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
            let before = standing.1.totals;
            standing.1 = checkpoint.standing();
            let totals = checkpoint.totals.since(before);
            let committed = Committed {
                commit: CommitId { split: self.split.clone(), epoch: checkpoint.epoch },
                token: self.token,
                holder: "test".to_owned(),
                records: before.read..before.read + totals.read,
                through: checkpoint.through.clone(),
                totals,
                made_unix_ms: checkpoint.made_unix_ms,
            };
            held.history.push((committed, checkpoint.again.clone()));
            held.values.extend(open.values);
            for (place, settlement) in open.settled {
                if let Some(letter) = held.letters.remove(&place) {
                    let letter = DeadLetter { raw: String::new(), ..letter };
                    held.settled.insert(place, SettledLetter { letter, settlement });
                }
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
