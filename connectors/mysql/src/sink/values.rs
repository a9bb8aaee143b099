//! Values as MySQL reads them: in a file for LOAD DATA, or in the text of an INSERT.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, LargeBinaryArray, RecordBatch,
    StringArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use hapax_protocol::code::Code;
use std::io::Write as _;
use std::sync::Arc;

use super::plan::{Null, Plan, Target};
use crate::declared::Takes;
use crate::fault::WriteFault;
use crate::{civil, codes};

/// In which text a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A line of a file: tabs between values, `\N` for NULL.
    File,
    /// SQL.
    Sql,
}

/// Why a value cannot be written: its code and the reason.
pub(crate) type Misfit = (Code, String);

/// The columns of one batch.
pub(crate) struct Columns<'a> {
    each: Vec<(&'a Target, Values)>,
    table: &'a str,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(plan: &'a Plan, records: &RecordBatch) -> Result<Self, WriteFault> {
        let mut each = Vec::with_capacity(plan.columns.len());
        for (target, array) in plan.columns.iter().zip(records.columns()) {
            let values = Values::of(array)
                .map_err(|source| WriteFault::Conversion { column: target.name.clone(), source })?;
            each.push((target, values));
        }
        Ok(Self { each, table: &plan.table })
    }

    /// Appends one row, or says why it cannot be written and appends nothing.
    pub(crate) fn push(&self, row: usize, form: Form, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let start = out.len();
        let pushed = self.push_values(row, form, out);
        if pushed.is_err() {
            out.truncate(start);
        }
        pushed
    }

    fn push_values(&self, row: usize, form: Form, out: &mut Vec<u8>) -> Result<(), Misfit> {
        if form == Form::Sql {
            out.push(b'(');
        }
        for (index, (target, values)) in self.each.iter().enumerate() {
            if index > 0 {
                out.push(if form == Form::Sql { b',' } else { b'\t' });
            }
            if !values.is_null(row) {
                if target.pads && values.ends_with_space(row) {
                    let reason =
                        format!("{} ends with a space, which its collation does not compare", target.name);
                    return Err((codes::VALUE_UNHELD, reason));
                }
                values
                    .push(row, form, &target.takes, out)
                    .map_err(|why| (codes::VALUE_UNHELD, format!("{} {why}", target.name)))?;
                continue;
            }
            match target.null {
                Null::Taken => out.extend_from_slice(if form == Form::Sql { b"NULL" } else { b"\\N" }),
                Null::NoKey => {
                    return Err((codes::KEY_NULL, format!("{} is NULL, and it is the key", target.name)));
                }
                Null::Refused => {
                    let reason = format!("table {} does not take NULL in {}", self.table, target.name);
                    return Err((codes::ROW_REFUSED, reason));
                }
            }
        }
        out.push(if form == Form::Sql { b')' } else { b'\n' });
        Ok(())
    }
}

/// One column of a batch, by what its values are.
enum Values {
    Null,
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
    Boolean(BooleanArray),
    /// Decimals, with all digits of their scale.
    Digits(StringArray),
    Text(StringArray),
    Bytes(LargeBinaryArray),
    /// Days since 1970.
    Date(Int64Array),
    /// Ticks since 1970, and how many a second has.
    Moment(Int64Array, i64),
    /// Ticks since midnight, and how many a second has.
    Time(Int64Array, i64),
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

impl Values {
    fn of(array: &ArrayRef) -> Result<Self, ArrowError> {
        let to = |kind: DataType| cast(array, &kind);
        let wide = |kind: DataType| cast(&to(kind)?, &DataType::Int64);
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Self::Integer(to(DataType::Int64)?.as_primitive().clone())
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Self::Unsigned(to(DataType::UInt64)?.as_primitive().clone())
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Self::Float(to(DataType::Float64)?.as_primitive().clone())
            }
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::Decimal32(_, _)
            | DataType::Decimal64(_, _)
            | DataType::Decimal128(_, _)
            | DataType::Decimal256(_, _) => Self::Digits(to(DataType::Utf8)?.as_string().clone()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Text(to(DataType::Utf8)?.as_string().clone())
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Self::Bytes(to(DataType::LargeBinary)?.as_binary().clone()),
            DataType::Date32 => Self::Date(wide(DataType::Int32)?.as_primitive().clone()),
            DataType::Date64 => {
                let days = cast(&to(DataType::Date32)?, &DataType::Int32)?;
                Self::Date(cast(&days, &DataType::Int64)?.as_primitive().clone())
            }
            DataType::Timestamp(unit, _) => {
                Self::Moment(to(DataType::Int64)?.as_primitive().clone(), per_second(*unit))
            }
            DataType::Time32(unit) => {
                Self::Time(wide(DataType::Int32)?.as_primitive().clone(), per_second(*unit))
            }
            DataType::Time64(unit) => {
                Self::Time(to(DataType::Int64)?.as_primitive().clone(), per_second(*unit))
            }
            DataType::Dictionary(_, values) => Self::of(&to(values.as_ref().clone())?)?,
            DataType::RunEndEncoded(_, values) => Self::of(&to(values.data_type().clone())?)?,
            _ => Self::Text(json(array)?),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Integer(array) | Self::Date(array) | Self::Moment(array, _) | Self::Time(array, _) => {
                array.is_null(row)
            }
            Self::Unsigned(array) => array.is_null(row),
            Self::Float(array) => array.is_null(row),
            Self::Boolean(array) => array.is_null(row),
            Self::Digits(array) | Self::Text(array) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
        }
    }

    fn ends_with_space(&self, row: usize) -> bool {
        matches!(self, Self::Text(array) if array.value(row).ends_with(' '))
    }

    /// Appends a value that is not NULL, or says what is wrong with it.
    fn push(&self, row: usize, form: Form, takes: &Takes, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Null => {}
            Self::Integer(array) => {
                let value = array.value(row);
                in_years(takes, value)?;
                digits(out, value)?;
            }
            Self::Unsigned(array) => {
                let value = array.value(row);
                in_years(takes, i64::try_from(value).unwrap_or(i64::MAX))?;
                digits(out, value)?;
            }
            Self::Boolean(array) => out.push(if array.value(row) { b'1' } else { b'0' }),
            Self::Float(array) => {
                let value = array.value(row);
                if !value.is_finite() {
                    return Err(format!("is {value}, which MySQL cannot hold"));
                }
                // The shortest digits that are this number, and no other.
                digits(out, format_args!("{value:e}"))?;
            }
            Self::Digits(array) => out.extend_from_slice(array.value(row).as_bytes()),
            Self::Text(array) => push_text(array.value(row), form, takes, out)?,
            Self::Bytes(array) => push_bytes(array.value(row), form, takes, out)?,
            Self::Date(array) => {
                quote(form, out);
                if !civil::push_date(out, array.value(row)) {
                    return Err("lies outside the years 0000 to 9999".to_owned());
                }
                quote(form, out);
            }
            Self::Moment(array, per_second) => {
                let value = array.value(row);
                let micros = micros(value, *per_second, takes)?;
                quote(form, out);
                if !civil::push_moment(out, value.div_euclid(*per_second), micros) {
                    return Err("lies outside the years 0000 to 9999".to_owned());
                }
                quote(form, out);
            }
            Self::Time(array, per_second) => {
                let value = array.value(row);
                let micros = micros(value, *per_second, takes)?;
                quote(form, out);
                civil::push_time(out, value.div_euclid(*per_second), micros);
                quote(form, out);
            }
        }
        Ok(())
    }
}

fn digits(out: &mut Vec<u8>, value: impl std::fmt::Display) -> Result<(), String> {
    write!(out, "{value}").map_err(|error| error.to_string())
}

fn quote(form: Form, out: &mut Vec<u8>) {
    if form == Form::Sql {
        out.push(b'\'');
    }
}

fn in_years(takes: &Takes, value: i64) -> Result<(), String> {
    let held = *takes != Takes::Year || value == 0 || (1901..=2155).contains(&value);
    if held { Ok(()) } else { Err(format!("is {value}, and a YEAR holds 1901 to 2155")) }
}

/// The second's fraction in microseconds, if the column keeps all of it.
fn micros(value: i64, per_second: i64, takes: &Takes) -> Result<i64, String> {
    let places = match takes {
        Takes::Moment(places) | Takes::Time(places) => (*places).min(6),
        _ => 6,
    };
    let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    if nanos % 10_i64.pow(9 - places) != 0 {
        return Err(format!(
            "has more than the {places} digits of a second's fraction that its column keeps"
        ));
    }
    Ok(nanos / 1_000)
}

fn push_text(text: &str, form: Form, takes: &Takes, out: &mut Vec<u8>) -> Result<(), String> {
    match takes {
        Takes::Padded if text.ends_with(' ') => {
            return Err("ends with a space, which its CHAR column would cut off".to_owned());
        }
        Takes::OneOf(members) if !members.iter().any(|member| member == text) => {
            return Err(format!("is {text:?}, which is none of its ENUM's members"));
        }
        Takes::SomeOf(members)
            if !text.is_empty()
                && !text.split(',').all(|part| members.iter().any(|member| member == part)) =>
        {
            return Err(format!("is {text:?}, which has what is none of its SET's members"));
        }
        _ => {}
    }
    quote(form, out);
    for byte in text.bytes() {
        match (byte, form) {
            (b'\\', _) => out.extend_from_slice(b"\\\\"),
            (0, _) => out.extend_from_slice(b"\\0"),
            (b'\'', Form::Sql) => out.extend_from_slice(b"\\'"),
            (b'\t', Form::File) => out.extend_from_slice(b"\\t"),
            (b'\n', Form::File) => out.extend_from_slice(b"\\n"),
            (byte, _) => out.push(byte),
        }
    }
    quote(form, out);
    Ok(())
}

fn push_bytes(bytes: &[u8], form: Form, takes: &Takes, out: &mut Vec<u8>) -> Result<(), String> {
    if let Takes::Bytes(Some(exact)) = takes
        && usize::try_from(*exact).ok() != Some(bytes.len())
    {
        return Err(format!("has {} bytes, and its BINARY column holds exactly {exact}", bytes.len()));
    }
    if form == Form::Sql {
        out.push(b'X');
    }
    quote(form, out);
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        let digit = |half: u8| HEX.get(usize::from(half)).copied().unwrap_or(b'0');
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
    quote(form, out);
    Ok(())
}

/// Nested values as JSON text.
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
