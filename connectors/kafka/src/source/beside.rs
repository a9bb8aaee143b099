//! What a message has beside its value, as columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use rdkafka::Message;
use rdkafka::message::Headers;

use crate::config::Metadata;

/// The column of a piece of metadata.
pub(super) fn field(metadata: Metadata) -> FieldRef {
    let data_type = match metadata {
        Metadata::Topic | Metadata::Key | Metadata::Headers => DataType::Utf8,
        Metadata::Partition => DataType::Int32,
        Metadata::Offset => DataType::Int64,
        Metadata::KeyBytes => DataType::Binary,
        Metadata::Timestamp => moment(),
        Metadata::Deleted => DataType::Boolean,
    };
    Arc::new(Field::new(metadata.name(), data_type, true))
}

fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Columns being filled.
pub(super) struct Beside(Vec<Column>);

enum Column {
    Topic(StringBuilder),
    Partition(Int32Builder),
    Offset(Int64Builder),
    Key(StringBuilder),
    KeyBytes(BinaryBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Headers(StringBuilder),
    Deleted(BooleanBuilder),
}

/// The parts of a message that are text, if they are.
pub(super) struct Texts<'a> {
    key: Option<&'a str>,
    headers: Option<String>,
}

impl Beside {
    pub(super) fn new(metadata: &[Metadata]) -> Self {
        let column = |metadata: &Metadata| match metadata {
            Metadata::Topic => Column::Topic(StringBuilder::new()),
            Metadata::Partition => Column::Partition(Int32Builder::new()),
            Metadata::Offset => Column::Offset(Int64Builder::new()),
            Metadata::Key => Column::Key(StringBuilder::new()),
            Metadata::KeyBytes => Column::KeyBytes(BinaryBuilder::new()),
            Metadata::Timestamp => {
                Column::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(moment()))
            }
            Metadata::Headers => Column::Headers(StringBuilder::new()),
            Metadata::Deleted => Column::Deleted(BooleanBuilder::new()),
        };
        Self(metadata.iter().map(column).collect())
    }

    /// What of a message has to be text; an error says what is not.
    pub(super) fn texts<'m>(&self, message: &'m impl Message) -> Result<Texts<'m>, String> {
        let mut texts = Texts { key: None, headers: None };
        for column in &self.0 {
            match column {
                Column::Key(_) => {
                    let key = message.key().map(std::str::from_utf8).transpose();
                    texts.key = key.map_err(|error| {
                        format!(
                            "the key is not UTF-8 behind byte {} (read it as `_key_bytes`)",
                            error.valid_up_to()
                        )
                    })?;
                }
                Column::Headers(_) => texts.headers = Some(headers(message)?),
                _ => {}
            }
        }
        Ok(texts)
    }

    /// Adds a message.
    pub(super) fn push(&mut self, message: &impl Message, texts: &Texts<'_>) {
        for column in &mut self.0 {
            match column {
                Column::Topic(to) => to.append_value(message.topic()),
                Column::Partition(to) => to.append_value(message.partition()),
                Column::Offset(to) => to.append_value(message.offset()),
                Column::Key(to) => to.append_option(texts.key),
                Column::KeyBytes(to) => to.append_option(message.key()),
                Column::Timestamp(to) => {
                    to.append_option(message.timestamp().to_millis().map(|ms| ms.saturating_mul(1000)));
                }
                Column::Headers(to) => to.append_option(texts.headers.as_deref()),
                Column::Deleted(to) => to.append_value(message.payload().is_none()),
            }
        }
    }

    pub(super) fn finish(self) -> impl Iterator<Item = ArrayRef> {
        self.0.into_iter().map(|column| -> ArrayRef {
            match column {
                Column::Topic(mut it) | Column::Key(mut it) | Column::Headers(mut it) => {
                    Arc::new(it.finish())
                }
                Column::Partition(mut it) => Arc::new(it.finish()),
                Column::Offset(mut it) => Arc::new(it.finish()),
                Column::KeyBytes(mut it) => Arc::new(it.finish()),
                Column::Timestamp(mut it) => Arc::new(it.finish()),
                Column::Deleted(mut it) => Arc::new(it.finish()),
            }
        })
    }
}

fn headers(message: &impl Message) -> Result<String, String> {
    let mut pairs = Vec::new();
    for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        let value = header.value.map(std::str::from_utf8).transpose();
        let value = value.map_err(|_| format!("the header {:?} is not UTF-8", header.key))?;
        pairs.push(serde_json::json!([header.key, value]));
    }
    Ok(serde_json::Value::from(pairs).to_string())
}
