//! What a server says, or does not say any more.

use std::error::Error as _;

use hapax_engine::fault::{Fault, SinkError, SourceError};
use hapax_protocol::code::Code;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::address::Server;
use crate::client::VERSION_MIN;
use crate::codes;

/// A server could not be reached, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServerFault {
    /// The URL is none.
    #[error("the URL of the database cannot be used: {0}")]
    Url(&'static str),
    /// A part of the URL is wrong.
    #[error("the URL of the database cannot be used")]
    UrlPart {
        /// Which.
        source: Error,
    },
    /// The name of a table cannot be read.
    #[error("{text:?} is not the name of a table")]
    TableName {
        /// As it was written.
        text: String,
    },
    /// TLS could not be prepared.
    #[error("TLS cannot be used")]
    TlsSetup {
        /// Why.
        source: rustls::Error,
    },
    /// No certificate to trust.
    #[error("there is no certificate of an authority in {place}")]
    NoRoots {
        /// Where.
        place: String,
    },
    /// The handshake failed.
    #[error("no TLS with {server}: {reason}")]
    Tls {
        /// Which server.
        server: Server,
        /// Why.
        reason: String,
    },
    /// It does not answer.
    #[error("PostgreSQL at {server} does not answer")]
    Unreachable {
        /// Which server.
        server: Server,
        /// What the system says.
        source: Error,
    },
    /// The connection ended.
    #[error("the connection to {server} was lost ({doing})")]
    Lost {
        /// Which server.
        server: Server,
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        source: Error,
    },
    /// It has no time for us now.
    #[error("PostgreSQL at {server} takes no connection now: {said}")]
    Busy {
        /// Which server.
        server: Server,
        /// The server's words.
        said: String,
    },
    /// Wrong password, unknown user, or no rule that lets it in.
    #[error("{server} does not let user {} in: {said}", server.user)]
    NotLetIn {
        /// Which server.
        server: Server,
        /// The server's words.
        said: String,
    },
    /// There is no such database.
    #[error("{server}: {said}")]
    NoDatabase {
        /// Which server.
        server: Server,
        /// The server's words.
        said: String,
    },
    /// The role may not do this.
    #[error("user {} may not do this at {server} ({doing}): {said}", server.user)]
    Denied {
        /// Which server.
        server: Server,
        /// What was being done.
        doing: &'static str,
        /// The server's words.
        said: String,
    },
    /// The role lacks a privilege, and this statement gives it.
    #[error("user {} lacks the privilege {privilege} on {object}", server.user)]
    Lacking {
        /// Which server.
        server: Server,
        /// Which privilege.
        privilege: &'static str,
        /// On what.
        object: String,
        /// The statement that gives it.
        grant: String,
    },
    /// Nothing is written there.
    #[error("PostgreSQL at {server} takes no writes: {said}")]
    ReadOnly {
        /// Which server.
        server: Server,
        /// The server's words.
        said: String,
    },
    /// The version is too old.
    #[error("PostgreSQL at {server} is version {version}, which is too old")]
    TooOld {
        /// Which server.
        server: Server,
        /// Its version.
        version: String,
    },
    /// No space left there.
    #[error("the disk of {server} is full: the open commit was taken back")]
    DiskFull {
        /// Which server.
        server: Server,
        /// The server's words.
        said: String,
    },
    /// Another transaction was in the way.
    #[error("PostgreSQL at {server} took the transaction back ({doing}): {said}")]
    TakenBack {
        /// Which server.
        server: Server,
        /// What was being done.
        doing: &'static str,
        /// The server's words.
        said: String,
    },
    /// Everything else.
    #[error("PostgreSQL at {server} failed ({doing}): {}", words(source))]
    Failed {
        /// Which server.
        server: Server,
        /// What was being done.
        doing: &'static str,
        /// The server's words.
        source: Error,
    },
}

/// What the server said, in one line.
pub(crate) fn words(error: &Error) -> String {
    let Some(said) = error.as_db_error() else {
        return match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
    };
    let parts = [Some(said.message()), said.detail(), said.hint()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(". ").replace('\n', " ")
}

impl ServerFault {
    /// Sorts why a connection could not be made.
    pub(crate) fn of_connecting(server: &Server, source: Error) -> Self {
        let server = server.clone();
        let text = source.to_string();
        if let Some(reason) = tls_reason(&source) {
            return Self::Tls { server, reason };
        }
        let said = words(&source);
        match source.code() {
            Some(&SqlState::INVALID_CATALOG_NAME) => Self::NoDatabase { server, said },
            Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                Self::NotLetIn { server, said }
            }
            // CONNECT on the database.
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::Denied { server, doing: "connecting", said },
            Some(code) if passes(code) => Self::Busy { server, said },
            Some(_) => Self::Failed { server, doing: "connecting", source },
            // The client's own words: there is no password to answer with, or the method is unknown to it.
            None if text.starts_with("authentication") || text.starts_with("invalid configuration") => {
                Self::NotLetIn { server, said }
            }
            None => Self::Unreachable { server, source },
        }
    }

    /// Sorts what a server said to a statement.
    pub(crate) fn of(server: &Server, doing: &'static str, source: Error) -> Self {
        let server = server.clone();
        let said = words(&source);
        match source.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::Denied { server, doing, said },
            Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => Self::ReadOnly { server, said },
            Some(&SqlState::DISK_FULL) => Self::DiskFull { server, said },
            Some(
                &SqlState::T_R_SERIALIZATION_FAILURE
                | &SqlState::T_R_DEADLOCK_DETECTED
                | &SqlState::LOCK_NOT_AVAILABLE
                | &SqlState::QUERY_CANCELED,
            ) => Self::TakenBack { server, doing, said },
            Some(code) if passes(code) => Self::Lost { server, doing, source },
            Some(_) => Self::Failed { server, doing, source },
            None if is_gone(&source) => Self::Lost { server, doing, source },
            None => Self::Failed { server, doing, source },
        }
    }

    /// Whether trying again may help.
    pub(crate) fn passes(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Busy { .. } | Self::TakenBack { .. }
        )
    }
}

/// What went wrong with TLS; `None` if it was something else.
fn tls_reason(error: &Error) -> Option<String> {
    if !error.to_string().contains("TLS") {
        return None;
    }
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason = cause.to_string();
        source = cause.source();
    }
    Some(reason)
}

/// Whether the connection is no more.
pub(crate) fn is_gone(error: &Error) -> bool {
    error.is_closed()
        || error.source().is_some_and(|source| source.downcast_ref::<std::io::Error>().is_some())
}

/// Whether the server is only stopping, starting, or full.
fn passes(code: &SqlState) -> bool {
    *code == SqlState::ADMIN_SHUTDOWN
        || *code == SqlState::CRASH_SHUTDOWN
        || *code == SqlState::CANNOT_CONNECT_NOW
        || *code == SqlState::TOO_MANY_CONNECTIONS
        || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        || code.code().starts_with("08")
}

impl Fault for ServerFault {
    fn code(&self) -> Code {
        match self {
            Self::Url(_) | Self::UrlPart { .. } | Self::TableName { .. } => codes::CONFIG,
            Self::TlsSetup { .. } | Self::NoRoots { .. } | Self::Tls { .. } => codes::TLS,
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Busy { .. } => codes::UNREACHABLE,
            Self::NotLetIn { .. } => codes::NOT_LET_IN,
            Self::NoDatabase { .. } => codes::NO_DATABASE,
            Self::Denied { .. } | Self::Lacking { .. } | Self::ReadOnly { .. } => codes::DENIED,
            Self::TooOld { .. } => codes::TOO_OLD,
            Self::DiskFull { .. } => codes::DISK_FULL,
            Self::TakenBack { .. } => codes::TRANSACTION_LOST,
            Self::Failed { .. } => codes::DATABASE_FAILED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Url(_) | Self::UrlPart { .. } => {
                "Write postgres://USER:PASSWORD@HOST:PORT/DATABASE; other signs than letters and digits in a password \
                 are percent-encoded (@ is %40)."
                    .into()
            }
            Self::TableName { .. } => {
                "Write `table` or `schema.table`; what contains a dot or a quote stands in double quotes, with \"\" for \
                 a quote."
                    .into()
            }
            Self::TlsSetup { .. } | Self::NoRoots { .. } => {
                "Name the certificate of your authority with `sslrootcert=/path/ca.pem` in the URL.".into()
            }
            Self::Tls { .. } => {
                "Check the host's name and `sslrootcert` in the URL. `sslmode=require` encrypts without looking at the \
                 certificate, `sslmode=disable` does not encrypt."
                    .into()
            }
            Self::Unreachable { .. } => {
                "Check host and port, and that the server runs and listens there (`pg_isready -h HOST -p PORT`).".into()
            }
            Self::Lost { .. } | Self::Busy { .. } => {
                "Run again when the server answers: it goes on behind the last commit.".into()
            }
            Self::NotLetIn { .. } => "Check user and password in the URL, and the server's pg_hba.conf.".into(),
            Self::NoDatabase { .. } => "Create the database (`createdb`), or correct its name in the URL.".into(),
            Self::Denied { .. } => "Grant it, as docs/connectors/postgres.md lists it, or name another user.".into(),
            Self::Lacking { grant, .. } => format!("Run `{grant}`, or name another user."),
            Self::ReadOnly { .. } => "Name the primary: a replica takes no writes.".into(),
            Self::TooOld { .. } => format!("Hapax needs PostgreSQL {VERSION_MIN} or newer."),
            Self::DiskFull { .. } => "Make room there and run again: it goes on behind the last commit.".into(),
            Self::TakenBack { .. } => "Run again: it goes on behind the last commit.".into(),
            Self::Failed { .. } => {
                "Read the server's words, mend the cause, and run again: it goes on behind the last commit.".into()
            }
        }
    }
}

impl From<ServerFault> for SourceError {
    fn from(fault: ServerFault) -> Self {
        if fault.passes() { Self::unavailable(fault) } else { Self::stop(fault) }
    }
}

impl From<ServerFault> for SinkError {
    fn from(fault: ServerFault) -> Self {
        if fault.passes() { Self::unavailable(fault) } else { Self::stop(fault) }
    }
}
