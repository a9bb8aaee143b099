//! What can go wrong with a broker, described.

use hapax_engine::fault::{Fault, SinkError, SourceError};
use hapax_engine::template::TemplateError;
use hapax_engine::tls::is_about;
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::SplitId;
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::codes;

/// The broker could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BrokerFault {
    /// The URL cannot be read.
    #[error("the RabbitMQ URL cannot be read: {0}")]
    BadUrl(String),
    /// The broker does not know the user, or not with this password.
    #[error("{place} does not let this user in: wrong user or password")]
    WrongPassword {
        /// Which broker.
        place: String,
    },
    /// No such virtual host for this user.
    #[error("{place}: there is no such virtual host, or this user may not enter it: {said}")]
    NoVhost {
        /// Which broker.
        place: String,
        /// The broker's words.
        said: String,
    },
    /// The connection ended, or could not be made.
    #[error("{place} cannot be reached while {doing}: {source}")]
    Gone {
        /// Which broker.
        place: String,
        /// What was going on.
        doing: &'static str,
        /// Why.
        source: lapin::Error,
    },
    /// No encryption, or with somebody who is not trusted.
    #[error("no encrypted connection to {place}: {reason}")]
    Tls {
        /// Which broker.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The broker did not answer in time.
    #[error("{place} did not answer within {waited_s} s while {doing}")]
    Silent {
        /// Which broker.
        place: String,
        /// What was going on.
        doing: &'static str,
        /// How long it was waited for, in seconds.
        waited_s: u64,
    },
    /// What is named is not there.
    #[error("{place}: {said}")]
    Missing {
        /// Which broker.
        place: String,
        /// The broker's words, which name it.
        said: String,
    },
    /// The queue went away while it was read.
    #[error("{place}: the queue {queue:?} was deleted while it was read")]
    Deleted {
        /// Which broker.
        place: String,
        /// Which queue.
        queue: String,
    },
    /// The user may not.
    #[error("{place} refuses {doing}: {said}")]
    Denied {
        /// Which broker.
        place: String,
        /// What was going on.
        doing: &'static str,
        /// The broker's words.
        said: String,
    },
    /// A message is larger than the broker takes.
    #[error("{place} takes no message so large while {doing}: {said}")]
    TooLarge {
        /// Which broker.
        place: String,
        /// What was going on.
        doing: &'static str,
        /// The broker's words, which end with how many bytes it takes.
        said: String,
    },
    /// Another consumer has it to itself.
    #[error("{place}: another consumer has the queue {queue:?} to itself")]
    Exclusive {
        /// Which broker.
        place: String,
        /// Which queue.
        queue: String,
    },
    /// Something else.
    #[error("{place} failed while {doing}: {source}")]
    Failed {
        /// Which broker.
        place: String,
        /// What was going on.
        doing: &'static str,
        /// The client's words.
        source: lapin::Error,
    },
}

impl BrokerFault {
    /// Says what an error of the client means.
    pub(crate) fn of(place: &str, doing: &'static str, source: lapin::Error) -> Self {
        let place = place.to_owned();
        let ErrorKind::ProtocolError(error) = source.kind() else {
            return match source.kind() {
                ErrorKind::IOError(error) if is_about(&error.to_string()) => {
                    Self::Tls { place, reason: error.to_string() }
                }
                ErrorKind::IOError(_)
                | ErrorKind::RuntimeShutdownError(_)
                | ErrorKind::MissingHeartbeatError
                | ErrorKind::InvalidChannel(_)
                | ErrorKind::InvalidChannelState(..)
                | ErrorKind::InvalidConnectionState(_) => Self::Gone { place, doing, source },
                _ => Self::Failed { place, doing, source },
            };
        };
        let said = error.get_message().to_string();
        match error.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Self::Missing { place, said },
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) if said.contains("exclusive") => {
                let queue = said.split('\'').nth(1).unwrap_or_default().to_owned();
                Self::Exclusive { place, queue }
            }
            AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => {
                let queue = said.split('\'').nth(1).unwrap_or_default().to_owned();
                Self::Exclusive { place, queue }
            }
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) if doing == CONNECTING => {
                Self::WrongPassword { place }
            }
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Self::Denied { place, doing, said },
            AMQPErrorKind::Soft(AMQPSoftError::CONTENTTOOLARGE) => Self::TooLarge { place, doing, said },
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) if said.contains("message size") => {
                Self::TooLarge { place, doing, said }
            }
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if doing == CONNECTING => {
                Self::NoVhost { place, said }
            }
            AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED | AMQPHardError::INTERNALERROR) => {
                Self::Gone { place, doing, source }
            }
            _ => Self::Failed { place, doing, source },
        }
    }

    /// How many bytes of a body the broker takes, if that is what it said.
    pub(crate) fn body_bytes_max(&self) -> Option<usize> {
        let Self::TooLarge { said, .. } = self else { return None };
        let digits = |c: char| c.is_ascii_digit();
        said.trim_end_matches(|c| !digits(c)).rsplit(|c| !digits(c)).next()?.parse().ok()
    }

    /// Whether it may pass by itself.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Silent { .. })
    }
}

/// What is said to be going on while a connection is made.
pub(crate) const CONNECTING: &str = "connecting";

impl Fault for BrokerFault {
    fn code(&self) -> Code {
        match self {
            Self::BadUrl(_) => codes::BAD_URL,
            Self::WrongPassword { .. } => codes::WRONG_PASSWORD,
            Self::NoVhost { .. } => codes::NO_VHOST,
            Self::Gone { .. } | Self::Silent { .. } => codes::GONE,
            Self::Tls { .. } => codes::TLS,
            Self::Missing { .. } | Self::Deleted { .. } => codes::NO_QUEUE,
            Self::Denied { .. } => codes::DENIED,
            Self::Exclusive { .. } => codes::EXCLUSIVE,
            Self::TooLarge { .. } => codes::TOO_LARGE,
            Self::Failed { .. } => codes::BROKER_FAILED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::BadUrl(_) => "Write it as amqp://user:password@host:port/vhost; `@`, `:`, `/` and `%` of a password are written %40, %3A, %2F, %25.",
            Self::WrongPassword { .. } => "Check user and password; `rabbitmqctl authenticate_user NAME PASSWORD` asks the broker.",
            Self::NoVhost { .. } => "`rabbitmqctl list_vhosts` lists them, `rabbitmqctl list_permissions -p VHOST` who may enter.",
            Self::Gone { .. } | Self::Silent { .. } => "Check host and port, and that the broker runs. Then run again: what was not acknowledged comes again, and the ledger knows what took effect.",
            Self::Tls { .. } => "Nothing was moved. Name the authority that signed the broker's certificate in `tls: { ca: FILE }`, and the client's `certificate` and `key` if the broker asks for them; `url` names the host as the certificate does.",
            Self::Missing { .. } => "Declare it first; `rabbitmqctl list_queues` lists the queues there are.",
            Self::Deleted { .. } => "What it held and had not been acknowledged went with it. Declare it again if that was a mistake.",
            Self::Denied { .. } => "Nothing of the open commit counts as moved. A source needs the permission `read` on its queue, a sink `write` on its exchange (`amq.default` where none is named): `rabbitmqctl set_permissions -p VHOST USER '' 'EXCHANGE' 'QUEUE'`.",
            Self::Exclusive { .. } => "End the other consumer, or let it consume without `exclusive`.",
            Self::TooLarge { .. } => "Raise `max_message_size` of the broker, or make the record smaller with a transform.",
            Self::Failed { .. } => "See the broker's log.",
        }
        .to_owned()
    }
}

impl From<BrokerFault> for SourceError {
    fn from(fault: BrokerFault) -> Self {
        match fault.is_away() {
            true => Self::unavailable(fault),
            false => Self::stop(fault),
        }
    }
}

impl From<BrokerFault> for SinkError {
    fn from(fault: BrokerFault) -> Self {
        match fault.is_away() {
            true => Self::unavailable(fault),
            false => Self::stop(fault),
        }
    }
}

/// An exchange could not be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault {
    /// The configuration contradicts itself.
    #[error("the rabbitmq sink is not configured: {0}")]
    Config(&'static str),
    /// A name does not fit the columns.
    #[error("`{key}`: {error}")]
    Name {
        /// The key in the file.
        key: &'static str,
        /// Why.
        error: TemplateError,
    },
    /// A queue gives nothing back without giving it away.
    #[error("what was published cannot be read back: a queue can only be read by taking from it")]
    NoReadBack,
    /// Bodies could not be made.
    #[error("records could not be written as messages")]
    Arrow(#[from] arrow::error::ArrowError),
}

impl Fault for WriteFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) | Self::Name { .. } => codes::CONFIG,
            Self::NoReadBack => codes::NO_READ_BACK,
            Self::Arrow(_) => codes::BROKER_FAILED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "`format: raw` sends the one column that there is, of bytes or text; `format: json` all of them.",
            Self::Name { .. } => "A column stands between braces: `routing_key: orders.{region}`, `message_id: order-{id}`.",
            Self::NoReadBack => "Compare by other means, at the system that consumes the queue for instance.",
            Self::Arrow(_) => "This is a defect of Hapax: please report it with the pipeline file.",
        }
        .to_owned()
    }
}

impl From<WriteFault> for SinkError {
    fn from(fault: WriteFault) -> Self {
        Self::stop(fault)
    }
}

/// A queue could not be read as asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The configuration contradicts itself.
    #[error("the rabbitmq source is not configured: {0}")]
    Config(String),
    /// The broker does not tell about itself.
    #[error("`management`: {reason}")]
    Management {
        /// Why.
        reason: String,
    },
    /// A position of something else.
    #[error("the stored position of {split} was not made by this reading of the queue {queue:?}")]
    ForeignPosition {
        /// The split.
        split: SplitId,
        /// The queue.
        queue: String,
    },
    /// A stream, which forgets nothing.
    #[error("{queue:?} is a stream: what is acknowledged stays in it, and would come again with every run")]
    Stream {
        /// The queue.
        queue: String,
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
            Self::Config(_) | Self::Management { .. } => codes::CONFIG,
            Self::ForeignPosition { .. } => codes::FOREIGN_POSITION,
            Self::Stream { .. } => codes::STREAM,
            Self::Letter { .. } => codes::LETTER_UNREADABLE,
            Self::Arrow(_) => codes::BROKER_FAILED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "`format: json` takes `schema: { id: int64, … }`; `prefetch` is 1 to 65,535 and `workers` 1 to 64.",
            Self::Management { .. } => "Write `management: http://HOST:15672`, or leave it out.",
            Self::ForeignPosition { .. } => "Give the pipeline another `name` to start anew; messages that were not acknowledged are still in the queue.",
            Self::Stream { .. } => "Read a classic or a quorum queue. Bind one to the exchange that feeds the stream.",
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
