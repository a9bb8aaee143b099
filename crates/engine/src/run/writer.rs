use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::Lease;
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Checkpoint, Position, SplitId, Standing};

use super::RunError;
use super::effect::Onto;
use super::kept::{Fate, KeptWriter};
use super::prepare::Prepared;
use crate::clock::Clock;
use crate::crash::{self, Lost, Point};
use crate::fault::{CommitError, SinkError};
use crate::ledger::Ledger;
use crate::sink::{Append, Arrival, CoCommit, Sent, Sink, Staged, Writer};

/// The writer of one split, whatever its mechanism.
pub(super) struct SplitWriter {
    by: Mechanism,
    /// The ledger that stands beside the destination, if there is one.
    beside: Option<Beside>,
}

enum Mechanism {
    CoCommit(Box<dyn CoCommit>),
    Staged(Box<dyn Staged>),
    Append(Box<dyn Append>),
    Kept(Box<KeptWriter>),
}

/// A ledger of its own, for one split.
struct Beside {
    ledger: Arc<dyn Ledger>,
    lease: Lease,
    split: SplitId,
}

impl SplitWriter {
    /// A writer for `split` that has taken it over, and where the split stands. `looks` is whether a destination that can
    /// be asked is asked what an earlier holder sent.
    pub async fn take_over(
        sink: &Sink,
        split: &SplitId,
        lease: &Lease,
        looks: bool,
    ) -> Result<(Self, Standing), SinkError> {
        let by = match sink {
            Sink::CoCommit(sink) => Mechanism::CoCommit(sink.writer(split).await?),
            Sink::Staged(sink) => Mechanism::Staged(sink.writer(split).await?),
            Sink::Append(sink) => Mechanism::Append(sink.writer(split).await?),
            Sink::Kept(kept) => {
                let (writer, standing) = KeptWriter::take_over(kept, split, lease, looks).await?;
                return Ok((Self { by: Mechanism::Kept(Box::new(writer)), beside: None }, standing));
            }
        };
        let mut writer = Self { by, beside: None };
        let standing = writer.effects().take_over(lease).await?;
        Ok((writer, standing))
    }

    /// The same writer, which asks a ledger beside the destination.
    pub fn asking(mut self, ledger: Option<&Arc<dyn Ledger>>, split: &SplitId, lease: &Lease) -> Self {
        self.beside = ledger.map(|ledger| Beside {
            ledger: Arc::clone(ledger),
            lease: lease.clone(),
            split: split.clone(),
        });
        self
    }

    /// What all mechanisms have in common: letters and settlements. Records are [written](Self::write), and identities
    /// [claimed](Self::claim).
    pub fn effects(&mut self) -> &mut dyn Writer {
        match &mut self.by {
            Mechanism::CoCommit(writer) => writer.as_mut(),
            Mechanism::Staged(writer) => writer.as_mut(),
            Mechanism::Append(writer) => writer.as_mut(),
            Mechanism::Kept(writer) => writer.keeper.as_mut(),
        }
    }

    /// Claims identities where they are kept: one answer per arrival, in order.
    pub async fn claim(&mut self, arrivals: &[Arrival]) -> Result<Vec<Claim<Place>>, SinkError> {
        match &self.beside {
            Some(Beside { ledger, lease, split }) => ledger.claim(lease, split, arrivals).await,
            None => self.effects().claim(arrivals).await,
        }
    }

    /// Takes claims back where they are kept.
    pub async fn withdraw(&mut self, arrivals: &[Arrival]) -> Result<(), SinkError> {
        match &self.beside {
            Some(Beside { ledger, lease, split }) => ledger.withdraw(lease, split, arrivals).await,
            None => self.effects().withdraw(arrivals).await,
        }
    }

    /// Whether each batch has to be announced, and committed, by itself.
    pub fn announces(&self) -> bool {
        matches!(&self.by, Mechanism::Kept(writer) if writer.announces())
    }

    /// Makes it known that the records behind `position` through `through` are about to be written, where whoever
    /// comes next has to know.
    pub async fn announce(
        &mut self,
        position: Option<&Position>,
        through: &Position,
        clock: &Arc<dyn Clock>,
    ) -> Result<Fate, SinkError> {
        match &mut self.by {
            Mechanism::Kept(writer) => writer.announce(position, through, clock).await,
            Mechanism::CoCommit(_) | Mechanism::Staged(_) | Mechanism::Append(_) => Ok(Fate::Send),
        }
    }

    /// Writes these rows of a batch, which ascend.
    pub async fn write(&mut self, batch: &Prepared, rows: &[usize], onto: Onto) -> Result<Sent, RunError> {
        let split = &batch.split;
        let failed = |error| RunError::sink_in(Some(split), error);
        let records = select(&batch.records, rows)?;
        if let Mechanism::Kept(writer) = &mut self.by {
            return writer.send(&records, batch, rows, onto).await.map_err(failed);
        }
        let refused = match onto {
            Onto::Anything => self.effects().write(&records).await,
            Onto::Nothing => self.effects().write_absent(&records).await,
        };
        Ok(Sent { refused: refused.map_err(failed)?, unknown: Vec::new() })
    }

    /// Which of these rows of a batch, that an earlier run may have sent, are known to have taken effect.
    pub async fn look(&mut self, batch: &Prepared, rows: &[usize]) -> Result<Vec<bool>, RunError> {
        let Mechanism::Kept(writer) = &mut self.by else { return Ok(vec![false; rows.len()]) };
        let records = select(&batch.records, rows)?;
        let found = writer.look(&records, batch, rows).await;
        found.map_err(|error| RunError::sink_in(Some(&batch.split), error))
    }

    /// Makes everything since the last commit take effect, together with the position.
    pub async fn commit(&mut self, checkpoint: &Checkpoint) -> Result<(), CommitError> {
        match &mut self.by {
            Mechanism::CoCommit(writer) => commit(writer.as_mut(), checkpoint).await?,
            // Every record that was sent has ended: what is left is what the keeper holds.
            Mechanism::Kept(writer) => commit(writer.keeper.as_mut(), checkpoint).await?,
            Mechanism::Staged(writer) => {
                let commit = writer.stage(checkpoint).await.map_err(CommitError::Refused)?;
                crash::point(Point::StageDone);
                crash::point(Point::CommitBefore);
                crash::answer(Lost::Before)?;
                writer.publish(&commit).await?;
            }
            Mechanism::Append(writer) => {
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
        !matches!(self.by, Mechanism::Append(_))
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
