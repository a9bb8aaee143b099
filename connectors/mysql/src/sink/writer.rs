//! The writer of one split: a connection of its own, at most one open transaction.

use std::sync::Arc;

use arrow::array::RecordBatch;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, Settlement};
use hapax_engine::fault::{CommitError, SinkError};
use hapax_engine::identify::digest;
use hapax_engine::sink::{Arrival, CoCommit, Writer};
use hapax_engine::transform::RefusedRow;
use hapax_planted::{Mistake, planted};
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{FencingToken, Lease};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Checkpoint, SplitId, Standing};
use hapax_protocol::recovery::{self, Found, Start};
use mysql_async::prelude::Queryable;
use mysql_async::{Error, ServerError};

use super::desk::Left;
use super::ledger::Claimer;
use super::plan::Plan;
use super::{Database, history, insert, ledger, tables};
use crate::client::{LOCK_TIMEOUT_S, Session, number};
use crate::fault::{DatabaseFault, WriteFault};
use crate::table::Table;

/// How long a take-over waits for an earlier holder to end its commit, before it ends the holder's connection, in
/// seconds.
const PATIENCE_S: u64 = 2;

/// Where this writer stands between two commits.
enum Hold {
    /// Nothing is open.
    Free(Option<Session>),
    /// A transaction is open, and the split is locked.
    Open(Box<Session>, Standing),
    /// A transaction that failed, or whose future was dropped, before its commit.
    Lost,
}

/// Writes one split.
pub(crate) struct SplitWriter {
    database: Arc<Database>,
    split: SplitId,
    lease: Option<Lease>,
    hold: Hold,
    /// Whether the open transaction wrote to the table.
    wrote: bool,
    /// How many identities it claimed.
    claimed: u64,
}

impl SplitWriter {
    pub(crate) fn new(database: Arc<Database>, split: SplitId) -> Self {
        Self { database, split, lease: None, hold: Hold::Free(None), wrote: false, claimed: 0 }
    }

    fn lost(&self) -> SinkError {
        WriteFault::TransactionLost { split: self.split.clone() }.into()
    }

    fn plan(&self) -> Result<Arc<Plan>, SinkError> {
        let unprepared = || WriteFault::Config("it was not prepared before it was written to").into();
        self.database.plan().ok_or_else(unprepared)
    }

    fn held_lease(&self) -> Result<Lease, SinkError> {
        self.lease.clone().ok_or_else(|| self.lost())
    }

    /// The open transaction, begun if need be. Until it is given back the writer counts as lost, so that a dropped
    /// future leaves nothing half done: its connection ends, and the server takes the transaction back.
    async fn enter(&mut self) -> Result<(Session, Standing), SinkError> {
        let lease = self.held_lease()?;
        let free = match std::mem::replace(&mut self.hold, Hold::Lost) {
            Hold::Open(session, stood) => return Ok((*session, stood)),
            Hold::Free(free) => free,
            Hold::Lost => return Err(self.lost()),
        };
        (self.wrote, self.claimed) = (false, 0);
        if let Some(desks) = &self.database.desks {
            match desks.take(&self.split) {
                Left::Nobody => {}
                // Without the marks of what is to be written there is nothing to go on with.
                Left::Nothing => return Err(self.lost()),
                Left::Transaction(open) => {
                    free.into_iter().for_each(|session| desks.keep(session));
                    return Ok((open.session, open.stood));
                }
            }
        }
        let mut session = match free {
            Some(session) => session,
            None => self.database.address.connect().await?,
        };
        match hold(&mut session, &self.database, &lease, &self.split).await {
            Ok(stood) => Ok((session, stood)),
            Err(error) => {
                give_back(session).await;
                Err(error)
            }
        }
    }

    /// Keeps the transaction open after work that succeeded, and takes it back after work that failed.
    async fn leave<T>(
        &mut self,
        session: Session,
        stood: Standing,
        done: Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        match done {
            Ok(done) => {
                self.hold = Hold::Open(Box::new(session), stood);
                Ok(done)
            }
            Err(error) => {
                give_back(session).await;
                Err(error)
            }
        }
    }

    async fn give_up(&mut self) {
        let session = match std::mem::replace(&mut self.hold, Hold::Lost) {
            Hold::Open(session, _) => give_back(*session).await,
            Hold::Free(session) => session,
            Hold::Lost => None,
        };
        self.hold = Hold::Free(session);
    }

    async fn seize(&mut self, session: &mut Session, lease: &Lease) -> Result<Standing, SinkError> {
        let lock = lock_name(&self.database, lease, &self.split);
        // Whoever was superseded itself ends nobody: the connection that has the split is its successor's.
        still_holder(session, lease).await?;
        if !locked(session, &lock, PATIENCE_S).await? {
            still_holder(session, lease).await?;
            end_holder(session, &lock).await?;
            if !locked(session, &lock, LOCK_TIMEOUT_S).await? {
                return Err(held(session, &self.split).into());
            }
        }
        session.say("opening a transaction", "START TRANSACTION").await?;
        still_holder(session, lease).await?;
        // Whoever had the split either committed or never will: this waits for the row.
        let found = match tables::hold(session, &lease.pipeline, &self.split).await? {
            Some(found) => found,
            None => {
                tables::enter(session, &lease.pipeline, &self.split).await?;
                tables::hold(session, &lease.pipeline, &self.split).await?.unwrap_or_else(nothing)
            }
        };
        match recovery::start(lease.token, &found) {
            Start::Fenced { by } => Err(fenced(lease, by).into()),
            Start::Fresh | Start::Resume(_) => {
                tables::take(session, lease, &self.split).await?;
                session.say("taking a split over", "COMMIT").await?;
                unlock(session, &lock).await?;
                Ok(found.standing)
            }
        }
    }

    async fn ready(
        &self,
        session: &mut Session,
        lease: &Lease,
        stood: &Standing,
        checkpoint: &Checkpoint,
    ) -> Result<(), SinkError> {
        if self.wrote {
            // What was written holds the table as it is to the end of the transaction: nobody alters it from here on.
            let plan = self.plan()?;
            plan.still_fits(Table::load(session, &plan.table).await?.as_ref())?;
        }
        history::remember(session, lease, &self.split, stood, checkpoint).await?;
        if tables::advance(session, lease, &self.split, checkpoint).await? {
            return Ok(());
        }
        let holder = tables::lease_token(session, &lease.pipeline).await?;
        if holder == lease.token {
            Err(WriteFault::Diverged { split: self.split.clone() }.into())
        } else {
            Err(fenced(lease, holder).into())
        }
    }

    /// Forgets old identities, at least as many as the last commit claimed.
    async fn forget(&self, session: &mut Session) -> Result<(), DatabaseFault> {
        let (Some(retention), Some(lease)) = (self.database.retention, &self.lease) else { return Ok(()) };
        for _ in 0..=(self.claimed / ledger::FORGOTTEN_MAX) {
            if ledger::forget(session, &lease.pipeline, retention).await? < ledger::FORGOTTEN_MAX {
                break;
            }
        }
        Ok(())
    }

    /// Sends COMMIT, and says honestly what became of it.
    async fn end(&mut self, mut session: Session) -> Result<(), CommitError> {
        match session.connection.query_drop("COMMIT").await {
            Ok(()) => {
                let unlocked = session.say("unlocking a split", "DO RELEASE_ALL_LOCKS()").await;
                // What is committed is committed: a connection that fails now is only not used again.
                let is_good = unlocked.is_ok() && self.forget(&mut session).await.is_ok();
                self.hold = Hold::Free(is_good.then_some(session));
                Ok(())
            }
            // A cluster certifies the transaction now; this answer says that it was taken back.
            Err(source @ Error::Server(ServerError { code: 1213, .. })) => {
                let fault = session.fault("committing", source);
                give_back(session).await;
                Err(CommitError::Refused(fault.into()))
            }
            Err(source) => Err(CommitError::Unknown(SinkError::unavailable(WriteFault::CommitUnknown {
                split: self.split.clone(),
                source,
            }))),
        }
    }
}

/// Opens a transaction, in which the row of a split is locked for the holder of the lease; refuses one that was
/// superseded. How the split stands.
pub(super) async fn hold(
    session: &mut Session,
    database: &Database,
    lease: &Lease,
    split: &SplitId,
) -> Result<Standing, SinkError> {
    if !locked(session, &lock_name(database, lease, split), LOCK_TIMEOUT_S).await? {
        still_holder(session, lease).await?;
        return Err(held(session, split).into());
    }
    session.say("opening a transaction", "START TRANSACTION").await?;
    let found = tables::hold(session, &lease.pipeline, split).await?.unwrap_or_else(nothing);
    let holder = tables::lease_token(session, &lease.pipeline).await?;
    if (found.token, holder) != (lease.token, lease.token) && !planted(Mistake::NoFence) {
        return Err(fenced(lease, found.token.max(holder)).into());
    }
    Ok(found.standing)
}

fn held(session: &Session, split: &SplitId) -> DatabaseFault {
    DatabaseFault::Held { place: session.place().to_owned(), split: split.to_string() }
}

/// The name under which the server knows who works on a split: it tells which connection that is.
fn lock_name(database: &Database, lease: &Lease, split: &SplitId) -> String {
    let of = format!("{}\0{}\0{split}", database.address.database(), lease.pipeline);
    format!("hapax:{}", digest(of.as_bytes()))
}

/// Takes back what is open. The connection, if it is still good.
pub(super) async fn give_back(mut session: Session) -> Option<Session> {
    let taken_back = session.say("taking back", "ROLLBACK").await;
    let unlocked = session.say("taking back", "DO RELEASE_ALL_LOCKS()").await;
    (taken_back.is_ok() && unlocked.is_ok()).then_some(session)
}

async fn locked(session: &mut Session, lock: &str, wait_s: u64) -> Result<bool, DatabaseFault> {
    let row = session.first("locking a split", "SELECT GET_LOCK(?, ?)", (lock, wait_s)).await?;
    Ok(row.and_then(|row| number(&row, 0)) == Some(1))
}

async fn unlock(session: &mut Session, lock: &str) -> Result<(), DatabaseFault> {
    session.run("unlocking a split", "DO RELEASE_LOCK(?)", (lock,)).await?;
    Ok(())
}

/// Ends the connection of whoever works on the split. It was superseded, and its transaction is taken back.
async fn end_holder(session: &mut Session, lock: &str) -> Result<(), DatabaseFault> {
    let doing = "ending an earlier holder's connection";
    let row = session.first(doing, "SELECT IS_USED_LOCK(?)", (lock,)).await?;
    let Some(connection) = row.and_then(|row| number(&row, 0)) else { return Ok(()) };
    match session.connection.query_drop(format!("KILL {connection}")).await {
        // It has ended by itself.
        Ok(()) | Err(Error::Server(ServerError { code: 1094, .. })) => Ok(()),
        Err(source) => Err(session.fault(doing, source)),
    }
}

/// Refuses a holder that a later one superseded.
async fn still_holder(session: &mut Session, lease: &Lease) -> Result<(), SinkError> {
    let holder = tables::lease_token(session, &lease.pipeline).await?;
    if holder == lease.token || planted(Mistake::NoFence) {
        return Ok(());
    }
    Err(fenced(lease, holder).into())
}

fn nothing() -> Found {
    Found { token: FencingToken::NOBODY, standing: Standing::default() }
}

fn fenced(lease: &Lease, by: FencingToken) -> WriteFault {
    WriteFault::Fenced { pipeline: lease.pipeline.to_string(), token: lease.token.get(), by: by.get() }
}

impl Writer for SplitWriter {
    fn take_over<'a>(&'a mut self, lease: &'a Lease) -> Fut<'a, Standing, SinkError> {
        Box::pin(async move {
            tables::fits(&self.split)?;
            self.give_up().await;
            self.lease = Some(lease.clone());
            // What a connection before was told may be on its way still: a new one looks.
            self.hold = Hold::Lost;
            let mut session = self.database.address.connect().await?;
            let standing = self.seize(&mut session, lease).await;
            match standing {
                Ok(standing) => {
                    if let Some(desks) = &self.database.desks {
                        desks.taken(&self.split, lease);
                    }
                    self.hold = Hold::Free(Some(session));
                    Ok(standing)
                }
                Err(error) => {
                    give_back(session).await;
                    Err(error)
                }
            }
        })
    }

    fn claim<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        Box::pin(async move {
            let lease = self.held_lease()?;
            let (mut session, stood) = self.enter().await?;
            let epoch = stood.epoch.next();
            let claimer = Claimer { pipeline: &lease.pipeline, split: &self.split, epoch };
            let claims = claimer.claim(&mut session, arrivals).await.map_err(SinkError::from);
            self.claimed = self.claimed.saturating_add(u64::try_from(arrivals.len()).unwrap_or(u64::MAX));
            if planted(Mistake::ClaimOutsideCommit) {
                session.say("claiming identities", "COMMIT AND CHAIN").await?;
            }
            self.leave(session, stood, claims).await
        })
    }

    fn withdraw<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            let lease = self.held_lease()?;
            let (mut session, stood) = self.enter().await?;
            let epoch = stood.epoch.next();
            let claimer = Claimer { pipeline: &lease.pipeline, split: &self.split, epoch };
            let withdrawn = claimer.withdraw(&mut session, arrivals).await.map_err(SinkError::from);
            self.leave(session, stood, withdrawn).await
        })
    }

    fn write<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let plan = self.plan()?;
            let (mut session, stood) = self.enter().await?;
            self.wrote = true;
            let written = insert::insert(&mut session, &plan, records).await;
            self.leave(session, stood, written).await
        })
    }

    fn write_absent<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let plan = self.plan()?;
            let (mut session, stood) = self.enter().await?;
            self.wrote = true;
            let written = insert::insert_absent(&mut session, &plan, records).await;
            self.leave(session, stood, written).await
        })
    }

    fn set_aside<'a>(&'a mut self, letters: &'a [DeadLetter]) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            if letters.is_empty() {
                return Ok(());
            }
            let lease = self.held_lease()?;
            let (mut session, stood) = self.enter().await?;
            let set = tables::set_aside(&mut session, &lease.pipeline, letters).await;
            self.leave(session, stood, set.map_err(SinkError::from)).await
        })
    }

    fn settle<'a>(&'a mut self, places: &'a [Place], settlement: &'a Settlement) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            if places.is_empty() {
                return Ok(());
            }
            let lease = self.held_lease()?;
            let (mut session, stood) = self.enter().await?;
            let settled = history::settle(&mut session, &lease.pipeline, places, settlement).await;
            self.leave(session, stood, settled.map_err(SinkError::from)).await
        })
    }

    fn abort(&mut self) -> Fut<'_, (), SinkError> {
        Box::pin(async move {
            self.give_up().await;
            Ok(())
        })
    }
}

impl CoCommit for SplitWriter {
    fn commit<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> Fut<'a, (), CommitError> {
        Box::pin(async move {
            let lease = self.held_lease().map_err(CommitError::Refused)?;
            // A commit of a position alone has no transaction yet.
            let (mut session, stood) = self.enter().await.map_err(CommitError::Refused)?;
            match self.ready(&mut session, &lease, &stood, checkpoint).await {
                Ok(()) => self.end(session).await,
                Err(error) => {
                    give_back(session).await;
                    Err(CommitError::Refused(error))
                }
            }
        })
    }
}
