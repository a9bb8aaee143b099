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

    /// How it gives its records as bytes that nobody decodes, if it can.
    fn wire(&self) -> Option<&dyn WireSource> {
        None
    }

    /// A position in words, for people: `byte 1048576, record 10240`.
    fn describe(&self, position: &Position) -> String;

    /// Whether this source rejects records with this code: the raw text of such a dead letter is as it was read,
    /// that of every other one is a JSON object of the columns.
    fn rejects_with(&self, code: Code) -> bool;

    /// Reads the record of a dead letter again, by the schema of today.
    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError>;
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

    /// The source may now forget everything through this position.
    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError>;
}
