//! The stable codes of what can go wrong with MySQL and MariaDB, each with a page in `docs/errors/`.

use hapax_protocol::code::Code;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code($number);)*
        /// All of them, in order.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    /// The URL cannot be read.
    BAD_URL = 560;
    /// The server does not know the user, or not with this password.
    WRONG_PASSWORD = 561;
    /// There is no such database.
    NO_DATABASE = 562;
    /// The user may not do what was asked.
    DENIED = 563;
    /// The server cannot be reached, or the connection ended.
    GONE = 564;
    /// The server's version is too old.
    TOO_OLD = 565;
    /// No encrypted connection as it was asked for.
    TLS = 566;
    /// Another transaction holds a lock, or two waited for each other.
    LOCKED = 567;
    /// The server's disk is full.
    DISK_FULL = 568;
    /// The server takes no writes.
    READ_ONLY = 569;
    /// The server failed in some other way.
    DATABASE_FAILED = 570;
    /// The configuration of the connector contradicts itself.
    CONFIG = 571;
    /// There is no such table.
    NO_TABLE = 572;
    /// The cursor or the schema names a column that is not there.
    NO_COLUMN = 573;
    /// An unknown type name in `schema`.
    NO_TYPE = 574;
    /// Rows have no cursor.
    NULL_CURSOR = 575;
    /// A position was not made by this reader.
    FOREIGN_POSITION = 576;
    /// A value does not fit the type of its column (a dead letter).
    VALUE_MISFIT = 577;
    /// The query cannot be run.
    BAD_QUERY = 578;
    /// Two rows of a query have the same cursor.
    CURSOR_TIED = 579;
    /// A dead letter could not be read again.
    LETTER_UNREADABLE = 580;
    /// No bound is known below which nothing can still commit.
    NO_HORIZON = 581;
    /// The stored positions belong to another definition of the pipeline.
    OTHER_DEFINITION = 582;
    /// A later run has the lease.
    FENCED = 583;
    /// The stored position is not the one this run left.
    DIVERGED = 584;
    /// The table lacks a column that the records have.
    COLUMN_MISSING = 585;
    /// The table demands a column that the records do not have.
    COLUMN_DEMANDED = 586;
    /// A column's type would change the values.
    COLUMN_TYPE = 587;
    /// The table has no unique index on the key.
    NO_UNIQUE_INDEX = 588;
    /// `upsert` and `ignore` without key columns.
    NO_KEY = 589;
    /// The name is a view.
    NOT_A_TABLE = 590;
    /// A column has a type that MySQL cannot hold.
    TYPE_UNHELD = 591;
    /// The table's engine has no transactions.
    ENGINE = 592;
    /// The table has several unique indexes, so what a key replaces is ambiguous.
    SEVERAL_KEYS = 593;
    /// The table refused a row (a dead letter).
    ROW_REFUSED = 594;
    /// MySQL cannot hold a value (a dead letter).
    VALUE_UNHELD = 595;
    /// A key column is NULL (a dead letter).
    KEY_NULL = 596;
    /// Nobody knows whether a commit took effect.
    COMMIT_UNKNOWN = 597;
    /// The open transaction ended before its commit.
    TRANSACTION_LOST = 598;
    /// A name that MySQL cannot hold, or not twice.
    NAME = 599;
}
