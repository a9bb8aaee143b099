//! APIs that cannot be written as asked.

use hapax_engine::fault::{Fault, SinkError};
use hapax_engine::template::TemplateError;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::Window;

use crate::codes;

/// An API could not be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault {
    /// The configuration contradicts itself.
    #[error("the http sink is not configured: {0}")]
    Config(String),
    /// A template does not fit the columns.
    #[error("`{key}`: {error}")]
    Template {
        /// Which key.
        key: String,
        /// Why.
        error: TemplateError,
    },
    /// The URL does not name the identity.
    #[error(
        "`url` does not name the identity: {method} puts a record at its URL, and two records would take each other's place"
    )]
    NoIdentity {
        /// The method.
        method: &'static str,
    },
    /// The URL of a probe does not name the identity.
    #[error("`probe` does not name the identity: what is found there may be another record")]
    ProbeWithoutIdentity,
    /// The API remembers tokens for too short a time.
    #[error(
        "the API remembers tokens for {window}: a request may be under way for {under_way}, twice that is needed"
    )]
    NoWindow {
        /// `window`.
        window: Window,
        /// How long a request may be under way.
        under_way: Window,
    },
    /// It is too late to send.
    #[error("{place} might not drop a repeat any more: nothing more was sent")]
    Late {
        /// Which host.
        place: String,
    },
    /// A token was used with other content.
    #[error("{place} has a token already, with other content: HTTP status 422: {said}")]
    KeyReused {
        /// Which host.
        place: String,
        /// What it said.
        said: String,
    },
    /// The API asks to come later.
    #[error("{place} asks to come later, again and again: HTTP status {status}")]
    Busy {
        /// Which host.
        place: String,
        /// The status.
        status: u16,
    },
    /// The API fails.
    #[error("{place} fails, again and again: HTTP status {status}: {said}")]
    Failed {
        /// Which host.
        place: String,
        /// The status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// The API would answer so to any record.
    #[error("{place} answers with HTTP status {status}, which is no fault of one record: {said}")]
    NotTheRecord {
        /// Which host.
        place: String,
        /// The status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// An answer says neither yes nor no.
    #[error("{place} answers with HTTP status {status}, which says neither yes nor no: {said}")]
    Unclear {
        /// Which host.
        place: String,
        /// The status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// It is not read back.
    #[error("what was written to {place} cannot be read back: {reason}")]
    NoReadBack {
        /// Which host.
        place: String,
        /// Why.
        reason: String,
    },
    /// Bodies could not be made.
    #[error("records could not be written as requests")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A body could not be compressed.
    #[error("a body could not be compressed")]
    Compress(#[from] std::io::Error),
}

impl WriteFault {
    pub(crate) fn template(key: impl Into<String>) -> impl Fn(TemplateError) -> Self {
        let key = key.into();
        move |error| Self::Template { key: key.clone(), error }
    }
}

impl Fault for WriteFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) => codes::CONFIG,
            Self::Template { .. } | Self::NoIdentity { .. } | Self::ProbeWithoutIdentity => codes::TEMPLATE,
            Self::NoWindow { .. } => codes::NO_WINDOW,
            Self::Late { .. } => codes::LATE,
            Self::KeyReused { .. } => codes::KEY_REUSED,
            Self::Busy { .. } => codes::BUSY,
            Self::Failed { .. } | Self::Arrow(_) | Self::Compress(_) => codes::SERVER_FAILED,
            Self::NotTheRecord { .. } => codes::NOT_THE_RECORD,
            Self::Unclear { .. } => codes::UNCLEAR,
            Self::NoReadBack { .. } => codes::NO_READ_BACK,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "docs/connectors/http.md describes each key.",
            Self::Template { .. } => "Name a column of the records (behind `transform`, if there is one) between `{` and `}`.",
            Self::NoIdentity { .. } => "Name the columns of `identity: { key: [...] }` in `url`, all of them and no others, with a `/` or another sign between two: `url: https://host/orders/{id}`.",
            Self::ProbeWithoutIdentity => "Nothing was sent. Name the columns of `identity: { key: [...] }` in `probe`, all of them and no others, with a `/` or another sign between two: `probe: https://host/orders/{id}`.",
            Self::NoWindow { .. } => "Nothing was sent. Write a shorter `timeout`, or the window that the API documents.",
            Self::Late { .. } => "The next attempt decides by `past_window`.",
            Self::KeyReused { .. } => "Nothing more was sent. Records changed since they were sent first, or another pipeline of this name writes to the API: docs/errors/HX0760.md says how to go on.",
            Self::Busy { .. } => "Ask for fewer requests (`rate`, `concurrency`), and run again: it goes on behind the last commit.",
            Self::Failed { .. } => "See the API's log. Then run again: it goes on behind the last commit.",
            Self::NotTheRecord { .. } => "No record was set aside, and nothing was lost. Check `url`, `method`, `headers` and `compress` against the API's documentation: docs/errors/HX0767.md says what each status asks for. Then run again: it goes on behind the last commit.",
            Self::Unclear { .. } => "Write to a URL of the API that answers for the whole request.",
            Self::NoReadBack { .. } => "Write `read: { url: …, records: … }` where the API lists what it holds, or compare by other means.",
            Self::Arrow(_) | Self::Compress(_) => "This is a defect of Hapax: please report it with the pipeline file.",
        }
        .to_owned()
    }
}

impl From<WriteFault> for SinkError {
    fn from(fault: WriteFault) -> Self {
        match fault {
            WriteFault::Late { .. } | WriteFault::Busy { .. } | WriteFault::Failed { .. } => {
                Self::unavailable(fault)
            }
            _ => Self::stop(fault),
        }
    }
}
