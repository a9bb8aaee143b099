use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use hapax_protocol::lease::Lease;
use hapax_protocol::position::{Checkpoint, Position, SplitId, Standing};

use super::RunError;
use super::effect::Onto;
use super::kept::{Fate, KeptWriter};
use super::prepare::Prepared;
use crate::clock::Clock;
use crate::crash::{self, Lost, Point};
use crate::fault::{CommitError, SinkError};
use crate::sink::{Append, CoCommit, Sent, Sink, Staged, Writer};

/// The writer of one split, whatever its mechanism.
pub(super) enum SplitWriter {
    CoCommit(Box<dyn CoCommit>),
    Staged(Box<dyn Staged>),
    Append(Box<dyn Append>),
    Kept(Box<KeptWriter>),
}

impl SplitWriter {
    /// A writer for `split` that has taken it over, and where the split stands.
    pub async fn take_over(
        sink: &Sink,
        split: &SplitId,
        lease: &Lease,
    ) -> Result<(Self, Standing), SinkError> {
        let mut writer = match sink {
            Sink::CoCommit(sink) => Self::CoCommit(sink.writer(split).await?),
            Sink::Staged(sink) => Self::Staged(sink.writer(split).await?),
            Sink::Append(sink) => Self::Append(sink.writer(split).await?),
            Sink::Kept(kept) => {
                let (writer, standing) = KeptWriter::take_over(kept, split, lease).await?;
                return Ok((Self::Kept(Box::new(writer)), standing));
            }
        };
        let standing = writer.effects().take_over(lease).await?;
        Ok((writer, standing))
    }

    /// What all mechanisms have in common: claims, letters and settlements. Records are [written](Self::write).
    pub fn effects(&mut self) -> &mut dyn Writer {
        match self {
            Self::CoCommit(writer) => writer.as_mut(),
            Self::Staged(writer) => writer.as_mut(),
            Self::Append(writer) => writer.as_mut(),
            Self::Kept(writer) => writer.keeper.as_mut(),
        }
    }

    /// Whether each batch has to be announced, and committed, by itself.
    pub fn announces(&self) -> bool {
        matches!(self, Self::Kept(writer) if writer.announces())
    }

    /// Makes it known that the records behind `position` through `through` are about to be written, where whoever
    /// comes next has to know.
    pub async fn announce(
        &mut self,
        position: Option<&Position>,
        through: &Position,
        clock: &Arc<dyn Clock>,
    ) -> Result<Fate, SinkError> {
        match self {
            Self::Kept(writer) => writer.announce(position, through, clock).await,
            Self::CoCommit(_) | Self::Staged(_) | Self::Append(_) => Ok(Fate::Send),
        }
    }

    /// Writes these rows of a batch, which ascend.
    pub async fn write(&mut self, batch: &Prepared, rows: &[usize], onto: Onto) -> Result<Sent, RunError> {
        let split = &batch.split;
        let failed = |error| RunError::sink_in(Some(split), error);
        let records = select(&batch.records, rows)?;
        if let Self::Kept(writer) = self {
            return writer.send(&records, batch, rows, onto).await.map_err(failed);
        }
        let refused = match onto {
            Onto::Anything => self.effects().write(&records).await,
            Onto::Nothing => self.effects().write_absent(&records).await,
        };
        Ok(Sent { refused: refused.map_err(failed)?, unknown: Vec::new() })
    }

    /// Makes everything since the last commit take effect, together with the position.
    pub async fn commit(&mut self, checkpoint: &Checkpoint) -> Result<(), CommitError> {
        match self {
            Self::CoCommit(writer) => commit(writer.as_mut(), checkpoint).await?,
            // Every record that was sent has ended: what is left is what the keeper holds.
            Self::Kept(writer) => commit(writer.keeper.as_mut(), checkpoint).await?,
            Self::Staged(writer) => {
                let commit = writer.stage(checkpoint).await.map_err(CommitError::Refused)?;
                crash::point(Point::StageDone);
                crash::point(Point::CommitBefore);
                crash::answer(Lost::Before)?;
                writer.publish(&commit).await?;
            }
            Self::Append(writer) => {
                crash::point(Point::CommitBefore);
                if let Err(lost) = crash::answer(Lost::Before) {
                    let _ = writer.abort().await;
                    return Err(lost);
                }
                writer.flush().await.map_err(CommitError::Unknown)?;
            }
        }
        crash::point(Point::CommitAfter);
        crash::answer(Lost::After)
    }

    /// Whether the sink can be asked where it stands.
    pub fn keeps_positions(&self) -> bool {
        !matches!(self, Self::Append(_))
    }
}

async fn commit(writer: &mut dyn CoCommit, checkpoint: &Checkpoint) -> Result<(), CommitError> {
    crash::point(Point::CommitBefore);
    if let Err(lost) = crash::answer(Lost::Before) {
        // What never arrived leaves nothing open either: its connection is gone.
        let _ = writer.abort().await;
        return Err(lost);
    }
    writer.commit(checkpoint).await
}

/// These rows, which ascend.
fn select(records: &RecordBatch, rows: &[usize]) -> Result<RecordBatch, ArrowError> {
    if rows.len() == records.num_rows() {
        return Ok(records.clone());
    }
    let mut keep = vec![false; records.num_rows()];
    for row in rows {
        if let Some(keep) = keep.get_mut(*row) {
            *keep = true;
        }
    }
    filter_record_batch(records, &BooleanArray::from(keep))
}
