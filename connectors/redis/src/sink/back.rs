//! What the destination holds, read back as records: every key that the template could have made.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, SchemaRef};
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit, Rejected};
use hapax_engine::columns::{Columns, parse_type, type_name};
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::durable::Durable;
use hapax_engine::fault::{SinkError, SourceError};
use hapax_engine::message::{Bodies, Format, UnknownFields};
use hapax_engine::source::{Nothing, Source, Split, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts};
use hapax_protocol::position::{Ordinal, Position, SplitId};
use redis::Value;

use super::Store;
use super::plan::kind;
use crate::client::{Address, Session, bytes, list, text};
use crate::codes;
use crate::columns::{self, Misfit};
use crate::config::Write;
use crate::fault::ReadFault;
use crate::template::Template;

/// How many keys are looked at in one step of a scan.
const SCAN_KEYS: u64 = 5_000;

/// How many records are read in one step.
const STEP: usize = 1_000;

/// The records of a destination, in the order of their keys.
struct Back {
    address: Address,
    template: Template,
    write: Write,
    value: Option<String>,
    schema: SchemaRef,
    /// Every key there was when it was opened.
    keys: Arc<[Vec<u8>]>,
}

/// Opens it. What is not there holds nothing.
pub(super) async fn open(store: &Store, schema: SchemaRef) -> Result<Arc<dyn Source>, SinkError> {
    let template = store.settings.template.clone();
    let mut session = store.address.connect_for(template.head()).await?;
    let keys = keys(&mut session, &template, kind(store.config.write)).await?;
    if keys.is_empty() {
        return Ok(Arc::new(Nothing(schema)));
    }
    Ok(Arc::new(Back {
        address: store.address.clone(),
        template,
        write: store.config.write,
        value: store.config.value.clone(),
        schema,
        keys: keys.into(),
    }))
}

async fn keys(session: &mut Session, template: &Template, kind: &str) -> Result<Vec<Vec<u8>>, SinkError> {
    let doing = "listing keys";
    let (mut keys, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(&cursor)
            .arg("MATCH")
            .arg(template.pattern())
            .arg("COUNT")
            .arg(SCAN_KEYS)
            .arg("TYPE")
            .arg(kind);
        let answer = session.ask(doing, &scan).await?;
        let [next, found] = list(&answer) else { return Err(session.misunderstood(doing).into()) };
        let found = list(found).iter().filter_map(bytes).filter(|key| template.values(key).is_some());
        keys.extend(found.map(<[u8]>::to_vec));
        cursor = text(next).unwrap_or_default();
        if cursor == "0" || cursor.is_empty() {
            break;
        }
    }
    // A scan may name a key twice.
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

impl Back {
    fn split(&self) -> SplitId {
        SplitId::new(self.template.head())
    }

    /// The values of records, `None` for those that went meanwhile.
    async fn values(
        &self,
        session: &mut Session,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Vec<Option<Vec<u8>>>>>, SourceError> {
        let names: Vec<&String> = self.schema.fields().iter().map(|field| field.name()).collect();
        let mut ask = redis::pipe();
        for key in keys {
            match self.write {
                Write::Hash => ask.cmd("HMGET").arg(key).arg(&names),
                _ => ask.cmd("GET").arg(key),
            };
        }
        let answers = session.all("reading records", &ask).await?;
        let owned = |value: &Value| bytes(value).map(<[u8]>::to_vec);
        let row = |(key, answer): (&Vec<u8>, &Value)| match self.write {
            Write::Hash => {
                let values: Vec<Option<Vec<u8>>> = list(answer).iter().map(owned).collect();
                values.iter().any(Option::is_some).then_some(values)
            }
            Write::Json => owned(answer).map(|object| vec![Some(object)]),
            Write::String | Write::Stream => {
                let value = owned(answer)?;
                let parts = self.template.values(key)?;
                let of_key = |name: &String| {
                    let place = self.template.columns().position(|column| column == name)?;
                    parts.get(place).cloned()
                };
                let is_value = |name: &String| self.value.as_ref() == Some(name);
                Some(
                    names
                        .iter()
                        .map(|name| if is_value(name) { Some(value.clone()) } else { of_key(name) })
                        .collect(),
                )
            }
        };
        Ok(keys.iter().zip(&answers).map(row).collect())
    }

    fn records(&self, rows: &[Vec<Option<Vec<u8>>>]) -> Result<(RecordBatch, Vec<Misfit>), ReadFault> {
        if self.write != Write::Json {
            return Ok(columns::records(&self.schema, rows)?);
        }
        let object = |row: &Vec<Option<Vec<u8>>>| row.first().cloned().flatten().unwrap_or_default();
        Ok(objects(&self.schema, &rows.iter().map(object).collect::<Vec<_>>())?)
    }
}

/// Records of JSON objects. Those that do not fit are left out and returned.
pub(crate) fn objects(
    schema: &SchemaRef,
    objects: &[Vec<u8>],
) -> Result<(RecordBatch, Vec<Misfit>), arrow::error::ArrowError> {
    if let Some(bodies) = exact(schema) {
        let mut rows = bodies.rows();
        let mut misfits = Vec::new();
        for (row, object) in objects.iter().enumerate() {
            if let Err(reason) = rows.push(object) {
                misfits.push(Misfit { row, reason });
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let records = RecordBatch::try_new_with_options(Arc::clone(schema), rows.finish(), &options)?;
        return Ok((records, misfits));
    }
    let decode = |lines: &[u8]| -> Result<RecordBatch, arrow::error::ArrowError> {
        let mut decoder = arrow::json::ReaderBuilder::new(Arc::clone(schema))
            .with_batch_size(objects.len().max(1))
            .build_decoder()?;
        decoder.decode(lines)?;
        Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(schema))))
    };
    if let Ok(records) = decode(&objects.join(&b'\n'))
        && records.num_rows() == objects.len()
    {
        return Ok((records, Vec::new()));
    }
    let (mut fitting, mut misfits) = (Vec::new(), Vec::new());
    for (row, object) in objects.iter().enumerate() {
        match decode(object) {
            Ok(record) if record.num_rows() == 1 => fitting.push(record),
            Ok(_) => misfits.push(Misfit { row, reason: "it is not one JSON object".to_owned() }),
            Err(error) => misfits.push(Misfit { row, reason: error.to_string() }),
        }
    }
    Ok((arrow::compute::concat_batches(schema, &fitting)?, misfits))
}

/// The engine's reader of JSON, which changes no value, for the columns that it knows; Arrow's own for lists and structs.
fn exact(schema: &SchemaRef) -> Option<Bodies> {
    let column = |field: &FieldRef| {
        let data_type = parse_type(&type_name(field.data_type())).ok()?;
        (data_type == *field.data_type()).then(|| (field.name().clone(), data_type))
    };
    let columns = Columns(schema.fields().iter().map(column).collect::<Option<_>>()?);
    Bodies::new(Format::Json, Some(&columns), UnknownFields::Ignore).ok()
}

impl Source for Back {
    fn facts(&self) -> SourceFacts {
        SourceFacts {
            completeness: Completeness::Complete,
            replay: Replay::Exact,
            retention: Retention::Unbounded,
            order: Order::None,
            settle: Settle::Seek,
            condition: None,
        }
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        Box::pin(std::future::ready(Ok(vec![Split { id: self.split(), source_bytes: None }])))
    }

    fn open(&self, split: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        let (split, after) = (split.clone(), after.cloned());
        Box::pin(async move {
            let next = match &after {
                None => 0,
                // A position is a key: the first one behind it is next.
                Some(position) => self.keys.partition_point(|key| key.as_slice() <= position.as_bytes()),
            };
            let back = Back {
                address: self.address.clone(),
                template: self.template.clone(),
                write: self.write,
                value: self.value.clone(),
                schema: Arc::clone(&self.schema),
                keys: Arc::clone(&self.keys),
            };
            let session = back.address.connect_for(back.template.head()).await?;
            let reader: Box<dyn SplitReader> = Box::new(Reader { back, session, split, next, stood: after });
            Ok(reader)
        })
    }

    fn describe(&self, position: &Position) -> String {
        format!("behind key {:?}", String::from_utf8_lossy(position.as_bytes()))
    }

    fn rejects_with(&self, code: Code) -> bool {
        code == codes::VALUE_MISFIT
    }

    fn reread(&self, letter: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        let reason = "it was read from a destination".to_owned();
        let fault = ReadFault::Letter { place: letter.place.clone(), reason };
        Box::pin(std::future::ready(Err(fault.into())))
    }
}

struct Reader {
    back: Back,
    session: Session,
    split: SplitId,
    next: usize,
    stood: Option<Position>,
}

impl SplitReader for Reader {
    fn read(&mut self, limit: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        Box::pin(async move {
            let step = limit.records_max.clamp(1, STEP);
            let ends = self.next.saturating_add(step).min(self.back.keys.len());
            let keys = self.back.keys.get(self.next..ends).unwrap_or_default().to_vec();
            let Some(last) = keys.last() else { return Ok(None) };
            let values = self.back.values(&mut self.session, &keys).await?;
            let (mut rows, mut ordinals): (Vec<_>, Vec<Ordinal>) = (Vec::new(), Vec::new());
            for (ordinal, row) in (self.next..).zip(values) {
                if let Some(row) = row {
                    rows.push(row);
                    ordinals.push(u64::try_from(ordinal).unwrap_or(u64::MAX));
                }
            }
            let (records, misfits) = self.back.records(&rows)?;
            let ordinals = Ordinals::Each(ordinals.into());
            let rejected = misfits.iter().map(|misfit| Rejected {
                ordinal: ordinals.of(misfit.row),
                code: codes::VALUE_MISFIT,
                reason: misfit.reason.clone(),
                id: None,
                raw: String::new(),
            });
            let rejected: Vec<Rejected> = rejected.collect();
            let fits = |row: &usize| !misfits.iter().any(|misfit| misfit.row == *row);
            let batch = Batch {
                split: self.split.clone(),
                after: self.stood.clone(),
                through: Position::new(last.as_slice()),
                ordinals: ordinals.pick((0..rows.len()).filter(fits)),
                records,
                rejected,
                source_bytes: 0,
            };
            self.next = ends;
            self.stood = Some(batch.through.clone());
            Ok(Some(batch))
        })
    }

    fn acknowledge(&mut self, _through: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(std::future::ready(Ok(())))
    }
}
