//! Messages gathered into a batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use hapax_engine::batch::{Ordinals, Rejected};
use hapax_engine::message::Rows;
use hapax_protocol::code::Code;
use hapax_protocol::position::Ordinal;
use rdkafka::Message;

use super::avro::Framed;
use super::beside::Beside;
use super::plan::{Plan, Values};
use super::position::{Glance, Mark, split_of};
use crate::codes;
use crate::config::Metadata;

/// Messages on their way into a batch.
pub(super) struct Gather {
    body: Body,
    beside: Beside,
    takes_tombstones: bool,
    ordinals: Vec<Ordinal>,
    rejected: Vec<Rejected>,
    /// The last message.
    last: Option<(i64, Glance)>,
    /// How many there are.
    pub count: usize,
    /// How many bytes keys and values have.
    pub bytes: usize,
}

enum Body {
    Rows(Box<Rows>),
    /// Values that are decoded once their schemas are there; `None` for a tombstone.
    Framed(Vec<Option<Framed>>),
}

/// The records of a batch.
pub(super) struct Gathered {
    pub records: RecordBatch,
    pub ordinals: Ordinals,
    pub rejected: Vec<Rejected>,
}

impl Gathered {
    /// No records.
    pub(super) fn nothing(plan: &Plan) -> Self {
        let records = RecordBatch::new_empty(SchemaRef::clone(&plan.schema));
        Self { records, ordinals: Ordinals::From(0), rejected: Vec::new() }
    }
}

impl Gather {
    pub(super) fn new(plan: &Plan) -> Self {
        let body = match &plan.values {
            Values::Bodies(bodies) => Body::Rows(Box::new(bodies.rows())),
            Values::Avro(_) => Body::Framed(Vec::new()),
        };
        Self {
            body,
            beside: Beside::new(&plan.metadata),
            takes_tombstones: plan.metadata.contains(&Metadata::Deleted),
            ordinals: Vec::new(),
            rejected: Vec::new(),
            last: None,
            count: 0,
            bytes: 0,
        }
    }

    /// Adds a message. One that is no record is rejected, with its partition and offset.
    pub(super) fn push(&mut self, message: &impl Message) {
        let (key, value) = (message.key().unwrap_or_default(), message.payload());
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(key.len()).saturating_add(value.map_or(0, <[u8]>::len));
        let mut glance = self.last.take().map(|(_, glance)| glance).unwrap_or_default();
        glance.take(message);
        self.last = Some((message.offset(), glance));
        if let Err((code, reason)) = self.add(message) {
            self.rejected.push(rejected(message, code, &reason));
        }
    }

    fn add(&mut self, message: &impl Message) -> Result<(), (Code, String)> {
        let texts = self.beside.texts(message).map_err(|reason| (codes::NOT_TEXT, reason))?;
        match (message.payload(), &mut self.body) {
            (None, _) if !self.takes_tombstones => {
                let reason = "it has no value (a tombstone; add `_deleted` to `metadata` to read it)";
                return Err((codes::TOMBSTONE, reason.to_owned()));
            }
            (None, Body::Rows(rows)) => rows.push_nothing(),
            (None, Body::Framed(all)) => all.push(None),
            (Some(value), Body::Rows(rows)) => {
                rows.push(value).map_err(|reason| (codes::UNDECODABLE, reason))?;
            }
            (Some(value), Body::Framed(all)) => {
                all.push(Some(Framed::read(value).map_err(|reason| (codes::UNDECODABLE, reason))?));
            }
        }
        self.beside.push(message, &texts);
        self.ordinals.push(ordinal(message));
        Ok(())
    }

    /// The place behind the last message.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.last.as_ref().map(|(last, glance)| Mark::behind(*last, glance.seen()))
    }

    /// The ids of the schemas that values are written by.
    pub(super) fn schemas(&self) -> Vec<u32> {
        let Body::Framed(all) = &self.body else { return Vec::new() };
        let mut ids: Vec<u32> = all.iter().flatten().map(|framed| framed.schema).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Makes the batch.
    pub(super) fn finish(mut self, plan: &Plan, split: (&str, i32)) -> Result<Gathered, ArrowError> {
        let rows = self.ordinals.len();
        let (mut columns, bad): (Vec<ArrayRef>, Vec<(usize, String)>) = match (self.body, &plan.values) {
            (Body::Rows(rows), _) => (rows.finish(), Vec::new()),
            (Body::Framed(all), Values::Avro(avro)) => {
                let decoded = avro.decode(&all)?;
                for (row, reason) in &decoded.bad {
                    let raw = all.get(*row).and_then(Option::as_ref).map(Framed::bytes).unwrap_or_default();
                    let ordinal = self.ordinals.get(*row).copied().unwrap_or_default();
                    self.rejected.push(Rejected {
                        ordinal,
                        code: codes::UNDECODABLE,
                        reason: reason_at(split, ordinal, reason),
                        id: None,
                        raw: Rejected::excerpt(raw),
                    });
                }
                (decoded.columns, decoded.bad)
            }
            (Body::Framed(_), Values::Bodies(_)) => (Vec::new(), Vec::new()),
        };
        columns.extend(self.beside.finish());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let mut records =
            RecordBatch::try_new_with_options(SchemaRef::clone(&plan.read_as), columns, &options)?;
        let columns = records.project(&plan.order)?.columns().to_vec();
        records = RecordBatch::try_new_with_options(SchemaRef::clone(&plan.schema), columns, &options)?;
        let mut ordinals = self.ordinals;
        if !bad.is_empty() {
            let is_good = |row: &usize| !bad.iter().any(|(bad, _)| bad == row);
            let good: Vec<bool> = (0..rows).map(|row| is_good(&row)).collect();
            records = filter_record_batch(&records, &BooleanArray::from(good))?;
            ordinals =
                ordinals.into_iter().enumerate().filter(|(row, _)| is_good(row)).map(|(_, n)| n).collect();
        }
        Ok(Gathered { records, ordinals: numbers(ordinals), rejected: self.rejected })
    }
}

/// The offset is the number of the record: it is the same whenever and from wherever the partition is read, also where
/// compaction or a transaction that was taken back left holes.
fn ordinal(message: &impl Message) -> Ordinal {
    u64::try_from(message.offset()).unwrap_or_default()
}

fn numbers(each: Vec<Ordinal>) -> Ordinals {
    let first = each.first().copied().unwrap_or_default();
    let last = each.last().copied().unwrap_or_default();
    let is_whole =
        last.saturating_sub(first).saturating_add(1) == u64::try_from(each.len()).unwrap_or(u64::MAX);
    if each.is_empty() || is_whole { Ordinals::From(first) } else { Ordinals::Each(Arc::from(each)) }
}

fn reason_at(split: (&str, i32), ordinal: Ordinal, reason: &str) -> String {
    format!("{} offset {ordinal}: {reason}", split_of(split.0, split.1))
}

/// A message as a record that is none.
pub(super) fn rejected(message: &impl Message, code: Code, reason: &str) -> Rejected {
    let ordinal = ordinal(message);
    Rejected {
        ordinal,
        code,
        reason: reason_at((message.topic(), message.partition()), ordinal, reason),
        id: None,
        raw: Rejected::excerpt(message.payload().unwrap_or_default()),
    }
}
