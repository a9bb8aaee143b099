//! Times with the name of a zone, as text.
//!
//! Text says an instant by its offset. A named zone has no single offset and its rules change, so text
//! has such instants in UTC: the same instants, ending in `Z`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;

/// The columns with every named zone replaced by UTC; `None` if there is none.
pub(crate) fn in_utc(schema: &Schema) -> Option<SchemaRef> {
    let fields: Fields = schema.fields().iter().map(field).collect();
    (fields != *schema.fields()).then(|| Arc::new(Schema::new(fields)))
}

/// The records with every named zone replaced by UTC.
pub(crate) fn records_in_utc(records: &RecordBatch) -> Result<RecordBatch, ArrowError> {
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

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StructArray, TimestampMillisecondArray};

    use super::*;
    use crate::sink::encode::{write_csv, write_jsonl};

    #[test]
    fn an_instant_in_a_named_zone_is_the_same_instant_in_text() {
        let times = TimestampMillisecondArray::from(vec![Some(1_000), None]).with_timezone("Europe/Berlin");
        let times: ArrayRef = Arc::new(times);
        let records = RecordBatch::try_from_iter_with_nullable([("t", times.clone(), true)]).unwrap();
        let mut text = Vec::new();
        write_csv(&records, &mut text, &mut String::new(), "x".as_ref()).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "1970-01-01T00:00:01Z\n\"\"\n");
        let nested: ArrayRef = Arc::new(StructArray::from(records));
        let records = RecordBatch::try_from_iter([("t", times), ("s", nested)]).unwrap();
        let mut text = Vec::new();
        write_jsonl(&records.slice(0, 1), &mut text, "x".as_ref()).unwrap();
        let expected = "{\"t\":\"1970-01-01T00:00:01Z\",\"s\":{\"t\":\"1970-01-01T00:00:01Z\"}}\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
