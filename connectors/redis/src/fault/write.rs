//! Records that cannot be written as asked.

use hapax_engine::fault::{Fault, SinkError};
use hapax_protocol::code::Code;
use hapax_protocol::position::SplitId;

use crate::codes;

/// Records could not be written, or claims not be kept, as asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault {
    /// The configuration contradicts itself.
    #[error("redis is not configured: {0}")]
    Config(String),
    /// Another definition made the positions.
    #[error("the positions of pipeline {pipeline} in {place} were made by another definition of it")]
    OtherDefinition {
        /// The pipeline.
        pipeline: String,
        /// Which server.
        place: String,
    },
    /// A later run has the lease.
    #[error("another run of pipeline {pipeline} took over (its token is #{by}, ours is #{token})")]
    Fenced {
        /// The pipeline.
        pipeline: String,
        /// Our token.
        token: u64,
        /// The later token.
        by: u64,
    },
    /// The split is another's, or this run's own again, since this writer took it over.
    #[error("{split} was taken over since: nothing was committed")]
    Retaken {
        /// The split.
        split: SplitId,
    },
    /// The stored position is not the expected one.
    #[error("the stored position of {split} is not the one this run left there: nothing was committed")]
    Diverged {
        /// The split.
        split: SplitId,
    },
    /// The template cannot be read.
    #[error("the `key` {template:?} cannot be used: {reason}")]
    Template {
        /// The template.
        template: String,
        /// Why.
        reason: String,
    },
    /// Keys in several slots.
    #[error("{place} is a cluster, and the keys of {template:?} do not share a hash slot")]
    NoSharedSlot {
        /// Which server.
        place: String,
        /// The template.
        template: String,
    },
    /// A type that Redis cannot hold.
    #[error("column {column:?} has the type {data_type}, which `write: {write}` cannot hold")]
    TypeUnheld {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
        /// `hash`, `string`, `json` or `stream`.
        write: &'static str,
    },
    /// A column that would be lost.
    #[error("`write: string` keeps the key and {value:?}: column {column:?} would be lost")]
    ColumnLost {
        /// The column.
        column: String,
        /// The column that is kept.
        value: String,
    },
    /// The key is something else.
    #[error("key {key:?} is there and is a {found}, not a {wanted}")]
    WrongType {
        /// The key.
        key: String,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Too much for one call.
    #[error("{bytes} bytes are open for {split}, and one call carries at most {bytes_max}")]
    TooLarge {
        /// The split.
        split: SplitId,
        /// How many are open.
        bytes: usize,
        /// How many there may be.
        bytes_max: usize,
    },
    /// A commit whose answer was lost.
    #[error("the server did not say whether the commit of {split} took effect")]
    CommitUnknown {
        /// The split.
        split: SplitId,
        /// What was heard instead.
        source: Box<super::ServerFault>,
    },
    /// Something was taken between looking and committing.
    #[error("the commit of {split} was refused: {reason}")]
    Overtaken {
        /// The split.
        split: SplitId,
        /// What happened.
        reason: String,
    },
    /// The writer lost its split, or has none.
    #[error("the open commit of {split} was given up: nothing of it took effect")]
    NotHeld {
        /// The split.
        split: SplitId,
    },
    /// The ledger was emptied.
    #[error(
        "the ledger of pipeline {pipeline} in {place} is not the one that was kept: its marker {marker:?} {found}"
    )]
    LedgerEmptied {
        /// The pipeline.
        pipeline: String,
        /// Which server.
        place: String,
        /// The key that marks it.
        marker: String,
        /// What is wrong with the marker.
        found: &'static str,
    },
    /// What is written may be forgotten.
    #[error("{place} forgets claims when it ends: of a power loss, it would lose {lost}")]
    NotPersistent {
        /// Which server.
        place: String,
        /// What is lost.
        lost: &'static str,
    },
}

impl Fault for WriteFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) => codes::CONFIG,
            Self::OtherDefinition { .. } => codes::OTHER_DEFINITION,
            Self::Fenced { .. } | Self::Retaken { .. } => codes::FENCED,
            Self::Diverged { .. } => codes::DIVERGED,
            Self::Template { .. } => codes::TEMPLATE,
            Self::NoSharedSlot { .. } => codes::NO_SHARED_SLOT,
            Self::TypeUnheld { .. } => codes::TYPE_UNHELD,
            Self::ColumnLost { .. } => codes::COLUMN_LOST,
            Self::WrongType { .. } => codes::WRONG_TYPE,
            Self::TooLarge { .. } => codes::COMMIT_TOO_LARGE,
            Self::CommitUnknown { .. } => codes::COMMIT_UNKNOWN,
            Self::Overtaken { .. } | Self::NotHeld { .. } => codes::OVERTAKEN,
            Self::LedgerEmptied { .. } => codes::LEDGER_EMPTIED,
            Self::NotPersistent { .. } => codes::NOT_PERSISTENT,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "docs/connectors/redis.md has an example of each use.".into(),
            Self::OtherDefinition { .. } => {
                "Nothing was lost. Give the changed pipeline another `name` to start from the \
                 beginning, or restore the file as it was to go on."
                    .into()
            }
            Self::Fenced { .. } | Self::Retaken { .. } => "Let the other run finish. This one wrote nothing more.".into(),
            Self::Diverged { .. } => {
                "Something else wrote Hapax's keys, or the server was set back to an earlier state. Run again: it goes on \
                 where the server says."
                    .into()
            }
            Self::Template { .. } => {
                "Write a key such as `orders:{id}`, with the columns that identify a record in braces, each once.".into()
            }
            Self::NoSharedSlot { .. } => {
                "One call is atomic in one slot only. Begin `key` with a hash tag in doubled braces: `{{orders}}:{id}`."
                    .into()
            }
            Self::TypeUnheld { .. } => "Cast the column with `transform`, or leave it out.".into(),
            Self::ColumnLost { .. } => {
                "Leave the column out with `transform`, or choose `write: hash` or `write: json`.".into()
            }
            Self::WrongType { key, .. } => {
                format!("Nothing was written there. Choose another `key`, or remove {key:?} if nobody needs it.")
            }
            Self::TooLarge { .. } => "Lower `commit` (`records`, `bytes`). Nothing was committed.".into(),
            Self::CommitUnknown { .. } => {
                "Run again: Hapax looks up what was committed and goes on from there.".into()
            }
            Self::Overtaken { .. } | Self::NotHeld { .. } => {
                "Run again: it goes on behind the last commit.".into()
            }
            Self::LedgerEmptied { marker, .. } => format!(
                "The server was restarted empty, flushed, or set back. Restore its data and run again. To accept that \
                 records which were claimed before may take effect again, run `SET {marker} accepted`."
            ),
            Self::NotPersistent { .. } => {
                "Set `appendonly yes`, or say `accept_loss: true` in the ledger's section: records that come again after \
                 such a loss take effect again."
                    .into()
            }
        }
    }
}

impl From<WriteFault> for SinkError {
    fn from(fault: WriteFault) -> Self {
        match fault {
            WriteFault::Fenced { .. } | WriteFault::Retaken { .. } | WriteFault::Diverged { .. } => {
                Self::fenced(fault)
            }
            WriteFault::Overtaken { .. } | WriteFault::NotHeld { .. } => Self::unavailable(fault),
            other => Self::stop(other),
        }
    }
}
