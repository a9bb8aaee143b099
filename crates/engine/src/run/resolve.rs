//! What a crash left decided, completed without moving anything.

use hapax_protocol::lease::Applicant;

use super::RunError;
use super::writer::SplitWriter;
use crate::sink::Sink;

/// Takes the lease and every split over, which completes what was decided. A run that goes on is fenced.
pub async fn resolve(sink: &Sink, applicant: &Applicant) -> Result<(), RunError> {
    let destination = sink.destination();
    let lease = destination.acquire(applicant).await.map_err(RunError::sink)?;
    let standings = destination.standings(&applicant.pipeline).await.map_err(RunError::sink)?;
    for (split, _) in standings {
        let taken = SplitWriter::take_over(sink, &split, &lease, false).await;
        taken.map_err(|error| RunError::sink_in(Some(&split), error))?;
    }
    Ok(())
}
