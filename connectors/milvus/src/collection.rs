//! What a collection is: its key, its fields, and whether it takes more than them.

use std::fmt::{self, Write as _};

use crate::proto::{self, kind};

/// How many bytes of JSON a field takes.
pub(crate) const JSON_BYTES_MAX: usize = 65_536;

/// The name of the dynamic field.
pub(crate) const META: &str = "$meta";

/// A collection as the server describes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Collection {
    pub name: String,
    /// The primary key.
    pub key: Field,
    /// Whether the server makes the keys.
    pub auto_id: bool,
    /// All fields but the key and the dynamic one.
    pub fields: Vec<Field>,
    /// Whether it takes keys that are no fields.
    pub is_dynamic: bool,
}

/// A field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub name: String,
    pub kind: Kind,
    /// Whether an entity may be without it.
    pub is_optional: bool,
    /// Whether the server computes it.
    pub is_computed: bool,
}

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Float,
    Double,
    Text {
        bytes_max: usize,
    },
    Json,
    Vector {
        dimension: usize,
    },
    /// One that is not moved, by its number.
    Other(i32),
}

impl Kind {
    fn read(field: &proto::FieldSchema) -> Self {
        let parameter = |name: &str| {
            let found = field.type_params.iter().find(|pair| pair.key == name);
            found.and_then(|pair| pair.value.parse().ok()).unwrap_or(0)
        };
        match field.data_type {
            kind::BOOL => Self::Bool,
            kind::INT8 => Self::Int8,
            kind::INT16 => Self::Int16,
            kind::INT32 => Self::Int32,
            kind::INT64 => Self::Int64,
            kind::FLOAT => Self::Float,
            kind::DOUBLE => Self::Double,
            kind::VARCHAR => Self::Text { bytes_max: parameter("max_length") },
            kind::JSON => Self::Json,
            kind::FLOAT_VECTOR => Self::Vector { dimension: parameter("dim") },
            other => Self::Other(other),
        }
    }

    /// The server's number of it.
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Bool => kind::BOOL,
            Self::Int8 => kind::INT8,
            Self::Int16 => kind::INT16,
            Self::Int32 => kind::INT32,
            Self::Int64 => kind::INT64,
            Self::Float => kind::FLOAT,
            Self::Double => kind::DOUBLE,
            Self::Text { .. } => kind::VARCHAR,
            Self::Json => kind::JSON,
            Self::Vector { .. } => kind::FLOAT_VECTOR,
            Self::Other(number) => number,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&kind::name(self.number()))
    }
}

impl Collection {
    /// Reads a description. Every collection has a primary key.
    pub(crate) fn read(name: &str, schema: &proto::CollectionSchema) -> Self {
        let field = |field: &proto::FieldSchema| Field {
            name: field.name.clone(),
            kind: Kind::read(field),
            is_optional: field.nullable || field.default_value.is_some(),
            is_computed: field.is_function_output,
        };
        let (keys, others): (Vec<_>, Vec<_>) = schema.fields.iter().partition(|field| field.is_primary_key);
        let key = keys.first();
        let nothing =
            Field { name: String::new(), kind: Kind::Other(0), is_optional: false, is_computed: false };
        Self {
            name: name.to_owned(),
            auto_id: key.is_some_and(|key| key.auto_id),
            key: key.map_or(nothing, |key| field(key)),
            fields: others.into_iter().filter(|field| !field.is_dynamic).map(field).collect(),
            is_dynamic: schema.enable_dynamic_field,
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The condition of entities behind a key, or of all; `None` if no key is behind it.
    pub(crate) fn behind(&self, key: Option<&Key>) -> Option<String> {
        let name = &self.key.name;
        Some(match (key, self.key.kind) {
            // The least number of all is none that the server can read.
            (Some(Key::Int(key)), _) => format!("{name} >= {}", key.checked_add(1)?),
            (Some(Key::Text(key)), _) => format!("{name} > {}", quoted(key)),
            (None, Kind::Text { .. }) => format!("{name} >= \"\""),
            (None, _) => format!("{name} >= 0 or {name} < 0"),
        })
    }

    /// The condition of the entities of some keys.
    pub(crate) fn one_of<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> String {
        let mut expr = format!("{} in [", self.key.name);
        for (at, key) in keys.enumerate() {
            if at > 0 {
                expr.push(',');
            }
            match key {
                Key::Int(key) => {
                    let _ = write!(expr, "{key}");
                }
                Key::Text(key) => expr.push_str(&quoted(key)),
            }
        }
        expr.push(']');
        expr
    }

    /// How many bytes an entity may have.
    pub(crate) fn entity_bytes_max(&self) -> usize {
        let of = |field: &Field| match field.kind {
            Kind::Vector { dimension } => dimension.saturating_mul(4),
            Kind::Text { bytes_max } => bytes_max,
            Kind::Json => JSON_BYTES_MAX,
            _ => 8,
        };
        let dynamic = if self.is_dynamic { JSON_BYTES_MAX } else { 0 };
        std::iter::once(&self.key).chain(&self.fields).map(of).fold(dynamic, usize::saturating_add).max(1)
    }
}

/// A primary key. They are ordered as the server orders them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Int(i64),
    Text(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(key) => write!(f, "{key}"),
            Self::Text(key) => write!(f, "{key:?}"),
        }
    }
}

/// A text as an expression of the server has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().saturating_add(2));
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(data_type: i32) -> Collection {
        let key = proto::FieldSchema {
            name: "id".to_owned(),
            is_primary_key: true,
            data_type,
            ..proto::FieldSchema::default()
        };
        Collection::read("c", &proto::CollectionSchema { fields: vec![key], ..Default::default() })
    }

    #[test]
    fn conditions_name_keys_as_the_server_reads_them() {
        let (numbers, texts) = (keyed(kind::INT64), keyed(kind::VARCHAR));
        assert_eq!(numbers.behind(None).unwrap(), "id >= 0 or id < 0");
        let least = numbers.behind(Some(&Key::Int(i64::MIN))).unwrap();
        assert_eq!(least, "id >= -9223372036854775807");
        assert_eq!(numbers.behind(Some(&Key::Int(i64::MAX))), None);
        let text = Key::Text("a\"b\\\n\u{1}".to_owned());
        assert_eq!(texts.behind(Some(&text)).unwrap(), r#"id > "a\"b\\\n\u0001""#);
        assert_eq!(texts.behind(None).unwrap(), "id >= \"\"");
        assert_eq!(numbers.one_of([Key::Int(1), Key::Int(-2)].iter()), "id in [1,-2]");
    }
}
