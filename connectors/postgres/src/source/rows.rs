//! The rows of one batch while they are collected.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use hapax_engine::batch::Rejected;
use hapax_protocol::position::Ordinal;

use super::cell::Cells;
use super::codes;
use super::copy::Row;
use super::plan::Plan;
use super::text;
use crate::column::Column;

/// Rows, column by column.
pub(super) struct Rows {
    columns: Arc<[Column]>,
    decoded: SchemaRef,
    schema: SchemaRef,
    /// The columns as they are decoded, with NULL allowed everywhere: a row that is left out has some.
    loose: SchemaRef,
    cells: Vec<Cells>,
    keep: Vec<bool>,
    rejected: Vec<Rejected>,
    bytes: usize,
}

/// What was collected.
pub(super) struct Finished {
    pub records: RecordBatch,
    /// Which rows were kept; `None` for all.
    pub kept: Option<Vec<usize>>,
    pub rejected: Vec<Rejected>,
    pub bytes: usize,
}

impl Rows {
    pub(super) fn new(plan: &Plan) -> Self {
        let Plan { columns, decoded, schema, .. } = plan;
        let loose = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
        Self {
            columns: Arc::clone(columns),
            decoded: Arc::clone(decoded),
            schema: Arc::clone(schema),
            loose: Arc::new(Schema::new(decoded.fields().iter().map(loose).collect::<Vec<_>>())),
            cells: columns.iter().map(|column| Cells::new(&column.of)).collect(),
            keep: Vec::new(),
            rejected: Vec::new(),
            bytes: 0,
        }
    }

    /// How many rows there are, rejected ones included.
    pub(super) fn count(&self) -> usize {
        self.keep.len()
    }

    /// Their size, in bytes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes one row, the record `ordinal`. What does not fit is rejected.
    pub(super) fn push(&mut self, row: &Row, ordinal: Ordinal) {
        self.bytes += row.len();
        let mut fields = row.fields();
        let mut misfit = None;
        for (cells, column) in self.cells.iter_mut().zip(self.columns.iter()) {
            let value = fields.next().flatten();
            match value {
                Some(bytes) if misfit.is_none() => {
                    if let Err(reason) = cells.push(bytes) {
                        cells.push_null();
                        misfit = Some(format!("{} {reason}", column.name));
                    }
                }
                _ => cells.push_null(),
            }
        }
        self.keep.push(misfit.is_none());
        if let Some(reason) = misfit {
            let raw = raw(&self.columns, row);
            self.rejected.push(Rejected { ordinal, code: codes::VALUE_MISFIT, reason, id: None, raw });
        }
    }

    /// What was collected. Begins anew.
    pub(super) fn finish(&mut self) -> Result<Finished, ArrowError> {
        let keep = std::mem::take(&mut self.keep);
        let rejected = std::mem::take(&mut self.rejected);
        let bytes = std::mem::take(&mut self.bytes);
        let mut arrays = Vec::with_capacity(self.cells.len());
        for (cells, field) in self.cells.iter_mut().zip(self.decoded.fields()) {
            arrays.push(cells.finish(field)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(keep.len()));
        if rejected.is_empty() {
            let records = self.deliver(arrays, &options)?;
            return Ok(Finished { records, kept: None, rejected, bytes });
        }
        let kept = keep.iter().enumerate().filter_map(|(row, keep)| keep.then_some(row)).collect();
        let loose = RecordBatch::try_new_with_options(Arc::clone(&self.loose), arrays, &options)?;
        let left = filter_record_batch(&loose, &BooleanArray::from(keep))?;
        let options = RecordBatchOptions::new().with_row_count(Some(left.num_rows()));
        let columns = left.columns().to_vec();
        let records = self.deliver(columns, &options)?;
        Ok(Finished { records, kept: Some(kept), rejected, bytes })
    }

    /// The columns in the types that were asked for. What has no place in one of those is NULL there.
    fn deliver(
        &self,
        mut columns: Vec<ArrayRef>,
        options: &RecordBatchOptions,
    ) -> Result<RecordBatch, ArrowError> {
        for (column, field) in columns.iter_mut().zip(self.schema.fields()) {
            if column.data_type() != field.data_type() {
                *column = cast(column, field.data_type())?;
            }
        }
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, options)
    }
}

/// A row as JSON.
fn raw(columns: &[Column], row: &Row) -> String {
    let mut object = serde_json::Map::new();
    for (column, value) in columns.iter().zip(row.fields()) {
        object.insert(column.name.clone(), text::json(&column.of, value));
    }
    Rejected::excerpt(serde_json::Value::Object(object).to_string().as_bytes())
}
