//! The stable codes of what can go wrong with SQLite, each with a page in `docs/errors/`.

use hapax_protocol::code::Code;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code($number);)*
        /// All of them, in order.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    /// There is no database file at the path.
    NO_FILE = 300;
    /// The file is not a SQLite database, or a damaged one.
    NOT_A_DATABASE = 301;
    /// There is no such table.
    NO_TABLE = 302;
    /// Another process holds the database's lock.
    LOCKED = 303;
    /// The configuration of the connector contradicts itself.
    CONFIG = 304;
    /// The cursor or the schema names a column that is not there.
    NO_COLUMN = 305;
    /// Rows have no cursor.
    NULL_CURSOR = 306;
    /// A position was not made by this reader.
    FOREIGN_POSITION = 307;
    /// The row at the position is not the row that was read there.
    ROWS_MOVED = 308;
    /// A value does not fit the type of its column (a dead letter).
    VALUE_MISFIT = 309;
    /// The query cannot be run.
    BAD_QUERY = 310;
    /// An unknown type name in `schema`.
    NO_TYPE = 311;
    /// Two rows of a query have the same cursor.
    CURSOR_TIED = 312;
    /// A dead letter could not be read again.
    LETTER_UNREADABLE = 313;
    /// SQLite failed to read or write.
    DATABASE_FAILED = 314;
    /// The stored positions belong to another definition of the pipeline.
    OTHER_DEFINITION = 320;
    /// A later run has the lease.
    FENCED = 321;
    /// The stored position is not the one this run left.
    DIVERGED = 322;
    /// The table lacks a column that the records have.
    COLUMN_MISSING = 323;
    /// The table demands a column that the records do not have.
    COLUMN_DEMANDED = 324;
    /// A column's declared type would change the values.
    COLUMN_TYPE = 325;
    /// The table has no unique index on the key.
    NO_UNIQUE_INDEX = 326;
    /// `upsert` and `ignore` without key columns.
    NO_KEY = 327;
    /// The name is a view or a virtual table.
    NOT_A_TABLE = 328;
    /// A column has a type that SQLite cannot hold.
    TYPE_UNHELD = 329;
    /// Two columns have the same name in SQLite.
    SAME_NAME = 330;
    /// The disk is full.
    DISK_FULL = 331;
    /// The table refused a row (a dead letter).
    ROW_REFUSED = 333;
    /// SQLite cannot hold a value (a dead letter).
    VALUE_UNHELD = 334;
    /// A key column is NULL (a dead letter).
    KEY_NULL = 335;
    /// Nobody knows whether a commit took effect.
    COMMIT_UNKNOWN = 336;
    /// The ledger failed.
    LEDGER_FAILED = 337;
    /// The open transaction ended before its commit.
    TRANSACTION_LOST = 338;
    /// Dead letters, and no table to keep them in.
    NO_PLACE_FOR_LETTERS = 339;
    /// The database cannot be opened or written.
    NOT_WRITABLE = 340;
}
