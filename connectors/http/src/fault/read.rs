//! APIs that cannot be read as asked.

use hapax_engine::fault::{Fault, SourceError};
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::SplitId;

use crate::codes;

/// An API could not be read as asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The configuration contradicts itself.
    #[error("the http source is not configured: {0}")]
    Config(String),
    /// The API does not give a page.
    #[error("{page} is refused: HTTP status {status}: {said}")]
    Refused {
        /// Its URL.
        page: String,
        /// The status.
        status: u16,
        /// What the API said.
        said: String,
    },
    /// The API does not give a page now.
    #[error("{page} does not come: {reason}")]
    Away {
        /// Its URL.
        page: String,
        /// Why.
        reason: String,
    },
    /// A page is too large.
    #[error("{page} is larger than {bytes_max} bytes")]
    TooLarge {
        /// Its URL.
        page: String,
        /// What is taken.
        bytes_max: usize,
    },
    /// A page is not JSON.
    #[error("{page} cannot be read: {reason}")]
    Unread {
        /// Its URL.
        page: String,
        /// Why.
        reason: String,
    },
    /// There is no array of records.
    #[error("{page} has no array of records at {pointer:?}: {found}")]
    NoRecords {
        /// Its URL.
        page: String,
        /// `records`.
        pointer: String,
        /// What there is.
        found: String,
    },
    /// Pages do not lead on.
    #[error("{page} does not lead on: {reason}")]
    NoNext {
        /// Its URL.
        page: String,
        /// Why.
        reason: String,
    },
    /// A page is not what it was.
    #[error("{page} is not what it was when its first {records} records were read")]
    Changed {
        /// Its URL.
        page: String,
        /// How many had been read.
        records: u64,
    },
    /// Another source made the position.
    #[error("{0}: the stored position was not made by this source")]
    ForeignPosition(SplitId),
    /// A dead letter could not be read again.
    #[error("{place:?} cannot be read again: {reason}")]
    LetterUnreadable {
        /// Which one.
        place: Place,
        /// Why.
        reason: String,
    },
    /// Records could not be made.
    #[error("records could not be made of a page")]
    Arrow(#[from] arrow::error::ArrowError),
}

impl Fault for ReadFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) => codes::CONFIG,
            Self::Refused { .. } => codes::PAGE_REFUSED,
            Self::Away { .. } => codes::GONE,
            Self::TooLarge { .. } => codes::PAGE_TOO_LARGE,
            Self::Unread { .. } | Self::Arrow(_) => codes::PAGE_UNREAD,
            Self::NoRecords { .. } => codes::NO_RECORDS,
            Self::NoNext { .. } => codes::NO_NEXT,
            Self::Changed { .. } => codes::CHANGED,
            Self::ForeignPosition(_) => codes::FOREIGN_POSITION,
            Self::LetterUnreadable { .. } => codes::LETTER_UNREADABLE,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "docs/connectors/http.md describes each key.",
            Self::Refused { .. } => "Check `url` and `paging`. Then run again: it goes on behind the last commit.",
            Self::Away { .. } => "See the API's log. Then run again: it goes on behind the last commit.",
            Self::TooLarge { .. } => "Ask for smaller pages, by a parameter of `url` or `limit`.",
            Self::Unread { .. } => "Look at the page with curl: it is to be JSON in UTF-8.",
            Self::NoRecords { .. } => "Write in `records` where the array stands in a page: `records: /data`.",
            Self::NoNext { .. } => "Check `paging` against the API's documentation. Positions stay where they are.",
            Self::Changed { .. } => "Nothing is skipped or read twice in silence. Read with `updated_since` if the API has it; or read all of it again, by a pipeline of another name into a sink by key.",
            Self::ForeignPosition(_) => "The file's `source` was another one when this was stored: use another `name` for the pipeline.",
            Self::LetterUnreadable { .. } => "Mend the record where it comes from; it will arrive as a new one.",
            Self::Arrow(_) => "This is a defect of Hapax: please report it with the pipeline file.",
        }
        .to_owned()
    }
}

impl From<ReadFault> for SourceError {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::Away { .. } => Self::unavailable(fault),
            _ => Self::stop(fault),
        }
    }
}
