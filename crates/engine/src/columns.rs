//! Column names and types, as `schema:` in a pipeline file gives them.

use std::borrow::Cow;
use std::fmt;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, TimeUnit};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Column names and types in the order in which the file gives them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Columns(pub Vec<(String, DataType)>);

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, data_type) in &self.0 {
            map.serialize_entry(name, &type_name(data_type))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of column names to type names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns: Vec<(String, DataType)> = Vec::new();
                while let Some((name, text)) = map.next_entry::<String, String>()? {
                    let data_type =
                        parse_type(&text).map_err(|e| A::Error::custom(format!("column `{name}`: {e}")))?;
                    if columns.iter().any(|(other, _)| *other == name) {
                        return Err(A::Error::custom(format!("column `{name}` is given twice")));
                    }
                    columns.push((name, data_type));
                }
                if columns.is_empty() {
                    Err(A::Error::custom("a schema names at least one column"))
                } else {
                    Ok(Columns(columns))
                }
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl JsonSchema for Columns {
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "column name: type name",
            "minProperties": 1,
            "additionalProperties": {
                "type": "string",
                "description": TYPE_NAMES,
                "pattern": "^(boolean|u?int(8|16|32|64)|float(32|64)|decimal\\( *[0-9]+ *, *[0-9]+ *\\)|string|binary|date|time|timestamp|timestamptz)$"
            }
        })
    }
}

const TYPE_NAMES: &str = "boolean, int8 to int64, uint8 to uint64, float32, float64, decimal(p,s), string, binary, \
     date, time, timestamp, timestamptz";

/// A text that names no type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeNameError {
    /// Not one of the names.
    #[error("`{0}` is not a type; the types are {TYPE_NAMES}")]
    Unknown(String),
    /// A decimal that cannot be.
    #[error("`{0}`: a decimal has 1 to 38 digits, and at most all of them behind the point")]
    Decimal(String),
}

/// The type that a name stands for. `timestamp` has microseconds and no zone, `timestamptz` microseconds in UTC.
pub fn parse_type(name: &str) -> Result<DataType, TypeNameError> {
    let plain = name.trim().to_ascii_lowercase();
    Ok(match plain.as_str() {
        "boolean" => DataType::Boolean,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "uint8" => DataType::UInt8,
        "uint16" => DataType::UInt16,
        "uint32" => DataType::UInt32,
        "uint64" => DataType::UInt64,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "time" => DataType::Time64(TimeUnit::Microsecond),
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => {
            let arguments = other
                .strip_prefix("decimal(")
                .and_then(|rest| rest.strip_suffix(')'))
                .and_then(|rest| rest.split_once(','))
                .ok_or_else(|| TypeNameError::Unknown(name.to_owned()))?;
            let wrong = || TypeNameError::Decimal(name.to_owned());
            let precision: u8 = arguments.0.trim().parse().map_err(|_| wrong())?;
            let scale: i8 = arguments.1.trim().parse().map_err(|_| wrong())?;
            let digits = i8::try_from(precision).map_err(|_| wrong())?;
            if precision == 0 || precision > DECIMAL128_MAX_PRECISION || scale < 0 || scale > digits {
                return Err(wrong());
            }
            DataType::Decimal128(precision, scale)
        }
    })
}

/// The name of a type as `schema:` takes it; Arrow's own name for a type that has none here.
pub fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 => "int8",
        DataType::Int16 => "int16",
        DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::UInt8 => "uint8",
        DataType::UInt16 => "uint16",
        DataType::UInt32 => "uint32",
        DataType::UInt64 => "uint64",
        DataType::Float32 => "float32",
        DataType::Float64 => "float64",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary",
        DataType::Date32 => "date",
        DataType::Time64(TimeUnit::Microsecond) => "time",
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp",
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamptz",
        DataType::Decimal128(precision, scale) => return format!("decimal({precision},{scale})"),
        other => return other.to_string(),
    };
    name.to_owned()
}
