//! Messages on their way into a batch: bodies, what came beside them, and those that are no record.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use hapax_protocol::code::Code;
use hapax_protocol::identity::RecordId;
use hapax_protocol::position::Ordinal;
use serde_json::{Map, Value};

use super::{Bodies, Format, Rows, UnknownFields};
use crate::batch::{Ordinals, Rejected};

/// The columns of a source of messages: those of the body, and behind them what comes beside it.
#[derive(Debug, Clone)]
pub struct Layout {
    bodies: Bodies,
    beside: Arc<[FieldRef]>,
    schema: SchemaRef,
}

/// Something that came beside a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beside {
    /// Text.
    Text(Option<String>),
    /// A number.
    Number(Option<i64>),
    /// Microseconds since 1970, in UTC.
    Moment(Option<i64>),
}

/// A message as its source got it.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// Its number in the split.
    pub ordinal: Ordinal,
    /// What tells it from every other message, if anything does.
    pub id: Option<RecordId>,
    /// The body.
    pub body: &'a [u8],
    /// One value for each column beside the body.
    pub beside: Vec<Beside>,
}

/// A column beside the body: text.
pub fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

/// A column beside the body: whole numbers.
pub fn number(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

/// A column beside the body: moments in UTC.
pub fn moment(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true)
}

impl Layout {
    /// Puts columns beside those of a body.
    pub fn new(bodies: Bodies, beside: Vec<Field>) -> Self {
        let beside: Arc<[FieldRef]> = beside.into_iter().map(Arc::new).collect();
        let all: Vec<FieldRef> = bodies.fields.iter().chain(beside.iter()).cloned().collect();
        Self { bodies, beside, schema: Arc::new(Schema::new(all)) }
    }

    /// All columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Room for some messages.
    pub fn gather(&self) -> Gathering {
        let columns = self.beside.iter().map(|field| Column::of(field.data_type())).collect();
        Gathering {
            layout: self.clone(),
            rows: self.bodies.rows(),
            beside: columns,
            ordinals: Vec::new(),
            rejected: Vec::new(),
            bytes: 0,
        }
    }

    /// What is kept of a message that is no record: its body, or a JSON object of what came beside it and its `body`.
    fn raw(&self, message: &Message<'_>) -> String {
        if self.beside.is_empty() {
            return Rejected::excerpt(message.body);
        }
        let mut object = Map::new();
        for (field, value) in self.beside.iter().zip(&message.beside) {
            object.insert(field.name().clone(), value.json());
        }
        object.insert("body".to_owned(), Rejected::excerpt(message.body).into());
        Value::Object(object).to_string()
    }

    /// Reads the record of a dead letter again. `is_as_read` where a source had rejected it, so that its raw text is the
    /// message and not a JSON object of the columns.
    pub fn reread(&self, raw: &str, is_as_read: bool) -> Result<RecordBatch, String> {
        let cut = || "only its beginning was kept".to_owned();
        if !is_as_read {
            let all = Bodies {
                format: Format::Json,
                unknown: UnknownFields::Ignore,
                fields: self.schema.fields().iter().cloned().collect(),
            };
            let mut rows = all.rows();
            rows.push(raw.as_bytes())?;
            return RecordBatch::try_new(Arc::clone(&self.schema), rows.finish()).map_err(|e| e.to_string());
        }
        let (body, beside) = match self.beside.is_empty() {
            true => (raw.to_owned(), Vec::new()),
            false => {
                let object: Map<String, Value> = serde_json::from_str(raw).map_err(|_| cut())?;
                let value = |field: &FieldRef| {
                    Beside::of_json(object.get(field.name()).unwrap_or(&Value::Null), field.data_type())
                };
                let body = object.get("body").and_then(Value::as_str).ok_or_else(cut)?;
                (body.to_owned(), self.beside.iter().map(value).collect())
            }
        };
        if body.len() >= Rejected::RAW_MAX_BYTES {
            return Err(cut());
        }
        let mut gathering = self.gather();
        let message = Message { ordinal: 0, id: None, body: body.as_bytes(), beside };
        gathering.take(&message)?;
        gathering.finish().map(|gathered| gathered.records).map_err(|error| error.to_string())
    }
}

impl Beside {
    fn json(&self) -> Value {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Number(number) | Self::Moment(number) => (*number).into(),
        }
    }

    fn of_json(value: &Value, data_type: &DataType) -> Self {
        match data_type {
            DataType::Int64 => Self::Number(value.as_i64()),
            DataType::Timestamp(..) => Self::Moment(value.as_i64()),
            _ => Self::Text(value.as_str().map(str::to_owned)),
        }
    }
}

/// Messages on their way into a batch.
pub struct Gathering {
    layout: Layout,
    rows: Rows,
    beside: Vec<Column>,
    ordinals: Vec<Ordinal>,
    rejected: Vec<Rejected>,
    bytes: usize,
}

/// What became of some messages.
#[derive(Debug)]
pub struct Gathered {
    /// Those that are records.
    pub records: RecordBatch,
    /// Their numbers.
    pub ordinals: Ordinals,
    /// The others.
    pub rejected: Vec<Rejected>,
    /// How many bytes the bodies had.
    pub bytes: u64,
}

impl Gathering {
    /// Adds a message; one whose body is no record is rejected with this code.
    pub fn push(&mut self, message: &Message<'_>, undecodable: Code) {
        if let Err(reason) = self.take(message) {
            self.reject(message, undecodable, reason);
        }
    }

    /// Adds a message that is no record.
    pub fn reject(&mut self, message: &Message<'_>, code: Code, reason: String) {
        self.bytes = self.bytes.saturating_add(message.body.len());
        let raw = self.layout.raw(message);
        self.rejected.push(Rejected { ordinal: message.ordinal, code, reason, id: message.id, raw });
    }

    fn take(&mut self, message: &Message<'_>) -> Result<(), String> {
        self.rows.push(message.body)?;
        self.bytes = self.bytes.saturating_add(message.body.len());
        for (column, value) in self.beside.iter_mut().zip(&message.beside) {
            column.append(value);
        }
        self.ordinals.push(message.ordinal);
        Ok(())
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.ordinals.len().saturating_add(self.rejected.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes the bodies had.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes a batch of them.
    pub fn finish(self) -> Result<Gathered, ArrowError> {
        let mut columns = self.rows.finish();
        columns.extend(self.beside.into_iter().map(Column::finish));
        let options = RecordBatchOptions::new().with_row_count(Some(self.ordinals.len()));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.layout.schema), columns, &options)?;
        Ok(Gathered {
            records,
            ordinals: Ordinals::Each(self.ordinals.into()),
            rejected: self.rejected,
            bytes: u64::try_from(self.bytes).unwrap_or(u64::MAX),
        })
    }
}

enum Column {
    Text(StringBuilder),
    Number(Int64Builder),
    Moment(TimestampMicrosecondBuilder),
}

impl Column {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Int64 => Self::Number(Int64Builder::new()),
            DataType::Timestamp(..) => {
                Self::Moment(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()))
            }
            _ => Self::Text(StringBuilder::new()),
        }
    }

    fn append(&mut self, value: &Beside) {
        match (self, value) {
            (Self::Text(to), Beside::Text(text)) => to.append_option(text.as_deref()),
            (Self::Number(to), Beside::Number(number)) => to.append_option(*number),
            (Self::Moment(to), Beside::Moment(moment)) => to.append_option(*moment),
            (Self::Text(to), _) => to.append_null(),
            (Self::Number(to), _) => to.append_null(),
            (Self::Moment(to), _) => to.append_null(),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut it) => Arc::new(it.finish()),
            Self::Number(mut it) => Arc::new(it.finish()),
            Self::Moment(mut it) => Arc::new(it.finish()),
        }
    }
}
