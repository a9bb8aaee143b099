//! What can go wrong at a file destination.

use std::io;
use std::path::{Path, PathBuf};

use arrow::datatypes::DataType;
use hapax_engine::fault::{Fault, SinkError};
use hapax_protocol::code::Code;
use hapax_protocol::position::{Epoch, SplitId};
use parquet::errors::ParquetError;

use crate::sink::codes;

/// A failure of the files sink.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The path names another system.
    #[error("the files sink writes to the local file system, not to {scheme}://")]
    RemoteDestination {
        /// What stands before `://`.
        scheme: String,
    },
    /// No path was given.
    #[error("the path of the files sink is empty")]
    NoPath,
    /// Neither extension nor `format` say how to write.
    #[error("the path {path} does not say which format to write")]
    FormatUnknown {
        /// The path as given.
        path: String,
    },
    /// A setting that the format does not have.
    #[error("{what} does not go with the format {format}")]
    Unfitting {
        /// The setting.
        what: &'static str,
        /// The format.
        format: &'static str,
    },
    /// Parquet cannot be written to a stream that a person may cut off.
    #[error("Parquet cannot be written to standard output: without its footer nothing of it can be read")]
    ParquetToStdout,
    /// The operating system does not allow it.
    #[error("cannot {doing} {path}: {source}", path = .path.display())]
    NotWritable {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No space left.
    #[error("the disk is full: cannot {doing} {path}: {source}", path = .path.display())]
    DiskFull {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another failure of the file system.
    #[error("cannot {doing} {path}: {source}", path = .path.display())]
    FileSystem {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// fsync failed: what the operating system still holds of it is unknown.
    #[error("the file system could not make {path} durable: {source}", path = .path.display())]
    NotDurable {
        /// Which file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// This process met an fsync error before.
    #[error("this run stopped writing because the file system failed to make something durable")]
    Stopped,
    /// CSV has no lists, structs or maps.
    #[error("column {column} is {kind}: CSV cannot hold nested values")]
    CsvNested {
        /// Its name.
        column: String,
        /// Its type.
        kind: DataType,
    },
    /// The format has no such type.
    #[error("{format} cannot hold the columns: {reason}")]
    TypeUnsupported {
        /// The format.
        format: &'static str,
        /// Which column and type.
        reason: String,
    },
    /// The destination exists and is not this pipeline's.
    #[error("{path} exists and was not written by this pipeline", path = .path.display())]
    DestinationTaken {
        /// The destination.
        path: PathBuf,
    },
    /// The destination is not what was published.
    #[error("{path} was changed since this pipeline published it: {how}", path = .path.display())]
    DestinationChanged {
        /// The destination.
        path: PathBuf,
        /// What differs.
        how: String,
    },
    /// The stored positions mean something else.
    #[error("the positions in {path} were made by another definition of this pipeline", path = .path.display())]
    DefinitionChanged {
        /// The state directory.
        path: PathBuf,
    },
    /// A later run holds the destination.
    #[error("a later run ({by}) has taken over {path}", path = .path.display())]
    Fenced {
        /// The state directory.
        path: PathBuf,
        /// The token of the later run.
        by: hapax_protocol::lease::FencingToken,
    },
    /// A manifest is not what was written.
    #[error("the manifest {path} cannot be used: {reason}", path = .path.display())]
    StateDamaged {
        /// The manifest.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A commit starts somewhere else than the last one ended.
    #[error("split {split} stands at epoch {stands}, commit {asked} does not follow it", stands = .stands.get(), asked = .asked.get())]
    Diverged {
        /// Which split.
        split: SplitId,
        /// Its last commit.
        stands: Epoch,
        /// The commit that was asked for.
        asked: Epoch,
    },
    /// A stream keeps no dead letters.
    #[error("{place} has to be set aside, and standard output has no place for it: {reason}")]
    NoDeadLetters {
        /// The record.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The ledger failed.
    #[error("the ledger of identities in {path} failed", path = .path.display())]
    Ledger {
        /// Its directory.
        path: PathBuf,
        /// How.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file has other columns.
    #[error("{path} has other columns: it holds {had}, records now have {has}", path = .path.display())]
    ColumnsChanged {
        /// The destination.
        path: PathBuf,
        /// Its columns.
        had: String,
        /// The records' columns.
        has: String,
    },
    /// Records could not be encoded.
    #[error("cannot encode records as {format}")]
    Encoding {
        /// The format.
        format: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Fault for Failure {
    fn code(&self) -> Code {
        match self {
            Self::RemoteDestination { .. } => codes::REMOTE_DESTINATION,
            Self::NoPath | Self::FormatUnknown { .. } => codes::FORMAT_UNKNOWN,
            Self::Unfitting { .. } | Self::ParquetToStdout => codes::UNFITTING,
            Self::NotWritable { .. } => codes::NOT_WRITABLE,
            Self::DiskFull { .. } => codes::DISK_FULL,
            Self::FileSystem { .. } => codes::FILE_SYSTEM,
            Self::NotDurable { .. } | Self::Stopped => codes::NOT_DURABLE,
            Self::CsvNested { .. } => codes::CSV_NESTED,
            Self::TypeUnsupported { .. } => codes::TYPE_UNSUPPORTED,
            Self::DestinationTaken { .. } => codes::DESTINATION_TAKEN,
            Self::DestinationChanged { .. } => codes::DESTINATION_CHANGED,
            Self::DefinitionChanged { .. } => codes::DEFINITION_CHANGED,
            Self::Fenced { .. } => codes::FENCED,
            Self::StateDamaged { .. } => codes::STATE_DAMAGED,
            Self::Diverged { .. } => codes::DIVERGED,
            Self::NoDeadLetters { .. } => codes::NO_DEAD_LETTERS,
            Self::Ledger { .. } => codes::LEDGER,
            Self::ColumnsChanged { .. } => codes::COLUMNS_CHANGED,
            Self::Encoding { .. } => codes::ENCODING,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::RemoteDestination { .. } => "Write to a local path and copy the finished files with your store's own tool.",
            Self::NoPath => "Give `path`: a file (`out.csv`), a directory (`out/`) or `-`.",
            Self::FormatUnknown { .. } => "Add `format: csv`, `jsonl` or `parquet`, or name the file .csv, .jsonl or .parquet.",
            Self::Unfitting { .. } => "Remove the setting, or choose the format it belongs to.",
            Self::ParquetToStdout => "Write Parquet to a path, or use `format: jsonl` or `csv` for standard output.",
            Self::NotWritable { .. } => "Let this user write there, or choose another path; then run again. Nothing was lost.",
            Self::DiskFull { .. } => "Free some space and run again: it goes on behind the last commit. Nothing was lost.",
            Self::FileSystem { .. } => "Look at the file system and run again: it goes on behind the last commit.",
            Self::NotDurable { .. } | Self::Stopped => "Check the disk and the kernel log, then run again: a new run looks at what is really there.",
            Self::CsvNested { .. } => "Write jsonl or parquet, or take the column apart with `transform`.",
            Self::TypeUnsupported { .. } => "Cast the column with `transform`, or choose another format.",
            Self::DestinationTaken { .. } => "Choose another path, or move the file away. Hapax does not overwrite what it did not write.",
            Self::DestinationChanged { .. } => "Restore the file as it was, or move it away together with its hidden state directory to move everything again.",
            Self::DefinitionChanged { .. } => "Give the pipeline another `name` (and destination), or take the change back. Nothing was moved, nothing was lost.",
            Self::Fenced { .. } => "Let the later run finish. If it was started by mistake, stop it and run again.",
            Self::StateDamaged { .. } => "Restore the state directory from a backup, or move it away together with the data to move everything again.",
            Self::Diverged { .. } => "Run again: it goes on from what the destination holds. Report it if it comes back.",
            Self::NoDeadLetters { .. } => "Use `on_error: stop`, repair the record, or write to a file or a database instead.",
            Self::Ledger { .. } => "Look at the disk and run again: the ledger is read anew and replays are recognised.",
            Self::ColumnsChanged { .. } => "Write to another path, or select the former columns with `transform`.",
            Self::Encoding { .. } => "Cast the column named above with `transform`, or choose another format.",
        }
        .to_owned()
    }
}

impl From<Failure> for SinkError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fenced { .. } => Self::fenced(failure),
            other => Self::stop(other),
        }
    }
}

/// Describes an error of the operating system met while `doing` something to `path`.
pub(crate) fn at<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Failure + 'a {
    move |source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Failure::DiskFull { doing, path, source }
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Failure::NotWritable { doing, path, source }
            }
            _ => Failure::FileSystem { doing, path, source },
        }
    }
}

/// Describes an error met while encoding into the file `path`.
pub(crate) fn encoding(
    format: &'static str,
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Failure {
    match error.into().downcast::<io::Error>() {
        Ok(io) => at("write", path)(*io),
        Err(source) => Failure::Encoding { format, source },
    }
}

/// Describes an error of the Parquet writer, which may be the disk's.
pub(crate) fn parquet(path: &Path, error: ParquetError) -> Failure {
    match error {
        ParquetError::External(inner) => encoding("parquet", path, inner),
        other => Failure::Encoding { format: "parquet", source: Box::new(other) },
    }
}
