//! What can go wrong, by operation, and what a person does about it.

use std::path::PathBuf;

use hapax_engine::fault::{Fault, SinkError, SourceError};
use hapax_protocol::code::Code;
use hapax_protocol::position::SplitId;
use rusqlite::ErrorCode;

use crate::codes;

/// A database could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseFault {
    /// There is no file.
    #[error("there is no database at {}", path.display())]
    NoFile {
        /// Where.
        path: PathBuf,
    },
    /// The file is something else, or damaged.
    #[error("{} is not a SQLite database, or is damaged", path.display())]
    NotADatabase {
        /// Where.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// Another process has the lock.
    #[error("{} is locked by someone else (waited {waited_s} s)", path.display())]
    Locked {
        /// Where.
        path: PathBuf,
        /// How long it waited, in seconds.
        waited_s: u64,
    },
    /// No space left.
    #[error("the disk of {} is full: the open commit was taken back", path.display())]
    DiskFull {
        /// Where.
        path: PathBuf,
    },
    /// It may not be opened or written.
    #[error("{} cannot be opened or written", path.display())]
    NotWritable {
        /// Where.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// The directory it should be created in is missing.
    #[error("{} cannot be created: its directory does not exist", path.display())]
    NoDirectory {
        /// Where.
        path: PathBuf,
    },
    /// Everything else SQLite says.
    #[error("SQLite failed on {} ({doing})", path.display())]
    Failed {
        /// Where.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// The work on the database ended without an answer.
    #[error("the work on {} was interrupted", path.display())]
    Interrupted {
        /// Where.
        path: PathBuf,
        /// How.
        source: tokio::task::JoinError,
    },
}

impl DatabaseFault {
    /// Sorts what SQLite said.
    pub(crate) fn of(path: &std::path::Path, doing: &'static str, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Locked { path, waited_s: crate::connection::BUSY_TIMEOUT_S }
            }
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::NotADatabase { path, source },
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::NotWritable { path, source }
            }
            _ => Self::Failed { path, doing, source },
        }
    }

    /// Whether trying again may help.
    fn passes(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }
}

impl Fault for DatabaseFault {
    fn code(&self) -> Code {
        match self {
            Self::NoFile { .. } => codes::NO_FILE,
            Self::NotADatabase { .. } => codes::NOT_A_DATABASE,
            Self::Locked { .. } => codes::LOCKED,
            Self::DiskFull { .. } => codes::DISK_FULL,
            Self::NotWritable { .. } | Self::NoDirectory { .. } => codes::NOT_WRITABLE,
            Self::Failed { .. } | Self::Interrupted { .. } => codes::DATABASE_FAILED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NoFile { .. } => "Check the path; a relative one starts where hapax was started.".into(),
            Self::NotADatabase { .. } => {
                "Check the path. For a database: `sqlite3 FILE 'PRAGMA integrity_check'` says what is damaged.".into()
            }
            Self::Locked { .. } => {
                "Find the program that writes to it (`fuser FILE`), let it finish, and run again: nothing is lost.".into()
            }
            Self::DiskFull { .. } => "Make room and run again: it goes on behind the last commit.".into(),
            Self::NotWritable { .. } => {
                "The directory must exist and, like the file, be writable: SQLite keeps two files beside the database."
                    .into()
            }
            Self::NoDirectory { .. } => "Create the directory, or check the path.".into(),
            Self::Failed { .. } | Self::Interrupted { .. } => {
                "Read SQLite's words below, mend the cause, and run again: it goes on behind the last commit.".into()
            }
        }
    }
}

impl From<DatabaseFault> for SourceError {
    fn from(fault: DatabaseFault) -> Self {
        if fault.passes() { Self::unavailable(fault) } else { Self::stop(fault) }
    }
}

impl From<DatabaseFault> for SinkError {
    fn from(fault: DatabaseFault) -> Self {
        if fault.passes() { Self::unavailable(fault) } else { Self::stop(fault) }
    }
}

/// A table or query could not be read as asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The configuration contradicts itself.
    #[error("the sqlite source is not configured: {0}")]
    Config(&'static str),
    /// There is no such table.
    #[error("{} has no table {table:?}", path.display())]
    NoTable {
        /// Where.
        path: PathBuf,
        /// Which.
        table: String,
    },
    /// There is no such column.
    #[error("{of} has no column {column:?}, which `{key}` names")]
    NoColumn {
        /// The table or query.
        of: String,
        /// The name looked for.
        column: String,
        /// The key in the file.
        key: &'static str,
        /// The columns there are.
        known: String,
    },
    /// An unknown type name.
    #[error("`schema` gives column {column:?} the type {name:?}, which does not exist")]
    NoType {
        /// The column.
        column: String,
        /// The name.
        name: String,
    },
    /// Rows without a cursor.
    #[error("{rows} rows of {of} have no {column}: a cursor cannot pass a NULL")]
    NullCursors {
        /// The table or query.
        of: String,
        /// The cursor.
        column: String,
        /// How many.
        rows: i64,
    },
    /// A position of something else.
    #[error("the stored position of {split} was not made by this reading of {of}")]
    ForeignPosition {
        /// The split.
        split: SplitId,
        /// The table or query.
        of: String,
    },
    /// VACUUM renumbered the rows, or the last row read was changed.
    #[error("the last row read of {split} (row id {rowid}) is gone or another row stands there")]
    RowsMoved {
        /// The split.
        split: SplitId,
        /// The row id.
        rowid: i64,
    },
    /// The query does not run.
    #[error("the query cannot be read: {reason}")]
    BadQuery {
        /// Why.
        reason: String,
    },
    /// Equal cursors in a query.
    #[error("two rows of the query have the same {column}, {value}")]
    CursorTied {
        /// The cursor.
        column: String,
        /// Its value.
        value: String,
    },
    /// A column cannot be read as the type asked for.
    #[error("column {column:?} cannot be read as {data_type}")]
    Unreadable {
        /// The column.
        column: String,
        /// The type.
        data_type: String,
        /// Arrow's words.
        source: arrow::error::ArrowError,
    },
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
            Self::NoTable { .. } => codes::NO_TABLE,
            Self::NoColumn { .. } => codes::NO_COLUMN,
            Self::NoType { .. } => codes::NO_TYPE,
            Self::NullCursors { .. } => codes::NULL_CURSOR,
            Self::ForeignPosition { .. } => codes::FOREIGN_POSITION,
            Self::RowsMoved { .. } => codes::ROWS_MOVED,
            Self::BadQuery { .. } => codes::BAD_QUERY,
            Self::CursorTied { .. } => codes::CURSOR_TIED,
            Self::Unreadable { .. } => codes::VALUE_MISFIT,
            Self::Letter { .. } => codes::LETTER_UNREADABLE,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "Give `table` or `query`, and a `cursor` with `read: incremental`.".into(),
            Self::NoTable { .. } => "`sqlite3 FILE .tables` lists the tables there are.".into(),
            Self::NoColumn { known, .. } => format!("The columns are {known}."),
            Self::NoType { .. } => {
                "The types are boolean, int64, float64, decimal(p,s), string, binary, date, timestamp, timestamptz."
                    .into()
            }
            Self::NullCursors { column, .. } => {
                format!("Fill {column}, and declare it NOT NULL; or read a query that leaves those rows out.")
            }
            Self::ForeignPosition { .. } => {
                "Give the pipeline another `name` to start from the beginning, or restore what it read before.".into()
            }
            Self::RowsMoved { .. } => "Without an INTEGER PRIMARY KEY, VACUUM renumbers rows. Give the table one, and the \
                 pipeline another `name` with `write: upsert` or `ignore`, so that nothing is moved twice."
                .into(),
            Self::BadQuery { .. } => "Give one SELECT, without parameters; try it in `sqlite3 FILE`.".into(),
            Self::CursorTied { .. } => "The cursor of a query must be unique: choose a unique column.".into(),
            Self::Unreadable { .. } => "Give the column another type under `schema`.".into(),
            Self::Letter { .. } => "Mend the record at its source, or drop the dead letter.".into(),
        }
    }
}

impl From<ReadFault> for SourceError {
    fn from(fault: ReadFault) -> Self {
        Self::stop(fault)
    }
}

/// Records could not be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault {
    /// The configuration contradicts itself.
    #[error("the sqlite sink is not configured: {0}")]
    Config(&'static str),
    /// Another definition made the positions.
    #[error("the positions of pipeline {pipeline} in {} were made by another definition of it", path.display())]
    OtherDefinition {
        /// The pipeline.
        pipeline: String,
        /// Where.
        path: PathBuf,
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
        /// What its declared type would be.
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
    /// A declared type would change values.
    #[error(
        "column {column:?} of table {table:?} is declared {found:?}, which would not keep {data_type} values as they are"
    )]
    ColumnType {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The type it is declared as.
        found: String,
        /// The type of the records.
        data_type: String,
        /// The type it should be declared as.
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
    /// A view or a virtual table.
    #[error("{table:?} is a {kind}, not a table")]
    NotATable {
        /// The name.
        table: String,
        /// What it is.
        kind: String,
    },
    /// A type that SQLite cannot hold.
    #[error("column {column:?} has the type {data_type}, which SQLite cannot hold")]
    TypeUnheld {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// Names that differ only in case.
    #[error("columns {first:?} and {second:?} have the same name in SQLite")]
    SameName {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A column could not be turned into what SQLite takes.
    #[error("column {column:?} could not be converted")]
    Conversion {
        /// The column.
        column: String,
        /// Arrow's words.
        source: arrow::error::ArrowError,
    },
    /// A commit whose answer was lost.
    #[error("SQLite did not say whether the commit of {split} took effect")]
    CommitUnknown {
        /// The split.
        split: SplitId,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// The ledger failed.
    #[error("the ledger of identities failed: {reason}")]
    Ledger {
        /// How.
        reason: String,
    },
    /// The transaction is gone.
    #[error("the open commit of {split} ended before it was committed: it was taken back")]
    TransactionLost {
        /// The split.
        split: SplitId,
    },
    /// Nowhere to put dead letters.
    #[error("{letters} records have to be set aside, and `positions: false` leaves no table for them")]
    NoPlaceForLetters {
        /// How many.
        letters: usize,
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
            Self::NoUniqueIndex { .. } => codes::NO_UNIQUE_INDEX,
            Self::NoKey { .. } | Self::KeyColumn { .. } => codes::NO_KEY,
            Self::NotATable { .. } => codes::NOT_A_TABLE,
            Self::TypeUnheld { .. } | Self::Conversion { .. } => codes::TYPE_UNHELD,
            Self::SameName { .. } => codes::SAME_NAME,
            Self::CommitUnknown { .. } => codes::COMMIT_UNKNOWN,
            Self::Ledger { .. } => codes::LEDGER_FAILED,
            Self::TransactionLost { .. } => codes::TRANSACTION_LOST,
            Self::NoPlaceForLetters { .. } => codes::NO_PLACE_FOR_LETTERS,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "Give the path of a database file and the name of a table.".into(),
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
                "Run `ALTER TABLE {} ADD COLUMN {} {declared}`, or leave the column out with `transform`.",
                crate::connection::quoted(table),
                crate::connection::quoted(column)
            ),
            Self::ColumnDemanded { column, .. } => {
                format!("Give {column} a default in the table, or a value with `transform`.")
            }
            Self::ColumnType { declared, .. } => {
                format!("Declare it {declared}, or cast the column with `transform`.")
            }
            Self::Generated { .. } => "Leave the column out with `transform`.".into(),
            Self::NoUniqueIndex { create, .. } => format!("Run `{create}`."),
            Self::NoKey { .. } => "Give `identity: { key: [...] }`, or choose `write: append`.".into(),
            Self::KeyColumn { .. } => "Name a column of the records, or let `transform` select it.".into(),
            Self::NotATable { .. } => "Name a table.".into(),
            Self::TypeUnheld { .. } | Self::Conversion { .. } => {
                "Cast the column with `transform`, or leave it out.".into()
            }
            Self::SameName { .. } => "SQLite does not tell `a` from `A`: rename one with `transform`.".into(),
            Self::CommitUnknown { .. } => {
                "Run again: Hapax looks up what was committed and goes on from there.".into()
            }
            Self::Ledger { .. } => {
                "Nothing of the open commit took effect. Run again; if it stays, keep the file and report it."
                    .into()
            }
            Self::TransactionLost { .. } => "Run again: it goes on behind the last commit.".into(),
            Self::NoPlaceForLetters { .. } => "Remove `positions: false`.".into(),
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
