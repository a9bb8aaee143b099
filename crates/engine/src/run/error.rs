use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::{Position, SplitId};
use hapax_protocol::recovery::Misstep;

use crate::codes;
use crate::fault::{Fault, SinkError, SinkErrorKind, SourceError};
use crate::identify::IdentifierError;

/// Why a run ended before everything was moved. Positions stand at the last commit, whatever it was.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The source failed.
    #[error("{error}")]
    Source {
        /// In which split, if in one.
        split: Option<SplitId>,
        /// How.
        error: SourceError,
    },
    /// The sink failed.
    #[error("{error}")]
    Sink {
        /// In which split, if in one.
        split: Option<SplitId>,
        /// How.
        error: SinkError,
    },
    /// A later run has the lease.
    #[error("{error}")]
    Fenced {
        /// How the sink says it.
        error: SinkError,
    },
    /// A commit's answer was lost, and the sink stands where this run never brought it.
    #[error(
        "the answer to a commit of {split} was lost, and the sink now stands at {found:?}, neither before nor behind that commit"
    )]
    Diverged {
        /// The split.
        split: SplitId,
        /// What the sink holds.
        found: Option<Position>,
    },
    /// The source broke its contract.
    #[error("the source delivered a batch of {split} that does not follow the last one ({misstep:?})")]
    Misstep {
        /// The split.
        split: SplitId,
        /// How.
        misstep: Misstep,
    },
    /// A record cannot be moved, and the pipeline asks to stop there.
    #[error("{place} cannot be moved: {reason}")]
    Rejected {
        /// Where the record stands.
        place: Place,
        /// What kind of mistake it is.
        record_code: Code,
        /// What is wrong with it.
        reason: String,
    },
    /// The identity does not fit the records.
    #[error(transparent)]
    Identity(IdentifierError),
    /// Twins are to be found, but the destination cannot keep a ledger.
    #[error("`duplicates` asks to find twins, but this destination cannot remember identities")]
    NoLedger,
    /// A ledger beside the destination would lose what comes back at another place.
    #[error(
        "this source gives a record back at another place, and a ledger outside of the destination's commit would take it for a twin of itself"
    )]
    LedgerBeside,
    /// Twins are to be set aside, and a message that comes back is one.
    #[error(
        "`duplicates: dead-letter` would set a record aside that this source gives back after it was moved: nobody can tell that from a twin"
    )]
    TwinOfItself,
    /// What may have been sent cannot be known again by its place.
    #[error(
        "this source gives a record back at another place, and this destination must not be sent it twice"
    )]
    PlacesMove,
    /// The run is to go on until it is stopped, and the source ends.
    #[error("`follow` asks for what comes later, but this source ends with what it holds")]
    Bounded,
    /// The run is to go on until it is stopped, and only one split can move at a time.
    #[error(
        "`follow` moves all splits at once, but here one must end before the next begins: the first would never end"
    )]
    OneByOne,
    /// A letter would have to be sent, and might be sent twice.
    #[error(
        "this destination must not be sent a record twice, and a replay that is interrupted might do that"
    )]
    NoReplay,
    /// A dead letter cannot be read again.
    #[error("the dead letter of {place} still cannot be moved: {reason}")]
    Letter {
        /// Where the record stands.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// The destination keeps no positions, so nobody can say what it lost.
    #[error(
        "this destination keeps no positions: what is missing there cannot be told from what was never moved"
    )]
    NoPositions,
    /// What an interrupted run committed is not visible yet.
    #[error("a run was interrupted before its file was published: what it committed is not in the file yet")]
    Unpublished,
    /// A commit of a repair did not take effect.
    #[error("a commit of missing records of {split} did not take effect, and its answer was lost")]
    NotRepaired {
        /// The split.
        split: SplitId,
    },
    /// Arrow refused an operation that Hapax expected to be possible.
    #[error("a batch could not be processed: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A part of the run ended by a defect of Hapax.
    #[error("a part of the run ended unexpectedly")]
    Defect,
}

impl RunError {
    /// A source's failure outside any split.
    pub(super) fn source(error: SourceError) -> Self {
        Self::Source { split: None, error }
    }

    /// A sink's failure outside any split.
    pub(super) fn sink(error: SinkError) -> Self {
        Self::sink_in(None, error)
    }

    pub(super) fn sink_in(split: Option<&SplitId>, error: SinkError) -> Self {
        match error.kind {
            SinkErrorKind::Fenced => Self::Fenced { error },
            SinkErrorKind::Stop | SinkErrorKind::Unavailable => Self::Sink { split: split.cloned(), error },
        }
    }

    /// Whether a later run took over.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. })
    }

    /// The split in which it happened, if in one.
    pub fn split(&self) -> Option<&SplitId> {
        match self {
            Self::Source { split, .. } | Self::Sink { split, .. } => split.as_ref(),
            Self::Diverged { split, .. } | Self::Misstep { split, .. } | Self::NotRepaired { split } => {
                Some(split)
            }
            Self::Rejected { place, .. } | Self::Letter { place, .. } => Some(&place.split),
            Self::Fenced { .. }
            | Self::Identity(_)
            | Self::NoLedger
            | Self::LedgerBeside
            | Self::TwinOfItself
            | Self::PlacesMove
            | Self::Bounded
            | Self::OneByOne
            | Self::NoReplay
            | Self::NoPositions
            | Self::Unpublished
            | Self::Arrow(_)
            | Self::Defect => None,
        }
    }
}

impl Fault for RunError {
    fn code(&self) -> Code {
        match self {
            Self::Source { error, .. } => error.fault.code(),
            Self::Sink { error, .. } | Self::Fenced { error } => error.fault.code(),
            Self::Diverged { .. } => codes::DIVERGED,
            Self::Misstep { .. } => codes::MISSTEP,
            Self::Rejected { .. } => codes::REJECTED,
            Self::Identity(error) => error.code(),
            Self::NoLedger => codes::NO_LEDGER,
            Self::LedgerBeside => codes::LEDGER_BESIDE,
            Self::TwinOfItself => codes::TWIN_OF_ITSELF,
            Self::PlacesMove => codes::PLACES_MOVE,
            Self::Bounded => codes::BOUNDED,
            Self::OneByOne => codes::ONE_BY_ONE,
            Self::NoReplay => codes::NO_REPLAY,
            Self::Letter { .. } => codes::LETTER_UNREADABLE,
            Self::NoPositions => codes::NO_POSITIONS,
            Self::Unpublished => codes::UNPUBLISHED,
            Self::NotRepaired { .. } => codes::NOT_REPAIRED,
            Self::Arrow(_) | Self::Defect => codes::DEFECT,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Source { error, .. } => error.fault.help(),
            Self::Sink { error, .. } | Self::Fenced { error } => error.fault.help(),
            Self::Diverged { .. } => {
                "Something else changed the stored position. Look at `hapax status` and at the destination before you run again.".to_owned()
            }
            Self::Rejected { .. } => {
                "Mend the record or the schema and run again, or use `on_error: set-aside` to go on without it.".to_owned()
            }
            Self::Identity(error) => error.help(),
            Self::NoLedger => {
                "Use `duplicates: keep`, or a destination that keeps positions (SQLite, a file or a directory).".to_owned()
            }
            Self::LedgerBeside => {
                "Use a destination that keeps the ledger in its own commit (PostgreSQL, MariaDB, SQLite, Redis, files) and leave `ledger` out, or a source that can be read again from a position.".to_owned()
            }
            Self::TwinOfItself => {
                "Use `duplicates: drop`: what comes back, and what is a twin, is counted as suppressed.".to_owned()
            }
            Self::PlacesMove => {
                "Use a source that can be read again from a position (a table, a file, a Kafka topic), or let the sink send again what is in doubt (`in_doubt: resend`).".to_owned()
            }
            Self::Bounded => {
                "Leave `follow` out, and run it again whenever there is more: it goes on where it stood.".to_owned()
            }
            Self::OneByOne => {
                "Leave `follow` out, or let the source have one split (`workers: 1`); for twins, `duplicates: keep` or a destination whose ledger stands in a database (PostgreSQL, MariaDB, SQLite) does too.".to_owned()
            }
            Self::NoReplay => {
                "Look at the destination, send what is missing there by hand, and drop the letters.".to_owned()
            }
            Self::Letter { .. } => "Mend its cause (the schema, the transform, the table) and replay it, or drop it.".to_owned(),
            Self::NoPositions => {
                "Move it again into a destination that keeps positions (SQLite without `positions: false`, a file or a directory).".to_owned()
            }
            Self::Unpublished => "Run the pipeline to its end first (`hapax run`), then repair.".to_owned(),
            Self::NotRepaired { .. } => "Repair again: what was moved before is found, and not moved twice.".to_owned(),
            Self::Misstep { .. } | Self::Arrow(_) | Self::Defect => {
                "This is a defect of Hapax: please report it with the pipeline file. Running again goes on behind the last commit.".to_owned()
            }
        }
    }
}
