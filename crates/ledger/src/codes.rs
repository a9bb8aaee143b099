//! The error codes of the ledger, each with a page in `docs/errors/`.

use hapax_protocol::code::Code;

/// A page of the ledger is not what was written.
pub const PAGE_DAMAGED: Code = Code(500);
/// Two places claim to have been the first of one identity.
pub const CONTRADICTION: Code = Code(501);
/// The ledger was used after a failure without a rollback.
pub const UNSETTLED: Code = Code(502);
/// The directory of the ledger could not be read or written.
pub const DIRECTORY: Code = Code(510);
/// The system did not confirm that bytes are on the disk.
pub const NOT_DURABLE: Code = Code(511);
/// A file of the ledger is not what was written.
pub const FILE_DAMAGED: Code = Code(512);
/// Somebody else writes to the ledger's directory.
pub const OTHER_WRITER: Code = Code(513);
/// The ledger beside a destination is not where it was.
pub const LOST: Code = Code(683);

/// All of them.
pub const ALL: &[Code] =
    &[PAGE_DAMAGED, CONTRADICTION, UNSETTLED, DIRECTORY, NOT_DURABLE, FILE_DAMAGED, OTHER_WRITER, LOST];
