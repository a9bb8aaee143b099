//! Rows that wait until they are marked: locked, delivered, and marked with their effect or once it took place.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use hapax_engine::Fut;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::durable::Durable;
use hapax_engine::fault::{SinkError, SourceError, SourceErrorKind};
use hapax_engine::source::SplitReader;
use hapax_protocol::position::{Ordinal, Position, SplitId};
use tokio::task::JoinHandle;

use super::copy::{Copied, Trouble};
use super::plan::{Marking, Plan};
use super::position::{At, Mark};
use super::reader::{batch, tid};
use super::rows::Rows;
use crate::client::{Database, Session};
use crate::fault::ReadFault;
use crate::sink::desk::{Opener, Seat};

/// How many transactions a worker holds open before it waits for the first of them to take effect.
const CLAIMS_MAX: usize = 8;

/// How many rows the first claim asks for: how large rows are is not known before.
const FIRST_ROWS: usize = 1_024;

/// How much more the next claim may ask for than the last one brought.
const GROWTH_MAX: usize = 4;

/// The splits of a table that is read row by row.
pub(super) fn splits(plan: &Plan) -> Vec<SplitId> {
    (0..plan.workers).map(|number| SplitId::new(format!("{}#{number}", plan.name))).collect()
}

/// In which transactions rows are marked.
pub(super) enum Side {
    /// In one of the source's own, once the sink has committed.
    Own(Database),
    /// In the one that the sink commits.
    Joint(Seat),
}

/// One worker.
pub(super) struct Worker {
    plan: Arc<Plan>,
    side: Side,
    hall: Arc<Hall>,
    split: SplitId,
    after: Option<Position>,
    /// How many records were delivered.
    ordinal: Ordinal,
    /// How many rows the next claim asks for.
    rows_next: usize,
    /// A claim that is being made. It goes on by itself, whoever stops waiting for it.
    making: Option<JoinHandle<Result<Option<Made>, SourceError>>>,
    /// Claims whose rows were delivered, with the number of the record behind them.
    delivered: VecDeque<(Ordinal, Claim)>,
}

/// Where the sessions of a worker come from.
struct Hall {
    plan: Arc<Plan>,
    marking: Marking,
    from: From,
}

enum From {
    Own { database: Database, idle: Mutex<Vec<Session>> },
    Joint(Opener),
}

/// Rows that are locked until a transaction ends. Dropped before that, it takes itself back.
struct Claim {
    /// `None` where it was left to somebody, or is over.
    session: Option<Session>,
    /// Where the rows stand that were delivered.
    places: Vec<String>,
    /// Whether more rows are locked than were delivered.
    is_cut: bool,
}

impl Claim {
    fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            session.hang_up();
        }
    }
}

/// A claim and its rows.
struct Made {
    claim: Claim,
    rows: Rows,
}

fn of_sink(error: SinkError) -> SourceError {
    // Who was superseded finds that out where it takes the split over again.
    let kind = match error.kind {
        hapax_engine::fault::SinkErrorKind::Stop => SourceErrorKind::Stop,
        _ => SourceErrorKind::Unavailable,
    };
    SourceError { kind, fault: error.fault }
}

impl Hall {
    /// A session in a transaction.
    async fn begin(&self) -> Result<Session, SourceError> {
        match &self.from {
            From::Joint(opener) => opener.begin().await.map_err(of_sink),
            From::Own { database, idle } => {
                let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let session = match kept.filter(|session| !session.is_closed()) {
                    Some(session) => session,
                    None => database.session().await?,
                };
                let begin = session.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await;
                begin.map_err(session.fault("locking rows that wait"))?;
                Ok(session)
            }
        }
    }

    /// Keeps a session without a transaction for the next claim.
    fn keep(&self, session: Session) {
        match &self.from {
            From::Joint(opener) => opener.give_back(session),
            From::Own { idle, .. } => idle.lock().unwrap_or_else(PoisonError::into_inner).push(session),
        }
    }

    /// Locks the first rows that wait and that nobody else has locked; `None` if there are none. Rows beyond
    /// `bytes_max` are not delivered, and stay as they are.
    async fn make(
        self: Arc<Self>,
        first: Ordinal,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Made>, SourceError> {
        let mut claim = Claim { session: Some(self.begin().await?), places: Vec::new(), is_cut: false };
        let rows = self.collect(&mut claim, first, rows_max, bytes_max).await?;
        if claim.places.is_empty() {
            if let Some(session) = claim.session.take() {
                session.batch_execute("ROLLBACK").await.map_err(session.fault("locking rows that wait"))?;
                self.keep(session);
            }
            return Ok(None);
        }
        if matches!(self.from, From::Joint(_)) {
            self.mark(&claim).await?;
        }
        Ok(Some(Made { claim, rows }))
    }

    async fn collect(
        &self,
        claim: &mut Claim,
        first: Ordinal,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Rows, SourceError> {
        let (plan, doing) = (&self.plan, "locking rows that wait");
        let malformed = || ReadFault::Malformed { of: plan.name.clone() };
        let mut rows = Rows::new(plan);
        let Claim { session: Some(session), places, is_cut } = claim else { return Ok(rows) };
        plan.unchanged(session).await?;
        let sql = format!(
            "COPY (SELECT {}{}t.ctid FROM ONLY {} AS t WHERE {} ORDER BY {} LIMIT {rows_max} \
             FOR NO KEY UPDATE SKIP LOCKED) TO STDOUT (FORMAT BINARY)",
            plan.select(),
            if plan.columns.is_empty() { "" } else { ", " },
            plan.from,
            self.marking.waits,
            plan.order(),
        );
        let stream = session.copy_out(&sql).await.map_err(session.fault(doing))?;
        let mut copied = Copied::new(stream);
        loop {
            let row = match copied.next().await {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(rows),
                Err(Trouble::Server(error)) => return Err(session.fault("reading")(error).into()),
                Err(Trouble::Malformed) => return Err(malformed().into()),
            };
            if rows.bytes() >= bytes_max {
                *is_cut = true;
                continue;
            }
            let (page, number) = tid(&row).ok_or_else(malformed)?;
            places.push(format!("({page},{number})"));
            let count = u64::try_from(rows.count()).unwrap_or(u64::MAX);
            rows.push(&row, first.saturating_add(count));
        }
    }

    /// Marks the rows of a claim, in its transaction.
    async fn mark(&self, claim: &Claim) -> Result<(), SourceError> {
        let Some(session) = claim.session() else { return Ok(()) };
        // A table read row by row has no children: `ctid` names one row of it.
        let sql = format!(
            "UPDATE ONLY {} AS t SET {} WHERE t.ctid = ANY ($1::text[]::tid[])",
            self.plan.from, self.marking.set
        );
        let failed = session.fault("marking rows");
        let update = session.prepared(sql).await.map_err(&failed)?;
        let marked = session.execute(&update, &[&claim.places]).await.map_err(&failed)?;
        let locked = claim.places.len();
        if usize::try_from(marked) != Ok(locked) {
            return Err(ReadFault::MarkLost { of: self.plan.name.clone(), locked, marked }.into());
        }
        Ok(())
    }

    /// Marks the rows of a claim and gives them free.
    async fn settle(&self, mut claim: Claim) -> Result<(), SourceError> {
        self.mark(&claim).await?;
        if let Some(session) = claim.session() {
            session.batch_execute("COMMIT").await.map_err(session.fault("marking rows"))?;
        }
        if let Some(session) = claim.session.take() {
            self.keep(session);
        }
        Ok(())
    }
}

impl Worker {
    pub(super) fn new(
        plan: Arc<Plan>,
        marking: Marking,
        side: Side,
        split: SplitId,
        after: Option<Position>,
        ordinal: Ordinal,
    ) -> Self {
        let from = match &side {
            Side::Own(database) => From::Own { database: database.clone(), idle: Mutex::default() },
            Side::Joint(seat) => From::Joint(seat.opener()),
        };
        let hall = Arc::new(Hall { plan: Arc::clone(&plan), marking, from });
        let delivered = VecDeque::new();
        Self { plan, side, hall, split, after, ordinal, rows_next: FIRST_ROWS, making: None, delivered }
    }

    /// How many claims may be open. Of those that the sink commits it commits one at a time.
    fn claims_max(&self) -> usize {
        match self.side {
            Side::Own(_) => CLAIMS_MAX,
            Side::Joint(_) => 1,
        }
    }

    async fn next(&mut self, limit: ReadLimit) -> Result<Option<Batch>, SourceError> {
        if self.making.is_none() && self.delivered.len() >= self.claims_max() {
            // What was delivered has to take effect first: its acknowledgement ends this waiting.
            std::future::pending::<()>().await;
        }
        let rows_max = self.rows_next.clamp(1, limit.records_max.max(1));
        let (hall, first) = (Arc::clone(&self.hall), self.ordinal);
        let make = || tokio::spawn(hall.make(first, rows_max, limit.bytes_max.max(1)));
        let made = self.making.get_or_insert_with(make).await;
        self.making = None;
        let interrupted = |_| ReadFault::Malformed { of: self.plan.name.clone() };
        let Some(made) = made.map_err(interrupted)?? else {
            if self.delivered.iter().any(|(_, claim)| claim.is_cut) {
                // Rows that wait are locked by ourselves.
                std::future::pending::<()>().await;
            }
            return Ok(None);
        };
        self.deliver(made, limit).map(Some)
    }

    /// Makes a batch of a claim.
    fn deliver(&mut self, made: Made, limit: ReadLimit) -> Result<Batch, SourceError> {
        let Made { mut claim, mut rows } = made;
        let count = rows.count();
        let each = rows.bytes().div_ceil(count.max(1)).max(1);
        self.rows_next = (limit.bytes_max / each).min(count.saturating_mul(GROWTH_MAX)).max(1);
        let done = rows.finish().map_err(|source| ReadFault::Batch { of: self.plan.name.clone(), source })?;
        if let Side::Joint(seat) = &self.side
            && let Some(session) = claim.session.take()
        {
            seat.leave(session);
        }
        let first = self.ordinal;
        self.ordinal = first.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        self.delivered.push_back((self.ordinal, claim));
        let source_bytes = u64::try_from(done.bytes).unwrap_or(u64::MAX);
        let through = Mark { ordinal: self.ordinal, at: At::Number }.encode();
        let after = self.after.replace(through.clone());
        Ok(batch(self.split.clone(), after, through, first, done, source_bytes))
    }
}

impl SplitReader for Worker {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(self.next(limit))
    }

    fn more(&mut self) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            tokio::time::sleep(self.plan.poll).await;
            Ok(())
        })
    }

    fn acknowledge(&mut self, through: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(async move {
            let done = Mark::decode(through.get()).map_or(0, |mark| mark.ordinal);
            while self.delivered.front().is_some_and(|(end, _)| *end <= done) {
                let Some((_, claim)) = self.delivered.pop_front() else { break };
                if matches!(self.side, Side::Own(_)) {
                    self.hall.settle(claim).await?;
                }
            }
            Ok(())
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(making) = &self.making {
            making.abort();
        }
    }
}
