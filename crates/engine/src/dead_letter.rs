//! Records set aside, with the reason.

use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::Epoch;

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

/// A dead letter that is one no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledLetter {
    /// What it was. Its text is not kept: `raw` is empty.
    pub letter: DeadLetter,
    /// What became of it.
    pub settlement: Settlement,
}

/// How a dead letter was settled. It is an effect: it is written in the same commit as what became of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// How.
    pub ending: Ending,
    /// In which commit of the letter's split; [`Epoch::NONE`] if it is [`Ending::Unrecorded`].
    pub epoch: Epoch,
    /// When, in milliseconds since 1970; 0 if it is [`Ending::Unrecorded`].
    pub settled_unix_ms: u64,
}

impl Settlement {
    /// One that says nothing.
    pub const UNRECORDED: Self = Self { ending: Ending::Unrecorded, epoch: Epoch::NONE, settled_unix_ms: 0 };
}

/// What became of a record that was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was moved after all.
    Moved,
    /// It was given up.
    Dropped,
    /// The transform left it out.
    LeftOut,
    /// A version of Hapax settled it that did not say how.
    Unrecorded,
}

impl Ending {
    /// As destinations store it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Dropped => "dropped",
            Self::LeftOut => "left-out",
            Self::Unrecorded => "unrecorded",
        }
    }

    /// As it was stored. What no version of Hapax stored is [`Unrecorded`](Self::Unrecorded).
    pub fn of_word(word: &str) -> Self {
        let known = [Self::Moved, Self::Dropped, Self::LeftOut];
        known.into_iter().find(|ending| ending.word() == word).unwrap_or(Self::Unrecorded)
    }

    /// Whether the record is not at the destination because of it.
    pub fn leaves_nothing(self) -> bool {
        matches!(self, Self::Dropped | Self::LeftOut)
    }
}
