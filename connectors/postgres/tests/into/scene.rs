//! What the tests stand on: a database, a sink into a table of it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use hapax_engine::fault::SinkError;
use hapax_engine::sink::{CoCommit, CoCommitSink, Shape, Sink};
use hapax_postgres::config::{SchemaChanges, SinkConfig, Url, Write};
use hapax_protocol::code::Code;
use hapax_protocol::lease::{Applicant, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Epoch, Position, SplitId, Standing, Totals};

use crate::kit::Database;

pub struct Scene {
    pub database: Database,
}

impl Scene {
    pub fn new() -> Self {
        Self { database: Database::new() }
    }

    pub fn config(&self, write: Write) -> SinkConfig {
        SinkConfig {
            url: Url::new(self.database.url()),
            table: "t".into(),
            write,
            create: true,
            schema_changes: SchemaChanges::Refuse,
            ledger_retention: None,
            positions: None,
        }
    }

    pub async fn sink(&self, write: Write) -> Arc<dyn CoCommitSink> {
        opened(self.config(write)).await
    }

    pub async fn sql(&self, sql: &str) {
        self.database.sql(sql).await;
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.database.count(sql).await
    }

    pub async fn texts(&self, sql: &str) -> Vec<String> {
        self.database.texts(sql).await
    }
}

pub async fn opened(config: SinkConfig) -> Arc<dyn CoCommitSink> {
    match hapax_postgres::sink::open(config).await.unwrap() {
        Sink::CoCommit(sink) => sink,
        _ => panic!("positions are kept"),
    }
}

pub fn pipeline() -> PipelineName {
    PipelineName::new("p").unwrap()
}

pub fn applicant(definition: &str) -> Applicant {
    Applicant { pipeline: pipeline(), holder: "test".into(), definition: definition.into() }
}

pub fn people_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
    ]))
}

pub fn people(rows: &[(Option<i64>, Option<&str>)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.1)));
    RecordBatch::try_new(people_schema(), vec![ids, names]).unwrap()
}

pub fn shape(key: &[&str]) -> Shape {
    shape_of(people_schema(), key)
}

pub fn shape_of(schema: SchemaRef, key: &[&str]) -> Shape {
    Shape { schema, key: key.iter().map(|name| (*name).to_owned()).collect() }
}

pub fn at(n: u8) -> Position {
    Position::new([n].as_slice())
}

pub fn split() -> SplitId {
    SplitId::new("s")
}

/// A commit from one place to another, the `epoch`th of its split.
pub fn step(after: Option<u8>, through: u8, epoch: u64) -> Checkpoint {
    Checkpoint {
        after: after.map(at),
        through: at(through),
        epoch: Epoch::new(epoch),
        totals: Totals { read: u64::from(through), ..Totals::default() },
        again: Vec::new(),
        made_unix_ms: 1,
    }
}

/// Prepared, and the lease acquired.
pub async fn ready(sink: &Arc<dyn CoCommitSink>, shape: &Shape) -> Lease {
    sink.prepare(shape).await.unwrap();
    sink.acquire(&applicant("d")).await.unwrap()
}

/// A writer that has the split.
pub async fn taken(sink: &Arc<dyn CoCommitSink>, lease: &Lease) -> (Box<dyn CoCommit>, Standing) {
    let mut writer = sink.writer(&split()).await.unwrap();
    let standing = writer.take_over(lease).await.unwrap();
    (writer, standing)
}

/// What `check` and `prepare` refuse, which must be the same, and leave as it was.
pub async fn refused(scene: &Scene, config: SinkConfig, shape: &Shape) -> (Code, String) {
    let sink = opened(config).await;
    let tables = "SELECT c.relname::text || ':' || c.relnatts FROM pg_class c JOIN pg_namespace n \
                  ON n.oid = c.relnamespace WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema') \
                  ORDER BY 1";
    let before = scene.texts(tables).await;
    let said = |error: SinkError| (error.fault.code(), format!("{error} {}", error.fault.help()));
    let checked = said(sink.check(shape).await.unwrap_err());
    assert_eq!(said(sink.prepare(shape).await.unwrap_err()), checked);
    assert_eq!(scene.texts(tables).await, before, "half of it was done");
    checked
}
