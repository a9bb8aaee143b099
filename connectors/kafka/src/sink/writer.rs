//! The writer of one split: a producer of its own, at most one open transaction.

use std::sync::Arc;

use arrow::array::RecordBatch;
use hapax_engine::Fut;
use hapax_engine::dead_letter::{DeadLetter, Settlement};
use hapax_engine::fault::{CommitError, SinkError};
use hapax_engine::sink::{Arrival, CoCommit, Writer};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::identity::Place;
use hapax_protocol::lease::{FencingToken, Lease};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Checkpoint, SplitId, Standing};
use hapax_protocol::recovery::{self, Start};

use super::Topic;
use super::desk::Far;
use super::pen::{Pen, Torn};
use super::state::{Entry, Letters};
use crate::codes;
use crate::fault::{ClusterFault, WriteFault};
use crate::source::Offsets;

/// Why a producer is fenced though nobody has taken the lease over.
const FENCED_ALONE: &str = "its time, transaction.timeout.ms, was over, or an earlier holder had taken its producer's name \
     for a moment";

/// Where this writer stands between two commits.
enum Hold {
    /// Nothing is open.
    Free(Pen),
    /// A transaction is open.
    Open(Pen),
    /// It was not taken over, or something failed, or a future was dropped, before the commit.
    Lost,
}

/// Writes one split.
pub(super) struct SplitWriter {
    topic: Arc<Topic>,
    split: SplitId,
    lease: Option<Lease>,
    /// Where the split stands: nobody else can move it while the producer is not fenced.
    stood: Standing,
    hold: Hold,
    letters: Letters,
}

impl SplitWriter {
    pub(super) fn new(topic: Arc<Topic>, split: SplitId) -> Self {
        Self {
            topic,
            split,
            lease: None,
            stood: Standing::default(),
            hold: Hold::Lost,
            letters: Letters::default(),
        }
    }

    fn lost(&self, reason: &str) -> SinkError {
        WriteFault::TransactionLost { split: self.split.clone(), reason: reason.to_owned() }.into()
    }

    fn held_lease(&self) -> Result<Lease, SinkError> {
        self.lease.clone().ok_or_else(|| self.lost("it was not taken over"))
    }

    /// The producer with an open transaction. Until it is given back the writer counts as lost, so that a dropped
    /// future leaves nothing half done: its producer is thrown away, and whoever takes over ends its transaction.
    async fn enter(&mut self) -> Result<Pen, SinkError> {
        match std::mem::replace(&mut self.hold, Hold::Lost) {
            Hold::Open(pen) => Ok(pen),
            Hold::Free(pen) => match pen.begin() {
                Ok(()) => Ok(pen),
                Err(torn) => Err(self.torn(&pen, torn).await),
            },
            Hold::Lost => Err(self.lost("its producer was given up")),
        }
    }

    /// What became of a transaction that cannot be gone on with: nothing of it is committed.
    async fn torn(&self, pen: &Pen, torn: Torn) -> SinkError {
        // A producer that was fenced says so in many ways, and not every fence belongs to a later holder. The lease
        // tells.
        if let Ok(Some(fenced)) = self.superseded().await {
            return fenced;
        }
        let torn = pen.cause(torn);
        if torn.is_fenced() || torn.is_purged() {
            return self.lost(FENCED_ALONE);
        }
        if torn.is_too_large() {
            let (split, topic) = (self.split.clone(), self.topic.config.topic.clone());
            return WriteFault::NotTaken { split, topic, source: torn.0 }.into();
        }
        match pen.fault("writing messages", torn.0) {
            // The producer is thrown away: a new one may do.
            ClusterFault::Failed { source, .. } => self.lost(&source.to_string()),
            fault => fault.into(),
        }
    }

    /// What became of a transaction that the group took no offsets in. A group that is being shared anew, or has given
    /// the partition to another member, refuses them: what was read is moved again by whoever has it next.
    async fn unpublished(&self, group: &str, pen: &Pen, torn: Torn) -> SinkError {
        let words = torn.0.to_string();
        match self.torn(pen, torn).await {
            error if error.fault.code() == codes::TRANSACTION_LOST => {
                self.lost(&format!("the group {group} does not take its offsets: {words}"))
            }
            other => other,
        }
    }

    /// The error of a later holder of the lease, if there is one.
    async fn superseded(&self) -> Result<Option<SinkError>, SinkError> {
        let lease = self.held_lease()?;
        let seen = self.topic.desk.look(Far::Decided).await?;
        let by = seen.view.token();
        Ok((by > lease.token).then(|| fenced(&lease, by).into()))
    }

    async fn seize(&mut self, lease: &Lease) -> Result<(Pen, Standing), SinkError> {
        let desk = &self.topic.desk;
        // An earlier holder that wakes up late must not take the producer's name from the present one.
        let holder = desk.look(Far::Decided).await?.view.token();
        if holder > lease.token {
            return Err(fenced(lease, holder).into());
        }
        let pen =
            Pen::take(&desk.cluster, (&desk.topic, &desk.name_of(&self.split)), &self.topic.producing())
                .await?;
        // What the producers before have committed is decided now, and nothing of them can follow.
        let seen = desk.look_beside(Far::End, Some(&self.split)).await?;
        let (holder, found) = (seen.view.token(), seen.view.found(&self.split));
        drop(seen);
        if holder != lease.token {
            return Err(fenced(lease, holder).into());
        }
        match recovery::start(lease.token, &found) {
            Start::Fenced { by } => return Err(fenced(lease, by).into()),
            Start::Fresh | Start::Resume(_) => {}
        }
        if found.token != lease.token {
            let taken = [Entry::taken(&self.split, lease.token, &found.standing)];
            let written = async {
                pen.begin()?;
                desk.send(&pen, &taken).await?;
                pen.flush().await?;
                pen.commit().await
            };
            if let Err(torn) = written.await {
                return Err(self.torn(&pen, torn).await);
            }
        }
        Ok((pen, found.standing))
    }

    /// Sends the messages of records. `Ok` with the rows that cannot be messages.
    async fn send(&self, pen: &Pen, records: &RecordBatch) -> Result<Vec<RefusedRow>, SinkError> {
        let plan =
            self.topic.plan().ok_or(WriteFault::Config("it was not prepared before it was written to"))?;
        let encoding = |source| WriteFault::Encoding { split: self.split.clone(), source };
        let (messages, refused) = plan.messages(records).map_err(encoding)?;
        let rows: Vec<usize> = refused.iter().map(|refused| refused.row).collect();
        let mut skip = rows.into_iter().peekable();
        for row in 0..records.num_rows() {
            if skip.next_if_eq(&row).is_some() {
                continue;
            }
            let sent = pen.send(&self.topic.config.topic, None, messages.key(row), messages.value(row)).await;
            if let Err(torn) = sent {
                return Err(self.torn(pen, torn).await);
            }
        }
        match pen.first() {
            Some(torn) => Err(self.torn(pen, torn).await),
            None => Ok(refused),
        }
    }

    /// Sends what belongs to the commit beside the records, and waits until the brokers have everything.
    async fn ready(&self, pen: &Pen, lease: &Lease, checkpoint: &Checkpoint) -> Result<(), SinkError> {
        if checkpoint.after != self.stood.position || checkpoint.epoch != self.stood.epoch.next() {
            return Err(WriteFault::Diverged { split: self.split.clone() }.into());
        }
        let desk = &self.topic.desk;
        let seen = desk.look_back().await;
        let entries = seen.view.commit(lease, &self.split, &self.stood, checkpoint, &self.letters);
        drop(seen);
        let written = async {
            desk.send(pen, &entries).await?;
            pen.flush().await
        };
        if let Err(torn) = written.await {
            return Err(self.torn(pen, torn).await);
        }
        let offsets = self.topic.offsets.as_ref();
        if let Some(offsets) = offsets
            && let Some(list) = Offsets::of(&self.split, &checkpoint.through)
            && let Err(torn) = pen.publish(offsets, list).await
        {
            return Err(self.unpublished(offsets.group(), pen, torn).await);
        }
        Ok(())
    }

    /// Ends the transaction, and says honestly what became of it.
    async fn end(&mut self, pen: Pen, checkpoint: &Checkpoint) -> Result<(), CommitError> {
        match pen.commit().await {
            Ok(()) => {
                self.stood = checkpoint.standing();
                self.letters = Letters::default();
                self.hold = Hold::Free(pen);
                Ok(())
            }
            Err(torn) => {
                // The producer is thrown away, whatever it says: a late answer must not end a later transaction.
                if torn.is_fenced()
                    && let Ok(Some(fenced)) = self.superseded().await
                {
                    return Err(CommitError::Refused(fenced));
                }
                let reason = torn.0.to_string();
                let unknown = WriteFault::CommitUnknown { split: self.split.clone(), reason };
                Err(CommitError::Unknown(unknown.into()))
            }
        }
    }

    async fn give_up(&mut self) {
        self.letters = Letters::default();
        self.hold = match std::mem::replace(&mut self.hold, Hold::Lost) {
            Hold::Open(pen) => match pen.abort().await {
                Ok(()) => Hold::Free(pen),
                Err(_) => Hold::Lost,
            },
            other => other,
        };
    }
}

fn fenced(lease: &Lease, by: FencingToken) -> WriteFault {
    WriteFault::Fenced { pipeline: lease.pipeline.to_string(), token: lease.token.get(), by: by.get() }
}

impl Writer for SplitWriter {
    fn take_over<'a>(&'a mut self, lease: &'a Lease) -> Fut<'a, Standing, SinkError> {
        Box::pin(async move {
            // A new producer fences the one before, and with it whatever is on its way still.
            (self.hold, self.letters) = (Hold::Lost, Letters::default());
            self.lease = Some(lease.clone());
            let (pen, standing) = self.seize(lease).await?;
            self.hold = Hold::Free(pen);
            self.stood = standing.clone();
            Ok(standing)
        })
    }

    /// No ledger is declared.
    fn claim<'a>(&'a mut self, arrivals: &'a [Arrival]) -> Fut<'a, Vec<Claim<Place>>, SinkError> {
        Box::pin(std::future::ready(Ok(arrivals.iter().map(|_| Claim::New).collect())))
    }

    /// No ledger is declared.
    fn withdraw<'a>(&'a mut self, _: &'a [Arrival]) -> Fut<'a, (), SinkError> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn write<'a>(&'a mut self, records: &'a RecordBatch) -> Fut<'a, Vec<RefusedRow>, SinkError> {
        Box::pin(async move {
            let pen = self.enter().await?;
            let refused = self.send(&pen, records).await?;
            self.hold = Hold::Open(pen);
            Ok(refused)
        })
    }

    fn set_aside<'a>(&'a mut self, letters: &'a [DeadLetter]) -> Fut<'a, (), SinkError> {
        Box::pin(async move {
            let seen = self.topic.desk.look_back().await;
            for letter in letters {
                let is_aside = self.letters.aside.iter().any(|aside| aside.place == letter.place);
                if !is_aside && !seen.view.has_letter(&letter.place) {
                    self.letters.aside.push(letter.clone());
                }
            }
            Ok(())
        })
    }

    fn settle<'a>(&'a mut self, places: &'a [Place], settlement: &'a Settlement) -> Fut<'a, (), SinkError> {
        self.letters.settled.extend(places.iter().map(|place| (place.clone(), *settlement)));
        Box::pin(std::future::ready(Ok(())))
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
            let pen = self.enter().await.map_err(CommitError::Refused)?;
            match self.ready(&pen, &lease, checkpoint).await {
                Ok(()) => self.end(pen, checkpoint).await,
                Err(error) => {
                    let _ = pen.abort().await;
                    Err(CommitError::Refused(error))
                }
            }
        })
    }
}
