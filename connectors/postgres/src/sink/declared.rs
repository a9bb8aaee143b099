//! The types that columns are created with.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use hapax_engine::wire::WireFormat;
use tokio_postgres::Error;
use tokio_postgres::types::Oid;

use crate::client::Session;
use crate::column::{Base, METADATA, Type, wire};

/// The types that the records' fields name and this database has, by name.
///
/// The name may come from a file: what is not a type name and nothing else never reaches a statement as SQL.
pub(crate) struct Known(HashMap<String, Type>);

impl Known {
    /// Looks up the types that these fields name.
    pub(crate) async fn look_up<'a>(
        session: &Session,
        fields: impl IntoIterator<Item = &'a Field>,
    ) -> Result<Self, Error> {
        let mut known = HashMap::new();
        for name in fields.into_iter().filter_map(|field| field.metadata().get(METADATA)) {
            if known.contains_key(name) || !is_plain(name) {
                continue;
            }
            let sql = "SELECT coalesce(e.oid, t.oid), coalesce(e.typtype, t.typtype)::text, e.oid \
                       FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' \
                       WHERE t.oid = to_regtype($1)";
            // Before version 16, what is no type at all is an error.
            let row = match session.query_opt(sql, &[&name]).await {
                Ok(row) => row,
                Err(error) if error.as_db_error().is_some() => None,
                Err(error) => return Err(error),
            };
            let Some(row) = row else { continue };
            let (oid, kind): (Oid, &str) = (row.try_get(0)?, row.try_get(1)?);
            let of = Type {
                base: Base::of(oid, kind, modifier(name)),
                element: row.try_get(2)?,
                name: name.clone(),
                plain: name.clone(),
            };
            known.insert(name.clone(), of);
        }
        Ok(Self(known))
    }

    /// The type a column is created with; `None` if PostgreSQL cannot hold it. The named one is taken if the field
    /// is as a column of it is read.
    pub(crate) fn declared(&self, field: &Field) -> Option<String> {
        let named = field.metadata().get(METADATA).and_then(|name| self.0.get(name));
        match named.filter(|named| named.arrow() == *field.data_type()) {
            Some(named) => Some(named.name.clone()),
            None => declared(field.data_type()),
        }
    }

    /// The bytes that a table takes which is created for these columns.
    pub(crate) fn wire(&self, schema: &Schema) -> Option<WireFormat> {
        let named = |field: &Arc<Field>| {
            let named = field.metadata().get(METADATA).and_then(|name| self.0.get(name));
            named.filter(|named| named.arrow() == *field.data_type())
        };
        let types: Option<Vec<&Type>> = schema.fields().iter().map(named).collect();
        wire(types?)
    }
}

/// Whether a text has only the signs of the name of a type: words, digits in parentheses, brackets, names in quotes.
fn is_plain(name: &str) -> bool {
    let mut quoted = false;
    for sign in name.chars() {
        match sign {
            '"' => quoted = !quoted,
            '\0' => return false,
            _ if quoted => {}
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | ' ' | '(' | ')' | ',' | '[' | ']' | '.' => {}
            _ => return false,
        }
    }
    !quoted
}

/// What the catalog would keep of `numeric(p,s)`.
fn modifier(name: &str) -> i32 {
    let digits = || {
        let (precision, scale) =
            name.strip_prefix("numeric(")?.trim_end_matches("[]").strip_suffix(')')?.split_once(',')?;
        let (precision, scale): (i32, i32) = (precision.parse().ok()?, scale.parse().ok()?);
        Some(((precision << 16) | (scale & 0x7FF)) + 4)
    };
    digits().unwrap_or(-1)
}

/// The type that holds every value of an Arrow type.
pub(crate) fn declared(data_type: &DataType) -> Option<String> {
    let plain = |name: &str| Some(name.to_owned());
    match data_type {
        DataType::Boolean => plain("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => plain("smallint"),
        DataType::Int32 | DataType::UInt16 => plain("integer"),
        DataType::Int64 | DataType::UInt32 => plain("bigint"),
        DataType::UInt64 => plain("numeric(20,0)"),
        DataType::Float16 | DataType::Float32 => plain("real"),
        DataType::Float64 => plain("double precision"),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some(numeric(*precision, *scale)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => plain("text"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            plain("bytea")
        }
        DataType::Date32 => plain("date"),
        DataType::Date64 | DataType::Timestamp(_, None) => plain("timestamp without time zone"),
        DataType::Timestamp(_, Some(_)) => plain("timestamp with time zone"),
        DataType::Time32(_) | DataType::Time64(_) => plain("time without time zone"),
        DataType::Interval(_) => plain("interval"),
        DataType::Dictionary(_, values) => declared(values),
        DataType::RunEndEncoded(_, values) => declared(values.data_type()),
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            match declared(element.data_type()) {
                Some(name) if !is_nested(element.data_type()) => Some(format!("{name}[]")),
                _ => plain("jsonb"),
            }
        }
        DataType::Struct(_) | DataType::Map(_, _) => plain("jsonb"),
        _ => None,
    }
}

/// A scale below zero means zeros before the point, which versions before 15 do not take as a scale.
fn numeric(precision: u8, scale: i8) -> String {
    let zeros = u16::from(scale.min(0).unsigned_abs());
    // A scale above the precision, too, is new in version 15.
    let places = (u16::from(precision) + zeros).max(u16::from(scale.max(0).unsigned_abs()));
    format!("numeric({places},{})", scale.max(0))
}

/// Whether values have parts.
pub(crate) fn is_nested(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_nested(values),
        other => other.is_nested(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_type_name_is_never_sql() {
        for good in ["numeric(12,2)", "timestamp(3) with time zone", "\"My ; -- Type\"", "public.mood[]"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["int; DROP TABLE x", "int --", "int /*", "\"open", "int'", "$1", "a\0b", "f\u{e9}"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }

    #[test]
    fn decimals_keep_their_digits() {
        assert_eq!(declared(&DataType::Decimal128(14, 2)).unwrap(), "numeric(14,2)");
        assert_eq!(declared(&DataType::Decimal128(3, -2)).unwrap(), "numeric(5,0)");
        assert_eq!(declared(&DataType::Decimal128(2, 5)).unwrap(), "numeric(5,5)");
    }
}
