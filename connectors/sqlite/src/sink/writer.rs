//! The writer of one split.

use std::sync::Arc;

use arrow::array::RecordBatch;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, Settlement};
use hapax_engine::fault::{CommitError, SinkError};
use hapax_engine::sink::{Append, Arrival, CoCommit, Writer};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::Lease;
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Checkpoint, SplitId, Standing};

use super::desk::{Desk, Seat};
use super::plan::Plan;
use super::{Database, history, tables};
use crate::connection::aside;
use crate::fault::WriteFault;

/// Whether this writer has the desk.
enum Hold {
    /// Nothing since the last commit.
    Free,
    /// The desk, before a transaction was opened.
    Seated(Seat),
    /// The desk, with this writer's transaction open.
    Open(Seat),
    /// A transaction that failed, or whose future was dropped, before its commit.
    Lost,
}

/// Writes one split. Has the desk from the first write of a commit to its end.
pub(crate) struct SplitWriter {
    database: Arc<Database>,
    split: SplitId,
    lease: Option<Lease>,
    hold: Hold,
}

impl SplitWriter {
    pub(crate) fn new(database: Arc<Database>, split: SplitId) -> Self {
        Self { database, split, lease: None, hold: Hold::Free }
    }

    fn lost(&self) -> SinkError {
        WriteFault::TransactionLost { split: self.split.clone() }.into()
    }

    /// Does work in this writer's transaction, opening it if need be. Whatever goes wrong takes the whole
    /// transaction back.
    async fn inside<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Desk) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        if matches!(self.hold, Hold::Free) {
            self.hold = Hold::Seated(Seat::wait(&self.database.desk).await);
        }
        let lease = self.lease.clone();
        let positions = self.database.positions;
        let (mut desk, begin) = match std::mem::replace(&mut self.hold, Hold::Lost) {
            Hold::Seated(desk) => (desk, true),
            Hold::Open(desk) => (desk, false),
            Hold::Free | Hold::Lost => return Err(self.lost()),
        };
        let lost = self.lost();
        let done = aside(self.database.path(), move || {
            let began = match (begin, positions, lease) {
                (false, _, _) => Ok(()),
                (true, false, _) => desk.begin().map_err(SinkError::from),
                (true, true, Some(lease)) => desk.begin_as(&lease),
                (true, true, None) => Err(lost),
            };
            let done = began.and_then(|()| work(&mut desk));
            if done.is_err() {
                desk.roll_back();
            }
            (desk, done)
        });
        let (desk, done) = done.await?;
        if done.is_ok() {
            self.hold = Hold::Open(desk);
        }
        done
    }

    /// Ends this writer's transaction.
    async fn end<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Desk) -> T + Send + 'static,
    ) -> Result<T, SinkError> {
        let mut desk = match std::mem::replace(&mut self.hold, Hold::Lost) {
            Hold::Open(desk) => desk,
            Hold::Free | Hold::Seated(_) | Hold::Lost => return Err(self.lost()),
        };
        Ok(aside(self.database.path(), move || work(&mut desk)).await?)
    }

    async fn give_up(&mut self) -> Result<(), SinkError> {
        if matches!(self.hold, Hold::Open(_)) {
            self.end(Desk::roll_back).await?;
        }
        self.hold = Hold::Free;
        Ok(())
    }

    fn plan(&self) -> Result<Arc<Plan>, SinkError> {
        let unprepared = || WriteFault::Config("it was not prepared before it was written to").into();
        self.database.plan().ok_or_else(unprepared)
    }

    fn held_lease(&self) -> Result<Lease, SinkError> {
        self.lease.clone().ok_or_else(|| self.lost())
    }
}

impl Writer for SplitWriter {
    fn take_over<'a>(&'a mut self, lease: &'a Lease) -> Fut<'a, Standing, SinkError> {
        Box::pin(async move {
            self.give_up().await?;
            self.lease = Some(lease.clone());
            if !self.database.positions {
                return Ok(Standing::default());
            }
            let (lease, split) = (lease.clone(), self.split.clone());
            self.database.at_desk(move |desk| desk.take_over(&lease, &split)).await
        })
    }

    fn claim<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        Box::pin(async move {
            let (lease, split, arrivals) = (self.held_lease()?, self.split.clone(), arrivals.to_vec());
            self.inside(move |desk| desk.claim(&lease, &split, &arrivals)).await
        })
    }

    fn withdraw<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            let (split, arrivals) = (self.split.clone(), arrivals.to_vec());
            self.inside(move |desk| desk.withdraw(&split, &arrivals)).await
        })
    }

    fn write<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let plan = self.plan()?;
            let (split, records) = (self.split.clone(), records.clone());
            self.inside(move |desk| desk.write(&split, &plan, &records)).await
        })
    }

    fn write_absent<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let (plan, split, records) = (self.plan()?.absent(), self.split.clone(), records.clone());
            self.inside(move |desk| desk.write(&split, &plan, &records)).await
        })
    }

    fn set_aside<'a>(&'a mut self, letters: &'a [DeadLetter]) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            if letters.is_empty() {
                return Ok(());
            }
            if !self.database.positions {
                return Err(WriteFault::NoPlaceForLetters { letters: letters.len() }.into());
            }
            let (pipeline, letters) = (self.held_lease()?.pipeline, letters.to_vec());
            let work = move |desk: &mut Desk| {
                desk.with_tables("setting aside", |connection| {
                    tables::set_aside(connection, &pipeline, &letters)
                })
            };
            self.inside(work).await
        })
    }

    fn settle<'a>(&'a mut self, places: &'a [Place], settlement: &'a Settlement) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            if places.is_empty() || !self.database.positions {
                return Ok(());
            }
            let (pipeline, places, settlement) = (self.held_lease()?.pipeline, places.to_vec(), *settlement);
            let work = move |desk: &mut Desk| {
                desk.with_tables("settling", |connection| {
                    history::settle(connection, &pipeline, &places, &settlement)
                })
            };
            self.inside(work).await
        })
    }

    fn abort(&mut self) -> Fut<'_, (), SinkError> {
        Box::pin(self.give_up())
    }
}

impl CoCommit for SplitWriter {
    fn commit<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> Fut<'a, (), CommitError> {
        Box::pin(async move {
            let lease = self.held_lease().map_err(CommitError::Refused)?;
            // A commit of a position alone has no transaction yet.
            self.inside(|_| Ok(())).await.map_err(CommitError::Refused)?;
            let (split, checkpoint) = (self.split.clone(), checkpoint.clone());
            let ended = self.end(move |desk| desk.commit(&lease, &split, &checkpoint)).await;
            // No answer from the thread that committed: it may have.
            ended.map_err(CommitError::Unknown)??;
            self.hold = Hold::Free;
            Ok(())
        })
    }
}

impl Append for SplitWriter {
    fn flush(&mut self) -> Fut<'_, (), SinkError> {
        Box::pin(async move {
            match self.hold {
                Hold::Free => return Ok(()),
                Hold::Seated(_) | Hold::Open(_) | Hold::Lost => {}
            }
            let flushed = self.end(|desk| {
                let flushed = desk.flush();
                if flushed.is_err() {
                    desk.roll_back();
                }
                flushed
            });
            flushed.await??;
            self.hold = Hold::Free;
            Ok(())
        })
    }
}
