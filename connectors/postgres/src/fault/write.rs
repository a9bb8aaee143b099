//! Why records cannot be written as asked.

use hapax_engine::fault::{Fault, SinkError};
use hapax_protocol::code::Code;
use hapax_protocol::position::SplitId;

use crate::address::Server;
use crate::codes;
use crate::name::quoted;

/// Records could not be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault {
    /// The configuration contradicts itself.
    #[error("the postgres sink is not configured: {0}")]
    Config(&'static str),
    /// A name that PostgreSQL would cut off.
    #[error("the name {name:?} is longer than the 63 bytes PostgreSQL keeps of one")]
    NameTooLong {
        /// The name.
        name: String,
    },
    /// Another definition made the positions.
    #[error("the positions of pipeline {pipeline} in {server} were made by another definition of it")]
    OtherDefinition {
        /// The pipeline.
        pipeline: String,
        /// Where.
        server: Server,
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
    /// No table, and none may be created.
    #[error("there is no table {table}, and `create` is false")]
    NoTable {
        /// Which.
        table: String,
    },
    /// No schema to create tables in.
    #[error("{server} has no schema {schema}")]
    NoSchema {
        /// Where.
        server: Server,
        /// Which.
        schema: String,
    },
    /// The table lacks a column.
    #[error("table {table} has no column {column:?}")]
    ColumnMissing {
        /// The table, in SQL.
        table: String,
        /// The record's column.
        column: String,
        /// What its type would be.
        declared: String,
    },
    /// The table demands a column.
    #[error("table {table} demands {column:?} (NOT NULL, no default), which the records do not have")]
    ColumnDemanded {
        /// The table, in SQL.
        table: String,
        /// The table's column.
        column: String,
    },
    /// A type that would change values.
    #[error(
        "column {column:?} of table {table} is {found}, which would not keep {data_type} values as they are"
    )]
    ColumnType {
        /// The table, in SQL.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// The type of the records.
        data_type: String,
        /// The type it should have.
        declared: String,
    },
    /// The table's column computes itself.
    #[error("column {column:?} of table {table} is generated: it cannot be written")]
    Generated {
        /// The table, in SQL.
        table: String,
        /// The column.
        column: String,
    },
    /// A type that PostgreSQL cannot hold.
    #[error("column {column:?} has the type {data_type}, which PostgreSQL cannot hold")]
    TypeUnheld {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// Two columns of one name.
    #[error("the records have two columns {name:?}")]
    SameName {
        /// The name.
        name: String,
    },
    /// A column could not be turned into what PostgreSQL takes.
    #[error("column {column:?} could not be converted")]
    Conversion {
        /// The column.
        column: String,
        /// Arrow's words.
        source: arrow::error::ArrowError,
    },
    /// No unique index on the key.
    #[error("table {table} has no unique index on ({key}), which `write` needs")]
    NoUniqueIndex {
        /// The table, in SQL.
        table: String,
        /// The key.
        key: String,
        /// The statement that makes one.
        create: String,
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
    /// A view, or what else is no table.
    #[error("{table} is a {kind}, not a table that keeps what is written to it")]
    NotATable {
        /// The name, in SQL.
        table: String,
        /// What it is.
        kind: &'static str,
    },
    /// A commit whose answer was lost.
    #[error("PostgreSQL at {server} did not say whether the commit of {split} took effect")]
    CommitUnknown {
        /// Where.
        server: Server,
        /// The split.
        split: SplitId,
        /// What the system says.
        source: tokio_postgres::Error,
    },
    /// Somebody altered the table.
    #[error("columns of table {table} were altered while the run went on: the open commit was taken back")]
    Altered {
        /// The table, in SQL.
        table: String,
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
            Self::Config(_) | Self::NameTooLong { .. } => codes::CONFIG,
            Self::OtherDefinition { .. } => codes::OTHER_DEFINITION,
            Self::Fenced { .. } => codes::FENCED,
            Self::Diverged { .. } => codes::DIVERGED,
            Self::NoTable { .. } | Self::NoSchema { .. } => codes::NO_TABLE,
            Self::ColumnMissing { .. } => codes::COLUMN_MISSING,
            Self::ColumnDemanded { .. } => codes::COLUMN_DEMANDED,
            Self::ColumnType { .. }
            | Self::Generated { .. }
            | Self::TypeUnheld { .. }
            | Self::SameName { .. }
            | Self::Conversion { .. } => codes::COLUMN_TYPE,
            Self::NoUniqueIndex { .. } => codes::NO_UNIQUE_INDEX,
            Self::NoKey { .. } | Self::KeyColumn { .. } => codes::NO_KEY,
            Self::NotATable { .. } => codes::NOT_A_TABLE,
            Self::CommitUnknown { .. } => codes::COMMIT_UNKNOWN,
            Self::Altered { .. } => codes::ALTERED,
            Self::TransactionLost { .. } => codes::TRANSACTION_LOST,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "Give the URL of a database and the name of a table.".into(),
            Self::NameTooLong { .. } => "Give it a shorter name; `transform` renames columns.".into(),
            Self::OtherDefinition { .. } => {
                "Nothing was lost. Give the changed pipeline another `name` to start from the \
                 beginning, or restore the file as it was to go on."
                    .into()
            }
            Self::Fenced { .. } => "Let the other run finish. This one wrote nothing more.".into(),
            Self::Diverged { .. } => {
                "Someone else wrote `_hapax_positions`. Run again: it goes on where the table says.".into()
            }
            Self::NoTable { .. } => "Create it, or leave `create: false` out.".into(),
            Self::NoSchema { schema, .. } => {
                format!("Run `CREATE SCHEMA {}`, or name another.", quoted(schema))
            }
            Self::ColumnMissing { table, column, declared } => format!(
                "Write `schema_changes: add`, run `ALTER TABLE {table} ADD COLUMN {} {declared}`, or leave the column \
                 out with `transform`.",
                quoted(column)
            ),
            Self::ColumnDemanded { column, .. } => {
                format!("Give {column} a default in the table, or a value with `transform`.")
            }
            Self::ColumnType { declared, .. } => {
                format!("Give the column the type {declared}, or cast it with `transform`.")
            }
            Self::Generated { .. } => {
                "Leave the column out with `transform`; one that numbers itself takes the records' numbers in an upsert once it is GENERATED BY DEFAULT.".into()
            }
            Self::TypeUnheld { .. } | Self::Conversion { .. } => {
                "Cast the column with `transform`, or leave it out.".into()
            }
            Self::SameName { .. } => "Rename one with `transform`.".into(),
            Self::NoUniqueIndex { create, .. } => format!("Run `{create}`."),
            Self::NoKey { .. } => "Give `identity: { key: [...] }`, or choose `write: append`.".into(),
            Self::KeyColumn { .. } => "Name a column of the records, or let `transform` select it.".into(),
            Self::NotATable { .. } => "Name a table.".into(),
            Self::CommitUnknown { .. } => {
                "Run again: Hapax looks up what was committed and goes on from there.".into()
            }
            Self::Altered { .. } => "Nothing was lost. Run again: it holds the records against the columns as they are now.".into(),
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
