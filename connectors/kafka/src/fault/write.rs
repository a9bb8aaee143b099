//! Records that cannot be written as asked.

use hapax_engine::fault::{Fault, SinkError};
use hapax_protocol::code::Code;
use hapax_protocol::position::SplitId;
use rdkafka::error::KafkaError;

use crate::codes;

/// Records could not be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault {
    /// The configuration contradicts itself.
    #[error("the kafka sink is not configured: {0}")]
    Config(&'static str),
    /// A column that the records do not have, or that means something else.
    #[error("`{key}` names column {column:?}, {why}")]
    Column {
        /// The key in the file.
        key: &'static str,
        /// The column.
        column: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A type that messages cannot hold.
    #[error("column {column:?} has the type {data_type}, which {format} messages cannot hold: {reason}")]
    TypeUnheld {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
        /// The format.
        format: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// Records that could not be encoded.
    #[error("records of {split} could not be encoded")]
    Encoding {
        /// The split.
        split: SplitId,
        /// Arrow's words.
        source: arrow::error::ArrowError,
    },
    /// Another definition made the positions.
    #[error("the positions of pipeline {pipeline} in topic {state} were made by another definition of it")]
    OtherDefinition {
        /// The pipeline.
        pipeline: String,
        /// The topic with the positions.
        state: String,
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
    /// Another run asked for the lease at the same time.
    #[error("another run of pipeline {pipeline} asked for the lease at the same time, and has it")]
    LeaseContested {
        /// The pipeline.
        pipeline: String,
    },
    /// The stored position is not the expected one.
    #[error("the stored position of {split} is not the one this run left there: nothing was committed")]
    Diverged {
        /// The split.
        split: SplitId,
    },
    /// A commit whose answer was lost.
    #[error("the brokers did not say whether the commit of {split} took effect: {reason}")]
    CommitUnknown {
        /// The split.
        split: SplitId,
        /// What was heard instead.
        reason: String,
    },
    /// The transaction is gone.
    #[error("the open commit of {split} ended before it was committed ({reason}): it was taken back")]
    TransactionLost {
        /// The split.
        split: SplitId,
        /// Why.
        reason: String,
    },
    /// The brokers did not take a message.
    #[error("the brokers did not take a message of {split} for topic {topic}: {source}")]
    NotTaken {
        /// The split.
        split: SplitId,
        /// The topic.
        topic: String,
        /// What they say.
        source: KafkaError,
    },
    /// The topic with the positions does not do.
    #[error("topic {state}, which keeps the positions, cannot be used: {why}")]
    StateUnfit {
        /// The topic.
        state: String,
        /// Why.
        why: String,
    },
    /// The positions cannot be seen.
    #[error("a transaction that nobody ended hides the end of topic {state}, which keeps the positions")]
    StateHidden {
        /// The topic.
        state: String,
    },
}

impl Fault for WriteFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) => codes::CONFIG,
            Self::Column { .. } => codes::NO_COLUMN,
            Self::TypeUnheld { .. } | Self::Encoding { .. } => codes::TYPE_UNHELD,
            Self::OtherDefinition { .. } => codes::OTHER_DEFINITION,
            Self::Fenced { .. } | Self::LeaseContested { .. } => codes::FENCED,
            Self::Diverged { .. } => codes::DIVERGED,
            Self::CommitUnknown { .. } => codes::COMMIT_UNKNOWN,
            Self::TransactionLost { .. } => codes::TRANSACTION_LOST,
            Self::NotTaken { .. } => codes::FAILED,
            Self::StateUnfit { .. } => codes::STATE_UNFIT,
            Self::StateHidden { .. } => codes::STATE_HIDDEN,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "Give `brokers` and a `topic`.",
            Self::Column { .. } => "Name a column of the records, or let `transform` select or rename it.",
            Self::TypeUnheld { .. } | Self::Encoding { .. } => {
                "Cast the column with `transform`, or leave it out."
            }
            Self::OtherDefinition { .. } => {
                "Nothing was lost. Give the changed pipeline another `name` to start from the beginning, or restore \
                 the file as it was to go on."
            }
            Self::Fenced { .. } | Self::LeaseContested { .. } => "Let the other run finish. This one wrote nothing more.",
            Self::Diverged { .. } => {
                "Nothing of this commit is visible. Run again: it goes on where the stored position says."
            }
            Self::CommitUnknown { .. } => {
                "Run again: Hapax looks up what was committed and goes on from there."
            }
            Self::TransactionLost { .. } => "Nothing was lost. Run again: it goes on behind the last commit.",
            Self::NotTaken { .. } => {
                "Nothing of this commit is visible. Check the topic's settings, then run again: it goes on behind the \
                 last commit."
            }
            Self::StateUnfit { .. } => {
                "It has one partition and `cleanup.policy=compact`. Restore it, or remove it if no position is needed."
            }
            Self::StateHidden { .. } => {
                "Nothing was lost. The brokers end the transaction once its time is over (a minute, mostly). Then run \
                 again."
            }
        }
        .to_owned()
    }
}

impl From<WriteFault> for SinkError {
    fn from(fault: WriteFault) -> Self {
        match fault {
            WriteFault::Fenced { .. } | WriteFault::LeaseContested { .. } | WriteFault::Diverged { .. } => {
                Self::fenced(fault)
            }
            WriteFault::TransactionLost { .. }
            | WriteFault::CommitUnknown { .. }
            | WriteFault::StateHidden { .. } => Self::unavailable(fault),
            other => Self::stop(other),
        }
    }
}
