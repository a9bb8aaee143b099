//! Tables and queries that cannot be read as asked.

use hapax_engine::fault::{Fault, SourceError};
use hapax_protocol::code::Code;
use hapax_protocol::position::SplitId;

use crate::codes;

/// A table or query could not be read as asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The configuration contradicts itself.
    #[error("the mysql source is not configured: {0}")]
    Config(&'static str),
    /// There is no such table.
    #[error("{place} has no table {table:?}")]
    NoTable {
        /// Which database.
        place: String,
        /// Which table.
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
        rows: u64,
    },
    /// A position of something else.
    #[error("the stored position of {split} was not made by this reading of {of}")]
    ForeignPosition {
        /// The split.
        split: SplitId,
        /// The table or query.
        of: String,
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
    /// The column cannot mark rows.
    #[error("{column:?} of {of} cannot mark rows: {reason}")]
    NoMark {
        /// The table.
        of: String,
        /// The column.
        column: String,
        /// Why.
        reason: &'static str,
    },
    /// Rows went away under their lock.
    #[error("{marked} of {locked} rows of {of} could be marked: the mark was taken back")]
    MarkLost {
        /// The table.
        of: String,
        /// How many were locked.
        locked: usize,
        /// How many were marked.
        marked: u64,
    },
    /// A row may still become visible behind what was read.
    #[error("nothing tells how far {of} can be read by {column}: {reason}")]
    NoHorizon {
        /// The table.
        of: String,
        /// The cursor.
        column: String,
        /// Why.
        reason: String,
        /// What mends it.
        mend: String,
    },
}

impl Fault for ReadFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) | Self::NoMark { .. } => codes::CONFIG,
            Self::MarkLost { .. } => codes::DATABASE_FAILED,
            Self::NoTable { .. } => codes::NO_TABLE,
            Self::NoColumn { .. } => codes::NO_COLUMN,
            Self::NoType { .. } => codes::NO_TYPE,
            Self::NullCursors { .. } => codes::NULL_CURSOR,
            Self::ForeignPosition { .. } => codes::FOREIGN_POSITION,
            Self::BadQuery { .. } => codes::BAD_QUERY,
            Self::CursorTied { .. } => codes::CURSOR_TIED,
            Self::Unreadable { .. } => codes::VALUE_MISFIT,
            Self::Letter { .. } => codes::LETTER_UNREADABLE,
            Self::NoHorizon { .. } => codes::NO_HORIZON,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => {
                "Give `table` or `query`; with `read: incremental` a `cursor`, with `read: marked` a `mark`.".into()
            },
            Self::NoMark { .. } => {
                "A TIMESTAMP or DATETIME that is NULL in rows that wait, a TINYINT(1), or a text or ENUM with \
                 `mark_from` and `mark_to`."
                    .into()
            }
            Self::MarkLost { .. } => {
                "Something takes the mark away past the lock, a trigger for instance. Nothing was marked; what arrived is \
                 in the ledger."
                    .into()
            }
            Self::NoTable { .. } => "`SHOW TABLES` lists the tables there are.".into(),
            Self::NoColumn { known, .. } => format!("The columns are {known}."),
            Self::NoType { .. } => {
                "The types are boolean, int64, float64, decimal(p,s), string, binary, date, timestamp, timestamptz."
                    .into()
            }
            Self::NullCursors { column, .. } => {
                format!("Fill {column}, and make it NOT NULL; or read a query that leaves those rows out.")
            }
            Self::ForeignPosition { .. } => {
                "Give the pipeline another `name` to start from the beginning, or restore what it read before.".into()
            }
            Self::BadQuery { .. } => "Give one SELECT; try it in a client first.".into(),
            Self::CursorTied { .. } => "The cursor of a query must be unique: choose a unique column.".into(),
            Self::Unreadable { .. } => "Give the column another type under `schema`.".into(),
            Self::Letter { .. } => "Mend the record at its source, or drop the dead letter.".into(),
            Self::NoHorizon { mend, .. } => mend.clone(),
        }
    }
}

impl From<ReadFault> for SourceError {
    fn from(fault: ReadFault) -> Self {
        Self::stop(fault)
    }
}
