//! Values of one column of a batch, by their way into the table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
    ListArray, RecordBatch, StringArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit};
use arrow::error::ArrowError;
use bytes::{BufMut, BytesMut};

use super::{Misfit, numeric};
use crate::sink::way::{Limit, Way, Width};

/// How ticks become microseconds.
#[derive(Debug, Clone, Copy)]
enum Ticks {
    Times(i64),
    Over(i64),
}

impl Ticks {
    fn of(unit: TimeUnit) -> Self {
        match unit {
            TimeUnit::Second => Self::Times(1_000_000),
            TimeUnit::Millisecond => Self::Times(1_000),
            TimeUnit::Microsecond => Self::Times(1),
            TimeUnit::Nanosecond => Self::Over(1_000),
        }
    }

    fn micros(self, ticks: i64) -> Result<i64, Misfit> {
        match self {
            Self::Times(factor) => ticks.checked_mul(factor).ok_or(Misfit::Far),
            Self::Over(divisor) if ticks % divisor == 0 => Ok(ticks / divisor),
            Self::Over(_) => Err(Misfit::Fine),
        }
    }
}

/// The integers of a column.
enum Integers {
    Signed(Int64Array),
    Unsigned(UInt64Array),
}

/// One column of a batch.
pub(super) struct Column {
    values: Values,
    /// Which rows are NULL; `None` if none is.
    nulls: Option<NullBuffer>,
}

impl Column {
    /// Looks at a column of this way.
    pub(super) fn of(way: &Way, array: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(Self { values: Values::of(way, array)?, nulls: array.logical_nulls() })
    }

    /// Writes the value of a row behind its length. `null` is asked before NULL is written.
    #[inline]
    pub(super) fn put(
        &self,
        row: usize,
        out: &mut BytesMut,
        null: impl Fn() -> Result<(), Misfit>,
    ) -> Result<(), Misfit> {
        if self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            return self.values.put(row, out);
        }
        null()?;
        out.put_i32(-1);
        Ok(())
    }
}

/// The values of a column, by its way.
enum Values {
    Null,
    Bool(BooleanArray),
    Integer(Integers, Width),
    IntegerFloat(Integers),
    IntegerNumeric(Integers, Limit),
    Float4(Float32Array),
    Float8(Float64Array),
    Float4Numeric(Float32Array, Limit),
    Float8Numeric(Float64Array, Limit),
    Decimal(Decimal128Array, i8, Limit),
    LongDecimal(Decimal256Array, i8, Limit),
    TextNumeric(StringArray, Limit),
    Text(StringArray),
    Jsonb(StringArray),
    Uuid(StringArray),
    UuidBytes(FixedSizeBinaryArray),
    Bytea(BinaryArray),
    Date(Int32Array),
    Time(Int64Array, Ticks),
    Timestamp(Int64Array, Ticks),
    Interval(IntervalMonthDayNanoArray),
    List(ListArray, u32, Box<Column>),
}

impl Integers {
    fn value(&self, row: usize) -> i128 {
        match self {
            Self::Signed(array) => i128::from(array.value(row)),
            Self::Unsigned(array) => i128::from(array.value(row)),
        }
    }
}

fn integers(array: &ArrayRef) -> Result<Integers, ArrowError> {
    Ok(match array.data_type() {
        DataType::UInt64 => Integers::Unsigned(array.as_primitive().clone()),
        _ => Integers::Signed(cast(array, &DataType::Int64)?.as_primitive().clone()),
    })
}

fn ticks(array: &ArrayRef) -> Result<(Int64Array, Ticks), ArrowError> {
    let unit = match array.data_type() {
        DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) => *unit,
        _ => TimeUnit::Millisecond,
    };
    let narrow = matches!(array.data_type(), DataType::Time32(_));
    let array = if narrow { cast(array, &DataType::Int32)? } else { Arc::clone(array) };
    Ok((cast(&array, &DataType::Int64)?.as_primitive().clone(), Ticks::of(unit)))
}

impl Values {
    fn of(way: &Way, array: &ArrayRef) -> Result<Self, ArrowError> {
        match array.data_type() {
            DataType::Dictionary(_, values) => return Self::of(way, &cast(array, values)?),
            DataType::RunEndEncoded(_, values) => return Self::of(way, &cast(array, values.data_type())?),
            _ => {}
        }
        let text = || Ok::<_, ArrowError>(cast(array, &DataType::Utf8)?.as_string().clone());
        Ok(match way {
            Way::Null => Self::Null,
            Way::Bool => Self::Bool(array.as_boolean().clone()),
            Way::Integer(width) => Self::Integer(integers(array)?, *width),
            Way::IntegerFloat => Self::IntegerFloat(integers(array)?),
            Way::IntegerNumeric(limit) => Self::IntegerNumeric(integers(array)?, *limit),
            Way::Float4 => Self::Float4(cast(array, &DataType::Float32)?.as_primitive().clone()),
            Way::Float8 => Self::Float8(cast(array, &DataType::Float64)?.as_primitive().clone()),
            // The digits of the shorter float are fewer.
            Way::FloatNumeric(limit) if *array.data_type() != DataType::Float64 => {
                Self::Float4Numeric(cast(array, &DataType::Float32)?.as_primitive().clone(), *limit)
            }
            Way::FloatNumeric(limit) => Self::Float8Numeric(array.as_primitive().clone(), *limit),
            Way::DecimalNumeric(limit) => match array.data_type() {
                DataType::Decimal256(_, scale) => {
                    Self::LongDecimal(array.as_primitive().clone(), *scale, *limit)
                }
                DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
                    let array = cast(array, &DataType::Decimal128(*precision, *scale))?;
                    Self::Decimal(array.as_primitive().clone(), *scale, *limit)
                }
                DataType::Decimal128(_, scale) => Self::Decimal(array.as_primitive().clone(), *scale, *limit),
                other => return Err(ArrowError::CastError(format!("{other} is no decimal"))),
            },
            Way::TextNumeric(limit) => Self::TextNumeric(text()?, *limit),
            Way::Text | Way::Cast => Self::Text(text()?),
            Way::Jsonb => Self::Jsonb(text()?),
            Way::UuidText => Self::Uuid(text()?),
            Way::UuidBytes => Self::UuidBytes(array.as_fixed_size_binary().clone()),
            Way::Bytea => Self::Bytea(cast(array, &DataType::Binary)?.as_binary().clone()),
            Way::Date => Self::Date(cast(array, &DataType::Int32)?.as_primitive().clone()),
            Way::Time => {
                let (array, unit) = ticks(array)?;
                Self::Time(array, unit)
            }
            Way::Timestamp => {
                let (array, unit) = ticks(array)?;
                Self::Timestamp(array, unit)
            }
            Way::Interval => {
                let whole = DataType::Interval(IntervalUnit::MonthDayNano);
                Self::Interval(cast(array, &whole)?.as_primitive().clone())
            }
            Way::Nested { binary: true } => Self::Jsonb(json(array)?),
            Way::Nested { binary: false } => Self::Text(json(array)?),
            Way::List(element, way) => {
                let item = match array.data_type() {
                    DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                        Arc::clone(item)
                    }
                    other => return Err(ArrowError::CastError(format!("{other} is no list"))),
                };
                let lists = cast(array, &DataType::List(item))?.as_list::<i32>().clone();
                let values = Column::of(way, lists.values())?;
                Self::List(lists, *element, Box::new(values))
            }
            Way::CastList => return Self::of(&way.arriving(), array),
        })
    }

    /// Writes the value of a row, which is not NULL, behind its length.
    #[inline]
    fn put(&self, row: usize, out: &mut BytesMut) -> Result<(), Misfit> {
        match self {
            Self::Null => out.put_i32(-1),
            Self::Bool(array) => {
                out.put_i32(1);
                out.put_u8(u8::from(array.value(row)));
            }
            Self::Integer(Integers::Signed(array), width) => {
                integer(out, array.value(row), *width)?;
            }
            Self::Integer(Integers::Unsigned(array), width) => {
                let value = i64::try_from(array.value(row)).map_err(|_| Misfit::Integer)?;
                integer(out, value, *width)?;
            }
            Self::IntegerFloat(array) => exact(out, array.value(row))?,
            Self::IntegerNumeric(array, limit) => numeric::put_decimal(out, array.value(row), 0, *limit)?,
            Self::Float4(array) => {
                out.put_i32(4);
                out.put_f32(array.value(row));
            }
            Self::Float8(array) => {
                out.put_i32(8);
                out.put_f64(array.value(row));
            }
            Self::Float4Numeric(array, limit) => {
                numeric::put_text(out, &array.value(row).to_string(), *limit)?;
            }
            Self::Float8Numeric(array, limit) => {
                numeric::put_text(out, &array.value(row).to_string(), *limit)?;
            }
            Self::Decimal(array, scale, limit) => {
                numeric::put_decimal(out, array.value(row), i32::from(*scale), *limit)?;
            }
            Self::LongDecimal(array, scale, limit) => {
                numeric::put_long(out, &array.value(row).to_string(), i32::from(*scale), *limit)?;
            }
            Self::TextNumeric(array, limit) => {
                numeric::put_text(out, array.value(row), *limit)?;
            }
            Self::Text(array) => {
                bytes(out, &[], array.value(row).as_bytes())?;
            }
            Self::Jsonb(array) => {
                bytes(out, &[1], array.value(row).as_bytes())?;
            }
            Self::Uuid(array) => {
                let id = uuid(array.value(row)).ok_or(Misfit::NotAUuid)?;
                bytes(out, &[], &id.to_be_bytes())?;
            }
            Self::UuidBytes(array) => {
                bytes(out, &[], array.value(row))?;
            }
            Self::Bytea(array) => {
                bytes(out, &[], array.value(row))?;
            }
            Self::Date(array) => {
                let days = array.value(row).checked_sub(EPOCH_DAYS).filter(|days| *days != i32::MIN);
                out.put_i32(4);
                out.put_i32(days.ok_or(Misfit::Far)?);
            }
            Self::Time(array, unit) => {
                out.put_i32(8);
                out.put_i64(unit.micros(array.value(row))?);
            }
            Self::Timestamp(array, unit) => {
                let micros = unit.micros(array.value(row))?.checked_sub(EPOCH_MICROS);
                out.put_i32(8);
                // The least is PostgreSQL's minus infinity.
                out.put_i64(micros.filter(|micros| *micros != i64::MIN).ok_or(Misfit::Far)?);
            }
            Self::Interval(array) => {
                let value = array.value(row);
                out.put_i32(16);
                out.put_i64(Ticks::Over(1_000).micros(value.nanoseconds)?);
                out.put_i32(value.days);
                out.put_i32(value.months);
            }
            Self::List(array, element, values) => {
                list(out, array, row, *element, values)?;
            }
        }
        Ok(())
    }
}

/// The days from 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_DAYS: i32 = 10_957;

/// The same in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

fn integer(out: &mut BytesMut, value: i64, width: Width) -> Result<(), Misfit> {
    match width {
        Width::Two => {
            out.put_i32(2);
            out.put_i16(i16::try_from(value).map_err(|_| Misfit::Integer)?);
        }
        Width::Four => {
            out.put_i32(4);
            out.put_i32(i32::try_from(value).map_err(|_| Misfit::Integer)?);
        }
        Width::Eight => {
            out.put_i32(8);
            out.put_i64(value);
        }
    }
    Ok(())
}

/// An integer as the float that it is.
fn exact(out: &mut BytesMut, value: i128) -> Result<(), Misfit> {
    const EXACT_MAX: i128 = 1 << 53;
    if !(-EXACT_MAX..=EXACT_MAX).contains(&value) {
        return Err(Misfit::Float);
    }
    let (high, low) = (value >> 32, value & 0xFFFF_FFFF);
    let (high, low) =
        (i32::try_from(high).map_err(|_| Misfit::Float)?, u32::try_from(low).map_err(|_| Misfit::Float)?);
    out.put_i32(8);
    out.put_f64(f64::from(high) * 4_294_967_296.0 + f64::from(low));
    Ok(())
}

fn bytes(out: &mut BytesMut, before: &[u8], value: &[u8]) -> Result<(), Misfit> {
    let length = before.len().saturating_add(value.len());
    out.put_i32(i32::try_from(length).map_err(|_| Misfit::Large)?);
    out.extend_from_slice(before);
    out.extend_from_slice(value);
    Ok(())
}

/// The number of a UUID, with its hyphens or without.
fn uuid(text: &str) -> Option<u128> {
    let digits: String = match text.len() {
        32 => text.to_owned(),
        36 => {
            let parts: Vec<&str> = text.split('-').collect();
            let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
            (lengths == [8, 4, 4, 4, 12]).then(|| parts.concat())?
        }
        _ => return None,
    };
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u128::from_str_radix(&digits, 16).ok())?
}

/// An array of one dimension, or of none if it is empty.
fn list(
    out: &mut BytesMut,
    array: &ListArray,
    row: usize,
    element: u32,
    values: &Column,
) -> Result<(), Misfit> {
    let offsets = array.value_offsets();
    let at = |index: usize| offsets.get(index).and_then(|offset| usize::try_from(*offset).ok()).unwrap_or(0);
    let (start, end) = (at(row), at(row.saturating_add(1)));
    behind_length(out, |out| {
        let count = i32::try_from(end.saturating_sub(start)).map_err(|_| Misfit::Large)?;
        out.put_i32(i32::from(count > 0));
        // Whether there are NULLs: only a hint.
        out.put_i32(1);
        out.put_u32(element);
        if count > 0 {
            out.put_i32(count);
            out.put_i32(1);
        }
        (start..end).try_for_each(|index| values.put(index, out, || Ok(())))
    })
}

/// Writes a value whose length is known once it is written.
fn behind_length(
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), Misfit>,
) -> Result<(), Misfit> {
    let place = out.len();
    out.put_i32(0);
    write(out)?;
    let length = out.len().saturating_sub(place).saturating_sub(4);
    let length = i32::try_from(length).map_err(|_| Misfit::Large)?;
    if let Some(hole) = out.get_mut(place..place.saturating_add(4)) {
        hole.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// Nested values as JSON.
fn json(array: &ArrayRef) -> Result<StringArray, ArrowError> {
    let field = Field::new("v", array.data_type().clone(), true);
    let column = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(array)])?;
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(Vec::new());
    writer.write(&column)?;
    writer.finish()?;
    let written = writer.into_inner();
    // Each line is {"v":...}.
    let value = |line: &[u8]| {
        let inner = line.strip_prefix(b"{\"v\":".as_slice())?.strip_suffix(b"}".as_slice())?;
        std::str::from_utf8(inner).ok().filter(|inner| *inner != "null").map(str::to_owned)
    };
    let lines = written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let texts: StringArray = lines.map(value).collect();
    if texts.len() == array.len() {
        Ok(texts)
    } else {
        Err(ArrowError::JsonError("a nested value spans several lines".to_owned()))
    }
}

#[cfg(test)]
mod tests;
