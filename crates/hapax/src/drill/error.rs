//! Why a drill could not be held. What it found is no error: see [`super::board`].

use std::io;
use std::path::PathBuf;

use hapax_engine::fault::{Fault, SinkError, SourceError};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::Level;

use crate::codes;
use crate::exit::{Exit, Failure, Report};

/// Why a drill could not be held. The real destination was not changed.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The source cannot be read twice.
    #[error("the source takes away what it reads ({what}): a drill would lose those records")]
    Consumes {
        /// How.
        what: &'static str,
    },
    /// No scratch destination.
    #[error("no scratch destination could be made in {}", places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" or "))]
    NoScratch {
        /// Where it was tried.
        places: Vec<PathBuf>,
        /// Why not.
        source: io::Error,
    },
    /// A scratch destination failed later.
    #[error("the scratch destination in {} failed", place.display())]
    Scratch {
        /// Where it is.
        place: PathBuf,
        /// How.
        source: io::Error,
    },
    /// The scratch destination would prove something else.
    #[error(
        "the real destination promises {real}, a scratch one would promise {scratch}: drilling that proves nothing of it"
    )]
    OtherPromise {
        /// What the real one promises.
        real: Level,
        /// What the scratch one promises.
        scratch: Level,
    },
    /// A run would fail at the real destination.
    #[error("a run of this pipeline would fail at its real destination: {0}")]
    Destination(SinkError),
    /// Nothing to move.
    #[error("there is nothing to drill: {what}")]
    Nothing {
        /// Why.
        what: &'static str,
    },
    /// The pipeline fails by itself.
    #[error("the pipeline fails on a scratch destination before anything is done to it: {what}")]
    CalmRun {
        /// How the worker ended, and what it said.
        what: String,
    },
    /// The source is not what it was at the start.
    #[error(
        "the source changed during the drill: {before} records at its start, {after} now, or others in their place"
    )]
    SourceChanged {
        /// Records at the start.
        before: u64,
        /// Records now.
        after: u64,
    },
    /// A worker cannot be started or watched.
    #[error("a worker could not be {doing}")]
    Worker {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The source cannot be read.
    #[error("{0}")]
    Source(SourceError),
}

impl From<DrillError> for Failure {
    fn from(error: DrillError) -> Self {
        let mut report = Report::of(&error);
        report.kept = Some("the real destination was not changed".into());
        if matches!(error, DrillError::Consumes { .. } | DrillError::OtherPromise { .. }) {
            report.exit = Exit::BadCommand;
        }
        report.into()
    }
}

impl Fault for DrillError {
    fn code(&self) -> Code {
        match self {
            Self::Consumes { .. } => codes::CONSUMES,
            Self::NoScratch { .. } | Self::Scratch { .. } => codes::NO_SCRATCH,
            Self::OtherPromise { .. } => codes::OTHER_PROMISE,
            Self::Nothing { .. } => codes::NOTHING_TO_DRILL,
            Self::CalmRun { .. } => codes::CALM_RUN,
            Self::SourceChanged { .. } => codes::SOURCE_CHANGED,
            Self::Worker { .. } => codes::WORKER,
            Self::Destination(error) => error.fault.code(),
            Self::Source(error) => error.fault.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Consumes { .. } => {
                "Save a part of the stream to a file, and drill a pipeline that reads that file.".to_owned()
            }
            Self::NoScratch { .. } | Self::Scratch { .. } => {
                "Give a directory that can be written, on the file system of the destination: `--scratch DIRECTORY`."
                    .to_owned()
            }
            Self::OtherPromise { .. } => {
                "Drill the pipeline with a destination that keeps positions: a file, a directory or a table.".to_owned()
            }
            Self::Nothing { .. } => "Put some records into the source, a few thousand are plenty, or give it more time.".to_owned(),
            Self::CalmRun { .. } => "Mend that first: `hapax plan` says more.".to_owned(),
            Self::SourceChanged { .. } => "Drill while nobody writes to the source, or drill a copy of it.".to_owned(),
            Self::Worker { .. } => "Raise the limits of this process (`ulimit -u`) and drill again.".to_owned(),
            Self::Destination(error) => error.fault.help(),
            Self::Source(error) => error.fault.help(),
        }
    }
}
