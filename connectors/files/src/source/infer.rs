//! Column types guessed from a sample, so that no value of the sample loses anything.

use std::fmt;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::column::Rule;
use hapax_engine::exact::{self as value, Strictness};

/// What the values of a CSV column looked like.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Looks {
    int: bool,
    /// A whole number that a floating point number cannot hold for certain.
    wide: bool,
    float: bool,
    special: bool,
    boolean: bool,
    date: bool,
    local: bool,
    zoned: bool,
    text: bool,
}

impl Looks {
    /// Looks at one value that is not NULL.
    pub(super) fn see(&mut self, text: &str) {
        let bytes = text.as_bytes();
        if let Some(number) = value::int(bytes, Strictness::Canonical) {
            self.int = true;
            self.wide |= number.unsigned_abs() > 1 << 53;
        } else if matches!(text, "NaN" | "nan" | "inf" | "-inf") {
            self.special = true;
        } else if fraction(bytes) && value::float64(bytes).is_some() {
            self.float = true;
        } else if value::boolean(bytes, Strictness::Canonical).is_some() {
            self.boolean = true;
        } else if value::date(bytes).is_some() {
            self.date = true;
        } else if let Some(moment) = value::moment(bytes) {
            self.zoned |= moment.zoned;
            self.local |= !moment.zoned;
        } else {
            self.text = true;
        }
    }

    pub(super) fn data_type(self) -> DataType {
        let number = self.int || self.float;
        let kinds = [number || self.special, self.boolean, self.date, self.local, self.zoned, self.text];
        if kinds.iter().filter(|kind| **kind).count() != 1 {
            return DataType::Utf8;
        }
        match self {
            Self { boolean: true, .. } => DataType::Boolean,
            Self { date: true, .. } => DataType::Date32,
            Self { local: true, .. } => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self { zoned: true, .. } => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self { float: false, special: false, int: true, .. } => DataType::Int64,
            Self { wide: false, .. } if number => DataType::Float64,
            _ => DataType::Utf8,
        }
    }
}

/// A number with a fraction or an exponent, written without superfluous zeros or signs in front.
fn fraction(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(whole);
    let leading_zero = whole.len() > 1 && whole.first() == Some(&b'0');
    !whole.is_empty()
        && !leading_zero
        && matches!(rest, [b'.', b'0'..=b'9', ..] | [b'e' | b'E', ..])
        && rest.last().is_some_and(u8::is_ascii_digit)
}

/// A JSON value by its kinds, with the fields of objects in the order of their first appearance.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Shape {
    #[default]
    Unknown,
    Boolean,
    Int,
    Float,
    Text,
    /// Scalars of several kinds, or a whole number beyond 64 bits with sign.
    Mixed,
    List(Box<Shape>),
    Object(Vec<(String, Shape)>),
}

impl Shape {
    /// The shape that both fit. Where a container meets something else the one that came first stays, and the
    /// other will be a dead letter.
    pub(super) fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, shape) | (shape, Self::Unknown) => shape,
            (Self::Object(mut fields), Self::Object(others)) => {
                for (name, shape) in others {
                    match fields.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => *known = std::mem::take(known).merge(shape),
                        None => fields.push((name, shape)),
                    }
                }
                Self::Object(fields)
            }
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.merge(*b))),
            (container @ (Self::Object(_) | Self::List(_)), _) => container,
            (_, container @ (Self::Object(_) | Self::List(_))) => container,
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            (a, b) if a == b => a,
            _ => Self::Mixed,
        }
    }

    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Unknown | Self::Text | Self::Mixed => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::List(item) => DataType::List(Field::new_list_field(item.data_type(), true).into()),
            Self::Object(fields) => DataType::Struct(
                fields
                    .iter()
                    .map(|(name, shape)| Field::new(name, shape.data_type(), true))
                    .collect::<Fields>(),
            ),
        }
    }

    pub(super) fn rule(&self) -> Rule {
        Rule { literals: *self == Self::Mixed, ..Rule::INFERRED }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shaping)
    }
}

struct Shaping;

impl<'de> Visitor<'de> for Shaping {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Unknown)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Boolean)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Int)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Shape, E> {
        Ok(if i64::try_from(number).is_ok() { Shape::Int } else { Shape::Mixed })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Float)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut item = Shape::Unknown;
        while let Some(next) = items.next_element::<Shape>()? {
            item = item.merge(next);
        }
        Ok(Shape::List(Box::new(item)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut fields: Vec<(String, Shape)> = Vec::new();
        while let Some(field) = map.next_entry::<String, Shape>()? {
            fields.push(field);
        }
        Ok(Shape::Object(fields))
    }
}
