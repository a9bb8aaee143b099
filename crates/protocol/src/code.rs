//! Error codes: stable names for what can go wrong, each with a page in `docs/errors/`.

use std::fmt;

/// A stable error code, printed as `HX0007`.
///
/// A code is never reused for another meaning. Its page is `docs/errors/HX0007.md`; a test holds the
/// list of pages against the list of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HX{:04}", self.0)
    }
}
