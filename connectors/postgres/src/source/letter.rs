//! Dead letters: rows as JSON, and back.

use arrow::array::RecordBatch;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use serde_json::{Map, Value as Json};

use super::copy::{Copied, Row, Trouble};
use super::plan::Plan;
use super::rows::Rows;
use crate::client::Session;
use crate::column::{Base, Column};
use crate::fault::ReadFault;
use crate::name::{literal, quoted};

/// Reads the record of a dead letter again: its row as it is now, else the record as it was set aside.
pub(super) async fn reread(
    session: &Session,
    plan: &Plan,
    letter: &DeadLetter,
) -> Result<RecordBatch, SourceError> {
    let failed = |reason: String| ReadFault::Letter { place: letter.place.clone(), reason };
    let object = match serde_json::from_str(&letter.raw) {
        Ok(Json::Object(object)) => object,
        Ok(_) => return Err(failed("it was not kept as a record".to_owned()).into()),
        Err(_) => return Err(failed("only its beginning was kept".to_owned()).into()),
    };
    session.batch_execute("BEGIN READ ONLY").await.map_err(session.fault("reading a dead letter again"))?;
    let now = match here(plan, &object) {
        Some(condition) => {
            let sql = format!("SELECT {} FROM {} AS t WHERE {condition} LIMIT 2", plan.select(), plan.from);
            one(session, &sql, &failed).await?
        }
        None => None,
    };
    let row = match now {
        Some(row) => row,
        None => {
            let values: Vec<_> = plan.columns.iter().map(|column| as_kept(column, &object)).collect();
            let kept = one(session, &format!("SELECT {}", values.join(", ")), &failed).await?;
            kept.ok_or_else(|| failed("it is no record any more".to_owned()))?
        }
    };
    let mut rows = Rows::new(plan);
    rows.push(&row, letter.place.ordinal);
    let done = rows.finish().map_err(|source| ReadFault::Batch { of: plan.name.clone(), source })?;
    match done.rejected.into_iter().next() {
        Some(rejected) => Err(failed(rejected.reason).into()),
        None => Ok(done.records),
    }
}

/// The condition of the row with the key of a letter; `None` if it has none.
fn here(plan: &Plan, object: &Map<String, Json>) -> Option<String> {
    let condition = |column: &Column| {
        let value = text(object.get(&column.name)?, column.of.base)?;
        Some(format!("t.{} = {}::{}", quoted(&column.name), literal(&value), column.of.plain))
    };
    let conditions: Option<Vec<_>> = plan.key_columns().map(condition).collect();
    conditions.filter(|all| !all.is_empty()).map(|all| all.join(" AND "))
}

/// A value as it was kept, in SQL.
fn as_kept(column: &Column, object: &Map<String, Json>) -> String {
    let name = quoted(&column.name);
    let value = object.get(&column.name).and_then(|json| text(json, column.of.base));
    let value = value.map_or("NULL".to_owned(), |value| literal(&value));
    let form = if column.of.base == Base::Other { "::text" } else { "" };
    format!("{value}::{}{form} AS {name}", column.of.plain)
}

/// A value in the text form of its type; `None` for NULL.
fn text(json: &Json, base: Base) -> Option<String> {
    match json {
        Json::Null => None,
        Json::String(text) if base == Base::Bytea => Some(format!("\\x{text}")),
        Json::String(text) => Some(text.clone()),
        Json::Array(elements) if !matches!(base, Base::Json | Base::Jsonb) => {
            let element = |json: &Json| match text(json, base) {
                None => "NULL".to_owned(),
                Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            };
            Some(format!("{{{}}}", elements.iter().map(element).collect::<Vec<_>>().join(",")))
        }
        other => Some(other.to_string()),
    }
}

/// The row that a SELECT gives, if it is one.
async fn one(
    session: &Session,
    sql: &str,
    failed: &impl Fn(String) -> ReadFault,
) -> Result<Option<Row>, SourceError> {
    let doing = "reading a dead letter again";
    let refused = |error: tokio_postgres::Error| match error.code() {
        // A value that is none of its type.
        Some(code) if code.code().starts_with("22") => SourceError::from(failed(crate::fault::words(&error))),
        _ => session.fault(doing)(error).into(),
    };
    let copy =
        session.copy_out(&format!("COPY ({sql}) TO STDOUT (FORMAT BINARY)")).await.map_err(&refused)?;
    let mut copied = Copied::new(copy);
    let mut rows = Vec::new();
    loop {
        match copied.next().await {
            Ok(Some(row)) => rows.push(row),
            Ok(None) => break,
            Err(Trouble::Server(error)) => return Err(refused(error)),
            Err(Trouble::Malformed) => return Err(failed("the server sent no row".to_owned()).into()),
        }
    }
    Ok(if rows.len() == 1 { rows.pop() } else { None })
}
