//! The error codes of the files sink, 250 to 299, each with a page in `docs/errors/`.

use hapax_protocol::code::Code;

/// A destination on another system.
pub const REMOTE_DESTINATION: Code = Code(250);
/// A destination whose format cannot be told.
pub const FORMAT_UNKNOWN: Code = Code(251);
/// Settings of a destination that do not go together.
pub const UNFITTING: Code = Code(252);
/// A destination that may not be written.
pub const NOT_WRITABLE: Code = Code(253);
/// A full disk.
pub const DISK_FULL: Code = Code(254);
/// Any other failure of the file system.
pub const FILE_SYSTEM: Code = Code(255);
/// Bytes that could not be made durable.
pub const NOT_DURABLE: Code = Code(256);
/// Nested columns, which CSV cannot hold.
pub const CSV_NESTED: Code = Code(257);
/// Somebody else's data at the destination.
pub const DESTINATION_TAKEN: Code = Code(258);
/// A destination that was changed since it was published.
pub const DESTINATION_CHANGED: Code = Code(259);
/// Positions of another definition of the pipeline.
pub const DEFINITION_CHANGED: Code = Code(260);
/// A later run has the destination.
pub const FENCED: Code = Code(261);
/// A manifest that cannot be read.
pub const STATE_DAMAGED: Code = Code(262);
/// A commit that does not follow the last one.
pub const DIVERGED: Code = Code(263);
/// A record set aside where nothing can be.
pub const NO_DEAD_LETTERS: Code = Code(264);
/// A column type that the format cannot hold.
pub const TYPE_UNSUPPORTED: Code = Code(265);
/// A number that JSON cannot hold.
pub const NOT_FINITE: Code = Code(266);
/// A ledger that failed.
pub const LEDGER: Code = Code(267);
/// Columns that differ from those the file has.
pub const COLUMNS_CHANGED: Code = Code(268);
/// Records that could not be encoded.
pub const ENCODING: Code = Code(269);

/// All of them.
pub const ALL: &[Code] = &[
    REMOTE_DESTINATION,
    FORMAT_UNKNOWN,
    UNFITTING,
    NOT_WRITABLE,
    DISK_FULL,
    FILE_SYSTEM,
    NOT_DURABLE,
    CSV_NESTED,
    DESTINATION_TAKEN,
    DESTINATION_CHANGED,
    DEFINITION_CHANGED,
    FENCED,
    STATE_DAMAGED,
    DIVERGED,
    NO_DEAD_LETTERS,
    TYPE_UNSUPPORTED,
    NOT_FINITE,
    LEDGER,
    COLUMNS_CHANGED,
    ENCODING,
];
