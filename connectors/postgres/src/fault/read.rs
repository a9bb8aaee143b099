use hapax_engine::fault::{Fault, SourceError};
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::SplitId;

use crate::address::Server;
use crate::codes::NO_TABLE;
use crate::source::codes;

/// A table or query could not be read as asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The configuration contradicts itself.
    #[error("the postgres source is not configured: {0}")]
    Config(&'static str),
    /// There is no such table.
    #[error("{server} has no table or view {table}")]
    NoTable {
        /// Where.
        server: Server,
        /// Which, in SQL.
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
    /// Rows without a cursor.
    #[error("rows of {of} have no {column}: a cursor cannot pass a NULL")]
    NullCursors {
        /// The table or query.
        of: String,
        /// The cursor.
        column: String,
    },
    /// A position of something else.
    #[error("the stored position of {split} was not made by this reading of {of}")]
    ForeignPosition {
        /// The split.
        split: SplitId,
        /// The table or query.
        of: String,
    },
    /// Rows stand in other places now.
    #[error(
        "{table} was written anew since {split} was read (VACUUM FULL, CLUSTER, TRUNCATE or a changed type)"
    )]
    Rewritten {
        /// The split.
        split: SplitId,
        /// The table.
        table: String,
    },
    /// The query does not run.
    #[error("the query cannot be read: {reason}")]
    BadQuery {
        /// Why.
        reason: String,
    },
    /// Equal keys.
    #[error("two rows of {of} have the same key, {key}")]
    KeyTied {
        /// The view or query.
        of: String,
        /// The key and its value.
        key: String,
    },
    /// A dead letter that is not a record any more.
    #[error("dead letter {place} cannot be read again: {reason}")]
    Letter {
        /// Where it stood.
        place: Place,
        /// Why.
        reason: String,
    },
    /// Nothing tells rows apart.
    #[error("{of} has no primary key, and no unique index over columns that are NOT NULL")]
    NoRowKey {
        /// The table.
        of: String,
    },
    /// A cursor without a horizon, or a mark that cannot be set.
    #[error("column {column:?} of type {of_type} cannot be a {role}: {reason}")]
    Unfit {
        /// The column.
        column: String,
        /// Its type.
        of_type: String,
        /// Cursor or mark.
        role: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// A replica shows transactions later than they committed.
    #[error("{server} is a replica: what is still open at its primary cannot be seen there")]
    Replica {
        /// Which server.
        server: Server,
    },
    /// Other sessions' transactions are hidden.
    #[error("user {} does not see at {server} when other sessions' transactions began", server.user)]
    SeesNoTransactions {
        /// Which server.
        server: Server,
        /// The statement that mends it.
        grant: String,
    },
    /// A prepared transaction is open.
    #[error(
        "transaction {gid:?} at {server} is prepared since {since} and neither committed nor rolled back"
    )]
    HeldBack {
        /// Which server.
        server: Server,
        /// Its name.
        gid: String,
        /// Since when.
        since: String,
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
    /// The position names a transaction that the server has not begun.
    #[error(
        "the stored position of {split} stands at transaction {xid}, and the server has only come to {now}"
    )]
    Ahead {
        /// The split.
        split: SplitId,
        /// Of the position.
        xid: String,
        /// The server's next one.
        now: String,
    },
    /// The clock of the server went back.
    #[error("the stored position of {split} stands at {stood}, and the clock of {server} at {now}")]
    ClockBack {
        /// The split.
        split: SplitId,
        /// Which server.
        server: Server,
        /// Of the position.
        stood: String,
        /// The server's time.
        now: String,
    },
    /// The server sent something else than rows.
    #[error("the rows of {of} do not have the form they should have")]
    Malformed {
        /// The table or query.
        of: String,
    },
    /// The columns are others now.
    #[error("the columns of {of} have other types than when the run began")]
    Altered {
        /// The table or query.
        of: String,
    },
    /// Arrow refused a batch.
    #[error("the rows of {of} make no batch")]
    Batch {
        /// The table or query.
        of: String,
        /// Its words.
        source: arrow::error::ArrowError,
    },
}

impl Fault for ReadFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) => codes::CONFIG,
            Self::NoTable { .. } => NO_TABLE,
            Self::NoColumn { .. } => codes::NO_COLUMN,
            Self::NullCursors { .. } => codes::NULL_CURSOR,
            Self::ForeignPosition { .. } => codes::FOREIGN_POSITION,
            Self::Rewritten { .. } => codes::REWRITTEN,
            Self::BadQuery { .. } => codes::BAD_QUERY,
            Self::KeyTied { .. } => codes::KEY_TIED,
            Self::Letter { .. } => codes::LETTER_UNREADABLE,
            Self::NoRowKey { .. } => codes::NO_ROW_KEY,
            Self::Unfit { .. } => codes::COLUMN_UNFIT,
            Self::Replica { .. } => codes::REPLICA,
            Self::SeesNoTransactions { .. } => codes::SEES_NO_TRANSACTIONS,
            Self::HeldBack { .. } => codes::HELD_BACK,
            Self::MarkLost { .. } => codes::MARK_LOST,
            Self::Ahead { .. } => codes::AHEAD,
            Self::ClockBack { .. } => codes::CLOCK_BACK,
            Self::Altered { .. } => codes::ALTERED,
            Self::Malformed { .. } | Self::Batch { .. } => codes::MALFORMED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => {
                "Give `table` or `query`; with `read: incremental` a `cursor`, with `read: marked` a `mark`.".into()
            }
            Self::NoTable { .. } => {
                "Check the name: letters are not folded to lower case. `psql -c '\\dt *.*'` lists the tables.".into()
            }
            Self::NoColumn { known, .. } => format!("The columns are {known}."),
            Self::NullCursors { column, .. } => {
                format!("Fill {column}, and declare it NOT NULL; or read a query that leaves those rows out.")
            }
            Self::ForeignPosition { .. } => {
                "Give the pipeline another `name` to start from the beginning, or restore what it read before.".into()
            }
            Self::Rewritten { .. } => "Rows stand in other places than they did, so the position means nothing any more. Give the \
                 pipeline another `name` and write with `upsert` or `ignore` by a key, so that nothing is moved twice."
                .into(),
            Self::BadQuery { .. } => "Give one SELECT, without parameters; try it in `psql`.".into(),
            Self::KeyTied { .. } => "Name as `key` the columns by which no two rows are the same.".into(),
            Self::Letter { .. } => "Mend the record at its source, or drop the dead letter.".into(),
            Self::NoRowKey { .. } => "Give the table a primary key; of a view or a query, name its columns as `key`.".into(),
            Self::Unfit { role: "mark", .. } => {
                "A mark is a timestamp (NULL until it is set), a boolean, or text with `mark_from` and `mark_to`.".into()
            }
            Self::Unfit { .. } => "A cursor is an xid8 column (`DEFAULT pg_current_xact_id()`, and a trigger for updates), or a \
                 timestamp with time zone."
                .into(),
            Self::Replica { .. } => "Name the primary; a replica can be read with `read: snapshot`.".into(),
            Self::SeesNoTransactions { grant, .. } => format!("Run `{grant}`."),
            Self::HeldBack { gid, .. } => {
                format!("COMMIT PREPARED or ROLLBACK PREPARED {gid:?}, and run again: nothing was passed over.")
            }
            Self::MarkLost { .. } => {
                "Something takes rows away past their lock, a trigger for instance. Nothing was marked; what arrived is in \
                 the ledger."
                    .into()
            }
            Self::Ahead { .. } => "The table was restored into another server, whose transactions are numbered anew. Give the \
                 pipeline another `name` and write with `upsert` or `ignore` by a key."
                .into(),
            Self::ClockBack { .. } => "Set the server's clock right, and give the rows that were written meanwhile a new time: they lie \
                 behind the position. Nothing was moved."
                .into(),
            Self::Altered { .. } => "Run again: it reads the columns as they are now.".into(),
            Self::Malformed { .. } | Self::Batch { .. } => "Run again. If it stays, this is a defect: please report it.".into(),
        }
    }
}

impl From<ReadFault> for SourceError {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::HeldBack { .. } => Self::unavailable(fault),
            _ => Self::stop(fault),
        }
    }
}
