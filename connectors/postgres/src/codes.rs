//! The stable codes of what can go wrong with PostgreSQL, each with a page in `docs/errors/`.

use hapax_protocol::code::Code;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code($number);)*
        /// All of them, in order.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    /// The configuration of the connector contradicts itself, or the URL is none.
    CONFIG = 503;
    /// The server does not answer, or the connection to it was lost.
    UNREACHABLE = 504;
    /// The server does not let this user in.
    NOT_LET_IN = 505;
    /// There is no such database.
    NO_DATABASE = 506;
    /// The role lacks a privilege.
    DENIED = 507;
    /// No TLS as `sslmode` asks for it: no certificate, or one that does not verify.
    TLS = 508;
    /// The server's version is too old.
    TOO_OLD = 509;
    /// PostgreSQL failed at what it was asked to do.
    DATABASE_FAILED = 514;
    /// The server's disk is full.
    DISK_FULL = 515;
    /// The stored positions belong to another definition of the pipeline.
    OTHER_DEFINITION = 516;
    /// A later run has the lease.
    FENCED = 517;
    /// The stored position is not the one this run left.
    DIVERGED = 518;
    /// The table lacks a column that the records have.
    COLUMN_MISSING = 519;
    /// The table demands a column that the records do not have.
    COLUMN_DEMANDED = 520;
    /// A column's type would change the values, or is generated.
    COLUMN_TYPE = 521;
    /// The table has no unique index on the key.
    NO_UNIQUE_INDEX = 522;
    /// `upsert` and `ignore` without key columns.
    NO_KEY = 523;
    /// The name is a view, or something else that is no table.
    NOT_A_TABLE = 524;
    /// There is no such table or schema.
    NO_TABLE = 525;
    /// The table refused a row (a dead letter).
    ROW_REFUSED = 526;
    /// A value does not fit the type of its column (a dead letter).
    VALUE_UNHELD = 527;
    /// Nobody knows whether a commit took effect.
    COMMIT_UNKNOWN = 528;
    /// The open transaction ended before its commit.
    TRANSACTION_LOST = 529;
    /// The table was altered between two commits of a run.
    ALTERED = 548;
}
