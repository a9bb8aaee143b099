//! How records become messages.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hapax_engine::message::{Objects, as_objects, not_finite};
use hapax_engine::sink::Shape;
use hapax_engine::transform::RefusedRow;

use crate::codes;
use crate::config::{SinkConfig, SinkFormat};
use crate::fault::WriteFault;

/// What a message takes beside key and value, in bytes, at most.
const OVERHEAD_BYTES: usize = 256;

/// The column that holds a value in bytes, for both ends.
const BODY: &str = "body";

/// How records of one shape become messages.
#[derive(Debug)]
pub(super) struct Plan {
    /// The columns of the records.
    pub schema: SchemaRef,
    format: SinkFormat,
    key: Vec<usize>,
    tombstone: Option<usize>,
    value: Vec<usize>,
    /// How long a message may be.
    message_bytes_max: usize,
}

/// Messages of some records, by row.
pub(super) struct Messages {
    keys: Keys,
    values: Values,
    gone: Option<ArrayRef>,
}

enum Keys {
    None,
    Bytes(ArrayRef),
    Text(Vec<String>),
    Objects(Objects),
}

enum Values {
    Objects(Objects),
    Bytes(ArrayRef),
}

impl Plan {
    pub(super) fn make(
        config: &SinkConfig,
        shape: &Shape,
        message_bytes_max: usize,
    ) -> Result<Self, WriteFault> {
        let schema = SchemaRef::clone(&shape.schema);
        let find = |key: &'static str, column: &str| {
            let missing = |_| WriteFault::Column {
                key,
                column: column.to_owned(),
                why: "which the records do not have",
            };
            schema.index_of(column).map_err(missing)
        };
        let names = config.key.as_ref().unwrap_or(&shape.key);
        let key = names.iter().map(|column| find("key", column)).collect::<Result<Vec<_>, _>>()?;
        let tombstone = config.tombstone.as_ref().map(|column| find("tombstone", column)).transpose()?;
        if let Some(at) = tombstone {
            let field = schema.field(at);
            if *field.data_type() != DataType::Boolean {
                let column = field.name().clone();
                return Err(WriteFault::Column { key: "tombstone", column, why: "which is not a boolean" });
            }
        }
        let mut value = Vec::new();
        for (at, field) in schema.fields().iter().enumerate() {
            let is_beside = key.contains(&at) || tombstone == Some(at);
            match config.format {
                SinkFormat::Raw if is_beside => {}
                SinkFormat::Raw => {
                    if field.name() != BODY || !matches!(field.data_type(), DataType::Binary | DataType::Utf8)
                    {
                        let why =
                            "but `format: raw` takes one column beside the key, `body`, of bytes or text";
                        return Err(WriteFault::Column { key: "format", column: field.name().clone(), why });
                    }
                    value.push(at);
                }
                SinkFormat::Json if field.name().starts_with('_') && is_beside => {}
                SinkFormat::Json => {
                    if field.name().starts_with('_') {
                        let why = "but names that begin with `_` are kept for what stands beside a value";
                        return Err(WriteFault::Column { key: "format", column: field.name().clone(), why });
                    }
                    if tombstone != Some(at) {
                        value.push(at);
                    }
                }
            }
            check(field.name(), field.data_type())?;
        }
        if config.format == SinkFormat::Raw && value.is_empty() {
            let why = "which the records do not have";
            return Err(WriteFault::Column { key: "format", column: BODY.to_owned(), why });
        }
        Ok(Self { schema, format: config.format, key, tombstone, value, message_bytes_max })
    }

    /// How keys are made, in words.
    pub(super) fn words(&self) -> String {
        let names: Vec<&str> = self.key.iter().map(|at| self.schema.field(*at).name().as_str()).collect();
        match names.as_slice() {
            [] => "messages have no key: their partitions are chosen at random".to_owned(),
            [one] => format!("the key of a message is {one}; Java clients find its partition, too"),
            several => format!("the key of a message is a JSON object of {}", several.join(", ")),
        }
    }

    /// Turns records into messages. Rows that cannot be messages are refused.
    pub(super) fn messages(&self, records: &RecordBatch) -> Result<(Messages, Vec<RefusedRow>), ArrowError> {
        let mut refused = Vec::new();
        let keys = self.keys(records, &mut refused)?;
        let values = match (self.format, self.value.first()) {
            (SinkFormat::Raw, Some(at)) => Values::Bytes(ArrayRef::clone(records.column(*at))),
            _ => {
                let of_value = records.project(&self.value)?;
                refused.extend(not_finite(&of_value, codes::NOT_FINITE));
                Values::Objects(as_objects(&of_value)?)
            }
        };
        let gone = self.tombstone.map(|at| ArrayRef::clone(records.column(at)));
        let messages = Messages { keys, values, gone };
        for row in 0..records.num_rows() {
            let bytes = messages.key(row).map_or(0, <[u8]>::len) + messages.value(row).map_or(0, <[u8]>::len);
            if bytes.saturating_add(OVERHEAD_BYTES) > self.message_bytes_max {
                refused.push(RefusedRow {
                    row,
                    code: codes::TOO_LARGE,
                    reason: format!(
                        "its message has {bytes} bytes, and the topic takes {} at most (max.message.bytes)",
                        self.message_bytes_max
                    ),
                });
            }
        }
        refused.sort_by_key(|refused| refused.row);
        refused.dedup_by_key(|refused| refused.row);
        Ok((messages, refused))
    }

    fn keys(&self, records: &RecordBatch, refused: &mut Vec<RefusedRow>) -> Result<Keys, ArrowError> {
        let [one] = self.key.as_slice() else {
            if self.key.is_empty() {
                return Ok(Keys::None);
            }
            let of_key = records.project(&self.key)?;
            refused.extend(not_finite(&of_key, codes::NOT_FINITE));
            return Ok(Keys::Objects(as_objects(&of_key)?));
        };
        let column = records.column(*one);
        for row in (0..column.len()).filter(|row| column.is_null(*row)) {
            let name = self.schema.field(*one).name();
            let reason = format!("column {name}: the key of a message is NULL");
            refused.push(RefusedRow { row, code: codes::KEY_NULL, reason });
        }
        match column.data_type() {
            DataType::Binary | DataType::Utf8 => Ok(Keys::Bytes(ArrayRef::clone(column))),
            _ => {
                let options = FormatOptions::default();
                let text = ArrayFormatter::try_new(column.as_ref(), &options)?;
                Ok(Keys::Text((0..column.len()).map(|row| text.value(row).to_string()).collect()))
            }
        }
    }
}

impl Messages {
    pub(super) fn key(&self, row: usize) -> Option<&[u8]> {
        match &self.keys {
            Keys::None => None,
            Keys::Bytes(array) => bytes(array, row),
            Keys::Text(texts) => texts.get(row).map(String::as_bytes),
            Keys::Objects(objects) => Some(objects.of(row)),
        }
    }

    pub(super) fn value(&self, row: usize) -> Option<&[u8]> {
        if let Some(gone) = self.gone.as_ref().and_then(|gone| gone.as_boolean_opt())
            && gone.is_valid(row)
            && gone.value(row)
        {
            return None;
        }
        match &self.values {
            Values::Objects(objects) => Some(objects.of(row)),
            Values::Bytes(array) => bytes(array, row),
        }
    }
}

fn bytes(array: &ArrayRef, row: usize) -> Option<&[u8]> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Utf8 => Some(array.as_string_opt::<i32>()?.value(row).as_bytes()),
        DataType::Binary => Some(array.as_binary_opt::<i32>()?.value(row)),
        _ => None,
    }
}

/// Whether values of a type come back from a message as they were.
fn check(column: &str, data_type: &DataType) -> Result<(), WriteFault> {
    use DataType as D;
    match data_type {
        D::Boolean
        | D::Int8
        | D::Int16
        | D::Int32
        | D::Int64
        | D::UInt8
        | D::UInt16
        | D::UInt32
        | D::UInt64
        | D::Float32
        | D::Float64
        | D::Decimal128(..)
        | D::Utf8
        | D::Binary
        | D::Date32
        | D::Time64(TimeUnit::Microsecond)
        | D::Timestamp(TimeUnit::Microsecond, _) => Ok(()),
        other => Err(WriteFault::TypeUnheld {
            column: column.to_owned(),
            data_type: other.to_string(),
            format: "these",
            reason: "it would not come back as it is",
        }),
    }
}
