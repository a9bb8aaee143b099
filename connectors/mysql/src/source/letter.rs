//! Dead letters: rows as JSON, and back.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field};
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use mysql_async::{Params, Value};
use serde_json::Value as Json;

use super::plan::{Plan, Walk};
use super::position::words;
use super::rows::Rows;
use crate::client::{Session, quoted};
use crate::fault::ReadFault;

/// A value as JSON; bytes as hexadecimal digits.
pub(super) fn json(value: &Value, data_type: &DataType) -> Json {
    match value {
        Value::NULL => Json::Null,
        Value::Int(number) => (*number).into(),
        Value::UInt(number) => (*number).into(),
        Value::Float(number) => float(f64::from(*number)),
        Value::Double(number) => float(*number),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !is_bytes(data_type) => text.into(),
            _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        },
        Value::Date(..) | Value::Time(..) => words(value).into(),
    }
}

fn float(number: f64) -> Json {
    serde_json::Number::from_f64(number).map_or(Json::Null, Json::Number)
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    )
}

/// Reads the record of a dead letter again: its row as it is now, else the record as it was set aside.
pub(super) async fn reread(
    session: &mut Session,
    plan: &Plan,
    letter: &DeadLetter,
) -> Result<RecordBatch, SourceError> {
    let failed = |reason: String| ReadFault::Letter { place: letter.place.clone(), reason };
    let object = match serde_json::from_str(&letter.raw) {
        Ok(Json::Object(object)) => object,
        Ok(_) => return Err(failed("it was not kept as a record".to_owned()).into()),
        Err(_) => return Err(failed("only its beginning was kept".to_owned()).into()),
    };
    let value = |field: &Arc<Field>| match object.get(field.name()) {
        Some(json) => of_json(json, is_bytes(field.data_type())),
        None => Value::NULL,
    };
    let kept: Vec<Value> = plan.schema.fields().iter().map(value).collect();
    let now = row_now(session, plan, &kept).await?;
    let values = now.unwrap_or(kept);
    let mut rows = Rows::new(&plan.schema)?;
    rows.push(|index| values.get(index).unwrap_or(&Value::NULL)).map_err(failed)?;
    Ok(rows.finish()?.0)
}

/// The row that has the key of these values now; `None` if there is none, or the key is not among them.
async fn row_now(
    session: &mut Session,
    plan: &Plan,
    kept: &[Value],
) -> Result<Option<Vec<Value>>, SourceError> {
    if !matches!(plan.walk, Walk::Ranges | Walk::Key | Walk::Marked) {
        return Ok(None);
    }
    let (mut conditions, mut params) = (Vec::new(), Vec::new());
    for key in &plan.keys {
        let at = plan.schema.fields().iter().position(|field| quoted(field.name()) == key.sql);
        match at.and_then(|at| kept.get(at)) {
            Some(value) if *value != Value::NULL => params.push(value.clone()),
            _ => return Ok(None),
        }
        conditions.push(format!("{} = {}", key.sql, key.hole));
    }
    let columns: Vec<_> = plan.schema.fields().iter().map(|field| quoted(field.name())).collect();
    let sql = format!(
        "SELECT {} FROM {} WHERE {} LIMIT 1",
        columns.join(", "),
        plan.from,
        conditions.join(" AND ")
    );
    let row = session.first("reading a dead letter again", &sql, Params::Positional(params)).await?;
    Ok(row.map(mysql_async::Row::unwrap))
}

fn of_json(json: &Json, bytes: bool) -> Value {
    match json {
        Json::Null => Value::NULL,
        Json::Bool(value) => Value::Int(i64::from(*value)),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => Value::Int(number),
            (None, Some(number), _) => Value::UInt(number),
            (None, None, Some(number)) => Value::Double(number),
            (None, None, None) => Value::Bytes(number.to_string().into_bytes()),
        },
        Json::String(text) if bytes => Value::Bytes(unhex(text).unwrap_or_else(|| text.clone().into_bytes())),
        Json::String(text) => Value::Bytes(text.clone().into_bytes()),
        Json::Array(_) | Json::Object(_) => Value::Bytes(json.to_string().into_bytes()),
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
