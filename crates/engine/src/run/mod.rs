//! The run loop: every split from where it stands to where it ends, each record once.

mod channel;
mod effect;
mod error;
mod group;
mod in_place;
mod kept;
mod letters;
mod pace;
mod prepare;
mod reading;
mod repair;
mod resolve;
mod split;
mod stop;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use hapax_protocol::guarantee::{Effect, Order, Replay, Settle};
use hapax_protocol::identity::{Duplicates, Identity};
use hapax_protocol::lease::{Applicant, Lease};
use hapax_protocol::position::{SplitId, Standing, Totals};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use error::RunError;
pub(crate) use kept::announces_of;
pub use letters::{Letters, drop_letters, replay_letters};
pub use repair::{Repair, Repaired};
pub use resolve::resolve;
pub use stop::Stop;
use writer::SplitWriter;

use crate::batch::ReadLimit;
use crate::clock::Clock;
use crate::crash::{self, Point};
use crate::fault::SinkError;
use crate::identify::Identifier;
use crate::ledger::Ledger;
use crate::progress::Progress;
use crate::sink::{CommitSize, Keys, Shape, Sink};
use crate::source::{Arrangement, Extent, Source, Split};
use crate::transform::Transform;
use crate::wire::WireFormat;

/// What is done about a record that cannot be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// It becomes a dead letter, and the run goes on.
    #[default]
    SetAside,
    /// The run stops before it.
    Stop,
}

/// How long a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Until {
    /// Until everything that is there was moved.
    #[default]
    End,
    /// Until it is asked to stop: what comes later is moved as it comes.
    Stopped,
}

/// One pipeline, ready to run.
#[derive(Clone)]
pub struct Run {
    /// Where records come from.
    pub source: Arc<dyn Source>,
    /// What happens on the way.
    pub transform: Option<Arc<dyn Transform>>,
    /// Where they go.
    pub sink: Sink,
    /// A ledger that stands beside the destination and is asked instead of it, if there is one.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// What makes two arrivals the same record, in columns of what arrives at the sink.
    pub identity: Identity,
    /// What is done about twins.
    pub duplicates: Duplicates,
    /// What is done about records that cannot be moved.
    pub on_error: OnError,
    /// How long it goes on.
    pub until: Until,
    /// How many splits are moved at once, where order allows it. At least 1. A run that goes on until it is stopped
    /// moves all of them.
    pub parallel: usize,
    /// Who asks for the lease.
    pub applicant: Applicant,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where to count.
    pub progress: Progress,
    /// How it is asked to stop.
    pub stop: Stop,
    /// How much is read and held.
    pub limits: Limits,
}

/// How much a run holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Records in one batch.
    pub batch_records_max: usize,
    /// Bytes in one batch.
    pub batch_bytes_max: usize,
    /// Bytes between the reader and the writer of one split.
    pub channel_bytes_max: usize,
    /// How long a split is tried again without progress while a system is unavailable, in milliseconds.
    pub outage_ms: u64,
    /// How much belongs into one commit, where the user knows better than the destination.
    pub commit: CommitLimit,
}

/// How much belongs into one commit. What is `None` is left to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitLimit {
    /// Records.
    pub records_max: Option<u64>,
    /// Bytes of memory of the records.
    pub bytes_max: Option<u64>,
    /// Milliseconds since the first record of the commit.
    pub interval_ms: Option<u64>,
}

impl CommitLimit {
    fn over(self, preferred: CommitSize) -> CommitSize {
        CommitSize {
            records_max: self.records_max.unwrap_or(preferred.records_max).max(1),
            bytes_max: self.bytes_max.unwrap_or(preferred.bytes_max).max(1),
            interval_ms: self.interval_ms.unwrap_or(preferred.interval_ms).max(1),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_records_max: 16 * 1024,
            batch_bytes_max: 2 << 20,
            channel_bytes_max: 4 << 20,
            outage_ms: 60_000,
            commit: CommitLimit::default(),
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// What became of the records of this run.
    pub totals: Totals,
    /// Splits of the source.
    pub splits: u64,
    /// Commits it made.
    pub commits: u64,
    /// Commits whose answer was lost and that were looked up.
    pub in_doubt: u64,
    /// Whether it was asked to stop before it was done.
    pub stopped: bool,
}

/// Whether the splits of a run must be moved one after another, because a later record of a key must
/// not be overtaken by an earlier one, or the first of two twins must be the first of the source.
pub fn in_order(
    source: &dyn Source,
    sink: &Sink,
    ledger: Option<&Arc<dyn Ledger>>,
    duplicates: Duplicates,
) -> bool {
    let (order, effect) = (source.facts().order, sink.facts().effect);
    // A ledger beside the destination knows of a claim before anybody knows whether its record is taken.
    let claims_meet = matches!(sink, Sink::CoCommit(_)) && ledger.is_none();
    one_by_one(source.arrangement(), order, effect, duplicates, claims_meet)
}

/// The same, decided. `claims_meet` where claims that are made at once do: in the transactions of a database, and nowhere
/// else.
fn one_by_one(
    arrangement: Arrangement,
    order: Order,
    effect: Effect,
    duplicates: Duplicates,
    claims_meet: bool,
) -> bool {
    match arrangement {
        Arrangement::Sequence => duplicates.need_ledger() || effect == Effect::ByKey,
        // Without an order a key may be in several splits: what replaces by key must not take two at once.
        Arrangement::Partitions => {
            let unordered = order == Order::None && effect == Effect::ByKey;
            unordered || (duplicates.need_ledger() && !claims_meet)
        }
    }
}

/// What arrives at a sink. Where twins are kept beside each other the identity is no key of the destination.
pub fn shape(schema: SchemaRef, identity: &Identity, duplicates: Duplicates, sink: &Sink) -> Shape {
    let binds = sink.destination().keys() == Keys::Bind;
    let beside = binds && duplicates == Duplicates::Keep && sink.facts().effect == Effect::Insert;
    Shape { schema, key: if beside { Vec::new() } else { identity.columns().to_vec() } }
}

impl Run {
    /// The columns that arrive at the sink.
    pub fn schema(&self) -> SchemaRef {
        self.transform.as_ref().map_or_else(|| self.source.schema(), |transform| transform.schema())
    }

    /// What arrives at the sink, with its key.
    pub fn shape(&self) -> Shape {
        shape(self.schema(), &self.identity, self.duplicates, &self.sink)
    }

    /// The bytes in which its records pass without being decoded, where both ends speak the same and nothing looks
    /// inside.
    pub async fn wire(&self) -> Result<Option<WireFormat>, SinkError> {
        let Some(wire) = self.source.wire() else { return Ok(None) };
        if self.transform.is_some() || self.duplicates.need_ledger() || self.until == Until::Stopped {
            return Ok(None);
        }
        let taken = self.sink.destination().wire(&self.shape()).await?;
        Ok(taken.filter(|taken| *taken == wire.format()))
    }

    /// Where identities are to be remembered they must be: in the destination, or beside it. Whatever claims asks this first.
    async fn demand_ledger(&self) -> Result<(), RunError> {
        if !self.duplicates.need_ledger() {
            return Ok(());
        }
        let settle = self.source.facts().settle;
        if self.duplicates == Duplicates::DeadLetter
            && matches!(settle, Settle::PerMessage | Settle::Mark | Settle::MarkWithEffect)
        {
            return Err(RunError::TwinOfItself);
        }
        match &self.ledger {
            // Its claim comes before the effect: a record that then comes back at another place would be lost.
            Some(_) if self.source.facts().replay != Replay::Exact => Err(RunError::LedgerBeside),
            Some(ledger) => {
                ledger.check().await.map_err(RunError::sink)?;
                let pipeline = &self.applicant.pipeline;
                let standings = self.sink.destination().standings(pipeline).await.map_err(RunError::sink)?;
                ledger.open(pipeline, !standings.is_empty()).await.map_err(RunError::sink)
            }
            None if self.sink.destination().traits().ledger.is_none() => Err(RunError::NoLedger),
            None => Ok(()),
        }
    }

    /// Moves everything there is, and returns once it is committed.
    ///
    /// Whenever it is stopped, however hard, running it again goes on behind the last commit.
    pub async fn run(self) -> Result<Summary, RunError> {
        let identifier = Identifier::new(&self.identity, &self.schema()).map_err(RunError::Identity)?;
        self.demand_ledger().await?;
        // What may have been sent is known by its place: it must come back at the same.
        let announced = matches!(&self.sink, Sink::Kept(kept) if kept.target.repeat().is_announced());
        if announced && self.source.facts().replay != Replay::Exact {
            return Err(RunError::PlacesMove);
        }
        if self.until == Until::Stopped && self.source.extent() == Extent::Bounded {
            return Err(RunError::Bounded);
        }
        let destination = self.sink.destination();
        destination.prepare(&self.shape()).await.map_err(RunError::sink)?;
        crash::point(Point::Prepared);
        let source = Arc::clone(&self.source);
        let group = source.group().filter(|_| self.until == Until::Stopped);
        let lease = match group {
            Some(group) => {
                let holder = format!("group {}", group.name());
                destination.join(&Applicant { holder, ..self.applicant.clone() }).await
            }
            None => destination.acquire(&self.applicant).await,
        };
        let lease = lease.map_err(RunError::sink)?;
        crash::point(Point::LeaseAcquired);
        let wire = self.wire().await.map_err(RunError::sink)?.is_some();
        let splits = self.source.splits().await.map_err(RunError::source)?;
        let bytes = splits.iter().filter_map(|split| split.source_bytes).sum();
        self.progress.expect(u64::try_from(splits.len()).unwrap_or(u64::MAX), bytes);

        let ordered = in_order(&*self.source, &self.sink, self.ledger.as_ref(), self.duplicates);
        let parallel = match (ordered, self.until) {
            (true, Until::Stopped) if splits.len() > 1 || group.is_some() => return Err(RunError::OneByOne),
            (true, _) => 1,
            (false, Until::Stopped) => splits.len().max(1),
            (false, Until::End) => self.parallel.max(1),
        };
        let shared = group.is_some();
        let job = Arc::new(Job { run: self, identifier, lease, wire, shared });
        match group {
            Some(group) => group::member(&job, group).await?,
            None => Job::all(&job, splits, parallel).await?,
        }

        let stopped = job.run.stop.requested();
        if !stopped {
            crash::point(Point::FinishBefore);
            job.run.sink.destination().finish(&job.lease).await.map_err(RunError::sink)?;
            crash::point(Point::FinishAfter);
        }
        let done = job.run.progress.snapshot();
        Ok(Summary {
            totals: done.totals,
            splits: done.splits,
            commits: done.commits,
            in_doubt: done.in_doubt,
            stopped,
        })
    }
}

/// What all splits of a run share.
struct Job {
    run: Run,
    identifier: Identifier,
    lease: Lease,
    /// Whether records pass as bytes.
    wire: bool,
    /// Whether other members of a group write beside this one.
    shared: bool,
}

impl Job {
    /// A writer for a split that has taken it over, and where the split stands.
    async fn take_over(&self, split: &SplitId) -> Result<(SplitWriter, Standing), SinkError> {
        // What may have left is asked for where it comes back at its place.
        let looks = self.run.source.facts().replay == Replay::Exact;
        let (writer, standing) = SplitWriter::take_over(&self.run.sink, split, &self.lease, looks).await?;
        let ledger = self.run.ledger.as_ref().filter(|_| self.run.duplicates.need_ledger());
        Ok((writer.asking(ledger, split, &self.lease), standing))
    }

    /// Moves the splits, `parallel` at once, in their order. The first failure stops the others at their
    /// next commit.
    async fn all(job: &Arc<Self>, splits: Vec<Split>, parallel: usize) -> Result<(), RunError> {
        let places = Arc::new(Semaphore::new(parallel));
        let halt = job.run.stop.child();
        let mut running = JoinSet::new();
        let mut failure = None;
        for split in splits {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            while let Some(ended) = running.try_join_next() {
                Self::note(ended, &halt, &mut failure);
            }
            if halt.requested() {
                break;
            }
            let (job, halt) = (Arc::clone(job), halt.clone());
            running.spawn(async move {
                let outcome = split::whole(&job, &split, &halt).await;
                if outcome.is_err() {
                    halt.request();
                }
                drop(place);
                outcome
            });
        }
        while let Some(ended) = running.join_next().await {
            Self::note(ended, &halt, &mut failure);
        }
        failure.map_or(Ok(()), Err)
    }

    /// Keeps the failure that says most: being fenced explains every other.
    fn note(
        ended: Result<Result<(), RunError>, tokio::task::JoinError>,
        halt: &Stop,
        failure: &mut Option<RunError>,
    ) {
        let error = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => RunError::Defect,
        };
        halt.request();
        if failure.is_none() || (error.is_fenced() && !failure.as_ref().is_some_and(RunError::is_fenced)) {
            *failure = Some(error);
        }
    }

    fn read_limit(&self) -> ReadLimit {
        let limits = self.run.limits;
        let records_max = limits.batch_records_max.min(self.commit_records()).max(1);
        ReadLimit { records_max, bytes_max: limits.batch_bytes_max }
    }

    /// Bytes take no more room than they are, and what is said to a server for each batch is worth its while.
    fn wire_limit(&self) -> ReadLimit {
        const BATCHES: usize = 2;
        let bytes_max = self.run.limits.batch_bytes_max.saturating_mul(BATCHES);
        let records_max = self.run.limits.batch_records_max.saturating_mul(BATCHES);
        ReadLimit { records_max: records_max.min(self.commit_records()).max(1), bytes_max }
    }

    /// Whether a record that comes back is known by its identity alone, and identities are remembered.
    fn places_move(&self) -> bool {
        self.run.duplicates.need_ledger() && self.run.source.facts().replay != Replay::Exact
    }

    /// As many records as the user wants in a commit.
    fn commit_records(&self) -> usize {
        let records = self.run.limits.commit.records_max;
        records.map_or(usize::MAX, |records| usize::try_from(records).unwrap_or(usize::MAX))
    }
}
