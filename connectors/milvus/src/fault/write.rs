//! Collections that cannot be written as asked.

use hapax_engine::fault::{Fault, SinkError};
use hapax_protocol::code::Code;

use crate::codes;

/// A collection could not be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault {
    /// The configuration contradicts itself.
    #[error("the milvus sink is not configured: {0}")]
    Config(String),
    /// The collection makes its keys itself.
    #[error(
        "the collection {collection:?} makes its keys itself (autoID): a record sent again would be another one"
    )]
    AutoId {
        /// The collection.
        collection: String,
    },
    /// The identity cannot be the primary key.
    #[error("the identity cannot be the primary key of {collection:?}: {reason}")]
    Key {
        /// The collection.
        collection: String,
        /// Why.
        reason: String,
    },
    /// A column without a place, or a field without a column.
    #[error("the records do not fit the collection {collection:?}: {reason}")]
    Column {
        /// The collection.
        collection: String,
        /// Why.
        reason: String,
    },
    /// Another dimension.
    #[error(
        "the vectors of {collection:?} have {wanted} numbers in `{field}`, and those of the records have {found}"
    )]
    Dimension {
        /// The collection.
        collection: String,
        /// The field.
        field: String,
        /// How many numbers it takes.
        wanted: i64,
        /// How many there are.
        found: i64,
    },
    /// The collection is there, and is another one than `create` would make.
    #[error("the collection {collection:?} is there already, and {found}, where `create` says {wanted}")]
    Made {
        /// The collection.
        collection: String,
        /// What it has.
        found: String,
        /// What `create` says.
        wanted: String,
    },
    /// A type that is not moved.
    #[error("the field `{field}` of {collection:?} is {kind}, which Hapax does not write")]
    Type {
        /// The collection.
        collection: String,
        /// The field.
        field: String,
        /// Its type.
        kind: String,
    },
    /// The server does not take a batch.
    #[error("{collection:?} does not take {rows} entities: {said}")]
    NotTaken {
        /// The collection.
        collection: String,
        /// How many.
        rows: usize,
        /// The server's words.
        said: String,
    },
    /// It is not read back.
    #[error("what was written to {collection:?} cannot be read back: {reason}")]
    NoReadBack {
        /// The collection.
        collection: String,
        /// Why.
        reason: String,
    },
    /// Entities could not be made.
    #[error("records could not be written as entities: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
}

impl Fault for WriteFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) => codes::CONFIG,
            Self::AutoId { .. } => codes::AUTO_ID,
            Self::Key { .. } => codes::KEY_UNFIT,
            Self::Column { .. } => codes::COLUMN_UNFIT,
            Self::Dimension { .. } => codes::DIMENSION,
            Self::Made { .. } => codes::MADE_OTHERWISE,
            Self::Type { .. } => codes::TYPE_UNKNOWN,
            Self::NotTaken { .. } => codes::NOT_TAKEN,
            Self::NoReadBack { .. } => codes::NO_READ_BACK,
            Self::Arrow(_) => codes::SERVER_FAILED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "Write `create: { vector: COLUMN, dimension: 384 }`; `delete` names a boolean column.",
            Self::AutoId { .. } => "Write to a collection whose primary key is given (`auto_id=False`).",
            Self::Key { .. } => "Give `identity: { key: [COLUMN] }`, with the columns that the collection's primary key is made of. A hash of a record is a key, too, as a column that the transform adds: `SELECT *, encode(sha256(…), 'hex') AS id`.",
            Self::Column { .. } => "Leave columns out, or rename them, with `transform: SELECT …`; or let the collection have a dynamic field.",
            Self::Dimension { .. } => "None of these vectors was written. Write to a collection of that dimension, or take vectors of the other.",
            Self::Made { .. } => "Nothing was moved, and the collection was left as it is. Correct `create`, leave it out, or write to a collection of another name.",
            Self::Type { .. } => "Write to a collection without it. BOOL, INT8 to INT64, FLOAT, DOUBLE, VARCHAR, JSON and FLOAT_VECTOR are written.",
            Self::NotTaken { .. } => "Nothing was lost: see what the server says, mend the collection or the records, and run again.",
            Self::NoReadBack { .. } => "Compare by other means.",
            Self::Arrow(_) => "This is a defect of Hapax: please report it with the pipeline file.",
        }
        .to_owned()
    }
}

impl From<WriteFault> for SinkError {
    fn from(fault: WriteFault) -> Self {
        Self::stop(fault)
    }
}
