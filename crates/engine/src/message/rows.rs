//! Bodies put into columns, one after the other.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder,
    Time64MicrosecondBuilder, TimestampMicrosecondBuilder, UInt8Builder, UInt16Builder, UInt32Builder,
    UInt64Builder,
};
use arrow::datatypes::{DataType, TimeUnit};

use super::json::{Form, Member, members, unescaped};
use super::{Bodies, Format, UnknownFields};
use crate::columns::type_name;
use crate::exact::{self, Strictness};

/// The records of some bodies.
pub struct Rows {
    bodies: Bodies,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

/// One value on its way into a column.
enum Cell<'a> {
    Null,
    Boolean(bool),
    Signed(i64),
    Unsigned(u64),
    Single(f32),
    Double(f64),
    Decimal(i128),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
}

enum Column {
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt8(UInt8Builder),
    UInt16(UInt16Builder),
    UInt32(UInt32Builder),
    UInt64(UInt64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Moment(TimestampMicrosecondBuilder),
    Binary(BinaryBuilder),
    Text(StringBuilder),
}

impl Rows {
    pub(super) fn new(bodies: Bodies) -> Self {
        let columns = bodies.fields.iter().map(|field| Column::of(field.data_type())).collect();
        Self { bodies, columns, rows: 0, bytes: 0 }
    }

    /// Adds a body. One that is no record adds nothing, and the error says why.
    pub fn push(&mut self, body: &[u8]) -> Result<(), String> {
        match self.bodies.format {
            Format::Raw => {
                for column in &mut self.columns {
                    column.append(Cell::Bytes(Cow::Borrowed(body)));
                }
            }
            Format::Json => {
                let cells = self.bodies.cells(body)?;
                for (column, cell) in self.columns.iter_mut().zip(cells) {
                    column.append(cell.unwrap_or(Cell::Null));
                }
            }
        }
        self.rows = self.rows.saturating_add(1);
        self.bytes = self.bytes.saturating_add(body.len());
        Ok(())
    }

    /// Adds a record without a body: all its columns are NULL.
    pub fn push_nothing(&mut self) {
        for column in &mut self.columns {
            column.append(Cell::Null);
        }
        self.rows = self.rows.saturating_add(1);
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// How many bytes the bodies had.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The columns, in the order of the fields.
    pub fn finish(self) -> Vec<ArrayRef> {
        self.columns.into_iter().map(Column::finish).collect()
    }
}

impl Bodies {
    /// The values of an object, one per column; nothing for a field that it does not have.
    fn cells<'a>(&self, body: &'a [u8]) -> Result<Vec<Option<Cell<'a>>>, String> {
        let fields = &self.fields;
        let mut cells: Vec<Option<Cell<'a>>> = fields.iter().map(|_| None).collect();
        for (at, member) in members(body)?.enumerate() {
            // Producers keep the order of their fields, mostly that of the schema.
            let is_it = |at: &usize| fields.get(*at).is_some_and(|field| *field.name() == member.name);
            let known = Some(at).filter(is_it).or_else(|| (0..fields.len()).find(is_it));
            let Some((field, cell)) = known.and_then(|at| Some((fields.get(at)?, cells.get_mut(at)?))) else {
                match self.unknown {
                    UnknownFields::Ignore => continue,
                    UnknownFields::Reject => {
                        return Err(format!("the schema has no field {}", shown(&member.name)));
                    }
                }
            };
            if cell.is_some() {
                return Err(format!("the field {} is given twice", shown(&member.name)));
            }
            let unfit = || {
                let wanted = type_name(field.data_type());
                let value = match member.form {
                    Form::Quoted => shown(&unescaped(member.text)),
                    _ => shown(member.text).trim_matches('"').to_owned(),
                };
                format!("column {}: {value} is not a {wanted}", field.name())
            };
            *cell = Some(read(&member, field.data_type()).ok_or_else(unfit)?);
        }
        Ok(cells)
    }
}

/// At most 80 characters of a value, for people.
fn shown(value: &str) -> String {
    match value.char_indices().nth(80) {
        Some((cut, _)) => format!("\"{}…\"", value.get(..cut).unwrap_or_default()),
        None => format!("\"{value}\""),
    }
}

/// Reads a value, exactly. `None` if it does not fit.
fn read<'a>(member: &Member<'a>, wanted: &DataType) -> Option<Cell<'a>> {
    use DataType as D;
    if member.form == Form::Null {
        return Some(Cell::Null);
    }
    let text = match member.form {
        Form::Quoted => unescaped(member.text),
        _ => Cow::Borrowed(member.text),
    };
    let bytes = text.as_bytes();
    let (bare, quoted) = (member.form == Form::Bare, member.form == Form::Quoted);
    let strict = Strictness::Declared;
    Some(match wanted {
        // Objects and arrays are kept as their text, which says what they are.
        D::Utf8 if member.form != Form::Bare => Cell::Text(text),
        D::Boolean if bare => Cell::Boolean(exact::boolean(bytes, strict)?),
        D::UInt64 if bare => Cell::Unsigned(match exact::uint(bytes, strict) {
            Some(number) => number,
            None => u64::try_from(exact::whole(bytes)?).ok()?,
        }),
        D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32 if bare => {
            let number = exact::int(bytes, strict).or_else(|| exact::whole(bytes))?;
            if !fits(number, wanted) {
                return None;
            }
            Cell::Signed(number)
        }
        D::Float32 if bare || quoted => Cell::Single(exact::float32(bytes)?),
        D::Float64 if bare || quoted => Cell::Double(exact::float64(bytes)?),
        D::Decimal128(precision, scale) if bare || quoted => {
            Cell::Decimal(exact::decimal(bytes, *precision, *scale)?)
        }
        D::Date32 if quoted => Cell::Signed(i64::from(exact::date(bytes)?)),
        D::Time64(TimeUnit::Microsecond) if quoted => Cell::Signed(exact::time(bytes)?),
        D::Timestamp(TimeUnit::Microsecond, zone) if quoted => {
            let moment = exact::moment(bytes).filter(|moment| moment.zoned == zone.is_some())?;
            Cell::Signed(moment.micros)
        }
        D::Binary if quoted => Cell::Bytes(exact::hex(bytes)?.into()),
        _ => return None,
    })
}

fn fits(number: i64, wanted: &DataType) -> bool {
    match wanted {
        DataType::Int8 => i8::try_from(number).is_ok(),
        DataType::Int16 => i16::try_from(number).is_ok(),
        DataType::Int32 => i32::try_from(number).is_ok(),
        DataType::UInt8 => u8::try_from(number).is_ok(),
        DataType::UInt16 => u16::try_from(number).is_ok(),
        DataType::UInt32 => u32::try_from(number).is_ok(),
        _ => true,
    }
}

impl Column {
    fn of(data_type: &DataType) -> Self {
        use DataType as D;
        match data_type {
            D::Boolean => Self::Boolean(BooleanBuilder::new()),
            D::Int8 => Self::Int8(Int8Builder::new()),
            D::Int16 => Self::Int16(Int16Builder::new()),
            D::Int32 => Self::Int32(Int32Builder::new()),
            D::Int64 => Self::Int64(Int64Builder::new()),
            D::UInt8 => Self::UInt8(UInt8Builder::new()),
            D::UInt16 => Self::UInt16(UInt16Builder::new()),
            D::UInt32 => Self::UInt32(UInt32Builder::new()),
            D::UInt64 => Self::UInt64(UInt64Builder::new()),
            D::Float32 => Self::Float32(Float32Builder::new()),
            D::Float64 => Self::Float64(Float64Builder::new()),
            D::Decimal128(..) => Self::Decimal(Decimal128Builder::new().with_data_type(data_type.clone())),
            D::Date32 => Self::Date(Date32Builder::new()),
            D::Time64(_) => Self::Time(Time64MicrosecondBuilder::new()),
            D::Timestamp(..) => {
                Self::Moment(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()))
            }
            D::Binary => Self::Binary(BinaryBuilder::new()),
            // There are no other types in a `schema`.
            _ => Self::Text(StringBuilder::new()),
        }
    }

    fn append(&mut self, cell: Cell<'_>) {
        let signed = match &cell {
            Cell::Signed(number) => Some(*number),
            _ => None,
        };
        match self {
            Self::Boolean(to) => to.append_option(match cell {
                Cell::Boolean(value) => Some(value),
                _ => None,
            }),
            Self::Int8(to) => to.append_option(signed.and_then(|n| n.try_into().ok())),
            Self::Int16(to) => to.append_option(signed.and_then(|n| n.try_into().ok())),
            Self::Int32(to) => to.append_option(signed.and_then(|n| n.try_into().ok())),
            Self::Int64(to) => to.append_option(signed),
            Self::UInt8(to) => to.append_option(signed.and_then(|n| n.try_into().ok())),
            Self::UInt16(to) => to.append_option(signed.and_then(|n| n.try_into().ok())),
            Self::UInt32(to) => to.append_option(signed.and_then(|n| n.try_into().ok())),
            Self::UInt64(to) => to.append_option(match cell {
                Cell::Unsigned(value) => Some(value),
                _ => None,
            }),
            Self::Float32(to) => to.append_option(match cell {
                Cell::Single(value) => Some(value),
                _ => None,
            }),
            Self::Float64(to) => to.append_option(match cell {
                Cell::Double(value) => Some(value),
                _ => None,
            }),
            Self::Decimal(to) => to.append_option(match cell {
                Cell::Decimal(value) => Some(value),
                _ => None,
            }),
            Self::Date(to) => to.append_option(signed.and_then(|n| n.try_into().ok())),
            Self::Time(to) => to.append_option(signed),
            Self::Moment(to) => to.append_option(signed),
            Self::Binary(to) => to.append_option(match &cell {
                Cell::Bytes(value) => Some(value),
                _ => None,
            }),
            Self::Text(to) => to.append_option(match &cell {
                Cell::Text(value) => Some(value),
                _ => None,
            }),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Boolean(mut it) => Arc::new(it.finish()),
            Self::Int8(mut it) => Arc::new(it.finish()),
            Self::Int16(mut it) => Arc::new(it.finish()),
            Self::Int32(mut it) => Arc::new(it.finish()),
            Self::Int64(mut it) => Arc::new(it.finish()),
            Self::UInt8(mut it) => Arc::new(it.finish()),
            Self::UInt16(mut it) => Arc::new(it.finish()),
            Self::UInt32(mut it) => Arc::new(it.finish()),
            Self::UInt64(mut it) => Arc::new(it.finish()),
            Self::Float32(mut it) => Arc::new(it.finish()),
            Self::Float64(mut it) => Arc::new(it.finish()),
            Self::Decimal(mut it) => Arc::new(it.finish()),
            Self::Date(mut it) => Arc::new(it.finish()),
            Self::Time(mut it) => Arc::new(it.finish()),
            Self::Moment(mut it) => Arc::new(it.finish()),
            Self::Binary(mut it) => Arc::new(it.finish()),
            Self::Text(mut it) => Arc::new(it.finish()),
        }
    }
}
