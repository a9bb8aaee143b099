//! Records as bodies of messages.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};
use arrow::error::ArrowError;
use bytes::Bytes;

use super::Format;

/// The one column that `format: raw` sends; `None` if there is not exactly one, of bytes or text.
pub fn raw_column(schema: &Schema) -> Option<usize> {
    match schema.fields().iter().as_slice() {
        [field] if matches!(field.data_type(), DataType::Binary | DataType::Utf8) => Some(0),
        _ => None,
    }
}

/// The body of each row; an error says why a row has none.
pub fn encode(records: &RecordBatch, format: Format) -> Result<Vec<Result<Bytes, String>>, ArrowError> {
    match format {
        Format::Json => json(records),
        Format::Raw => Ok((0..records.num_rows()).map(|row| raw(records, row)).collect()),
    }
}

fn raw(records: &RecordBatch, row: usize) -> Result<Bytes, String> {
    let column = raw_column(&records.schema()).map(|column| records.column(column));
    let column = column.ok_or_else(|| "the record is not one column of bytes or text".to_owned())?;
    match column.data_type() {
        _ if column.is_null(row) => Err("the body is NULL".to_owned()),
        DataType::Binary => Ok(Bytes::copy_from_slice(column.as_binary::<i32>().value(row))),
        _ => Ok(Bytes::copy_from_slice(column.as_string::<i32>().value(row).as_bytes())),
    }
}

fn json(records: &RecordBatch) -> Result<Vec<Result<Bytes, String>>, ArrowError> {
    let mut text = Vec::new();
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(&mut text);
    writer.write(records)?;
    writer.finish()?;
    drop(writer);
    let text = Bytes::from(text);
    let mut bodies = Vec::with_capacity(records.num_rows());
    let mut start = 0;
    // A line break inside a value is escaped.
    for end in memchr::memchr_iter(b'\n', &text) {
        let body = text.slice(start..end);
        start = end.saturating_add(1);
        bodies.push(match not_finite(records, bodies.len()) {
            None => Ok(body),
            // JSON would say null, and a reader would believe it.
            Some(column) => Err(format!("column {column} is not a finite number, which JSON cannot say")),
        });
    }
    Ok(bodies)
}

/// The first column with a NaN or an infinity in this row.
fn not_finite(records: &RecordBatch, row: usize) -> Option<String> {
    let found = records.columns().iter().position(|column| match column.data_type() {
        DataType::Float32 => {
            column.is_valid(row) && !column.as_primitive::<Float32Type>().value(row).is_finite()
        }
        DataType::Float64 => {
            column.is_valid(row) && !column.as_primitive::<Float64Type>().value(row).is_finite()
        }
        _ => false,
    });
    found.and_then(|column| records.schema().fields().get(column).map(|field| field.name().clone()))
}
