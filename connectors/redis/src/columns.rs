//! Columns as the text and bytes that Redis holds, and back. What comes back is what went, or it is a misfit.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, LargeBinaryArray, RecordBatch, StringArray,
    StringBuilder,
};
use arrow::compute::{CastOptions, can_cast_types, cast, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use hapax_engine::columns::type_name;

/// One column, each value as it is written.
pub(crate) enum Column {
    Text(StringArray),
    Bytes(LargeBinaryArray),
}

impl Column {
    /// Whether values of a type can be written and read back.
    pub(crate) fn holds(data_type: &DataType) -> bool {
        is_bytes(data_type)
            || (!data_type.is_nested()
                && !matches!(
                    data_type,
                    DataType::Dictionary(_, _) | DataType::Interval(_) | DataType::Duration(_)
                )
                && can_cast_types(data_type, &DataType::Utf8)
                && can_cast_types(&DataType::Utf8, data_type))
    }

    pub(crate) fn of(array: &ArrayRef) -> Result<Self, ArrowError> {
        if is_bytes(array.data_type()) {
            return Ok(Self::Bytes(cast(array, &DataType::LargeBinary)?.as_binary::<i64>().clone()));
        }
        Ok(Self::Text(cast(array, &DataType::Utf8)?.as_string::<i32>().clone()))
    }

    /// A value; `None` for NULL.
    pub(crate) fn value(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Text(array) => array.is_valid(row).then(|| array.value(row).as_bytes()),
            Self::Bytes(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    )
}

/// A row that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Which row of those that were given.
    pub row: usize,
    /// Why.
    pub reason: String,
}

/// Makes records of values: one list per row, one value per column. Rows that do not fit are left out and returned.
pub(crate) fn records(
    schema: &SchemaRef,
    rows: &[Vec<Option<Vec<u8>>>],
) -> Result<(RecordBatch, Vec<Misfit>), ArrowError> {
    let mut misfits: Vec<Misfit> = Vec::new();
    let mut arrays = Vec::with_capacity(schema.fields().len());
    for (index, field) in schema.fields().iter().enumerate() {
        let value = |row: &'_ Vec<Option<Vec<u8>>>| row.get(index).cloned().flatten();
        let values: Vec<Option<Vec<u8>>> = rows.iter().map(value).collect();
        let (array, wrong) = column(field.data_type(), &values)?;
        let misfit = |(row, why): (usize, &'static str)| Misfit {
            row,
            reason: format!(
                "{:?} of {:?} {why}",
                shown(values.get(row).and_then(Option::as_deref)),
                field.name()
            ) + &format!(" ({})", type_name(field.data_type())),
        };
        misfits.extend(wrong.into_iter().map(misfit));
        arrays.push(array);
    }
    misfits.sort_by_key(|misfit| misfit.row);
    misfits.dedup_by_key(|misfit| misfit.row);
    // A column of a row that is left out may be null where none is allowed.
    let fields: Vec<_> =
        schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let all = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
    let mut keep = vec![true; rows.len()];
    for misfit in &misfits {
        if let Some(keep) = keep.get_mut(misfit.row) {
            *keep = false;
        }
    }
    let kept = if misfits.is_empty() { all } else { filter_record_batch(&all, &BooleanArray::from(keep))? };
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
    Ok((RecordBatch::try_new_with_options(Arc::clone(schema), kept.columns().to_vec(), &options)?, misfits))
}

fn shown(value: Option<&[u8]>) -> String {
    String::from_utf8_lossy(value.unwrap_or_default()).chars().take(60).collect()
}

/// The rows of a column that do not fit, each with what is wrong.
type Wrong = Vec<(usize, &'static str)>;

fn column(data_type: &DataType, values: &[Option<Vec<u8>>]) -> Result<(ArrayRef, Wrong), ArrowError> {
    let mut wrong = Wrong::new();
    if is_bytes(data_type) {
        let array: ArrayRef = Arc::new(BinaryArray::from_iter(values.iter().map(Option::as_deref)));
        return Ok((cast(&array, data_type)?, wrong));
    }
    let mut texts = StringBuilder::new();
    for (row, value) in values.iter().enumerate() {
        match value.as_deref().map(std::str::from_utf8) {
            None => texts.append_null(),
            Some(Ok(text)) => match flaw(data_type, text) {
                None => texts.append_value(text),
                Some(flaw) => {
                    wrong.push((row, flaw));
                    texts.append_null();
                }
            },
            Some(Err(_)) => {
                wrong.push((row, "is not UTF-8"));
                texts.append_null();
            }
        }
    }
    let texts = texts.finish();
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let array = cast_with_options(&texts, data_type, &options)?;
    let lost = (0..texts.len()).filter(|row| texts.is_valid(*row) && array.is_null(*row));
    wrong.extend(lost.map(|row| (row, "does not fit its type")));
    Ok((array, wrong))
}

/// What a conversion would change in silence.
fn flaw(data_type: &DataType, text: &str) -> Option<&'static str> {
    let digits = || {
        let behind = text.split_once('.').map_or("", |(_, behind)| behind);
        behind.bytes().take_while(u8::is_ascii_digit).collect::<Vec<u8>>()
    };
    let places =
        || digits().iter().rposition(|digit| *digit != b'0').map_or(0, |last| last.saturating_add(1));
    let has_time = text.contains([':', 'T', ' ']);
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => None,
        _ if text.is_empty() || text.trim() != text => Some("is empty or has spaces around it"),
        DataType::Decimal128(_, scale)
            if text.contains(['e', 'E']) || places() > usize::try_from(*scale).unwrap_or(0) =>
        {
            Some("has more places than its column")
        }
        DataType::Date32 if has_time => Some("has a time of day"),
        DataType::Timestamp(_, zone) => {
            let clock = text.split_once(['T', ' ']).map_or("", |(_, clock)| clock);
            if zone.is_none() && clock.contains(['+', '-', 'Z', 'z']) {
                Some("has a zone, and its column has none")
            } else if places() > 6 {
                Some("is finer than a microsecond")
            } else {
                None
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, TimeUnit};

    #[test]
    fn what_would_change_in_silence_is_a_misfit() {
        let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        for (data_type, good, bad) in [
            (DataType::Int64, "-7", "7.5"),
            (DataType::Int64, "9223372036854775807", "9223372036854775808"),
            (DataType::Int64, "7", " 7"),
            (DataType::Float64, "1e300", "one"),
            (DataType::Decimal128(5, 2), "1.2300", "1.239"),
            (DataType::Decimal128(5, 2), "999.99", "1000"),
            (DataType::Date32, "2024-02-29", "2024-02-29T01:00:00"),
            (DataType::Date32, "2024-02-29", "2023-02-29"),
            (micros(None), "2024-01-01T00:00:00.000001", "2024-01-01T00:00:00.0000001"),
            (micros(None), "2024-01-01 00:00:00", "2024-01-01T00:00:00Z"),
            (micros(Some("UTC")), "2024-01-01T00:00:00+02:00", "2024"),
            (DataType::Boolean, "true", "maybe"),
            (DataType::Utf8, "", "\u{0}"),
        ] {
            let schema = Arc::new(Schema::new(vec![Field::new("c", data_type.clone(), true)]));
            let rows: Vec<Vec<Option<Vec<u8>>>> = [Some(good), Some(bad), None]
                .map(|text| vec![text.map(|text| text.as_bytes().to_vec())])
                .into();
            let (records, misfits) = records(&schema, &rows).unwrap();
            let text = matches!(data_type, DataType::Utf8);
            assert_eq!(
                misfits.iter().map(|misfit| misfit.row).collect::<Vec<_>>(),
                if text { vec![] } else { vec![1] },
                "{data_type}"
            );
            assert_eq!(records.num_rows(), if text { 3 } else { 2 });
            assert!(records.column(0).is_valid(0) && records.column(0).is_null(records.num_rows() - 1));
        }
    }
}
