//! A batch into the table: as a file where that is allowed and nothing speaks against it, else by inserts, halved
//! until the rows stand alone that the table refuses.

use std::ops::Range;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::StreamExt as _;
use hapax_engine::fault::SinkError;
use hapax_engine::transform::RefusedRow;
use mysql_async::prelude::Queryable;
use mysql_async::{Error, Row, ServerError};

use super::plan::Plan;
use super::values::{Columns, Form};
use crate::client::{Session, text};
use crate::codes;
use crate::fault::DatabaseFault;

/// The most rows of one insert.
const ROWS_MAX: usize = 1_000;

/// The most bytes of one insert's values.
const INSERT_BYTES_MAX: usize = 1024 * 1024;

/// How much room a statement needs beside one row's values, in bytes.
const STATEMENT_BYTES: u64 = 64 * 1024;

/// How much of a file is handed over at once, in bytes.
const FILE_BYTES: usize = 256 * 1024;

/// Two rows have the same key.
const DUPLICATE: u16 = 1062;

const DOING: &str = "inserting";

/// Rows as text, one behind the other.
struct Text {
    bytes: Vec<u8>,
    /// Of each row: its number in the batch and where its text stands.
    rows: Vec<(usize, Range<usize>)>,
    refused: Vec<RefusedRow>,
}

impl Text {
    fn of(columns: &Columns<'_>, records: usize, form: Form, row_bytes_max: usize) -> Self {
        let mut text = Self { bytes: Vec::new(), rows: Vec::with_capacity(records), refused: Vec::new() };
        for row in 0..records {
            let start = text.bytes.len();
            if let Err((code, reason)) = columns.push(row, form, &mut text.bytes) {
                text.refused.push(RefusedRow { row, code, reason });
                continue;
            }
            let length = text.bytes.len() - start;
            if length > row_bytes_max {
                text.bytes.truncate(start);
                let reason =
                    format!("the row takes {length} bytes of SQL, and the server takes {row_bytes_max}");
                text.refused.push(RefusedRow { row, code: codes::VALUE_UNHELD, reason });
                continue;
            }
            text.rows.push((row, start..text.bytes.len()));
        }
        text
    }

    /// Runs of rows that fit one insert each.
    fn chunks(&self) -> Vec<Range<usize>> {
        let mut chunks: Vec<Range<usize>> = Vec::new();
        let mut bytes = 0;
        for (index, (_, text)) in self.rows.iter().enumerate() {
            match chunks.last_mut() {
                Some(chunk) if chunk.len() < ROWS_MAX && bytes + text.len() <= INSERT_BYTES_MAX => {
                    chunk.end = index + 1;
                    bytes += text.len();
                }
                _ => {
                    chunks.push(index..index + 1);
                    bytes = text.len();
                }
            }
        }
        chunks
    }
}

/// Writes a batch in the open transaction, and returns the rows that MySQL cannot hold or the table does not take.
pub(crate) async fn insert(
    session: &mut Session,
    plan: &Plan,
    records: &RecordBatch,
) -> Result<Vec<RefusedRow>, SinkError> {
    let columns = Columns::of(plan, records)?;
    if let (Some(load), true) = (&plan.load, session.takes_files) {
        let file = Text::of(&columns, records.num_rows(), Form::File, usize::MAX);
        if loaded(session, load, file.bytes, file.rows.len()).await? {
            return Ok(file.refused);
        }
    }
    let text = Text::of(&columns, records.num_rows(), Form::Sql, row_bytes_max(session));
    let mut todo: Vec<Range<usize>> = text.chunks();
    todo.reverse();
    let mut refused = Vec::new();
    while let Some(chunk) = todo.pop() {
        let Some(said) = tried(session, plan, &text, &chunk).await? else { continue };
        match (chunk.len(), text.rows.get(chunk.start)) {
            (1, Some((row, _))) => refused.push(RefusedRow {
                row: *row,
                code: codes::ROW_REFUSED,
                reason: format!("table {} refused it: {said}", plan.table),
            }),
            (length, _) => {
                let middle = chunk.start + length / 2;
                todo.push(middle..chunk.end);
                todo.push(chunk.start..middle);
            }
        }
    }
    Ok(in_order(text.refused, refused))
}

/// Writes a batch row by row, and refuses each whose key is there.
pub(crate) async fn insert_absent(
    session: &mut Session,
    plan: &Plan,
    records: &RecordBatch,
) -> Result<Vec<RefusedRow>, SinkError> {
    let columns = Columns::of(plan, records)?;
    let text = Text::of(&columns, records.num_rows(), Form::Sql, row_bytes_max(session));
    let plain = Plan { tail: String::new(), ..plan.clone() };
    let mut refused = Vec::new();
    for (index, (row, _)) in text.rows.iter().enumerate() {
        match told(session, &plain, &text, &(index..index + 1)).await? {
            None => {}
            Some(Said::Refusal(ServerError { code: DUPLICATE, .. })) => {
                refused.push(RefusedRow::key_is_there(*row));
            }
            Some(said) => refused.push(RefusedRow {
                row: *row,
                code: codes::ROW_REFUSED,
                reason: format!("table {} refused it: {}", plan.table, said.words()),
            }),
        }
    }
    Ok(in_order(text.refused, refused))
}

fn in_order(mut one: Vec<RefusedRow>, other: Vec<RefusedRow>) -> Vec<RefusedRow> {
    one.extend(other);
    one.sort_by_key(|refused| refused.row);
    one
}

fn row_bytes_max(session: &Session) -> usize {
    usize::try_from(session.packet_bytes_max.saturating_sub(STATEMENT_BYTES)).unwrap_or(usize::MAX)
}

/// Takes rows as a file. LOCAL leaves out rows with a key that is there, and bends values that do not fit, with a
/// warning: if there is one, or a row too few, everything of the file is taken back. Whether it stays.
async fn loaded(
    session: &mut Session,
    load: &str,
    file: Vec<u8>,
    rows: usize,
) -> Result<bool, DatabaseFault> {
    if rows == 0 {
        return Ok(true);
    }
    session.say(DOING, "SAVEPOINT hapax").await?;
    let file = Bytes::from(file);
    session.connection.set_infile_handler(async move {
        let starts = (0..file.len()).step_by(FILE_BYTES);
        let parts: Vec<std::io::Result<Bytes>> =
            starts.map(|start| Ok(file.slice(start..(start + FILE_BYTES).min(file.len())))).collect();
        Ok(futures::stream::iter(parts).boxed())
    });
    match session.connection.query_drop(load).await {
        Ok(()) => {
            let all = session.connection.affected_rows() == u64::try_from(rows).unwrap_or(u64::MAX);
            if all && session.connection.get_warnings() == 0 {
                return Ok(true);
            }
        }
        Err(Error::Server(said)) if is_refusal(&said) => {}
        // MySQL lets the server forbid it at any time, and a proxy may.
        Err(Error::Server(ServerError { code: 1148 | 3948 | 4166, .. })) => session.takes_files = false,
        Err(source) => return Err(session.fault(DOING, source)),
    }
    session.say(DOING, "ROLLBACK TO SAVEPOINT hapax").await?;
    Ok(false)
}

/// What speaks against rows.
enum Said {
    Refusal(ServerError),
    Warning(String),
}

impl Said {
    fn words(self) -> String {
        match self {
            Self::Refusal(said) => said.message,
            Self::Warning(said) => said,
        }
    }
}

async fn tried(
    session: &mut Session,
    plan: &Plan,
    text: &Text,
    chunk: &Range<usize>,
) -> Result<Option<String>, DatabaseFault> {
    Ok(told(session, plan, text, chunk).await?.map(Said::words))
}

/// Inserts rows. `Some` if the table refuses them, or would change what they say: then none of them is there.
async fn told(
    session: &mut Session,
    plan: &Plan,
    text: &Text,
    chunk: &Range<usize>,
) -> Result<Option<Said>, DatabaseFault> {
    let rows = text.rows.get(chunk.clone()).unwrap_or_default();
    let mut sql = plan.head.clone().into_bytes();
    for (index, (_, at)) in rows.iter().enumerate() {
        if index > 0 {
            sql.push(b',');
        }
        sql.extend_from_slice(text.bytes.get(at.clone()).unwrap_or_default());
    }
    sql.extend_from_slice(plan.tail.as_bytes());
    session.say(DOING, "SAVEPOINT hapax").await?;
    let said = match session.connection.query_drop(sql).await {
        Ok(()) if session.connection.get_warnings() == 0 => return Ok(None),
        Ok(()) => Said::Warning(warning(session).await?),
        Err(Error::Server(said)) if is_refusal(&said) => Said::Refusal(said),
        Err(source) => return Err(session.fault(DOING, source)),
    };
    session.say(DOING, "ROLLBACK TO SAVEPOINT hapax").await?;
    Ok(Some(said))
}

/// The first warning of the last statement.
async fn warning(session: &mut Session) -> Result<String, DatabaseFault> {
    let rows: Result<Vec<Row>, Error> = session.connection.query("SHOW WARNINGS LIMIT 1").await;
    let rows = rows.map_err(|source| session.fault(DOING, source))?;
    Ok(rows.first().and_then(|row| text(row, 2)).unwrap_or_else(|| "a warning without words".to_owned()))
}

/// Whether the server speaks against rows for what they contain: SQLSTATE classes 22, 23 and 45, and what it forgot
/// to put there.
fn is_refusal(said: &ServerError) -> bool {
    let class = said.state.get(..2).unwrap_or_default();
    matches!(class, "22" | "23" | "45") || matches!(said.code, 1265 | 1364 | 1366 | 1411 | 3819 | 4025 | 1525)
}
