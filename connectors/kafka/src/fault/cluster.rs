//! A cluster that cannot be used.

use hapax_engine::fault::{Fault, SinkError, SourceError};
use hapax_protocol::code::Code;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::client::{is_about_credentials, is_about_tls};
use crate::codes;

/// A cluster could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterFault {
    /// The configuration contradicts itself.
    #[error("`{key}` of kafka: {what}")]
    Config {
        /// The key in the file.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// No broker answers.
    #[error("no broker of {place} answers{}", reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Unreachable {
        /// The brokers that were named.
        place: String,
        /// What was heard last.
        reason: Option<String>,
    },
    /// A user who is not known.
    #[error("the brokers of {place} do not let this user in: {reason}")]
    Credentials {
        /// The brokers.
        place: String,
        /// What they say.
        reason: String,
    },
    /// No encryption.
    #[error("no encrypted connection to {place}: {reason}")]
    Tls {
        /// The brokers.
        place: String,
        /// What was heard.
        reason: String,
    },
    /// A user who may not.
    #[error("{doing} at {place} is not allowed to this user: {source}")]
    Denied {
        /// The brokers.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// What they say.
        source: KafkaError,
    },
    /// No such topic.
    #[error("{place} has no topic {topic}")]
    NoTopic {
        /// The brokers.
        place: String,
        /// The topic, or the partition.
        topic: String,
    },
    /// Something else.
    #[error("{doing} at {place} failed: {source}")]
    Failed {
        /// The brokers.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// What went wrong.
        source: KafkaError,
    },
}

impl ClusterFault {
    pub(crate) fn config(key: &str, what: &str) -> Self {
        Self::Config { key: key.to_owned(), what: what.to_owned() }
    }

    pub(crate) fn option(key: &str, what: &str) -> Self {
        Self::config(&format!("options: {key}"), what)
    }

    /// What a failure was, and what was heard before it.
    pub(crate) fn of(place: &str, doing: &'static str, source: KafkaError, heard: Option<String>) -> Self {
        use RDKafkaErrorCode as C;
        let place = place.to_owned();
        let code = match &source {
            KafkaError::AdminOp(code) => Some(*code),
            other => other.rdkafka_error_code(),
        };
        match (code, heard) {
            (Some(C::Authentication | C::SaslAuthenticationFailed), heard) => {
                Self::Credentials { place, reason: heard.unwrap_or_else(|| source.to_string()) }
            }
            (
                Some(
                    C::TopicAuthorizationFailed
                    | C::GroupAuthorizationFailed
                    | C::ClusterAuthorizationFailed
                    | C::TransactionalIdAuthorizationFailed,
                ),
                _,
            ) => Self::Denied { place, doing, source },
            (Some(code), heard) if is_silence(code) => match heard {
                Some(reason) if is_about_credentials(&reason) => Self::Credentials { place, reason },
                Some(reason) if is_about_tls(&reason) => Self::Tls { place, reason },
                reason => Self::Unreachable { place, reason },
            },
            (_, _) => Self::Failed { place, doing, source },
        }
    }

    /// Whether it may pass by itself.
    pub(crate) fn may_pass(&self) -> bool {
        use RDKafkaErrorCode as C;
        match self {
            Self::Unreachable { .. } => true,
            Self::Failed { source, .. } => matches!(
                source.rdkafka_error_code(),
                Some(
                    C::CoordinatorLoadInProgress
                        | C::CoordinatorNotAvailable
                        | C::NotCoordinator
                        | C::LeaderNotAvailable
                        | C::NotLeaderForPartition
                        | C::NotEnoughReplicas
                        | C::ConcurrentTransactions
                        | C::OffsetNotAvailable
                        | C::FencedLeaderEpoch
                        | C::UnknownLeaderEpoch
                        | C::BrokerNotAvailable
                        | C::NetworkException
                        | C::KafkaStorageError
                        | C::StaleBrokerEpoch
                        | C::RebootstrapRequired
                )
            ),
            _ => false,
        }
    }
}

/// Whether a code says no more than that nobody answered.
pub(crate) fn is_silence(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::AllBrokersDown
            | C::BrokerTransportFailure
            | C::BrokerDestroy
            | C::Resolve
            | C::OperationTimedOut
            | C::RequestTimedOut
            | C::TimedOutQueue
            | C::MessageTimedOut
            | C::WaitingForCoordinator
            | C::SSL
    )
}

impl Fault for ClusterFault {
    fn code(&self) -> Code {
        match self {
            Self::Config { .. } => codes::CONFIG,
            Self::Unreachable { .. } => codes::UNREACHABLE,
            Self::Credentials { .. } => codes::CREDENTIALS,
            Self::Tls { .. } => codes::TLS,
            Self::Denied { .. } => codes::DENIED,
            Self::NoTopic { .. } => codes::NO_TOPIC,
            Self::Failed { .. } => codes::FAILED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config { .. } => "Correct the `kafka:` section.",
            Self::Unreachable { .. } => {
                "Nothing was lost. Check `brokers` and that they run; behind a listener that is advertised under another \
                 name that name must be reachable, too. Then run again: it goes on behind the last commit."
            }
            Self::Credentials { .. } => {
                "Check `user`, `password` and `mechanism` under `security`. Nothing was moved."
            }
            Self::Tls { .. } => {
                "Check `tls` and `ca` under `security`, and that this listener of the broker speaks TLS."
            }
            Self::Denied { .. } => {
                "Give the user the right (docs/connectors/kafka.md lists those that are needed), then run again: it \
                 goes on behind the last commit."
            }
            Self::NoTopic { .. } => {
                "Check the name. A sink makes the topic with `create: { partitions: 6 }`. Nothing was lost."
            }
            Self::Failed { .. } => "Nothing was lost. Run again: it goes on behind the last commit.",
        }
        .to_owned()
    }
}

impl From<ClusterFault> for SourceError {
    fn from(fault: ClusterFault) -> Self {
        if fault.may_pass() { Self::unavailable(fault) } else { Self::stop(fault) }
    }
}

impl From<ClusterFault> for SinkError {
    fn from(fault: ClusterFault) -> Self {
        if fault.may_pass() { Self::unavailable(fault) } else { Self::stop(fault) }
    }
}
