//! What can go wrong with a server, described.

mod write;

use async_nats::ConnectErrorKind;
use async_nats::jetstream::ErrorCode;
use hapax_engine::fault::{Fault, SinkError, SourceError};
use hapax_engine::tls::is_about;
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::SplitId;

use crate::codes;
pub use write::WriteFault;

/// The server could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServerFault {
    /// The URL cannot be read.
    #[error("the NATS URL cannot be read: {0}")]
    BadUrl(String),
    /// The server does not let this user in.
    #[error("{place} does not let this user in: wrong user, password or token")]
    WrongPassword {
        /// Which server.
        place: String,
    },
    /// The connection ended, or could not be made.
    #[error("{place} cannot be reached while {doing}: {reason}")]
    Gone {
        /// Which server.
        place: String,
        /// What was going on.
        doing: &'static str,
        /// The client's words.
        reason: String,
    },
    /// No encryption, or with somebody who is not trusted.
    #[error("no encrypted connection to {place}: {reason}")]
    Tls {
        /// Which server.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// No such stream.
    #[error("{place} has no stream {stream:?}")]
    NoStream {
        /// Which server.
        place: String,
        /// Which stream.
        stream: String,
    },
    /// No JetStream.
    #[error("{place} has no JetStream for this account: {said}")]
    NoJetStream {
        /// Which server.
        place: String,
        /// The server's words.
        said: String,
    },
    /// Something else.
    #[error("{place} failed while {doing}: {reason}")]
    Failed {
        /// Which server.
        place: String,
        /// What was going on.
        doing: &'static str,
        /// The server's words.
        reason: String,
    },
}

impl ServerFault {
    /// Says what a failure to connect means.
    pub(crate) fn connecting(place: &str, error: &async_nats::ConnectError) -> Self {
        let place = place.to_owned();
        match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                Self::WrongPassword { place }
            }
            ConnectErrorKind::ServerParse => {
                Self::BadUrl("the server is named in no way it knows".to_owned())
            }
            ConnectErrorKind::Tls => Self::Tls { place, reason: error.to_string() },
            _ if is_about(&error.to_string()) => Self::Tls { place, reason: error.to_string() },
            _ => Self::Gone { place, doing: "connecting", reason: error.to_string() },
        }
    }

    /// Says what an answer of JetStream means.
    pub(crate) fn answered(
        place: &str,
        stream: &str,
        doing: &'static str,
        error: &async_nats::jetstream::Error,
    ) -> Self {
        let place = place.to_owned();
        match error.error_code() {
            ErrorCode::STREAM_NOT_FOUND => Self::NoStream { place, stream: stream.to_owned() },
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                Self::NoJetStream { place, said: error.to_string() }
            }
            _ if error.code() == 503 => Self::Gone { place, doing, reason: error.to_string() },
            _ => Self::Failed { place, doing, reason: error.to_string() },
        }
    }

    /// Whether it may pass by itself.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}

impl Fault for ServerFault {
    fn code(&self) -> Code {
        match self {
            Self::BadUrl(_) => codes::BAD_URL,
            Self::WrongPassword { .. } => codes::WRONG_PASSWORD,
            Self::Gone { .. } => codes::GONE,
            Self::Tls { .. } => codes::TLS,
            Self::NoStream { .. } => codes::NO_STREAM,
            Self::NoJetStream { .. } => codes::NO_JETSTREAM,
            Self::Failed { .. } => codes::SERVER_FAILED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::BadUrl(_) => "Write it as nats://user:password@host:port; `@`, `:`, `/` and `%` of a password are written %40, %3A, %2F, %25.",
            Self::WrongPassword { .. } => "Check user and password, or the token, against the server's `authorization`.",
            Self::Gone { .. } => "Check host and port, and that the server runs. Then run again: it goes on behind the last commit.",
            Self::Tls { .. } => "Nothing was moved. Name the authority that signed the server's certificate in `tls: { ca: FILE }`, and the client's `certificate` and `key` if the server asks for them; `url` names the host as the certificate does.",
            Self::NoStream { .. } => "`nats stream ls` lists the streams there are. One that was deleted took its messages with it.",
            Self::NoJetStream { .. } => "Start the server with `jetstream`, and enable it for the account.",
            Self::Failed { .. } => "See the server's log.",
        }
        .to_owned()
    }
}

impl From<ServerFault> for SourceError {
    fn from(fault: ServerFault) -> Self {
        match fault.is_away() {
            true => Self::unavailable(fault),
            false => Self::stop(fault),
        }
    }
}

impl From<ServerFault> for SinkError {
    fn from(fault: ServerFault) -> Self {
        match fault.is_away() {
            true => Self::unavailable(fault),
            false => Self::stop(fault),
        }
    }
}

/// A stream could not be read as asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The configuration contradicts itself.
    #[error("the nats source is not configured: {0}")]
    Config(String),
    /// A position of something else.
    #[error("the stored position of {split} was not made by this reading of the stream {stream:?}")]
    ForeignPosition {
        /// The split.
        split: SplitId,
        /// The stream.
        stream: String,
    },
    /// Messages are missing behind the position.
    #[error(
        "{stream:?} has lost messages that were not read: everything from {from} to {to} was removed before this run came to it"
    )]
    Trimmed {
        /// The stream.
        stream: String,
        /// The first of them, by sequence.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// Another stream of the same name.
    #[error(
        "{stream:?} was made anew: the position is of the stream that was made at {then}, this one was made at {now}"
    )]
    Recreated {
        /// The stream.
        stream: String,
        /// When that of the position was made, in nanoseconds since 1970.
        then: i64,
        /// When this one was.
        now: i64,
    },
    /// The stream is shorter than the position.
    #[error(
        "{stream:?} ends at sequence {last}, and the position stands behind {position}: its last messages are gone"
    )]
    EndsBefore {
        /// The stream.
        stream: String,
        /// Its last sequence.
        last: u64,
        /// The position.
        position: u64,
    },
    /// A stream that forgets what is acknowledged cannot be read by sequence.
    #[error("{stream:?} forgets what is acknowledged (retention {retention}): it cannot be read by sequence")]
    WorkQueue {
        /// The stream.
        stream: String,
        /// Its retention.
        retention: &'static str,
    },
    /// The consumer does not fit.
    #[error("the consumer {consumer:?} of {stream:?} cannot be used: {reason}")]
    Consumer {
        /// The stream.
        stream: String,
        /// The consumer.
        consumer: String,
        /// Why.
        reason: String,
    },
    /// A dead letter that is not a record any more.
    #[error("dead letter {place} cannot be read again: {reason}")]
    Letter {
        /// Where it stood.
        place: Place,
        /// Why.
        reason: String,
    },
    /// A batch could not be made.
    #[error("messages could not be put into columns")]
    Arrow(#[from] arrow::error::ArrowError),
}

impl Fault for ReadFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) => codes::CONFIG,
            Self::ForeignPosition { .. } => codes::FOREIGN_POSITION,
            Self::Trimmed { .. } => codes::TRIMMED,
            Self::Recreated { .. } => codes::RECREATED,
            Self::EndsBefore { .. } => codes::ENDS_BEFORE,
            Self::WorkQueue { .. } => codes::WORK_QUEUE,
            Self::Consumer { .. } => codes::CONSUMER_UNFIT,
            Self::Letter { .. } => codes::LETTER_UNREADABLE,
            Self::Arrow(_) => codes::SERVER_FAILED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "`format: json` takes `schema: { id: int64, … }`; `workers` (1 to 64) share a `consumer`.",
            Self::ForeignPosition { .. } => "Give the pipeline another `name` to start from the beginning.",
            Self::Trimmed { .. } => "Feed them again if you can. To go on behind them, and lose them, write `on_gap: accept`. Run more often, or let the stream keep its messages for longer.",
            Self::Recreated { .. } => "Give the pipeline another `name` to read the new stream from its beginning.",
            Self::EndsBefore { .. } => "The server lost what it had not synced, or the stream was restored from an older copy. What the destination holds of it stays. Give the pipeline another `name` to read the stream from its beginning.",
            Self::WorkQueue { .. } => "Write `consumer: NAME`: messages are then acknowledged once they have taken effect.",
            Self::Consumer { .. } => "Name another consumer, or leave it to Hapax to make one.",
            Self::Letter { .. } => "Mend `schema`, publish the message again, or drop the dead letter.",
            Self::Arrow(_) => "This is a defect of Hapax: please report it with the pipeline file.",
        }
        .to_owned()
    }
}

impl From<ReadFault> for SourceError {
    fn from(fault: ReadFault) -> Self {
        Self::stop(fault)
    }
}
