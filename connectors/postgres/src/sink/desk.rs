//! One transaction for mark and effect: the reader of a split begins it, the writer of that split ends it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hapax_engine::fault::SinkError;
use hapax_protocol::lease::Lease;
use hapax_protocol::position::SplitId;

use super::Target;
use super::writer::hold;
use crate::client::Session;

/// Where readers leave their transactions for the writers of the same splits.
#[derive(Default)]
pub(crate) struct Desks(Mutex<HashMap<SplitId, Desk>>);

#[derive(Default)]
struct Desk {
    /// The lease with which the split was last taken over.
    lease: Option<Lease>,
    /// Whether somebody reads the split: then nothing is written to it but in a transaction of that reader.
    reads: bool,
    left: Option<Session>,
}

/// What a writer finds.
pub(super) enum Left {
    /// Nobody reads: a transaction of its own.
    Nobody,
    /// Somebody reads, and has left no transaction.
    Nothing,
    /// The transaction in which the rows of the batch are marked, and the row of the split is locked.
    Transaction(Box<Session>),
}

impl Desks {
    fn at<T>(&self, split: &SplitId, act: impl FnOnce(&mut Desk) -> T) -> T {
        act(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(split.clone()).or_default())
    }

    /// Notes with which lease a split was taken over.
    pub(super) fn taken(&self, split: &SplitId, lease: &Lease) {
        self.at(split, |desk| desk.lease = Some(lease.clone()));
    }

    /// Takes what the reader left.
    pub(super) fn take(&self, split: &SplitId) -> Left {
        self.at(split, |desk| match desk.left.take() {
            Some(session) => Left::Transaction(Box::new(session)),
            None if desk.reads => Left::Nothing,
            None => Left::Nobody,
        })
    }
}

/// The reader's side of one split.
pub(crate) struct Seat {
    target: Arc<Target>,
    split: SplitId,
}

impl Seat {
    /// `None` if nobody took the split over: then nobody will take what is left here.
    pub(crate) fn take(target: &Arc<Target>, split: &SplitId) -> Option<Self> {
        let taken = |desk: &mut Desk| {
            desk.reads = desk.lease.is_some();
            desk.reads
        };
        let is_taken = target.desks.as_ref().is_some_and(|desks| desks.at(split, taken));
        is_taken.then(|| Self { target: Arc::clone(target), split: split.clone() })
    }

    /// What another task needs to begin transactions for this seat.
    pub(crate) fn opener(&self) -> Opener {
        Opener { target: Arc::clone(&self.target), split: self.split.clone() }
    }

    /// Leaves a transaction for the writer.
    pub(crate) fn leave(&self, session: Session) {
        if let Some(desks) = &self.target.desks {
            desks.at(&self.split, |desk| desk.left = Some(session));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let left = self.target.desks.as_ref().and_then(|desks| {
            desks.at(&self.split, |desk| {
                desk.reads = false;
                desk.left.take()
            })
        });
        // What nobody took is taken back by the server, at once.
        if let Some(session) = left {
            session.hang_up();
        }
    }
}

/// Begins transactions.
pub(crate) struct Opener {
    target: Arc<Target>,
    split: SplitId,
}

impl Opener {
    /// A session in a transaction that the writer of the split can go on with: the row of the split is locked for the
    /// holder of the lease.
    pub(crate) async fn begin(&self) -> Result<Session, SinkError> {
        let unheld =
            || SinkError::from(crate::fault::WriteFault::TransactionLost { split: self.split.clone() });
        let lease =
            self.target.desks.as_ref().and_then(|desks| desks.at(&self.split, |desk| desk.lease.clone()));
        let lease = lease.ok_or_else(unheld)?;
        let mut session = self.target.session().await?;
        if let Some(stage) = self.target.plan().and_then(|plan| plan.stage.clone()) {
            session.stage(&stage.create).await?;
        }
        let tables = self.target.tables().await?;
        hold(&session, &tables, &lease, &self.split).await?;
        Ok(session)
    }

    /// Gives a session back whose transaction is over.
    pub(crate) fn give_back(&self, session: Session) {
        self.target.leave(session);
    }
}
