//! How the embedded ledger can fail, as the engine sees it.

use std::path::PathBuf;

use hapax_engine::fault::Fault;
use hapax_protocol::code::Code;

use crate::codes;
use crate::directory::StoreError;
use crate::error::{Broken, Error};

/// The embedded ledger could not do what it was asked. Nothing that depends on it may take effect.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedFault {
    /// The directory failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What it holds cannot be trusted.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// It was there, and is not.
    #[error("the ledger of pipeline {pipeline} is missing: there is none in {}", folder.display())]
    Lost {
        /// The pipeline.
        pipeline: String,
        /// Where it should be.
        folder: PathBuf,
    },
    /// The thread that worked on it ended.
    #[error("the work on the ledger ended before it was done")]
    Interrupted,
}

impl From<Error<StoreError>> for EmbeddedFault {
    fn from(error: Error<StoreError>) -> Self {
        match error {
            Error::Store(error) => Self::Store(error),
            Error::Broken(broken) => Self::Broken(broken),
        }
    }
}

impl Fault for EmbeddedFault {
    fn code(&self) -> Code {
        match self {
            Self::Store(error) => error.code(),
            Self::Broken(broken) => broken.code(),
            Self::Lost { .. } => codes::LOST,
            Self::Interrupted => codes::UNSETTLED,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Store(error) => error.help(),
            Self::Broken(broken) => broken.help(),
            Self::Lost { folder, .. } => format!(
                "Put the directory back where it was, or name its place in `ledger`. To accept that records which were \
                 claimed before may take effect again, make an empty ledger: `mkdir -p {0} && touch {0}/amended.led`.",
                folder.display()
            ),
            Self::Interrupted => "Start the run again: it recovers from the last commit.".into(),
        }
    }
}
