//! What can go wrong with a files source.

use std::io;

use hapax_engine::fault::{Fault, SourceError};
use hapax_protocol::code::Code;

use crate::client::Unreached;
use crate::codes;

/// Why files cannot be read as asked.
#[derive(Debug, thiserror::Error)]
pub enum FilesFault {
    /// The configuration contradicts itself or the path.
    #[error("files source `{path}`: {what}")]
    Config {
        /// The path as written, without secrets.
        path: String,
        /// What cannot be.
        what: String,
    },
    /// Nothing matches the path.
    #[error("no file matches `{path}`")]
    NoFile {
        /// The path as written, without secrets.
        path: String,
    },
    /// A local file cannot be read.
    #[error("{name} cannot be read: {source}")]
    Unreadable {
        /// Which file.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// An object store refused or did not answer.
    #[error(transparent)]
    Storage(#[from] Unreached),
    /// The header of a CSV file does not name its columns.
    #[error("{name}: header line: {what}")]
    Header {
        /// Which file.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file has other columns than the schema.
    #[error("{name} has other columns than the schema: {what}")]
    Columns {
        /// Which file.
        name: String,
        /// Which columns.
        what: String,
    },
    /// A file was replaced.
    #[error("{name} was replaced since it was read: {what}")]
    Replaced {
        /// Which file.
        name: String,
        /// How it is known.
        what: String,
    },
    /// A file became shorter.
    #[error("{name} was truncated: {read} bytes of it were read, now it ends at byte {size}")]
    Truncated {
        /// Which file.
        name: String,
        /// How many bytes had been read.
        read: u64,
        /// How many there are.
        size: u64,
    },
    /// The last line, read without a newline at its end, was continued.
    #[error(
        "{name}: the line that ended at byte {at} without a newline was read as a record and has been continued since"
    )]
    Continued {
        /// Which file.
        name: String,
        /// Where the line ended when it was read.
        at: u64,
    },
    /// A compressed stream is damaged or ends too early.
    #[error(
        "{name}: the compressed stream is damaged or incomplete behind byte {at} of its content: {source}"
    )]
    Compressed {
        /// Which file.
        name: String,
        /// How far the content could be read.
        at: u64,
        /// What the decoder says.
        source: io::Error,
    },
    /// A Parquet file is damaged.
    #[error("{name} is not a sound Parquet file: {source}")]
    Parquet {
        /// Which file.
        name: String,
        /// What the reader says.
        source: parquet::errors::ParquetError,
    },
    /// Standard input was to be read again.
    #[error("standard input cannot be read {what}")]
    Stdin {
        /// What was asked of it.
        what: &'static str,
    },
    /// A split or a position that this source did not make.
    #[error("{name}: {what}")]
    Position {
        /// Which split.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Nothing to infer a schema from.
    #[error("{name}: there is nothing to infer the columns from: {what}")]
    NoSample {
        /// Which file or path.
        name: String,
        /// What was found.
        what: &'static str,
    },
    /// A dead letter read again, in vain.
    #[error("the record still does not fit: {reason}")]
    StillUnfit {
        /// What is wrong with it.
        reason: String,
    },
}

impl FilesFault {
    /// As the engine takes it: what a network may cause may pass, everything else stops the run.
    pub(crate) fn raise(self) -> SourceError {
        match &self {
            Self::Storage(unreached) if unreached.may_pass() => SourceError::unavailable(self),
            _ => SourceError::stop(self),
        }
    }
}

impl From<FilesFault> for SourceError {
    fn from(fault: FilesFault) -> Self {
        fault.raise()
    }
}

impl Fault for FilesFault {
    fn code(&self) -> Code {
        match self {
            Self::Config { .. } => codes::SOURCE_CONFIG,
            Self::NoFile { .. } => codes::NO_FILE,
            Self::Unreadable { .. } => codes::UNREADABLE,
            Self::Storage(_) => codes::STORAGE,
            Self::Header { .. } => codes::HEADER,
            Self::Columns { .. } => codes::COLUMNS,
            Self::Replaced { .. } => codes::REPLACED,
            Self::Truncated { .. } => codes::TRUNCATED,
            Self::Continued { .. } => codes::CONTINUED,
            Self::Compressed { .. } => codes::COMPRESSED,
            Self::Parquet { .. } => codes::PARQUET,
            Self::Stdin { .. } => codes::STDIN,
            Self::Position { .. } => codes::POSITION,
            Self::NoSample { .. } => codes::NO_SAMPLE,
            Self::StillUnfit { .. } => codes::STILL_UNFIT,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Config { .. } => "Correct the `files:` section of the source.",
            Self::NoFile { .. } => {
                "Check the path, and the directory the command runs in. A directory is read with `DIR/*.csv`."
            }
            Self::Unreadable { .. } => "Check that the file exists and that this user may read it, then run again.",
            Self::Storage(_) => "Check the address, the credentials in the environment and the network, then run again.",
            Self::Header { .. } => "Give every column a name of its own, or set `header: false`.",
            Self::Columns { .. } => {
                "Read files with different columns in pipelines of their own, or correct `schema:`."
            }
            Self::Replaced { .. } => {
                "Put the old file back, or give the new one a new name; to move it as new data under the same name, \
                 use a new pipeline name. Nothing of it was moved."
            }
            Self::Truncated { .. } => "Put the whole file back under its name and run again. Nothing was moved twice.",
            Self::Continued { .. } => {
                "Let writers end each line with a newline before the file is read. Remove the moved half record at the \
                 destination, put the rest of the line into a file of its own."
            }
            Self::Compressed { .. } => {
                "Fetch the file again (`gzip -t` or `zstd -t` tests it), then run again: what was read before is not \
                 moved twice."
            }
            Self::Parquet { .. } => "Write or fetch the file again, then run again: nothing is moved twice.",
            Self::Stdin { .. } => "Start the command again with its whole input, or read from a file.",
            Self::Position { .. } => "Check that the path of the source is still the one the positions were made with.",
            Self::NoSample { .. } => "Give the columns with `schema:`.",
            Self::StillUnfit { .. } => "Change `schema:` so that the record fits, or drop the dead letter.",
        }
        .to_owned()
    }
}
