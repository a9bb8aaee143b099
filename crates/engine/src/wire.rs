//! Records that pass from source to sink as the bytes they are, decoded by nobody on the way.
//!
//! It is agreed on before a run moves anything, where both ends speak the same bytes, and nothing looks inside:
//! no transform, no twins to be found. It changes nothing of the guarantee: splits, positions, commits and
//! acknowledgements are the same.

use std::fmt;

use bytes::Bytes;
use hapax_protocol::position::{Position, SplitId};

use crate::Fut;
use crate::batch::ReadLimit;
use crate::durable::Durable;
use crate::fault::SourceError;

/// What bytes mean: the name of a format and the types of all columns, in their order. Two ends with equal formats
/// read the same records out of the same bytes, and lose nothing by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireFormat(pub String);

impl fmt::Display for WireFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Consecutive records of one split, as bytes.
#[derive(Debug, Clone)]
pub struct WireBatch {
    /// Of which split.
    pub split: SplitId,
    /// The position the records start at; `None` at the start of the split.
    pub after: Option<Position>,
    /// The position behind the last record. Always greater than `after`, and one that a reader of decoded records
    /// can go on from.
    pub through: Position,
    /// How many records they are.
    pub rows: u64,
    /// The records, without header or trailer of the format. A record may begin in one piece and end in the next.
    pub bytes: Vec<Bytes>,
}

impl WireBatch {
    /// The memory it holds, in bytes.
    pub fn memory(&self) -> usize {
        self.bytes.iter().map(Bytes::len).sum()
    }
}

/// A source that can give its records as bytes.
pub trait WireSource: Send + Sync {
    /// What the bytes mean.
    fn format(&self) -> WireFormat;

    /// As [`Source::open`](crate::source::Source::open), with the same splits and positions.
    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn WireReader>, SourceError>;
}

/// A place in one split that moves forward.
pub trait WireReader: Send {
    /// As [`SplitReader::read`](crate::source::SplitReader::read).
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<WireBatch>, SourceError>;

    /// The source may now forget everything through this position.
    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError>;
}

/// What became of bytes at the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// All of them belong to the open commit.
    All,
    /// One of the records is refused for what it contains, and with it all that is open. Decoded, it can be told from
    /// the others.
    Nothing,
}
