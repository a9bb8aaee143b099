//! A destination in a directory of its own, and short words for runs against it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::executor::block_on;
use hapax_engine::fault::{CommitError, SinkError};
use hapax_engine::sink::{CommitId, Shape, Sink, Staged, StagedSink};
use hapax_files::sink_config::SinkConfig;
use hapax_protocol::lease::{Applicant, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Position, SplitId, Standing, Totals};

pub fn name() -> PipelineName {
    PipelineName::new("orders").unwrap()
}

pub fn config(path: &Path) -> SinkConfig {
    SinkConfig { path: path.to_str().unwrap().to_owned(), format: None, compression: None, header: None }
}

/// Records `from..to`: every seventh has no text, every fifth an empty one.
pub fn records(from: u64, to: u64) -> RecordBatch {
    let ids: ArrayRef =
        Arc::new(Int64Array::from_iter_values((from..to).map(|id| i64::try_from(id).unwrap())));
    let text = (from..to).map(|id| match id {
        id if id % 7 == 0 => None,
        id if id % 5 == 0 => Some(String::new()),
        id => Some(format!("text, \"{id}\"")),
    });
    let text: ArrayRef = Arc::new(text.collect::<StringArray>());
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("text", text, true)]).unwrap()
}

pub fn shape() -> Shape {
    Shape { schema: records(0, 0).schema(), key: vec!["id".to_owned()] }
}

pub fn open(config: &SinkConfig) -> Result<Arc<dyn StagedSink>, SinkError> {
    match hapax_files::sink::open(config.clone(), &name())? {
        Sink::Staged(sink) => Ok(sink),
        Sink::CoCommit(_) | Sink::Append(_) | Sink::Kept(_) => panic!("a file is staged"),
    }
}

/// One run of the pipeline: it has the lease.
pub struct Run {
    pub sink: Arc<dyn StagedSink>,
    pub lease: Lease,
}

impl Run {
    pub fn start(config: &SinkConfig) -> Self {
        Self::try_start(config, "definition").unwrap()
    }

    pub fn try_start(config: &SinkConfig, definition: &str) -> Result<Self, SinkError> {
        let sink = open(config)?;
        block_on(sink.prepare(&shape()))?;
        let applicant =
            Applicant { pipeline: name(), holder: "test".to_owned(), definition: definition.to_owned() };
        let lease = block_on(sink.acquire(&applicant))?;
        Ok(Self { sink, lease })
    }

    pub fn split(&self, split: &str) -> Split {
        self.try_split(split).unwrap()
    }

    pub fn try_split(&self, split: &str) -> Result<Split, SinkError> {
        let split = SplitId::new(split);
        let mut writer = block_on(self.sink.writer(&split))?;
        let standing = block_on(writer.take_over(&self.lease))?;
        Ok(Split { writer, standing })
    }

    pub fn finish(&self) {
        self.try_finish().unwrap();
    }

    pub fn try_finish(&self) -> Result<(), SinkError> {
        block_on(self.sink.finish(&self.lease))
    }
}

/// A split that was taken over. A position is the number of records read.
pub struct Split {
    pub writer: Box<dyn Staged>,
    pub standing: Standing,
}

pub fn at(position: u64) -> Position {
    Position::new(position.to_be_bytes().as_slice())
}

impl Split {
    pub fn stands_at(&self) -> u64 {
        let bytes = self.standing.position.as_ref().map(|position| position.as_bytes().try_into().unwrap());
        bytes.map_or(0, u64::from_be_bytes)
    }

    pub fn write(&mut self, from: u64, to: u64) {
        let refused = block_on(self.writer.write(&records(from, to))).unwrap();
        assert!(refused.is_empty());
    }

    pub fn checkpoint(&self, to: u64) -> Checkpoint {
        Checkpoint {
            after: self.standing.position.clone(),
            through: at(to),
            epoch: self.standing.epoch.next(),
            totals: self.standing.totals.plus(Totals { read: to - self.stands_at(), ..Totals::default() }),
            again: Vec::new(),
            made_unix_ms: 1_000 * to,
        }
    }

    pub fn stage(&mut self, to: u64) -> CommitId {
        block_on(self.writer.stage(&self.checkpoint(to))).unwrap()
    }

    pub fn publish(&mut self, commit: &CommitId) -> Result<(), CommitError> {
        block_on(self.writer.publish(commit))
    }

    /// Writes and commits records `from..to` as what was read up to `position`.
    pub fn commit_as(&mut self, from: u64, to: u64, position: u64) {
        self.write(from, to);
        self.commit(position);
    }

    /// Commits what was written as what was read up to `position`.
    pub fn commit(&mut self, position: u64) {
        let checkpoint = self.checkpoint(position);
        let commit = self.stage(position);
        self.publish(&commit).unwrap();
        self.standing = checkpoint.standing();
    }
}

pub fn code(error: &SinkError) -> u16 {
    error.fault.code().0
}

pub fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The state directory that belongs to a destination.
pub fn state_of(destination: &Path) -> PathBuf {
    if destination.extension().is_some() {
        let file = destination.file_name().unwrap().to_str().unwrap();
        destination.parent().unwrap().join(format!(".{file}.hapax")).join("orders")
    } else {
        destination.join("_hapax").join("orders")
    }
}

/// The ids and texts of a CSV file, read by a program that shares no code with the sink.
pub fn read_csv(bytes: &[u8]) -> Vec<(u64, String)> {
    let mut reader = csv::Reader::from_reader(bytes);
    reader.records().map(|row| row.unwrap()).map(|row| (row[0].parse().unwrap(), row[1].to_owned())).collect()
}

pub fn ids(rows: &[(u64, String)]) -> Vec<u64> {
    rows.iter().map(|(id, _)| *id).collect()
}
