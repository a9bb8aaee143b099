//! The codes of mistakes in a pipeline file.

use hapax_protocol::code::Code;

/// The file cannot be read.
pub const FILE: Code = Code(1);
/// The text is not YAML.
pub const YAML: Code = Code(2);
/// A key that means nothing here.
pub const UNKNOWN_KEY: Code = Code(3);
/// A value of the wrong type.
pub const WRONG_TYPE: Code = Code(4);
/// A key that must be there is not.
pub const MISSING_KEY: Code = Code(5);
/// A value that is not one of those allowed.
pub const NOT_ONE_OF: Code = Code(6);
/// A value outside its limits.
pub const LIMIT: Code = Code(7);
/// A reference to an environment variable or a file that is not there.
pub const REFERENCE_MISSING: Code = Code(8);
/// A reference that is written in no known way.
pub const REFERENCE_FORM: Code = Code(9);
/// No system, or more than one, where exactly one belongs.
pub const ONE_SYSTEM: Code = Code(10);
/// A text that cannot name a pipeline.
pub const NAME: Code = Code(11);
/// Keys that exclude each other.
pub const CONFLICT: Code = Code(12);
/// A section that a connector does not take.
pub const SECTION: Code = Code(13);

/// A secret that is written out where a reference belongs.
pub const SECRET: Code = Code(14);

/// Every code of this crate.
pub const ALL: &[Code] = &[
    FILE,
    YAML,
    UNKNOWN_KEY,
    WRONG_TYPE,
    MISSING_KEY,
    NOT_ONE_OF,
    LIMIT,
    REFERENCE_MISSING,
    REFERENCE_FORM,
    ONE_SYSTEM,
    NAME,
    CONFLICT,
    SECTION,
    SECRET,
];
