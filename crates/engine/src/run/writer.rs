use hapax_protocol::lease::Lease;
use hapax_protocol::position::{Checkpoint, SplitId, Standing};

use crate::crash::{self, Lost, Point};
use crate::fault::{CommitError, SinkError};
use crate::sink::{Append, CoCommit, Sink, Staged, Writer};

/// The writer of one split, whatever its mechanism.
pub(super) enum SplitWriter {
    CoCommit(Box<dyn CoCommit>),
    Staged(Box<dyn Staged>),
    Append(Box<dyn Append>),
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
        };
        let standing = writer.effects().take_over(lease).await?;
        Ok((writer, standing))
    }

    /// What all mechanisms have in common.
    pub fn effects(&mut self) -> &mut dyn Writer {
        match self {
            Self::CoCommit(writer) => writer.as_mut(),
            Self::Staged(writer) => writer.as_mut(),
            Self::Append(writer) => writer.as_mut(),
        }
    }

    /// Makes everything since the last commit take effect, together with the position.
    pub async fn commit(&mut self, checkpoint: &Checkpoint) -> Result<(), CommitError> {
        match self {
            Self::CoCommit(writer) => {
                crash::point(Point::CommitBefore);
                if let Err(lost) = crash::answer(Lost::Before) {
                    // What never arrived leaves nothing open either: its connection is gone.
                    let _ = writer.abort().await;
                    return Err(lost);
                }
                writer.commit(checkpoint).await?;
            }
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
