//! Values in Avro, each behind the id of the registered schema it was written by.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::{Field, FieldRef};
use arrow::error::ArrowError;
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};

use super::registry::{Registered, Registry};
use crate::fault::ReadFault;

/// The bytes before the value: a zero, and the id.
const FRAME_BYTES: usize = 5;

/// A value in its frame.
pub(super) struct Framed {
    /// By which schema it was written.
    pub schema: u32,
    bytes: Vec<u8>,
}

impl Framed {
    /// Looks at the frame; an error says why it is none.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        match bytes.first_chunk::<FRAME_BYTES>() {
            Some([0, id @ ..]) => Ok(Self { schema: u32::from_be_bytes(*id), bytes: bytes.to_vec() }),
            _ => Err("it does not begin with a zero byte and the id of a registered schema".to_owned()),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads values into the columns of one registered schema.
pub(super) struct Avro {
    registry: Registry,
    /// Its text, and what columns it has.
    reader: String,
    fields: Vec<FieldRef>,
    /// What the registry said of each id.
    writers: Mutex<BTreeMap<u32, Writer>>,
}

/// What is known of a schema that values are written by.
#[derive(Clone)]
enum Writer {
    Known(String),
    /// The registry does not have it, or it cannot be read into the columns; why.
    Bad(String),
}

/// Values as columns.
pub(super) struct Decoded {
    /// One row a value; NULLs where it is bad.
    pub columns: Vec<ArrayRef>,
    /// The rows that are no records, ascending, and why.
    pub bad: Vec<(usize, String)>,
}

impl Avro {
    /// Reads values into the columns of the registered schema.
    pub(super) async fn open(registry: Registry, registered: Registered) -> Result<Self, ReadFault> {
        let Registered { id, schema } = registered;
        let store = store([(id, schema.as_str())]);
        let unfit = |error: ArrowError| ReadFault::SchemaUnfit { id, reason: error.to_string() };
        let decoder = store.and_then(|store| decoder(&schema, store, id)).map_err(unfit)?;
        let nullable = |field: &FieldRef| -> FieldRef { Arc::new(Field::clone(field).with_nullable(true)) };
        let fields = decoder.schema().fields().iter().map(nullable).collect();
        let writers = Mutex::new(BTreeMap::from([(id, Writer::Known(schema.clone()))]));
        Ok(Self { registry, reader: schema, fields, writers })
    }

    /// The columns.
    pub(super) fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// Asks the registry for the schemas that are not known yet.
    pub(super) async fn learn(&self, ids: &[u32]) -> Result<(), ReadFault> {
        for id in ids {
            if self.writer(*id).is_some() {
                continue;
            }
            let writer = match self.registry.schema(*id).await {
                Ok(registered) => {
                    let fits = store([(*id, registered.schema.as_str())])
                        .and_then(|store| decoder(&self.reader, store, *id));
                    match fits {
                        Ok(_) => Writer::Known(registered.schema),
                        Err(error) => {
                            Writer::Bad(format!("its schema {id} cannot be read into the columns: {error}"))
                        }
                    }
                }
                Err(ReadFault::SchemaMissing { .. }) => {
                    Writer::Bad(format!("the registry has no schema {id}"))
                }
                Err(ReadFault::SchemaUnfit { reason, .. }) => Writer::Bad(reason),
                // Whatever may pass says nothing of the schema.
                Err(fault) => return Err(fault),
            };
            self.writers.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, writer);
        }
        Ok(())
    }

    fn writer(&self, id: u32) -> Option<Writer> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Decodes values whose schemas were learnt. One that is none spoils no other.
    pub(super) fn decode(&self, all: &[Option<Framed>]) -> Result<Decoded, ArrowError> {
        let mut parts: Vec<Vec<ArrayRef>> = Vec::new();
        let mut bad = Vec::new();
        let mut row = 0;
        while row < all.len() {
            let same = |framed: &Option<Framed>| framed.as_ref().map(|framed| framed.schema);
            let id = all.get(row).and_then(same);
            let run = all.get(row..).unwrap_or_default();
            let run = run.split_at(run.iter().take_while(|framed| same(framed) == id).count()).0;
            match id.map(|id| (id, self.writer(id))) {
                None => parts.push(self.nothing(run.len())),
                Some((_, None)) => {
                    bad.extend((row..row + run.len()).map(|row| (row, "its schema is not known".to_owned())));
                    parts.push(self.nothing(run.len()));
                }
                Some((_, Some(Writer::Bad(why)))) => {
                    bad.extend((row..row + run.len()).map(|row| (row, why.clone())));
                    parts.push(self.nothing(run.len()));
                }
                Some((id, Some(Writer::Known(schema)))) => {
                    self.run(id, &schema, run, row, &mut parts, &mut bad)?
                }
            }
            row += run.len();
        }
        let columns = (0..self.fields.len()).map(|column| {
            let pieces: Vec<_> =
                parts.iter().filter_map(|part| part.get(column).map(AsRef::as_ref)).collect();
            if pieces.is_empty() {
                return Ok(self
                    .nothing(0)
                    .get(column)
                    .cloned()
                    .unwrap_or_else(|| new_null_array(&arrow::datatypes::DataType::Null, 0)));
            }
            concat(&pieces)
        });
        Ok(Decoded { columns: columns.collect::<Result<_, _>>()?, bad })
    }

    /// Values of one schema: all at once, or where one is bad, each by itself.
    fn run(
        &self,
        id: u32,
        schema: &str,
        run: &[Option<Framed>],
        first: usize,
        parts: &mut Vec<Vec<ArrayRef>>,
        bad: &mut Vec<(usize, String)>,
    ) -> Result<(), ArrowError> {
        let fresh = || decoder(&self.reader, store([(id, schema)])?, id);
        let mut together = fresh()?;
        if run.iter().flatten().all(|framed| whole(&mut together, framed).is_ok())
            && let Ok(Some(records)) = together.flush()
            && records.num_rows() == run.len()
        {
            parts.push(records.columns().to_vec());
            return Ok(());
        }
        let mut alone = fresh()?;
        for (at, framed) in run.iter().flatten().enumerate() {
            let decoded: Result<RecordBatch, String> = whole(&mut alone, framed).and_then(|()| {
                let flushed = alone.flush().map_err(|error| error.to_string())?;
                flushed.filter(|records| records.num_rows() == 1).ok_or_else(|| "it is no record".to_owned())
            });
            match decoded {
                Ok(records) => parts.push(records.columns().to_vec()),
                Err(reason) => {
                    bad.push((first + at, reason));
                    parts.push(self.nothing(1));
                    alone = fresh()?;
                }
            }
        }
        Ok(())
    }

    fn nothing(&self, rows: usize) -> Vec<ArrayRef> {
        self.fields.iter().map(|field| new_null_array(field.data_type(), rows)).collect()
    }
}

/// Decodes one value to its last byte.
fn whole(decoder: &mut Decoder, framed: &Framed) -> Result<(), String> {
    match decoder.decode(&framed.bytes) {
        Ok(taken) if taken == framed.bytes.len() => Ok(()),
        Ok(taken) => Err(format!("{taken} of its {} bytes are a value of its schema", framed.bytes.len())),
        Err(error) => Err(error.to_string()),
    }
}

fn store<'a>(schemas: impl IntoIterator<Item = (u32, &'a str)>) -> Result<SchemaStore, ArrowError> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    for (id, schema) in schemas {
        store.set(Fingerprint::Id(id), AvroSchema::new(schema.to_owned()))?;
    }
    Ok(store)
}

fn decoder(reader: &str, store: SchemaStore, active: u32) -> Result<Decoder, ArrowError> {
    ReaderBuilder::new()
        // A batch has fewer.
        .with_batch_size(1 << 20)
        .with_reader_schema(AvroSchema::new(reader.to_owned()))
        .with_writer_schema_store(store)
        .with_active_fingerprint(Fingerprint::Id(active))
        .build_decoder()
}
