//! The body of each record that is sent.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use bytes::Bytes;
use hapax_protocol::code::Code;

use super::{Format, as_objects, not_finite};

/// The one column that `format: raw` sends; `None` if there is not exactly one, of bytes or text.
pub fn raw_column(schema: &Schema) -> Option<usize> {
    match schema.fields().iter().as_slice() {
        [field] if matches!(field.data_type(), DataType::Binary | DataType::Utf8) => Some(0),
        _ => None,
    }
}

/// The body of each row; an error says why a row has none.
pub fn encode(records: &RecordBatch, format: Format) -> Result<Vec<Result<Bytes, String>>, ArrowError> {
    if format == Format::Raw {
        return Ok((0..records.num_rows()).map(|row| raw(records, row)).collect());
    }
    let objects = as_objects(records)?;
    let body = |row| Ok(objects.shared(row));
    let mut bodies: Vec<_> = (0..records.num_rows()).map(body).collect();
    for refused in not_finite(records, Code(0)) {
        if let Some(body) = bodies.get_mut(refused.row) {
            *body = Err(refused.reason);
        }
    }
    Ok(bodies)
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
