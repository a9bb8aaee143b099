//! The stable codes of what can go wrong with RabbitMQ, each with a page in `docs/errors/`.

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
    BAD_URL = 690;
    /// The broker does not know the user, or not with this password.
    WRONG_PASSWORD = 691;
    /// There is no such virtual host, or the user may not enter it.
    NO_VHOST = 692;
    /// The broker cannot be reached, or the connection ended.
    GONE = 693;
    /// There is no such queue, or it was deleted.
    NO_QUEUE = 694;
    /// The configuration of the connector contradicts itself.
    CONFIG = 695;
    /// A message is no record (a dead letter).
    UNDECODABLE = 696;
    /// A message has no `message-id` (a dead letter).
    NO_MESSAGE_ID = 697;
    /// A position was not made by this source.
    FOREIGN_POSITION = 698;
    /// A dead letter could not be read again.
    LETTER_UNREADABLE = 699;
    /// The user may not do what was asked.
    DENIED = 700;
    /// The broker failed in some other way.
    BROKER_FAILED = 701;
    /// Another consumer has the queue to itself.
    EXCLUSIVE = 702;
    /// The queue is a stream.
    STREAM = 703;
    /// No queue takes a message (a dead letter).
    UNROUTABLE = 704;
    /// A record cannot be a message (a dead letter).
    UNHELD = 705;
    /// What was written cannot be read back.
    NO_READ_BACK = 706;
    /// The connection could not be encrypted as asked.
    TLS = 707;
    /// A message is larger than the broker takes (a dead letter).
    TOO_LARGE = 708;
}
