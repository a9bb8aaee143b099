use std::cell::Cell;

use serde::de::value::{Error, MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use crate::file::Span;
use crate::tree::{Node, Value};

/// Reads a node as `T`, its keys in the order of the file. A failure comes with the place of the innermost
/// value that was being read.
pub fn read<T: DeserializeOwned>(node: &Node) -> Result<T, (Span, Error)> {
    let failed = Cell::new(None);
    T::deserialize(Meant { node, failed: &failed })
        .map_err(|error| (failed.get().unwrap_or(node.span), error))
}

#[derive(Clone, Copy)]
struct Meant<'a> {
    node: &'a Node,
    failed: &'a Cell<Option<Span>>,
}

impl<'a> Meant<'a> {
    fn noting<T>(self, outcome: Result<T, Error>) -> Result<T, Error> {
        if outcome.is_err() && self.failed.get().is_none() {
            self.failed.set(Some(self.node.span));
        }
        outcome
    }

    fn below(self, node: &'a Node) -> Self {
        Self { node, failed: self.failed }
    }
}

impl<'de> Deserializer<'de> for Meant<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let outcome = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text.meant()),
            Value::List(items) => {
                let mut list = SeqDeserializer::new(items.iter().map(|item| self.below(item)));
                visitor.visit_seq(&mut list)
            }
            Value::Map(entries) => {
                let mut map =
                    MapDeserializer::new(entries.iter().map(|e| (e.key.as_str(), self.below(&e.node))));
                visitor.visit_map(&mut map)
            }
        };
        self.noting(outcome)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let outcome = match &self.node.value {
            Value::Text(text) => visitor.visit_enum(StrDeserializer::new(text.meant())),
            Value::Map(entries) => {
                let map = MapDeserializer::new(entries.iter().map(|e| (e.key.as_str(), self.below(&e.node))));
                visitor.visit_enum(serde::de::value::MapAccessDeserializer::new(map))
            }
            _ => return self.deserialize_any(visitor),
        };
        self.noting(outcome)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Meant<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
