//! How records of one shape become keys and values: decided before anything is written.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use hapax_engine::message::{Objects, as_objects, not_finite};
use hapax_engine::sink::Shape;
use hapax_engine::transform::RefusedRow;
use hapax_protocol::guarantee::{Retention, Window};

use crate::codes;
use crate::columns::Column;
use crate::config::{SinkConfig, Write, retention, window};
use crate::fault::WriteFault;
use crate::template::Template;

/// What the file says, read.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub template: Template,
    pub ttl: Option<Window>,
    pub ledger: Retention,
}

impl Settings {
    pub(crate) fn read(config: &SinkConfig) -> Result<Self, WriteFault> {
        let refuse = |reason: &str| Err(WriteFault::Config(reason.to_owned()));
        let wrong = |reason: String| WriteFault::Template { template: config.key.clone(), reason };
        let template = Template::read(&config.key).map_err(|error| wrong(error.to_string()))?;
        let has_columns = template.columns().next().is_some();
        match (config.write, has_columns) {
            (Write::Stream, true) => return Err(wrong("a stream has one name, without columns".to_owned())),
            (Write::Hash | Write::String | Write::Json, false) => {
                return Err(wrong("it names no column, so that all records would have one key".to_owned()));
            }
            _ => {}
        }
        if config.key.is_empty() || config.state.is_empty() {
            return refuse("`key` or `state` is empty");
        }
        if config.state.contains(['{', '}']) {
            return refuse("`state` holds a brace");
        }
        // What is written for records must never be taken for what is kept beside them.
        let (head, state) = (template.head(), config.state.as_str());
        if head.starts_with(&format!("{state}:")) || (has_columns && format!("{state}:").starts_with(head)) {
            return Err(wrong(format!("its keys could be those that Hapax keeps under {state:?}")));
        }
        let ttl = match config.ttl.as_deref() {
            None => None,
            Some(text) => match window(text) {
                Some(window) => Some(window),
                None => return refuse("`ttl` is no time such as `30d`"),
            },
        };
        if ttl.is_some() && config.write == Write::Stream {
            return refuse("`ttl` is not for streams: their entries have no time to live");
        }
        if (config.write == Write::String) != config.value.is_some() {
            return refuse("`write: string` needs `value`, the column to keep, and nothing else has one");
        }
        let Some(ledger) = retention(config.ledger_retention.as_deref()) else {
            return refuse("`ledger_retention` is neither `unbounded` nor a time such as `7d`");
        };
        Ok(Self { template, ttl, ledger })
    }
}

/// What is done for each batch.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub write: Write,
    pub ttl: Option<Window>,
    template: Template,
    /// The columns of the template, by their place among the records' columns.
    key: Vec<usize>,
    /// The columns that are written, with their names.
    pub columns: Vec<(usize, String)>,
}

/// A record on its way: what its call needs beside its key.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    /// `1` for each column that is NULL; empty if none is.
    pub nulls: String,
    /// The values of the others.
    pub values: Vec<Vec<u8>>,
}

impl Encoded {
    pub(crate) fn bytes(&self) -> usize {
        self.values.iter().map(Vec::len).sum::<usize>().saturating_add(self.values.len().saturating_mul(16))
    }
}

/// A key and what stands there, or why the row is refused.
pub(crate) type Row = Result<(Vec<u8>, Encoded), RefusedRow>;

/// The word of the file.
pub(crate) fn word(write: Write) -> &'static str {
    match write {
        Write::Hash => "hash",
        Write::String => "string",
        Write::Json => "json",
        Write::Stream => "stream",
    }
}

/// What Redis calls what stands at a key.
pub(crate) fn kind(write: Write) -> &'static str {
    match write {
        Write::Hash => "hash",
        Write::String | Write::Json => "string",
        Write::Stream => "stream",
    }
}

impl Plan {
    /// Decides. Refuses what would not fit.
    pub(crate) fn make(config: &SinkConfig, settings: &Settings, shape: &Shape) -> Result<Self, WriteFault> {
        let schema = &shape.schema;
        let wrong = |reason: String| WriteFault::Template { template: config.key.clone(), reason };
        let mut key = Vec::new();
        for column in settings.template.columns() {
            let index = schema.index_of(column);
            key.push(index.map_err(|_| wrong(format!("the records have no column {column:?}")))?);
        }
        if config.write != Write::Stream && !shape.key.is_empty() {
            if let Some(missing) =
                shape.key.iter().find(|name| !settings.template.columns().any(|c| c == *name))
            {
                return Err(wrong(format!(
                    "it lacks {missing:?}, so that records of two identities share a key"
                )));
            }
            if let Some(more) = settings.template.columns().find(|name| !shape.key.contains(name)) {
                return Err(wrong(format!(
                    "{more:?} is no part of the identity, so that one record could have two keys"
                )));
            }
        }
        let unheld = |field: &arrow::datatypes::Field| WriteFault::TypeUnheld {
            column: field.name().clone(),
            data_type: field.data_type().to_string(),
            write: word(config.write),
        };
        for (index, field) in schema.fields().iter().enumerate() {
            let by_text = config.write != Write::Json || key.contains(&index);
            let held = if by_text { Column::holds(field.data_type()) } else { is_json(field.data_type()) };
            if !held {
                return Err(unheld(field));
            }
        }
        let all = schema.fields().iter().map(|field| field.name().clone()).enumerate();
        let columns = match &config.value {
            None => all.collect(),
            Some(value) => {
                let index = schema.index_of(value).map_err(|_| {
                    WriteFault::Config(format!(
                        "`value` names the column {value:?}, which the records do not have"
                    ))
                })?;
                let lost = all.clone().find(|(other, _)| *other != index && !key.contains(other));
                if let Some((_, column)) = lost {
                    return Err(WriteFault::ColumnLost { column, value: value.clone() });
                }
                vec![(index, value.clone())]
            }
        };
        Ok(Self { write: config.write, ttl: settings.ttl, template: settings.template.clone(), key, columns })
    }

    /// The key and the value of each row, or why it is refused.
    pub(crate) fn encode(&self, records: &RecordBatch) -> Result<Vec<Row>, arrow::error::ArrowError> {
        let by_text = |index: &usize| records.columns().get(*index).map(Column::of).transpose();
        let key: Vec<Option<Column>> = self.key.iter().map(by_text).collect::<Result<_, _>>()?;
        let (objects, mut odd) = match self.write {
            Write::Json => {
                let odd = not_finite(records, codes::VALUE_UNHELD).into_iter();
                (as_objects(records)?, odd.map(|row| (row.row, row)).collect())
            }
            _ => (Objects::default(), HashMap::new()),
        };
        let columns: Vec<Option<Column>> = match self.write {
            Write::Json => Vec::new(),
            _ => self.columns.iter().map(|(index, _)| by_text(index)).collect::<Result<_, _>>()?,
        };
        Ok((0..records.num_rows())
            .map(|row| {
                let made = self.template.key(|place| key.get(place)?.as_ref()?.value(row));
                let made = made.map_err(|place| self.keyless(records, &key, place, row))?;
                let encoded = match (self.write, odd.remove(&row)) {
                    (_, Some(odd)) => return Err(odd),
                    (Write::Json, None) => {
                        Encoded { nulls: String::new(), values: vec![objects.of(row).to_vec()] }
                    }
                    (_, None) => self.fields(&columns, row)?,
                };
                Ok((made, encoded))
            })
            .collect())
    }

    fn fields(&self, columns: &[Option<Column>], row: usize) -> Result<Encoded, RefusedRow> {
        let mut encoded = Encoded { nulls: String::new(), values: Vec::with_capacity(columns.len()) };
        let mut marks = String::with_capacity(columns.len());
        for column in columns {
            match column.as_ref().and_then(|column| column.value(row)) {
                Some(value) => {
                    encoded.values.push(value.to_vec());
                    marks.push('0');
                }
                None => marks.push('1'),
            }
        }
        if marks.contains('1') {
            encoded.nulls = marks;
        }
        if encoded.values.is_empty() {
            let why = match self.write {
                Write::String => "the value is NULL, and a string cannot say that",
                _ => "all columns are NULL, and an entry has at least one field",
            };
            return Err(unheld(row, why.to_owned()));
        }
        Ok(encoded)
    }

    fn keyless(&self, records: &RecordBatch, key: &[Option<Column>], place: usize, row: usize) -> RefusedRow {
        let name = self
            .key
            .get(place)
            .map_or_else(String::new, |index| records.schema().field(*index).name().clone());
        let is_null =
            key.get(place).and_then(Option::as_ref).is_none_or(|column| column.value(row).is_none());
        let why = if is_null {
            "is NULL"
        } else {
            "holds the text that ends it in `key`, so that two records could share a key"
        };
        RefusedRow { row, code: codes::NO_KEY, reason: format!("column {name:?} {why}") }
    }
}

fn unheld(row: usize, reason: String) -> RefusedRow {
    RefusedRow { row, code: codes::VALUE_UNHELD, reason }
}

/// Whether JSON says every value of a type, or the row is refused. Numbers that are not finite are looked for in columns
/// only, not inside of lists.
fn is_json(data_type: &DataType) -> bool {
    let inside =
        |field: &arrow::datatypes::Field| !field.data_type().is_floating() && is_json(field.data_type());
    match data_type {
        DataType::List(field) | DataType::LargeList(field) => inside(field),
        DataType::Struct(fields) => fields.iter().all(|field| inside(field)),
        other => Column::holds(other),
    }
}
