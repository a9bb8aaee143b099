//! How computing vectors can fail.

use std::path::PathBuf;

use hapax_engine::fault::{Fault, SourceError};
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;

use crate::codes;

/// Vectors could not be computed, kept, or put into the records.
#[derive(Debug, thiserror::Error)]
pub enum EmbedFault {
    /// The columns do not fit.
    #[error("vectors cannot be put into the records: {0}")]
    Column(String),
    /// What the endpoint answers is not what the file says.
    #[error("the endpoint does not answer with vectors of {dimension} numbers: {found}")]
    NoVector {
        /// How many numbers there should be.
        dimension: usize,
        /// What there was.
        found: String,
    },
    /// The file of vectors failed.
    #[error("the vectors that are kept in {} could not be {doing}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What went wrong.
        #[source]
        source: rusqlite::Error,
    },
    /// The file of vectors is something else, or of a later version.
    #[error("{} keeps no vectors that this version can read", path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
    },
    /// The thread that worked on the file ended.
    #[error("the work on the kept vectors ended before it was done")]
    Interrupted,
    /// A batch could not be put together.
    #[error("the records could not be put together with their vectors")]
    Records(#[from] arrow::error::ArrowError),
    /// A dead letter that is no record any more.
    #[error("dead letter {place} cannot be read again: {reason}")]
    Letter {
        /// Where it stood.
        place: Place,
        /// Why.
        reason: String,
    },
}

impl Fault for EmbedFault {
    fn code(&self) -> Code {
        match self {
            Self::Column(_) => codes::COLUMN,
            Self::NoVector { .. } => codes::NO_VECTOR,
            Self::Cache { .. } | Self::OtherFile { .. } | Self::Interrupted => codes::CACHE,
            Self::Records(_) => codes::RECORDS,
            Self::Letter { .. } => codes::LETTER_UNREADABLE,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Column(_) => "Name a column of text under `from`, and under `column` one that is not there, or one of \
                                lists of float32 or float64."
                .into(),
            Self::NoVector { .. } => {
                "Nothing was moved with such a vector. Give the `dimension` that the model has, or name another model."
                    .into()
            }
            Self::Cache { path, .. } => format!(
                "Make room on the disk, or give the right to write {}. No record was lost, and no vector that was \
                 kept is computed again.",
                path.display()
            ),
            Self::OtherFile { .. } => "Name another file under `cache`, or move this one away.".into(),
            Self::Interrupted => "Start the run again: it goes on from the last commit.".into(),
            Self::Records(_) => "This is a mistake in Hapax: please report it with the columns of the source.".into(),
            Self::Letter { .. } => "Mend the record at its source, or drop the dead letter.".into(),
        }
    }
}

impl From<EmbedFault> for SourceError {
    fn from(fault: EmbedFault) -> Self {
        Self::stop(fault)
    }
}
