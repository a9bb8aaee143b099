//! Reading one split, a page at a time.

use std::sync::Arc;

use arrow::array::RecordBatch;
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit, Rejected};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::source::SplitReader;
use hapax_planted::{Mistake, planted};
use hapax_protocol::position::{Position, SplitId};
use mysql_async::prelude::Queryable;
use mysql_async::{Params, Row, Value};
use tokio::task::JoinHandle;

use super::cells::Range;
use super::letter;
use super::plan::{Plan, Walk};
use super::poll::Poll;
use super::position::{Mark, words};
use super::rows::Rows;
use crate::client::{Address, Session, quoted};
use crate::codes;
use crate::fault::{DatabaseFault, ReadFault};

/// How many bytes a row is taken for before any was read: a page of rows that are larger is dropped in part.
const ROW_BYTES: usize = 1_024;

/// What a page brought.
struct Turned {
    /// The connection it came by, if that is still good.
    session: Option<Session>,
    /// The horizon it stood under.
    bound: Option<Value>,
    read: Result<Option<Records>, SourceError>,
}

/// A place in one split of a table or a query.
pub(crate) struct Reader {
    address: Arc<Address>,
    plan: Arc<Plan>,
    split: SplitId,
    range: Range,
    after: Option<Position>,
    mark: Option<Mark>,
    session: Option<Session>,
    /// The horizon of the last page. It stays good: what lay under it is there.
    bound: Option<Value>,
    row_bytes: usize,
    /// The page that is being read. It goes on where the future that began it was dropped.
    page: Option<JoinHandle<Turned>>,
    poll: Poll,
}

impl Reader {
    pub(crate) fn new(
        address: Arc<Address>,
        plan: Arc<Plan>,
        split: SplitId,
        range: Range,
        after: Option<Position>,
        mark: Option<Mark>,
    ) -> Self {
        let poll = Poll::every(plan.poll_ms);
        Self {
            poll,
            address,
            plan,
            split,
            range,
            after,
            mark,
            session: None,
            bound: None,
            row_bytes: ROW_BYTES,
            page: None,
        }
    }

    fn begin_page(&mut self, limit: ReadLimit) -> JoinHandle<Turned> {
        let rows = (limit.bytes_max / self.row_bytes.max(1)).clamp(1, limit.records_max.max(1));
        let page = Page {
            plan: Arc::clone(&self.plan),
            range: self.range,
            mark: self.mark.clone(),
            limit: ReadLimit { records_max: rows, ..limit },
        };
        let (address, session, bound) = (Arc::clone(&self.address), self.session.take(), self.bound.take());
        tokio::spawn(async move {
            let session = match session {
                Some(session) => Ok(session),
                None => page.connect(&address).await,
            };
            match session {
                Ok(mut session) => {
                    let mut bound = bound;
                    let read = page.turn(&mut session, &mut bound).await;
                    // A connection on which something went wrong is not trusted again.
                    Turned { session: read.is_ok().then_some(session), bound, read }
                }
                Err(fault) => Turned { session: None, bound: None, read: Err(fault.into()) },
            }
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(page) = &self.page {
            page.abort();
        }
    }
}

impl SplitReader for Reader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(async move {
            if self.page.is_none() {
                self.page = Some(self.begin_page(limit));
            }
            let Some(page) = &mut self.page else { return Ok(None) };
            let ended = page.await;
            self.page = None;
            let misunderstood = |_| DatabaseFault::Misunderstood {
                place: self.address.place().to_owned(),
                doing: "reading a page",
            };
            let Turned { session, bound, read } = ended.map_err(misunderstood)?;
            (self.session, self.bound) = (session, bound);
            let Some(read) = read? else { return Ok(None) };
            self.row_bytes = read.row_bytes;
            let through = read.mark.encode();
            let after = self.after.replace(through.clone());
            self.mark = Some(read.mark);
            Ok(Some(Batch {
                split: self.split.clone(),
                after,
                through,
                records: read.records,
                ordinals: read.ordinals,
                rejected: read.rejected,
                source_bytes: read.bytes,
            }))
        })
    }

    fn more(&mut self) -> Fut<'_, (), SourceError> {
        Box::pin(async {
            self.poll.wait().await;
            Ok(())
        })
    }

    fn acknowledge(&mut self, _through: Durable<Position>) -> Fut<'_, (), SourceError> {
        // A table forgets nothing.
        Box::pin(std::future::ready(Ok(())))
    }
}

/// One read.
struct Page {
    plan: Arc<Plan>,
    range: Range,
    mark: Option<Mark>,
    limit: ReadLimit,
}

/// What one read brought.
struct Records {
    mark: Mark,
    records: RecordBatch,
    ordinals: Ordinals,
    rejected: Vec<Rejected>,
    bytes: u64,
    row_bytes: usize,
}

impl Page {
    async fn connect(&self, address: &Address) -> Result<Session, DatabaseFault> {
        let mut session = address.connect().await?;
        if self.plan.walk == Walk::Numbered {
            // The numbering of rows holds for one state only: it is kept to the end.
            let doing = "opening a snapshot";
            session.say(doing, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
            session.say(doing, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
        }
        Ok(session)
    }

    /// Reads under the horizon of before, and under a new one if there is nothing.
    async fn turn(
        &self,
        session: &mut Session,
        bound: &mut Option<Value>,
    ) -> Result<Option<Records>, SourceError> {
        let Some(horizon) = self.plan.horizon.as_ref().filter(|_| !planted(Mistake::BareCursor)) else {
            return self.read(session, None).await;
        };
        if let Some(before) = bound
            && let Some(records) = self.read(session, Some(before.clone())).await?
        {
            return Ok(Some(records));
        }
        // Asked for before the rows: what commits in between lies above it.
        let now = horizon.now(session).await?;
        *bound = Some(now.clone());
        self.read(session, Some(now)).await
    }

    async fn read(
        &self,
        session: &mut Session,
        bound: Option<Value>,
    ) -> Result<Option<Records>, SourceError> {
        let first = self.mark.as_ref().map_or(0, |mark| mark.ordinal);
        let (sql, params) = self.sql(bound);
        let width = self.plan.schema.fields().len();
        let mut rows = Rows::new(&self.plan.schema)?;
        let (mut rejected, mut taken, mut last) = (Vec::new(), 0_u64, Vec::<Value>::new());
        let fault = |place: &str, source| DatabaseFault::of(place, "reading", source);
        let place = session.place().to_owned();
        let found = session.connection.exec_iter(sql, params).await;
        let mut found = found.map_err(|source| fault(&place, source))?;
        let most = u64::try_from(self.limit.records_max).unwrap_or(u64::MAX);
        while let Some(row) = found.next().await.map_err(|source| fault(&place, source))? {
            let key: Vec<Value> = (width..width + self.plan.keys.len())
                .filter_map(|index| row.as_ref(index).cloned())
                .collect();
            if self.plan.walk == Walk::UniqueCursor && key == last && taken > 0 {
                return Err(self.tied(&key).into());
            }
            if taken >= most || (rows.bytes() >= self.limit.bytes_max && taken > 0) {
                break;
            }
            if let Err(reason) = rows.push(|index| row.as_ref(index).unwrap_or(&Value::NULL)) {
                let ordinal = first.saturating_add(taken);
                rejected.push(Rejected {
                    ordinal,
                    code: codes::VALUE_MISFIT,
                    reason,
                    id: None,
                    raw: raw(&self.plan, &row),
                });
            }
            taken += 1;
            last = key;
        }
        found.drop_result().await.map_err(|source| fault(&place, source))?;
        if taken == 0 {
            return Ok(None);
        }
        let bytes = rows.bytes();
        let (records, kept) = rows.finish()?;
        let all = Ordinals::From(first);
        let ordinals = match kept {
            None => all,
            Some(kept) => all.pick(kept),
        };
        let mark = Mark { ordinal: first.saturating_add(taken), key: last };
        let row_bytes = bytes / usize::try_from(taken).unwrap_or(usize::MAX).max(1) + 1;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Ok(Some(Records { mark, records, ordinals, rejected, bytes, row_bytes }))
    }

    /// The statement of a page, and what stands for its holes.
    fn sql(&self, bound: Option<Value>) -> (String, Params) {
        let plan = &self.plan;
        let mut columns: Vec<_> = plan.schema.fields().iter().map(|field| quoted(field.name())).collect();
        columns.extend(plan.keys.iter().map(|key| key.sql.clone()));
        if columns.is_empty() {
            columns.push("1".to_owned());
        }
        let (columns, from) = (columns.join(", "), &plan.from);
        // One row more than asked for tells whether the next cursor is the same.
        let limit = self.limit.records_max.saturating_add(usize::from(plan.walk == Walk::UniqueCursor));
        if plan.walk == Walk::Numbered {
            let first = self.mark.as_ref().map_or(0, |mark| mark.ordinal);
            return (format!("SELECT {columns} FROM {from} LIMIT {limit} OFFSET {first}"), Params::Empty);
        }
        let (mut conditions, mut params) = (Vec::new(), Vec::new());
        if let Some(key) = plan.keys.first() {
            if let (Some(low), None) = (self.range.low, &self.mark) {
                conditions.push(format!("{} >= {low}", key.sql));
            }
            if let Some(end) = self.range.end {
                conditions.push(format!("{} < {end}", key.sql));
            }
            if let Some(bound) = bound {
                conditions.push(format!("{} < ?", key.sql));
                params.push(bound);
            }
        }
        if let Some(mark) = &self.mark {
            conditions.push(self.behind(&mark.key, &mut params));
        }
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        let keys: Vec<_> = plan.keys.iter().map(|key| key.sql.as_str()).collect();
        let sql = format!("SELECT {columns} FROM {from}{filter} ORDER BY {} LIMIT {limit}", keys.join(", "));
        (sql, if params.is_empty() { Params::Empty } else { Params::Positional(params) })
    }

    /// That a row lies behind a key. MySQL finds no range of an index by `(a, b) > (?, ?)`, so it is spelt out, with
    /// the range of the first column before it.
    fn behind(&self, key: &[Value], params: &mut Vec<Value>) -> String {
        let keys = &self.plan.keys;
        let (Some(first), Some(value)) = (keys.first(), key.first()) else { return "true".to_owned() };
        if keys.len() == 1 || (planted(Mistake::BareCursor) && self.plan.walk == Walk::Cursor) {
            params.push(value.clone());
            return format!("{} > {}", first.sql, first.hole);
        }
        params.push(value.clone());
        let mut cases = Vec::new();
        for upto in 0..keys.len() {
            let mut parts = Vec::new();
            for (index, (column, value)) in keys.iter().zip(key).take(upto + 1).enumerate() {
                let sign = if index == upto { '>' } else { '=' };
                parts.push(format!("{} {sign} {}", column.sql, column.hole));
                params.push(value.clone());
            }
            cases.push(format!("({})", parts.join(" AND ")));
        }
        format!("{} >= {} AND ({})", first.sql, first.hole, cases.join(" OR "))
    }

    fn tied(&self, key: &[Value]) -> ReadFault {
        ReadFault::CursorTied {
            column: self.plan.cursor.clone().unwrap_or_default(),
            value: key.first().map(words).unwrap_or_default(),
        }
    }
}

/// A row as JSON.
pub(super) fn raw(plan: &Plan, row: &Row) -> String {
    let mut object = serde_json::Map::new();
    for (index, field) in plan.schema.fields().iter().enumerate() {
        let value = row.as_ref(index).unwrap_or(&Value::NULL);
        object.insert(field.name().clone(), letter::json(value, field.data_type()));
    }
    Rejected::excerpt(serde_json::Value::Object(object).to_string().as_bytes())
}
