//! Commits that leave a position where it is: of dead letters that are settled, and of records that were lost.

use std::collections::BTreeMap;

use hapax_protocol::position::{Checkpoint, SplitId, Standing, Totals};

use super::writer::SplitWriter;
use super::{Job, RunError};
use crate::fault::CommitError;

/// Commits what a writer holds. The position stays, the epoch goes on: the next look-up tells the commits apart
/// by it. A split without a position has nothing that could be committed this way, and nothing happens.
pub(super) async fn commit(
    job: &Job,
    split: &SplitId,
    writer: &mut SplitWriter,
    standing: &mut Standing,
    totals: Totals,
    made_unix_ms: u64,
) -> Result<(), RunError> {
    let failed = |error| RunError::sink_in(Some(split), error);
    let Some(position) = standing.position.clone() else { return Ok(()) };
    let (after, epoch) = (Some(position.clone()), standing.epoch.next());
    let checkpoint = Checkpoint { after, through: position, epoch, totals, again: Vec::new(), made_unix_ms };
    match writer.commit(&checkpoint).await {
        Ok(()) => {}
        Err(CommitError::Refused(error)) => return Err(failed(error)),
        Err(CommitError::Unknown(error)) => {
            let (again, found) = job.take_over(split).await.map_err(failed)?;
            if found.epoch != checkpoint.epoch {
                return Err(failed(error));
            }
            *writer = again;
        }
    }
    *standing = checkpoint.standing();
    Ok(())
}

/// Whether the source holds nothing that is not committed.
pub(super) async fn all_moved(job: &Job) -> Result<bool, RunError> {
    let standings =
        job.run.sink.destination().standings(&job.lease.pipeline).await.map_err(RunError::sink)?;
    let standings: BTreeMap<SplitId, Standing> = standings.into_iter().collect();
    for split in job.run.source.splits().await.map_err(RunError::source)? {
        let position = standings.get(&split.id).and_then(|standing| standing.position.as_ref());
        let mut reader = job.run.source.open(&split.id, position).await.map_err(RunError::source)?;
        if reader.read(job.read_limit()).await.map_err(RunError::source)?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}
