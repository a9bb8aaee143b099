//! A server that cannot be reached, or does not do what it is told.

use hapax_engine::fault::{Fault, SinkError, SourceError};
use hapax_engine::tls::is_about;
use hapax_protocol::code::Code;
use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::codes;

/// A server could not be reached, read or written.
#[derive(Debug, thiserror::Error)]
pub enum ServerFault {
    /// The URL is no URL of a server.
    #[error("the `url` of a Redis server cannot be read: {0}")]
    BadUrl(String),
    /// User or password.
    #[error("{place} does not know this user with this password")]
    WrongPassword {
        /// Which server.
        place: String,
        /// The server's words.
        source: RedisError,
    },
    /// A permission is missing.
    #[error("the user of {place} may not do this ({doing}): it lacks {missing}")]
    Denied {
        /// Which server.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// The right, as `ACL SETUSER` takes it.
        missing: String,
        /// The server's words.
        source: RedisError,
    },
    /// No connection, or none any more.
    #[error("{place} cannot be reached, or the connection ended ({doing})")]
    Gone {
        /// Which server.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// How.
        source: RedisError,
    },
    /// No encryption, or with somebody who is not trusted.
    #[error("no encrypted connection to {place}: {reason}")]
    Tls {
        /// Which server.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// An old server.
    #[error("{place} runs Redis {version}, and Hapax needs 7.0 or newer")]
    TooOld {
        /// Which server.
        place: String,
        /// What it says of itself.
        version: String,
    },
    /// It loads its data, a script keeps it busy, or its cluster is not whole.
    #[error("{place} is not ready ({doing})")]
    NotReady {
        /// Which server.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// The server's words.
        source: RedisError,
    },
    /// No memory, or no disk.
    #[error("{place} takes no writes: its memory or its disk is full ({doing})")]
    Full {
        /// Which server.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// The server's words.
        source: RedisError,
    },
    /// A replica refused a write.
    #[error("{place} is a replica and takes no writes")]
    ReadOnly {
        /// Which server.
        place: String,
    },
    /// Keys may go.
    #[error("{place} may remove keys when its memory is full (maxmemory-policy {policy})")]
    Evicts {
        /// Which server.
        place: String,
        /// What it does.
        policy: String,
    },
    /// Everything else.
    #[error("{place} failed ({doing})")]
    Failed {
        /// Which server.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// The server's words.
        source: RedisError,
    },
    /// The server's words make no sense to us.
    #[error("{place} answered something that Hapax does not understand ({doing})")]
    Misunderstood {
        /// Which server.
        place: String,
        /// What was being done.
        doing: &'static str,
    },
}

impl ServerFault {
    /// Sorts what the server or the client library said.
    pub(crate) fn of(place: &str, doing: &'static str, source: RedisError) -> Self {
        let place = place.to_owned();
        match (source.kind(), source.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
                Self::WrongPassword { place, source }
            }
            _ if is_denied(&source) => Self::Denied { place, doing, missing: missing(&source), source },
            (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => Self::ReadOnly { place },
            (
                ErrorKind::Server(
                    ServerErrorKind::BusyLoading
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask,
                ),
                _,
            )
            | (_, Some("BUSY")) => Self::NotReady { place, doing, source },
            (_, Some("OOM" | "MISCONF" | "NOREPLICAS")) => Self::Full { place, doing, source },
            _ if source.is_io_error() && is_about(&source.to_string()) => {
                Self::Tls { place, reason: source.to_string() }
            }
            // An answer that ends in the middle cannot be parsed.
            (ErrorKind::Parse, _) => Self::Gone { place, doing, source },
            _ if source.is_io_error() || source.is_connection_dropped() || source.is_timeout() => {
                Self::Gone { place, doing, source }
            }
            _ => Self::Failed { place, doing, source },
        }
    }

    /// Whether the server does not answer, or not yet.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::NotReady { .. })
    }
}

/// Whether a right is missing, to a command or to one of several that were sent together.
fn is_denied(source: &RedisError) -> bool {
    let denied = ServerErrorKind::NoPerm;
    let of_several = || source.clone().into_server_errors();
    match source.kind() {
        ErrorKind::Server(ServerErrorKind::ExecAbort) => {
            // That the end of a step is denied is said within what its end fails with.
            source.to_string().contains("NOPERM")
                || of_several()
                    .is_some_and(|errors| errors.iter().any(|(_, error)| error.kind() == Some(denied)))
        }
        kind => kind == ErrorKind::Server(denied),
    }
}

/// The right that is missing, out of the server's words.
fn missing(source: &RedisError) -> String {
    let said = source.to_string();
    let command = said.split_once("run the '").and_then(|(_, rest)| rest.split_once('\''));
    match command {
        Some((command, _)) => format!("`+{command}`"),
        None if said.contains("key") => "`~KEY` for a key that this needs".to_owned(),
        None => "a right".to_owned(),
    }
}

impl Fault for ServerFault {
    fn code(&self) -> Code {
        match self {
            Self::BadUrl(_) => codes::BAD_URL,
            Self::WrongPassword { .. } => codes::WRONG_PASSWORD,
            Self::Denied { .. } => codes::DENIED,
            Self::Gone { .. } => codes::GONE,
            Self::Tls { .. } => codes::TLS,
            Self::TooOld { .. } => codes::TOO_OLD,
            Self::NotReady { .. } => codes::NOT_READY,
            Self::Full { .. } => codes::FULL,
            Self::ReadOnly { .. } => codes::READ_ONLY,
            Self::Evicts { .. } => codes::EVICTS,
            Self::Failed { .. } | Self::Misunderstood { .. } => codes::SERVER_FAILED,
        }
    }

    fn help(&self) -> String {
        let text = match self {
            Self::BadUrl(_) => {
                "Write `redis://user:password@host:6379/0`, or `rediss://` for TLS; take the password from `${env:NAME}`."
            }
            Self::WrongPassword { .. } => {
                "Check user and password in `url`; in a URL, `@`, `:` and `/` of a password are written %40, %3A and %2F."
            }
            Self::Denied { .. } => {
                "Permit what is missing with `ACL SETUSER`; docs/connectors/redis.md lists what each use needs."
            }
            Self::Gone { .. } => {
                "Check host and port, and that the server runs. Then run again: it goes on behind the last commit."
            }
            Self::Tls { .. } => {
                "Nothing was moved. Name the authority that signed the server's certificate in `tls: { ca: FILE }`, and the client's `certificate` and `key` if the server asks for them; `url` names the host as the certificate does."
            }
            Self::TooOld { .. } => "Upgrade the server.",
            Self::NotReady { .. } => {
                "Nothing was lost. Wait until the server is ready, and run again: it goes on behind the last commit."
            }
            Self::Full { .. } => {
                "Make room (`maxmemory`, the disk) and run again: it goes on behind the last commit."
            }
            Self::ReadOnly { .. } => "Name the primary server in `url`. Then run again: nothing was lost.",
            Self::Evicts { .. } => {
                "Run `CONFIG SET maxmemory-policy noeviction`, or use a server for Hapax alone. Otherwise positions or \
                 claims could go, and records would be moved again."
            }
            Self::Failed { .. } | Self::Misunderstood { .. } => {
                "Read the server's words below, mend the cause, and run again: it goes on behind the last commit."
            }
        };
        text.to_owned()
    }
}

impl From<ServerFault> for SourceError {
    fn from(fault: ServerFault) -> Self {
        if fault.is_away() { Self::unavailable(fault) } else { Self::stop(fault) }
    }
}

impl From<ServerFault> for SinkError {
    fn from(fault: ServerFault) -> Self {
        if fault.is_away() { Self::unavailable(fault) } else { Self::stop(fault) }
    }
}
