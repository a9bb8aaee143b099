//! Values of one column, from the bytes of COPY into an Arrow array.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder,
    Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, IntervalMonthDayNanoBuilder,
    ListArray, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, i256};
use arrow::error::ArrowError;

use super::civil::{EPOCH_DAYS, EPOCH_US};
use super::numeric::{Numeric, Whole};
use super::text;
use crate::column::{Base, Type};

/// One column while it is collected.
pub(super) enum Cells {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Decimal {
        builder: Decimal128Builder,
        scale: i8,
        data_type: DataType,
    },
    Wide {
        builder: Decimal256Builder,
        scale: i8,
        data_type: DataType,
    },
    /// A number in its text form, with room to write it.
    Number {
        builder: StringBuilder,
        room: String,
    },
    Text(StringBuilder),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Moment {
        builder: TimestampMicrosecondBuilder,
        zoned: bool,
    },
    Interval(IntervalMonthDayNanoBuilder),
    Jsonb(StringBuilder),
    Uuid {
        builder: StringBuilder,
        room: String,
    },
    List(Box<Lists>),
}

/// Arrays of one dimension while they are collected.
pub(super) struct Lists {
    elements: Cells,
    count: usize,
    ends: Vec<i32>,
    there: Vec<bool>,
}

impl Cells {
    pub(super) fn new(of: &Type) -> Self {
        if of.element.is_some() && of.base != Base::Other {
            let elements = Self::of(of.base);
            return Self::List(Box::new(Lists { elements, count: 0, ends: vec![0], there: Vec::new() }));
        }
        Self::of(of.base)
    }

    fn of(base: Base) -> Self {
        match base {
            Base::Bool => Self::Bool(BooleanBuilder::new()),
            Base::Int2 => Self::Int2(Int16Builder::new()),
            Base::Int4 => Self::Int4(Int32Builder::new()),
            Base::Int8 => Self::Int8(Int64Builder::new()),
            Base::Float4 => Self::Float4(Float32Builder::new()),
            Base::Float8 => Self::Float8(Float64Builder::new()),
            Base::Numeric(_) => match base.arrow() {
                data_type @ DataType::Decimal128(_, scale) => Self::Decimal {
                    builder: Decimal128Builder::new().with_data_type(data_type.clone()),
                    scale,
                    data_type,
                },
                data_type @ DataType::Decimal256(_, scale) => Self::Wide {
                    builder: Decimal256Builder::new().with_data_type(data_type.clone()),
                    scale,
                    data_type,
                },
                _ => Self::Number { builder: StringBuilder::new(), room: String::new() },
            },
            Base::Bytea => Self::Bytea(BinaryBuilder::new()),
            Base::Date => Self::Date(Date32Builder::new()),
            Base::Time => Self::Time(Time64MicrosecondBuilder::new()),
            Base::Timestamp => Self::Moment { builder: TimestampMicrosecondBuilder::new(), zoned: false },
            Base::Timestamptz => Self::Moment { builder: TimestampMicrosecondBuilder::new(), zoned: true },
            Base::Interval => Self::Interval(IntervalMonthDayNanoBuilder::new()),
            Base::Jsonb => Self::Jsonb(StringBuilder::new()),
            Base::Uuid => Self::Uuid { builder: StringBuilder::new(), room: String::new() },
            Base::Text | Base::Json | Base::Enum | Base::Other => Self::Text(StringBuilder::new()),
        }
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Bool(builder) => builder.append_null(),
            Self::Int2(builder) => builder.append_null(),
            Self::Int4(builder) => builder.append_null(),
            Self::Int8(builder) => builder.append_null(),
            Self::Float4(builder) => builder.append_null(),
            Self::Float8(builder) => builder.append_null(),
            Self::Decimal { builder, .. } => builder.append_null(),
            Self::Wide { builder, .. } => builder.append_null(),
            Self::Text(builder)
            | Self::Jsonb(builder)
            | Self::Number { builder, .. }
            | Self::Uuid { builder, .. } => builder.append_null(),
            Self::Bytea(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Moment { builder, .. } => builder.append_null(),
            Self::Interval(builder) => builder.append_null(),
            Self::List(lists) => lists.end(false),
        }
    }

    /// Appends a value that is not NULL, or says what is wrong with it and appends nothing.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Bool(builder) => builder.append_value(bytes == [1]),
            Self::Int2(builder) => builder.append_value(i16::from_be_bytes(sized(bytes)?)),
            Self::Int4(builder) => builder.append_value(i32::from_be_bytes(sized(bytes)?)),
            Self::Int8(builder) => builder.append_value(i64::from_be_bytes(sized(bytes)?)),
            Self::Float4(builder) => builder.append_value(f32::from_be_bytes(sized(bytes)?)),
            Self::Float8(builder) => builder.append_value(f64::from_be_bytes(sized(bytes)?)),
            Self::Decimal { builder, scale, data_type } => {
                builder.append_value(decimal::<i128>(bytes, *scale, data_type)?);
            }
            Self::Wide { builder, scale, data_type } => {
                builder.append_value(decimal::<i256>(bytes, *scale, data_type)?);
            }
            Self::Number { builder, room } => {
                room.clear();
                Numeric::read(bytes).ok_or_else(unread)?.write(room);
                builder.append_value(&*room);
            }
            Self::Text(builder) => builder.append_value(utf8(bytes)?),
            Self::Jsonb(builder) => match bytes.split_first() {
                Some((1, rest)) => builder.append_value(utf8(rest)?),
                _ => return Err(unread()),
            },
            Self::Uuid { builder, room } => {
                room.clear();
                text::uuid(&sized::<16>(bytes)?, room);
                builder.append_value(&*room);
            }
            Self::Bytea(builder) => builder.append_value(bytes),
            Self::Date(builder) => builder.append_value(day(bytes)?),
            Self::Time(builder) => builder.append_value(i64::from_be_bytes(sized(bytes)?)),
            Self::Moment { builder, .. } => builder.append_value(moment(bytes)?),
            Self::Interval(builder) => builder.append_value(interval(bytes)?),
            Self::List(lists) => lists.push(bytes)?,
        }
        Ok(())
    }

    /// What was collected, as the type that `field` says. Begins anew.
    pub(super) fn finish(&mut self, field: &Field) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int2(builder) => Arc::new(builder.finish()),
            Self::Int4(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Float4(builder) => Arc::new(builder.finish()),
            Self::Float8(builder) => Arc::new(builder.finish()),
            Self::Decimal { builder, .. } => Arc::new(builder.finish()),
            Self::Wide { builder, .. } => Arc::new(builder.finish()),
            Self::Text(builder)
            | Self::Jsonb(builder)
            | Self::Number { builder, .. }
            | Self::Uuid { builder, .. } => Arc::new(builder.finish()),
            Self::Bytea(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
            Self::Moment { builder, zoned: false } => Arc::new(builder.finish()),
            Self::Moment { builder, zoned: true } => Arc::new(builder.finish().with_timezone("UTC")),
            Self::Interval(builder) => Arc::new(builder.finish()),
            Self::List(lists) => Arc::new(lists.finish(field)?),
        })
    }
}

impl Lists {
    fn end(&mut self, there: bool) {
        self.ends.push(i32::try_from(self.count).unwrap_or(i32::MAX));
        self.there.push(there);
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        let other =
            || "holds an array with more than one dimension, or that does not count from 1".to_owned();
        for element in text::elements(bytes).ok_or_else(other)? {
            match element {
                Some(element) => self.elements.push(element)?,
                None => self.elements.push_null(),
            }
            self.count += 1;
        }
        self.end(true);
        Ok(())
    }

    fn finish(&mut self, field: &Field) -> Result<ListArray, ArrowError> {
        let DataType::List(item) = field.data_type() else {
            return Err(ArrowError::SchemaError(format!("{} is no list", field.name())));
        };
        let elements = self.elements.finish(item)?;
        self.count = 0;
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        let there = NullBuffer::from(std::mem::take(&mut self.there));
        debug_assert_eq!(usize::try_from(ends.last().copied().unwrap_or(0)), Ok(elements.len()));
        ListArray::try_new(Arc::clone(item), OffsetBuffer::new(ends.into()), elements, Some(there))
    }
}

fn unread() -> String {
    "holds bytes that are no value of its type".to_owned()
}

fn sized<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| unread())
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "holds text that is not UTF-8".to_owned())
}

fn decimal<T: Whole>(bytes: &[u8], scale: i8, data_type: &DataType) -> Result<T, String> {
    let number = Numeric::read(bytes).ok_or_else(unread)?;
    if let Some(word) = number.word() {
        return Err(format!("holds {word}, which no {data_type} can say"));
    }
    number.scaled(scale.into()).ok_or_else(|| {
        let mut text = String::new();
        number.write(&mut text);
        format!("holds {text}, which has no room in {data_type}")
    })
}

fn day(bytes: &[u8]) -> Result<i32, String> {
    let days = i32::from_be_bytes(sized(bytes)?);
    match days {
        i32::MIN | i32::MAX => Err(format!("holds {}, which no date can say", super::civil::date(days))),
        days => days.checked_add(EPOCH_DAYS).ok_or_else(unread),
    }
}

fn moment(bytes: &[u8]) -> Result<i64, String> {
    let us = i64::from_be_bytes(sized(bytes)?);
    match us {
        i64::MIN | i64::MAX => {
            Err(format!("holds {}, which no timestamp can say", super::civil::moment(us, "")))
        }
        us => us.checked_add(EPOCH_US).ok_or_else(|| {
            format!("holds {}, which lies beyond what a timestamp can say", super::civil::moment(us, ""))
        }),
    }
}

fn interval(bytes: &[u8]) -> Result<IntervalMonthDayNano, String> {
    let (us, rest) = bytes.split_first_chunk::<8>().ok_or_else(unread)?;
    let (days, months) = rest.split_first_chunk::<4>().ok_or_else(unread)?;
    let nanoseconds = i64::from_be_bytes(*us).checked_mul(1000);
    let nanoseconds = nanoseconds
        .ok_or_else(|| "holds an interval whose hours are more than an interval can say".to_owned())?;
    let months = i32::from_be_bytes(sized(months)?);
    Ok(IntervalMonthDayNano::new(months, i32::from_be_bytes(*days), nanoseconds))
}
