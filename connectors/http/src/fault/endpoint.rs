//! Endpoints that do not answer with vectors.

use hapax_engine::fault::{Fault, SourceError};
use hapax_protocol::code::Code;

use crate::codes;

/// An endpoint could not be asked for vectors.
#[derive(Debug, thiserror::Error)]
pub enum EndpointFault {
    /// The configuration contradicts itself.
    #[error("`embed` is not configured: {0}")]
    Config(String),
    /// It refuses every text.
    #[error("{place} computes no vectors: HTTP status {status}: {said}")]
    Refused {
        /// Which host.
        place: String,
        /// The status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// The answer is no list of vectors.
    #[error("{place} answers with something that is no list of vectors: {reason}")]
    Unread {
        /// Which host.
        place: String,
        /// Why.
        reason: String,
    },
}

impl Fault for EndpointFault {
    fn code(&self) -> Code {
        match self {
            Self::Config(_) => codes::CONFIG,
            Self::Refused { .. } => codes::ENDPOINT_REFUSED,
            Self::Unread { .. } => codes::ENDPOINT_UNREAD,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config(_) => "docs/connectors/http.md describes each key of `embed`.",
            Self::Refused { .. } => {
                "Nothing was lost. Check `url`, `model` and `auth` in `embed`, then run again: it goes on behind the last commit."
            }
            Self::Unread { .. } => {
                "Nothing was lost. Hapax sends `{\"model\": …, \"input\": [texts]}` and takes `{\"data\": [{\"index\": 0, \"embedding\": […]}]}` or `{\"embeddings\": [[…]]}`: name an endpoint that speaks so."
            }
        }
        .to_owned()
    }
}

impl From<EndpointFault> for SourceError {
    fn from(fault: EndpointFault) -> Self {
        Self::stop(fault)
    }
}
