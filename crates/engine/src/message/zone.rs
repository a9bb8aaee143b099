//! Times with the name of a zone, as text.
//!
//! Text says an instant by its offset. A named zone has no single offset and its rules change, so text
//! has such instants in UTC: the same instants, ending in `Z`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;

/// The columns with every named zone replaced by UTC; `None` if there is none.
pub fn in_utc(schema: &Schema) -> Option<SchemaRef> {
    let fields: Fields = schema.fields().iter().map(field).collect();
    (fields != *schema.fields()).then(|| Arc::new(Schema::new(fields)))
}

/// The records with every named zone replaced by UTC.
pub fn records_in_utc(records: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let Some(schema) = in_utc(records.schema_ref()) else { return Ok(records.clone()) };
    let columns = records.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
}

fn field(from: &FieldRef) -> FieldRef {
    Arc::new(Field::clone(from).with_data_type(data_type(from.data_type())))
}

fn data_type(from: &DataType) -> DataType {
    match from {
        DataType::Timestamp(unit, Some(zone)) if !zone.starts_with(['+', '-']) => {
            DataType::Timestamp(*unit, Some("+00:00".into()))
        }
        DataType::List(item) => DataType::List(field(item)),
        DataType::LargeList(item) => DataType::LargeList(field(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(field(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        other => other.clone(),
    }
}
