//! Collections that cannot be read as asked.

use hapax_engine::fault::{Fault, SourceError};
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::SplitId;

use crate::codes;

/// A collection could not be read as asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The configuration contradicts itself.
    #[error("the milvus source is not configured: {0}")]
    Config(String),
    /// A type that is not moved.
    #[error("the field `{field}` of {collection:?} is {kind}, which Hapax does not read")]
    Type {
        /// The collection.
        collection: String,
        /// The field.
        field: String,
        /// Its type.
        kind: String,
    },
    /// A position of something else.
    #[error("the stored position of {split} was not made by this reading of the collection {collection:?}")]
    ForeignPosition {
        /// The split.
        split: SplitId,
        /// The collection.
        collection: String,
    },
    /// Another collection of the name.
    #[error("collection {collection:?} is not the one that was read before: it was made anew")]
    Recreated {
        /// The collection.
        collection: String,
    },
    /// A dead letter that is not a record any more.
    #[error("dead letter {place} cannot be read again: {reason}")]
    Letter {
        /// Where it stood.
        place: Place,
        /// Why.
        reason: String,
    },
    /// A key is there more than once.
    #[error("{collection:?} holds {entities} entities of {keys} keys: some key is there more than once")]
    KeysTwice {
        /// The collection.
        collection: String,
        /// How many entities it says it has.
        entities: i64,
        /// How many keys were read.
        keys: u64,
    },
    /// An answer that cannot be.
    #[error("the answer about {collection:?} is not understood: {reason}")]
    Misunderstood {
        /// The collection.
        collection: String,
        /// Why.
        reason: String,
    },
    /// A batch could not be made.
    #[error("entities could not be put into columns: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
}

impl Fault for ReadFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) => codes::CONFIG,
            Self::Type { .. } => codes::TYPE_UNKNOWN,
            Self::ForeignPosition { .. } => codes::FOREIGN_POSITION,
            Self::Recreated { .. } => codes::RECREATED,
            Self::Letter { .. } => codes::LETTER_UNREADABLE,
            Self::KeysTwice { .. } => codes::KEYS_TWICE,
            Self::Misunderstood { .. } | Self::Arrow(_) => codes::SERVER_FAILED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "`schema` names keys of the dynamic field, and no fields of the collection.",
            Self::Type { .. } => "BOOL, INT8 to INT64, FLOAT, DOUBLE, VARCHAR, JSON and FLOAT_VECTOR are read.",
            Self::ForeignPosition { .. } => "Give the pipeline another `name` to start from the beginning.",
            Self::Recreated { .. } => "Give the pipeline another `name` to read the new collection from its beginning.",
            Self::Letter { .. } => "Mend `schema`, or drop the dead letter.",
            Self::KeysTwice { .. } => "Something wrote with `insert`, or to the collection while it was read. Hapax writes with `upsert` alone: move the records once more, and the key is there once.",
            Self::Misunderstood { .. } | Self::Arrow(_) => "This is a defect of Hapax: please report it with the pipeline file.",
        }
        .to_owned()
    }
}

impl From<ReadFault> for SourceError {
    fn from(fault: ReadFault) -> Self {
        Self::stop(fault)
    }
}
