//! The source: tables by their pages, by a cursor below its horizon, or row by row until all are marked; and queries.

pub mod codes;

mod cell;
mod civil;
mod copy;
mod horizon;
mod letter;
mod marked;
mod numeric;
mod pages;
mod passes;
mod plan;
mod position;
mod query;
mod reader;
mod rows;
mod snapshot;
mod text;
mod undecoded;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hapax_engine::Fut;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use hapax_engine::source::{Arrangement, Extent, Source, Split, SplitReader};
use hapax_engine::wire::{WireFormat, WireReader, WireSource};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts};
use hapax_protocol::position::{Position, SplitId};
use tokio::sync::Mutex;

use crate::client::{Database, Session};
use crate::column;
use crate::fault::ReadFault;
use crate::sink::Target;
use crate::sink::desk::Seat;
use crate::source_config::SourceConfig;
use marked::{Side, Worker};
use pages::Part;
use passes::{Cursor, Passes, in_order, steady};
use plan::{Horizon, Plan, Walk};
use position::{At, Mark};
use reader::{Pages, Reader, Start};
use snapshot::Snapshot;
use undecoded::Undecoded;

/// A table or a query of a PostgreSQL database.
pub struct Postgres {
    database: Database,
    plan: Arc<Plan>,
    /// What the readers of a run see. A new one is taken each time splits are listed.
    snapshot: Mutex<Option<Arc<Snapshot>>>,
    /// The sink whose transactions mark the rows, where it writes to the same database.
    joint: Option<Arc<Target>>,
}

/// A table whose rows are marked.
pub(crate) struct Marked {
    /// In SQL.
    pub table: String,
    /// The column that says that a row was moved.
    pub column: String,
    /// A statement that reads what is read of a row, and no row.
    pub look: String,
}

impl Postgres {
    /// Opens it, with the columns and types that it has. Reads only.
    pub async fn open(config: SourceConfig) -> Result<Self, SourceError> {
        Self::make(config, None).await
    }

    /// Opens it, to read these columns as these types.
    pub async fn with_schema(config: SourceConfig, schema: SchemaRef) -> Result<Self, SourceError> {
        Self::make(config, Some(schema)).await
    }

    async fn make(config: SourceConfig, schema: Option<SchemaRef>) -> Result<Self, SourceError> {
        let database = Database::new(&config.url)?;
        let session = database.session().await?;
        let plan = Plan::make(&session, &config, schema).await?;
        Ok(Self { database, plan: Arc::new(plan), snapshot: Mutex::new(None), joint: None })
    }

    /// What is marked, if rows are.
    pub(crate) fn marked(&self) -> Option<Marked> {
        let Walk::Marked(marking) = &self.plan.walk else { return None };
        let (table, column) = (self.plan.from.clone(), marking.column.clone());
        let look = format!("SELECT {} FROM ONLY {table} AS t LIMIT 0", self.plan.select());
        Some(Marked { table, column, look })
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// From now on, rows are marked in the transactions of this sink.
    pub(crate) fn join(&mut self, sink: Arc<Target>) {
        self.joint = Some(sink);
    }

    async fn new_snapshot(&self) -> Result<Arc<Snapshot>, SourceError> {
        let session = self.database.session().await?;
        Ok(Arc::new(Snapshot::take(session, &self.plan).await?))
    }

    /// What this run sees. After the connection that holds it was lost, it is what is there then: as after a crash.
    async fn snapshot(&self) -> Result<Arc<Snapshot>, SourceError> {
        let mut kept = self.snapshot.lock().await;
        match &*kept {
            Some(snapshot) if !snapshot.is_gone() => Ok(Arc::clone(snapshot)),
            _ => Ok(Arc::clone(kept.insert(self.new_snapshot().await?))),
        }
    }

    async fn list(&self) -> Result<Vec<Split>, SourceError> {
        let whole = |id| vec![Split { id: SplitId::new(id), source_bytes: None }];
        match &self.plan.walk {
            Walk::Pages(parts) => {
                let mut kept = self.snapshot.lock().await;
                let snapshot = kept.insert(self.new_snapshot().await?);
                Ok(ranges(parts, snapshot))
            }
            Walk::Key | Walk::Number => {
                *self.snapshot.lock().await = Some(self.new_snapshot().await?);
                Ok(whole(self.plan.name.as_str()))
            }
            Walk::Cursor(_) => Ok(whole(self.plan.name.as_str())),
            Walk::Marked(_) => {
                let splits = marked::splits(&self.plan);
                Ok(splits.into_iter().map(|id| Split { id, source_bytes: None }).collect())
            }
        }
    }

    async fn begin(
        &self,
        split: SplitId,
        after: Option<Position>,
    ) -> Result<Box<dyn SplitReader>, SourceError> {
        if let Walk::Marked(marking) = &self.plan.walk {
            let ordinal = self.mark(&split, after.as_ref())?.map_or(0, |mark| mark.ordinal);
            if !marked::splits(&self.plan).contains(&split) {
                return Err(self.foreign(&split).into());
            }
            let seat = self.joint.as_ref().and_then(|target| Seat::take(target, &split));
            let side = seat.map_or_else(|| Side::Own(self.database.clone()), Side::Joint);
            let plan = Arc::clone(&self.plan);
            return Ok(Box::new(Worker::new(plan, marking.clone(), side, split, after, ordinal)));
        }
        if let Some(cursor) = self.cursor(&split, after.as_ref())? {
            let first = cursor.clone().pass(None, after.clone()).await?;
            return Ok(Box::new(Passes::new(cursor, after, first)));
        }
        Ok(Box::new(self.reader(split, after).await?))
    }

    /// The way of a split by its cursor, if it has one.
    fn cursor(&self, split: &SplitId, after: Option<&Position>) -> Result<Option<Cursor>, SourceError> {
        let Walk::Cursor(horizon) = self.plan.walk else { return Ok(None) };
        if split.as_str() != self.plan.name {
            return Err(self.foreign(split).into());
        }
        self.mark(split, after)?;
        let (plan, database) = (Arc::clone(&self.plan), self.database.clone());
        Ok(Some(Cursor { plan, database, horizon, split: split.clone() }))
    }

    /// Reads what there is now.
    async fn reader(&self, split: SplitId, after: Option<Position>) -> Result<Reader, SourceError> {
        if let Some(cursor) = self.cursor(&split, after.as_ref())? {
            return cursor.pass(None, after).await;
        }
        let (session, select, start) = self.start(split, after).await?;
        Reader::begin(Arc::clone(&self.plan), session, &select, start).await
    }

    fn foreign(&self, split: &SplitId) -> ReadFault {
        ReadFault::ForeignPosition { split: split.clone(), of: self.plan.name.clone() }
    }

    /// What a position says.
    fn mark(&self, split: &SplitId, position: Option<&Position>) -> Result<Option<Mark>, ReadFault> {
        let Some(position) = position else { return Ok(None) };
        let mark = Mark::decode(position).filter(|mark| fits(mark, &self.plan));
        mark.map(Some).ok_or_else(|| self.foreign(split))
    }

    /// A session that sees what is to be read, what to select in it, and where that begins.
    async fn start(
        &self,
        split: SplitId,
        after: Option<Position>,
    ) -> Result<(Session, String, Start), SourceError> {
        let foreign = || self.foreign(&split);
        let mark = self.mark(&split, after.as_ref())?;
        let ordinal = mark.as_ref().map_or(0, |mark| mark.ordinal);
        let mut start = Start { split: split.clone(), after, ordinal, page: 0, pages: None, began_us: 0 };
        let at = mark.as_ref().map(|mark| &mark.at);
        let session = self.database.session().await?;
        let select = match &self.plan.walk {
            Walk::Pages(parts) => {
                let found = pages::of_split(parts, &split).ok_or_else(foreign)?;
                self.by_pages(&session, found, at, &mut start).await?
            }
            _ if split.as_str() != self.plan.name => return Err(foreign().into()),
            Walk::Key => {
                self.share(&session).await?;
                let behind = match at {
                    Some(At::Key { key, .. }) => Some(self.plan.behind(key)),
                    _ => None,
                };
                in_order(&self.plan, behind)
            }
            Walk::Number => {
                self.share(&session).await?;
                format!("SELECT {} FROM {} AS t OFFSET {ordinal}", self.plan.select(), self.plan.from)
            }
            Walk::Cursor(_) | Walk::Marked(_) => return Err(foreign().into()),
        };
        steady(&session, &self.plan).await?;
        Ok((session, select, start))
    }

    /// Begins a transaction that sees what this run sees.
    async fn share(&self, session: &Session) -> Result<Arc<Snapshot>, SourceError> {
        let snapshot = self.snapshot().await?;
        match snapshot.share(session).await {
            Ok(()) => Ok(snapshot),
            Err(fault) => {
                // Its holder is gone: whoever tries again takes a new one.
                *self.snapshot.lock().await = None;
                Err(SourceError::unavailable(fault))
            }
        }
    }

    async fn by_pages(
        &self,
        session: &Session,
        (index, part, range): (usize, &Part, pages::Range),
        at: Option<&At>,
        start: &mut Start,
    ) -> Result<String, SourceError> {
        let snapshot = self.share(session).await?;
        let (file, _) = snapshot.part(index);
        let from = match at {
            Some(At::Page { file: before, .. }) if *before != file => {
                let (split, table) = (start.split.clone(), part.name.clone());
                return Err(ReadFault::Rewritten { split, table }.into());
            }
            Some(At::Page { page, row, .. }) => {
                start.page = *page;
                format!("t.ctid > '({page},{row})'")
            }
            _ => {
                start.page = range.low;
                format!("t.ctid >= '({},0)'", range.low)
            }
        };
        start.pages = Some(Pages { file, page_bytes: snapshot.page_bytes });
        let end = range.end.map(|end| format!(" AND t.ctid < '({end},0)'")).unwrap_or_default();
        let mut columns = self.plan.select();
        if !columns.is_empty() {
            columns.push_str(", ");
        }
        Ok(format!("SELECT {columns}t.ctid FROM ONLY {} AS t WHERE {from}{end}", part.sql))
    }
}

impl Postgres {
    fn wire_format(&self) -> Option<WireFormat> {
        column::wire(self.plan.columns.iter().map(|column| &column.of))
    }
}

impl WireSource for Postgres {
    fn format(&self) -> WireFormat {
        self.wire_format().unwrap_or_else(|| WireFormat(String::new()))
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn WireReader>, SourceError> {
        let (split, after) = (split.clone(), after.cloned());
        Box::pin(async move {
            let reader = self.reader(split, after).await?;
            let reader: Box<dyn WireReader> = Box::new(Undecoded::new(reader));
            Ok(reader)
        })
    }
}

/// The ranges that have pages now, in order.
fn ranges(parts: &[Part], snapshot: &Snapshot) -> Vec<Split> {
    let mut splits = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let (_, pages) = snapshot.part(index);
        for number in 0..pages::ranges(pages) {
            let range = pages::Range::of(number);
            let end = range.end.unwrap_or(pages).min(pages);
            let bytes = u64::from(end.saturating_sub(range.low)).saturating_mul(snapshot.page_bytes);
            splits.push(Split { id: pages::split(part, number), source_bytes: Some(bytes) });
        }
    }
    splits
}

/// Whether a position can be one of this reading.
fn fits(mark: &Mark, plan: &Plan) -> bool {
    match (&plan.walk, &mark.at) {
        (Walk::Pages(_), At::Page { .. }) | (Walk::Number | Walk::Marked(_), At::Number) => true,
        (Walk::Key | Walk::Cursor(_), At::Key { key, .. }) => key.len() == plan.keys.len(),
        _ => false,
    }
}

/// What a snapshot cannot check.
const STAYS: &str = "between a run that was interrupted and the one that goes on, rows of the table stay as they are: one that is updated meanwhile is moved again or missed, one that is inserted into free space behind the position is missed (`read: incremental` follows changes, `hapax verify` finds what was missed)";

/// What reading by a key cannot check.
const KEPT: &str =
    "rows behind the position stay as they were read: a later run moves only rows with greater keys";

/// What a query without a key cannot check.
const REPEATS: &str = "the query gives the same rows in the same order whenever it is asked, because it has no key to go on from";

/// What a cursor of transactions cannot check.
const BY_TRANSACTION: &str = "each transaction that writes a row sets its cursor to its own number (`pg_current_xact_id()`), and rows are not deleted";

/// What a cursor of the database's time cannot check.
const BY_CLOCK: &str = "each transaction that writes a row sets its cursor to a time of its own, not before it began (`now()`), the server's clock does not go back, and rows are not deleted";

/// What a cursor of an application's time cannot check.
const BY_PROGRAM: &str = "every write of a row sets its cursor, no row appears later after that than `lateness` says, and rows are not deleted";

/// What a mark cannot check.
const MARKED: &str = "nobody but Hapax marks a row that waits, and a row that is marked does not wait again";

impl Source for Postgres {
    fn facts(&self) -> SourceFacts {
        let facts = SourceFacts {
            completeness: Completeness::Complete,
            replay: Replay::Exact,
            retention: Retention::Unbounded,
            order: Order::None,
            settle: Settle::Seek,
            condition: Some(STAYS),
        };
        match self.plan.walk {
            Walk::Pages(_) => facts,
            Walk::Key => SourceFacts { condition: Some(KEPT), ..facts },
            // A query without a key has only the numbers of its rows, which a write may shift.
            Walk::Number => SourceFacts { replay: Replay::Unidentified, condition: Some(REPEATS), ..facts },
            Walk::Cursor(Horizon::Transaction) => {
                SourceFacts { order: Order::PerKey, condition: Some(BY_TRANSACTION), ..facts }
            }
            Walk::Cursor(Horizon::Beginning) => {
                SourceFacts { order: Order::PerKey, condition: Some(BY_CLOCK), ..facts }
            }
            // What is read again has another number than before: only a key tells that it is the same.
            Walk::Cursor(Horizon::Late(lateness)) => SourceFacts {
                completeness: Completeness::Late { lateness, lookback: lateness },
                replay: Replay::Unidentified,
                order: Order::PerKey,
                condition: Some(BY_PROGRAM),
                ..facts
            },
            Walk::Marked(_) => SourceFacts {
                replay: Replay::Unidentified,
                settle: if self.joint.is_some() { Settle::MarkWithEffect } else { Settle::Mark },
                condition: Some(MARKED),
                ..facts
            },
        }
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.schema)
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        Box::pin(self.list())
    }

    fn arrangement(&self) -> Arrangement {
        match self.plan.walk {
            // Locks keep the workers apart, and nobody promises which comes first.
            Walk::Marked(_) => Arrangement::Partitions,
            _ => Arrangement::Sequence,
        }
    }

    fn extent(&self) -> Extent {
        match self.plan.walk {
            Walk::Marked(_) | Walk::Cursor(Horizon::Transaction | Horizon::Beginning) => Extent::Growing,
            // Whoever looks back would do it again with each look.
            Walk::Cursor(Horizon::Late(_)) | Walk::Pages(_) | Walk::Key | Walk::Number => Extent::Bounded,
        }
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        Box::pin(self.begin(split.clone(), after.cloned()))
    }

    fn wire(&self) -> Option<&dyn WireSource> {
        let plan = &self.plan;
        let as_it_is = plan
            .schema
            .fields()
            .iter()
            .zip(plan.decoded.fields())
            .all(|(delivered, decoded)| delivered.data_type() == decoded.data_type());
        // A key that only the file knows is held against the rows.
        let looks_inside = plan.declared || matches!(plan.walk, Walk::Marked(_));
        (as_it_is && !looks_inside && self.wire_format().is_some()).then_some(self)
    }

    fn describe(&self, position: &Position) -> String {
        let Some(mark) = Mark::decode(position) else {
            return format!("{position:?}, not a position of PostgreSQL");
        };
        let behind = format!("behind record {}", mark.ordinal);
        match mark.at {
            At::Number => behind,
            At::Page { page, row, .. } => format!("{behind}, page {page} row {row}"),
            At::Key { key, .. } => {
                let names = self.plan.key_columns().map(|column| column.name.as_str());
                let key: Vec<_> = names.zip(&key).map(|(name, value)| format!("{name} {value}")).collect();
                format!("{behind}, {}", key.join(", "))
            }
        }
    }

    fn rejects_with(&self, code: Code) -> bool {
        code == codes::VALUE_MISFIT
    }

    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        let letter = letter.clone();
        Box::pin(async move {
            let session = self.database.session().await?;
            letter::reread(&session, &self.plan, &letter).await
        })
    }
}
