//! Reading one split, a page at a time.

use std::sync::Arc;

use arrow::array::RecordBatch;
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit, Rejected};
use hapax_engine::durable::Durable;
use hapax_engine::fault::SourceError;
use hapax_engine::source::SplitReader;
use hapax_planted::{Mistake, planted};
use hapax_protocol::position::{Ordinal, Position, SplitId};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};

use super::cells::Range;
use super::letter;
use super::plan::{Failure, Plan, Walk};
use super::position::{Mark, words};
use super::rows::Rows;
use crate::codes;
use crate::config::SourceConfig;
use crate::connection::{Shared, aside, lock, quoted};
use crate::fault::ReadFault;

/// A place in one split of a table or a query.
pub(crate) struct Reader {
    pub(super) config: Arc<SourceConfig>,
    pub(super) plan: Arc<Plan>,
    pub(super) split: SplitId,
    pub(super) range: Range,
    pub(super) shared: Shared,
    pub(super) after: Option<Position>,
    pub(super) mark: Option<Mark>,
}

impl SplitReader for Reader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(async move {
            let page = Page {
                split: self.split.clone(),
                plan: Arc::clone(&self.plan),
                range: self.range,
                mark: self.mark.clone(),
                limit,
            };
            let shared = Arc::clone(&self.shared);
            let read = aside(&self.config.path, move || page.read(&lock(&shared))).await?;
            let Some(read) = read.map_err(|failure| failure.at(&self.config.path, "reading"))? else {
                return Ok(None);
            };
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

    fn acknowledge(&mut self, _through: Durable<Position>) -> Fut<'_, (), SourceError> {
        // A table forgets nothing.
        Box::pin(std::future::ready(Ok(())))
    }
}

/// One read.
struct Page {
    split: SplitId,
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
}

/// The rows of one read while they are collected.
struct Collected {
    rows: Rows,
    rejected: Vec<Rejected>,
    taken: u64,
    last: Vec<Value>,
}

impl Page {
    fn read(&self, connection: &Connection) -> Result<Option<Records>, Failure> {
        // What one page reads, it reads of one state; a longer one would keep the log from being folded.
        if connection.is_autocommit() {
            connection.execute_batch("BEGIN")?;
        }
        let read = self.collect(connection);
        // The numbering of a query holds for one state only: it is kept to the end.
        if self.plan.walk != Walk::Numbered {
            connection.execute_batch("COMMIT")?;
        }
        read
    }

    fn collect(&self, connection: &Connection) -> Result<Option<Records>, Failure> {
        if let Some(mark) = &self.mark {
            // A VACUUM between two pages may have given the row ids to other rows.
            super::still_there(connection, &self.plan, &self.split, mark)?;
        }
        let first = self.mark.as_ref().map_or(0, |mark| mark.ordinal);
        let collected = self.rows(connection, first)?;
        if collected.taken == 0 {
            return Ok(None);
        }
        let digest = match self.plan.walk {
            Walk::RowIds { loose: true } => digest(connection, &self.plan, collected.last.last())?,
            _ => None,
        };
        let bytes = u64::try_from(collected.rows.bytes()).unwrap_or(u64::MAX);
        let (records, kept) = collected.rows.finish()?;
        let all = Ordinals::From(first);
        let ordinals = match kept {
            None => all,
            Some(kept) => all.pick(kept),
        };
        let mark = Mark { ordinal: first.saturating_add(collected.taken), key: collected.last, digest };
        Ok(Some(Records { mark, records, ordinals, rejected: collected.rejected, bytes }))
    }

    fn rows(&self, connection: &Connection, first: Ordinal) -> Result<Collected, Failure> {
        let plan = &self.plan;
        let mut statement = connection.prepare_cached(&self.sql(first))?;
        let bound = self.mark.as_ref().map_or(&[][..], |mark| mark.key.as_slice());
        let bound = if self.bare() { bound.get(..1).unwrap_or_default() } else { bound };
        let mut rows = statement.query(params_from_iter(bound))?;
        let width = plan.schema.fields().len();
        let mut collected =
            Collected { rows: Rows::new(&plan.schema)?, rejected: Vec::new(), taken: 0, last: Vec::new() };
        // Two keys take turns, so that a row costs no memory of its own.
        let mut key: Vec<Value> = Vec::with_capacity(plan.keys.len());
        while let Some(row) = rows.next()? {
            let full = collected.rows.bytes() >= self.limit.bytes_max && collected.taken > 0;
            let enough = full || collected.taken >= u64::try_from(self.limit.records_max).unwrap_or(u64::MAX);
            key.clear();
            for index in width..width + plan.keys.len() {
                key.push(row.get(index)?);
            }
            if plan.walk == Walk::UniqueCursor && key == collected.last && collected.taken > 0 {
                return Err(tied(plan, &key).into());
            }
            if enough {
                break;
            }
            let pushed = collected.rows.push(|index| row.get_ref(index).unwrap_or(ValueRef::Null));
            if let Err(reason) = pushed {
                let ordinal = first.saturating_add(collected.taken);
                let raw = raw(row, plan, key.last());
                collected.rejected.push(Rejected {
                    ordinal,
                    code: codes::VALUE_MISFIT,
                    reason,
                    id: None,
                    raw,
                });
            }
            collected.taken += 1;
            std::mem::swap(&mut collected.last, &mut key);
        }
        Ok(collected)
    }

    /// Whether rows are to be taken up behind the cursor alone: the planted mistake.
    fn bare(&self) -> bool {
        planted(Mistake::BareCursor) && self.plan.walk == Walk::Cursor
    }

    fn sql(&self, first: Ordinal) -> String {
        let plan = &self.plan;
        let mut columns: Vec<_> = plan.schema.fields().iter().map(|field| quoted(field.name())).collect();
        columns.extend(plan.keys.iter().cloned());
        if columns.is_empty() {
            columns.push("1".to_owned());
        }
        let (columns, from) = (columns.join(", "), &plan.from);
        // One row more than asked for tells whether the next cursor is the same.
        let limit = self.limit.records_max.saturating_add(usize::from(plan.walk == Walk::UniqueCursor));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        if plan.walk == Walk::Numbered {
            return format!("SELECT {columns} FROM {from} LIMIT {limit} OFFSET {first}");
        }
        let mut conditions = Vec::new();
        // SQLite seeks to one lower bound only: of two it would walk from the first of the split to the second.
        if let (Some(low), Some(rowid), None) = (self.range.low, &plan.rowid, &self.mark) {
            conditions.push(format!("{rowid} >= {low}"));
        }
        if let (Some(end), Some(rowid)) = (self.range.end, &plan.rowid) {
            conditions.push(format!("{rowid} < {end}"));
        }
        let keys = plan.keys.join(", ");
        match (&self.mark, &plan.cursor) {
            (Some(_), Some(cursor)) if self.bare() => conditions.push(format!("{} > ?1", quoted(cursor))),
            (Some(_), _) if plan.keys.len() == 1 => conditions.push(format!("{keys} > ?1")),
            (Some(_), _) => {
                let holes: Vec<_> = (1..=plan.keys.len()).map(|index| format!("?{index}")).collect();
                conditions.push(format!("({keys}) > ({})", holes.join(", ")));
            }
            (None, Some(cursor)) => conditions.push(format!("{} IS NOT NULL", quoted(cursor))),
            (None, None) => {}
        }
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        format!("SELECT {columns} FROM {from}{filter} ORDER BY {keys} LIMIT {limit}")
    }
}

fn tied(plan: &Plan, key: &[Value]) -> ReadFault {
    ReadFault::CursorTied {
        column: plan.cursor.clone().unwrap_or_default(),
        value: key.first().map(words).unwrap_or_default(),
    }
}

/// A row as JSON, with its row id where it has one.
fn raw(row: &Row<'_>, plan: &Plan, last: Option<&Value>) -> String {
    let mut object = serde_json::Map::new();
    if let (Some(_), Some(Value::Integer(rowid))) = (&plan.rowid, last) {
        object.insert(letter::ROWID.to_owned(), (*rowid).into());
    }
    for (index, field) in plan.schema.fields().iter().enumerate() {
        let value = row.get_ref(index).unwrap_or(ValueRef::Null);
        object.insert(field.name().clone(), letter::json(value));
    }
    Rejected::excerpt(serde_json::Value::Object(object).to_string().as_bytes())
}

/// A digest of the row with this id: 64 bits, FNV-1a over its values. `None` if there is no such row.
pub(super) fn digest(
    connection: &Connection,
    plan: &Plan,
    rowid: Option<&Value>,
) -> Result<Option<u64>, rusqlite::Error> {
    let (Some(rowid), Some(name)) = (rowid, &plan.rowid) else { return Ok(None) };
    let columns: Vec<_> = plan.schema.fields().iter().map(|field| quoted(field.name())).collect();
    let columns = if columns.is_empty() { "1".to_owned() } else { columns.join(", ") };
    let sql = format!("SELECT {columns} FROM {} WHERE {name} = ?1", plan.from);
    let mut statement = connection.prepare_cached(&sql)?;
    let width = statement.column_count();
    let mut rows = statement.query([rowid])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut digest = Fnv(0xcbf2_9ce4_8422_2325);
    for index in 0..width {
        match row.get_ref(index)? {
            ValueRef::Null => digest.take(b"n"),
            ValueRef::Integer(number) => digest.tagged(b"i", &number.to_be_bytes()),
            ValueRef::Real(number) => digest.tagged(b"r", &number.to_bits().to_be_bytes()),
            ValueRef::Text(bytes) => digest.tagged(b"t", bytes),
            ValueRef::Blob(bytes) => digest.tagged(b"b", bytes),
        }
    }
    Ok(Some(digest.0))
}

struct Fnv(u64);

impl Fnv {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn tagged(&mut self, tag: &[u8], bytes: &[u8]) {
        self.take(tag);
        self.take(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.take(bytes);
    }
}
