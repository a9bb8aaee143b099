//! The contract of a source.

mod nothing;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::SourceFacts;
use hapax_protocol::position::{Position, SplitId};

use crate::Fut;
use crate::batch::{Batch, ReadLimit};
use crate::dead_letter::DeadLetter;
use crate::durable::Durable;
use crate::fault::SourceError;
use crate::wire::WireSource;
pub use nothing::Nothing;

/// Where records come from.
pub trait Source: Send + Sync {
    /// What it can do: the input of the calculus.
    fn facts(&self) -> SourceFacts;

    /// The columns of its records. Fixed for the life of this value.
    fn schema(&self) -> SchemaRef;

    /// The splits it has now, in the order in which their records were written, as far as there is one.
    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError>;

    /// Opens a split behind `after`, or at its start.
    ///
    /// A position that can no longer be reached, or a split whose content changed before it, is an error
    /// of its own: a source never starts somewhere else instead.
    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError>;

    /// How its splits stand to each other.
    fn arrangement(&self) -> Arrangement {
        Arrangement::Sequence
    }

    /// What the numbers of its records say.
    fn numbers(&self) -> Numbers {
        Numbers::Counted
    }

    /// Whether its splits go on after what there is now.
    fn extent(&self) -> Extent {
        Extent::Bounded
    }

    /// The group whose members share its splits, if the pipeline belongs to one. Only a run that goes on until it is
    /// stopped takes part.
    fn group(&self) -> Option<&dyn Group> {
        None
    }

    /// How many records of a split lie behind a position, as far as the source knows. Reads no record.
    fn lag<'a>(
        &'a self,
        _split: &'a SplitId,
        _after: Option<&'a Position>,
    ) -> Fut<'a, Option<u64>, SourceError> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// How it gives its records as bytes that nobody decodes, if it can.
    fn wire(&self) -> Option<&dyn WireSource> {
        None
    }

    /// Whether a ledger beside the destination tells twins from replays here. A claim is made before its effect, so a
    /// source refuses it where a record may be gone when it has to be read again, and a later one of its identity is not.
    fn suits_ledger_beside(&self) -> Result<(), SourceError> {
        Ok(())
    }

    /// What it found at its system that a person should know before a run: lines of the plan.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// A position in words, for people: `byte 1048576, record 10240`.
    fn describe(&self, position: &Position) -> String;

    /// Whether this source rejects records with this code: the raw text of such a dead letter is as it was read,
    /// that of every other one is a JSON object of the columns.
    fn rejects_with(&self, code: Code) -> bool;

    /// Reads the record of a dead letter again, by the schema of today.
    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError>;
}

/// How the splits of a source stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrangement {
    /// One was written after the other: what comes first in the list of splits comes first.
    Sequence,
    /// Beside each other, as the partitions of a topic: a key is in one of them, and no record of one comes before a
    /// record of another.
    Partitions,
}

/// What the numbers of a split's records say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// 0, 1, 2, … with none left out: a number is how many records come before.
    Counted,
    /// They ascend, and some are nobody's, as the offsets of a topic: how many come before, they do not say.
    Ascending,
}

/// Whether splits go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// They end with what there is.
    Bounded,
    /// More may come at any time: [`SplitReader::more`] waits for it.
    Growing,
}

/// Processes that share the splits of a source, each split with one of them at a time.
///
/// Who has a split is decided by the group (Kafka's consumer group protocol, for instance), and nothing rests on it: a
/// member that wakes up late is stopped by the position at the destination, which has moved on without it.
pub trait Group: Send + Sync {
    /// Its name: what its members call themselves before the destination.
    fn name(&self) -> &str;

    /// Joins, and waits until splits are given or asked back.
    ///
    /// Cancel-safe.
    fn shift(&self) -> Fut<'_, Shift, SourceError>;

    /// Gives back splits that were asked back: nothing of them is written any more.
    fn release<'a>(&'a self, splits: &'a [SplitId]) -> Fut<'a, (), SourceError>;

    /// Leaves it.
    fn leave(&self) -> Fut<'_, (), SourceError>;
}

/// What changes for one member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shift {
    /// It has these splits too, from now on.
    Given(Vec<Split>),
    /// It is to give these back, once what it has read of them is committed.
    AskedBack(Vec<SplitId>),
    /// It has these no more: they may be another's already.
    Lost(Vec<SplitId>),
}

/// One split, as a source lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Its name.
    pub id: SplitId,
    /// How many bytes of the source it is, if that is known, for progress.
    pub source_bytes: Option<u64>,
}

/// A place in one split that moves forward.
pub trait SplitReader: Send {
    /// Reads on. `None` ends a bounded split: there is nothing more now.
    ///
    /// Cancel-safe: a future that was dropped has not moved the reader.
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError>;

    /// Waits until there may be more behind what was read to its end. Called only if the source
    /// [grows](Extent::Growing), after [`read`](Self::read) said `None`, which may say so again.
    ///
    /// Cancel-safe, as [`read`](Self::read).
    fn more(&mut self) -> Fut<'_, (), SourceError> {
        Box::pin(std::future::pending())
    }

    /// The source may now forget everything through this position.
    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError>;
}
