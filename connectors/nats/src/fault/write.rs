//! Streams that cannot be written as asked.

use hapax_engine::fault::{Fault, SinkError};
use hapax_engine::template::TemplateError;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::Window;

use crate::codes;

/// A stream could not be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault {
    /// The configuration contradicts itself.
    #[error("the nats sink is not configured: {0}")]
    Config(String),
    /// The subject does not fit the columns.
    #[error("`subject`: {0}")]
    Subject(#[from] TemplateError),
    /// The stream tells a repeat for too short a time.
    #[error(
        "{stream:?} tells a repeat for {window} (`{setting}`): too short for one that may be {least} under way"
    )]
    NoWindow {
        /// The stream.
        stream: String,
        /// What says so.
        setting: &'static str,
        /// How long that is.
        window: Window,
        /// What it has to be longer than.
        least: Window,
    },
    /// The stream cannot be written exactly.
    #[error("{stream:?} cannot be written as asked: {reason}")]
    Unfit {
        /// The stream.
        stream: String,
        /// Why.
        reason: String,
    },
    /// The server takes nothing more.
    #[error("{stream:?} does not take a message: {said}")]
    NotTaken {
        /// The stream.
        stream: String,
        /// The server's words.
        said: String,
    },
    /// It is not read back.
    #[error("what was written to {stream:?} cannot be read back: {reason}")]
    NoReadBack {
        /// The stream.
        stream: String,
        /// Why.
        reason: String,
    },
    /// It is too late to send.
    #[error("{stream:?} might not drop a repeat any more: nothing more was sent")]
    Late {
        /// The stream.
        stream: String,
    },
    /// The monitoring does not answer.
    #[error("the server does not tell about itself at `monitor`: {reason}")]
    Monitor {
        /// Why.
        reason: String,
    },
    /// Bodies could not be made.
    #[error("records could not be written as messages")]
    Arrow(#[from] arrow::error::ArrowError),
}

impl Fault for WriteFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) | Self::Subject(_) | Self::Monitor { .. } => codes::CONFIG,
            Self::NoWindow { .. } => codes::NO_WINDOW,
            Self::Unfit { .. } => codes::STREAM_UNFIT,
            Self::NotTaken { .. } => codes::NOT_TAKEN,
            Self::NoReadBack { .. } => codes::NO_READ_BACK,
            Self::Late { .. } => codes::LATE,
            Self::Arrow(_) => codes::SERVER_FAILED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) | Self::Subject(_) => "Write `subject: orders.{id}`; with `once: subject` it names exactly the columns of `identity: { key: [...] }`, with a dot between them.",
            Self::NoWindow { .. } => "Lengthen it (`nats stream edit NAME --dupe-window 10m`, or `--max-age`), or write the other `once`.",
            Self::Unfit { .. } => "Write to another stream, or change this one.",
            Self::NotTaken { .. } => "Make room in the stream, or raise its limits; then run again: it goes on behind the last commit.",
            Self::NoReadBack { .. } => "Compare by other means.",
            Self::Late { .. } => "The next attempt decides by `past_window`.",
            Self::Monitor { .. } => "Give the server `http: \"127.0.0.1:8222\"`, or leave `monitor` out.",
            Self::Arrow(_) => "This is a defect of Hapax: please report it with the pipeline file.",
        }
        .to_owned()
    }
}

impl From<WriteFault> for SinkError {
    fn from(fault: WriteFault) -> Self {
        match fault {
            WriteFault::NotTaken { .. } | WriteFault::Late { .. } => Self::unavailable(fault),
            _ => Self::stop(fault),
        }
    }
}
