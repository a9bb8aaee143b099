//! The stable codes of what can go wrong reading from PostgreSQL, each with a page in `docs/errors/`.

use hapax_protocol::code::Code;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code($number);)*
        /// All of them, in order.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    /// The configuration of the source contradicts itself.
    CONFIG = 530;
    /// The cursor, the key or the mark names a column that is not there.
    NO_COLUMN = 531;
    /// Rows have no cursor.
    NULL_CURSOR = 532;
    /// A position was not made by this reader.
    FOREIGN_POSITION = 533;
    /// The table was written anew since its position was made.
    REWRITTEN = 534;
    /// A value cannot be said in the type of its column (a dead letter).
    VALUE_MISFIT = 535;
    /// The query cannot be run.
    BAD_QUERY = 536;
    /// Two rows have the same key.
    KEY_TIED = 537;
    /// A dead letter could not be read again.
    LETTER_UNREADABLE = 538;
    /// Nothing tells two rows of the same cursor apart, or rows are to be marked without a key.
    NO_ROW_KEY = 539;
    /// A column of this type cannot be a cursor or a mark.
    COLUMN_UNFIT = 540;
    /// The server is a replica.
    REPLICA = 541;
    /// The role does not see when other sessions' transactions began.
    SEES_NO_TRANSACTIONS = 542;
    /// A prepared transaction holds the horizon back.
    HELD_BACK = 543;
    /// Rows that were locked could not be marked.
    MARK_LOST = 544;
    /// The stored position lies ahead of the server.
    AHEAD = 545;
    /// The bytes of a copy are not what the format says.
    MALFORMED = 546;
    /// The columns have other types than when the run began.
    ALTERED = 547;
    /// The server's clock stands before the stored position.
    CLOCK_BACK = 549;
}
