//! The stable codes of what can go wrong with NATS, each with a page in `docs/errors/`.

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
    BAD_URL = 720;
    /// The server does not let this user in.
    WRONG_PASSWORD = 721;
    /// The server cannot be reached, or the connection ended.
    GONE = 722;
    /// There is no such stream, or it was deleted.
    NO_STREAM = 723;
    /// The configuration of the connector contradicts itself.
    CONFIG = 724;
    /// A message is no record (a dead letter).
    UNDECODABLE = 725;
    /// A message has no `Nats-Msg-Id` (a dead letter).
    NO_MESSAGE_ID = 726;
    /// A position was not made by this source.
    FOREIGN_POSITION = 727;
    /// A dead letter could not be read again.
    LETTER_UNREADABLE = 728;
    /// Messages behind the position were removed before they were read.
    TRIMMED = 729;
    /// The stream was made anew under its name.
    RECREATED = 730;
    /// The stream ends before the position.
    ENDS_BEFORE = 731;
    /// The stream forgets what is acknowledged.
    WORK_QUEUE = 732;
    /// The durable consumer does not fit.
    CONSUMER_UNFIT = 733;
    /// The server failed in some other way.
    SERVER_FAILED = 734;
    /// The server has no JetStream for this account.
    NO_JETSTREAM = 735;
}
