//! What happens to records between reading and writing.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::codes;

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

impl RefusedRow {
    /// A row that would take the place of a record which may be newer.
    pub fn key_is_there(row: usize) -> Self {
        let reason = "a record of this key is at the destination already, and a replay could put an older value \
                      over it: drop the letter, or write the value yourself (HX0452)";
        Self { row, code: codes::KEY_IS_THERE, reason: reason.to_owned() }
    }
}
