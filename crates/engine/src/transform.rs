//! What happens to records between reading and writing.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

/// A function from batches to batches that looks at one record at a time.
///
/// It must be deterministic: the same record gives the same result on every replay.
pub trait Transform: Send + Sync {
    /// The columns that come out.
    fn schema(&self) -> SchemaRef;
    /// Applies it to a batch of the input schema. Never fails as a whole: a record on which it fails is refused.
    fn apply(&self, records: &RecordBatch) -> Transformed;
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Transformed {
    /// The records that passed.
    pub records: RecordBatch,
    /// The row of the input each of `records` came from; `None` if every row passed.
    pub rows: Option<Vec<usize>>,
    /// The rows of the input that failed.
    pub refused: Vec<RefusedRow>,
}

/// A row that could not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// Its index in the batch that was given.
    pub row: usize,
    /// What kind of mistake it is.
    pub code: hapax_protocol::code::Code,
    /// What is wrong with it, in words.
    pub reason: String,
}
