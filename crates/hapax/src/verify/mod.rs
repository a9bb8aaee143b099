//! Source against destination, by value.
//!
//! Both ends are streamed twice at most, in bounded memory. First, every record is counted and digested
//! into one of 4,096 ranges of identities, independent of order; ranges that agree are equal (not where twins
//! are suppressed: there both ends may agree and be wrong). Then the ranges that differ are streamed again, spread over files by identity, and compared record by record,
//! one file at a time.

mod ranges;
mod records;
mod spread;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use hapax_engine::fault::{Fault, SourceError};
use hapax_engine::identify::IdentifierError;
use hapax_engine::source::Source;
use hapax_engine::transform::Transform;
use hapax_protocol::code::Code;
use hapax_protocol::identity::{Identity, Place};
use hapax_protocol::position::{Position, SplitId};
use serde::Serialize;

use ranges::Ranges;
use records::{Digested, End, Reading};

/// Two ends to compare.
pub struct Comparison {
    /// Where records come from.
    pub source: Arc<dyn Source>,
    /// What happens on the way.
    pub transform: Option<Arc<dyn Transform>>,
    /// What tells records apart.
    pub identity: Identity,
    /// Which of several records with one identity is at the destination.
    pub winner: Winner,
    /// Records that were set aside: they are not at the destination.
    pub set_aside: HashSet<Place>,
    /// How far each split was moved. A split that is not in here was not moved at all.
    pub moved: Vec<(SplitId, Moved)>,
    /// What the destination holds, with the columns that the transform makes.
    pub destination: Arc<dyn Source>,
}

/// How far a split was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The position behind the last record that was moved.
    pub through: Position,
    /// How many records come before it.
    pub records: u64,
}

/// Which of several records with one identity is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Winner {
    /// All of them.
    All,
    /// The first of the source: twins are suppressed.
    First,
    /// The last of the source: later ones replace earlier ones.
    Last,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether both ends hold the same.
    pub equal: bool,
    /// Records of the source that should be at the destination, twins included.
    pub source_records: u64,
    /// Records that were set aside, and are not expected.
    pub set_aside: u64,
    /// Records of the destination.
    pub destination_records: u64,
    /// Identities that the source has more than once and of which one record is expected.
    pub twins: u64,
    /// Records of the source that the destination lacks.
    pub missing: Finding,
    /// Records that the destination has more often than it should.
    pub duplicated: Finding,
    /// Records that the destination has and the source does not.
    pub unexpected: Finding,
    /// Records that differ in a value.
    pub different: Finding,
    /// Records of the destination that cannot be read, or have no identity: none that Hapax moved.
    pub unreadable: u64,
    /// Splits of the source that were not moved yet, and were not compared.
    pub splits_not_moved: u64,
}

/// How many, and some of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How many.
    pub records: u64,
    /// At most [`EXAMPLES_MAX`] of them.
    pub examples: Vec<Example>,
}

/// One record that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Its identity, in words: `id=7`.
    pub identity: String,
    /// The columns that differ, each with the value of the source and of the destination.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<DifferentColumn>,
}

/// One column that differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DifferentColumn {
    /// Its name.
    pub column: String,
    /// What the source has.
    pub source: String,
    /// What the destination has.
    pub destination: String,
}

/// How many examples a finding carries.
pub const EXAMPLES_MAX: usize = 20;

/// Why two ends could not be compared. Nothing was changed on either.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// An end could not be read.
    #[error("{0}")]
    Read(SourceError),
    /// The identity does not fit the records.
    #[error(transparent)]
    Identity(#[from] IdentifierError),
    /// Records could not be encoded.
    #[error("records could not be compared: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// The scratch files in the temporary directory failed.
    #[error("a scratch file in the temporary directory failed: {0}")]
    Scratch(#[from] io::Error),
    /// A part of the comparison ended unexpectedly.
    #[error("a part of the comparison ended unexpectedly")]
    Defect,
}

impl Fault for VerifyError {
    fn code(&self) -> Code {
        match self {
            Self::Read(error) => error.fault.code(),
            Self::Identity(error) => error.code(),
            Self::Arrow(_) | Self::Defect => hapax_engine::codes::DEFECT,
            Self::Scratch(_) => crate::codes::SCRATCH,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Read(error) => error.fault.help(),
            Self::Identity(error) => error.help(),
            Self::Arrow(_) | Self::Defect => {
                "This is a defect of Hapax: please report it with the pipeline file.".to_owned()
            }
            Self::Scratch(_) => {
                "Make room in the temporary directory, or point TMPDIR at another one.".to_owned()
            }
        }
    }
}

/// Compares both ends.
pub async fn compare(comparison: Comparison) -> Result<Report, VerifyError> {
    let comparison = Arc::new(comparison);
    let both = |wanted: Option<Arc<HashSet<u16>>>| {
        let read = |end: End| {
            let (comparison, wanted) = (Arc::clone(&comparison), wanted.clone());
            let here = tokio::runtime::Handle::current();
            // On a thread of its own: digesting is work, and its future borrows what it visits.
            tokio::task::spawn_blocking(move || {
                here.block_on(async move { Reading::new(&comparison, end)?.digest(wanted).await })
            })
        };
        (read(End::Source), read(End::Destination))
    };
    // Where one of several twins is expected, a destination that holds them all would digest as equal: every
    // range is compared record by record.
    let mut differing = (comparison.winner != Winner::All).then(Ranges::every);
    let mut report = Report::default();
    if differing.is_none() {
        let (source, destination) = join(both(None)).await?;
        report.count(&source, &destination);
        let found = Ranges::differing(&source.ranges, &destination.ranges);
        differing = (!found.is_empty()).then_some(found);
    }
    if let Some(differing) = differing {
        let (source, destination) = join(both(Some(Arc::new(differing)))).await?;
        report.count(&source, &destination);
        let found = spread::compare(source.spread, destination.spread, comparison.winner)?;
        found.describe(&comparison, &mut report).await?;
    }
    report.equal = [&report.missing, &report.duplicated, &report.unexpected, &report.different]
        .iter()
        .all(|finding| finding.records == 0)
        && report.unreadable == 0;
    Ok(report)
}

impl Report {
    fn count(&mut self, source: &Digested, destination: &Digested) {
        self.source_records = source.records;
        self.set_aside = source.set_aside;
        self.destination_records = destination.records;
        self.unreadable = destination.set_aside;
        self.splits_not_moved = source.splits_not_moved;
    }
}

type Pass = tokio::task::JoinHandle<Result<Digested, VerifyError>>;

async fn join((source, destination): (Pass, Pass)) -> Result<(Digested, Digested), VerifyError> {
    let source = source.await.map_err(|_| VerifyError::Defect)??;
    let destination = destination.await.map_err(|_| VerifyError::Defect)??;
    Ok((source, destination))
}
