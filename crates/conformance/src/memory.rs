//! A destination in memory that commits effects and position together: what tests of sources write to, and what keeps
//! positions beside a destination that keeps none.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, SettledLetter, Settlement};
use hapax_engine::fault::{CommitError, Fault, SinkError};
use hapax_engine::history::{Remembered, Unfinished};
use hapax_engine::sink::{Arrival, CoCommit, CoCommitSink, CommitSize, Destination, Shape, Traits, Writer};
use hapax_engine::source::{Nothing, Source};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Durability, Effect, Fencing, InDoubt, LedgerFacts, LedgerPlace, Retention};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::ledger::{Claim, decide};
use hapax_protocol::position::{Checkpoint, SplitId, Standing};
use tokio::sync::watch;

/// The destination. A clone is another process at the same place.
#[derive(Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    /// Whether it takes nothing now.
    is_shut: Arc<watch::Sender<bool>>,
}

/// What is committed.
#[derive(Default)]
struct State {
    token: u64,
    standings: BTreeMap<SplitId, Standing>,
    claims: HashMap<RecordId, Place>,
    batches: Vec<RecordBatch>,
    letters: BTreeMap<Place, DeadLetter>,
}

/// A later run has the lease, or the position is another one.
#[derive(Debug, thiserror::Error)]
#[error("the destination in memory is held by a later run, or stands elsewhere")]
struct Stale;

impl Fault for Stale {
    fn code(&self) -> Code {
        Code(0)
    }

    fn help(&self) -> String {
        String::new()
    }
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Takes no record from now on: whoever writes one waits until it is open again.
    pub fn shut(&self) {
        self.is_shut.send_replace(true);
    }

    /// Takes records again.
    pub fn open(&self) {
        self.is_shut.send_replace(false);
    }

    /// How many records arrived.
    pub fn rows(&self) -> usize {
        self.state().batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// What arrived, in the order of the commits.
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.state().batches.clone()
    }

    /// What was set aside, by place.
    pub fn letters(&self) -> Vec<DeadLetter> {
        self.state().letters.values().cloned().collect()
    }
}

impl Destination for Memory {
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
        CommitSize { records_max: 100_000, bytes_max: 1 << 26, interval_ms: 50 }
    }

    fn check<'a>(&'a self, _: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn prepare<'a>(&'a self, _: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn acquire<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        let mut state = self.state();
        state.token += 1;
        let lease = Lease { pipeline: applicant.pipeline.clone(), token: FencingToken::new(state.token) };
        Box::pin(std::future::ready(Ok(lease)))
    }

    fn finish<'a>(&'a self, _: &'a Lease) -> Fut<'a, (), SinkError> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn standings<'a>(&'a self, _: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError> {
        let standings = self.state().standings.clone().into_iter().collect();
        Box::pin(std::future::ready(Ok(standings)))
    }

    fn dead_letters<'a>(&'a self, _: &'a PipelineName, max: usize) -> Fut<'a, Vec<DeadLetter>, SinkError> {
        Box::pin(std::future::ready(Ok(self.letters().into_iter().take(max).collect())))
    }

    fn settled_letters<'a>(
        &'a self,
        _: &'a PipelineName,
        _: usize,
    ) -> Fut<'a, Vec<SettledLetter>, SinkError> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn remembered<'a>(
        &'a self,
        _: &'a PipelineName,
        places: &'a [Place],
    ) -> Fut<'a, Vec<Remembered>, SinkError> {
        Box::pin(std::future::ready(Ok(places.iter().map(|_| Remembered::default()).collect())))
    }

    fn claimant<'a>(&'a self, _: &'a PipelineName, id: &'a RecordId) -> Fut<'a, Option<Place>, SinkError> {
        Box::pin(std::future::ready(Ok(self.state().claims.get(id).cloned())))
    }

    fn unfinished<'a>(&'a self, _: &'a PipelineName) -> Fut<'a, Vec<Unfinished>, SinkError> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        let nothing: Arc<dyn Source> = Arc::new(Nothing(schema));
        Box::pin(std::future::ready(Ok(nothing)))
    }
}

impl CoCommitSink for Memory {
    fn writer(&self, split: &SplitId) -> Fut<'_, Box<dyn CoCommit>, SinkError> {
        let pen: Box<dyn CoCommit> = Box::new(Pen {
            memory: self.clone(),
            split: split.clone(),
            token: 0,
            claims: HashMap::new(),
            batches: Vec::new(),
            letters: Vec::new(),
        });
        Box::pin(std::future::ready(Ok(pen)))
    }
}

struct Pen {
    memory: Memory,
    split: SplitId,
    token: u64,
    claims: HashMap<RecordId, Place>,
    batches: Vec<RecordBatch>,
    letters: Vec<DeadLetter>,
}

impl Pen {
    fn place(&self, arrival: &Arrival) -> Place {
        Place { split: self.split.clone(), ordinal: arrival.ordinal }
    }

    fn forget(&mut self) {
        self.claims.clear();
        self.batches.clear();
        self.letters.clear();
    }
}

impl Writer for Pen {
    fn take_over<'a>(&'a mut self, lease: &'a Lease) -> Fut<'a, Standing, SinkError> {
        self.token = lease.token.get();
        let state = self.memory.state();
        let standing = match state.token == self.token {
            true => Ok(state.standings.get(&self.split).cloned().unwrap_or_default()),
            false => Err(SinkError::fenced(Stale)),
        };
        Box::pin(std::future::ready(standing))
    }

    fn claim<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        let mut answers = Vec::new();
        for arrival in arrivals {
            let place = self.place(arrival);
            let first = self.claims.get(&arrival.id).cloned();
            let first = first.or_else(|| self.memory.state().claims.get(&arrival.id).cloned());
            let claim = decide(first, &place);
            if claim == Claim::New {
                self.claims.insert(arrival.id, place);
            }
            answers.push(claim);
        }
        Box::pin(std::future::ready(Ok(answers)))
    }

    fn withdraw<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, (), SinkError> {
        for arrival in arrivals {
            let place = self.place(arrival);
            if self.claims.get(&arrival.id) == Some(&place) {
                self.claims.remove(&arrival.id);
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn write<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let mut is_shut = self.memory.is_shut.subscribe();
            // The sender lives in `memory`.
            let _ = is_shut.wait_for(|is_shut| !is_shut).await;
            self.batches.push(records.clone());
            Ok(Vec::new())
        })
    }

    fn set_aside<'a>(&'a mut self, letters: &'a [DeadLetter]) -> Fut<'a, (), SinkError> {
        self.letters.extend_from_slice(letters);
        Box::pin(std::future::ready(Ok(())))
    }

    fn settle<'a>(&'a mut self, _: &'a [Place], _: &'a Settlement) -> Fut<'a, (), SinkError> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn abort(&mut self) -> Fut<'_, (), SinkError> {
        self.forget();
        Box::pin(std::future::ready(Ok(())))
    }
}

impl CoCommit for Pen {
    fn commit<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> Fut<'a, (), CommitError> {
        let mut state = self.memory.state.lock().unwrap();
        let standing = state.standings.entry(self.split.clone()).or_default();
        let follows = standing.position == checkpoint.after && standing.epoch.next() == checkpoint.epoch;
        let refused = if !follows {
            Some(SinkError::stop(Stale))
        } else if self.claims.keys().any(|id| state.claims.contains_key(id)) {
            // Another split claimed it meanwhile.
            Some(SinkError::unavailable(Stale))
        } else if state.token != self.token {
            Some(SinkError::fenced(Stale))
        } else {
            None
        };
        if refused.is_none() {
            state.standings.insert(self.split.clone(), checkpoint.standing());
            state.claims.extend(self.claims.drain());
            state.batches.append(&mut self.batches);
            for letter in self.letters.drain(..) {
                state.letters.entry(letter.place.clone()).or_insert(letter);
            }
        }
        drop(state);
        self.forget();
        Box::pin(std::future::ready(refused.map_or(Ok(()), |error| Err(CommitError::Refused(error)))))
    }
}
