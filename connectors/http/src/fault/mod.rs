//! What can go wrong with an HTTP API, described.

mod endpoint;
mod read;
mod write;

use hapax_engine::fault::{Fault, SinkError, SourceError};
use hapax_protocol::code::Code;

use crate::codes;
pub use endpoint::EndpointFault;
pub use read::ReadFault;
pub use write::WriteFault;

/// A host could not be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum HostFault {
    /// A URL cannot be used.
    #[error("the URL {url} cannot be used: {reason}")]
    BadUrl {
        /// The URL, without a password.
        url: String,
        /// Why.
        reason: String,
    },
    /// The configuration contradicts itself.
    #[error("the HTTP API is not configured: {0}")]
    Config(String),
    /// No connection, or no answer.
    #[error("{place} cannot be reached, or does not answer: {reason}")]
    Gone {
        /// Which host.
        place: String,
        /// The client's words.
        reason: String,
    },
    /// No secure connection.
    #[error("no secure connection to {place} can be made: {reason}")]
    Tls {
        /// Which host.
        place: String,
        /// The client's words.
        reason: String,
    },
    /// A private address.
    #[error("{what}, and nothing is sent there")]
    Private {
        /// What is where.
        what: String,
    },
    /// A redirect that is not followed.
    #[error("{place} answers {status} and sends to {to}, which is not followed: {why}")]
    Redirect {
        /// Which host.
        place: String,
        /// The status.
        status: u16,
        /// The host that it leads to.
        to: String,
        /// Why it is not followed.
        why: &'static str,
    },
    /// The authorization server gives no token.
    #[error("{place} gives no token: {said}")]
    NoToken {
        /// Which host.
        place: String,
        /// What it said.
        said: String,
    },
    /// The API does not let this user in.
    #[error("{place} does not let this user in: HTTP status {status}")]
    WrongCredentials {
        /// Which host.
        place: String,
        /// The status.
        status: u16,
    },
}

impl Fault for HostFault {
    fn code(&self) -> Code {
        match self {
            Self::BadUrl { .. } => codes::BAD_URL,
            Self::Config(_) => codes::CONFIG,
            Self::Gone { .. } => codes::GONE,
            Self::Tls { .. } => codes::TLS,
            Self::Private { .. } => codes::PRIVATE_ADDRESS,
            Self::Redirect { .. } => codes::REDIRECT,
            Self::NoToken { .. } | Self::WrongCredentials { .. } => codes::WRONG_CREDENTIALS,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::BadUrl { .. } => "Write it as https://host/path; what a URL cannot hold is written as %20.",
            Self::Config(_) => "docs/connectors/http.md describes each key.",
            Self::Gone { .. } => "Check the host and that the API runs. Then run again: it goes on behind the last commit.",
            Self::Tls { .. } => "Nothing was sent. Check the host's name and its certificate; a certificate authority of your own belongs into the file that `tls: { ca: … }` names.",
            Self::Private { .. } => "Nothing was sent. If the API is meant to be inside of your network, write `allow_private: true`.",
            Self::Redirect { .. } => "Nothing was written there. Write the URL that the API itself is at.",
            Self::NoToken { .. } => "Check `token_url`, `client_id`, `client_secret` and `scope` in `auth`. Then run again: it goes on behind the last commit.",
            Self::WrongCredentials { .. } => "Check `auth`, and what this user may do. Then run again: it goes on behind the last commit.",
        }
        .to_owned()
    }
}

impl HostFault {
    /// Whether it may pass by itself.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}

impl From<HostFault> for SourceError {
    fn from(fault: HostFault) -> Self {
        match fault.is_away() {
            true => Self::unavailable(fault),
            false => Self::stop(fault),
        }
    }
}

impl From<HostFault> for SinkError {
    fn from(fault: HostFault) -> Self {
        match fault.is_away() {
            true => Self::unavailable(fault),
            false => Self::stop(fault),
        }
    }
}
