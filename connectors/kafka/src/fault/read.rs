//! Topics that cannot be read as asked.

use hapax_engine::fault::{Fault, SourceError};
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::SplitId;

use crate::codes;

/// Topics could not be read as asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The configuration contradicts itself.
    #[error("`{key}` of the kafka source: {what}")]
    Config {
        /// The key in the file.
        key: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// No topic matches.
    #[error("no topic of {place} matches the pattern {pattern}")]
    NoMatch {
        /// The brokers.
        place: String,
        /// The regular expression.
        pattern: String,
    },
    /// Messages were deleted unread.
    #[error("messages of {split} were deleted before they were read: offsets {from} to {last} are gone")]
    Gap {
        /// The split.
        split: SplitId,
        /// The first that was not read.
        from: i64,
        /// The last that is gone.
        last: i64,
    },
    /// Another topic of the same name.
    #[error("{split} is not the one that was read: {how}")]
    Recreated {
        /// The split.
        split: SplitId,
        /// How that is known.
        how: String,
    },
    /// The offset that is to be read is not there any more.
    #[error("{split} lost the offset {at} while it was read")]
    Moved {
        /// The split.
        split: SplitId,
        /// The offset.
        at: i64,
    },
    /// A split or a position of something else.
    #[error("the stored position of {split} was not made by this reading of Kafka")]
    ForeignPosition {
        /// The split.
        split: SplitId,
    },
    /// JSON without columns.
    #[error(
        "`format: json` needs `schema`: messages to come may have fields that those of today do not show"
    )]
    NoSchema {
        /// What the first messages look like.
        proposed: Option<String>,
    },
    /// Bodies that cannot be read as asked.
    #[error("the messages cannot be read as asked: {0}")]
    Bodies(#[from] hapax_engine::message::BodiesError),
    /// Columns that could not be made.
    #[error("the columns of {split} could not be made")]
    Columns {
        /// The split.
        split: SplitId,
        /// Arrow's words.
        source: arrow::error::ArrowError,
    },
    /// The registry does not answer.
    #[error("the schema registry {url} does not answer: {reason}")]
    RegistryAway {
        /// Its address, without secrets.
        url: String,
        /// What was heard.
        reason: String,
    },
    /// The registry says no.
    #[error("the schema registry {url} refuses {what}: {reason}")]
    RegistryRefused {
        /// Its address, without secrets.
        url: String,
        /// What was asked of it.
        what: String,
        /// What it says.
        reason: String,
    },
    /// The registry does not have what was asked for.
    #[error("the schema registry {url} has no {what}")]
    SchemaMissing {
        /// Its address, without secrets.
        url: String,
        /// What was asked of it.
        what: String,
    },
    /// A schema that is no record.
    #[error("the registered schema {id} cannot be read as records: {reason}")]
    SchemaUnfit {
        /// Its id.
        id: u32,
        /// Why.
        reason: String,
    },
    /// A ledger beside the destination, and a topic that does not keep each message.
    #[error(
        "`ledger` and a compacted topic do not go together, and {topic} {known}: it removes a message for a later one of \
         its key, also one that has claimed its identity and not arrived"
    )]
    LedgerBeside {
        /// The topic.
        topic: String,
        /// What is known of it.
        known: &'static str,
    },
    /// A dead letter that is not a record any more.
    #[error("dead letter {place} cannot be read again: {reason}")]
    Letter {
        /// Where it stood.
        place: Place,
        /// Why.
        reason: String,
    },
}

impl Fault for ReadFault {
    fn code(&self) -> Code {
        match self {
            Self::Config { .. } => codes::CONFIG,
            Self::NoMatch { .. } => codes::NO_TOPIC,
            Self::Gap { .. } | Self::Moved { .. } => codes::GAP,
            Self::Recreated { .. } => codes::RECREATED,
            Self::ForeignPosition { .. } => codes::FOREIGN_POSITION,
            Self::NoSchema { .. } | Self::Bodies(_) | Self::Columns { .. } => codes::NO_SCHEMA,
            Self::RegistryAway { .. } => codes::REGISTRY_AWAY,
            Self::RegistryRefused { .. } | Self::SchemaMissing { .. } => codes::REGISTRY_REFUSED,
            Self::SchemaUnfit { .. } => codes::SCHEMA_UNFIT,
            Self::LedgerBeside { .. } => codes::LEDGER_BESIDE,
            Self::Letter { .. } => codes::LETTER_UNREADABLE,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config { .. } => "Correct the `kafka:` section of the source.".to_owned(),
            Self::NoMatch { .. } => {
                "Check the regular expression: the whole name of a topic has to match it.".to_owned()
            }
            Self::Gap { split, last, .. } => format!(
                "Nothing else was lost, and the position stands. If the messages can be made again, write them to the \
                 topic and go on. To accept that they are missing, add `accept_gap: {{ \"{split}\": {} }}` to the \
                 source. Let the topic keep its messages longer than a run may stand still.",
                last.saturating_add(1)
            ),
            Self::Moved { .. } => "Run again: it says what is missing, or goes on behind the last commit.".to_owned(),
            Self::Recreated { .. } => {
                "Nothing of the new topic was moved. To move it from its beginning, give the pipeline another `name`; to go \
                 on with the old one, restore it."
                    .to_owned()
            }
            Self::ForeignPosition { .. } => {
                "Check that topic and pipeline are still those that the positions were made with.".to_owned()
            }
            Self::NoSchema { proposed: Some(proposed) } => {
                format!("The first messages fit this, which you may add to the source and mend:\n{proposed}")
            }
            Self::NoSchema { proposed: None } => {
                "Add `schema: { id: int64, note: string }`, or read `format: raw`.".to_owned()
            }
            Self::Bodies(_) | Self::Columns { .. } => "Correct `format` and `schema` of the source.".to_owned(),
            Self::RegistryAway { .. } => {
                "Nothing was lost. Check `url` under `registry`, then run again: it goes on behind the last commit."
                    .to_owned()
            }
            Self::RegistryRefused { .. } | Self::SchemaMissing { .. } => {
                "Check the subject (`TOPIC-value`, or `schema_id`) and `user` and `password` under `registry`."
                    .to_owned()
            }
            Self::SchemaUnfit { .. } => {
                "Name another registered schema with `schema_id`, or read `format: raw`.".to_owned()
            }
            Self::LedgerBeside { .. } => {
                "Nothing was moved. Leave `ledger` out, or write to a destination that keeps the identities itself \
                 (PostgreSQL, MySQL, SQLite, Redis)."
                    .to_owned()
            }
            Self::Letter { .. } => "Correct `schema` so that it fits, or drop the letter.".to_owned(),
        }
    }
}

impl From<ReadFault> for SourceError {
    fn from(fault: ReadFault) -> Self {
        match fault {
            // What is missing is told when the split is opened again.
            ReadFault::Moved { .. } | ReadFault::RegistryAway { .. } => Self::unavailable(fault),
            other => Self::stop(other),
        }
    }
}
