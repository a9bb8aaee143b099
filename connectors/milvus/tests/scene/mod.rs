//! Collections of a test's own on the real server.
#![allow(dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use hapax_conformance::memory::Memory;
use hapax_conformance::milvus::{Client, Kind, Made};
use hapax_engine::Fut;
use hapax_engine::fault::SinkError;
use hapax_engine::sink::{CommitSize, Kept, Repeat, Sender, Sending, Sent, Shape, Sink, Target};
use hapax_engine::source::Source;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::Durability;
use hapax_protocol::position::SplitId;
use serde_json::{Value, json};

/// What the records of the suites become.
pub const KEYED: Made<'static> = Made {
    fields: &[("id", Kind::Int64), ("vec", Kind::Vector(2)), ("text", Kind::Varchar(64))],
    auto_id: false,
    dynamic: false,
};

/// Names that never meet those of another test, and what is dropped at the end.
pub struct Scene {
    pub url: String,
    prefix: String,
}

impl Scene {
    pub fn new() -> Self {
        static SCENES: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("hapax_{}_{}", std::process::id(), SCENES.fetch_add(1, Ordering::SeqCst));
        Self { url: hapax_conformance::server::milvus(), prefix }
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix)
    }

    pub async fn client(&self) -> Client {
        Client::at(&self.url).await
    }

    /// Makes a collection, if it is not there, and loads it.
    pub async fn make(&self, name: &str, made: Made<'_>, load: bool) {
        let (mut client, name) = (self.client().await, self.name(name));
        client.create(&name, made).await;
        if load {
            let vector = made.fields.iter().find(|(_, kind)| matches!(kind, Kind::Vector(_))).unwrap().0;
            client.load(&name, vector).await;
        }
    }

    pub fn sink(&self, name: &str, more: Value) -> Result<Arc<dyn Target>, Code> {
        let mut keys = json!({ "url": self.url, "collection": self.name(name) });
        for (key, value) in more.as_object().unwrap() {
            keys[key] = value.clone();
        }
        hapax_milvus::sink::open(serde_json::from_value(keys).unwrap()).map_err(|error| error.fault.code())
    }

    pub async fn source(&self, name: &str, more: Value) -> Result<Arc<dyn Source>, Code> {
        let mut keys = json!({ "url": self.url, "collection": self.name(name) });
        for (key, value) in more.as_object().unwrap() {
            keys[key] = value.clone();
        }
        let config = serde_json::from_value(keys).unwrap();
        match hapax_milvus::source::Entities::open(config).await {
            Ok(source) => Ok(Arc::new(source)),
            Err(error) => Err(error.fault.code()),
        }
    }

    /// Drops what was made.
    pub async fn clear(&self) {
        let keys = json!({ "url": self.url, "collection": self.name("") });
        let config = serde_json::from_value(keys).unwrap();
        hapax_milvus::scratch::remove(&config, &format!("{}_", self.prefix)).await.unwrap();
    }
}

/// Records of these keys for a collection of [`KEYED`].
pub fn vectors(ids: &[i64]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("text {id}"))));
    let records = RecordBatch::try_from_iter([("id", keys), ("text", texts)]).unwrap();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let mut fields: Vec<Arc<Field>> = records.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("vec", DataType::FixedSizeList(item, 2), true)));
    vectored(&records, Arc::new(Schema::new(fields)))
}

pub fn kept(target: Arc<dyn Target>) -> Sink {
    Sink::Kept(Kept { target, keeper: Arc::new(Memory::default()) })
}

/// Gives each record a vector, which a collection needs, and says whether it deletes.
pub struct Vectored {
    pub target: Arc<dyn Target>,
    pub deletes: bool,
}

impl Vectored {
    fn schema(&self, schema: &SchemaRef) -> SchemaRef {
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("vec", DataType::FixedSizeList(item, 2), true)));
        if self.deletes {
            fields.push(Arc::new(Field::new("gone", DataType::Boolean, true)));
        }
        Arc::new(Schema::new(fields))
    }

    fn shape(&self, shape: &Shape) -> Shape {
        Shape { schema: self.schema(&shape.schema), key: shape.key.clone() }
    }
}

/// The same records with a vector each.
fn vectored(records: &RecordBatch, schema: SchemaRef) -> RecordBatch {
    let rows = records.num_rows();
    let numbers = Float32Array::from_iter_values((0..rows).flat_map(|row| [row as f32, 1.0]));
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let mut columns: Vec<ArrayRef> = records.columns().to_vec();
    columns.push(Arc::new(FixedSizeListArray::try_new(item, 2, Arc::new(numbers), None).unwrap()));
    if schema.fields().len() > columns.len() {
        columns.push(Arc::new(BooleanArray::from(vec![true; rows])));
    }
    RecordBatch::try_new(schema, columns).unwrap()
}

impl Target for Vectored {
    fn repeat(&self) -> Repeat {
        self.target.repeat()
    }

    fn durability(&self) -> Durability {
        self.target.durability()
    }

    fn commit_size(&self) -> CommitSize {
        self.target.commit_size()
    }

    fn check<'a>(&'a self, shape: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(async move { self.target.check(&self.shape(shape)).await })
    }

    fn prepare<'a>(&'a self, shape: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(async move { self.target.prepare(&self.shape(shape)).await })
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        self.target.read_back(schema)
    }

    fn sender(&self, split: &SplitId) -> Fut<'_, Box<dyn Sender>, SinkError> {
        let split = split.clone();
        Box::pin(async move {
            let sender = self.target.sender(&split).await?;
            let target = Vectored { target: Arc::clone(&self.target), deletes: self.deletes };
            let sender: Box<dyn Sender> = Box::new(WithVectors { sender, target });
            Ok(sender)
        })
    }
}

struct WithVectors {
    sender: Box<dyn Sender>,
    target: Vectored,
}

impl WithVectors {
    async fn with(&mut self, sending: Sending<'_>, absent: bool) -> Result<Sent, SinkError> {
        let records = vectored(sending.records, self.target.schema(&sending.records.schema()));
        let sending = Sending { records: &records, ..sending };
        match absent {
            true => self.sender.send_absent(sending).await,
            false => self.sender.send(sending).await,
        }
    }
}

impl Sender for WithVectors {
    fn send<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(self.with(sending, false))
    }

    fn send_absent<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(self.with(sending, true))
    }
}

/// A destination that makes a mistake: it inserts, or sends all versions of a key in one upsert.
pub struct Planted {
    pub client: Client,
    pub collection: String,
    pub upserts: bool,
}

impl Target for Planted {
    fn repeat(&self) -> Repeat {
        Repeat::Replaces { guard: hapax_protocol::guarantee::Guard::None }
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }

    fn commit_size(&self) -> CommitSize {
        CommitSize { records_max: 1_000, bytes_max: 1 << 20, interval_ms: 100 }
    }

    fn check<'a>(&'a self, _: &'a Shape) -> Fut<'a, Vec<String>, SinkError> {
        Box::pin(std::future::ready(Ok(vec!["a mistake".to_owned()])))
    }

    fn prepare<'a>(&'a self, _: &'a Shape) -> Fut<'a, (), SinkError> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn read_back(&self, schema: SchemaRef) -> Fut<'_, Arc<dyn Source>, SinkError> {
        let nothing: Arc<dyn Source> = Arc::new(hapax_engine::source::Nothing(schema));
        Box::pin(std::future::ready(Ok(nothing)))
    }

    fn sender(&self, _: &SplitId) -> Fut<'_, Box<dyn Sender>, SinkError> {
        let sender: Box<dyn Sender> = Box::new(Planted {
            client: self.client.clone(),
            collection: self.collection.clone(),
            upserts: self.upserts,
        });
        Box::pin(std::future::ready(Ok(sender)))
    }
}

impl Sender for Planted {
    fn send<'a>(&'a mut self, sending: Sending<'a>) -> Fut<'a, Sent, SinkError> {
        Box::pin(async move {
            let objects = hapax_engine::message::as_objects(sending.records).unwrap();
            let row = |row: usize| {
                let mut value: Value = serde_json::from_slice(objects.of(row)).unwrap();
                value["vec"] = json!([1.0, 2.0]);
                value
            };
            let rows: Vec<Value> = (0..sending.records.num_rows()).map(row).collect();
            self.client.write(self.upserts, &self.collection, KEYED, &rows).await;
            Ok(Sent::default())
        })
    }
}

/// A column of the records of a source, as JSON.
pub async fn everything(source: &dyn Source) -> Vec<Value> {
    use hapax_engine::batch::ReadLimit;
    let mut rows = Vec::new();
    for split in source.splits().await.unwrap() {
        let mut reader = source.open(&split.id, None).await.unwrap();
        let limit = ReadLimit { records_max: 1 << 16, bytes_max: 1 << 28 };
        while let Some(batch) = reader.read(limit).await.unwrap() {
            assert_eq!(batch.rejected, []);
            let objects = hapax_engine::message::as_objects(&batch.records).unwrap();
            rows.extend(
                (0..objects.len()).map(|row| serde_json::from_slice::<Value>(objects.of(row)).unwrap()),
            );
        }
    }
    rows
}
