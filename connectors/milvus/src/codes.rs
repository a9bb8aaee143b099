//! The stable codes of what can go wrong with Milvus, each with a page in `docs/errors/`.

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
    BAD_URL = 800;
    /// The server does not let this token in.
    WRONG_TOKEN = 801;
    /// The server cannot be reached, or the connection ended.
    GONE = 802;
    /// No connection over TLS.
    TLS = 803;
    /// There is no such database.
    NO_DATABASE = 804;
    /// There is no such collection.
    NO_COLLECTION = 805;
    /// The collection is not loaded.
    NOT_LOADED = 806;
    /// The collection is being loaded.
    LOADING = 807;
    /// The server takes nothing more for now: a rate or a quota is used up.
    QUOTA = 808;
    /// The server failed in some other way.
    SERVER_FAILED = 809;
    /// The user may not do it.
    FORBIDDEN = 810;
    /// The configuration of the connector contradicts itself.
    CONFIG = 811;
    /// The collection makes its keys itself.
    AUTO_ID = 812;
    /// The identity cannot be the primary key.
    KEY_UNFIT = 813;
    /// A column has no place in the collection, or a field no column.
    COLUMN_UNFIT = 814;
    /// The vectors have another dimension.
    DIMENSION = 815;
    /// A field has a type that is not moved.
    TYPE_UNKNOWN = 816;
    /// The server does not take a batch.
    NOT_TAKEN = 817;
    /// The collection is there already, and not as `create` says.
    MADE_OTHERWISE = 818;
    /// An answer is larger than the server gives.
    ANSWER_TOO_LARGE = 819;
    /// A record's key cannot be held (a dead letter).
    KEY_UNHELD = 820;
    /// A record's vector cannot be held (a dead letter).
    VECTOR_UNHELD = 821;
    /// A record's value cannot be held (a dead letter).
    VALUE_UNHELD = 822;
    /// A record's vector holds what is no finite number (a dead letter).
    VECTOR_NOT_FINITE = 823;
    /// A position was not made by this source.
    FOREIGN_POSITION = 830;
    /// An entity is no record (a dead letter).
    UNDECODABLE = 831;
    /// A dead letter could not be read again.
    LETTER_UNREADABLE = 832;
    /// What was written cannot be read back.
    NO_READ_BACK = 833;
    /// The collection holds more entities than keys.
    KEYS_TWICE = 834;
    /// The collection is another one of the same name.
    RECREATED = 835;
}
