//! The stable codes of what can go wrong with Redis, each with a page in `docs/errors/`.

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
    BAD_URL = 650;
    /// The server does not know the user, or not with this password.
    WRONG_PASSWORD = 651;
    /// The user may not do what was asked.
    DENIED = 652;
    /// The server cannot be reached, or the connection ended.
    GONE = 653;
    /// The server's version is too old.
    TOO_OLD = 654;
    /// The server is not ready: it loads its data, or a script keeps it busy.
    NOT_READY = 655;
    /// The server takes no writes because its memory or its disk is full.
    FULL = 656;
    /// The server is a replica.
    READ_ONLY = 657;
    /// The server failed in some other way.
    SERVER_FAILED = 658;
    /// The server may evict keys.
    EVICTS = 659;
    /// The configuration of the connector contradicts itself.
    CONFIG = 660;
    /// There is no such stream.
    NO_STREAM = 661;
    /// The key is no stream.
    NOT_A_STREAM = 662;
    /// A position was not made by this reader.
    FOREIGN_POSITION = 663;
    /// Entries were removed before they were read.
    TRIMMED = 664;
    /// The stream is another one of the same name.
    RECREATED = 665;
    /// A value does not fit the type of its column (a dead letter).
    VALUE_MISFIT = 666;
    /// A dead letter could not be read again.
    LETTER_UNREADABLE = 667;
    /// The stored positions belong to another definition of the pipeline.
    OTHER_DEFINITION = 668;
    /// A later run has the lease.
    FENCED = 669;
    /// The stored position is not the one this run left.
    DIVERGED = 670;
    /// The key template cannot be used.
    TEMPLATE = 671;
    /// The keys of a pipeline do not share a hash slot.
    NO_SHARED_SLOT = 672;
    /// A column has a type that Redis cannot hold.
    TYPE_UNHELD = 673;
    /// A column would be lost.
    COLUMN_LOST = 674;
    /// A record has no key of its own (a dead letter).
    NO_KEY = 675;
    /// A value cannot be written (a dead letter).
    VALUE_UNHELD = 676;
    /// The key is there, and holds something else.
    WRONG_TYPE = 677;
    /// More is open than one call may carry.
    COMMIT_TOO_LARGE = 678;
    /// Nobody knows whether a commit took effect.
    COMMIT_UNKNOWN = 679;
    /// Something of the commit was taken meanwhile: it is tried again.
    OVERTAKEN = 680;
    /// The ledger was emptied.
    LEDGER_EMPTIED = 681;
    /// The server may forget what it was told.
    NOT_PERSISTENT = 682;
    /// An entry has an id that no record can be numbered by.
    LARGE_ID = 684;
    /// The connection could not be encrypted as asked.
    TLS = 685;
}
