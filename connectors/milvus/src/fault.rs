//! What can go wrong with a server, described.

mod read;
mod write;

use hapax_engine::fault::{Fault, SinkError, SourceError};
use hapax_protocol::code::Code;

use crate::client::About;
use crate::codes;
use crate::proto::Status;
pub use read::ReadFault;
pub use write::WriteFault;

/// The server could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServerFault {
    /// The URL cannot be read.
    #[error("the Milvus URL cannot be read: {0}")]
    BadUrl(String),
    /// The server does not let this token in.
    #[error("{place} does not let this token in: {said}")]
    WrongToken {
        /// Which server.
        place: String,
        /// The server's words.
        said: String,
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
    /// No TLS.
    #[error("no connection over TLS to {place}: {reason}")]
    Tls {
        /// Which server.
        place: String,
        /// The client's words.
        reason: String,
    },
    /// No such database.
    #[error("{place} has no database {database:?}")]
    NoDatabase {
        /// Which server.
        place: String,
        /// Which database.
        database: String,
    },
    /// No such collection.
    #[error("{place} has no collection {collection:?}")]
    NoCollection {
        /// Which server.
        place: String,
        /// Which collection.
        collection: String,
    },
    /// The collection is not loaded.
    #[error("the collection {collection:?} of {place} is not loaded: nothing of it can be read")]
    NotLoaded {
        /// Which server.
        place: String,
        /// Which collection.
        collection: String,
    },
    /// The collection is being loaded.
    #[error("the collection {collection:?} of {place} is still being loaded")]
    Loading {
        /// Which server.
        place: String,
        /// Which collection.
        collection: String,
    },
    /// A rate or a quota is used up.
    #[error("{place} takes nothing more for now while {doing}: {said}")]
    Quota {
        /// Which server.
        place: String,
        /// What was going on.
        doing: &'static str,
        /// The server's words.
        said: String,
    },
    /// An answer is larger than the server gives, or than is taken.
    #[error("{place} does not give so much at once while {doing}: {said}")]
    TooLarge {
        /// Which server.
        place: String,
        /// What was going on.
        doing: &'static str,
        /// The server's words.
        said: String,
    },
    /// The user may not.
    #[error("{place} does not allow this user: {doing}: {said}")]
    Forbidden {
        /// Which server.
        place: String,
        /// What was going on.
        doing: &'static str,
        /// The server's words.
        said: String,
    },
    /// Something else.
    #[error("{place} failed while {doing}: {said}")]
    Failed {
        /// Which server.
        place: String,
        /// What was going on.
        doing: &'static str,
        /// The server's words.
        said: String,
        /// The server's number for it.
        number: i32,
    },
}

/// The server's number for a request that is wrong in itself.
const PARAMETER_INVALID: i32 = 1_100;

/// The server's number for a field without an index.
const INDEX_NOT_FOUND: i32 = 700;

/// How servers say that an answer is too large: gRPC's limit of a message, and those of Milvus.
const TOO_LARGE: [&str; 4] =
    ["larger than max", "exceed the limit size", "maxOutputSize", "message length too large"];

fn is_too_large(said: &str) -> bool {
    TOO_LARGE.iter().any(|words| said.contains(words))
}

impl ServerFault {
    /// Says what a call means that ended without an answer of Milvus.
    pub(crate) fn of_transport(place: &str, about: About<'_>, code: tonic::Code, said: &str) -> Self {
        let (place, said, doing) = (place.to_owned(), said.to_owned(), about.doing);
        match code {
            tonic::Code::ResourceExhausted | tonic::Code::OutOfRange if is_too_large(&said) => {
                Self::TooLarge { place, doing, said }
            }
            tonic::Code::Unauthenticated => Self::WrongToken { place, said },
            tonic::Code::PermissionDenied => Self::Forbidden { place, doing, said },
            tonic::Code::ResourceExhausted => Self::Quota { place, doing, said },
            tonic::Code::Unimplemented | tonic::Code::InvalidArgument | tonic::Code::OutOfRange => {
                Self::Failed { place, doing, said, number: 0 }
            }
            _ => Self::Gone { place, doing, reason: said },
        }
    }

    /// Says what an answer of Milvus means.
    pub(crate) fn of_status(place: &str, database: &str, about: About<'_>, status: &Status) -> Self {
        let (collection, doing, said) = (about.collection.to_owned(), about.doing, status.reason.clone());
        let place = place.to_owned();
        match (status.code, status.error_code) {
            _ if is_too_large(&said) => Self::TooLarge { place, doing, said },
            (100, _) | (0, 4 | 28) => Self::NoCollection { place, collection },
            (101, _) => Self::NotLoaded { place, collection },
            (103, _) => Self::Loading { place, collection },
            (800, _) => {
                let database = if database.is_empty() { "default" } else { database }.to_owned();
                Self::NoDatabase { place, database }
            }
            (3 | 4 | 7 | 8 | 9 | 11 | 12, _) | (_, 48 | 49 | 53 | 54 | 55) => {
                Self::Quota { place, doing, said }
            }
            (1_400 | 1_401, _) | (_, 3) => Self::Forbidden { place, doing, said },
            // Parts of the server that come and go: nodes, replicas, channels, segments.
            (1 | 2 | 400..=699 | 901..=999, _) | (0, 44 | 45 | 50 | 56 | 57 | 100) => {
                Self::Gone { place, doing, reason: said }
            }
            _ if status.retriable => Self::Gone { place, doing, reason: said },
            (number, _) => Self::Failed { place, doing, said, number },
        }
    }

    /// Whether it may pass by itself.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Loading { .. } | Self::Quota { .. })
    }

    /// Whether a collection has no index, which loading needs.
    pub(crate) fn is_missing_index(&self) -> bool {
        matches!(self, Self::Failed { number, .. } if *number == INDEX_NOT_FOUND)
    }

    /// Whether the server refused the request for what it holds.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Failed { number, .. } if *number == PARAMETER_INVALID)
    }
}

impl Fault for ServerFault {
    fn code(&self) -> Code {
        match self {
            Self::BadUrl(_) => codes::BAD_URL,
            Self::WrongToken { .. } => codes::WRONG_TOKEN,
            Self::Gone { .. } => codes::GONE,
            Self::Tls { .. } => codes::TLS,
            Self::NoDatabase { .. } => codes::NO_DATABASE,
            Self::NoCollection { .. } => codes::NO_COLLECTION,
            Self::NotLoaded { .. } => codes::NOT_LOADED,
            Self::Loading { .. } => codes::LOADING,
            Self::Quota { .. } => codes::QUOTA,
            Self::TooLarge { .. } => codes::ANSWER_TOO_LARGE,
            Self::Forbidden { .. } => codes::FORBIDDEN,
            Self::Failed { .. } => codes::SERVER_FAILED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::BadUrl(_) => "Write it as http://host:19530, or https:// for TLS, with `token: ${env:TOKEN}` beside it; `@`, `:`, `/` and `%` of a password in it are written %40, %3A, %2F, %25.",
            Self::WrongToken { .. } => "Give `token: ${env:TOKEN}`: an API key, or `user:password`.",
            Self::Gone { .. } => "Check host and port, and that the server runs. Then run again: it goes on behind the last commit.",
            Self::Tls { .. } => "Check that the server speaks TLS at this port, and that its certificate is trusted: `ca: FILE` names one that is not the system's. Without TLS the URL begins with http://.",
            Self::NoDatabase { .. } => "Make it, or name another with `database`.",
            Self::NoCollection { .. } => "Make it, or let the sink make it: `create: { vector: COLUMN, dimension: 384 }`.",
            Self::NotLoaded { .. } => "Load it (`client.load_collection(NAME)`), and run again: nothing was moved.",
            Self::Loading { .. } => "It is waited for. If it takes longer than Hapax does, run again once it is loaded.",
            Self::Quota { .. } => "It was waited for, and nothing was lost. Raise the rate or the quota, or make room; then run again: it goes on behind the last commit.",
            Self::TooLarge { .. } => "Hapax asks for less and less, down to one entity. Raise the server's limit of an answer (`proxy.grpc.serverMaxSendSize`, `quotaAndLimits.limits.maxOutputSize`).",
            Self::Forbidden { .. } => "Grant what it needs: to describe, query, upsert and delete; to make a collection also to create, index and load.",
            Self::Failed { .. } => "See the server's log. Nothing was lost: a run goes on behind the last commit.",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_has_errors_of_their_own() {
        let of = |code: i32, old: i32, reason: &str| {
            let status = Status { code, error_code: old, reason: reason.to_owned(), ..Status::default() };
            let about = About { collection: "c", doing: "upserting" };
            let fault = ServerFault::of_status("h:1", "", about, &status);
            (fault.code(), fault.is_away())
        };
        for (code, old, reason, expected) in [
            (100, 0, "collection not found", (codes::NO_COLLECTION, false)),
            (0, 4, "can't find collection", (codes::NO_COLLECTION, false)),
            (101, 0, "collection not loaded", (codes::NOT_LOADED, false)),
            (103, 0, "collection not fully loaded", (codes::LOADING, true)),
            (800, 0, "database not found", (codes::NO_DATABASE, false)),
            (8, 0, "rate limit exceeded", (codes::QUOTA, true)),
            (9, 0, "quota exceeded", (codes::QUOTA, true)),
            (0, 49, "RateLimit", (codes::QUOTA, true)),
            (0, 53, "memory quota exceeded", (codes::QUOTA, true)),
            (0, 54, "disk quota exceeded", (codes::QUOTA, true)),
            (1_401, 0, "permission denied", (codes::FORBIDDEN, false)),
            (503, 0, "channel not available", (codes::GONE, true)),
            (1_100, 0, "invalid parameter", (codes::SERVER_FAILED, false)),
            (65_535, 0, "query results exceed the limit size", (codes::ANSWER_TOO_LARGE, false)),
            (
                1,
                0,
                "query results exceed the maxOutputSize Limit 104857600",
                (codes::ANSWER_TOO_LARGE, false),
            ),
        ] {
            assert_eq!(of(code, old, reason), expected, "{code} {old} {reason}");
        }
        let of = |code: tonic::Code, said: &str| {
            let about = About { collection: "c", doing: "reading" };
            let fault = ServerFault::of_transport("h:1", about, code, said);
            (fault.code(), fault.is_away())
        };
        for (code, said, expected) in [
            (tonic::Code::ResourceExhausted, "rate limit exceeded", (codes::QUOTA, true)),
            (
                tonic::Code::ResourceExhausted,
                "grpc: trying to send message larger than max (97508943 vs. 67108864)",
                (codes::ANSWER_TOO_LARGE, false),
            ),
            (tonic::Code::Unauthenticated, "auth check failure", (codes::WRONG_TOKEN, false)),
            (tonic::Code::PermissionDenied, "deny", (codes::FORBIDDEN, false)),
            (tonic::Code::Unavailable, "connection reset", (codes::GONE, true)),
            (tonic::Code::InvalidArgument, "what?", (codes::SERVER_FAILED, false)),
        ] {
            assert_eq!(of(code, said), expected, "{code} {said}");
        }
    }
}
