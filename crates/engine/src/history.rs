//! What a destination remembers of what was done to it: information for people, never read by recovery.

use std::ops::Range;

use hapax_protocol::lease::FencingToken;
use hapax_protocol::position::{Ordinal, Position, Totals};

use crate::dead_letter::{DeadLetter, SettledLetter};
use crate::sink::CommitId;

/// One commit that took effect. It was remembered in the same atomic step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Which commit of which split.
    pub commit: CommitId,
    /// The token of the run that made it.
    pub token: FencingToken,
    /// Who that was, as it applied for the lease.
    pub holder: String,
    /// The records it brought the position past, by their numbers in the split. Empty where
    /// it stayed: dead letters were settled, or records moved again.
    pub records: Range<Ordinal>,
    /// The position it brought the split to.
    pub through: Position,
    /// What became of the records, in this commit alone. Settled letters count as moved where they were; what a
    /// repair moved again was counted before.
    pub totals: Totals,
    /// When it was made, in milliseconds since 1970.
    pub made_unix_ms: u64,
}

/// What is remembered of one place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remembered {
    /// The commit that brought the position past it; `None` if that was made by a version of Hapax that kept no
    /// history, or not at all.
    pub commit: Option<Committed>,
    /// Its dead letter, if it is set aside.
    pub letter: Option<DeadLetter>,
    /// Its dead letter, if it was set aside and that was settled; the last one, if that happened twice.
    pub settled: Option<SettledLetter>,
    /// The commit that settled it, as far as that is remembered.
    pub settled_in: Option<Committed>,
    /// The commits that moved it again after the destination had lost it, in their order.
    pub again: Vec<Committed>,
}

/// A commit that is not over.
///
/// A sink that cannot be asked what became of a commit adds the kind that a person must resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfinished {
    /// It is decided: it cannot be taken back any more, and not everything of it is visible. Whoever takes the
    /// split over next completes it.
    Decided(CommitId),
}
