//! MySQL's values into Arrow columns, each value held against its column's type.

mod cells;

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use mysql_async::Value;

use crate::fault::ReadFault;
use cells::Cells;

/// The rows of one batch while they are collected.
pub(crate) struct Rows {
    schema: SchemaRef,
    columns: Vec<Cells>,
    keep: Vec<bool>,
    bytes: usize,
}

impl Rows {
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, ReadFault> {
        let cells = |field: &Arc<Field>| {
            Cells::of(field.data_type()).ok_or_else(|| ReadFault::Unreadable {
                column: field.name().clone(),
                data_type: field.data_type().to_string(),
                source: ArrowError::NotYetImplemented("no value of MySQL is read as this type".to_owned()),
            })
        };
        let columns: Result<_, _> = schema.fields().iter().map(cells).collect();
        Ok(Self { schema: Arc::clone(schema), columns: columns?, keep: Vec::new(), bytes: 0 })
    }

    /// The size of the values so far, in bytes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes one row; `value` gives its columns. `Err` says why it does not fit; it is left out then.
    pub(crate) fn push<'v>(&mut self, value: impl Fn(usize) -> &'v Value) -> Result<(), String> {
        let mut misfit = None;
        for (index, (cells, field)) in self.columns.iter_mut().zip(self.schema.fields()).enumerate() {
            if misfit.is_some() {
                cells.push_null();
                continue;
            }
            let value = value(index);
            let pushed = match value {
                Value::NULL if !field.is_nullable() => {
                    Err("is NULL, which the schema does not allow".to_owned())
                }
                Value::NULL => {
                    cells.push_null();
                    Ok(())
                }
                value => cells.push(value),
            };
            self.bytes += 8 + match value {
                Value::Bytes(bytes) => bytes.len(),
                _ => 0,
            };
            if let Err(reason) = pushed {
                cells.push_null();
                misfit = Some(format!("{} {reason}", field.name()));
            }
        }
        self.keep.push(misfit.is_none());
        misfit.map_or(Ok(()), Err)
    }

    /// The rows that fit, and which those are (`None` for all).
    pub(crate) fn finish(self) -> Result<(RecordBatch, Option<Vec<usize>>), ReadFault> {
        let rows = self.keep.len();
        let all = self.keep.iter().all(|keep| *keep);
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (cells, field) in self.columns.into_iter().zip(self.schema.fields()) {
            let array = cells.finish(field.data_type(), rows).map_err(|source| unreadable(field, source))?;
            arrays.push(array);
        }
        let loose = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
        let loose = Schema::new(self.schema.fields().iter().map(loose).collect::<Vec<_>>());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let whole =
            |source| ReadFault::Unreadable { column: "*".into(), data_type: "a batch".into(), source };
        let mut batch =
            RecordBatch::try_new_with_options(Arc::new(loose), arrays, &options).map_err(whole)?;
        let mut kept = None;
        if !all {
            let indexes = self.keep.iter().enumerate().filter_map(|(row, keep)| keep.then_some(row));
            kept = Some(indexes.collect());
            batch = filter_record_batch(&batch, &BooleanArray::from(self.keep)).map_err(whole)?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(self.schema, batch.columns().to_vec(), &options);
        Ok((batch.map_err(whole)?, kept))
    }
}

fn unreadable(field: &Field, source: ArrowError) -> ReadFault {
    ReadFault::Unreadable { column: field.name().clone(), data_type: field.data_type().to_string(), source }
}
