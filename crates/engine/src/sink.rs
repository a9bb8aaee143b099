//! The contract of a sink. Its mechanism is the variant: a sink cannot claim what it does not implement.

mod kept;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Durability, Effect, Fencing, LedgerFacts, LookUp, Mechanism, SinkFacts};
use hapax_protocol::identity::{Duplicates, Place, RecordId};
use hapax_protocol::lease::{Applicant, Lease, PipelineName};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Checkpoint, Epoch, SplitId, Standing};

pub use kept::{Deadline, Kept, Past, Repeat, Sender, Sending, Sent, Target};

use crate::Fut;
use crate::codes;
use crate::dead_letter::{DeadLetter, SettledLetter, Settlement};
use crate::fault::{CommitError, Fault, SinkError};
use crate::history::{Remembered, Unfinished};
use crate::ledger::Statistics;
use crate::source::Source;
use crate::transform::RefusedRow;
use crate::wire::{Taken, WireBatch, WireFormat};

/// Where records go, by how effect and progress meet there.
#[derive(Clone)]
pub enum Sink {
    /// Effects and position in one atomic commit.
    CoCommit(Arc<dyn CoCommitSink>),
    /// Staged invisibly, published atomically under a commit identity.
    Staged(Arc<dyn StagedSink>),
    /// Only appends; keeps no position.
    Append(Arc<dyn AppendSink>),
    /// Keeps nothing itself: positions, claims and dead letters are with a keeper.
    Kept(Kept),
}

impl Sink {
    /// What all mechanisms have in common.
    pub fn destination(&self) -> &dyn Destination {
        match self {
            Self::CoCommit(sink) => sink.as_ref(),
            Self::Staged(sink) => sink.as_ref(),
            Self::Append(sink) => sink.as_ref(),
            Self::Kept(kept) => kept,
        }
    }

    /// What it can do: the input of the calculus.
    pub fn facts(&self) -> SinkFacts {
        let traits = self.destination().traits();
        let mechanism = match self {
            Self::CoCommit(_) => Mechanism::CoCommit,
            Self::Staged(sink) => Mechanism::Staged { look_up: sink.look_up_window() },
            Self::Append(_) => Mechanism::Append,
            Self::Kept(kept) => kept.target.repeat().mechanism(),
        };
        SinkFacts {
            mechanism,
            effect: traits.effect,
            fencing: traits.fencing,
            durability: traits.durability,
            readers: traits.readers,
        }
    }

    /// The ledger that counts for the calculus. A keeper is one, whatever is done about twins.
    pub fn ledger(&self, duplicates: Duplicates) -> Option<LedgerFacts> {
        let counts = matches!(self, Self::Kept(_)) || duplicates.need_ledger();
        self.destination().traits().ledger.filter(|_| counts)
    }
}

/// What a destination declares beside its mechanism.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// What writing a record again does.
    pub effect: Effect,
    /// Whether a record takes the place of an earlier one of its key, so that the last one stays.
    pub replaces: bool,
    /// What keeps an earlier holder from writing.
    pub fencing: Fencing,
    /// Whether an acknowledged write stays.
    pub durability: Durability,
    /// A condition on readers, in words.
    pub readers: Option<String>,
    /// The ledger of identities it can keep; `None` if it cannot keep one.
    pub ledger: Option<LedgerFacts>,
}

/// What records look like when they arrive.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The columns.
    pub schema: SchemaRef,
    /// The columns that identify a record, in order; empty when it is not identified by columns.
    pub key: Vec<String>,
}

/// How much belongs into one commit. Whichever is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitSize {
    /// Records.
    pub records_max: u64,
    /// Bytes of memory of the records.
    pub bytes_max: u64,
    /// Milliseconds since the first record of the commit was read.
    pub interval_ms: u64,
}

/// What a key is to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Two records of a key cannot stand beside each other: a table's primary key.
    Bind,
    /// A key says where a record belongs, and any number of records have it: a message's key.
    Name,
}

/// For whom a lease is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenure {
    /// For one run: it takes the lease from everybody before it.
    Sole,
    /// For a member of the group that the holder names: a group that has the lease keeps it.
    Group,
}

/// The destination gives its lease to one run only.
#[derive(Debug, thiserror::Error)]
#[error("this destination is written by one process at a time, and cannot be shared by a group")]
struct NoGroups;

impl Fault for NoGroups {
    fn code(&self) -> Code {
        codes::NO_GROUPS
    }

    fn help(&self) -> String {
        "Leave `group` out: one process moves all splits. Or use a destination that commits in transactions (PostgreSQL, MariaDB, SQLite, Kafka, Redis).".to_owned()
    }
}

/// What every destination can do, whatever its mechanism.
pub trait Destination: Send + Sync {
    /// What it declares of itself.
    fn traits(&self) -> Traits;

    /// What a key is to it.
    fn keys(&self) -> Keys {
        Keys::Bind
    }

    /// How much it likes to have in one commit.
    fn commit_size(&self) -> CommitSize;

    /// Says what [`prepare`](Self::prepare) would do, in words, one line each, and refuses what it would
    /// refuse. Changes nothing.
    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError>;

    /// Makes the destination ready for records of this shape: creates what is missing, refuses what does
    /// not fit. Doing it again changes nothing.
    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError>;

    /// The bytes that it takes for records of this shape as they are, if it takes any. Changes nothing.
    fn wire<'a>(&'a self, _shape: &'a Shape) -> Fut<'a, Option<WireFormat>, SinkError> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Gives the lease to a new holder and fences every earlier one. Refuses if the stored positions
    /// were made by another definition of the pipeline.
    fn acquire<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError>;

    /// Gives the lease to one more member of a group, whose name is the applicant's `holder`: all members have one
    /// token, and whoever [acquires](Self::acquire) it takes it from all of them. Each commit moves the position of its
    /// split from where the member found it, so of two that write one split the later is refused as fenced.
    fn join<'a>(&'a self, _applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(std::future::ready(Err(SinkError::stop(NoGroups))))
    }

    /// Called once all splits are committed: publishes what becomes visible only as a whole. Doing it
    /// again changes nothing.
    fn finish<'a>(&'a self, lease: &'a Lease) -> Fut<'a, (), SinkError>;

    /// Where each split stands, in the order of their names. Changes nothing; empty before the first run.
    fn standings<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError>;

    /// The dead letters that are not settled, at most `letters_max`, by place. Changes nothing.
    fn dead_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<DeadLetter>, SinkError>;

    /// The dead letters that were settled, at most `letters_max`, by place. Changes nothing.
    fn settled_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<SettledLetter>, SinkError>;

    /// What is remembered of these places: one answer per place, in order. Changes nothing, and neither waits
    /// for a run that goes on nor fences it.
    fn remembered<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        places: &'a [Place],
    ) -> Fut<'a, Vec<Remembered>, SinkError>;

    /// The place that claimed an identity, as far as commits took effect. Claims nothing and changes nothing, as
    /// [`remembered`](Self::remembered); `None` where no ledger is kept.
    fn claimant<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        id: &'a RecordId,
    ) -> Fut<'a, Option<Place>, SinkError>;

    /// What the ledger that it keeps holds of a pipeline; `None` where none is kept, or nothing was claimed yet. Changes
    /// nothing.
    fn ledger_holds<'a>(&'a self, _pipeline: &'a PipelineName) -> Fut<'a, Option<Statistics>, SinkError> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The commits that are not over, by split. Changes nothing.
    fn unfinished<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Vec<Unfinished>, SinkError>;

    /// Whether something is committed that becomes visible only with [`finish`](Self::finish). Changes nothing.
    fn is_waiting<'a>(&'a self, _pipeline: &'a PipelineName) -> Fut<'a, bool, SinkError> {
        Box::pin(std::future::ready(Ok(false)))
    }

    /// The boolean column that says of a record that it removes the one of its key, instead of taking its place.
    fn deletes(&self) -> Option<&str> {
        None
    }

    /// Reads what the destination holds, as records of this schema, for comparison. What is not there holds
    /// nothing. The column of [`deletes`](Self::deletes) is false everywhere.
    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError>;
}

/// A destination that commits effects and position together.
pub trait CoCommitSink: Destination {
    /// A writer for one split. It has not taken it over yet.
    fn writer(&self, split: &SplitId) -> Fut<'_, Box<dyn CoCommit>, SinkError>;
}

/// A destination that publishes staged effects.
pub trait StagedSink: Destination {
    /// How long a commit identity can be looked up.
    fn look_up_window(&self) -> LookUp;
    /// A writer for one split. It has not taken it over yet.
    fn writer(&self, split: &SplitId) -> Fut<'_, Box<dyn Staged>, SinkError>;
}

/// A destination that only appends.
pub trait AppendSink: Destination {
    /// A writer for one split.
    fn writer(&self, split: &SplitId) -> Fut<'_, Box<dyn Append>, SinkError>;
}

/// What the writers of all mechanisms have in common.
///
/// Everything between two commits belongs to one commit: claims, records, dead letters and settlements
/// take effect together with its position, or not at all.
pub trait Writer: Send {
    /// Fences every earlier holder of this split and returns where it stands. Completes, first, what an
    /// earlier holder had decided but not finished.
    ///
    /// An [`Append`] writer returns [`Standing::default`].
    fn take_over<'a>(&'a mut self, lease: &'a Lease) -> Fut<'a, Standing, SinkError>;

    /// Claims identities: one answer per arrival, in order. An earlier arrival of the same call counts.
    /// Called only if the destination declares a ledger.
    fn claim<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, Vec<Claim<Place>>, SinkError>;

    /// Takes back what these arrivals claimed in the open commit: their records have no effect, so the next
    /// record of the identity may have one. A claim that another commit made, or another place, stays.
    /// Called only if the destination declares a ledger.
    fn withdraw<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, (), SinkError>;

    /// Writes records. Rows that the destination refuses for what they contain are returned and have had
    /// no effect; the others belong to the open commit.
    fn write<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError>;

    /// Writes records as [`write`](Self::write), but refuses each whose key is there
    /// ([`RefusedRow::key_is_there`]), also in the open commit. Called only if the destination
    /// [`replaces`](Traits::replaces); one that cannot tell refuses all.
    fn write_absent<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        let refused = (0..records.num_rows()).map(RefusedRow::key_is_there).collect();
        Box::pin(std::future::ready(Ok(refused)))
    }

    /// Writes records as bytes of the [format](Destination::wire) that both ends agreed on. Called only where there is
    /// one.
    fn write_wire<'a>(&'a mut self, _batch: &'a WireBatch) -> Fut<'a, Taken, SinkError> {
        Box::pin(std::future::ready(Ok(Taken::Nothing)))
    }

    /// Sets records aside. Setting aside the same place again changes nothing.
    fn set_aside<'a>(&'a mut self, letters: &'a [DeadLetter]) -> Fut<'a, (), SinkError>;

    /// Takes dead letters off the list, and remembers how. A place where nothing is set aside changes nothing.
    fn settle<'a>(&'a mut self, places: &'a [Place], settlement: &'a Settlement) -> Fut<'a, (), SinkError>;

    /// Gives up everything since the last commit.
    fn abort(&mut self) -> Fut<'_, (), SinkError>;
}

/// A writer whose commit is atomic with its position.
pub trait CoCommit: Writer {
    /// Effects and position in one atomic commit, conditional on the lease's token, on `checkpoint.after` and on
    /// the epoch before `checkpoint.epoch`: a commit that leaves the position where it is must not pass twice.
    fn commit<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> Fut<'a, (), CommitError>;
}

/// A writer that stages and publishes.
pub trait Staged: Writer {
    /// Makes everything since the last commit durable, but invisible, under a commit identity that is a
    /// function of split and epoch.
    fn stage<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> Fut<'a, CommitId, SinkError>;

    /// Makes it visible, if no other holder published this commit identity before.
    fn publish<'a>(&'a mut self, commit: &'a CommitId) -> Fut<'a, (), CommitError>;
}

/// A writer that only appends.
pub trait Append: Writer {
    /// Makes everything written so far leave this process.
    fn flush(&mut self) -> Fut<'_, (), SinkError>;
}

/// The name of one commit of one split: the same on every attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommitId {
    /// The split.
    pub split: SplitId,
    /// The commit interval.
    pub epoch: Epoch,
}

/// One record arriving at the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its identity.
    pub id: RecordId,
    /// Its number in the writer's split.
    pub ordinal: u64,
}
