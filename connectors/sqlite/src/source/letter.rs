//! Dead letters: rows as JSON, and back.

use arrow::array::RecordBatch;
use hapax_engine::dead_letter::DeadLetter;
use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};
use serde_json::Value as Json;

use super::plan::{Failure, Plan};
use super::rows::Rows;
use crate::connection::quoted;
use crate::fault::ReadFault;

/// The name under which a row's id stands in its JSON.
pub(super) const ROWID: &str = "_rowid_";

/// A value as JSON; a blob as hexadecimal digits.
pub(super) fn json(value: ValueRef<'_>) -> Json {
    match value {
        ValueRef::Null => Json::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => serde_json::Number::from_f64(number).map_or(Json::Null, Json::Number),
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into(),
        ValueRef::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
    }
}

/// Reads the record of a dead letter again: its row as it is now, else the record as it was set aside.
pub(super) fn reread(
    connection: &Connection,
    plan: &Plan,
    letter: &DeadLetter,
) -> Result<RecordBatch, Failure> {
    let failed = |reason: String| ReadFault::Letter { place: letter.place.clone(), reason };
    let object = match serde_json::from_str(&letter.raw) {
        Ok(Json::Object(object)) => object,
        Ok(_) => return Err(failed("it was not kept as a record".to_owned()).into()),
        Err(_) => return Err(failed("only its beginning was kept".to_owned()).into()),
    };
    let mut rows = Rows::new(&plan.schema)?;
    let rowid = object.get(ROWID).and_then(Json::as_i64);
    let pushed = match (rowid, &plan.rowid) {
        (Some(rowid), Some(name)) => push_row(connection, plan, name, rowid, &mut rows)?,
        _ => None,
    };
    let pushed = pushed.unwrap_or_else(|| {
        let blob =
            |index: usize| plan.schema.fields().get(index).is_some_and(|field| is_blob(field.data_type()));
        let value = |(index, field): (usize, &std::sync::Arc<arrow::datatypes::Field>)| {
            object.get(field.name()).map_or(Value::Null, |json| of_json(json, blob(index)))
        };
        let values: Vec<Value> = plan.schema.fields().iter().enumerate().map(value).collect();
        rows.push(|index| values.get(index).map_or(ValueRef::Null, ValueRef::from))
    });
    pushed.map_err(failed)?;
    Ok(rows.finish()?.0)
}

/// Takes the row with this id; `None` if there is none.
fn push_row(
    connection: &Connection,
    plan: &Plan,
    name: &str,
    rowid: i64,
    rows: &mut Rows,
) -> Result<Option<Result<(), String>>, Failure> {
    let columns: Vec<_> = plan.schema.fields().iter().map(|field| quoted(field.name())).collect();
    let sql = format!("SELECT {} FROM {} WHERE {name} = ?1", columns.join(", "), plan.from);
    let mut statement = connection.prepare(&sql)?;
    let mut found = statement.query([rowid])?;
    let Some(row) = found.next()? else { return Ok(None) };
    Ok(Some(rows.push(|index| row.get_ref(index).unwrap_or(ValueRef::Null))))
}

fn is_blob(data_type: &arrow::datatypes::DataType) -> bool {
    use arrow::datatypes::DataType;
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    )
}

fn of_json(json: &Json, blob: bool) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Integer(i64::from(*value)),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Integer(number),
            (None, Some(number)) => Value::Real(number),
            (None, None) => Value::Text(number.to_string()),
        },
        Json::String(text) if blob => match unhex(text) {
            Some(bytes) => Value::Blob(bytes),
            None => Value::Text(text.clone()),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(_) | Json::Object(_) => Value::Text(json.to_string()),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? * 16 + digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}
