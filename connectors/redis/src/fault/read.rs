//! Streams that cannot be read as asked.

use hapax_engine::fault::{Fault, SourceError};
use hapax_protocol::code::Code;
use hapax_protocol::position::SplitId;

use crate::codes;

/// A stream could not be read as asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The configuration contradicts itself.
    #[error("the redis source is not configured: {0}")]
    Config(String),
    /// There is no such key.
    #[error("{place} has no stream {stream:?}")]
    NoStream {
        /// Which server.
        place: String,
        /// Which stream.
        stream: String,
    },
    /// The key is of another type.
    #[error("{stream:?} of {place} is no stream: it is a {found}")]
    NotAStream {
        /// Which server.
        place: String,
        /// Which key.
        stream: String,
        /// What it is.
        found: String,
    },
    /// A position of something else.
    #[error("the stored position of {split} was not made by this reading of a stream")]
    ForeignPosition {
        /// The split.
        split: SplitId,
    },
    /// Entries went before they were read.
    #[error(
        "entries of stream {stream:?} were removed before they were read: behind {after}, through {through}"
    )]
    Trimmed {
        /// The stream.
        stream: String,
        /// The last entry that was read; `the beginning` if none was.
        after: String,
        /// The last entry that was removed.
        through: String,
    },
    /// Another stream of the name.
    #[error("stream {stream:?} is not the one that was read before: {reason}")]
    Recreated {
        /// The stream.
        stream: String,
        /// How it is known.
        reason: String,
    },
    /// An entry whose id is no number of a record.
    #[error("entry {id} of stream {stream:?} has an id that is too large to number its record by")]
    LargeId {
        /// The stream.
        stream: String,
        /// The id.
        id: String,
    },
    /// A column cannot be made.
    #[error("the entries could not be turned into records")]
    Conversion(#[from] arrow::error::ArrowError),
    /// A dead letter that is not a record any more.
    #[error("dead letter {place} cannot be read again: {reason}")]
    Letter {
        /// Where it stood.
        place: hapax_protocol::identity::Place,
        /// Why.
        reason: String,
    },
}

impl Fault for ReadFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) => codes::CONFIG,
            Self::NoStream { .. } => codes::NO_STREAM,
            Self::NotAStream { .. } => codes::NOT_A_STREAM,
            Self::ForeignPosition { .. } => codes::FOREIGN_POSITION,
            Self::Trimmed { .. } => codes::TRIMMED,
            Self::Recreated { .. } => codes::RECREATED,
            Self::LargeId { .. } => codes::LARGE_ID,
            Self::Conversion(_) => codes::VALUE_MISFIT,
            Self::Letter { .. } => codes::LETTER_UNREADABLE,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => {
                "Give `stream` (or `streams`), and the `fields` or the `schema` of its entries.".into()
            }
            Self::NoStream { .. } => {
                "Check the name and the database in `url`. A stream that is to come is made by its first XADD.".into()
            }
            Self::NotAStream { .. } => "Name a stream; `TYPE KEY` says what a key is.".into(),
            Self::ForeignPosition { .. } => {
                "Give the pipeline another `name` to start from the beginning, or restore what it read before.".into()
            }
            Self::Trimmed { through, .. } => format!(
                "Those entries are gone, and Hapax does not pass over them unasked. To go on without them, set \
                 `accept_gap: {through}` in the source. Then trim by what `hapax status` says was read."
            ),
            Self::Recreated { .. } => {
                "Give the pipeline another `name` to read the new stream from its beginning.".into()
            }
            Self::LargeId { .. } => {
                "Nothing was lost. Ids that Redis gives always fit; give own ones milliseconds below 2^42 and a number \
                 below 2^21, or copy the stream with `XADD … *`."
                    .into()
            }
            Self::Conversion(_) => "Give the fields other types under `schema`.".into(),
            Self::Letter { .. } => "Mend the record at its source, or drop the dead letter.".into(),
        }
    }
}

impl From<ReadFault> for SourceError {
    fn from(fault: ReadFault) -> Self {
        Self::stop(fault)
    }
}
