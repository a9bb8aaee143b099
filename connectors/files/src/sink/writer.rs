//! The writer of one split: streams into temporary files, then decides with one manifest.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use hapax_engine::Fut;
use hapax_engine::crash::{self, Point};
use hapax_engine::dead_letter::{DeadLetter, Settlement};
use hapax_engine::fault::{CommitError, SinkError};
use hapax_engine::message::not_finite;
use hapax_engine::sink::{Arrival, CommitId, Staged, Writer};
use hapax_engine::transform::RefusedRow;
use hapax_planted::{Mistake, planted};
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{FencingToken, Lease};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Checkpoint, Epoch, SplitId, Standing};

use crate::sink::chain::Appended;
use crate::sink::destination::Shared;
use crate::sink::disk;
use crate::sink::encode::{self, Encoder};
use crate::sink::fault::{Failure, at};

use crate::sink::letters::LetterFile;
use crate::sink::names::{self, HiddenPart};
use crate::sink::state::{Held, Kind, Made, Move, Roll, SplitEntry, hex};
use crate::sink_config::{SinkFormat, TargetPlace};

/// Writes one split.
pub(crate) struct PartWriter {
    shared: Arc<Shared>,
    split: SplitId,
    key: String,
    holder: String,
    held: Option<Held>,
    records: Option<RecordFile>,
    letters: Option<LetterFile>,
    staged: Option<StagedCommit>,
}

/// The records of the open commit.
struct RecordFile {
    temp: String,
    path: PathBuf,
    encoder: Encoder,
    header_bytes: u64,
}

/// A commit that is durable and can be decided.
struct StagedCommit {
    entry: SplitEntry,
    checkpoint: Checkpoint,
}

impl PartWriter {
    pub(crate) fn new(shared: Arc<Shared>, split: SplitId) -> Self {
        let key = names::split_key(&shared.state.pipeline, &split);
        Self {
            shared,
            split,
            key,
            holder: String::new(),
            held: None,
            records: None,
            letters: None,
            staged: None,
        }
    }

    fn token(&self) -> FencingToken {
        self.held.as_ref().map_or(FencingToken::NOBODY, |held| held.token)
    }

    fn temp(&self, what: &str) -> (String, PathBuf) {
        let name = self.shared.state.temp_name(self.token(), &format!("{}.{what}", self.key));
        let path = self.shared.state.temps().join(&name);
        (name, path)
    }

    fn write_rows(&mut self, records: &RecordBatch) -> Result<Vec<RefusedRow>, Failure> {
        let refused = match self.shared.target.format {
            SinkFormat::Jsonl => not_finite(records, crate::sink::codes::NOT_FINITE),
            SinkFormat::Csv | SinkFormat::Parquet => Vec::new(),
        };
        if refused.is_empty() {
            self.encode(records)?;
        } else {
            let mut keep = vec![true; records.num_rows()];
            for row in &refused {
                if let Some(keep) = keep.get_mut(row.row) {
                    *keep = false;
                }
            }
            let kept = arrow::compute::filter_record_batch(records, &BooleanArray::from(keep))
                .map_err(|error| Failure::Encoding { format: "jsonl", source: Box::new(error) })?;
            self.encode(&kept)?;
        }
        Ok(refused)
    }

    fn encode(&mut self, records: &RecordBatch) -> Result<(), Failure> {
        if records.num_rows() == 0 {
            return Ok(());
        }
        if self.records.is_none() {
            let (temp, path) = self.temp(self.shared.target.format.extension());
            let schema = self.shared.schema().unwrap_or_else(|| records.schema());
            let file = File::create(&path).map_err(at("create", &path))?;
            let (file, header_bytes) = encode::write_header(file, &path, &self.shared.target, &schema)?;
            let encoder = Encoder::new(file, &path, &self.shared.target, &schema)?;
            self.records = Some(RecordFile { temp, path, encoder, header_bytes });
        }
        match &mut self.records {
            Some(open) => open.encoder.write(records, &open.path),
            None => Ok(()),
        }
    }

    fn letter_file(&mut self) -> Result<&mut LetterFile, Failure> {
        let file = match self.letters.take() {
            Some(file) => file,
            None => {
                let (temp, path) = self.temp("letters");
                LetterFile::create(path, temp)?
            }
        };
        Ok(self.letters.insert(file))
    }

    /// Removes everything that was not decided.
    fn discard(&mut self) {
        self.shared.roll_back_ledger();
        let temps = self.shared.state.temps();
        let open = self.records.take().map(|file| file.temp);
        let letters = self.letters.take().map(|file| file.temp);
        let staged = self.staged.take().map(|staged| staged.entry.files).unwrap_or_default();
        for temp in open.into_iter().chain(letters).chain(staged.into_iter().map(|file| file.temp)) {
            // What stays is swept by the next holder.
            let _ = disk::remove_if_there(&temps.join(temp));
        }
    }

    fn stage_all(&mut self, checkpoint: &Checkpoint) -> Result<CommitId, Failure> {
        self.shared.state.whole()?;
        let Some(held) = &self.held else { return Err(self.diverged(checkpoint.epoch)) };
        if held.standing.position != checkpoint.after || held.standing.epoch.next() != checkpoint.epoch {
            return Err(self.diverged(checkpoint.epoch));
        }
        let held = held.clone();
        let token = held.token;
        let mut files = Vec::new();
        let finished = self.finish_files(checkpoint.epoch, token, &mut files);
        let durable = finished.and_then(|()| self.shared.flush_ledger()).and_then(|mark| {
            if !files.is_empty() {
                disk::sync_directory(&self.shared.state.temps())?;
            }
            Ok(mark)
        });
        let mark = match durable {
            Ok(mark) => mark,
            Err(failure) => {
                for file in files {
                    let _ = disk::remove_if_there(&self.shared.state.temps().join(file.temp));
                }
                return Err(failure);
            }
        };
        let entry = SplitEntry {
            split: self.split.clone(),
            token,
            after: checkpoint.after.as_ref().map(hex),
            through: Some(hex(&checkpoint.through)),
            epoch: checkpoint.epoch,
            totals: checkpoint.totals,
            ledger: mark.map_or(held.ledger, |mark| mark.0),
            made: Some(Made {
                holder: self.holder.clone(),
                unix_ms: checkpoint.made_unix_ms,
                before: held.standing.totals,
                again: checkpoint.again.clone(),
            }),
            files,
        };
        self.staged = Some(StagedCommit { entry, checkpoint: checkpoint.clone() });
        Ok(CommitId { split: self.split.clone(), epoch: checkpoint.epoch })
    }

    /// Ends and syncs the files of the open commit. Each is in `files` before anything of it can fail.
    fn finish_files(
        &mut self,
        epoch: Epoch,
        token: FencingToken,
        files: &mut Vec<Move>,
    ) -> Result<(), Failure> {
        if let Some(open) = self.records.take() {
            let name = match self.shared.target.place {
                TargetPlace::Directory(_) => names::part(&self.key, epoch, &self.shared.target.extension()),
                _ => {
                    let key = self.key.clone();
                    HiddenPart { key, epoch, header_bytes: open.header_bytes }.name()
                }
            };
            files.push(Move { kind: Kind::Records, temp: open.temp, name, bytes: 0 });
            let file = open.encoder.finish(&open.path)?;
            disk::sync_file(&file, &open.path)?;
            let bytes = file.metadata().map_err(at("look at", &open.path))?.len();
            files.iter_mut().for_each(|file| file.bytes = bytes);
        }
        if let Some(open) = self.letters.take() {
            let name = names::letters(token.get(), &self.key, epoch);
            files.push(Move { kind: Kind::Letters, temp: open.temp.clone(), name, bytes: 0 });
            let bytes = open.finish()?;
            files.iter_mut().rev().take(1).for_each(|file| file.bytes = bytes);
        }
        Ok(())
    }

    fn diverged(&self, asked: Epoch) -> Failure {
        let stands = self.held.as_ref().map(|held| held.standing.epoch).unwrap_or_default();
        Failure::Diverged { split: self.split.clone(), stands, asked }
    }

    /// A later holder clears away what an earlier one was doing: what that one meets then is the fence.
    fn rather_fenced(&self, failure: Failure) -> Failure {
        self.shared.state.check_lease(self.token()).err().unwrap_or(failure)
    }

    /// Decides the staged commit by appending its manifest, then makes its files visible.
    fn decide(&mut self, commit: &CommitId) -> Result<(), CommitError> {
        let (held, staged) = match (self.held.clone(), self.staged.take()) {
            (Some(held), None) if held.standing.epoch == commit.epoch => return Ok(()),
            (Some(held), Some(staged)) if staged.checkpoint.epoch == commit.epoch => (held, staged),
            (_, staged) => {
                self.staged = staged;
                return Err(CommitError::Refused(self.diverged(commit.epoch).into()));
            }
        };
        let number = held.number.saturating_add(1);
        let state = &self.shared.state;
        let unknown = |failure: Failure| CommitError::Unknown(failure.into());
        match self.append(&held, number, &staged.entry) {
            Ok(Appended::Done) => {}
            // Whether the entry counts is decided by what the later holder found: its files stay.
            Ok(Appended::Overtaken) => return Err(unknown(self.overtaken(&held))),
            Ok(Appended::Unsure(failure)) => {
                let failed: Result<(), Failure> = state.watch(Err(failure));
                return failed.map_err(unknown);
            }
            Ok(Appended::Taken) => {
                self.staged = Some(staged);
                self.discard();
                return Err(CommitError::Refused(self.overtaken(&held).into()));
            }
            Err(failure) => {
                self.staged = Some(staged);
                self.discard();
                return Err(CommitError::Refused(failure.into()));
            }
        }
        self.shared.ledger_committed();
        let (standing, ledger) = (staged.checkpoint.standing(), staged.entry.ledger);
        self.held = Some(Held { token: held.token, number, standing, ledger });
        crash::point(Point::CommitDecided);
        state.watch(state.roll_forward(&staged.entry, Roll::Commit)).map_err(unknown)?;
        state.prune_split(&self.key);
        Ok(())
    }

    fn append(&self, held: &Held, number: u64, entry: &SplitEntry) -> Result<Appended, Failure> {
        let state = &self.shared.state;
        state.whole()?;
        let chain = state.split_chain(&self.key);
        let (_, temp) = self.temp("commit");
        if planted(Mistake::NoFence) {
            // Behind whatever stands there.
            return state.watch(chain.append(chain.last_number()?.saturating_add(1), entry, &temp));
        }
        state.check_lease(held.token)?;
        state.watch(chain.append(number, entry, &temp))
    }

    /// The failure of a holder that finds another entry where its own should stand.
    fn overtaken(&self, held: &Held) -> Failure {
        let state = &self.shared.state;
        match state.split_chain(&self.key).last::<SplitEntry>() {
            Ok(Some((_, entry))) => state.fenced(entry.token),
            Ok(None) => state.fenced(held.token),
            Err(failure) => failure,
        }
    }
}

impl Writer for PartWriter {
    fn take_over<'a>(&'a mut self, lease: &'a Lease) -> Fut<'a, Standing, SinkError> {
        Box::pin(async move {
            self.discard();
            let held = self.shared.state.take_split(&self.split, lease.token)?;
            let standing = held.standing.clone();
            self.holder = self.shared.state.holder(lease.token)?;
            self.held = Some(held);
            Ok(standing)
        })
    }

    fn claim<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        Box::pin(async move {
            let claimed = self.shared.claim(self.token(), &self.split, arrivals);
            Ok(claimed.map_err(|failure| self.rather_fenced(failure))?)
        })
    }

    fn withdraw<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            let withdrawn = self.shared.withdraw(&self.split, arrivals);
            Ok(withdrawn.map_err(|failure| self.rather_fenced(failure))?)
        })
    }

    fn write<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let written = self.write_rows(records);
            if written.is_err() {
                self.discard();
            }
            Ok(written.map_err(|failure| self.rather_fenced(failure))?)
        })
    }

    fn set_aside<'a>(&'a mut self, letters: &'a [DeadLetter]) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            for letter in letters {
                self.letter_file()?.set_aside(letter)?;
            }
            Ok(())
        })
    }

    fn settle<'a>(&'a mut self, places: &'a [Place], settlement: &'a Settlement) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            for place in places {
                self.letter_file()?.settle(place, settlement)?;
            }
            Ok(())
        })
    }

    fn abort(&mut self) -> Fut<'_, (), SinkError> {
        Box::pin(async move {
            self.discard();
            Ok(())
        })
    }
}

impl Staged for PartWriter {
    fn stage<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> Fut<'a, CommitId, SinkError> {
        Box::pin(async move {
            let staged = self.stage_all(checkpoint);
            let staged = self.shared.state.watch(staged);
            if staged.is_err() {
                self.discard();
            }
            Ok(staged.map_err(|failure| self.rather_fenced(failure))?)
        })
    }

    fn publish<'a>(&'a mut self, commit: &'a CommitId) -> Fut<'a, (), CommitError> {
        Box::pin(async move { self.decide(commit) })
    }
}
