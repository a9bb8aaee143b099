//! Rows that wait until they are marked: locked, delivered, and marked once they have taken effect.

use std::collections::VecDeque;
use std::sync::Arc;

use hapax_engine::Fut;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Ordinal, Position, SplitId};
use tokio::task::JoinHandle;

use super::copy::{Copied, Row, Trouble};
use super::plan::{Marking, Plan};
use super::position::{At, Mark};
use super::reader::{batch, tid};
use super::rows::Rows;
use crate::client::{Database, Session};
use crate::fault::ReadFault;

/// How many workers share the rows of a table: each is a split.
const WORKERS: u32 = 4;

/// How many transactions a worker holds open before it waits for the first of them to take effect.
const CLAIMS_MAX: usize = 8;

/// The splits of a table that is read row by row.
pub(super) fn splits(plan: &Plan) -> Vec<SplitId> {
    (0..WORKERS).map(|number| SplitId::new(format!("{}#{number}", plan.name))).collect()
}

/// One worker.
pub(super) struct Worker {
    plan: Arc<Plan>,
    marking: Marking,
    database: Database,
    split: SplitId,
    after: Option<Position>,
    /// How many records lie before those that are collected.
    ordinal: Ordinal,
    rows: Rows,
    /// A claim that is being made. It goes on by itself, whoever stops waiting for it.
    claiming: Option<JoinHandle<Result<Claim, SourceError>>>,
    /// The claim whose rows are coming.
    claim: Option<Claim>,
    /// Claims whose rows were all delivered, with the number of the record behind them.
    delivered: VecDeque<(Ordinal, Claim)>,
}

/// Rows that are locked by a transaction of their own, which marks them if it commits.
struct Claim {
    session: Session,
    copied: Copied,
    /// Where the rows stand.
    places: Vec<String>,
}

impl Claim {
    /// Locks the first rows that wait and that nobody else has locked.
    async fn make(
        database: Database,
        plan: Arc<Plan>,
        waits: String,
        rows_max: usize,
    ) -> Result<Self, SourceError> {
        let session = database.session().await?;
        let doing = "locking rows that wait";
        let begin = "SET max_parallel_workers_per_gather = 0; BEGIN ISOLATION LEVEL READ COMMITTED";
        session.batch_execute(begin).await.map_err(session.fault(doing))?;
        plan.unchanged(&session).await?;
        let sql = format!(
            "COPY (SELECT {}, t.ctid FROM ONLY {} AS t WHERE {waits} ORDER BY {} LIMIT {rows_max} \
             FOR NO KEY UPDATE SKIP LOCKED) TO STDOUT (FORMAT BINARY)",
            plan.select(),
            plan.from,
            plan.order(),
        );
        let stream = session.copy_out(&sql).await.map_err(session.fault(doing))?;
        Ok(Self { session, copied: Copied::new(stream), places: Vec::new() })
    }

    fn note(&mut self, row: &Row) -> Option<()> {
        let (page, number) = tid(row)?;
        self.places.push(format!("({page},{number})"));
        Some(())
    }

    /// Marks the rows and gives them free.
    async fn settle(self, plan: &Plan, marking: &Marking) -> Result<(), SourceError> {
        let doing = "marking rows";
        // A table read row by row has no children: `ctid` names one row of it.
        let sql = format!(
            "UPDATE ONLY {} AS t SET {} WHERE t.ctid = ANY ($1::text[]::tid[])",
            plan.from, marking.set
        );
        let marked = self.session.execute(&sql, &[&self.places]).await.map_err(self.session.fault(doing))?;
        let locked = self.places.len();
        if usize::try_from(marked) != Ok(locked) {
            return Err(ReadFault::MarkLost { of: plan.name.clone(), locked, marked }.into());
        }
        Ok(self.session.batch_execute("COMMIT").await.map_err(self.session.fault(doing))?)
    }
}

impl Worker {
    pub(super) fn new(
        plan: Arc<Plan>,
        marking: Marking,
        database: Database,
        split: SplitId,
        after: Option<Position>,
        ordinal: Ordinal,
    ) -> Self {
        let rows = Rows::new(&plan);
        let delivered = VecDeque::new();
        Self { plan, marking, database, split, after, ordinal, rows, claiming: None, claim: None, delivered }
    }

    /// Has a claim whose rows can be collected.
    async fn claimed(&mut self, limit: ReadLimit) -> Result<&mut Claim, SourceError> {
        if self.claim.is_none() {
            if self.claiming.is_none() && self.delivered.len() >= CLAIMS_MAX {
                // What was delivered has to take effect first: its acknowledgement ends this waiting.
                std::future::pending::<()>().await;
            }
            let (database, plan) = (self.database.clone(), Arc::clone(&self.plan));
            let (waits, rows_max) = (self.marking.waits.clone(), limit.records_max.max(1));
            let claiming = self
                .claiming
                .get_or_insert_with(|| tokio::spawn(Claim::make(database, plan, waits, rows_max)));
            let made = claiming.await;
            self.claiming = None;
            let interrupted = |_| ReadFault::Malformed { of: self.plan.name.clone() };
            self.claim = Some(made.map_err(interrupted)??);
        }
        self.claim.as_mut().ok_or_else(|| ReadFault::Malformed { of: self.plan.name.clone() }.into())
    }

    /// Collects rows until the batch is full or the claim has no more. Whether it has.
    async fn collect(&mut self, limit: ReadLimit) -> Result<bool, SourceError> {
        self.claimed(limit).await?;
        let malformed = || ReadFault::Malformed { of: self.plan.name.clone() };
        let Some(claim) = &mut self.claim else { return Ok(true) };
        while self.rows.count() < limit.records_max.max(1) && self.rows.bytes() < limit.bytes_max {
            match claim.copied.next().await {
                Ok(Some(row)) => {
                    claim.note(&row).ok_or_else(malformed)?;
                    let count = u64::try_from(self.rows.count()).unwrap_or(u64::MAX);
                    self.rows.push(&row, self.ordinal.saturating_add(count));
                }
                Ok(None) => return Ok(true),
                Err(Trouble::Server(error)) => return Err(claim.session.fault("reading")(error).into()),
                Err(Trouble::Malformed) => return Err(malformed().into()),
            }
        }
        Ok(false)
    }

    async fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>, SourceError> {
        let first = self.ordinal;
        loop {
            let ended = self.collect(limit).await?;
            let count = u64::try_from(self.rows.count()).unwrap_or(u64::MAX);
            let mut waits = false;
            if ended && let Some(claim) = self.claim.take() {
                waits = !claim.places.is_empty();
                if waits {
                    self.delivered.push_back((first.saturating_add(count), claim));
                }
            }
            match (count, waits) {
                // The last batch of the claim ended with its last row.
                (0, true) => {}
                (0, false) => return Ok(None),
                _ => {
                    self.ordinal = first.saturating_add(count);
                    break;
                }
            }
        }
        let done =
            self.rows.finish().map_err(|source| ReadFault::Batch { of: self.plan.name.clone(), source })?;
        let source_bytes = u64::try_from(done.bytes).unwrap_or(u64::MAX);
        let through = Mark { ordinal: self.ordinal, at: At::Number }.encode();
        let after = self.after.replace(through.clone());
        Ok(Some(batch(self.split.clone(), after, through, first, done, source_bytes)))
    }
}

impl SplitReader for Worker {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(self.next(limit))
    }

    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            let done = Mark::decode(through.get()).map_or(0, |mark| mark.ordinal);
            while self.delivered.front().is_some_and(|(end, _)| *end <= done) {
                let Some((_, claim)) = self.delivered.pop_front() else { break };
                claim.settle(&self.plan, &self.marking).await?;
            }
            Ok(())
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(claiming) = &self.claiming {
            claiming.abort();
        }
        if let Some(claim) = &self.claim {
            claim.session.hang_up();
        }
    }
}
