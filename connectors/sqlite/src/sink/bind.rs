//! Records into a prepared statement: each column's type is looked at once a batch, each value is bound as
//! it lies in the Arrow array.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray,
    LargeBinaryArray, LargeStringArray, PrimitiveArray, RecordBatch, StringArray, StringViewArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal128Type, Field, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use hapax_engine::transform::RefusedRow;
use hapax_protocol::code::Code;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, Statement};

use super::plan::Plan;
use crate::fault::WriteFault;
use crate::{civil, codes};

/// Why a batch could not be written.
pub(crate) enum Failure {
    Fault(WriteFault),
    Sqlite(rusqlite::Error),
    /// A constraint of the table rolled the whole transaction back.
    RolledBack,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Writes a batch, and returns the rows that SQLite cannot hold or the table does not take.
pub(crate) fn insert(
    connection: &Connection,
    plan: &Plan,
    records: &RecordBatch,
) -> Result<Vec<RefusedRow>, Failure> {
    let mut arrays = Vec::with_capacity(records.num_columns());
    for (field, array) in records.schema_ref().fields().iter().zip(records.columns()) {
        let plain = plainly(array).map_err(|source| {
            Failure::Fault(WriteFault::Conversion { column: field.name().clone(), source })
        })?;
        arrays.push(plain);
    }
    let mut columns = Vec::with_capacity(arrays.len());
    for (index, array) in arrays.iter().enumerate() {
        columns.push(Column { values: Values::of(array), never_null: plan.never_null.contains(&index) });
    }
    let mut statement = connection.prepare_cached(&plan.insert)?;
    let mut refused = Vec::new();
    let mut text = Vec::new();
    for row in 0..records.num_rows() {
        if let Some((column, misfit)) = bind_row(&columns, &mut statement, row, &mut text)? {
            let (code, reason) = misfit.words(plan.columns.get(column).map_or("", String::as_str));
            refused.push(RefusedRow { row, code, reason });
            continue;
        }
        match statement.raw_execute() {
            Ok(0) if plan.only_absent => refused.push(RefusedRow::key_is_there(row)),
            Ok(0) if !plan.may_skip => {
                let reason = format!(
                    "table {} skips this row (a trigger, or a constraint with ON CONFLICT IGNORE)",
                    plan.table
                );
                refused.push(RefusedRow { row, code: codes::ROW_REFUSED, reason });
            }
            Ok(_) => {}
            Err(error) => {
                let Some(reason) = refusal(&error, plan) else { return Err(error.into()) };
                if connection.is_autocommit() {
                    return Err(Failure::RolledBack);
                }
                refused.push(RefusedRow { row, code: codes::ROW_REFUSED, reason });
            }
        }
    }
    Ok(refused)
}

fn bind_row(
    columns: &[Column<'_>],
    statement: &mut Statement<'_>,
    row: usize,
    text: &mut Vec<u8>,
) -> Result<Option<(usize, Misfit)>, rusqlite::Error> {
    for (index, column) in columns.iter().enumerate() {
        text.clear();
        let value = match column.values.at(row, text) {
            Ok(ValueRef::Null) if column.never_null => return Ok(Some((index, Misfit::NullKey))),
            Ok(value) => value,
            Err(misfit) => return Ok(Some((index, misfit))),
        };
        statement.raw_bind_parameter(index + 1, ToSqlOutput::Borrowed(value))?;
    }
    Ok(None)
}

/// What a table says against a row, in words; `None` if the failure is not about the row.
fn refusal(error: &rusqlite::Error, plan: &Plan) -> Option<String> {
    let rusqlite::Error::SqliteFailure(failure, message) = error else { return None };
    let said = message.as_deref().unwrap_or("a constraint of the table does not hold");
    if !matches!(failure.code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) {
        return None;
    }
    let table = &plan.table;
    let prefix = format!("{table}.");
    let columns = |list: &str| {
        list.split(", ").map(|c| c.strip_prefix(&prefix).unwrap_or(c)).collect::<Vec<_>>().join(", ")
    };
    if let Some(list) = said.strip_prefix("NOT NULL constraint failed: ") {
        return Some(format!("table {table} does not take NULL in {}", columns(list)));
    }
    if let Some(list) = said.strip_prefix("UNIQUE constraint failed: ") {
        return Some(format!("table {table} already has a row with the same {}", columns(list)));
    }
    if let Some(check) = said.strip_prefix("CHECK constraint failed: ") {
        return Some(format!("the CHECK of table {table} does not hold: {check}"));
    }
    if said.starts_with("FOREIGN KEY") {
        return Some(format!("a foreign key of table {table} points at a row that is not there"));
    }
    Some(format!("table {table} refused it: {said}"))
}

/// Why SQLite cannot hold a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Misfit {
    NullKey,
    TooLarge,
    NotANumber,
    Year,
}

impl Misfit {
    fn words(self, column: &str) -> (Code, String) {
        match self {
            Self::NullKey => (codes::KEY_NULL, format!("{column} is NULL, and it is the key")),
            Self::TooLarge => (
                codes::VALUE_UNHELD,
                format!("{column} is above 9223372036854775807, SQLite's largest integer"),
            ),
            Self::NotANumber => {
                (codes::VALUE_UNHELD, format!("{column} is NaN, which SQLite would store as NULL"))
            }
            Self::Year => (codes::VALUE_UNHELD, format!("{column} lies outside the years 0000 to 9999")),
        }
    }
}

struct Column<'a> {
    values: Values<'a>,
    never_null: bool,
}

/// One column of a batch, by its type.
enum Values<'a> {
    Null,
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    UInt8(&'a PrimitiveArray<UInt8Type>),
    UInt16(&'a PrimitiveArray<UInt16Type>),
    UInt32(&'a PrimitiveArray<UInt32Type>),
    UInt64(&'a PrimitiveArray<UInt64Type>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Boolean(&'a BooleanArray),
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    Blob(&'a BinaryArray),
    LargeBlob(&'a LargeBinaryArray),
    BlobView(&'a BinaryViewArray),
    FixedBlob(&'a FixedSizeBinaryArray),
    Date32(&'a PrimitiveArray<Date32Type>),
    Date64(&'a PrimitiveArray<Date64Type>),
    Seconds(&'a PrimitiveArray<TimestampSecondType>, bool),
    Milliseconds(&'a PrimitiveArray<TimestampMillisecondType>, bool),
    Microseconds(&'a PrimitiveArray<TimestampMicrosecondType>, bool),
    Nanoseconds(&'a PrimitiveArray<TimestampNanosecondType>, bool),
    Decimal(&'a PrimitiveArray<Decimal128Type>, i8),
}

impl<'a> Values<'a> {
    /// Only types that [`plainly`] leaves.
    fn of(array: &'a ArrayRef) -> Self {
        match array.data_type() {
            DataType::Int8 => Self::Int8(array.as_primitive()),
            DataType::Int16 => Self::Int16(array.as_primitive()),
            DataType::Int32 => Self::Int32(array.as_primitive()),
            DataType::Int64 => Self::Int64(array.as_primitive()),
            DataType::UInt8 => Self::UInt8(array.as_primitive()),
            DataType::UInt16 => Self::UInt16(array.as_primitive()),
            DataType::UInt32 => Self::UInt32(array.as_primitive()),
            DataType::UInt64 => Self::UInt64(array.as_primitive()),
            DataType::Float32 => Self::Float32(array.as_primitive()),
            DataType::Float64 => Self::Float64(array.as_primitive()),
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::LargeUtf8 => Self::LargeText(array.as_string()),
            DataType::Utf8View => Self::TextView(array.as_string_view()),
            DataType::Binary => Self::Blob(array.as_binary()),
            DataType::LargeBinary => Self::LargeBlob(array.as_binary()),
            DataType::BinaryView => Self::BlobView(array.as_binary_view()),
            DataType::FixedSizeBinary(_) => Self::FixedBlob(array.as_fixed_size_binary()),
            DataType::Date32 => Self::Date32(array.as_primitive()),
            DataType::Date64 => Self::Date64(array.as_primitive()),
            DataType::Timestamp(TimeUnit::Second, zone) => {
                Self::Seconds(array.as_primitive(), zone.is_some())
            }
            DataType::Timestamp(TimeUnit::Millisecond, zone) => {
                Self::Milliseconds(array.as_primitive(), zone.is_some())
            }
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Self::Microseconds(array.as_primitive(), zone.is_some())
            }
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                Self::Nanoseconds(array.as_primitive(), zone.is_some())
            }
            DataType::Decimal128(_, scale) => Self::Decimal(array.as_primitive(), *scale),
            _ => Self::Null,
        }
    }

    /// The value of a row; text that has to be made is made in `text`.
    #[inline]
    fn at<'t>(&'t self, row: usize, text: &'t mut Vec<u8>) -> Result<ValueRef<'t>, Misfit> {
        fn value<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
            array.is_valid(row).then(|| array.value(row))
        }
        fn integer<T: Into<i64>>(value: Option<T>) -> Result<ValueRef<'static>, Misfit> {
            Ok(value.map_or(ValueRef::Null, |value| ValueRef::Integer(value.into())))
        }
        fn real(value: Option<f64>) -> Result<ValueRef<'static>, Misfit> {
            match value {
                None => Ok(ValueRef::Null),
                Some(value) if value.is_nan() => Err(Misfit::NotANumber),
                Some(value) => Ok(ValueRef::Real(value)),
            }
        }
        macro_rules! held {
            ($array:expr, $wrap:expr) => {
                if $array.is_valid(row) { Ok($wrap($array.value(row).as_ref())) } else { Ok(ValueRef::Null) }
            };
        }
        match self {
            Self::Null => Ok(ValueRef::Null),
            Self::Int8(array) => integer(value(array, row)),
            Self::Int16(array) => integer(value(array, row)),
            Self::Int32(array) => integer(value(array, row)),
            Self::Int64(array) => integer(value(array, row)),
            Self::UInt8(array) => integer(value(array, row)),
            Self::UInt16(array) => integer(value(array, row)),
            Self::UInt32(array) => integer(value(array, row)),
            Self::UInt64(array) => match value(array, row).map(i64::try_from) {
                None => Ok(ValueRef::Null),
                Some(value) => Ok(ValueRef::Integer(value.map_err(|_| Misfit::TooLarge)?)),
            },
            Self::Float32(array) => real(value(array, row).map(f64::from)),
            Self::Float64(array) => real(value(array, row)),
            Self::Boolean(array) => integer(array.is_valid(row).then(|| array.value(row))),
            Self::Text(array) => held!(array, ValueRef::Text),
            Self::LargeText(array) => held!(array, ValueRef::Text),
            Self::TextView(array) => held!(array, ValueRef::Text),
            Self::Blob(array) => held!(array, ValueRef::Blob),
            Self::LargeBlob(array) => held!(array, ValueRef::Blob),
            Self::BlobView(array) => held!(array, ValueRef::Blob),
            Self::FixedBlob(array) => held!(array, ValueRef::Blob),
            Self::Date32(array) => date(value(array, row).map(i64::from), text),
            Self::Date64(array) => date(value(array, row).map(|ms| ms.div_euclid(86_400_000)), text),
            Self::Seconds(array, zoned) => moment(value(array, row), 1, *zoned, text),
            Self::Milliseconds(array, zoned) => moment(value(array, row), 1_000, *zoned, text),
            Self::Microseconds(array, zoned) => moment(value(array, row), 1_000_000, *zoned, text),
            Self::Nanoseconds(array, zoned) => moment(value(array, row), 1_000_000_000, *zoned, text),
            Self::Decimal(array, scale) => match value(array, row) {
                None => Ok(ValueRef::Null),
                Some(value) => {
                    push_decimal(text, value, *scale);
                    Ok(ValueRef::Text(text))
                }
            },
        }
    }
}

fn date(days: Option<i64>, text: &mut Vec<u8>) -> Result<ValueRef<'_>, Misfit> {
    match days {
        None => Ok(ValueRef::Null),
        Some(days) if civil::push_date(text, days) => Ok(ValueRef::Text(text)),
        Some(_) => Err(Misfit::Year),
    }
}

fn moment(
    value: Option<i64>,
    per_second: i64,
    zoned: bool,
    text: &mut Vec<u8>,
) -> Result<ValueRef<'_>, Misfit> {
    let Some(value) = value else { return Ok(ValueRef::Null) };
    let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    if civil::push_moment(text, value.div_euclid(per_second), nanos, zoned) {
        Ok(ValueRef::Text(text))
    } else {
        Err(Misfit::Year)
    }
}

/// How many digits the largest decimal has.
const DIGITS: usize = 39;

/// Appends a decimal with all digits of its scale: `1.10`.
fn push_decimal(text: &mut Vec<u8>, value: i128, scale: i8) {
    if value < 0 {
        text.push(b'-');
    }
    let (digits, used) = digits(value.unsigned_abs());
    let places = usize::from(scale.unsigned_abs());
    let fraction = if scale > 0 { places } else { 0 };
    let shown = used.max(fraction + 1).min(DIGITS);
    let (whole, fraction) = digits.split_at(DIGITS.saturating_sub(fraction));
    text.extend_from_slice(whole.get(DIGITS - shown..).unwrap_or_default());
    if !fraction.is_empty() {
        text.push(b'.');
        text.extend_from_slice(fraction);
    } else if scale < 0 && value != 0 {
        text.extend(std::iter::repeat_n(b'0', places));
    }
}

/// The digits of a number, at the end of zeros, and how many they are.
fn digits(number: u128) -> ([u8; DIGITS], usize) {
    let mut digits = [b'0'; DIGITS];
    let mut used = 0;
    // Almost every decimal fits 64 bits, where division costs a tenth.
    if let Ok(mut left) = u64::try_from(number) {
        for digit in digits.iter_mut().rev() {
            if left == 0 {
                break;
            }
            *digit += u8::try_from(left % 10).unwrap_or(0);
            left /= 10;
            used += 1;
        }
    } else {
        let mut left = number;
        for digit in digits.iter_mut().rev() {
            if left == 0 {
                break;
            }
            *digit += u8::try_from(left % 10).unwrap_or(0);
            left /= 10;
            used += 1;
        }
    }
    (digits, used)
}

/// An array of a type that [`Values`] has: dictionaries are spread out, nested values become JSON, rare
/// types their text.
fn plainly(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        DataType::Dictionary(_, values) => plainly(&cast(array, values)?),
        DataType::RunEndEncoded(_, values) => plainly(&cast(array, values.data_type())?),
        DataType::Float16 => cast(array, &DataType::Float32),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            cast(array, &DataType::Decimal128(*precision, *scale))
        }
        DataType::Time32(_) | DataType::Time64(_) | DataType::Decimal256(_, _) => {
            cast(array, &DataType::Utf8)
        }
        DataType::Struct(_)
        | DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(_, _)
        | DataType::Map(_, _) => json(array),
        _ => Ok(Arc::clone(array)),
    }
}

fn json(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
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
        Ok(Arc::new(texts))
    } else {
        Err(ArrowError::JsonError("a nested value spans several lines".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::push_decimal;

    #[test]
    fn decimals_keep_all_their_digits() {
        for (value, scale, text) in [
            (110, 2, "1.10"),
            (-5, 2, "-0.05"),
            (0, 2, "0.00"),
            (12, 0, "12"),
            (12, -2, "1200"),
            (0, -2, "0"),
        ] {
            let mut out = Vec::new();
            push_decimal(&mut out, value, scale);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
