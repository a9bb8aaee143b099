//! Rows that wait until they are marked: locked, delivered, and marked with their effect, or once it took place.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit, Rejected};
use hapax_engine::durable::Durable;
use hapax_engine::fault::{SinkError, SinkErrorKind, SourceError, SourceErrorKind};
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Ordinal, Position, SplitId, Standing};
use mysql_async::{Params, Value};
use tokio::task::JoinHandle;

use super::plan::Plan;
use super::poll::Poll;
use super::position::Mark;
use super::reader::raw;
use super::rows::Rows;
use crate::client::{Address, Session, quoted};
use crate::codes;
use crate::fault::{DatabaseFault, ReadFault};
use crate::sink::desk::{Open, Opener, Seat};

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

/// In which transactions rows are marked.
pub(super) enum Side {
    /// In one of the source's own, once the sink has committed.
    Own(Arc<Address>),
    /// In the one that the sink commits.
    Joint(Seat),
}

/// Where the transactions of a worker come from.
#[derive(Clone)]
enum Opening {
    Own(Arc<Address>),
    Joint(Opener),
}

/// One worker.
pub(super) struct Worker {
    side: Side,
    plan: Arc<Plan>,
    split: SplitId,
    after: Option<Position>,
    /// How many records lie before the next claim.
    ordinal: Ordinal,
    row_bytes: Option<usize>,
    /// A claim that is being made. It goes on by itself, whoever stops waiting for it.
    claiming: Option<JoinHandle<Made>>,
    /// Claims that were delivered, with the number of the record behind them; `None` where the sink marks.
    delivered: VecDeque<(Ordinal, Option<Claim>)>,
    poll: Poll,
}

/// What went wrong in the sink's part of a transaction. Who was superseded finds that out where it takes the split over.
fn of_sink(error: SinkError) -> SourceError {
    let kind = match error.kind {
        SinkErrorKind::Stop => SourceErrorKind::Stop,
        _ => SourceErrorKind::Unavailable,
    };
    SourceError { kind, fault: error.fault }
}

/// Rows that are locked by a transaction, which marks them if it commits.
struct Claim {
    session: Session,
    /// How the split stands, where the sink marks.
    stood: Option<Standing>,
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
    async fn make(opening: Opening, plan: Arc<Plan>, rows_max: usize) -> Made {
        let doing = "locking rows that wait";
        let (mut session, stood) = match &opening {
            Opening::Own(address) => {
                let mut session = address.connect().await?;
                session.say(doing, "START TRANSACTION").await?;
                (session, None)
            }
            Opening::Joint(opener) => {
                let open = opener.begin().await.map_err(of_sink)?;
                (open.session, Some(open.stood))
            }
        };
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
            if let (Opening::Joint(opener), Some(stood)) = (&opening, stood) {
                opener.end(Open { session, stood }).await?;
            }
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
        let mut claim = Self { session, stood, keys: claimed };
        if matches!(opening, Opening::Joint(_)) {
            claim.mark(&plan).await?;
        }
        Ok(Some((claim, Records { records, kept, rejected, bytes })))
    }

    /// Marks the rows and gives them free.
    async fn settle(mut self, plan: &Plan) -> Result<(), SourceError> {
        self.mark(plan).await?;
        Ok(self.session.say("marking rows", "COMMIT").await?)
    }

    /// Marks the rows, in their transaction.
    async fn mark(&mut self, plan: &Plan) -> Result<(), SourceError> {
        let Some(marking) = &plan.marking else { return Ok(()) };
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
        Ok(())
    }
}

impl Worker {
    pub(super) fn new(
        side: Side,
        plan: Arc<Plan>,
        split: SplitId,
        after: Option<Position>,
        ordinal: Ordinal,
    ) -> Self {
        let (claiming, delivered) = (None, VecDeque::new());
        let poll = Poll::every(plan.poll_ms);
        Self { side, plan, split, after, ordinal, row_bytes: None, claiming, delivered, poll }
    }

    /// How many transactions are held open before the first of them has taken effect. The sink commits one at a time.
    fn claims_max(&self) -> usize {
        match self.side {
            Side::Own(_) => CLAIMS_MAX,
            Side::Joint(_) => 1,
        }
    }

    fn opening(&self) -> Opening {
        match &self.side {
            Side::Own(address) => Opening::Own(Arc::clone(address)),
            Side::Joint(seat) => Opening::Joint(seat.opener()),
        }
    }

    async fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>, SourceError> {
        if self.claiming.is_none() && self.delivered.len() >= self.claims_max() {
            // What was delivered has to take effect first: its acknowledgement ends this waiting.
            std::future::pending::<()>().await;
        }
        // A lock is given free with its transaction alone, so a claim delivers all that it locked.
        let rows = self.row_bytes.map_or(FIRST_ROWS, |bytes| limit.bytes_max / bytes.max(1));
        let rows = rows.clamp(1, limit.records_max.max(1));
        let (opening, plan) = (self.opening(), Arc::clone(&self.plan));
        let claiming = self.claiming.get_or_insert_with(|| tokio::spawn(Claim::make(opening, plan, rows)));
        let made = claiming.await;
        self.claiming = None;
        let misunderstood = |_| DatabaseFault::Misunderstood {
            place: self.plan.name.clone(),
            doing: "locking rows that wait",
        };
        let Some((claim, read)) = made.map_err(misunderstood)?? else { return Ok(None) };
        let first = self.ordinal;
        self.row_bytes = Some(read.bytes / claim.keys.len().max(1) + 1);
        self.ordinal = first.saturating_add(u64::try_from(claim.keys.len()).unwrap_or(u64::MAX));
        let Claim { session, stood, keys } = claim;
        let claim = match (&self.side, stood) {
            (Side::Joint(seat), Some(stood)) => {
                seat.leave(Open { session, stood });
                None
            }
            (_, stood) => Some(Claim { session, stood, keys }),
        };
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
            while self.delivered.front().is_some_and(|(end, _)| *end <= done) {
                let Some((_, claim)) = self.delivered.pop_front() else { break };
                if let Some(claim) = claim {
                    claim.settle(&self.plan).await?;
                }
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
