//! The destination as a whole: preparing, taking over, finishing, looking.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{Schema, SchemaRef};
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, SettledLetter};
use hapax_engine::fault::SinkError;
use hapax_engine::history::{Remembered, Unfinished};
use hapax_engine::ledger::Statistics;
use hapax_engine::sink::{Arrival, CommitSize, Destination, Shape, Staged, StagedSink, Traits};
use hapax_engine::source::{Nothing, Source};
use hapax_ledger::store::SegmentId;
use hapax_protocol::guarantee::{
    Durability, Effect, Fencing, InDoubt, LedgerFacts, LedgerPlace, LookUp, Retention,
};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{Applicant, FencingToken, Lease, PipelineName};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{SplitId, Standing};

use crate::config::{Compression, Format, SourceConfig};
use crate::sink::disk;
use crate::sink::encode;
use crate::sink::fault::{Failure, at};
use crate::sink::letters;
use crate::sink::state::State;
use crate::sink::twins::{self, Twins};
use crate::sink::whole::Whole;
use crate::sink::writer::PartWriter;
use crate::sink_config::{SinkCompression, SinkFormat, Target, TargetPlace};

/// What all writers of one destination share.
pub(crate) struct Shared {
    pub(crate) target: Target,
    pub(crate) state: State,
    schema: Mutex<Option<SchemaRef>>,
    twins: Twins,
}

impl Shared {
    /// The columns that were prepared for.
    pub(crate) fn schema(&self) -> Option<SchemaRef> {
        self.schema.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn claim(
        &self,
        token: FencingToken,
        split: &SplitId,
        arrivals: &[Arrival],
    ) -> Result<Vec<Claim<Place>>, Failure> {
        self.state.whole()?;
        self.twins.claim(&self.state, token, split, arrivals)
    }

    pub(crate) fn withdraw(&self, split: &SplitId, arrivals: &[Arrival]) -> Result<(), Failure> {
        self.state.whole()?;
        self.twins.withdraw(&self.state, split, arrivals)
    }

    /// Makes all claims durable. Returns the segment that the manifest is to name.
    pub(crate) fn flush_ledger(&self) -> Result<Option<SegmentId>, Failure> {
        self.twins.flush(&self.state)
    }

    /// The manifest that names the flushed claims is decided.
    pub(crate) fn ledger_committed(&self) {
        self.twins.committed();
    }

    /// The claims since the last manifest did not happen.
    pub(crate) fn roll_back_ledger(&self) {
        self.twins.roll_back();
    }

    fn whole<'a>(&'a self, state: &'a State) -> Option<Whole<'a>> {
        match &self.target.place {
            TargetPlace::File(path) => Some(Whole { state, target: &self.target, path }),
            TargetPlace::Directory(_) | TargetPlace::Stdout => None,
        }
    }

    fn columns_path(&self) -> PathBuf {
        self.state.root.join("columns.json")
    }

    /// Refuses other columns than those the file has. A directory may hold parts of different columns.
    fn check_columns(&self, schema: &Schema) -> Result<(), Failure> {
        let Some(Whole { path, .. }) = self.whole(&self.state) else { return Ok(()) };
        if self.target.format == SinkFormat::Jsonl || !self.state.has_positions()? {
            return Ok(());
        }
        let stored = self.columns_path();
        let had = match std::fs::read_to_string(&stored) {
            Ok(had) => had,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at("read", &stored)(error)),
        };
        let has = columns(schema);
        if had == has { Ok(()) } else { Err(Failure::ColumnsChanged { path: path.to_owned(), had, has }) }
    }

    fn check(&self, shape: &Shape) -> Result<Vec<String>, Failure> {
        encode::check(self.target.format, &shape.schema)?;
        let mut lines = Vec::new();
        match &self.target.place {
            TargetPlace::Stdout => {}
            TargetPlace::File(path) => {
                if path.is_dir() {
                    return Err(Failure::DestinationTaken { path: path.clone() });
                }
                if let Some(whole) = self.whole(&self.state) {
                    whole.check()?;
                }
                lines.push(match path.exists() {
                    true => format!("appends to {} when all splits are committed", path.display()),
                    false => format!("creates {} when all splits are committed", path.display()),
                });
                writable(disk::parent_of(path))?;
            }
            TargetPlace::Directory(path) => {
                lines.push(match path.exists() {
                    true => format!("adds .{} parts to {}", self.target.extension(), path.display()),
                    false => format!("creates the directory {}", path.display()),
                });
                writable(path)?;
            }
        }
        self.check_columns(&shape.schema)?;
        lines.push(format!("keeps positions in {}", self.state.root.display()));
        Ok(lines)
    }

    fn prepare(&self, shape: &Shape) -> Result<(), Failure> {
        self.check(shape)?;
        self.state.create()?;
        if self.whole(&self.state).is_some() && !self.state.has_positions()? {
            let (path, temp) =
                (self.columns_path(), self.state.root.join(format!("columns.{}.tmp", std::process::id())));
            std::fs::write(&temp, columns(&shape.schema)).map_err(at("write", &temp))?;
            let file = std::fs::File::open(&temp).map_err(at("open", &temp))?;
            self.state.watch(disk::sync_file(&file, &temp))?;
            disk::rename(&temp, &path).map_err(at("write", &path))?;
            self.state.watch(disk::sync_directory(&self.state.root))?;
        }
        *self.schema.lock().unwrap_or_else(PoisonError::into_inner) = Some(shape.schema.clone());
        Ok(())
    }

    fn acquire(&self, applicant: &Applicant) -> Result<Lease, Failure> {
        self.state.whole()?;
        let lease = self.state.watch(self.state.acquire(applicant))?;
        let fenced = self.state.watch(self.fence_earlier(lease.token));
        // A later holder that clears away meanwhile makes this one fail in many ways: all mean the fence.
        fenced.map_err(|failure| self.state.check_lease(lease.token).err().unwrap_or(failure))?;
        Ok(lease)
    }

    /// Completes what earlier holders decided, keeps them from deciding more, then clears away.
    fn fence_earlier(&self, token: FencingToken) -> Result<(), Failure> {
        self.state.fence_splits(token)?;
        if let Some(whole) = self.whole(&self.state) {
            whole.fence(token)?;
        }
        self.twins.inherit(&self.state, token)?;
        self.state.sweep(token)
    }
}

/// Columns in words: what is compared between runs.
fn columns(schema: &Schema) -> String {
    let fields: Vec<String> =
        schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    fields.join(", ")
}

/// Refuses a directory that cannot be written, or the nearest one that exists above it.
fn writable(path: &Path) -> Result<(), Failure> {
    let mut nearest = path;
    while !nearest.exists() {
        let parent = disk::parent_of(nearest);
        if parent == nearest {
            break;
        }
        nearest = parent;
    }
    if !nearest.is_dir() {
        let source = std::io::Error::from(std::io::ErrorKind::NotADirectory);
        return Err(at("create a file in", nearest)(source));
    }
    rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|errno| at("create a file in", nearest)(errno.into()))
}

/// A file, or a directory of parts.
pub(crate) struct FileSink {
    shared: Arc<Shared>,
}

impl FileSink {
    pub(crate) fn new(target: Target, pipeline: &PipelineName) -> Self {
        let state = State::new(&target, pipeline);
        let shared = Shared { target, state, schema: Mutex::new(None), twins: Twins::default() };
        Self { shared: Arc::new(shared) }
    }

    fn state_of(&self, pipeline: &PipelineName) -> State {
        State::new(&self.shared.target, pipeline)
    }

    /// The words that read back what was written.
    fn source_config(&self) -> SourceConfig {
        let target = &self.shared.target;
        let path = match &target.place {
            TargetPlace::Directory(path) => format!("{}/*.{}", path.display(), target.extension()),
            TargetPlace::File(path) => path.display().to_string(),
            TargetPlace::Stdout => "-".to_owned(),
        };
        let mut config = SourceConfig::new(path);
        config.format = Some(match target.format {
            SinkFormat::Csv => Format::Csv,
            SinkFormat::Jsonl => Format::Jsonl,
            SinkFormat::Parquet => Format::Parquet,
        });
        if target.format != SinkFormat::Parquet {
            config.compression = Some(match target.compression {
                SinkCompression::None | SinkCompression::Snappy => Compression::None,
                SinkCompression::Gzip => Compression::Gzip,
                SinkCompression::Zstd => Compression::Zstd,
            });
        }
        if target.format == SinkFormat::Csv {
            config.header = Some(target.header);
        }
        config
    }
}

impl Destination for FileSink {
    fn traits(&self) -> Traits {
        Traits {
            effect: Effect::Insert,
            replaces: false,
            fencing: Fencing::Token,
            durability: Durability::Durable,
            readers: None,
            ledger: Some(LedgerFacts {
                place: LedgerPlace::InsideCommit,
                retention: Retention::Unbounded,
                in_doubt: InDoubt::Resend,
            }),
        }
    }

    fn commit_size(&self) -> CommitSize {
        CommitSize { records_max: 100_000_000, bytes_max: 128 * 1024 * 1024, interval_ms: 60_000 }
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(async move { Ok(self.shared.check(shape)?) })
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(async move { Ok(self.shared.prepare(shape)?) })
    }

    fn acquire<'a>(&'a self, applicant: &'a Applicant) -> Fut<'a, Lease, SinkError> {
        Box::pin(async move { Ok(self.shared.acquire(applicant)?) })
    }

    fn finish<'a>(&'a self, lease: &'a Lease) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            match self.shared.whole(&self.shared.state) {
                Some(whole) => Ok(whole.finish(lease.token, self.shared.schema())?),
                None => Ok(self.shared.state.check_lease(lease.token)?),
            }
        })
    }

    fn standings<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Vec<(SplitId, Standing)>, SinkError> {
        Box::pin(async move {
            let state = self.state_of(pipeline);
            let mut standings = Vec::new();
            for (key, number, entry) in state.splits()? {
                if entry.through.is_some() {
                    let standing = entry.standing(&state.split_chain(&key).path(number))?;
                    standings.push((entry.split, standing));
                }
            }
            Ok(standings)
        })
    }

    fn dead_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<DeadLetter>, SinkError> {
        Box::pin(async move { Ok(letters::unsettled(&self.state_of(pipeline), letters_max)?) })
    }

    fn settled_letters<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        letters_max: usize,
    ) -> Fut<'a, Vec<SettledLetter>, SinkError> {
        Box::pin(async move { Ok(letters::settled(&self.state_of(pipeline), letters_max)?) })
    }

    fn remembered<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        places: &'a [Place],
    ) -> Fut<'a, Vec<Remembered>, SinkError> {
        Box::pin(async move {
            let state = self.state_of(pipeline);
            let mut remembered = letters::of_places(&state, places)?;
            state.add_commits(places, &mut remembered)?;
            Ok(remembered)
        })
    }

    fn claimant<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        id: &'a RecordId,
    ) -> Fut<'a, Option<Place>, SinkError> {
        Box::pin(async move { Ok(twins::claimant(&self.state_of(pipeline), id)?) })
    }

    fn ledger_holds<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Option<Statistics>, SinkError> {
        Box::pin(async move { Ok(twins::holds(&self.state_of(pipeline))?) })
    }

    fn unfinished<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, Vec<Unfinished>, SinkError> {
        Box::pin(async move {
            let state = self.state_of(pipeline);
            let mut commits = state.unfinished()?;
            if let Some(whole) = self.shared.whole(&state) {
                commits.extend(whole.unfinished()?);
            }
            commits.sort_by(|one, other| (&one.split, one.epoch).cmp(&(&other.split, other.epoch)));
            commits.dedup();
            Ok(commits.into_iter().map(Unfinished::Decided).collect())
        })
    }

    fn is_waiting<'a>(&'a self, pipeline: &'a PipelineName) -> Fut<'a, bool, SinkError> {
        Box::pin(async move {
            let state = self.state_of(pipeline);
            let whole = self.shared.whole(&state);
            Ok(whole.map_or(Ok(false), |whole| whole.is_waiting())?)
        })
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        Box::pin(async move {
            match crate::source::Files::with_schema(self.source_config(), Arc::clone(&schema)).await {
                Ok(source) => {
                    let source: Arc<dyn Source> = Arc::new(source);
                    Ok(source)
                }
                Err(error) if error.fault.code() == crate::codes::NO_FILE => {
                    let nothing: Arc<dyn Source> = Arc::new(Nothing(schema));
                    Ok(nothing)
                }
                Err(error) => {
                    Err(SinkError { kind: hapax_engine::fault::SinkErrorKind::Stop, fault: error.fault })
                }
            }
        })
    }
}

impl StagedSink for FileSink {
    fn look_up_window(&self) -> LookUp {
        LookUp::Unbounded
    }

    fn writer(&self, split: &SplitId) -> Fut<'_, Box<dyn Staged>, SinkError> {
        let writer: Box<dyn Staged> = Box::new(PartWriter::new(self.shared.clone(), split.clone()));
        Box::pin(async move { Ok(writer) })
    }
}
