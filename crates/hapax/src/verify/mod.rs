//! Source against destination, by value, in bounded memory.
//!
//! Both ends are streamed. First every record is counted and digested into one of 4,096 ranges of identities,
//! independent of order; ranges that agree are equal. Then the ranges that differ are streamed again, put in the
//! order of identity and content, and compared record by record. docs/adr/0006-verify.md says why it is exact.

mod describe;
mod join;
mod line;
mod missing;
mod pass;
mod prints;
mod progress;
mod ranges;
mod reading;
mod scratch;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use hapax_engine::Fut;
use hapax_engine::fault::{Fault, SinkError, SourceError};
use hapax_engine::identify::IdentifierError;
use hapax_engine::source::Source;
use hapax_engine::transform::Transform;
use hapax_protocol::code::Code;
use hapax_protocol::identity::{Identity, Place};
use hapax_protocol::position::{Position, SplitId};
use serde::Serialize;

pub use missing::Missing;
pub use progress::{Progress, Step};

use line::Spot;
use pass::{Gathered, Pass, Splits, Task, Uncompared};
use prints::Keys;
use ranges::{Chosen, RANGES, Ranges};
use scratch::{Sorter, merge};

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
    /// The column that says of a record that it removes the one of its key.
    pub deletes: Option<String>,
    /// Records that were set aside: they are not at the destination.
    pub set_aside: HashSet<Place>,
    /// How far each split was moved. A split that is not in here was not moved at all.
    pub moved: Vec<(SplitId, Moved)>,
    /// What the destination holds, with the columns that the transform makes.
    pub destination: Arc<dyn Source>,
    /// Whether the run found so many twins that ranges will hardly agree. It is only about the shorter way.
    pub has_twins: bool,
    /// Says later where the destination stands, if that may change while it is read.
    pub again: Option<Arc<dyn Again>>,
    /// Where to count.
    pub progress: Progress,
}

/// Says where the destination stands now.
pub trait Again: Send + Sync {
    /// How far each split is moved, and what is set aside.
    fn stand(&self) -> Fut<'_, Stand, SinkError>;
}

/// Where a destination stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stand {
    /// How far each split was moved.
    pub moved: Vec<(SplitId, Moved)>,
    /// Records that were set aside.
    pub set_aside: HashSet<Place>,
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
    /// The first that took effect: twins are suppressed, and the ledger knows which one it is.
    Claimed,
    /// The first that took effect, which nothing remembers: later ones are ignored.
    First,
    /// The last that took effect: later ones replace earlier ones.
    Last,
}

/// What tells the records of both ends apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComparedBy {
    /// The columns of the key: a record of the same key with other values is different.
    #[default]
    Key,
    /// All columns, and how often each record is there: a record with another value is one that is missing and
    /// one that is at the destination only.
    Content,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether both ends hold the same.
    pub equal: bool,
    /// What tells records apart.
    pub compared_by: ComparedBy,
    /// Whether the pipeline committed something meanwhile. What it committed before is what was compared.
    pub moved_meanwhile: bool,
    /// Whether an interrupted run committed records that are not visible yet, because the destination is published
    /// as a whole. They count as missing. Known to whoever knows the destination.
    pub unpublished: bool,
    /// Ranges of identities that were compared.
    pub ranges: u64,
    /// Ranges whose count or digest differed, and that were compared record by record.
    pub ranges_compared_by_record: u64,
    /// Records of the source that should be at the destination, twins included.
    pub source_records: u64,
    /// Records that were set aside, and are not expected.
    pub set_aside: u64,
    /// Records of the destination.
    pub destination_records: u64,
    /// Identities that the source has more than once and of which one record is expected.
    pub twins: u64,
    /// Identities of which one record is expected and several splits of the source have different ones. The order
    /// of commits across splits is not known, so any of those counts as right.
    pub undecided: u64,
    /// Identities that the last record of the source removes, and that are not at the destination.
    pub deleted: u64,
    /// Records of the source that the destination lacks.
    pub missing: Finding,
    /// How many of the missing are undecided, with nothing that tells a repair which one to move.
    pub missing_undecided: u64,
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
    /// Moved splits that the source does not have any more. They were not compared: what came from them is found
    /// at the destination only.
    pub splits_gone: u64,
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
    /// The destination does not say where it stands.
    #[error("{0}")]
    Stand(SinkError),
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
            Self::Stand(error) => error.fault.code(),
            Self::Identity(error) => error.code(),
            Self::Arrow(_) | Self::Defect => hapax_engine::codes::DEFECT,
            Self::Scratch(_) => crate::codes::SCRATCH,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Read(error) => error.fault.help(),
            Self::Stand(error) => error.fault.help(),
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
    Ok(look(Arc::new(comparison), Wanted::default()).await?.report)
}

/// What is asked of a comparison beside the report.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Only these ranges.
    pub within: Option<Within>,
    /// Where the records stand that are missing.
    pub missing: bool,
}

/// Ranges that differed, under the keys that cut them.
#[derive(Clone)]
pub(crate) struct Within {
    keys: Keys,
    ranges: Arc<Chosen>,
}

/// What a comparison saw.
pub(crate) struct Look {
    /// What was found.
    pub report: Report,
    /// Where the records stand that are missing, if that was asked.
    pub missing: Option<Missing>,
    /// The ranges that differed; `None` if there are none.
    pub within: Option<Within>,
}

/// How many bytes the places of missing records take in memory.
const MISSING_BYTES: usize = 4 << 20;

/// Compares both ends, or some ranges of them.
pub(crate) async fn look(comparison: Arc<Comparison>, wanted: Wanted) -> Result<Look, VerifyError> {
    let keys = wanted.within.as_ref().map_or_else(Keys::drawn, |within| within.keys.clone());
    let mut looking = Looking {
        set_aside: Arc::new(comparison.set_aside.clone()),
        comparison,
        keys,
        splits: Splits::default(),
        report: Report { ranges: u64::try_from(RANGES).unwrap_or(u64::MAX), ..Report::default() },
    };
    if looking.comparison.identity.columns().is_empty() {
        looking.report.compared_by = ComparedBy::Content;
    }
    let one_of_several = looking.comparison.winner != Winner::All;
    let chosen = match wanted.within {
        Some(within) => within.ranges,
        None if looking.comparison.has_twins && one_of_several => Arc::new(Chosen::every()),
        None => Arc::new(looking.digest(one_of_several).await?),
    };
    looking.report.ranges_compared_by_record = chosen.count();
    let (mut missing, mut within) = (None, None);
    if chosen.count() > 0 {
        within = Some(Within { keys: looking.keys.clone(), ranges: Arc::clone(&chosen) });
        let mut places = wanted.missing.then(|| Sorter::new(MISSING_BYTES));
        looking.records(&chosen, places.as_mut()).await?;
        missing = places.map(|places| Missing::new(places, &mut looking.splits)).transpose()?;
    }
    let mut report = looking.report;
    report.equal = report.is_equal();
    Ok(Look { report, missing, within })
}

struct Looking {
    comparison: Arc<Comparison>,
    set_aside: Arc<HashSet<Place>>,
    keys: Keys,
    splits: Splits,
    report: Report,
}

impl Looking {
    /// The ranges in which the ends differ, or in which one of several records is expected and several are there.
    async fn digest(&mut self, one_of_several: bool) -> Result<Chosen, VerifyError> {
        self.begin(Step::Digesting);
        let (units, uncompared) = self.splits.units(&self.comparison).await?;
        let pass = self.pass(Task::Digest { beginnings: one_of_several });
        let gathered = pass.over(units).await?;
        self.report.count(&gathered, &uncompared);
        let mut differing = Ranges::differing(&gathered.source.ranges, &gathered.destination.ranges);
        // Ends that agree have the same identities: if one end has each once, so has the other. Two identities
        // that only begin alike are compared for nothing.
        let mut last = None;
        for beginning in merge(gathered.beginnings)? {
            let beginning = beginning?;
            if last == Some(beginning) {
                differing.choose(beginning);
            }
            last = Some(beginning);
        }
        Ok(differing)
    }

    /// Compares the records of some ranges.
    async fn records(
        &mut self,
        chosen: &Arc<Chosen>,
        missing: Option<&mut Sorter<Spot>>,
    ) -> Result<(), VerifyError> {
        self.begin(Step::Comparing);
        let (units, uncompared) = self.splits.units(&self.comparison).await?;
        let mut gathered = self.pass(Task::Lines(Arc::clone(chosen))).over(units).await?;
        self.report.count(&gathered, &uncompared);
        if let Some(again) = &self.comparison.again {
            // After the destination was read: it holds nothing that was committed later than this.
            let now = again.stand().await.map_err(VerifyError::Stand)?;
            let units = self.splits.units_since(&self.comparison, &now).await?;
            if !units.is_empty() {
                self.report.moved_meanwhile = true;
                self.set_aside = Arc::new(now.set_aside);
                gathered.join(self.pass(Task::Lines(Arc::clone(chosen))).over(units).await?);
            }
        }
        let Gathered { source_lines, destination_lines, .. } = gathered;
        let winner = self.comparison.winner;
        let found = join::join(merge(source_lines)?, merge(destination_lines)?, winner, missing)?;
        self.comparison.progress.begin(Step::Describing, 0);
        describe::describe(&self.comparison, &self.keys, &self.splits, found, &mut self.report).await
    }

    fn begin(&self, step: Step) {
        let moved = self.comparison.moved.iter().map(|(_, moved)| moved.records);
        self.comparison.progress.begin(step, moved.fold(0, u64::saturating_add));
    }

    fn pass(&self, task: Task) -> Pass {
        Pass {
            comparison: Arc::clone(&self.comparison),
            keys: self.keys.clone(),
            set_aside: Arc::clone(&self.set_aside),
            task,
        }
    }
}

impl Report {
    fn count(&mut self, gathered: &Gathered, uncompared: &Uncompared) {
        self.source_records = gathered.source.records;
        self.set_aside = gathered.source.left_out;
        self.destination_records = gathered.destination.records;
        self.unreadable = gathered.destination.left_out;
        self.splits_not_moved = uncompared.not_moved;
        self.splits_gone = uncompared.gone;
    }

    /// How many of the missing records a repair moves.
    pub fn repairable(&self) -> u64 {
        self.missing.records.saturating_sub(self.missing_undecided)
    }

    fn is_equal(&self) -> bool {
        let findings = [&self.missing, &self.duplicated, &self.unexpected, &self.different];
        findings.iter().all(|finding| finding.records == 0) && self.unreadable == 0
    }
}
