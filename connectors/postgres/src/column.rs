//! Columns and their types, as the catalog describes them, and the Arrow types that hold their values.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use hapax_engine::wire::WireFormat;
use tokio_postgres::Error;
use tokio_postgres::types::Oid;

use crate::client::Session;

/// The key under which an Arrow field keeps the type as PostgreSQL writes it.
pub(crate) const METADATA: &str = "hapax:postgres";

/// What a value is, whatever domain stands around it. It decides the bytes of the binary form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// Digits before and behind the point together, and behind it; `None` takes any number.
    Numeric(Option<(u16, i16)>),
    /// `text`, `varchar` and `bpchar`: their bytes are the text.
    Text,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    /// `json`: its bytes are the text.
    Json,
    /// `jsonb`: a version, then the text.
    Jsonb,
    Uuid,
    /// An enum: its bytes are the label.
    Enum,
    /// What has only its text form here.
    Other,
}

/// A type: what it is, whether it is an array of that, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Type {
    /// Of a value, or of the elements.
    pub base: Base,
    /// The type of the elements, if it is an array.
    pub element: Option<Oid>,
    /// As PostgreSQL writes it: `numeric(12,2)`, `timestamp with time zone`.
    pub name: String,
    /// The same without a length or a domain around it, so that a cast to it cuts nothing off.
    pub plain: String,
}

/// One column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub name: String,
    pub of: Type,
    pub not_null: bool,
    pub default: bool,
    /// It computes itself.
    pub generated: bool,
    /// It numbers itself always, unless it is told otherwise.
    pub numbered: bool,
}

const SQL: &str = "\
    WITH RECURSIVE base AS ( \
      SELECT a.attnum, a.atttypid AS oid, a.atttypmod AS modifier, 0 AS depth FROM pg_attribute a \
      WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped \
      UNION ALL \
      SELECT b.attnum, t.typbasetype, t.typtypmod, b.depth + 1 FROM base b JOIN pg_type t ON t.oid = b.oid \
      WHERE t.typtype = 'd') \
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef OR a.attidentity <> '', \
      a.attgenerated <> '', t.oid, t.typtype::text, b.modifier, e.oid, e.typtype::text, \
      a.attidentity = 'a', format_type(t.oid, -1) \
    FROM pg_attribute a JOIN LATERAL (SELECT * FROM base WHERE base.attnum = a.attnum ORDER BY depth DESC LIMIT 1) b \
      ON true JOIN pg_type t ON t.oid = b.oid LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' \
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

impl Type {
    /// Its name, if a value of it has the same bytes in every database that has a type of this name, and a column of
    /// it takes them as they are.
    fn on_the_wire(&self) -> Option<&str> {
        // The bytes of an array name the type of its elements by a number that only built-in types keep, and what a
        // domain stands around is another thing in each database.
        let is_built_in = match self.base {
            Base::Other => false,
            Base::Enum => self.element.is_none(),
            _ => bare(&self.name) == bare(&self.plain),
        };
        is_built_in.then_some(self.name.as_str())
    }
}

/// The name of a type without its lengths.
fn bare(name: &str) -> String {
    let mut inside = false;
    name.chars()
        .filter(|sign| {
            let was_inside = inside;
            inside = (inside || *sign == '(') && *sign != ')';
            !inside && !was_inside
        })
        .collect()
}

/// What the bytes of a binary COPY of these types mean; `None` if that is not the same in every database.
pub(crate) fn wire<'a>(types: impl IntoIterator<Item = &'a Type>) -> Option<WireFormat> {
    let names: Option<Vec<&str>> = types.into_iter().map(Type::on_the_wire).collect();
    Some(WireFormat(format!("PostgreSQL's binary COPY ({})", names?.join(", "))))
}

impl Column {
    /// The columns of a table or view, in order.
    pub(crate) async fn all(session: &Session, table: Oid) -> Result<Vec<Self>, Error> {
        let rows = session.query(SQL, &[&table]).await?;
        let column = |row: &tokio_postgres::Row| {
            let element: Option<Oid> = row.try_get(8)?;
            let (oid, kind): (Oid, &str) = match element {
                Some(element) => (element, row.try_get(9)?),
                None => (row.try_get(5)?, row.try_get(6)?),
            };
            Ok(Self {
                name: row.try_get(0)?,
                of: Type {
                    base: Base::of(oid, kind, row.try_get(7)?),
                    element,
                    name: row.try_get(1)?,
                    plain: row.try_get(11)?,
                },
                not_null: row.try_get(2)?,
                default: row.try_get(3)?,
                generated: row.try_get(4)?,
                numbered: row.try_get(10)?,
            })
        };
        rows.iter().map(column).collect()
    }

    /// The field that holds its values, with its type in the metadata.
    pub(crate) fn field(&self) -> Field {
        let metadata = HashMap::from([(METADATA.to_owned(), self.of.name.clone())]);
        Field::new(&self.name, self.of.arrow(), !self.not_null).with_metadata(metadata)
    }
}

impl Base {
    /// By the type's number in the catalog, which never changes for those that are built in.
    pub(crate) fn of(oid: Oid, kind: &str, modifier: i32) -> Self {
        use tokio_postgres::types::Type as Known;
        match Known::from_oid(oid) {
            _ if kind == "e" => Self::Enum,
            Some(Known::BOOL) => Self::Bool,
            Some(Known::INT2) => Self::Int2,
            Some(Known::INT4) => Self::Int4,
            Some(Known::INT8) => Self::Int8,
            Some(Known::FLOAT4) => Self::Float4,
            Some(Known::FLOAT8) => Self::Float8,
            Some(Known::NUMERIC) => Self::Numeric(digits(modifier)),
            Some(Known::TEXT | Known::VARCHAR | Known::BPCHAR) => Self::Text,
            Some(Known::BYTEA) => Self::Bytea,
            Some(Known::DATE) => Self::Date,
            Some(Known::TIME) => Self::Time,
            Some(Known::TIMESTAMP) => Self::Timestamp,
            Some(Known::TIMESTAMPTZ) => Self::Timestamptz,
            Some(Known::INTERVAL) => Self::Interval,
            Some(Known::JSON) => Self::Json,
            Some(Known::JSONB) => Self::Jsonb,
            Some(Known::UUID) => Self::Uuid,
            _ => Self::Other,
        }
    }

    /// The Arrow type of a value.
    pub(crate) fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Numeric(Some((precision, scale))) => decimal(precision, scale),
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::Numeric(None)
            | Self::Text
            | Self::Json
            | Self::Jsonb
            | Self::Uuid
            | Self::Enum
            | Self::Other => DataType::Utf8,
        }
    }
}

impl Type {
    /// The Arrow type of its values. Arrays are read as lists, but those whose elements have only a text form.
    pub(crate) fn arrow(&self) -> DataType {
        match (self.element, self.base) {
            (None, base) => base.arrow(),
            (Some(_), Base::Other) => DataType::Utf8,
            (Some(_), base) => DataType::List(Arc::new(Field::new("item", base.arrow(), true))),
        }
    }
}

/// The precision and scale of `numeric(p,s)`, as the catalog keeps them: a scale of 11 bits, which may be negative.
fn digits(modifier: i32) -> Option<(u16, i16)> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    let precision = u16::try_from((packed >> 16) & 0xFFFF).ok()?;
    let scale = i16::try_from(((packed & 0x7FF) ^ 0x400) - 0x400).ok()?;
    Some((precision, scale))
}

/// The decimal that holds `numeric(p,s)`; text if there is none so long.
fn decimal(precision: u16, scale: i16) -> DataType {
    // Digits that only stand behind the point need room before it, and zeros at the end need room behind.
    let places = i32::from(precision).max(i32::from(scale)).max(i32::from(precision) - i32::from(scale));
    let (Ok(places), Ok(scale)) = (u8::try_from(places), i8::try_from(scale.max(0))) else {
        return DataType::Utf8;
    };
    match places {
        0..=38 => DataType::Decimal128(places.max(1), scale),
        39..=76 => DataType::Decimal256(places, scale),
        _ => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numeric_of_the_catalog_has_the_digits_it_was_declared_with() {
        let modifier = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7FF)) + 4;
        assert_eq!(digits(-1), None);
        assert_eq!(digits(modifier(12, 2)), Some((12, 2)));
        assert_eq!(digits(modifier(3, -2)), Some((3, -2)));
        assert_eq!(digits(modifier(1000, 1000)), Some((1000, 1000)));
    }

    #[test]
    fn a_decimal_holds_what_the_numeric_holds() {
        assert_eq!(decimal(12, 2), DataType::Decimal128(12, 2));
        assert_eq!(decimal(38, 10), DataType::Decimal128(38, 10));
        assert_eq!(decimal(39, 10), DataType::Decimal256(39, 10));
        assert_eq!(decimal(77, 0), DataType::Utf8);
        // 0.000123 and 12300.
        assert_eq!(decimal(3, 6), DataType::Decimal128(6, 6));
        assert_eq!(decimal(3, -2), DataType::Decimal128(5, 0));
    }
}
