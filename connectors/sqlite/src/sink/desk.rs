//! The place where the process writes: one connection, at most one open transaction.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use hapax_engine::fault::{CommitError, SinkError};
use hapax_engine::sink::{Arrival, Shape, Tenure};
use hapax_engine::transform::RefusedRow;
use hapax_planted::{Mistake, planted};
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{Applicant, FencingToken, Lease};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Checkpoint, SplitId, Standing};
use hapax_protocol::recovery::{self, Start};
use rusqlite::Connection;
use tokio::sync::OwnedMutexGuard;

use super::bind::{self, Failure};
use super::history;
use super::ledger::Kept;
use super::plan::Plan;
use super::tables::{self, Application};
use crate::config::SinkConfig;
use crate::connection::{self, BUSY_TIMEOUT_S, Shared, lock};
use crate::fault::{DatabaseFault, WriteFault};
use crate::table::Table;

/// How long folding the log waits for readers, in milliseconds.
const FOLD_TIMEOUT_MS: u64 = 1_000;

/// The connection that writes, opened when it is first needed.
pub(crate) struct Desk {
    path: PathBuf,
    shared: Option<Shared>,
    ledger: Option<Kept>,
    /// What SQLite counts up when another connection commits.
    version: i64,
}

/// The right to work at the desk. Whoever gives it up without a commit, by whatever way, takes back what
/// was open: a transaction nobody will end would lock every other program out.
pub(crate) struct Seat(OwnedMutexGuard<Desk>);

impl Seat {
    pub(crate) async fn wait(desk: &Arc<tokio::sync::Mutex<Desk>>) -> Self {
        Self(Arc::clone(desk).lock_owned().await)
    }
}

impl Deref for Seat {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.0
    }
}

impl DerefMut for Seat {
    fn deref_mut(&mut self) -> &mut Desk {
        &mut self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.roll_back();
    }
}

impl Desk {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), shared: None, ledger: None, version: 0 }
    }

    fn shared(&mut self) -> Result<Shared, DatabaseFault> {
        match &self.shared {
            Some(shared) => Ok(Arc::clone(shared)),
            None => {
                let shared = Arc::new(Mutex::new(connection::writing(&self.path)?));
                self.shared = Some(Arc::clone(&shared));
                Ok(shared)
            }
        }
    }

    /// Does work on the connection.
    fn on<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, DatabaseFault> {
        let shared = self.shared()?;
        let connection = lock(&shared);
        work(&connection).map_err(|source| DatabaseFault::of(&self.path, doing, source))
    }

    /// Opens a transaction that may write, after taking back one that a panic left.
    pub(crate) fn begin(&mut self) -> Result<(), DatabaseFault> {
        self.roll_back();
        let version = self.on("opening a transaction", |connection| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
        })?;
        // Somebody else committed: what the ledger remembers of the file may be wrong.
        if self.version != version {
            self.version = version;
            self.ledger = None;
        }
        Ok(())
    }

    /// Opens a transaction for the holder of a lease; refuses one that was superseded.
    pub(crate) fn begin_as(&mut self, lease: &Lease) -> Result<(), SinkError> {
        self.begin()?;
        self.held(lease)
    }

    fn held(&mut self, lease: &Lease) -> Result<(), SinkError> {
        let token =
            self.on("reading the lease", |connection| tables::lease_token(connection, &lease.pipeline))?;
        if token == lease.token || planted(Mistake::NoFence) {
            Ok(())
        } else {
            Err(fenced(lease, token).into())
        }
    }

    /// Takes the open transaction back, if there is one.
    pub(crate) fn roll_back(&mut self) {
        let Some(shared) = self.shared.clone() else { return };
        let connection = lock(&shared);
        if connection.is_autocommit() {
            return;
        }
        let taken_back = connection.execute_batch("ROLLBACK").is_ok();
        drop(connection);
        if !taken_back {
            // Closing the connection takes it back as well.
            self.shared = None;
            self.ledger = None;
        } else if self.ledger.as_mut().is_some_and(|ledger| !ledger.roll_back()) {
            self.ledger = None;
        }
    }

    fn commit_open(&mut self, doing: &'static str) -> Result<(), DatabaseFault> {
        self.on(doing, |connection| connection.execute_batch("COMMIT"))
    }

    /// Does one transaction of its own.
    fn alone<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, SinkError>) -> Result<T, SinkError> {
        self.begin()?;
        let done = work(self).and_then(|done| {
            self.commit_open("committing")?;
            Ok(done)
        });
        if done.is_err() {
            self.roll_back();
        }
        done
    }

    /// Creates what is missing and refuses what does not fit.
    pub(crate) fn prepare(
        &mut self,
        config: &SinkConfig,
        shape: &Shape,
        positions: bool,
    ) -> Result<Plan, SinkError> {
        self.alone(|desk| {
            let table =
                desk.on("looking at the table", |connection| Table::load(connection, &config.table))?;
            let plan = Plan::make(config, shape, table.as_ref())?;
            desk.on("creating tables", |connection| {
                if let Some(create) = &plan.create {
                    connection.execute_batch(create)?;
                }
                if positions { tables::create(connection) } else { Ok(()) }
            })?;
            // Compiled here so that what only SQLite can say against it is said before anything moves.
            desk.on("preparing the insert", |connection| {
                connection.prepare_cached(&plan.insert).map(|_| ())
            })?;
            Ok(plan)
        })
    }

    /// Creates the tables of Hapax alone.
    pub(crate) fn prepare_keeper(&mut self) -> Result<(), SinkError> {
        self.alone(|desk| Ok(desk.on("creating tables", tables::create)?))
    }

    /// Gives the lease to a new holder.
    pub(crate) fn acquire(&mut self, applicant: &Applicant, tenure: Tenure) -> Result<Lease, SinkError> {
        let path = self.path.clone();
        self.alone(|desk| {
            let application = desk.on("acquiring the lease", |connection| {
                tables::create(connection)?;
                tables::acquire(connection, applicant, tenure)
            })?;
            match application {
                Application::Granted(lease) => Ok(lease),
                Application::OtherDefinition => {
                    Err(WriteFault::OtherDefinition { pipeline: applicant.pipeline.to_string(), path }.into())
                }
            }
        })
    }

    /// Fences every earlier holder of a split and says where it stands.
    pub(crate) fn take_over(&mut self, lease: &Lease, split: &SplitId) -> Result<Standing, SinkError> {
        self.alone(|desk| {
            desk.held(lease)?;
            let found =
                desk.on("reading a position", |connection| tables::find(connection, &lease.pipeline, split))?;
            match recovery::start(lease.token, &found) {
                Start::Fenced { by } => Err(fenced(lease, by).into()),
                Start::Fresh | Start::Resume(_) => {
                    if found.token != lease.token {
                        desk.on("taking a split over", |connection| tables::take(connection, lease, split))?;
                    }
                    Ok(found.standing)
                }
            }
        })
    }

    /// Claims identities in the open transaction.
    pub(crate) fn claim(
        &mut self,
        lease: &Lease,
        split: &SplitId,
        arrivals: &[Arrival],
    ) -> Result<Vec<Claim<Place>>, SinkError> {
        let shared = self.shared()?;
        let ledger = match &mut self.ledger {
            Some(ledger) if ledger.is_of(&lease.pipeline) => ledger,
            other => other.insert(Kept::open(shared, &lease.pipeline)?),
        };
        let claims = ledger.claim(split, arrivals)?;
        if planted(Mistake::ClaimOutsideCommit) {
            self.claim_ahead(lease)?;
        }
        Ok(claims)
    }

    /// Commits the claims before the effects they are for: the planted mistake.
    fn claim_ahead(&mut self, lease: &Lease) -> Result<(), SinkError> {
        if let Some(ledger) = &mut self.ledger {
            ledger.flush()?;
        }
        self.commit_open("committing claims")?;
        if let Some(ledger) = &mut self.ledger {
            ledger.committed();
        }
        self.begin_as(lease)
    }

    /// Takes back claims of the open transaction.
    pub(crate) fn withdraw(&mut self, split: &SplitId, arrivals: &[Arrival]) -> Result<(), SinkError> {
        // A ledger that was not asked in this transaction has claimed nothing in it.
        self.ledger.as_mut().map_or(Ok(()), |ledger| ledger.withdraw(split, arrivals))
    }

    /// Writes records in the open transaction.
    pub(crate) fn write(
        &mut self,
        split: &SplitId,
        plan: &Plan,
        records: &RecordBatch,
    ) -> Result<Vec<RefusedRow>, SinkError> {
        let shared = self.shared()?;
        let written = bind::insert(&lock(&shared), plan, records);
        written.map_err(|failure| match failure {
            Failure::Fault(fault) => fault.into(),
            Failure::Sqlite(source) => DatabaseFault::of(&self.path, "inserting", source).into(),
            Failure::RolledBack => {
                // SQLite took the transaction back by itself, and with it what the ledger wrote in it.
                self.ledger = None;
                WriteFault::TransactionLost { split: split.clone() }.into()
            }
        })
    }

    /// Does something with the tables of Hapax in the open transaction.
    pub(crate) fn with_tables(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<(), rusqlite::Error>,
    ) -> Result<(), SinkError> {
        Ok(self.on(doing, work)?)
    }

    /// Commits the open transaction together with the position of a split. No transaction is open after.
    pub(crate) fn commit(
        &mut self,
        lease: &Lease,
        split: &SplitId,
        checkpoint: &Checkpoint,
    ) -> Result<(), CommitError> {
        let ready = self.ready(lease, split, checkpoint);
        if let Err(error) = ready {
            self.roll_back();
            return Err(CommitError::Refused(error));
        }
        self.end(split)
    }

    fn ready(&mut self, lease: &Lease, split: &SplitId, checkpoint: &Checkpoint) -> Result<(), SinkError> {
        if let Some(ledger) = &mut self.ledger {
            ledger.flush()?;
        }
        let advanced = self.on("advancing the position", |connection| {
            history::remember(connection, lease, split, checkpoint)?;
            tables::advance(connection, lease, split, checkpoint)
        })?;
        if advanced {
            return Ok(());
        }
        self.held(lease)?;
        let found =
            self.on("reading a position", |connection| tables::find(connection, &lease.pipeline, split))?;
        if found.token == lease.token {
            Err(WriteFault::Diverged { split: split.clone() }.into())
        } else {
            Err(fenced(lease, found.token).into())
        }
    }

    /// Sends COMMIT, and says honestly what became of it.
    fn end(&mut self, split: &SplitId) -> Result<(), CommitError> {
        let shared = self.shared().map_err(|fault| CommitError::Refused(fault.into()))?;
        let failed = {
            let connection = lock(&shared);
            connection.execute_batch("COMMIT").err().map(|source| (source, connection.is_autocommit()))
        };
        match failed {
            None => {
                if let Some(ledger) = &mut self.ledger {
                    ledger.committed();
                }
                Ok(())
            }
            // Still open: nothing was committed, and the rollback makes that final.
            Some((source, false)) => {
                self.roll_back();
                Err(CommitError::Refused(DatabaseFault::of(&self.path, "committing", source).into()))
            }
            Some((source, true)) => {
                self.ledger = None;
                Err(CommitError::Unknown(SinkError::unavailable(WriteFault::CommitUnknown {
                    split: split.clone(),
                    source,
                })))
            }
        }
    }

    /// Commits the open transaction of a sink that keeps no positions.
    pub(crate) fn flush(&mut self) -> Result<(), SinkError> {
        Ok(self.commit_open("committing")?)
    }

    /// Moves the log into the database and empties it, as far as readers let it. A log that stays is as good.
    pub(crate) fn fold_log(&mut self) {
        let Some(shared) = &self.shared else { return };
        let connection = lock(shared);
        let wait = |ms| connection.busy_timeout(Duration::from_millis(ms));
        if connection.is_autocommit() && wait(FOLD_TIMEOUT_MS).is_ok() {
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            let _ = wait(BUSY_TIMEOUT_S * 1_000);
        }
    }
}

fn fenced(lease: &Lease, by: FencingToken) -> WriteFault {
    WriteFault::Fenced { pipeline: lease.pipeline.to_string(), token: lease.token.get(), by: by.get() }
}

#[cfg(test)]
mod tests;
