//! The stable codes of what can go wrong with HTTP APIs, each with a page in `docs/errors/`.

use hapax_protocol::code::Code;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code($number);)*
        /// All of them, in order.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    /// A URL cannot be used.
    BAD_URL = 750;
    /// The API does not let this user in.
    WRONG_CREDENTIALS = 751;
    /// The API cannot be reached, or does not answer.
    GONE = 752;
    /// The connection cannot be made secure.
    TLS = 753;
    /// The address is a private one.
    PRIVATE_ADDRESS = 754;
    /// The API sends to another place.
    REDIRECT = 755;
    /// The configuration contradicts itself.
    CONFIG = 756;
    /// A template does not fit the columns.
    TEMPLATE = 757;
    /// The API refuses a record (a dead letter).
    REFUSED = 758;
    /// A record cannot be a request (a dead letter).
    UNHELD = 759;
    /// A token was used with other content.
    KEY_REUSED = 760;
    /// The API asks to come later, again and again.
    BUSY = 761;
    /// The API fails, again and again.
    SERVER_FAILED = 762;
    /// The API remembers tokens for too short a time.
    NO_WINDOW = 763;
    /// It is too late to send.
    LATE = 764;
    /// What was written cannot be read back.
    NO_READ_BACK = 765;
    /// An answer says neither yes nor no.
    UNCLEAR = 766;
    /// The API serves no record like this.
    NOT_THE_RECORD = 767;
    /// A page cannot be read.
    PAGE_UNREAD = 770;
    /// Records are not where they should be in a page.
    NO_RECORDS = 771;
    /// A record of a page is none (a dead letter).
    UNDECODABLE = 772;
    /// A position was not made by this source.
    FOREIGN_POSITION = 773;
    /// Pages do not lead on.
    NO_NEXT = 774;
    /// A page is not what it was.
    CHANGED = 775;
    /// A dead letter could not be read again.
    LETTER_UNREADABLE = 776;
    /// The API does not give a page.
    PAGE_REFUSED = 777;
    /// A page is too large.
    PAGE_TOO_LARGE = 778;
    /// An endpoint computes no vectors.
    ENDPOINT_REFUSED = 779;
    /// An endpoint answers with something else than vectors.
    ENDPOINT_UNREAD = 780;
}
