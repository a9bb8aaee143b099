//! Fields turned into Arrow columns. A value that does not fit spoils its record and no other.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanArray, BooleanBuilder, PrimitiveBuilder, RecordBatch,
    RecordBatchOptions, StringBuilder, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, FieldRef, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Schema, SchemaRef, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use super::fields::{Field, Flaw, Form, Table, shown};
use super::{csv, json};
use crate::codes;
use crate::config::type_name;
use hapax_engine::exact::{self as value, Strictness};

/// How the text of a column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Which texts of numbers are taken.
    pub strictness: Strictness,
    /// A string column that takes JSON numbers and truth values as they are written, because the sample had them
    /// among strings.
    pub literals: bool,
}

impl Rule {
    pub(super) const DECLARED: Self = Self { strictness: Strictness::Declared, literals: false };
    pub(super) const INFERRED: Self = Self { strictness: Strictness::Canonical, literals: false };
}

/// The format the fields come from.
#[derive(Debug, Clone)]
pub(super) enum Writing {
    /// CSV; unquoted fields with one of these texts are NULL.
    Csv {
        /// The texts.
        nulls: Arc<[String]>,
    },
    /// JSON.
    Json,
}

/// Turns tables into batches of one schema.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub schema: SchemaRef,
    pub rules: Arc<[Rule]>,
    /// For each column of the schema its place in the record.
    pub order: Arc<[usize]>,
    pub writing: Writing,
}

/// The flaws of rows, by row.
type Flaws = BTreeMap<usize, Flaw>;

impl Columns {
    /// Decodes the rows of a table. Returns the good rows, and what is wrong with the others, by row.
    pub(super) fn decode(
        &self,
        table: &Table,
        text: &str,
        mut flaws: Flaws,
    ) -> Result<(RecordBatch, Flaws), ArrowError> {
        let rows = table.rows();
        let width = self.order.len();
        let mut arrays = Vec::with_capacity(width);
        for ((field, rule), at) in self.schema.fields().iter().zip(self.rules.iter()).zip(self.order.iter()) {
            let cells = Cells { columns: self, field, rule: *rule, table, text, at: *at, width, rows };
            arrays.push(cells.decode(&mut flaws)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?;
        if flaws.is_empty() {
            return Ok((batch, flaws));
        }
        let good: BooleanArray = (0..rows).map(|row| Some(!flaws.contains_key(&row))).collect();
        Ok((filter_record_batch(&batch, &good)?, flaws))
    }
}

/// One column of a table.
struct Cells<'a> {
    columns: &'a Columns,
    field: &'a FieldRef,
    rule: Rule,
    table: &'a Table,
    text: &'a str,
    at: usize,
    width: usize,
    rows: usize,
}

/// How a value may be written in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Either,
}

impl<'a> Cells<'a> {
    fn decode(&self, flaws: &mut Flaws) -> Result<ArrayRef, ArrowError> {
        let wanted = self.field.data_type();
        let (native, array) = self.native(wanted, flaws)?;
        if native == *wanted {
            return Ok(array);
        }
        let cast = cast_with_options(&array, wanted, &CastOptions { safe: true, ..CastOptions::default() })?;
        for row in (0..array.len()).filter(|row| array.is_valid(*row) && cast.is_null(*row)) {
            self.unfit(row, flaws);
        }
        Ok(cast)
    }

    /// Decodes into the type itself, or into the nearest one that text is read as.
    fn native(&self, wanted: &DataType, flaws: &mut Flaws) -> Result<(DataType, ArrayRef), ArrowError> {
        use DataType as D;
        let strict = self.rule.strictness;
        let array: ArrayRef = match wanted {
            D::Null => new_null_array(&D::Null, self.rows),
            D::Boolean => Arc::new(self.booleans(flaws)),
            D::Int8 => self.integers::<Int8Type>(flaws),
            D::Int16 => self.integers::<Int16Type>(flaws),
            D::Int32 => self.integers::<Int32Type>(flaws),
            D::Int64 => self.integers::<Int64Type>(flaws),
            D::UInt8 => self.integers::<UInt8Type>(flaws),
            D::UInt16 => self.integers::<UInt16Type>(flaws),
            D::UInt32 => self.integers::<UInt32Type>(flaws),
            D::UInt64 => self.primitives::<UInt64Type>(wanted, Kind::Number, flaws, |t| {
                value::uint(t, strict).or_else(|| self.json(t).and_then(|n| u64::try_from(n).ok()))
            }),
            D::Float32 => self.primitives::<Float32Type>(wanted, Kind::Either, flaws, value::float32),
            D::Float64 => self.primitives::<Float64Type>(wanted, Kind::Either, flaws, value::float64),
            D::Decimal128(precision, scale) => {
                let (precision, scale) = (*precision, *scale);
                self.primitives::<Decimal128Type>(wanted, Kind::Either, flaws, |t| {
                    value::decimal(t, precision, scale)
                })
            }
            D::Date32 => self.primitives::<Date32Type>(wanted, Kind::Text, flaws, value::date),
            D::Time64(TimeUnit::Microsecond) => {
                self.primitives::<Time64MicrosecondType>(wanted, Kind::Text, flaws, value::time)
            }
            D::Timestamp(TimeUnit::Microsecond, zone) => {
                let zoned = zone.is_some();
                let read = |t: &[u8]| value::moment(t).filter(|m| m.zoned == zoned).map(|m| m.micros);
                self.primitives::<TimestampMicrosecondType>(wanted, Kind::Text, flaws, read)
            }
            D::Binary => self.binaries(flaws),
            D::Utf8 => self.strings(flaws),
            D::Timestamp(_, zone) => {
                return self.native(&D::Timestamp(TimeUnit::Microsecond, zone.clone()), flaws);
            }
            D::Time32(_) | D::Time64(_) => return self.native(&D::Time64(TimeUnit::Microsecond), flaws),
            D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => return self.native(&D::Binary, flaws),
            nested if nested.is_nested() => self.nested(flaws)?,
            _ => return self.native(&D::Utf8, flaws),
        };
        Ok((wanted.clone(), array))
    }

    fn fields(&self) -> impl Iterator<Item = (usize, &'a Field)> {
        self.table.fields.iter().skip(self.at).step_by(self.width).enumerate()
    }

    /// Whether this field is NULL in a column that is not of strings.
    #[inline]
    fn is_null(&self, field: &Field, text: &str) -> bool {
        match (&self.columns.writing, field.form) {
            (_, Form::Absent | Form::Null) => true,
            (Writing::Csv { nulls }, Form::Bare) => nulls.iter().any(|null| null == text),
            (Writing::Csv { .. }, Form::Quoted) => text.is_empty(),
            _ => false,
        }
    }

    #[inline]
    fn raw(&self, field: &Field) -> &'a str {
        self.text.get(field.range()).unwrap_or_default()
    }

    /// The text of an escaped field; `None` if an escape is not one.
    fn unescaped(&self, raw: &str) -> Option<String> {
        match self.columns.writing {
            Writing::Json => json::unescape(raw),
            Writing::Csv { .. } => {
                let mut text = String::new();
                csv::unescape(raw, &mut text);
                Some(text)
            }
        }
    }

    fn admits(&self, kind: Kind, form: Form) -> bool {
        match (&self.columns.writing, form) {
            (Writing::Csv { .. }, _) => true,
            (Writing::Json, Form::Nested) => false,
            (Writing::Json, Form::Bare) => kind != Kind::Text,
            (Writing::Json, _) => kind != Kind::Number,
        }
    }

    /// A whole number that JSON wrote with a fraction or exponent.
    fn json(&self, text: &[u8]) -> Option<i64> {
        matches!(self.columns.writing, Writing::Json).then(|| value::whole(text)).flatten()
    }

    fn integers<T: ArrowPrimitiveType>(&self, flaws: &mut Flaws) -> ArrayRef
    where
        T::Native: TryFrom<i64>,
    {
        let strict = self.rule.strictness;
        self.primitives::<T>(&T::DATA_TYPE, Kind::Number, flaws, |text| {
            let value = value::int(text, strict).or_else(|| self.json(text))?;
            T::Native::try_from(value).ok()
        })
    }

    fn primitives<T: ArrowPrimitiveType>(
        &self,
        data_type: &DataType,
        kind: Kind,
        flaws: &mut Flaws,
        read: impl Fn(&[u8]) -> Option<T::Native>,
    ) -> ArrayRef {
        let mut builder = PrimitiveBuilder::<T>::with_capacity(self.rows).with_data_type(data_type.clone());
        self.each(kind, flaws, |text| match text {
            None => {
                builder.append_null();
                true
            }
            Some(text) => {
                let value = read(text.as_bytes());
                builder.append_option(value);
                value.is_some()
            }
        });
        Arc::new(builder.finish())
    }

    fn booleans(&self, flaws: &mut Flaws) -> BooleanArray {
        let mut builder = BooleanBuilder::with_capacity(self.rows);
        let strict = self.rule.strictness;
        self.each(Kind::Number, flaws, |text| {
            let value = text.map(|text| value::boolean(text.as_bytes(), strict));
            builder.append_option(value.flatten());
            value != Some(None)
        });
        builder.finish()
    }

    fn binaries(&self, flaws: &mut Flaws) -> ArrayRef {
        let mut builder = BinaryBuilder::with_capacity(self.rows, 0);
        self.each(Kind::Text, flaws, |text| {
            let value = text.map(|text| value::hex(text.as_bytes()));
            builder.append_option(value.as_ref().and_then(Option::as_ref));
            value != Some(None)
        });
        Arc::new(builder.finish())
    }

    /// Hands over every field, `None` for NULL and for what is not written as the kind asks. `take` says whether
    /// it fits.
    fn each(&self, kind: Kind, flaws: &mut Flaws, mut take: impl FnMut(Option<&str>) -> bool) {
        for (row, field) in self.fields() {
            let raw = self.raw(field);
            let fits = if self.is_null(field, raw) {
                take(None)
            } else if !self.admits(kind, field.form) {
                take(None);
                false
            } else if field.form == Form::Escaped {
                let text = self.unescaped(raw);
                take(text.as_deref()) && text.is_some()
            } else {
                take(Some(raw))
            };
            if !fits {
                self.unfit(row, flaws);
            }
        }
    }

    fn strings(&self, flaws: &mut Flaws) -> ArrayRef {
        let bytes: usize = self.fields().map(|(_, field)| field.range().len()).sum();
        let mut builder = StringBuilder::with_capacity(self.rows, bytes);
        let is_json = matches!(self.columns.writing, Writing::Json);
        for (row, field) in self.fields() {
            let raw = self.raw(field);
            match field.form {
                Form::Quoted => builder.append_value(raw),
                Form::Bare if is_json && !self.rule.literals => {
                    builder.append_null();
                    self.unfit(row, flaws);
                }
                Form::Escaped => {
                    let text = self.unescaped(raw);
                    builder.append_option(text.as_deref());
                    if text.is_none() {
                        self.unfit(row, flaws);
                    }
                }
                Form::Nested => {
                    builder.append_null();
                    self.unfit(row, flaws);
                }
                _ if self.is_null(field, raw) => builder.append_null(),
                _ => builder.append_value(raw),
            }
        }
        Arc::new(builder.finish())
    }

    /// Objects and arrays, read by Arrow's own reader.
    fn nested(&self, flaws: &mut Flaws) -> Result<ArrayRef, ArrowError> {
        let fields: Vec<(usize, &str)> = self
            .fields()
            .map(|(row, field)| (row, if field.form == Form::Nested { self.raw(field) } else { "null" }))
            .collect();
        for (row, field) in self.fields() {
            if !matches!(field.form, Form::Nested | Form::Null | Form::Absent) {
                self.unfit(row, flaws);
            }
        }
        let mut good = vec![true; fields.len()];
        let mut parts = Vec::new();
        let mut open: Vec<&[(usize, &str)]> = vec![&fields];
        while let Some(some) = open.pop() {
            match self.read_nested(some.iter().map(|(_, text)| *text)) {
                Ok(part) => parts.push(part),
                Err(_) if some.len() > 1 => {
                    let (left, right) = some.split_at(some.len() / 2);
                    open.extend([right, left]);
                }
                Err(error) => {
                    for (row, _) in some {
                        let reason = format!("column {}: {error}", self.field.name());
                        flaws.entry(*row).or_insert_with(|| Flaw::new(codes::UNFIT, reason));
                        good.get_mut(*row).into_iter().for_each(|good| *good = false);
                    }
                    parts.push(new_null_array(self.field.data_type(), some.len()));
                }
            }
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        if parts.is_empty() {
            return Ok(new_null_array(self.field.data_type(), 0));
        }
        arrow::compute::concat(&parts)
    }

    fn read_nested<'t>(&self, texts: impl ExactSizeIterator<Item = &'t str>) -> Result<ArrayRef, ArrowError> {
        let count = texts.len();
        let field = self.field.as_ref().clone().with_name("v");
        let schema = Arc::new(Schema::new(vec![field]));
        let mut decoder = arrow::json::ReaderBuilder::new(schema)
            .with_batch_size(count.max(1))
            .with_strict_mode(true)
            .build_decoder()?;
        let damaged = || ArrowError::JsonError("not one valid value".to_owned());
        for (done, text) in texts.enumerate() {
            for part in ["{\"v\":", text, "}"] {
                if decoder.decode(part.as_bytes())? < part.len() {
                    return Err(damaged());
                }
            }
            if decoder.has_partial_record() || decoder.len() != done + 1 {
                return Err(damaged());
            }
        }
        let batch = decoder.flush()?;
        let column =
            batch.as_ref().and_then(|batch| batch.columns().first()).filter(|column| column.len() == count);
        match column {
            Some(column) => Ok(column.clone()),
            None if count == 0 => Ok(new_null_array(self.field.data_type(), 0)),
            None => Err(damaged()),
        }
    }

    fn unfit(&self, row: usize, flaws: &mut Flaws) {
        let field = self.table.fields.get(row * self.width + self.at).copied().unwrap_or(Field::ABSENT);
        let raw = self.raw(&field);
        let text = if field.form == Form::Escaped { self.unescaped(raw) } else { None };
        let value = shown(text.as_deref().unwrap_or(raw));
        let written = match (&self.columns.writing, field.form) {
            (Writing::Json, Form::Bare | Form::Nested) => value.trim_matches('"').to_owned(),
            _ => value,
        };
        let wanted = type_name(self.field.data_type());
        let reason = format!("column {}: {written} is not a {wanted}", self.field.name());
        flaws.entry(row).or_insert_with(|| Flaw::new(codes::UNFIT, reason));
    }
}
