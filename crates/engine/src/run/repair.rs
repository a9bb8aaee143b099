//! Moves records again that the destination lost.
//!
//! Whoever repairs has the lease, so nobody else commits. What is missing is found out under it, by whoever
//! compares both ends, and each record is read at its place and goes through transform, ledger and sink as in a run.
//! One that is refused stays missing. A commit takes effect as a whole and moves no position. So a repair may be killed at any
//! moment: the next one finds what was moved, and moves the rest.

use std::collections::HashSet;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use hapax_protocol::identity::Place;
use hapax_protocol::position::{Ordinal, Position, SplitId, Totals};
use tokio::sync::mpsc::unbounded_channel;

use super::effect::Effect;
use super::prepare::Prepared;
use super::split::{Attempt, Open, Refusals, Writing};
use super::{Job, Run, RunError, in_place};
use crate::batch::Batch;
use crate::crash::{self, Point};
use crate::identify::Identifier;
use crate::sink::Sink;
use crate::source::Split;

/// How many ranges of records one commit may remember before it is made, whatever its size is.
const RANGES_MAX: usize = 16 * 1024;

/// A pipeline whose destination is being repaired, under its lease.
pub struct Repair {
    job: Arc<Job>,
}

/// What a repair did, in records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repaired {
    /// Moved again.
    pub moved: u64,
    /// Still missing, because they are refused now.
    pub refused: u64,
    /// Why the first of those was.
    pub refusal: Option<String>,
    /// Left out, because another record with their identity takes effect.
    pub suppressed: u64,
}

impl Repair {
    /// Takes the lease, and publishes what an interrupted run or repair left to be published.
    pub async fn begin(run: Run) -> Result<Self, RunError> {
        let identifier = Identifier::new(&run.identity, &run.schema()).map_err(RunError::Identity)?;
        if matches!(run.sink, Sink::Append(_)) {
            return Err(RunError::NoPositions);
        }
        // What a repair sends is behind the position, and could not be announced.
        if matches!(&run.sink, Sink::Kept(kept) if kept.target.repeat().is_announced()) {
            return Err(RunError::NoReplay);
        }
        run.demand_ledger().await?;
        let destination = run.sink.destination();
        destination.prepare(&run.shape()).await.map_err(RunError::sink)?;
        let lease = destination.acquire(&run.applicant).await.map_err(RunError::sink)?;
        crash::point(Point::LeaseAcquired);
        let repair = Self { job: Arc::new(Job { run, identifier, lease, wire: false, shared: false }) };
        let job = &repair.job;
        let destination = job.run.sink.destination();
        if destination.is_waiting(&job.lease.pipeline).await.map_err(RunError::sink)? {
            if !in_place::all_moved(job).await? {
                return Err(RunError::Unpublished);
            }
            repair.finish().await?;
        }
        Ok(repair)
    }

    /// Moves the records at these places, which come split by split and in their order, and not behind the
    /// position of a split. A place at which there is no record any more is passed over.
    pub async fn move_missing<E: From<RunError>>(
        &self,
        missing: impl Iterator<Item = Result<Place, E>>,
    ) -> Result<Repaired, E> {
        let (mut missing, mut done) = (missing.peekable(), Repaired::default());
        while let Some(place) = peek(&mut missing)? {
            let split = Split { id: place.split, source_bytes: None };
            self.split(&split, &mut missing, &mut done).await?;
            // Records that are gone from the source.
            while next_in(&mut missing, &split.id)?.is_some() {
                missing.next();
            }
        }
        Ok(done)
    }

    /// Publishes what becomes visible only as a whole.
    pub async fn finish(&self) -> Result<(), RunError> {
        crash::point(Point::FinishBefore);
        self.job.run.sink.destination().finish(&self.job.lease).await.map_err(RunError::sink)?;
        crash::point(Point::FinishAfter);
        Ok(())
    }

    async fn split<E: From<RunError>>(
        &self,
        split: &Split,
        missing: &mut Peekable<impl Iterator<Item = Result<Place, E>>>,
        done: &mut Repaired,
    ) -> Result<(), E> {
        let run = &self.job.run;
        let in_sink = |error| RunError::sink_in(Some(&split.id), error);
        let in_source = |error| RunError::Source { split: Some(split.id.clone()), error };
        let taken = self.job.take_over(&split.id).await;
        let (writer, standing) = taken.map_err(in_sink)?;
        let Some(position) = standing.position.clone() else { return Ok(()) };
        let size = run.limits.commit.over(run.sink.destination().commit_size());
        let (job, halt, refusals, wire) = (&self.job, &run.stop, Refusals::Leave, false);
        let mut attempt = Attempt {
            job,
            split,
            halt,
            refusals,
            wire,
            committed: false,
            taken: false,
            idle: Arc::default(),
            cached: None,
        };
        // Nothing is told to the source: it was told when the position was committed.
        let (acknowledge, _) = unbounded_channel();
        let mut writing = Writing { writer, standing, open: None, acknowledge };
        let mut reader = run.source.open(&split.id, None).await.map_err(in_source)?;
        while next_in(missing, &split.id)?.is_some() {
            let batch = reader.read(self.job.read_limit()).await.map_err(in_source)?;
            let Some(batch) = batch.filter(|batch| batch.after.as_ref().is_none_or(|at| *at < position))
            else {
                break;
            };
            let Some(prepared) = self.prepare(batch, &position, missing)? else { continue };
            for refused in attempt.write(&mut writing, prepared).await? {
                done.refused = done.refused.saturating_add(1);
                done.refusal.get_or_insert(refused.reason);
            }
            let is_full = |open: &Open| {
                open.full(size)
                    || open.totals.moved >= size.records_max
                    || open.again.len() >= RANGES_MAX
                    || writing.writer.announces()
            };
            if writing.open.as_ref().is_some_and(is_full) {
                commit(&mut attempt, &mut writing, done).await?;
            }
        }
        Ok(commit(&mut attempt, &mut writing, done).await?)
    }

    /// The missing records of a batch; `None` if it has none.
    fn prepare<E: From<RunError>>(
        &self,
        mut batch: Batch,
        position: &Position,
        missing: &mut Peekable<impl Iterator<Item = Result<Place, E>>>,
    ) -> Result<Option<Prepared>, E> {
        let mut keep = vec![false; batch.records.num_rows()];
        for (row, keep) in keep.iter_mut().enumerate() {
            let ordinal = batch.ordinals.of(row);
            while let Some(next) = next_in(missing, &batch.split)?
                && next <= ordinal
            {
                *keep |= next == ordinal;
                missing.next();
            }
        }
        if !keep.contains(&true) {
            return Ok(None);
        }
        let kept = keep.iter().enumerate().filter_map(|(row, keep)| keep.then_some(row));
        batch.ordinals = batch.ordinals.pick(kept);
        let filtered = filter_record_batch(&batch.records, &BooleanArray::from(keep));
        batch.records = filtered.map_err(RunError::Arrow)?;
        // What the source rejects was set aside when the position passed it.
        batch.rejected.clear();
        let mut prepared = Prepared::new(&self.job, batch).map_err(RunError::Arrow)?;
        prepared.through = position.clone();
        // They were counted as read when the position passed them.
        prepared.counts = Totals::default();
        Ok(Some(prepared))
    }
}

/// Adds the records of a batch that took effect to those that the open commit moves again.
pub(super) fn note_moved(again: &mut Vec<Range<Ordinal>>, batch: &Prepared, effect: &Effect) {
    let twins = effect.twins.iter().map(|(row, _)| *row);
    let refused = effect.refused.iter().map(|refused| refused.row);
    let left_out: HashSet<usize> = twins.chain(refused).chain(effect.in_doubt.iter().copied()).collect();
    for row in (0..batch.records.num_rows()).filter(|row| !left_out.contains(row)) {
        let ordinal = batch.ordinals.of(row);
        let end = ordinal.saturating_add(1);
        match again.last_mut() {
            Some(last) if last.end == ordinal => last.end = end,
            _ => again.push(ordinal..end),
        }
    }
}

/// Commits what is open. The position stays where it is.
async fn commit(
    attempt: &mut Attempt<'_>,
    writing: &mut Writing,
    done: &mut Repaired,
) -> Result<(), RunError> {
    let Some(open) = &mut writing.open else { return Ok(()) };
    let totals = open.totals;
    open.totals.suppressed = 0;
    // Each of them was counted as moved when the position passed it.
    writing.standing.totals.moved = writing.standing.totals.moved.saturating_sub(totals.moved);
    if attempt.commit(writing).await?.is_some() {
        return Err(RunError::NotRepaired { split: attempt.split.id.clone() });
    }
    done.moved = done.moved.saturating_add(totals.moved);
    done.suppressed = done.suppressed.saturating_add(totals.suppressed);
    Ok(())
}

/// The next place, which stays.
fn peek<E>(missing: &mut Peekable<impl Iterator<Item = Result<Place, E>>>) -> Result<Option<Place>, E> {
    match missing.next_if(Result::is_err) {
        Some(failed) => failed.map(Some),
        None => Ok(missing.peek().and_then(|next| next.as_ref().ok()).cloned()),
    }
}

/// The number of the next record, if it lies in this split.
fn next_in<E>(
    missing: &mut Peekable<impl Iterator<Item = Result<Place, E>>>,
    split: &SplitId,
) -> Result<Option<u64>, E> {
    Ok(peek(missing)?.filter(|place| place.split == *split).map(|place| place.ordinal))
}
