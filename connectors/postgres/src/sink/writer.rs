//! The writer of one split: one session, at most one open transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, Settlement};
use hapax_engine::fault::{CommitError, SinkError};
use hapax_engine::sink::{Append, Arrival, CoCommit, Writer};
use hapax_engine::transform::RefusedRow;
use hapax_engine::wire::{Taken, WireBatch};
use hapax_planted::{Mistake, planted};
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{FencingToken, Lease};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Checkpoint, SplitId, Standing};
use hapax_protocol::recovery::{self, Start};
use tokio_postgres::Error;
use tokio_postgres::error::{Severity, SqlState};

use super::desk::Left;
use super::plan::Plan;
use super::tables::Tables;
use super::{Target, load};
use crate::client::Session;
use crate::fault::{ServerFault, WriteFault};

/// How long a take-over waits for the row of a split before it ends the session that has it locked.
const GRACE: &str = "SET LOCAL lock_timeout = '1s'";

/// How long a take-over waits at all.
const TAKE_OVER_MAX: Duration = Duration::from_secs(60);

/// How many identities that are too old a commit lets go at least; twice as many as it claimed if that is more, so that
/// the ledger does not grow for ever.
const PRUNED_MIN: u32 = 100;

/// What is open since the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Nothing.
    Free,
    /// A transaction, in which the row of the split is locked.
    Open,
    /// A transaction that failed, or whose future was dropped, before its commit.
    Lost,
}

/// Writes one split.
pub(crate) struct SplitWriter {
    target: Arc<Target>,
    split: SplitId,
    lease: Option<Lease>,
    session: Option<Session>,
    hold: Hold,
    /// How many identities were claimed since the last commit.
    claimed: u32,
}

impl SplitWriter {
    pub(crate) fn new(target: Arc<Target>, split: SplitId) -> Self {
        Self { target, split, lease: None, session: None, hold: Hold::Free, claimed: 0 }
    }

    fn lost(&self) -> SinkError {
        WriteFault::TransactionLost { split: self.split.clone() }.into()
    }

    fn session(&self) -> Result<&Session, SinkError> {
        self.session.as_ref().ok_or_else(|| self.lost())
    }

    fn held_lease(&self) -> Result<Lease, SinkError> {
        self.lease.clone().ok_or_else(|| self.lost())
    }

    fn plan(&self) -> Result<Arc<Plan>, SinkError> {
        let unprepared = || WriteFault::Config("it was not prepared before it was written to").into();
        self.target.plan().ok_or_else(unprepared)
    }

    /// Opens a transaction, if none is open, for the holder of the lease; refuses one that was superseded. It counts
    /// as lost until [`keep`](Self::keep) says that what was done in it went well.
    async fn begin(&mut self) -> Result<(), SinkError> {
        let begun = self.opened().await;
        if begun.is_err() {
            self.take_back().await;
        }
        begun
    }

    async fn opened(&mut self) -> Result<(), SinkError> {
        match std::mem::replace(&mut self.hold, Hold::Lost) {
            Hold::Open => return Ok(()),
            Hold::Lost => return Err(self.lost()),
            Hold::Free => {}
        }
        let lease = self.held_lease()?;
        match self.target.desks.as_ref().map_or(Left::Nobody, |desks| desks.take(&self.split)) {
            Left::Nobody => {}
            // Without the marks of what is to be written there is nothing to go on with.
            Left::Nothing => return Err(self.lost()),
            Left::Transaction(session) => {
                if let Some(before) = self.session.replace(*session) {
                    self.target.leave(before);
                }
                return Ok(());
            }
        }
        let tables = self.target.tables().await?;
        if let Some(session) = &mut self.session
            && let Some(stage) = self.target.plan().and_then(|plan| plan.stage.clone())
        {
            session.stage(&stage.create).await?;
        }
        let session = self.session()?;
        if self.target.keeps() {
            return hold(session, &tables, &lease, &self.split).await;
        }
        let begun = session.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await;
        Ok(begun.map_err(session.fault("opening a transaction"))?)
    }

    /// Keeps the transaction open if what was done in it went well. Whatever went wrong takes all of it back at once:
    /// somebody may wait for a row that it has locked.
    async fn keep<T>(&mut self, done: Result<T, SinkError>) -> Result<T, SinkError> {
        if done.is_ok() {
            self.hold = Hold::Open;
        } else {
            self.take_back().await;
        }
        done
    }

    /// Takes the transaction back, if there is one. Without an answer the session ends, and the server does it.
    async fn take_back(&mut self) {
        if let Some(session) = &self.session
            && session.batch_execute("ROLLBACK").await.is_err()
        {
            self.session = None;
        }
    }

    async fn give_up(&mut self) {
        if self.hold != Hold::Free {
            self.take_back().await;
        }
        self.hold = Hold::Free;
    }

    async fn write_by(&mut self, plan: &Plan, records: &RecordBatch) -> Result<Vec<RefusedRow>, SinkError> {
        self.begin().await?;
        let written = load::write(self.session()?, plan, records).await;
        self.keep(written).await
    }

    async fn prepare_commit(&mut self, lease: &Lease, checkpoint: &Checkpoint) -> Result<(), SinkError> {
        self.begin().await?;
        let tables = self.target.tables().await?;
        let session = self.session()?;
        let failed = session.fault("advancing the position");
        let written = self.target.written();
        let looked = async {
            match &written {
                Some(written) => written.unchanged(session).await,
                None => Ok(()),
            }
        };
        let remembered = async {
            let remembered = tables.remember(session, lease, &self.split, checkpoint).await;
            remembered.map_err(|error| SinkError::from(failed(error)))
        };
        // Sent at once.
        futures::try_join!(looked, remembered)?;
        if let Some(retention) = self.target.retention {
            let steps_max = self.claimed.saturating_mul(2).max(PRUNED_MIN);
            tables.prune(session, &lease.pipeline, retention, steps_max).await.map_err(&failed)?;
        }
        if tables.advance(session, lease, &self.split, checkpoint).await.map_err(&failed)? {
            return Ok(());
        }
        let token = tables.lease_token(session, &lease.pipeline).await.map_err(&failed)?;
        if token == lease.token {
            Err(WriteFault::Diverged { split: self.split.clone() }.into())
        } else {
            Err(fenced(lease, token).into())
        }
    }

    /// Sends COMMIT, and says honestly what became of it.
    async fn end(&mut self) -> Result<(), CommitError> {
        let session = self.session().map_err(CommitError::Refused)?;
        let Err(source) = session.batch_execute("COMMIT").await else {
            (self.hold, self.claimed) = (Hold::Free, 0);
            return Ok(());
        };
        if is_refusal(&source) {
            let refused = session.fault("committing")(source).into();
            self.take_back().await;
            return Err(CommitError::Refused(refused));
        }
        let fault =
            WriteFault::CommitUnknown { server: session.server().clone(), split: self.split.clone(), source };
        self.session = None;
        Err(CommitError::Unknown(SinkError::unavailable(fault)))
    }
}

/// Opens a transaction, in which the row of a split is locked for the holder of the lease; refuses one that was
/// superseded.
pub(super) async fn hold(
    session: &Session,
    tables: &Tables,
    lease: &Lease,
    split: &SplitId,
) -> Result<(), SinkError> {
    let failed = session.fault("opening a transaction");
    // Sent in this order, and at once.
    let begin = session.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED");
    let hold = tables.hold(session, lease, split);
    let ((), held) = futures::try_join!(begin, hold).map_err(&failed)?;
    if held {
        return Ok(());
    }
    let by = tables.lease_token(session, &lease.pipeline).await.map_err(&failed)?;
    let of_split = tables.split_token(session, &lease.pipeline, split).await.map_err(&failed)?;
    Err(fenced(lease, by.max(of_split)).into())
}

/// Whether the server said that it did not commit. What ends the session may come behind a commit.
fn is_refusal(error: &Error) -> bool {
    error.as_db_error().is_some_and(|said| said.parsed_severity() == Some(Severity::Error))
}

fn fenced(lease: &Lease, by: FencingToken) -> WriteFault {
    WriteFault::Fenced { pipeline: lease.pipeline.to_string(), token: lease.token.get(), by: by.get() }
}

/// Takes a split over in transactions of its own: fences every earlier holder, and waits until none of them can
/// commit any more. Only then is where the split stands the last word.
async fn take_over(
    session: &Session,
    tables: &Tables,
    lease: &Lease,
    split: &SplitId,
) -> Result<Standing, SinkError> {
    let failed = session.fault("taking a split over");
    let until = Instant::now() + TAKE_OVER_MAX;
    tables.introduce(session, &lease.pipeline, split).await.map_err(&failed)?;
    loop {
        match locked(session, tables, lease, split).await.map_err(&failed)? {
            Some(taken) => return taken.map_err(SinkError::from),
            None if Instant::now() > until => {
                let said = format!("the row of {split} stays locked by another session");
                let server = session.server().clone();
                return Err(ServerFault::TakenBack { server, doing: "taking a split over", said }.into());
            }
            // A holder that stalled, or whose machine is gone, would keep the row locked for as long as it likes.
            None => {
                let token = tables.lease_token(session, &lease.pipeline).await.map_err(&failed)?;
                if token != lease.token && !planted(Mistake::NoFence) {
                    return Err(fenced(lease, token).into());
                }
                let evicted = tables.evict(session, lease, split).await;
                if let Err(error) = evicted
                    && error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE)
                {
                    return Err(failed(error).into());
                }
            }
        }
    }
}

/// One attempt to take a split over. `None` if its row is locked.
async fn locked(
    session: &Session,
    tables: &Tables,
    lease: &Lease,
    split: &SplitId,
) -> Result<Option<Result<Standing, WriteFault>>, Error> {
    session.batch_execute(&format!("BEGIN; {GRACE}")).await?;
    let found = match tables.lock(session, &lease.pipeline, split).await {
        Ok(found) => found,
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            session.batch_execute("ROLLBACK").await?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let token = tables.lease_token(session, &lease.pipeline).await?;
    let taken = match recovery::start(lease.token, &found) {
        Start::Fenced { by } => Err(fenced(lease, by)),
        Start::Fresh | Start::Resume(_) if token != lease.token && !planted(Mistake::NoFence) => {
            Err(fenced(lease, token))
        }
        Start::Fresh | Start::Resume(_) => Ok(found.standing),
    };
    if taken.is_ok() && found.token != lease.token {
        tables.take(session, lease, split).await?;
    }
    session.batch_execute(if taken.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    Ok(Some(taken))
}

impl Writer for SplitWriter {
    fn take_over<'a>(&'a mut self, lease: &'a Lease) -> Fut<'a, Standing, SinkError> {
        Box::pin(async move {
            self.give_up().await;
            let session = match self.session.take().filter(|session| !session.is_closed()) {
                Some(session) => session,
                None => self.target.session().await?,
            };
            let tables = self.target.tables().await?;
            let standing = match self.target.keeps() {
                true => take_over(&session, &tables, lease, &self.split).await?,
                false => Standing::default(),
            };
            if let Some(desks) = &self.target.desks {
                desks.taken(&self.split, lease);
            }
            self.session = Some(session);
            self.lease = Some(lease.clone());
            Ok(standing)
        })
    }

    fn claim<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        Box::pin(async move {
            self.begin().await?;
            let (tables, pipeline) = (self.target.tables().await?, self.held_lease()?.pipeline);
            self.claimed = self.claimed.saturating_add(u32::try_from(arrivals.len()).unwrap_or(u32::MAX));
            let session = self.session()?;
            let claims = tables.claim(session, &pipeline, &self.split, arrivals).await;
            let claims = claims.map_err(|error| session.fault("claiming identities")(error).into());
            self.keep(claims).await
        })
    }

    fn withdraw<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            self.begin().await?;
            let (tables, pipeline) = (self.target.tables().await?, self.held_lease()?.pipeline);
            let session = self.session()?;
            let withdrawn = tables.withdraw(session, &pipeline, &self.split, arrivals).await;
            let withdrawn = withdrawn.map_err(|error| session.fault("withdrawing claims")(error).into());
            self.keep(withdrawn).await
        })
    }

    fn write<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let plan = self.plan()?;
            self.write_by(&plan, records).await
        })
    }

    fn write_absent<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let plan = self.plan()?.absent();
            self.write_by(&plan, records).await
        })
    }

    fn write_wire<'a>(&'a mut self, batch: &'a WireBatch) -> Fut<'a, Taken, SinkError> {
        Box::pin(async move {
            let plan = self.plan()?;
            self.begin().await?;
            match load::pass(self.session()?, &plan, batch).await {
                // The transaction has failed with it, and counts as lost until it is given up.
                Ok(false) => {
                    self.take_back().await;
                    Ok(Taken::Nothing)
                }
                taken => self.keep(taken.map(|_| Taken::All)).await,
            }
        })
    }

    fn set_aside<'a>(&'a mut self, letters: &'a [DeadLetter]) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            if letters.is_empty() {
                return Ok(());
            }
            if !self.target.keeps() {
                return Err(WriteFault::Config("`positions: false` leaves no place for dead letters").into());
            }
            self.begin().await?;
            let (tables, pipeline) = (self.target.tables().await?, self.held_lease()?.pipeline);
            let session = self.session()?;
            let set_aside = tables.set_aside(session, &pipeline, letters).await;
            let set_aside = set_aside.map_err(|error| session.fault("setting aside")(error).into());
            self.keep(set_aside).await
        })
    }

    fn settle<'a>(&'a mut self, places: &'a [Place], settlement: &'a Settlement) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            if places.is_empty() {
                return Ok(());
            }
            self.begin().await?;
            let (tables, pipeline) = (self.target.tables().await?, self.held_lease()?.pipeline);
            let session = self.session()?;
            let settled = tables.settle(session, &pipeline, places, settlement).await;
            let settled = settled.map_err(|error| session.fault("settling")(error).into());
            self.keep(settled).await
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
            if let Err(error) = self.prepare_commit(&lease, checkpoint).await {
                self.take_back().await;
                return Err(CommitError::Refused(error));
            }
            self.end().await
        })
    }
}

impl Append for SplitWriter {
    fn flush(&mut self) -> Fut<'_, (), SinkError> {
        Box::pin(async move {
            match self.hold {
                Hold::Free => return Ok(()),
                Hold::Open => {}
                Hold::Lost => return Err(self.lost()),
            }
            self.hold = Hold::Lost;
            let session = self.session()?;
            if let Some(written) = self.target.written() {
                written.unchanged(session).await?;
            }
            match self.end().await {
                Ok(()) => Ok(()),
                Err(CommitError::Refused(error) | CommitError::Unknown(error)) => Err(error),
            }
        })
    }
}

impl Drop for SplitWriter {
    fn drop(&mut self) {
        if self.hold == Hold::Free
            && let Some(session) = self.session.take()
        {
            self.target.leave(session);
        }
    }
}
