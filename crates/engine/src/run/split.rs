//! One split: read, prepare, claim, write, commit, acknowledge.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hapax_planted::{Mistake, planted};
use hapax_protocol::identity::{Duplicates, Place};
use hapax_protocol::position::{Checkpoint, Ordinal, Position, Standing, Totals};
use hapax_protocol::recovery::{self, Resolution};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::channel::{Receiver, bounded_in_bytes};
use super::effect::Onto;
use super::pace::{Outage, Pace};
use super::prepare::{Prepared, count};
use super::reading::{Parcel, Read, ReadError, Reader, Reading};
use super::writer::SplitWriter;
use super::{Job, OnError, RunError, Stop, effect, repair};
use crate::batch::Rejected;
use crate::codes;
use crate::crash::{self, Point};
use crate::dead_letter::DeadLetter;
use crate::durable::Durable;
use crate::fault::{CommitError, SinkError, SinkErrorKind, SourceError, SourceErrorKind};
use crate::sink::CommitSize;
use crate::source::Split;
use crate::transform::RefusedRow;
use crate::wire::{Taken, WireBatch};

/// Moves one split to its end, trying again while a system is unavailable.
pub(super) async fn whole(job: &Arc<Job>, split: &Split, halt: &Stop) -> Result<(), RunError> {
    let mut outage = Outage::none();
    let mut cached = None;
    let mut wire = job.wire;
    loop {
        let refusals = Refusals::SetAside;
        let mut attempt = Attempt {
            job,
            split,
            halt,
            refusals,
            wire,
            committed: false,
            taken: false,
            idle: Arc::default(),
            cached,
        };
        let error = match attempt.go().await {
            Ok(End::Done) => {
                if !halt.requested() {
                    job.run.progress.split_done();
                    crash::point(Point::SplitDone);
                }
                return Ok(());
            }
            // Decoded, from the last commit on, the record that is refused is found.
            Ok(End::Decode) => {
                (wire, cached) = (false, attempt.cached);
                continue;
            }
            // Nothing of it took effect: whoever was asked to stop may, the next run reads it again.
            Ok(End::Again(_)) if halt.requested() => return Ok(()),
            // What was read before is committed, and nothing more was to be read.
            Err(RunError::Source { error, .. })
                if halt.requested() && error.kind == SourceErrorKind::Unavailable =>
            {
                return Ok(());
            }
            Ok(End::Again(error)) | Err(error) => error,
        };
        cached = attempt.cached;
        if attempt.committed || attempt.idle.load(Ordering::Relaxed) {
            outage = Outage::none();
        }
        // Another member committed to the split since this one took it over.
        let moved_on = error.is_fenced() || matches!(error, RunError::Diverged { .. });
        let overtaken = job.shared && attempt.taken && moved_on;
        // Whoever has the split next goes on behind the last commit, whatever this one could not do.
        if job.shared && halt.requested() && (overtaken || may_pass(&error)) {
            return Ok(());
        }
        let pause = match outage.pause(job.run.limits.outage_ms) {
            Some(pause) if !halt.requested() && (overtaken || may_pass(&error)) => pause,
            _ => return Err(error),
        };
        let _waiting = job.run.progress.waiting(&split.id, &error);
        tokio::select! {
            biased;
            () = halt.wait() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn may_pass(error: &RunError) -> bool {
    match error {
        RunError::Source { error, .. } => error.kind == SourceErrorKind::Unavailable,
        RunError::Sink { error, .. } => error.kind == SinkErrorKind::Unavailable,
        _ => false,
    }
}

/// How an attempt ended when it did not fail.
pub(super) enum End {
    /// Everything there was is committed.
    Done,
    /// A commit turned out not to have taken effect: its records must be read again. Why its answer was lost.
    Again(RunError),
    /// A record among bytes was refused: what is not committed must be read again, and decoded.
    Decode,
}

/// What becomes of records that are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusals {
    /// They become dead letters.
    SetAside,
    /// Nothing: they stay missing. The claim of such a record may have been committed with an effect that was
    /// lost since, and a record that is set aside holds no claim.
    Leave,
}

pub(super) struct Attempt<'a> {
    pub job: &'a Arc<Job>,
    pub split: &'a Split,
    pub halt: &'a Stop,
    /// What becomes of records that are refused.
    pub refusals: Refusals,
    /// Whether records pass as bytes.
    pub wire: bool,
    /// Whether anything was committed, so that the next failure counts as the first.
    pub committed: bool,
    /// Whether it has taken the split over.
    pub taken: bool,
    /// Whether both ends have answered, and there was nothing to move.
    pub idle: Arc<AtomicBool>,
    /// Where the first attempt found the split, for a mistake that is planted.
    pub cached: Option<Standing>,
}

/// The side of an attempt that writes.
pub(super) struct Writing {
    pub writer: SplitWriter,
    pub standing: Standing,
    pub open: Option<Open>,
    pub acknowledge: UnboundedSender<Durable<Position>>,
}

/// What was written since the last commit.
pub(super) struct Open {
    through: Position,
    pub totals: Totals,
    /// What a repair moves again.
    pub again: Vec<Range<Ordinal>>,
    bytes: u64,
}

impl Attempt<'_> {
    async fn go(&mut self) -> Result<End, RunError> {
        let id = &self.split.id;
        let run = &self.job.run;
        let (writer, mut standing) = self.job.take_over(id).await.map_err(|e| self.sink(e))?;
        if planted(Mistake::CachedPosition) {
            standing = self.cached.get_or_insert(standing).clone();
        }
        self.taken = true;
        crash::point(Point::PositionRead);
        let position = standing.position.as_ref();
        let reader = match run.source.wire().filter(|_| self.wire) {
            Some(wire) => wire.open(id, position).await.map(Reader::Wire),
            None => run.source.open(id, position).await.map(Reader::Decoded),
        };
        let reader = reader.map_err(|e| self.source(e))?;

        let (batches, received) = bounded_in_bytes(run.limits.channel_bytes_max);
        let (acknowledge, acknowledged) = unbounded_channel();
        let reading = Reading {
            job: Arc::clone(self.job),
            reader,
            stood: standing.position.clone(),
            halt: self.halt.clone(),
            acknowledged,
            idle: Arc::clone(&self.idle),
        };
        let reading = tokio::spawn(reading.all(batches));

        let mut writing = Writing { writer, standing, open: None, acknowledge };
        let written = self.write_all(&mut writing, received).await;
        if !matches!(written, Ok(End::Done)) {
            let _ = writing.writer.effects().abort().await;
        }
        drop(writing);
        // The reader ends by itself: nobody receives, and no acknowledgement can follow.
        let read = reading.await.map_err(|_| RunError::Defect)?;
        match written {
            Ok(End::Done) => read.map(|()| End::Done).map_err(|error| self.read_error(error)),
            other => other,
        }
    }

    async fn write_all(
        &mut self,
        writing: &mut Writing,
        mut received: Receiver<Read>,
    ) -> Result<End, RunError> {
        let size = self.job.run.limits.commit.over(self.job.run.sink.destination().commit_size());
        let (mut pace, mut due) = (Pace::of(size), None);
        loop {
            let next = match due {
                None => Some(received.recv().await),
                Some(at) => tokio::select! {
                    // In this order: records that come all the time do not put a commit off.
                    biased;
                    () = tokio::time::sleep_until(at) => None,
                    next = received.recv() => Some(next),
                },
            };
            let must_commit = match next {
                None => true,
                Some(None) => break,
                Some(Some((Read { parcel, at }, _room))) => {
                    match parcel {
                        Parcel::Decoded(batch) => drop(self.write(writing, batch).await?),
                        Parcel::Wire(batch) => {
                            if self.pass(writing, batch).await? == Taken::Nothing {
                                writing.open = None;
                                return Ok(End::Decode);
                            }
                        }
                    }
                    due.get_or_insert_with(|| pace.due(at));
                    let is_full = |open: &Open| open.full(size) || writing.writer.announces();
                    writing.open.as_ref().is_some_and(is_full)
                }
            };
            if must_commit {
                due = None;
                let begun = Instant::now();
                if let Some(end) = self.commit(writing).await? {
                    return Ok(end);
                }
                pace.took = begun.elapsed();
            }
        }
        Ok(self.commit(writing).await?.unwrap_or(End::Done))
    }

    /// Claims, writes and sets aside one batch inside the open commit. Returns the records that were refused.
    pub async fn write(&self, writing: &mut Writing, mut batch: Prepared) -> Result<Vec<Rejected>, RunError> {
        let bytes = count(batch.memory());
        if self.job.run.on_error == OnError::Stop
            && let Some(first) = batch.refused.iter().min_by_key(|refused| refused.ordinal)
        {
            let error = self.rejected(first);
            return Err(self.stop_before(writing, error).await);
        }
        let on_error = self.job.run.on_error;
        let (split, position) = (&self.split.id, writing.standing.position.clone());
        let writer = &mut writing.writer;
        let announced = writer.announce(position.as_ref(), &batch.through, &self.job.run.clock).await;
        let fate = announced.map_err(|e| self.sink(e))?;
        let effect = effect::write(writer, split, &batch, on_error, Onto::Anything, fate).await?;
        if on_error == OnError::Stop
            && let Some(first) = effect.refused.first()
        {
            // Part of the batch is in the open commit already: none of that commit may take effect.
            writing.open = None;
            return Err(self.rejected(&batch.refusal(first)?));
        }
        batch.refuse(&effect.refused)?;
        batch.refuse(&effect.in_doubt.iter().map(|row| in_doubt(*row)).collect::<Vec<_>>())?;
        let mut suppressed = match self.job.run.duplicates {
            Duplicates::DeadLetter => {
                let twins: Vec<RefusedRow> = effect.twins.iter().map(|(row, of)| twin_of(*row, of)).collect();
                batch.refuse(&twins)?;
                0
            }
            Duplicates::Drop | Duplicates::Keep => count(effect.twins.len()),
        };
        let refused = std::mem::take(&mut batch.refused);
        let mut letters: Vec<DeadLetter> = match self.refusals {
            Refusals::SetAside => refused.iter().map(|refused| self.letter(refused)).collect(),
            Refusals::Leave => Vec::new(),
        };
        if !letters.is_empty() && self.job.places_move() && !planted(Mistake::SetAsideAgain) {
            let known = effect::refuse_once(&mut writing.writer, split, &refused).await?;
            let before = letters.len();
            letters.retain(|letter| !known.contains(&letter.place.ordinal));
            suppressed = suppressed.saturating_add(count(before.saturating_sub(letters.len())));
        }
        if !letters.is_empty() {
            writing.writer.effects().set_aside(&letters).await.map_err(|e| self.sink(e))?;
        }
        crash::point(Point::MidWrite);

        let totals =
            Totals { moved: effect.moved, suppressed, set_aside: count(letters.len()), ..batch.counts };
        let open = Open::new(batch.through.clone(), totals, bytes);
        writing.open = Some(Open::joined(writing.open.take(), open));
        if let (Refusals::Leave, Some(open)) = (self.refusals, &mut writing.open) {
            repair::note_moved(&mut open.again, &batch, &effect);
        }
        Ok(refused)
    }

    /// Writes bytes inside the open commit.
    async fn pass(&self, writing: &mut Writing, batch: WireBatch) -> Result<Taken, RunError> {
        let taken = writing.writer.effects().write_wire(&batch).await.map_err(|e| self.sink(e))?;
        crash::point(Point::MidWrite);
        let totals = Totals { read: batch.rows, moved: batch.rows, ..Totals::default() };
        let bytes = count(batch.memory());
        let open = Open::new(batch.through, totals, bytes);
        writing.open = Some(Open::joined(writing.open.take(), open));
        Ok(taken)
    }

    /// Commits what is open. `Some` if the attempt cannot go on with this writer.
    pub async fn commit(&mut self, writing: &mut Writing) -> Result<Option<End>, RunError> {
        let Some(open) = writing.open.take() else { return Ok(None) };
        let checkpoint = Checkpoint {
            after: writing.standing.position.clone(),
            through: open.through,
            epoch: writing.standing.epoch.next(),
            totals: writing.standing.totals.plus(open.totals),
            again: open.again,
            made_unix_ms: self.job.run.clock.unix_ms(),
        };
        if planted(Mistake::AcknowledgeBeforeCommit) {
            let _ = writing.acknowledge.send(Durable::mint(checkpoint.through.clone()));
        }
        let mut committed = writing.writer.commit(&checkpoint).await;
        if planted(Mistake::BlindRetry) && matches!(committed, Err(CommitError::Unknown(_))) {
            committed = writing.writer.commit(&checkpoint).await;
        }
        match committed {
            Ok(()) => {}
            Err(CommitError::Refused(error)) => return Err(self.sink(error)),
            Err(CommitError::Unknown(error)) => {
                self.job.run.progress.in_doubt();
                if !writing.writer.keeps_positions() {
                    return Err(self.sink(error));
                }
                if !self.look_up(writing, &checkpoint).await? {
                    return Ok(Some(End::Again(self.sink(error))));
                }
            }
        }
        self.committed = true;
        self.job.run.progress.committed(open.totals);
        let through = Durable::mint(checkpoint.through.clone());
        writing.standing = checkpoint.standing();
        // A reader that ended early needs no acknowledgement: the position is at the sink.
        let _ = writing.acknowledge.send(through);
        Ok(None)
    }

    /// Finds out whether a commit whose answer was lost took effect. Never sends it again.
    async fn look_up(&self, writing: &mut Writing, checkpoint: &Checkpoint) -> Result<bool, RunError> {
        let mut outage = Outage::none();
        let (writer, found) = loop {
            match self.job.take_over(&self.split.id).await {
                Ok(taken) => break taken,
                Err(error) => match outage.pause(self.job.run.limits.outage_ms) {
                    Some(pause) if error.kind == SinkErrorKind::Unavailable => {
                        tokio::time::sleep(pause).await;
                    }
                    _ => return Err(self.sink(error)),
                },
            }
        };
        crash::point(Point::Recovery);
        writing.writer = writer;
        if checkpoint.after.as_ref() == Some(&checkpoint.through) {
            // The position stayed where it was: only the epoch tells.
            return Ok(found.epoch == checkpoint.epoch);
        }
        match recovery::resolve(checkpoint.after.as_ref(), &checkpoint.through, found.position.as_ref()) {
            Resolution::TookEffect => Ok(true),
            Resolution::DidNot => Ok(false),
            Resolution::Diverged { found } => Err(RunError::Diverged { split: self.split.id.clone(), found }),
        }
    }

    /// Commits what came before a record that stops the run. Returns what it fails with.
    async fn stop_before(&self, writing: &mut Writing, error: RunError) -> RunError {
        let Self { job, split, halt, refusals, wire, .. } = *self;
        let mut before = Attempt {
            job,
            split,
            halt,
            refusals,
            wire,
            committed: false,
            taken: true,
            idle: Arc::default(),
            cached: None,
        };
        before.commit(writing).await.err().unwrap_or(error)
    }

    fn letter(&self, refused: &Rejected) -> DeadLetter {
        DeadLetter {
            place: Place { split: self.split.id.clone(), ordinal: refused.ordinal },
            code: refused.code,
            reason: refused.reason.clone(),
            raw: refused.raw.clone(),
            set_aside_unix_ms: self.job.run.clock.unix_ms(),
        }
    }

    fn rejected(&self, refused: &Rejected) -> RunError {
        RunError::Rejected {
            place: Place { split: self.split.id.clone(), ordinal: refused.ordinal },
            record_code: refused.code,
            reason: refused.reason.clone(),
        }
    }

    fn sink(&self, error: SinkError) -> RunError {
        RunError::sink_in(Some(&self.split.id), error)
    }

    fn source(&self, error: SourceError) -> RunError {
        RunError::Source { split: Some(self.split.id.clone()), error }
    }

    fn read_error(&self, error: ReadError) -> RunError {
        match error {
            ReadError::Source(error) => self.source(error),
            ReadError::Misstep(misstep) => RunError::Misstep { split: self.split.id.clone(), misstep },
            ReadError::Arrow(error) => RunError::Arrow(error),
        }
    }
}

/// A row that is set aside because its identity is another record's.
fn twin_of(row: usize, of: &Place) -> RefusedRow {
    let reason = format!("twin: its identity was claimed by {of}");
    RefusedRow { row, code: codes::TWIN, reason }
}

/// A row that may have taken effect already.
fn in_doubt(row: usize) -> RefusedRow {
    let reason = "in doubt: it may have been sent, and whether it took effect is not known".to_owned();
    RefusedRow { row, code: codes::IN_DOUBT, reason }
}

impl Open {
    fn new(through: Position, totals: Totals, bytes: u64) -> Self {
        Self { through, totals, again: Vec::new(), bytes }
    }

    /// What was open, with what was written since.
    fn joined(before: Option<Self>, next: Self) -> Self {
        match before {
            None => next,
            Some(before) => Self {
                through: next.through,
                totals: before.totals.plus(next.totals),
                again: before.again,
                bytes: before.bytes.saturating_add(next.bytes),
            },
        }
    }

    pub fn full(&self, size: CommitSize) -> bool {
        self.totals.read >= size.records_max || self.bytes >= size.bytes_max
    }
}
