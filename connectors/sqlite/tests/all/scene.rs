//! What the tests stand on: a directory, a database in it, a sink, a source.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::ArrayFormatter;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::sink::{CoCommit, CoCommitSink, Shape, Sink};
use hapax_engine::source::Source;
use hapax_protocol::lease::{Applicant, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Epoch, Position, SplitId, Standing, Totals};
use hapax_sqlite::config::{SinkConfig, SourceConfig, Write};
use hapax_sqlite::source::Sqlite;
use rusqlite::Connection;

pub struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("data.db")
    }

    pub fn db(&self) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        connection
    }

    pub fn sql(&self, sql: &str) {
        self.db().execute_batch(sql).unwrap();
    }

    pub fn count(&self, sql: &str) -> i64 {
        self.db().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub fn texts(&self, sql: &str) -> Vec<String> {
        let db = self.db();
        let mut statement = db.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    pub fn sink_config(&self, write: Write) -> SinkConfig {
        SinkConfig { path: self.path(), table: "t".into(), write, positions: None }
    }

    pub async fn sink(&self, write: Write) -> Arc<dyn CoCommitSink> {
        match hapax_sqlite::sink::open(self.sink_config(write)).await.unwrap() {
            Sink::CoCommit(sink) => sink,
            _ => panic!("positions are kept unless told otherwise"),
        }
    }

    pub fn table(&self, table: &str) -> SourceConfig {
        SourceConfig {
            path: self.path(),
            table: Some(table.into()),
            query: None,
            read: hapax_sqlite::config::Read::Snapshot,
            cursor: None,
            schema: None,
        }
    }

    pub fn tail(&self, table: &str, cursor: &str) -> SourceConfig {
        SourceConfig {
            read: hapax_sqlite::config::Read::Incremental,
            cursor: Some(cursor.into()),
            ..self.table(table)
        }
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
    Shape { schema: people_schema(), key: key.iter().map(|name| (*name).to_owned()).collect() }
}

pub fn at(n: u8) -> Position {
    Position::new([n].as_slice())
}

pub fn step(after: Option<u8>, through: u8, epoch: u64) -> Checkpoint {
    let totals = Totals { read: through.into(), moved: through.into(), ..Totals::default() };
    Checkpoint {
        after: after.map(at),
        through: at(through),
        epoch: Epoch::new(epoch),
        totals,
        again: Vec::new(),
        made_unix_ms: 1_000,
    }
}

pub fn split() -> SplitId {
    SplitId::new("s")
}

/// A sink that is prepared, and its lease.
pub async fn ready(sink: &Arc<dyn CoCommitSink>, shape: &Shape) -> Lease {
    sink.prepare(shape).await.unwrap();
    sink.acquire(&applicant("d")).await.unwrap()
}

pub async fn taken(sink: &Arc<dyn CoCommitSink>, lease: &Lease) -> (Box<dyn CoCommit>, Standing) {
    let mut writer = sink.writer(&split()).await.unwrap();
    let standing = writer.take_over(lease).await.unwrap();
    (writer, standing)
}

pub fn limit(records_max: usize) -> ReadLimit {
    ReadLimit { records_max, bytes_max: 1 << 20 }
}

/// Everything from a position on, batch by batch.
pub async fn drain(
    source: &Sqlite,
    split: &SplitId,
    after: Option<&Position>,
    records_max: usize,
) -> Vec<Batch> {
    let mut reader = source.open(split, after).await.unwrap();
    let mut batches: Vec<Batch> = Vec::new();
    while let Some(batch) = reader.read(limit(records_max)).await.unwrap() {
        let stood = batches.last().map_or(after, |last| Some(&last.through)).cloned();
        assert_eq!(batch.after, stood);
        assert!(Some(&batch.through) > stood.as_ref());
        batches.push(batch);
    }
    batches
}

/// Each record as (ordinal, its columns as text).
pub fn records(batches: &[Batch]) -> Vec<(u64, Vec<String>)> {
    let mut all = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.records.columns().iter().map(offset).collect();
        let formats: Vec<_> = columns
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &Default::default()).unwrap())
            .collect();
        for row in 0..batch.records.num_rows() {
            let values = formats.iter().map(|format| format.value(row).to_string()).collect();
            all.push((batch.ordinals.of(row), values));
        }
    }
    all
}

/// A time in UTC as one with an offset: Arrow prints no named zones here.
fn offset(column: &ArrayRef) -> ArrayRef {
    match column.as_any().downcast_ref::<TimestampMicrosecondArray>() {
        Some(times) if times.timezone().is_some() => Arc::new(times.clone().with_timezone("+00:00")),
        _ => Arc::clone(column),
    }
}

pub fn int_column(batches: &[Batch], name: &str) -> Vec<i64> {
    let mut all = Vec::new();
    for batch in batches {
        let column = batch.records.column_by_name(name).unwrap();
        let column = column.as_any().downcast_ref::<Int64Array>().unwrap();
        assert_eq!(column.null_count(), 0);
        all.extend_from_slice(column.values());
    }
    all
}
