//! One column while it is collected.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    Decimal256Builder, Float32Builder, Float64Builder, Int64Builder, NullArray, StringBuilder, UInt64Builder,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, i256};
use arrow::error::ArrowError;
use mysql_async::Value;

use super::super::position::words;
use crate::civil;

/// One column while it is collected.
pub(super) enum Cells {
    Integer { builder: Int64Builder, min: i64, max: i64 },
    Unsigned { builder: UInt64Builder, max: u64 },
    Single(Float32Builder),
    Real(Float64Builder),
    Boolean(BooleanBuilder),
    Text(StringBuilder),
    Blob(BinaryBuilder),
    Date(Date32Builder),
    Moment { builder: Int64Builder, per_second: i64 },
    Time { builder: Int64Builder, per_second: i64 },
    Decimal { builder: Decimal128Builder, precision: u8, scale: i8 },
    Wide { builder: Decimal256Builder, precision: u8, scale: i8 },
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

impl Cells {
    /// `None` if no value of MySQL is read as this type.
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        let integer = |min, max| Some(Self::Integer { builder: Int64Builder::new(), min, max });
        let unsigned = |max| Some(Self::Unsigned { builder: UInt64Builder::new(), max });
        match data_type {
            DataType::Int8 => integer(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => integer(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => integer(i64::MIN, i64::MAX),
            DataType::UInt8 => unsigned(u8::MAX.into()),
            DataType::UInt16 => unsigned(u16::MAX.into()),
            DataType::UInt32 => unsigned(u32::MAX.into()),
            DataType::UInt64 => unsigned(u64::MAX),
            DataType::Float16 | DataType::Float32 => Some(Self::Single(Float32Builder::new())),
            DataType::Float64 => Some(Self::Real(Float64Builder::new())),
            DataType::Boolean => Some(Self::Boolean(BooleanBuilder::new())),
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Some(Self::Blob(BinaryBuilder::new())),
            DataType::Date32 | DataType::Date64 => Some(Self::Date(Date32Builder::new())),
            DataType::Timestamp(unit, _) => {
                Some(Self::Moment { builder: Int64Builder::new(), per_second: per_second(*unit) })
            }
            DataType::Time32(unit) | DataType::Time64(unit) => {
                Some(Self::Time { builder: Int64Builder::new(), per_second: per_second(*unit) })
            }
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale) => {
                let builder = Decimal128Builder::new().with_data_type(DataType::Decimal128(38, *scale));
                Some(Self::Decimal { builder, precision: *precision, scale: *scale })
            }
            DataType::Decimal256(precision, scale) => {
                let builder = Decimal256Builder::new().with_data_type(DataType::Decimal256(76, *scale));
                Some(Self::Wide { builder, precision: *precision, scale: *scale })
            }
            DataType::Dictionary(_, values) => Self::of(values),
            DataType::Duration(_) | DataType::Interval(_) | DataType::Union(_, _) => None,
            // Text, and nested values as JSON.
            _ => Some(Self::Text(StringBuilder::new())),
        }
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Integer { builder, .. } | Self::Moment { builder, .. } | Self::Time { builder, .. } => {
                builder.append_null();
            }
            Self::Unsigned { builder, .. } => builder.append_null(),
            Self::Single(builder) => builder.append_null(),
            Self::Real(builder) => builder.append_null(),
            Self::Boolean(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Blob(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Decimal { builder, .. } => builder.append_null(),
            Self::Wide { builder, .. } => builder.append_null(),
        }
    }

    /// Appends a value that is not NULL, or says what is wrong with it and appends nothing.
    pub(super) fn push(&mut self, value: &Value) -> Result<(), String> {
        let wanted = match self.take(value) {
            Ok(()) => return Ok(()),
            Err(wanted) => wanted,
        };
        Err(format!("holds {}, which is not {wanted}", words(value)))
    }

    fn take(&mut self, value: &Value) -> Result<(), String> {
        match self {
            Self::Integer { builder, min, max } => {
                let number = integer(value).and_then(|number| i64::try_from(number).ok());
                let number = number.filter(|number| (*min..=*max).contains(number));
                builder.append_value(number.ok_or_else(|| format!("an integer from {min} to {max}"))?);
            }
            Self::Unsigned { builder, max } => {
                let number = integer(value).and_then(|number| u64::try_from(number).ok());
                let number = number.filter(|number| number <= max);
                builder.append_value(number.ok_or_else(|| format!("an integer from 0 to {max}"))?);
            }
            Self::Single(builder) => match value {
                Value::Float(number) => builder.append_value(*number),
                _ => return Err("a float32".to_owned()),
            },
            Self::Real(builder) => builder.append_value(real(value).ok_or("a float64 without loss")?),
            Self::Boolean(builder) => match integer(value) {
                Some(number @ (0 | 1)) => builder.append_value(number == 1),
                _ => return Err("0 or 1".to_owned()),
            },
            Self::Text(builder) => builder.append_value(text(value).ok_or("text in UTF-8")?),
            Self::Blob(builder) => match value {
                Value::Bytes(bytes) => builder.append_value(bytes),
                _ => return Err("bytes".to_owned()),
            },
            Self::Date(builder) => {
                let days = day(value).and_then(|days| i32::try_from(days).ok());
                builder.append_value(days.ok_or("a date")?);
            }
            Self::Moment { builder, per_second } => {
                builder.append_value(
                    moment(value, *per_second).ok_or("a date and time of its column's precision")?,
                );
            }
            Self::Time { builder, per_second } => {
                builder
                    .append_value(time(value, *per_second).ok_or("a time of day of its column's precision")?);
            }
            Self::Decimal { builder, precision, scale } => {
                let number = digits(value, *precision, *scale).and_then(|digits| digits.parse().ok());
                builder.append_value(number.ok_or_else(|| format!("a decimal({precision},{scale})"))?);
            }
            Self::Wide { builder, precision, scale } => {
                let number = digits(value, *precision, *scale).and_then(|digits| i256::from_string(&digits));
                builder.append_value(number.ok_or_else(|| format!("a decimal({precision},{scale})"))?);
            }
        }
        Ok(())
    }

    pub(super) fn finish(self, target: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
        let array: ArrayRef = match self {
            Self::Integer { mut builder, .. }
            | Self::Moment { mut builder, .. }
            | Self::Time { mut builder, .. } => Arc::new(builder.finish()),
            Self::Unsigned { mut builder, .. } => Arc::new(builder.finish()),
            Self::Single(mut builder) => Arc::new(builder.finish()),
            Self::Real(mut builder) => Arc::new(builder.finish()),
            Self::Boolean(mut builder) => Arc::new(builder.finish()),
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Blob(mut builder) => Arc::new(builder.finish()),
            Self::Date(mut builder) => Arc::new(builder.finish()),
            Self::Decimal { mut builder, .. } => Arc::new(builder.finish()),
            Self::Wide { mut builder, .. } => Arc::new(builder.finish()),
        };
        if array.data_type() == target {
            return Ok(array);
        }
        let strictly = CastOptions { safe: false, ..CastOptions::default() };
        match target {
            DataType::Null => Ok(Arc::new(NullArray::new(rows))),
            DataType::Time32(_) => {
                cast_with_options(&cast_with_options(&array, &DataType::Int32, &strictly)?, target, &strictly)
            }
            nested if nested.is_nested() => parsed(&array, nested),
            _ => cast_with_options(&array, target, &strictly),
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

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some((*number).into()),
        Value::UInt(number) => Some((*number).into()),
        // BIT comes as bytes, the most significant first; numbers of a dead letter come as text.
        Value::Bytes(bytes) => match std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()) {
            Some(number) => Some(number),
            None if (1..=8).contains(&bytes.len()) => {
                Some(bytes.iter().fold(0, |sum, byte| sum << 8 | i128::from(*byte)))
            }
            None => None,
        },
        _ => None,
    }
}

fn real(value: &Value) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        Value::Float(number) => Some((*number).into()),
        Value::Int(number) => i32::try_from(*number).ok().map(f64::from),
        Value::UInt(number) => u32::try_from(*number).ok().map(f64::from),
        Value::Bytes(bytes) => {
            std::str::from_utf8(bytes).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
        }
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        other => Some(words(other)),
    }
}

/// Days since 1970 of a date that is one: a zero in it is none.
fn day(value: &Value) -> Option<i64> {
    let Value::Date(year, month, day, 0, 0, 0, 0) = value else { return None };
    civil::days((*year).into(), (*month).into(), (*day).into())
}

fn moment(value: &Value, per_second: i64) -> Option<i64> {
    let Value::Date(year, month, day, hour, minute, second, micros) = value else { return None };
    let days = civil::days((*year).into(), (*month).into(), (*day).into())?;
    let of_day = i64::from(*hour) * 3_600 + i64::from(*minute) * 60 + i64::from(*second);
    ticks(days * civil::DAY_SECONDS + of_day, (*micros).into(), per_second)
}

fn time(value: &Value, per_second: i64) -> Option<i64> {
    let Value::Time(false, 0, hour, minute, second, micros) = value else { return None };
    let of_day = i64::from(*hour) * 3_600 + i64::from(*minute) * 60 + i64::from(*second);
    ticks(of_day, (*micros).into(), per_second)
}

/// Seconds and microseconds in ticks; `None` if digits would be lost.
fn ticks(seconds: i64, micros: i64, per_second: i64) -> Option<i64> {
    let nanos = micros * 1_000;
    let tick = 1_000_000_000 / per_second;
    if nanos % tick != 0 {
        return None;
    }
    seconds.checked_mul(per_second)?.checked_add(nanos / tick)
}

/// A decimal as the digits of a count of its last places; `None` if digits would be lost.
fn digits(value: &Value, precision: u8, scale: i8) -> Option<String> {
    let text = match value {
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.to_owned(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Double(number) if number.is_finite() => number.to_string(),
        Value::Float(number) if number.is_finite() => number.to_string(),
        _ => return None,
    };
    let (negative, all) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let (whole, fraction) = all.split_once('.').unwrap_or((all, ""));
    let fraction = fraction.trim_end_matches('0');
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || whole.is_empty() && all.len() < 2 {
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
    let significant = if significant.is_empty() { "0" } else { significant };
    Some(if negative { format!("-{significant}") } else { significant.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_lose_no_digit() {
        let scaled = |text: &str, precision, scale| digits(&Value::Bytes(text.into()), precision, scale);
        assert_eq!(scaled("1.10", 12, 2).as_deref(), Some("110"));
        assert_eq!(scaled("-0.05", 12, 2).as_deref(), Some("-5"));
        assert_eq!(scaled("1.101", 12, 2), None);
        assert_eq!(scaled("12345", 4, 0), None);
        assert_eq!(scaled("1200", 4, -2).as_deref(), Some("12"));
        for wrong in ["", ".", "-", "1e3", "1.2.3", "x"] {
            assert_eq!(scaled(wrong, 12, 2), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        assert_eq!(day(&Value::Date(0, 0, 0, 0, 0, 0, 0)), None);
        assert_eq!(day(&Value::Date(2024, 0, 1, 0, 0, 0, 0)), None);
        assert_eq!(day(&Value::Date(1970, 1, 2, 0, 0, 0, 0)), Some(1));
        assert_eq!(time(&Value::Time(false, 1, 0, 0, 0, 0), 1), None);
        assert_eq!(moment(&Value::Date(1970, 1, 1, 0, 0, 1, 1), 1_000), None);
    }
}
