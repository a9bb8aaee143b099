//! Rows that wait until they are marked: locked, delivered, and marked once they have taken effect.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit, Rejected};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Ordinal, Position, SplitId};
use mysql_async::{Params, Value};
use tokio::task::JoinHandle;

use super::plan::{Marking, Plan};
use super::poll::Poll;
use super::position::Mark;
use super::reader::raw;
use super::rows::Rows;
use crate::client::{Address, Session, quoted};
use crate::codes;
use crate::fault::{DatabaseFault, ReadFault};

/// How many workers share the rows of a table: each is a split.
const WORKERS: u32 = 4;

/// How many transactions a worker holds open before it waits for the first of them to take effect.
const CLAIMS_MAX: usize = 8;

/// How many rows the first claim takes, before it is known how large they are.
const FIRST_ROWS: usize = 100;

/// How many rows one statement marks.
const MARKS_MAX: usize = 500;

/// The splits of a table whose rows are marked.
pub(super) fn splits(plan: &Plan) -> Vec<SplitId> {
    (0..WORKERS).map(|number| SplitId::new(format!("{}#{number}", plan.name))).collect()
}

/// One worker.
pub(super) struct Worker {
    address: Arc<Address>,
    plan: Arc<Plan>,
    split: SplitId,
    after: Option<Position>,
    /// How many records lie before the next claim.
    ordinal: Ordinal,
    row_bytes: Option<usize>,
    /// A claim that is being made. It goes on by itself, whoever stops waiting for it.
    claiming: Option<JoinHandle<Made>>,
    /// Claims that were delivered, with the number of the record behind them.
    delivered: VecDeque<(Ordinal, Claim)>,
    poll: Poll,
}

/// Rows that are locked by a transaction of their own, which marks them if it commits.
struct Claim {
    session: Session,
    /// Their keys.
    keys: Vec<Vec<Value>>,
}

/// A claim and what its rows say; `None` if no row waits.
type Made = Result<Option<(Claim, Records)>, SourceError>;

/// What the rows of a claim say.
struct Records {
    records: RecordBatch,
    /// The rows that could be read; `None` for all.
    kept: Option<Vec<usize>>,
    /// The others, numbered within the claim.
    rejected: Vec<Rejected>,
    bytes: usize,
}

impl Claim {
    /// Locks the first rows that wait and that nobody else has locked; `None` if there are none.
    async fn make(address: Arc<Address>, plan: Arc<Plan>, rows_max: usize) -> Made {
        let doing = "locking rows that wait";
        let mut session = address.connect().await?;
        session.say(doing, "START TRANSACTION").await?;
        let columns = plan.schema.fields().iter().map(|field| quoted(field.name()));
        let keys: Vec<String> = plan.keys.iter().map(|key| key.sql.clone()).collect();
        let columns: Vec<String> = columns.chain(keys.iter().cloned()).collect();
        let waits = plan.marking.as_ref().map_or("false", |marking| marking.waits.as_str());
        let sql = format!(
            "SELECT {} FROM {} WHERE {waits} ORDER BY {} LIMIT {rows_max} FOR UPDATE SKIP LOCKED",
            columns.join(", "),
            plan.from,
            keys.join(", ")
        );
        let found = session.rows(doing, &sql, ()).await?;
        if found.is_empty() {
            return Ok(None);
        }
        let width = plan.schema.fields().len();
        let mut rows = Rows::new(&plan.schema)?;
        let (mut claimed, mut rejected) = (Vec::with_capacity(found.len()), Vec::new());
        for (row, ordinal) in found.iter().zip(0..) {
            let key = (width..width + plan.keys.len()).filter_map(|index| row.as_ref(index).cloned());
            claimed.push(key.collect());
            if let Err(reason) = rows.push(|index| row.as_ref(index).unwrap_or(&Value::NULL)) {
                rejected.push(Rejected {
                    ordinal,
                    code: codes::VALUE_MISFIT,
                    reason,
                    id: None,
                    raw: raw(&plan, row),
                });
            }
        }
        let bytes = rows.bytes();
        let (records, kept) = rows.finish()?;
        Ok(Some((Self { session, keys: claimed }, Records { records, kept, rejected, bytes })))
    }

    /// Marks the rows and gives them free.
    async fn settle(mut self, plan: &Plan, marking: &Marking) -> Result<(), SourceError> {
        let doing = "marking rows";
        let one: Vec<_> = plan.keys.iter().map(|key| format!("{} = {}", key.sql, key.hole)).collect();
        let one = format!("({})", one.join(" AND "));
        let mut marked = 0_u64;
        for keys in self.keys.chunks(MARKS_MAX) {
            let which = vec![one.as_str(); keys.len()].join(" OR ");
            let sql = format!("UPDATE {} SET {} WHERE {which}", plan.from, marking.set);
            let params = Params::Positional(keys.iter().flatten().cloned().collect());
            marked = marked.saturating_add(self.session.run(doing, &sql, params).await?);
        }
        let locked = self.keys.len();
        if usize::try_from(marked) != Ok(locked) {
            self.session.say(doing, "ROLLBACK").await?;
            return Err(ReadFault::MarkLost { of: plan.name.clone(), locked, marked }.into());
        }
        Ok(self.session.say(doing, "COMMIT").await?)
    }
}

impl Worker {
    pub(super) fn new(
        address: Arc<Address>,
        plan: Arc<Plan>,
        split: SplitId,
        after: Option<Position>,
        ordinal: Ordinal,
    ) -> Self {
        let (claiming, delivered) = (None, VecDeque::new());
        let poll = Poll::every(plan.poll_ms);
        Self { address, plan, split, after, ordinal, row_bytes: None, claiming, delivered, poll }
    }

    async fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>, SourceError> {
        if self.claiming.is_none() && self.delivered.len() >= CLAIMS_MAX {
            // What was delivered has to take effect first: its acknowledgement ends this waiting.
            std::future::pending::<()>().await;
        }
        // A lock is given free with its transaction alone, so a claim delivers all that it locked.
        let rows = self.row_bytes.map_or(FIRST_ROWS, |bytes| limit.bytes_max / bytes.max(1));
        let rows = rows.clamp(1, limit.records_max.max(1));
        let (address, plan) = (Arc::clone(&self.address), Arc::clone(&self.plan));
        let claiming = self.claiming.get_or_insert_with(|| tokio::spawn(Claim::make(address, plan, rows)));
        let made = claiming.await;
        self.claiming = None;
        let misunderstood = |_| DatabaseFault::Misunderstood {
            place: self.address.place().to_owned(),
            doing: "locking rows that wait",
        };
        let Some((claim, read)) = made.map_err(misunderstood)?? else { return Ok(None) };
        let first = self.ordinal;
        self.row_bytes = Some(read.bytes / claim.keys.len().max(1) + 1);
        self.ordinal = first.saturating_add(u64::try_from(claim.keys.len()).unwrap_or(u64::MAX));
        self.delivered.push_back((self.ordinal, claim));
        let numbered =
            |rejected: Rejected| Rejected { ordinal: first.saturating_add(rejected.ordinal), ..rejected };
        let all = Ordinals::From(first);
        let through = Mark { ordinal: self.ordinal, key: Vec::new() }.encode();
        let after = self.after.replace(through.clone());
        Ok(Some(Batch {
            split: self.split.clone(),
            after,
            through,
            records: read.records,
            ordinals: match read.kept {
                None => all,
                Some(kept) => all.pick(kept),
            },
            rejected: read.rejected.into_iter().map(numbered).collect(),
            source_bytes: u64::try_from(read.bytes).unwrap_or(u64::MAX),
        }))
    }
}

impl SplitReader for Worker {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(self.next(limit))
    }

    fn more(&mut self) -> Fut<'_, (), SourceError> {
        Box::pin(async {
            self.poll.wait().await;
            Ok(())
        })
    }

    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            let done = Mark::decode(through.get()).map_or(0, |mark| mark.ordinal);
            let Some(marking) = &self.plan.marking else { return Ok(()) };
            while self.delivered.front().is_some_and(|(end, _)| *end <= done) {
                let Some((_, claim)) = self.delivered.pop_front() else { break };
                claim.settle(&self.plan, marking).await?;
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
    }
}
