//! A server that cannot be reached, or does not do what it is told.

use hapax_engine::fault::{Fault, SinkError, SourceError};
use hapax_protocol::code::Code;
use mysql_async::{DriverError, Error, ServerError};

use crate::{codes, tls};

/// A database could not be reached, read or written.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseFault {
    /// The URL is no URL of a database.
    #[error("the `url` of a MySQL database cannot be read: {0}")]
    BadUrl(String),
    /// User or password.
    #[error("{place} does not know this user with this password")]
    WrongPassword {
        /// Which database.
        place: String,
        /// The server's words.
        source: Error,
    },
    /// The database does not exist.
    #[error("there is no database {place}")]
    NoDatabase {
        /// Which one.
        place: String,
    },
    /// A privilege is missing.
    #[error("the user of {place} may not do this ({doing}): {said}")]
    Denied {
        /// Which database.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// What is missing, in the server's words.
        said: String,
    },
    /// No connection, or none any more.
    #[error("{place} cannot be reached, or the connection ended ({doing})")]
    Gone {
        /// Which database.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// How.
        source: Error,
    },
    /// It did not answer in time.
    #[error("{place} did not answer within {waited_s} s")]
    Silent {
        /// Which database.
        place: String,
        /// How long it was given, in seconds.
        waited_s: u64,
    },
    /// An old server.
    #[error("{place} runs {version}, and Hapax needs MySQL 8.0.19 or MariaDB 10.5 or newer")]
    TooOld {
        /// Which database.
        place: String,
        /// What it says of itself.
        version: String,
    },
    /// Not encrypted as asked for.
    #[error("no encrypted connection to {place}")]
    Tls {
        /// Which database.
        place: String,
        /// Why.
        source: Error,
    },
    /// A lock, or a deadlock.
    #[error("another transaction of {place} stood in the way ({doing}): the open commit was taken back")]
    Locked {
        /// Which database.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// The server's words.
        source: Error,
    },
    /// Another connection has a split and cannot be ended.
    #[error("another connection of {place} holds split {split} and does not let go")]
    Held {
        /// Which database.
        place: String,
        /// The split.
        split: String,
    },
    /// The server's list of transactions cannot be read.
    #[error("{place} gave no whole list of its transactions within {waited_ms} ms")]
    Unclear {
        /// Which database.
        place: String,
        /// How long it was given, in milliseconds.
        waited_ms: u64,
    },
    /// A distributed transaction is prepared, and nobody has it.
    #[error("{place} has a prepared XA transaction that no connection holds: nothing tells when it began")]
    Abandoned {
        /// Which database.
        place: String,
    },
    /// No space left.
    #[error("the disk of {place} is full: the open commit was taken back")]
    DiskFull {
        /// Which database.
        place: String,
        /// The server's words.
        source: Error,
    },
    /// A replica, or a server set to read only.
    #[error("{place} takes no writes")]
    ReadOnly {
        /// Which database.
        place: String,
        /// The server's words.
        source: Error,
    },
    /// Everything else.
    #[error("{place} failed ({doing})")]
    Failed {
        /// Which database.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// The server's words.
        source: Error,
    },
    /// The server's words make no sense to us.
    #[error("{place} answered something that Hapax does not understand ({doing})")]
    Misunderstood {
        /// Which database.
        place: String,
        /// What was being done.
        doing: &'static str,
    },
}

impl DatabaseFault {
    /// Sorts what the server or the client library said.
    pub(crate) fn of(place: &str, doing: &'static str, source: Error) -> Self {
        let place = place.to_owned();
        match &source {
            Error::Server(said) => Self::said(place, doing, said.clone(), source),
            Error::Driver(DriverError::NoClientSslFlagFromServer) => Self::Tls { place, source },
            Error::Io(error) if tls::is_at_fault(error) => Self::Tls { place, source },
            Error::Io(_) | Error::Driver(DriverError::ConnectionClosed) => {
                Self::Gone { place, doing, source }
            }
            _ => Self::Failed { place, doing, source },
        }
    }

    fn said(place: String, doing: &'static str, said: ServerError, source: Error) -> Self {
        match said.code {
            1045 | 1698 | 1862 | 1820 => Self::WrongPassword { place, source },
            1049 => Self::NoDatabase { place },
            1044 | 1095 | 1142 | 1143 | 1227 | 1370 | 1410 => {
                Self::Denied { place, doing, said: said.message }
            }
            // Too many connections, shutting down, killed, interrupted: all of them pass.
            1040 | 1053 | 1152 | 1158..=1161 | 1203 | 1226 | 1317 | 1927 | 2006 | 2013 | 3169 | 4031 => {
                Self::Gone { place, doing, source }
            }
            1205 | 1213 | 3058 | 3572 => Self::Locked { place, doing, source },
            1021 | 1114 => Self::DiskFull { place, source },
            1026 | 1030 if said.message.contains("No space left") => Self::DiskFull { place, source },
            1290 | 1792 | 1836 => Self::ReadOnly { place, source },
            _ => Self::Failed { place, doing, source },
        }
    }

    /// Whether the server does not answer.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Silent { .. })
    }

    /// Whether trying again may help.
    pub(crate) fn passes(&self) -> bool {
        matches!(
            self,
            Self::Gone { .. }
                | Self::Silent { .. }
                | Self::Locked { .. }
                | Self::Held { .. }
                | Self::Unclear { .. }
        )
    }
}

impl Fault for DatabaseFault {
    fn code(&self) -> Code {
        match self {
            Self::BadUrl(_) => codes::BAD_URL,
            Self::WrongPassword { .. } => codes::WRONG_PASSWORD,
            Self::NoDatabase { .. } => codes::NO_DATABASE,
            Self::Denied { .. } => codes::DENIED,
            Self::Gone { .. } | Self::Silent { .. } => codes::GONE,
            Self::TooOld { .. } => codes::TOO_OLD,
            Self::Tls { .. } => codes::TLS,
            Self::Locked { .. } | Self::Held { .. } => codes::LOCKED,
            Self::Unclear { .. } | Self::Abandoned { .. } => codes::NO_HORIZON,
            Self::DiskFull { .. } => codes::DISK_FULL,
            Self::ReadOnly { .. } => codes::READ_ONLY,
            Self::Failed { .. } | Self::Misunderstood { .. } => codes::DATABASE_FAILED,
        }
    }

    fn help(&self) -> String {
        let text = match self {
            Self::BadUrl(_) => {
                "Write `mysql://user:password@host:3306/database`; take the password from `${env:NAME}`."
            }
            Self::WrongPassword { .. } => {
                "Check user and password in `url`; in a URL, `@`, `:` and `/` of a password are written %40, %3A and %2F."
            }
            Self::NoDatabase { .. } => {
                "Create the database, or name another one behind the last `/` of `url`."
            }
            Self::Denied { .. } => {
                "Grant what is missing; docs/connectors/mysql.md lists what each use needs."
            }
            Self::Gone { .. } | Self::Silent { .. } => {
                "Check host and port, and that the server runs. Then run again: it goes on behind the last commit."
            }
            Self::TooOld { .. } => "Upgrade the server.",
            Self::Tls { .. } => {
                "Give the CA's file as `?ssl-ca=PATH`, or say with `?ssl-mode=` how much is asked for: disabled, \
                 preferred, required, verify-ca, verify-identity."
            }
            Self::Locked { .. } | Self::Held { .. } => {
                "Find the other transaction (`SHOW PROCESSLIST`), let it finish, and run again: nothing is lost."
            }
            Self::Unclear { .. } => {
                "Run again when fewer transactions are open: SHOW ENGINE INNODB STATUS leaves some out beyond 1 MiB."
            }
            Self::Abandoned { .. } => {
                "`XA RECOVER` lists it; `XA COMMIT` or `XA ROLLBACK` ends it. Then run again."
            }
            Self::DiskFull { .. } => "Make room and run again: it goes on behind the last commit.",
            Self::ReadOnly { .. } => "Name the primary server in `url`, or end its `read_only`.",
            Self::Failed { .. } | Self::Misunderstood { .. } => {
                "Read the server's words below, mend the cause, and run again: it goes on behind the last commit."
            }
        };
        text.to_owned()
    }
}

impl From<DatabaseFault> for SourceError {
    fn from(fault: DatabaseFault) -> Self {
        if fault.passes() { Self::unavailable(fault) } else { Self::stop(fault) }
    }
}

impl From<DatabaseFault> for SinkError {
    fn from(fault: DatabaseFault) -> Self {
        if fault.passes() { Self::unavailable(fault) } else { Self::stop(fault) }
    }
}
