//! Records as bytes that mean the same on both ends.
//!
//! Two values have the same encoding exactly if they are the same value: an integer does not depend on
//! its width, a string not on its layout, a timestamp not on its unit; a list, a struct or a map is told apart by its
//! children and how many they are, nulls among them. Identities and comparisons are
//! digests of these bytes, so the encoding never changes once a ledger was written with it.

pub mod nested;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, GenericBinaryArray, Int64Array, RecordBatch,
    StringArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use nested::{Nested, Shape, flat_nulls, printed};

/// Encodes the rows of a batch, column by column.
pub struct Rows {
    columns: Vec<Column>,
}

enum Column {
    Boolean(BooleanArray),
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
    Text(StringArray),
    Bytes(GenericBinaryArray<i64>),
    /// Days or ticks: a tag, the value, and how many nanoseconds one is.
    Time(u8, Int64Array, i128),
    /// A list, struct or map, and its parts in their order.
    Nested(Box<(Nested, Vec<Column>)>),
    /// Everything else by its printed form, which no other value of the type has: decimals have all their digits,
    /// durations and intervals all their units, and a shared value is the whole of what is printed.
    Printed(ArrayRef, Option<NullBuffer>),
}

impl Rows {
    /// Looks at the columns `columns` of `records`, in this order.
    pub fn new(records: &RecordBatch, columns: &[usize]) -> Result<Self, ArrowError> {
        let columns = columns
            .iter()
            .filter_map(|&column| records.columns().get(column))
            .map(Column::new)
            .collect::<Result<_, _>>()?;
        Ok(Self { columns })
    }

    /// Appends the encoding of one row to `into`. A null is encoded as a null.
    pub fn encode(&self, row: usize, into: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.columns.iter().try_for_each(|column| column.encode(row, into))
    }

    /// Appends the encoding of the value in one column (counted in the order given) to `into`.
    pub fn encode_column(&self, column: usize, row: usize, into: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.columns.get(column).map_or(Ok(()), |column| column.encode(row, into))
    }

    /// The first of the columns that is null in this row, by its place in the order given.
    pub fn null(&self, row: usize) -> Option<usize> {
        self.columns.iter().position(|column| column.is_null(row))
    }
}

impl Column {
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        const DAY_NS: i128 = 86_400_000_000_000;
        let to = |kind: DataType| cast(array, &kind);
        Ok(match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Self::Integer(to(DataType::Int64)?.as_primitive().clone())
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Self::Unsigned(to(DataType::UInt64)?.as_primitive().clone())
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Self::Float(to(DataType::Float64)?.as_primitive().clone())
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Text(to(DataType::Utf8)?.as_string().clone())
            }
            DataType::Dictionary(_, values) if **values == DataType::Utf8 => {
                Self::Text(to(DataType::Utf8)?.as_string().clone())
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Self::Bytes(to(DataType::LargeBinary)?.as_binary().clone()),
            DataType::Date32 => {
                let days = cast(&to(DataType::Int32)?, &DataType::Int64)?;
                Self::Time(b'd', days.as_primitive().clone(), DAY_NS)
            }
            DataType::Date64 => Self::Time(b'd', to(DataType::Int64)?.as_primitive().clone(), 1_000_000),
            DataType::Timestamp(unit, _) => {
                Self::Time(b't', to(DataType::Int64)?.as_primitive().clone(), nanoseconds(*unit))
            }
            DataType::Time64(unit) => {
                Self::Time(b'c', to(DataType::Int64)?.as_primitive().clone(), nanoseconds(*unit))
            }
            DataType::Time32(unit) => {
                let ticks = cast(&to(DataType::Int32)?, &DataType::Int64)?;
                Self::Time(b'c', ticks.as_primitive().clone(), nanoseconds(*unit))
            }
            _ => match Nested::of(array)? {
                Some(nested) => {
                    let parts = nested.parts().iter().map(|(_, part)| Self::new(part));
                    let parts = parts.collect::<Result<_, _>>()?;
                    Self::Nested(Box::new((nested, parts)))
                }
                None => Self::Printed(array.clone(), flat_nulls(array)),
            },
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Boolean(array) => array.is_null(row),
            Self::Integer(array) | Self::Time(_, array, _) => array.is_null(row),
            Self::Unsigned(array) => array.is_null(row),
            Self::Float(array) => array.is_null(row),
            Self::Text(array) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
            Self::Nested(nested) => nested.0.is_null(row),
            Self::Printed(_, nulls) => nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)),
        }
    }

    fn encode(&self, row: usize, into: &mut Vec<u8>) -> Result<(), ArrowError> {
        if self.is_null(row) {
            into.push(b'0');
            return Ok(());
        }
        match self {
            Self::Boolean(array) => into.extend([b'b', u8::from(array.value(row))]),
            Self::Integer(array) => integer(array.value(row), into),
            Self::Unsigned(array) => match i64::try_from(array.value(row)) {
                Ok(value) => integer(value, into),
                Err(_) => {
                    into.push(b'u');
                    into.extend(array.value(row).to_le_bytes());
                }
            },
            Self::Float(array) => {
                let value = array.value(row);
                let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
                into.push(b'f');
                into.extend(bits.to_le_bytes());
            }
            Self::Text(array) => counted(b's', array.value(row).as_bytes(), into),
            Self::Bytes(array) => counted(b'x', array.value(row), into),
            Self::Time(tag, array, scale) => {
                into.push(*tag);
                into.extend(i128::from(array.value(row)).saturating_mul(*scale).to_le_bytes());
            }
            Self::Nested(nested) => return children(&nested.0, &nested.1, row, into),
            Self::Printed(array, _) => {
                let options = FormatOptions::default().with_display_error(false);
                let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
                counted(b'p', printed(&formatter, array, row)?.as_bytes(), into);
            }
        }
        Ok(())
    }
}

/// How many children there are, and then each of them as any value.
fn children(nested: &Nested, parts: &[Column], row: usize, into: &mut Vec<u8>) -> Result<(), ArrowError> {
    into.push(match nested.shape {
        Shape::List => b'l',
        Shape::Struct => b'r',
        Shape::Map => b'm',
    });
    into.extend(nested.length(row).to_le_bytes());
    for child in nested.span(row) {
        for ((name, _), part) in nested.parts().iter().zip(parts) {
            if let Some(name) = name {
                counted(b's', name.as_bytes(), into);
            }
            part.encode(child, into)?;
        }
    }
    Ok(())
}

fn nanoseconds(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

fn integer(value: i64, into: &mut Vec<u8>) {
    into.push(b'i');
    into.extend(value.to_le_bytes());
}

fn counted(tag: u8, bytes: &[u8], into: &mut Vec<u8>) {
    into.push(tag);
    into.extend(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
    into.extend(bytes);
}
