//! Vectors into the columns of a batch.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt32Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, interleave, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::What;
use crate::fault::EmbedFault;

/// Where the columns stand.
#[derive(Debug, Clone)]
pub struct Layout {
    from: usize,
    /// The column that is filled; `None` if it is added at the end.
    into: Option<usize>,
    dimension: i32,
    /// The columns that come out.
    pub schema: SchemaRef,
}

fn item() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Float32, true))
}

fn is_vector(data_type: &DataType, dimension: i32) -> bool {
    let is_number = |field: &Field| matches!(field.data_type(), DataType::Float32 | DataType::Float64);
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => is_number(item),
        DataType::FixedSizeList(item, size) => is_number(item) && *size == dimension,
        _ => false,
    }
}

impl Layout {
    /// Finds the columns, or says which does not fit.
    pub fn of(read: &Schema, what: &What) -> Result<Self, EmbedFault> {
        let wrong = |reason: String| EmbedFault::Column(reason);
        let dimension = i32::try_from(what.dimension).ok().filter(|dimension| *dimension > 0);
        let dimension = dimension.ok_or_else(|| wrong("`dimension` is not a number from 1 on".to_owned()))?;
        let from =
            read.index_of(&what.from).map_err(|_| wrong(format!("there is no column `{}`", what.from)))?;
        let kind = read.field(from).data_type();
        if !matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            return Err(wrong(format!("column `{}` is {kind} and no text", what.from)));
        }
        let into = read.index_of(&what.column).ok();
        let mut fields: Vec<Arc<Field>> = read.fields().iter().cloned().collect();
        match into {
            None => {
                let vector = DataType::FixedSizeList(item(), dimension);
                fields.push(Arc::new(Field::new(&what.column, vector, true)));
            }
            Some(into) => {
                let kind = read.field(into).data_type();
                if !is_vector(kind, dimension) {
                    let column = &what.column;
                    return Err(wrong(format!(
                        "column `{column}` is {kind}, and holds no vectors of {dimension} numbers"
                    )));
                }
            }
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, read.metadata().clone()));
        Ok(Self { from, into, dimension, schema })
    }

    /// The texts of the rows whose vector is missing; `None` where nothing is to be done.
    pub fn texts(&self, records: &RecordBatch) -> Result<Vec<Option<String>>, ArrowError> {
        let texts = cast(records.column(self.from), &DataType::Utf8)?;
        let texts =
            texts.as_any().downcast_ref::<StringArray>().cloned().unwrap_or_else(|| StringArray::new_null(0));
        let has_vector = |row: usize| self.into.is_some_and(|into| records.column(into).is_valid(row));
        let text =
            |row: usize| (texts.is_valid(row) && !has_vector(row)).then(|| texts.value(row).to_owned());
        Ok((0..records.num_rows()).map(text).collect())
    }

    /// The records with their vectors, one for each row that has one to be put in. Only `rows` are kept.
    pub fn fill(
        &self,
        records: &RecordBatch,
        vectors: &[Option<Arc<[f32]>>],
        rows: &[usize],
    ) -> Result<RecordBatch, ArrowError> {
        let computed = self.column(vectors)?;
        let mut columns = records.columns().to_vec();
        match self.into {
            None => columns.push(computed),
            Some(into) => {
                let there = Arc::clone(records.column(into));
                let computed = cast(&computed, there.data_type())?;
                let which: Vec<(usize, usize)> = vectors
                    .iter()
                    .enumerate()
                    .map(|(row, vector)| (usize::from(vector.is_some()), row))
                    .collect();
                let filled = interleave(&[there.as_ref(), computed.as_ref()], &which)?;
                if let Some(column) = columns.get_mut(into) {
                    *column = filled;
                }
            }
        }
        let all = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        if rows.len() == all.num_rows() {
            return Ok(all);
        }
        let rows: UInt32Array = rows.iter().map(|row| u32::try_from(*row).ok()).collect();
        take_record_batch(&all, &rows)
    }

    fn column(&self, vectors: &[Option<Arc<[f32]>>]) -> Result<ArrayRef, ArrowError> {
        let dimension = usize::try_from(self.dimension).unwrap_or(0);
        let mut numbers: Vec<f32> = Vec::with_capacity(vectors.len().saturating_mul(dimension));
        for vector in vectors {
            let filled = numbers.len().saturating_add(dimension);
            numbers.extend_from_slice(vector.as_deref().unwrap_or_default());
            numbers.resize(filled, 0.0);
        }
        let there: NullBuffer = vectors.iter().map(Option::is_some).collect::<Vec<bool>>().into();
        let numbers = Arc::new(Float32Array::from(numbers));
        Ok(Arc::new(FixedSizeListArray::try_new(item(), self.dimension, numbers, Some(there))?))
    }
}
