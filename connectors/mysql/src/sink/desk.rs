//! One transaction for mark and effect: the reader of a split begins it, the writer of that split ends it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hapax_engine::fault::SinkError;
use hapax_protocol::lease::Lease;
use hapax_protocol::position::{SplitId, Standing};

use super::Database;
use super::writer::{give_back, hold};
use crate::client::Session;
use crate::fault::{DatabaseFault, WriteFault};

/// How many sessions are kept for the next transaction.
const IDLE_MAX: usize = 16;

/// Where readers leave their transactions for the writers of the same splits.
#[derive(Default)]
pub(crate) struct Desks {
    each: Mutex<HashMap<SplitId, Desk>>,
    /// Sessions without a transaction.
    idle: Mutex<Vec<Session>>,
}

#[derive(Default)]
struct Desk {
    /// The lease with which the split was last taken over.
    lease: Option<Lease>,
    /// Whether somebody reads the split: then nothing is written to it but in a transaction of that reader.
    reads: bool,
    left: Option<Open>,
}

/// A transaction in which the row of the split is locked, and how the split stands in it.
pub(crate) struct Open {
    pub session: Session,
    pub stood: Standing,
}

/// What a writer finds.
pub(super) enum Left {
    /// Nobody reads: a transaction of its own.
    Nobody,
    /// Somebody reads, and has left no transaction.
    Nothing,
    /// The transaction in which the rows of the batch are marked.
    Transaction(Box<Open>),
}

impl Desks {
    fn at<T>(&self, split: &SplitId, act: impl FnOnce(&mut Desk) -> T) -> T {
        act(self.each.lock().unwrap_or_else(PoisonError::into_inner).entry(split.clone()).or_default())
    }

    /// Notes with which lease a split was taken over.
    pub(super) fn taken(&self, split: &SplitId, lease: &Lease) {
        self.at(split, |desk| desk.lease = Some(lease.clone()));
    }

    /// Takes what the reader left.
    pub(super) fn take(&self, split: &SplitId) -> Left {
        self.at(split, |desk| match desk.left.take() {
            Some(open) => Left::Transaction(Box::new(open)),
            None if desk.reads => Left::Nothing,
            None => Left::Nobody,
        })
    }

    /// Keeps a session without a transaction for whoever begins the next.
    pub(super) fn keep(&self, session: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(session);
        }
    }

    fn kept(&self) -> Option<Session> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// The reader's side of one split.
pub(crate) struct Seat {
    database: Arc<Database>,
    split: SplitId,
}

impl Seat {
    /// `None` if nobody took the split over: then nobody will take what is left here.
    pub(crate) fn take(database: &Arc<Database>, split: &SplitId) -> Option<Self> {
        let taken = |desk: &mut Desk| {
            desk.reads = desk.lease.is_some();
            desk.reads
        };
        let is_taken = database.desks.as_ref().is_some_and(|desks| desks.at(split, taken));
        is_taken.then(|| Self { database: Arc::clone(database), split: split.clone() })
    }

    /// What another task needs to begin transactions for this seat.
    pub(crate) fn opener(&self) -> Opener {
        Opener { database: Arc::clone(&self.database), split: self.split.clone() }
    }

    /// Leaves a transaction for the writer.
    pub(crate) fn leave(&self, open: Open) {
        if let Some(desks) = &self.database.desks {
            desks.at(&self.split, |desk| desk.left = Some(open));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // What nobody took ends with its connection: the server takes it back.
        if let Some(desks) = &self.database.desks {
            desks.at(&self.split, |desk| (desk.reads, desk.left) = (false, None));
        }
    }
}

/// Begins transactions.
#[derive(Clone)]
pub(crate) struct Opener {
    database: Arc<Database>,
    split: SplitId,
}

impl Opener {
    /// A transaction that the writer of the split can go on with: the row of the split is locked for the holder of the
    /// lease.
    pub(crate) async fn begin(&self) -> Result<Open, SinkError> {
        let unheld = || SinkError::from(WriteFault::TransactionLost { split: self.split.clone() });
        let desks = self.database.desks.as_ref().ok_or_else(unheld)?;
        let lease = desks.at(&self.split, |desk| desk.lease.clone()).ok_or_else(unheld)?;
        let mut session = match desks.kept() {
            Some(session) => session,
            None => self.database.address.connect().await?,
        };
        match hold(&mut session, &self.database, &lease, &self.split).await {
            Ok(stood) => Ok(Open { session, stood }),
            Err(error) => {
                give_back(session).await;
                Err(error)
            }
        }
    }

    /// Takes back a transaction in which nothing was done.
    pub(crate) async fn end(&self, open: Open) -> Result<(), DatabaseFault> {
        if let (Some(session), Some(desks)) = (give_back(open.session).await, &self.database.desks) {
            desks.keep(session);
        }
        Ok(())
    }
}
