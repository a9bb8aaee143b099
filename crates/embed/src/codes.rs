//! The error codes of computed vectors, each with a page in `docs/errors/`.

use hapax_protocol::code::Code;

/// The columns do not fit.
pub const COLUMN: Code = Code(850);
/// A vector has another dimension than the file says, or is none.
pub const NO_VECTOR: Code = Code(851);
/// The endpoint does not take a text (a dead letter).
pub const TEXT_REFUSED: Code = Code(852);
/// The file of vectors could not be read or written.
pub const CACHE: Code = Code(853);
/// Records could not be put together.
pub const RECORDS: Code = Code(854);
/// A dead letter could not be read again.
pub const LETTER_UNREADABLE: Code = Code(855);

/// All of them.
pub const ALL: &[Code] = &[COLUMN, NO_VECTOR, TEXT_REFUSED, CACHE, RECORDS, LETTER_UNREADABLE];
