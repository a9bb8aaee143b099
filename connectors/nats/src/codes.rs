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
    /// The stream remembers no ids, or for too short a time.
    NO_WINDOW = 736;
    /// The stream takes nothing of a subject (a dead letter).
    UNCOVERED = 737;
    /// A record cannot be a message (a dead letter).
    UNHELD = 738;
    /// The subject of an identity holds another record (a dead letter).
    KEY_TAKEN = 739;
    /// The stream cannot be written as asked.
    STREAM_UNFIT = 740;
    /// The stream does not take a message.
    NOT_TAKEN = 741;
    /// What was written cannot be read back.
    NO_READ_BACK = 742;
    /// It is too late to send.
    LATE = 743;
    /// The connection could not be encrypted as asked.
    TLS = 744;
}
