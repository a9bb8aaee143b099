//! What makes two arrivals the same record.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::position::{Ordinal, SplitId};

/// How a pipeline tells its records apart, as the file says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Identity {
    /// The values of these columns, in this order.
    Key(Vec<String>),
    /// A digest of the whole record. It merges genuine twins, so it is never a default.
    Hash,
    /// A column that holds a UUID.
    Uuid(String),
    /// The place in the source: split and ordinal.
    #[default]
    Position,
}

impl Identity {
    /// The columns that must be there for the identity to be computed.
    pub fn columns(&self) -> &[String] {
        match self {
            Self::Key(columns) => columns,
            Self::Uuid(column) => std::slice::from_ref(column),
            Self::Hash | Self::Position => &[],
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(columns) => write!(f, "key ({})", columns.join(", ")),
            Self::Hash => f.write_str("hash of the record"),
            Self::Uuid(column) => write!(f, "uuid column {column}"),
            Self::Position => f.write_str("position in the source"),
        }
    }
}

/// What happens to a record whose identity was claimed by an earlier record of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duplicates {
    /// The first one moves, later ones are counted as suppressed.
    Drop,
    /// All of them move. No ledger is kept.
    Keep,
    /// The first one moves, later ones become dead letters.
    DeadLetter,
}

impl Duplicates {
    /// Whether identities have to be remembered.
    pub fn need_ledger(self) -> bool {
        !matches!(self, Self::Keep)
    }
}

/// The identity of one record: 128 bits, a digest of its canonical encoding or a UUID itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub [u8; 16]);

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The name of one effect: what a destination that drops repeats tells them by. It is a digest of the pipeline's name
/// and of the record's identity, where each identity takes effect once, or else of its place: the same on every
/// attempt, and another one for the next version of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub RecordId);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a record stands in the source. The same record has the same place on every replay.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The split.
    pub split: SplitId,
    /// The number of the record in the split.
    pub ordinal: Ordinal,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} record {}", self.split, self.ordinal)
    }
}
