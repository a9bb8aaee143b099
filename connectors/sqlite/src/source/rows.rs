//! SQLite's values into Arrow columns, each value held against its column's type.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, BooleanBuilder, Date32Builder, Decimal128Builder,
    Float64Builder, Int64Builder, NullArray, RecordBatch, RecordBatchOptions, StringBuilder,
};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use rusqlite::types::ValueRef;

use crate::civil;
use crate::fault::ReadFault;

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
                source: ArrowError::NotYetImplemented("no value of SQLite is read as this type".to_owned()),
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
    pub(crate) fn push<'v>(&mut self, value: impl Fn(usize) -> ValueRef<'v>) -> Result<(), String> {
        let mut misfit = None;
        for (index, (cells, field)) in self.columns.iter_mut().zip(self.schema.fields()).enumerate() {
            if misfit.is_some() {
                cells.push_null();
                continue;
            }
            let value = value(index);
            let pushed = match value {
                ValueRef::Null if !field.is_nullable() => {
                    Err("is NULL, which the schema does not allow".to_owned())
                }
                ValueRef::Null => {
                    cells.push_null();
                    Ok(())
                }
                value => cells.push(value),
            };
            self.bytes += 8 + match value {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
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

/// One column while it is collected.
enum Cells {
    Integer { builder: Int64Builder, min: i64, max: i64 },
    Real(Float64Builder),
    Boolean(BooleanBuilder),
    Text(StringBuilder),
    Blob(BinaryBuilder),
    Date(Date32Builder),
    Moment { builder: Int64Builder, per_second: i64, zoned: bool },
    Decimal { builder: Decimal128Builder, precision: u8, scale: i8 },
}

impl Cells {
    fn of(data_type: &DataType) -> Option<Self> {
        let integer = |min, max| Some(Self::Integer { builder: Int64Builder::new(), min, max });
        match data_type {
            DataType::Int8 => integer(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => integer(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => integer(i64::MIN, i64::MAX),
            DataType::UInt8 => integer(0, u8::MAX.into()),
            DataType::UInt16 => integer(0, u16::MAX.into()),
            DataType::UInt32 => integer(0, u32::MAX.into()),
            DataType::UInt64 => integer(0, i64::MAX),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Some(Self::Real(Float64Builder::new()))
            }
            DataType::Boolean => Some(Self::Boolean(BooleanBuilder::new())),
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Some(Self::Blob(BinaryBuilder::new())),
            DataType::Date32 | DataType::Date64 => Some(Self::Date(Date32Builder::new())),
            DataType::Timestamp(unit, zone) => {
                let per_second = match unit {
                    TimeUnit::Second => 1,
                    TimeUnit::Millisecond => 1_000,
                    TimeUnit::Microsecond => 1_000_000,
                    TimeUnit::Nanosecond => 1_000_000_000,
                };
                Some(Self::Moment { builder: Int64Builder::new(), per_second, zoned: zone.is_some() })
            }
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => {
                let builder = Decimal128Builder::new().with_data_type(DataType::Decimal128(38, *scale));
                Some(Self::Decimal { builder, precision: (*precision).min(38), scale: *scale })
            }
            DataType::Dictionary(_, values) => Self::of(values),
            DataType::Duration(_) | DataType::Interval(_) | DataType::Union(_, _) => None,
            // Text, times as text, and nested values as JSON.
            _ => Some(Self::Text(StringBuilder::new())),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Integer { builder, .. } | Self::Moment { builder, .. } => builder.append_null(),
            Self::Real(builder) => builder.append_null(),
            Self::Boolean(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Blob(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Decimal { builder, .. } => builder.append_null(),
        }
    }

    /// Appends a value that is not NULL, or says what is wrong with it and appends nothing.
    fn push(&mut self, value: ValueRef<'_>) -> Result<(), String> {
        let other = |wanted: &str| Err(format!("holds {}, which is not {wanted}", shown(value)));
        match (self, value) {
            (Self::Integer { builder, min, max }, ValueRef::Integer(number)) => {
                if (*min..=*max).contains(&number) {
                    builder.append_value(number);
                    Ok(())
                } else {
                    other(&format!("between {min} and {max}"))
                }
            }
            (Self::Real(builder), ValueRef::Real(number)) => {
                builder.append_value(number);
                Ok(())
            }
            (Self::Real(builder), ValueRef::Integer(number)) => match exact(number) {
                Some(number) => {
                    builder.append_value(number);
                    Ok(())
                }
                None => other("a float64 without loss"),
            },
            (Self::Boolean(builder), ValueRef::Integer(number @ (0 | 1))) => {
                builder.append_value(number == 1);
                Ok(())
            }
            (Self::Text(builder), ValueRef::Text(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => {
                    builder.append_value(text);
                    Ok(())
                }
                Err(_) => Err("holds text that is not valid UTF-8".to_owned()),
            },
            (Self::Text(builder), ValueRef::Integer(number)) => {
                builder.append_value(number.to_string());
                Ok(())
            }
            (Self::Text(builder), ValueRef::Real(number)) => {
                builder.append_value(format!("{number:?}"));
                Ok(())
            }
            (Self::Blob(builder), ValueRef::Blob(bytes)) => {
                builder.append_value(bytes);
                Ok(())
            }
            (Self::Date(builder), ValueRef::Text(bytes)) => {
                match civil::parse_date(bytes).and_then(|days| i32::try_from(days).ok()) {
                    Some(days) => {
                        builder.append_value(days);
                        Ok(())
                    }
                    None => other("a date like 2013-01-31"),
                }
            }
            (Self::Moment { builder, per_second, zoned }, ValueRef::Text(bytes)) => {
                match moment(bytes, *per_second, *zoned) {
                    Ok(moment) => {
                        builder.append_value(moment);
                        Ok(())
                    }
                    Err(wanted) => other(wanted),
                }
            }
            (Self::Decimal { builder, precision, scale }, value) => {
                match decimal(value).and_then(|text| scaled(&text, *precision, *scale)) {
                    Some(number) => {
                        builder.append_value(number);
                        Ok(())
                    }
                    None => other(&format!("a decimal({precision},{scale})")),
                }
            }
            (Self::Integer { .. }, _) => other("an integer"),
            (Self::Real(_), _) => other("a number"),
            (Self::Boolean(_), _) => other("0 or 1"),
            (Self::Text(_), _) => other("text"),
            (Self::Blob(_), _) => other("a blob"),
            (Self::Date(_), _) => other("a date as text"),
            (Self::Moment { .. }, _) => other("a timestamp as text"),
        }
    }

    fn finish(self, target: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
        let array: ArrayRef = match self {
            Self::Integer { mut builder, .. } | Self::Moment { mut builder, .. } => {
                Arc::new(builder.finish())
            }
            Self::Real(mut builder) => Arc::new(builder.finish()),
            Self::Boolean(mut builder) => Arc::new(builder.finish()),
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Blob(mut builder) => Arc::new(builder.finish()),
            Self::Date(mut builder) => Arc::new(builder.finish()),
            Self::Decimal { mut builder, .. } => Arc::new(builder.finish()),
        };
        if array.data_type() == target {
            return Ok(array);
        }
        match target {
            DataType::Null => Ok(Arc::new(NullArray::new(rows))),
            nested if nested.is_nested() => parsed(&array, nested),
            _ => cast_with_options(&array, target, &CastOptions { safe: false, ..CastOptions::default() }),
        }
    }
}

/// JSON text into nested values.
fn parsed(texts: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    let schema = Arc::new(Schema::new(vec![Field::new("v", target.clone(), true)]));
    let texts = texts.as_string::<i32>();
    let mut lines = Vec::new();
    for text in texts {
        lines.extend_from_slice(b"{\"v\":");
        lines.extend_from_slice(text.unwrap_or("null").as_bytes());
        lines.extend_from_slice(b"}\n");
    }
    let mut decoder =
        arrow::json::ReaderBuilder::new(schema).with_batch_size(texts.len().max(1)).build_decoder()?;
    decoder.decode(&lines)?;
    let batch = decoder.flush()?;
    let column = batch.and_then(|batch| batch.columns().first().cloned());
    Ok(column.unwrap_or_else(|| arrow::array::new_null_array(target, texts.len())))
}

/// A value in words, cut short.
fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            let head: String = text.chars().take(60).collect();
            if head.len() < text.len() { format!("{head:?} and more") } else { format!("{head:?}") }
        }
        ValueRef::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
    }
}

/// An integer as a float, if nothing is lost.
fn exact(number: i64) -> Option<f64> {
    let (high, low) =
        (i32::try_from(number.div_euclid(1 << 23)).ok()?, i32::try_from(number.rem_euclid(1 << 23)).ok()?);
    // Within 2^53 the sum is exact.
    (number.unsigned_abs() <= 1 << 53).then(|| f64::from(high) * 8_388_608.0 + f64::from(low))
}

fn moment(bytes: &[u8], per_second: i64, zoned: bool) -> Result<i64, &'static str> {
    let found = civil::parse_moment(bytes).ok_or("a timestamp like 2013-01-31T05:00:00")?;
    if found.zoned && !zoned {
        return Err("a timestamp without a zone (declare it TIMESTAMPTZ)");
    }
    let unit = 1_000_000_000 / per_second;
    if found.nanos % unit != 0 {
        return Err("a timestamp of its column's precision");
    }
    let whole = found.seconds.checked_mul(per_second).and_then(|whole| whole.checked_add(found.nanos / unit));
    whole.ok_or("a timestamp in its column's range")
}

fn decimal(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Integer(number) => Some(number.to_string()),
        // The shortest decimal that is this number: what its writer wrote.
        ValueRef::Real(number) if number.is_finite() => Some(number.to_string()),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        _ => None,
    }
}

/// A decimal as a count of its last places; `None` if digits would be lost.
fn scaled(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || whole.is_empty() && digits.len() < 2 {
        return None;
    }
    let mut all = format!("{whole}{fraction}");
    let places = i32::from(scale) - i32::try_from(fraction.len()).ok()?;
    match usize::try_from(places) {
        Ok(zeros) => all.push_str(&"0".repeat(zeros)),
        Err(_) => {
            let cut = all.len().checked_sub(usize::try_from(places.unsigned_abs()).ok()?)?;
            if all.get(cut..)?.bytes().any(|byte| byte != b'0') {
                return None;
            }
            all.truncate(cut);
        }
    }
    let significant = all.trim_start_matches('0');
    if significant.len() > usize::from(precision) {
        return None;
    }
    let number: i128 = if significant.is_empty() { 0 } else { significant.parse().ok()? };
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_lose_no_digit() {
        assert_eq!(scaled("1.10", 12, 2), Some(110));
        assert_eq!(scaled("-0.05", 12, 2), Some(-5));
        assert_eq!(scaled("1.100", 12, 2), Some(110));
        assert_eq!(scaled("1.101", 12, 2), None);
        assert_eq!(scaled("12345", 4, 0), None);
        assert_eq!(scaled("1200", 4, -2), Some(12));
        assert_eq!(scaled("1201", 4, -2), None);
        for wrong in ["", ".", "-", "1e3", "1.2.3", "x"] {
            assert_eq!(scaled(wrong, 12, 2), None, "{wrong}");
        }
    }

    #[test]
    fn integers_become_floats_only_without_loss() {
        for number in [0, 1, -1, 1 << 53, -(1 << 53), 4_194_304, -4_194_305] {
            assert_eq!(exact(number).map(|float| format!("{float:.0}")), Some(number.to_string()));
        }
        assert_eq!(exact((1 << 53) + 1), None);
        assert_eq!(exact(i64::MIN), None);
    }
}
