//! How the embedded store can fail.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use hapax_protocol::code::Code;
use thiserror::Error;

use crate::codes;
use crate::store::{SegmentId, SplitNumber};

/// The directory of a ledger could not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {action} {} of the ledger: {source}", path.display())]
    Io {
        /// What was tried.
        action: Action,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system did not confirm that bytes are on the disk. The store refuses everything from now on.
    #[error("the system did not confirm that {} of the ledger is on the disk: {source}", path.display())]
    NotDurable {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier write was not confirmed.
    #[error("the ledger in {} is not used any more: an earlier write to it failed", path.display())]
    Poisoned {
        /// Which directory.
        path: PathBuf,
    },
    /// A file is not what was written.
    #[error("{} of the ledger is damaged", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// A file that this ledger is about to make is there already, or one that it made is gone.
    #[error("somebody else writes to the ledger: {} is theirs", path.display())]
    OtherWriter {
        /// Which file.
        path: PathBuf,
    },
    /// A page was asked for, or written, that a segment does not have.
    #[error("ledger segment {} has no page {page}", segment.0)]
    NoSuchPage {
        /// The segment.
        segment: SegmentId,
        /// The page.
        page: u32,
    },
    /// An entry names a split that the ledger does not know.
    #[error("the ledger has no name for split {}", .0.0)]
    NoSuchSplit(SplitNumber),
}

/// What was tried with a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Making it.
    Create,
    /// Listing it.
    List,
    /// Reading it.
    Read,
    /// Removing it.
    Remove,
    /// Writing to it.
    Write,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::List => "list",
            Self::Read => "read",
            Self::Remove => "remove",
            Self::Write => "write",
        })
    }
}

impl StoreError {
    pub(crate) fn io(action: Action, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(super) fn not_durable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::NotDurable { path: path.to_owned(), source }
    }

    /// Making a file that must not exist.
    pub(super) fn create_new(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::AlreadyExists => Self::OtherWriter { path: path.to_owned() },
            _ => Self::Io { action: Action::Create, path: path.to_owned(), source },
        }
    }

    /// Its stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Io { .. } => codes::DIRECTORY,
            Self::NotDurable { .. } | Self::Poisoned { .. } => codes::NOT_DURABLE,
            Self::Damaged { .. } | Self::NoSuchPage { .. } | Self::NoSuchSplit(_) => codes::FILE_DAMAGED,
            Self::OtherWriter { .. } => codes::OTHER_WRITER,
        }
    }

    /// What to do now.
    pub fn help(&self) -> String {
        match self {
            Self::Io { .. } => {
                "Make sure that the directory can be written to and that the disk has room, \
                then start the run again: it continues from the last commit."
            }
            Self::NotDurable { .. } | Self::Poisoned { .. } => {
                "Check the disk and the system's log, then \
                start the run again: it reads what really is on the disk."
            }
            Self::Damaged { .. } | Self::NoSuchPage { .. } | Self::NoSuchSplit(_) => {
                "Restore the \
                destination, with its ledger, from a backup: going on without the ledger could let a \
                record take effect twice."
            }
            Self::OtherWriter { .. } => {
                "Make sure that only one run uses this destination, then start it \
                again: it continues from the last commit."
            }
        }
        .into()
    }
}
