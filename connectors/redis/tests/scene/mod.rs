//! Keys of a test's own on the real server, and commands on them by the client library itself; servers of a test's own.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Connection, Value};
use tempfile::TempDir;

/// Keys that begin with a name of this test. They are removed at the end.
pub struct Scene {
    url: String,
    pub prefix: String,
}

impl Scene {
    pub fn new() -> Self {
        Self::on(&hapax_conformance::server::redis())
    }

    pub fn on(url: &str) -> Self {
        static SCENES: AtomicU64 = AtomicU64::new(0);
        let number = SCENES.fetch_add(1, Ordering::SeqCst);
        Self { url: url.to_owned(), prefix: format!("hapaxtest_{}_{number}_", std::process::id()) }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// `host:port`, for a proxy.
    pub fn host(&self) -> String {
        self.url.rsplit('@').next().unwrap().trim_end_matches('/').to_owned()
    }

    /// The same server through another port.
    pub fn through(&self, port: u16) -> String {
        format!("{}@127.0.0.1:{port}/", self.url.rsplit_once('@').unwrap().0)
    }

    /// The name of a key of this test.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Where a pipeline of this test keeps its state.
    pub fn state(&self) -> String {
        self.key("state")
    }

    pub fn connect(&self) -> Connection {
        redis::Client::open(self.url.as_str()).unwrap().get_connection().unwrap()
    }

    /// Runs a command of words.
    pub fn run(&self, words: &[&str]) -> Value {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut self.connect()).unwrap()
    }

    /// The keys that match a pattern, sorted.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut self.connect()).unwrap();
        keys.sort();
        keys
    }

    /// Appends entries with the fields `id` and `name`.
    pub fn fill(&self, stream: &str, ids: std::ops::Range<u64>) {
        let mut pipe = redis::pipe();
        for id in ids {
            pipe.cmd("XADD")
                .arg(stream)
                .arg("*")
                .arg("id")
                .arg(id)
                .arg("name")
                .arg(format!("name {id}"))
                .ignore();
        }
        let () = pipe.query(&mut self.connect()).unwrap();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let Ok(client) = redis::Client::open(self.url.as_str()) else { return };
        let Ok(mut connection) = client.get_connection() else { return };
        let keys: Vec<Vec<u8>> =
            redis::cmd("KEYS").arg(format!("*{}*", self.prefix)).query(&mut connection).unwrap_or_default();
        for keys in keys.chunks(1_000) {
            let _: Result<Value, _> = redis::cmd("UNLINK").arg(keys).query(&mut connection);
        }
    }
}

/// A server of a test's own, with options of its own.
pub struct Own {
    folder: TempDir,
    options: Vec<String>,
}

impl Own {
    pub fn start(options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let own = Self { folder: tempfile::tempdir().unwrap(), options };
        own.resume();
        own
    }

    /// Starts it again, at its port and with its data.
    pub fn resume(&self) {
        self.service("start", &self.options);
    }

    pub fn stop(&self) {
        self.service("stop", &[]);
    }

    /// Takes its data away, while it is stopped.
    pub fn empty(&self) {
        std::fs::remove_dir_all(self.folder.path().join("data")).unwrap();
    }

    /// Kills it as a power loss would, as far as the process goes.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.path().join("server.pid")).unwrap();
        assert!(Command::new("kill").arg("-9").arg(pid.trim()).status().unwrap().success());
        let gone = || !Path::new("/proc").join(pid.trim()).join("cwd").exists();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !gone() {
            assert!(std::time::Instant::now() < until, "the server does not end");
            std::thread::yield_now();
        }
    }

    fn service(&self, command: &str, options: &[String]) {
        let service: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services/redis");
        let mut service = Command::new(service);
        let output = service.arg(command).arg(self.folder.path()).args(options).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn url(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("url")).unwrap().trim().to_owned()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A sink, and what one split of it needs.
pub mod pen {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use hapax_engine::fault::SinkError;
    use hapax_engine::sink::{CoCommit, CoCommitSink, Shape, Sink};
    use hapax_protocol::lease::{Applicant, Lease, PipelineName};
    use hapax_protocol::position::{Checkpoint, Position, SplitId, Standing, Totals};
    use hapax_redis::config::SinkConfig;

    pub async fn open(config: serde_json::Value) -> Result<Arc<dyn CoCommitSink>, SinkError> {
        let config: SinkConfig = serde_json::from_value(config).unwrap();
        match hapax_redis::sink::open(config).await? {
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

    pub fn people(rows: &[(Option<i64>, Option<&str>)]) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)));
        let names: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.1)));
        RecordBatch::try_new(schema(), vec![ids, names]).unwrap()
    }

    pub fn numbered(ids: std::ops::Range<i64>) -> RecordBatch {
        people(&ids.map(|id| (Some(id), Some("name"))).collect::<Vec<_>>())
    }

    pub fn shape(key: &[&str]) -> Shape {
        Shape { schema: schema(), key: key.iter().map(|name| (*name).to_owned()).collect() }
    }

    pub async fn lease(sink: &Arc<dyn CoCommitSink>) -> Lease {
        let pipeline = PipelineName::new("p").unwrap();
        let applicant = Applicant { pipeline, holder: "test".into(), definition: "d".into() };
        sink.acquire(&applicant).await.unwrap()
    }

    pub async fn taken(
        sink: &Arc<dyn CoCommitSink>,
        lease: &Lease,
        split: &str,
    ) -> (Box<dyn CoCommit>, Standing) {
        let mut writer = sink.writer(&SplitId::new(split)).await.unwrap();
        let standing = writer.take_over(lease).await.unwrap();
        (writer, standing)
    }

    /// A sink that is prepared, and a writer of its one split.
    pub async fn ready(
        config: serde_json::Value,
    ) -> (Arc<dyn CoCommitSink>, Lease, Box<dyn CoCommit>, Standing) {
        let sink = open(config).await.unwrap();
        sink.prepare(&shape(&["id"])).await.unwrap();
        let lease = lease(&sink).await;
        let (writer, standing) = taken(&sink, &lease, "s").await;
        (sink, lease, writer, standing)
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
