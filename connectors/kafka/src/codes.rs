//! The stable codes of what can go wrong with Kafka, each with a page in `docs/errors/`.

use hapax_protocol::code::Code;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code($number);)*
        /// All of them, in order.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    /// The configuration of the connector contradicts itself.
    CONFIG = 600;
    /// No broker can be reached, or the connection ended.
    UNREACHABLE = 601;
    /// The brokers do not know the user, or not with this password.
    CREDENTIALS = 602;
    /// No encrypted connection as it was asked for.
    TLS = 603;
    /// The user may not do what was asked.
    DENIED = 604;
    /// There is no such topic, or no such partition of it.
    NO_TOPIC = 605;
    /// The brokers failed in some other way.
    FAILED = 606;
    /// Records were deleted before they were read.
    GAP = 607;
    /// The topic is not the one that was read.
    RECREATED = 608;
    /// A position was not made by this reader.
    FOREIGN_POSITION = 609;
    /// The columns of the messages are not known.
    NO_SCHEMA = 610;
    /// A message is no record (a dead letter).
    UNDECODABLE = 611;
    /// A message without a value (a dead letter).
    TOMBSTONE = 612;
    /// A key or header is not text (a dead letter).
    NOT_TEXT = 613;
    /// The schema registry cannot be reached.
    REGISTRY_AWAY = 614;
    /// The schema registry refused.
    REGISTRY_REFUSED = 615;
    /// A schema cannot be read as records.
    SCHEMA_UNFIT = 616;
    /// A dead letter could not be read again.
    LETTER_UNREADABLE = 617;
    /// A ledger beside the destination cannot be relied on, for the topic is compacted.
    LEDGER_BESIDE = 618;
    /// The stored positions belong to another definition of the pipeline.
    OTHER_DEFINITION = 630;
    /// A later run has the lease.
    FENCED = 631;
    /// The stored position is not the one this run left.
    DIVERGED = 632;
    /// Nobody knows whether a commit took effect.
    COMMIT_UNKNOWN = 633;
    /// The open transaction ended before its commit.
    TRANSACTION_LOST = 634;
    /// A column has a type that messages cannot hold.
    TYPE_UNHELD = 635;
    /// JSON has no word for a number (a dead letter).
    NOT_FINITE = 636;
    /// A key column is NULL (a dead letter).
    KEY_NULL = 637;
    /// A message is longer than the topic takes (a dead letter).
    TOO_LARGE = 638;
    /// A column that the records do not have.
    NO_COLUMN = 639;
    /// The topic that keeps the positions is not as it should be.
    STATE_UNFIT = 640;
    /// A transaction that nobody ends hides the positions.
    STATE_HIDDEN = 641;
}
