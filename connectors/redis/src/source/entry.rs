//! Entries of a stream, as they come and as records.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use hapax_engine::identify::digest;
use hapax_protocol::identity::RecordId;
use redis::Value;
use serde_json::Value as Json;

use super::position::Id;
use crate::client::{bytes, list, text};
use crate::columns::{self, Misfit};
use crate::config::SourceConfig;
use crate::fault::ReadFault;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub id: Id,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The entries of an answer to XRANGE; `None` if it is not one.
    pub(crate) fn all(answer: &Value) -> Option<Vec<Self>> {
        let entry = |entry: &Value| {
            let [id, fields] = list(entry) else { return None };
            let fields = list(fields).chunks_exact(2).map(|pair| match pair {
                [name, value] => Some((bytes(name)?.to_vec(), bytes(value)?.to_vec())),
                _ => None,
            });
            Some(Self { id: text(id)?.parse().ok()?, fields: fields.collect::<Option<_>>()? })
        };
        list(answer).iter().map(entry).collect()
    }

    /// What tells it from another entry of the same id.
    pub(crate) fn digest(&self) -> RecordId {
        let mut all = Vec::with_capacity(self.bytes());
        for part in self.fields.iter().flat_map(|(name, value)| [name, value]) {
            all.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            all.extend_from_slice(part);
        }
        digest(&all)
    }

    /// How much it is, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.fields
            .iter()
            .map(|(name, value)| name.len().saturating_add(value.len()).saturating_add(16))
            .sum()
    }

    /// As the text of a dead letter.
    pub(crate) fn raw(&self) -> String {
        let words = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let fields = self.fields.iter().map(|(name, value)| (words(name), Json::String(words(value))));
        let entry: serde_json::Map<String, Json> = fields.collect();
        serde_json::json!({ "_id": self.id.to_string(), "_entry": entry }).to_string()
    }

    /// The id and the entry of such a text, as far as text says it.
    pub(crate) fn of_raw(raw: &str) -> Option<Self> {
        let letter: Json = serde_json::from_str(raw).ok()?;
        let fields = letter.get("_entry")?.as_object()?.iter();
        let fields = fields
            .map(|(name, value)| Some((name.clone().into_bytes(), value.as_str()?.to_owned().into_bytes())));
        Some(Self { id: letter.get("_id")?.as_str()?.parse().ok()?, fields: fields.collect::<Option<_>>()? })
    }
}

/// Which fields become columns.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub schema: SchemaRef,
    /// Which of the columns is the entry's id.
    id: Option<usize>,
}

impl Shape {
    /// Reads it from the file.
    pub(crate) fn read(config: &SourceConfig) -> Result<Self, ReadFault> {
        let types = config.schema.clone().unwrap_or_default();
        let names: Vec<String> = match &config.fields {
            Some(fields) => fields.clone(),
            None => types.0.iter().map(|(name, _)| name.clone()).collect(),
        };
        if names.is_empty() {
            return Err(ReadFault::Config("it names no `fields` and no `schema`".to_owned()));
        }
        if let Some(unread) = types.0.iter().map(|(name, _)| name).find(|name| !names.contains(name)) {
            return Err(ReadFault::Config(format!(
                "`schema` names {unread:?}, which is not among the `fields`"
            )));
        }
        let mut fields: Vec<Field> = Vec::with_capacity(names.len());
        for name in config.id_column.iter().chain(&names) {
            if fields.iter().any(|field| field.name() == name) {
                return Err(ReadFault::Config(format!("the column {name:?} is named twice")));
            }
            let typed = types.0.iter().find(|(typed, _)| typed == name);
            let data_type = match typed.filter(|_| config.id_column.as_ref() != Some(name)) {
                None => DataType::Utf8,
                Some((_, data_type)) => data_type.clone(),
            };
            if !columns::Column::holds(&data_type) {
                return Err(ReadFault::Config(format!("the field {name:?} cannot be read as {data_type}")));
            }
            fields.push(Field::new(name, data_type, true));
        }
        let id = config.id_column.as_ref().map(|_| 0);
        Ok(Self { schema: Arc::new(Schema::new(fields)), id })
    }

    /// The fields that have the names of these columns.
    pub(crate) fn of(schema: SchemaRef) -> Self {
        Self { schema, id: None }
    }

    /// Entries as records. Those that do not fit are left out and returned.
    pub(crate) fn records(&self, entries: &[Entry]) -> Result<(RecordBatch, Vec<Misfit>), ReadFault> {
        let mut twice: Vec<Misfit> = Vec::new();
        let mut rows = Vec::with_capacity(entries.len());
        for (row, entry) in entries.iter().enumerate() {
            let mut values = Vec::with_capacity(self.schema.fields().len());
            for (index, field) in self.schema.fields().iter().enumerate() {
                if self.id == Some(index) {
                    values.push(Some(entry.id.to_string().into_bytes()));
                    continue;
                }
                let mut found = entry.fields.iter().filter(|(name, _)| name == field.name().as_bytes());
                values.push(found.next().map(|(_, value)| value.clone()));
                if found.next().is_some() {
                    twice.push(Misfit {
                        row,
                        reason: format!("entry {} has the field {:?} twice", entry.id, field.name()),
                    });
                }
            }
            rows.push(values);
        }
        let (records, mut misfits) = columns::records(&self.schema, &rows)?;
        if twice.is_empty() {
            return Ok((records, misfits));
        }
        // Rare enough to be done again without them.
        let odd: Vec<usize> = twice.iter().map(|misfit| misfit.row).collect();
        let kept: Vec<usize> = (0..rows.len()).filter(|row| !odd.contains(row)).collect();
        let rows: Vec<_> = kept.iter().filter_map(|row| rows.get(*row).cloned()).collect();
        let (records, rest) = columns::records(&self.schema, &rows)?;
        misfits = rest;
        for misfit in &mut misfits {
            misfit.row = kept.get(misfit.row).copied().unwrap_or(misfit.row);
        }
        misfits.extend(twice);
        misfits.sort_by_key(|misfit| misfit.row);
        misfits.dedup_by_key(|misfit| misfit.row);
        Ok((records, misfits))
    }
}
