//! Records that cannot be written as asked.

use hapax_engine::fault::{Fault, SinkError};
use hapax_protocol::code::Code;
use hapax_protocol::position::SplitId;

use crate::client::quoted;
use crate::codes;

/// Records could not be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault {
    /// The configuration contradicts itself.
    #[error("the mysql sink is not configured: {0}")]
    Config(&'static str),
    /// Another definition made the positions.
    #[error("the positions of pipeline {pipeline} in {place} were made by another definition of it")]
    OtherDefinition {
        /// The pipeline.
        pipeline: String,
        /// Which database.
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
    /// The stored position is not the expected one.
    #[error("the stored position of {split} is not the one this run left there: nothing was committed")]
    Diverged {
        /// The split.
        split: SplitId,
    },
    /// The table lacks a column.
    #[error("table {table:?} has no column {column:?}")]
    ColumnMissing {
        /// The table.
        table: String,
        /// The record's column.
        column: String,
        /// What its type would be.
        declared: String,
    },
    /// The table demands a column.
    #[error("table {table:?} demands {column:?} (NOT NULL, no default), which the records do not have")]
    ColumnDemanded {
        /// The table.
        table: String,
        /// The table's column.
        column: String,
    },
    /// A type would change values.
    #[error(
        "column {column:?} of table {table:?} is {found}, which would not keep {data_type} values as they are"
    )]
    ColumnType {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The type it has.
        found: String,
        /// The type of the records.
        data_type: String,
        /// The type it should have.
        declared: String,
    },
    /// The table's column computes itself.
    #[error("column {column:?} of table {table:?} is generated: it cannot be written")]
    Generated {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// No unique index on the key.
    #[error("table {table:?} has no unique index on ({key}), which `write` needs")]
    NoUniqueIndex {
        /// The table.
        table: String,
        /// The key.
        key: String,
        /// The statement that makes one.
        create: String,
    },
    /// More than one unique index.
    #[error(
        "table {table:?} is unique by ({key}), but also by ({other}): a record could replace the row of another key"
    )]
    SeveralKeys {
        /// The table.
        table: String,
        /// The key.
        key: String,
        /// The columns of the other index.
        other: String,
    },
    /// A key in which different texts are one.
    #[error(
        "the key column {column:?} of table {table:?} has the collation {collation}, which takes different texts for \
         one key (`a` and `A`, say): rows of the source would be merged"
    )]
    KeyCollation {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its collation.
        collation: String,
        /// The statement that gives it another.
        alter: String,
    },
    /// Somebody altered the table since it was looked at.
    #[error(
        "table {table:?} was altered while the run went on ({what}): nothing of the open commit was kept"
    )]
    TableAltered {
        /// The table.
        table: String,
        /// What is not as it was.
        what: String,
    },
    /// No key columns.
    #[error("`write: {write}` needs the columns that identify a record")]
    NoKey {
        /// `upsert` or `ignore`.
        write: &'static str,
    },
    /// A key column that the records do not have.
    #[error("the key names column {column:?}, which the records do not have")]
    KeyColumn {
        /// The column.
        column: String,
    },
    /// A view.
    #[error("{table:?} is a {kind}, not a table")]
    NotATable {
        /// The name.
        table: String,
        /// What it is.
        kind: String,
    },
    /// An engine that cannot take back.
    #[error("table {table:?} is kept by the engine {engine}, which has no transactions")]
    Engine {
        /// The table.
        table: String,
        /// Its engine.
        engine: String,
    },
    /// A type that MySQL cannot hold.
    #[error("column {column:?} has the type {data_type}, which MySQL cannot hold")]
    TypeUnheld {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// Names that differ only in case.
    #[error("columns {first:?} and {second:?} have the same name in MySQL")]
    SameName {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A name beyond the limit.
    #[error("the name {name:?} is longer than {max} {unit}")]
    LongName {
        /// The beginning of the name.
        name: String,
        /// How long it may be.
        max: usize,
        /// Of what.
        unit: &'static str,
    },
    /// A column could not be turned into what MySQL takes.
    #[error("column {column:?} could not be converted")]
    Conversion {
        /// The column.
        column: String,
        /// Arrow's words.
        source: arrow::error::ArrowError,
    },
    /// A commit whose answer was lost.
    #[error("the server did not say whether the commit of {split} took effect")]
    CommitUnknown {
        /// The split.
        split: SplitId,
        /// What was heard instead.
        source: mysql_async::Error,
    },
    /// The transaction is gone.
    #[error("the open commit of {split} ended before it was committed: it was taken back")]
    TransactionLost {
        /// The split.
        split: SplitId,
    },
}

impl Fault for WriteFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) => codes::CONFIG,
            Self::OtherDefinition { .. } => codes::OTHER_DEFINITION,
            Self::Fenced { .. } => codes::FENCED,
            Self::Diverged { .. } => codes::DIVERGED,
            Self::ColumnMissing { .. } => codes::COLUMN_MISSING,
            Self::ColumnDemanded { .. } => codes::COLUMN_DEMANDED,
            Self::ColumnType { .. } | Self::Generated { .. } => codes::COLUMN_TYPE,
            // The range of codes is used up: these two are kinds of what stands there.
            Self::TableAltered { .. } => codes::COLUMN_TYPE,
            Self::NoUniqueIndex { .. } | Self::KeyCollation { .. } => codes::NO_UNIQUE_INDEX,
            Self::SeveralKeys { .. } => codes::SEVERAL_KEYS,
            Self::NoKey { .. } | Self::KeyColumn { .. } => codes::NO_KEY,
            Self::NotATable { .. } => codes::NOT_A_TABLE,
            Self::Engine { .. } => codes::ENGINE,
            Self::TypeUnheld { .. } | Self::Conversion { .. } => codes::TYPE_UNHELD,
            Self::SameName { .. } | Self::LongName { .. } => codes::NAME,
            Self::CommitUnknown { .. } => codes::COMMIT_UNKNOWN,
            Self::TransactionLost { .. } => codes::TRANSACTION_LOST,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "Give the `url` of a database and the name of a table.".into(),
            Self::OtherDefinition { .. } => {
                "Nothing was lost. Give the changed pipeline another `name` to start from the \
                 beginning, or restore the file as it was to go on."
                    .into()
            }
            Self::Fenced { .. } => "Let the other run finish. This one wrote nothing more.".into(),
            Self::Diverged { .. } => {
                "Someone else wrote `_hapax_positions`. Run again: it goes on where the table says.".into()
            }
            Self::ColumnMissing { table, column, declared } => format!(
                "Write `schema_changes: add`, run `ALTER TABLE {} ADD COLUMN {} {declared}`, or leave the column out \
                 with `transform`.",
                quoted(table),
                quoted(column)
            ),
            Self::ColumnDemanded { column, .. } => {
                format!("Give {column} a default in the table, or a value with `transform`.")
            }
            Self::ColumnType { declared, .. } => {
                format!("Make it {declared}, or cast the column with `transform`.")
            }
            Self::Generated { .. } => "Leave the column out with `transform`.".into(),
            Self::NoUniqueIndex { create, .. } => format!("Run `{create}`."),
            Self::KeyCollation { alter, .. } => {
                format!("Run `{alter}`, or write `accept_collation: true` if no two keys differ only so.")
            }
            Self::TableAltered { .. } => {
                "Run again: the table is looked at anew, and what does not fit it is refused.".into()
            }
            Self::SeveralKeys { .. } => {
                "Write into a table that is unique by the key alone, or choose `write: append`.".into()
            }
            Self::NoKey { .. } => "Give `identity: { key: [...] }`, or choose `write: append`.".into(),
            Self::KeyColumn { .. } => "Name a column of the records, or let `transform` select it.".into(),
            Self::NotATable { .. } => "Name a table.".into(),
            Self::Engine { table, .. } => format!("Run `ALTER TABLE {} ENGINE = InnoDB`.", quoted(table)),
            Self::TypeUnheld { .. } | Self::Conversion { .. } => {
                "Cast the column with `transform`, or leave it out.".into()
            }
            Self::SameName { .. } => "MySQL does not tell `a` from `A`: rename one with `transform`.".into(),
            Self::LongName { .. } => "Use a shorter one.".into(),
            Self::CommitUnknown { .. } => {
                "Run again: Hapax looks up what was committed and goes on from there.".into()
            }
            Self::TransactionLost { .. } => "Run again: it goes on behind the last commit.".into(),
        }
    }
}

impl From<WriteFault> for SinkError {
    fn from(fault: WriteFault) -> Self {
        match fault {
            WriteFault::Fenced { .. } | WriteFault::Diverged { .. } => Self::fenced(fault),
            WriteFault::TransactionLost { .. } => Self::unavailable(fault),
            other => Self::stop(other),
        }
    }
}
