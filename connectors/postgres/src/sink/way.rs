//! The way of a value into a column: which bytes stand for it in PostgreSQL's binary form.

use arrow::datatypes::DataType;
use tokio_postgres::types::Oid;

use super::declared::is_nested;
use crate::column::{Base, Type};

/// What `numeric(p,s)` keeps: digits, and how many of them behind the point; `None` keeps every number.
pub(crate) type Limit = Option<(u16, i16)>;

/// How wide an integer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Two,
    Four,
    Eight,
}

/// How values of one Arrow type become values of one PostgreSQL type. Each keeps the value as it is, or refuses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// There is nothing but NULL.
    Null,
    Bool,
    Integer(Width),
    /// An integer as a float, if it is one exactly.
    IntegerFloat,
    IntegerNumeric(Limit),
    Float4,
    Float8,
    FloatNumeric(Limit),
    DecimalNumeric(Limit),
    TextNumeric(Limit),
    Text,
    /// Text behind the version of `jsonb`.
    Jsonb,
    UuidText,
    UuidBytes,
    Bytea,
    Date,
    Time,
    /// With a time zone or without: microseconds in both.
    Timestamp,
    Interval,
    /// A nested value as JSON, in `jsonb` or else as text.
    Nested {
        binary: bool,
    },
    /// A list, with the type of its elements.
    List(Oid, Box<Way>),
    /// Text, which PostgreSQL casts to the type.
    Cast,
    /// A list of texts, which PostgreSQL casts to the array.
    CastList,
}

/// The type `text`.
const TEXT: Oid = 25;

impl Way {
    /// The way from an Arrow type into a column of this type; `None` if there is none on which every value stays what
    /// it is or is refused.
    pub(crate) fn of(from: &DataType, to: &Type) -> Option<Self> {
        match from {
            DataType::Dictionary(_, values) => return Self::of(values, to),
            DataType::RunEndEncoded(_, values) => return Self::of(values.data_type(), to),
            DataType::Null => return Some(Self::Null),
            _ => {}
        }
        let Some(element) = to.element else { return Self::scalar(from, to.base) };
        match from {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
                if !is_nested(item.data_type()) =>
            {
                match Self::scalar(item.data_type(), to.base)? {
                    Self::Cast => Some(Self::CastList),
                    way => Some(Self::List(element, Box::new(way))),
                }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Self::Cast),
            _ => None,
        }
    }

    fn scalar(from: &DataType, to: Base) -> Option<Self> {
        let way = match (from, to) {
            (DataType::Dictionary(_, values), _) => return Self::scalar(values, to),
            (DataType::Boolean, Base::Bool) => Self::Bool,
            (from, Base::Int2) if from.is_integer() => Self::Integer(Width::Two),
            (from, Base::Int4) if from.is_integer() => Self::Integer(Width::Four),
            (from, Base::Int8) if from.is_integer() => Self::Integer(Width::Eight),
            (from, Base::Float8) if from.is_integer() => Self::IntegerFloat,
            (from, Base::Numeric(limit)) if from.is_integer() => Self::IntegerNumeric(limit),
            (DataType::Float16 | DataType::Float32, Base::Float4) => Self::Float4,
            (from, Base::Float8) if from.is_floating() => Self::Float8,
            (from, Base::Numeric(limit)) if from.is_floating() => Self::FloatNumeric(limit),
            (from, Base::Numeric(limit)) if from.is_decimal() => Self::DecimalNumeric(limit),
            (from, to) if from.is_string() => match to {
                Base::Text | Base::Json | Base::Enum => Self::Text,
                Base::Jsonb => Self::Jsonb,
                Base::Uuid => Self::UuidText,
                Base::Numeric(limit) => Self::TextNumeric(limit),
                Base::Other => Self::Cast,
                _ => return None,
            },
            (DataType::FixedSizeBinary(16), Base::Uuid) => Self::UuidBytes,
            (from, Base::Bytea) if from.is_binary() => Self::Bytea,
            (DataType::Date32, Base::Date) => Self::Date,
            (DataType::Time32(_) | DataType::Time64(_), Base::Time) => Self::Time,
            (DataType::Date64 | DataType::Timestamp(_, None), Base::Timestamp)
            | (DataType::Timestamp(_, Some(_)), Base::Timestamptz) => Self::Timestamp,
            (DataType::Interval(_), Base::Interval) => Self::Interval,
            (from, Base::Jsonb) if is_nested(from) => Self::Nested { binary: true },
            (from, Base::Json | Base::Text) if is_nested(from) => Self::Nested { binary: false },
            _ => return None,
        };
        Some(way)
    }

    /// Whether PostgreSQL has to cast what arrives.
    pub(crate) fn needs_cast(&self) -> bool {
        matches!(self, Self::Cast | Self::CastList)
    }

    /// The type that takes what arrives before it is cast.
    pub(crate) fn staged_type(&self) -> &'static str {
        if *self == Self::CastList { "text[]" } else { "text" }
    }

    /// A list of texts that are cast, seen as a list of texts.
    pub(crate) fn arriving(&self) -> Self {
        match self {
            Self::Cast => Self::Text,
            Self::CastList => Self::List(TEXT, Box::new(Self::Text)),
            other => other.clone(),
        }
    }
}
