//! Records set aside, with the reason.

use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;

/// A record that could not be moved. Setting it aside is an effect: it is written in the same commit as
/// the position that passes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the record stands in the source. Unique per pipeline.
    pub place: Place,
    /// What kind of mistake it is.
    pub code: Code,
    /// What is wrong with it, in words.
    pub reason: String,
    /// The record as it was found, or its beginning.
    pub raw: String,
    /// When it was set aside, in milliseconds since 1970.
    pub set_aside_unix_ms: u64,
}
