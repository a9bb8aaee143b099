//! The codes of this crate, each with a page in `docs/errors/`.

use hapax_protocol::code::Code;

/// The SQL cannot be read.
pub const SYNTAX: Code = Code(400);
/// It is not a `SELECT` from `input`.
pub const NOT_A_SELECT: Code = Code(401);
/// A column that the records do not have.
pub const UNKNOWN_COLUMN: Code = Code(402);
/// A function that does not exist.
pub const UNKNOWN_FUNCTION: Code = Code(403);
/// A function that would give another value on a replay.
pub const NOT_DETERMINISTIC: Code = Code(404);
/// Something that needs more than one record.
pub const ACROSS_RECORDS: Code = Code(405);
/// Types that do not fit each other, or a wrong number of arguments.
pub const WRONG_TYPE: Code = Code(406);
/// Two columns of the result have one name.
pub const NAMED_TWICE: Code = Code(407);
/// An expression that fails whatever the record is.
pub const ALWAYS_FAILS: Code = Code(408);
/// SQL that is understood but not evaluated here.
pub const NOT_SUPPORTED: Code = Code(409);

/// A record's value does not convert to the type asked for.
pub const VALUE_DOES_NOT_CONVERT: Code = Code(420);
/// A record's numbers overflow or are divided by zero.
pub const ARITHMETIC: Code = Code(421);
/// An expression fails on a record for another reason.
pub const EXPRESSION_FAILED: Code = Code(422);

/// All of them.
pub const ALL: &[Code] = &[
    SYNTAX,
    NOT_A_SELECT,
    UNKNOWN_COLUMN,
    UNKNOWN_FUNCTION,
    NOT_DETERMINISTIC,
    ACROSS_RECORDS,
    WRONG_TYPE,
    NAMED_TWICE,
    ALWAYS_FAILS,
    NOT_SUPPORTED,
    VALUE_DOES_NOT_CONVERT,
    ARITHMETIC,
    EXPRESSION_FAILED,
];
