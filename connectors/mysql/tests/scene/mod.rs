//! Databases of a test's own on the real server, and statements on them by the server's own client library.
#![allow(dead_code)]

pub mod own;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Row, Value};
use tokio::runtime::Runtime;

/// Databases that are dropped at the end. They never meet those of another test.
pub struct Scene {
    prefix: String,
    made: Mutex<Vec<String>>,
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    })
}

/// Waits for a future from synchronous code, on threads of its own.
fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    std::thread::spawn(|| runtime().block_on(future)).join().unwrap()
}

impl Scene {
    pub fn new() -> Self {
        static SCENES: AtomicU64 = AtomicU64::new(0);
        let number = SCENES.fetch_add(1, Ordering::SeqCst);
        Self { prefix: format!("hapax_{}_{number}", std::process::id()), made: Mutex::default() }
    }

    /// The name of a database of this test, and its creation if it is not there.
    pub fn name(&self, name: &str) -> String {
        let full = format!("{}_{}", self.prefix, name.replace('-', "_"));
        let mut made = self.made.lock().unwrap();
        if !made.contains(&full) {
            statements(hapax_conformance::server::mysql(), format!("CREATE DATABASE {full}"));
            made.push(full.clone());
        }
        full
    }

    /// The URL of a database of this test, and its creation if it is not there.
    pub fn database(&self, name: &str) -> String {
        format!("{}{}", hapax_conformance::server::mysql(), self.name(name))
    }

    /// Runs statements in a database.
    pub fn run(&self, name: &str, sql: &str) {
        statements(self.database(name), sql.to_owned());
    }

    /// The rows of a query, each as text.
    pub fn rows(&self, name: &str, sql: &str) -> Vec<Vec<String>> {
        let (url, sql) = (self.database(name), sql.to_owned());
        let rows: Vec<Row> = wait(async move {
            let mut connection = connect(&url).await;
            let rows = connection.query(sql).await.unwrap();
            connection.disconnect().await.unwrap();
            rows
        });
        let shown = |value: Value| match value {
            Value::NULL => "NULL".to_owned(),
            Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => other.as_sql(true),
        };
        rows.into_iter().map(|row| row.unwrap().into_iter().map(shown).collect()).collect()
    }

    /// The numbers of a query with one column.
    pub fn numbers(&self, name: &str, sql: &str) -> Vec<i64> {
        self.rows(name, sql).iter().map(|row| row[0].parse().unwrap()).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let drops: String = made.iter().map(|name| format!("DROP DATABASE IF EXISTS {name};")).collect();
        if !drops.is_empty() {
            statements(hapax_conformance::server::mysql(), drops);
        }
    }
}

pub async fn connect(url: &str) -> Conn {
    Conn::new(Opts::from_url(&format!("{url}?prefer_socket=false")).unwrap()).await.unwrap()
}

fn statements(url: String, sql: String) {
    wait(async move {
        let mut connection = connect(&url).await;
        connection.query_drop(sql).await.unwrap();
        connection.disconnect().await.unwrap();
    });
}

/// A sink, and what one split of it needs.
pub mod pen {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use hapax_engine::dead_letter::DeadLetter;
    use hapax_engine::fault::SinkError;
    use hapax_engine::sink::{CoCommit, CoCommitSink, Shape, Sink};
    use hapax_mysql::config::SinkConfig;
    use hapax_protocol::identity::Place;
    use hapax_protocol::lease::{Applicant, Lease, PipelineName};
    use hapax_protocol::position::{Checkpoint, Position, SplitId, Standing, Totals};

    pub async fn open(url: &str, table: &str, write: &str) -> Result<Arc<dyn CoCommitSink>, SinkError> {
        configured(serde_json::json!({ "url": url, "table": table, "write": write })).await
    }

    /// A sink as a pipeline file has it.
    pub async fn configured(config: serde_json::Value) -> Result<Arc<dyn CoCommitSink>, SinkError> {
        let config: SinkConfig = serde_json::from_value(config).unwrap();
        match hapax_mysql::sink::open(config).await? {
            Sink::CoCommit(sink) => Ok(sink),
            _ => panic!("positions are kept"),
        }
    }

    pub fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
        ]))
    }

    pub fn people(rows: &[(i64, Option<&str>)]) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
        let names: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.1)));
        RecordBatch::try_new(schema(), vec![ids, names]).unwrap()
    }

    pub fn numbered(ids: std::ops::Range<i64>) -> RecordBatch {
        people(&ids.map(|id| (id, Some("name"))).collect::<Vec<_>>())
    }

    pub fn shape(schema: SchemaRef, key: &[&str]) -> Shape {
        Shape { schema, key: key.iter().map(|name| (*name).to_owned()).collect() }
    }

    pub async fn lease(sink: &Arc<dyn CoCommitSink>) -> Lease {
        let pipeline = PipelineName::new("p").unwrap();
        let applicant = Applicant { pipeline, holder: "test".into(), definition: "d".into() };
        sink.acquire(&applicant).await.unwrap()
    }

    pub async fn taken(sink: &Arc<dyn CoCommitSink>, lease: &Lease) -> (Box<dyn CoCommit>, Standing) {
        let mut writer = sink.writer(&SplitId::new("s")).await.unwrap();
        let standing = writer.take_over(lease).await.unwrap();
        (writer, standing)
    }

    /// A sink that is prepared, and a writer of its one split.
    pub async fn ready(
        url: &str,
        table: &str,
        write: &str,
        shape: &Shape,
    ) -> (Arc<dyn CoCommitSink>, Lease, Box<dyn CoCommit>, Standing) {
        let sink = open(url, table, write).await.unwrap();
        sink.prepare(shape).await.unwrap();
        let lease = lease(&sink).await;
        let (writer, standing) = taken(&sink, &lease).await;
        (sink, lease, writer, standing)
    }

    pub fn letter(ordinal: u64) -> DeadLetter {
        DeadLetter {
            place: Place { split: SplitId::new("s"), ordinal },
            code: hapax_mysql::codes::VALUE_UNHELD,
            reason: "a reason".to_owned(),
            raw: "{}".to_owned(),
            set_aside_unix_ms: 1_000,
        }
    }

    /// The next commit, to position `through`.
    pub fn next(standing: &Standing, through: u8) -> Checkpoint {
        Checkpoint {
            after: standing.position.clone(),
            through: Position::new([through].as_slice()),
            epoch: standing.epoch.next(),
            totals: standing.totals.plus(Totals { read: 1, moved: 1, ..Totals::default() }),
            again: Vec::new(),
            made_unix_ms: 1_000,
        }
    }
}
