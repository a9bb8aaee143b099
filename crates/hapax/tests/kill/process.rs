//! One pipeline and the processes that run it.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hapax_planted::Mistake;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use crate::checker::{self, Verdict};
use crate::data::Data;
use crate::kafka::Topics;
use crate::mysql::Database;
use crate::postgres::Schema;
use crate::redis::Keys;

/// How a process ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

/// A pipeline with a destination of its own.
pub struct Pipeline<'a> {
    pair: &'static str,
    data: &'a Data,
    folder: TempDir,
    planted: Option<Mistake>,
    schema: Option<Schema>,
    database: Option<Database>,
    keys: Option<Keys>,
    topics: Option<Topics>,
}

const LIMIT: Duration = Duration::from_secs(120);

const COLUMNS: &str = "writer: int64, sequence: int64, amount: float64, text: string, hash: string";

/// Each pair with its source and its sink, `IN` and `OUT` being the folders, and what is done about twins.
const PAIRS: &[(&str, &str, &str, &str)] = &[
    (
        "csv-to-sqlite",
        "files: { path: IN/part-*.csv, schema: COLUMNS }",
        "sqlite: { path: OUT/target.db, table: events }",
        "drop",
    ),
    (
        "csv-to-parquet",
        "files: { path: IN/part-*.csv, schema: COLUMNS }",
        "files: { path: OUT/target/, format: parquet }",
        "drop",
    ),
    (
        "csv-to-jsonl",
        "files: { path: IN/part-*.csv, schema: COLUMNS }",
        "files: { path: OUT/target.jsonl }",
        "drop",
    ),
    (
        "sqlite-to-jsonl",
        "sqlite: { path: IN/source.db, table: events }",
        "files: { path: OUT/target.jsonl }",
        "drop",
    ),
    (
        "sqlite-to-parquet",
        "sqlite: { path: IN/source.db, table: events }",
        "files: { path: OUT/target/, format: parquet }",
        "keep",
    ),
    (
        "sqlite-to-sqlite",
        "sqlite: { path: IN/source.db, table: events }",
        "sqlite: { path: OUT/target.db, table: events }",
        "keep",
    ),
    (
        "csv-to-mysql",
        "files: { path: IN/part-*.csv, schema: COLUMNS }",
        "mysql: { url: \"${env:KILL_MYSQL}\", table: events }",
        "drop",
    ),
    (
        "sqlite-to-mysql",
        "sqlite: { path: IN/source.db, table: events }",
        "mysql: { url: \"${env:KILL_MYSQL}\", table: events }",
        "keep",
    ),
    (
        "csv-to-postgres",
        "files: { path: IN/part-*.csv, schema: COLUMNS }",
        "postgres: { url: \"${env:KILL_POSTGRES}\", table: SCHEMA.events }",
        "drop",
    ),
    (
        "csv-to-redis",
        "files: { path: IN/part-*.csv, schema: COLUMNS }",
        "redis: { url: \"${env:KILL_REDIS}\", key: KEYS.target, state: KEYS.state, write: stream }",
        "drop",
    ),
    (
        "sqlite-to-redis",
        "sqlite: { path: IN/source.db, table: events }",
        "redis: { url: \"${env:KILL_REDIS}\", key: KEYS.target, state: KEYS.state, write: stream }",
        "keep",
    ),
    (
        "redis-to-redis",
        "redis: { url: \"${env:KILL_REDIS}\", stream: KEYS.source, schema: COLUMNS }",
        "redis: { url: \"${env:KILL_REDIS}\", key: \"KEYS.target:{writer}:{sequence}\", state: KEYS.state }",
        "drop",
    ),
    (
        "redis-to-sqlite",
        "redis: { url: \"${env:KILL_REDIS}\", stream: KEYS.source, schema: COLUMNS }",
        "sqlite: { path: OUT/target.db, table: events }",
        "drop",
    ),
    (
        "csv-to-kafka",
        "files: { path: IN/part-*.csv, schema: COLUMNS }",
        "kafka: { brokers: \"BROKERS\", topic: TARGET, state: STATE, create: { partitions: 2 } }",
        "keep",
    ),
    (
        "kafka-to-postgres",
        "kafka: { brokers: \"BROKERS\", topic: SOURCE, schema: COLUMNS }",
        "postgres: { url: \"${env:KILL_POSTGRES}\", table: SCHEMA.events }",
        "drop",
    ),
    (
        "kafka-to-kafka",
        "kafka: { brokers: \"BROKERS\", topic: SOURCE, schema: COLUMNS }",
        "kafka: { brokers: \"BROKERS\", topic: TARGET, state: STATE, create: { partitions: 2 } }",
        "keep",
    ),
    (
        "growing-to-sqlite",
        "sqlite: { path: IN/growing.db, table: events, read: incremental, cursor: at }",
        "sqlite: { path: OUT/target.db, table: events }",
        "drop",
    ),
    (
        "stdin-to-sqlite",
        "files: { path: '-', format: csv, schema: COLUMNS }",
        "sqlite: { path: OUT/target.db, table: events }",
        "drop",
    ),
    (
        "stdin-to-parquet",
        "files: { path: '-', format: csv, schema: COLUMNS }",
        "files: { path: OUT/target/, format: parquet }",
        "drop",
    ),
];

impl<'a> Pipeline<'a> {
    pub fn new(pair: &str, data: &'a Data) -> Self {
        Self::with(pair, data, None)
    }

    /// A pipeline whose runs make a mistake.
    pub fn with(pair: &str, data: &'a Data, planted: Option<Mistake>) -> Self {
        Self::in_folder(pair, data, planted, tempfile::tempdir().unwrap())
    }

    /// A pipeline whose destination is in memory where there is a place for that: which steps are made is
    /// asked there, not how long a disk takes for them.
    pub fn in_memory(pair: &str, data: &'a Data, planted: Option<Mistake>) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Self::in_folder(pair, data, planted, folder)
    }

    fn in_folder(pair: &str, data: &'a Data, planted: Option<Mistake>, folder: TempDir) -> Self {
        let (pair, ..) = PAIRS.iter().copied().find(|found| found.0 == pair).unwrap();
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let schema = pair.ends_with("-to-postgres").then(|| Schema::create(&out));
        let database = pair.ends_with("-to-mysql").then(|| Database::create(&out));
        let keys = pair.contains("redis").then(|| Keys::create(&out, pair, data));
        let topics = pair.contains("kafka").then(|| Topics::create(&out, pair, data));
        let pipeline = Self { pair, data, folder, planted, schema, database, keys, topics };
        pipeline.commit_every(700);
        pipeline
    }

    /// Writes the pipeline's file, with this many records in a commit.
    pub fn commit_every(&self, records: u64) {
        self.read_from(self.data.folder.path(), records);
    }

    /// Writes the pipeline's file, with a folder of sources of its own.
    pub fn read_from(&self, folder: &Path, records: u64) {
        let (_, source, sink, duplicates) = PAIRS.iter().copied().find(|found| found.0 == self.pair).unwrap();
        let file = format!(
            "version: 1\nname: kill\nsource:\n  {source}\nidentity: {{ key: [writer, sequence] }}\nduplicates: {duplicates}\nsink:\n  {sink}\ndelivery: {}\nparallel: 1\ncommit: {{ records: {records} }}\n",
            // Standard input passes once: what it gives is found again by its identity alone.
            if self.pair.starts_with("stdin") { "at-least-once" } else { "exactly-once" },
        );
        let file = file.replace("COLUMNS", &format!("{{ {COLUMNS} }}"));
        let file = file.replace("IN/", &format!("{}/", folder.display()));
        let schema = self.schema.as_ref().map(Schema::name).unwrap_or_default();
        let file = file.replace("SCHEMA", schema);
        let keys = self.keys.as_ref().map(Keys::prefix).unwrap_or_default();
        let file = file.replace("KEYS", keys);
        let file = file.replace("OUT/", &format!("{}/", self.out().display()));
        let file = self.topics.as_ref().map_or(file.clone(), |topics| topics.in_file(&file));
        std::fs::write(self.file(), file).unwrap();
    }

    /// Where the destination is, and nothing else.
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// A path beside the destination.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("pipeline.yaml")
    }

    /// Starts a run, with these environment variables.
    pub fn start(&self, variables: &[(&str, &str)]) -> Running {
        let errors = File::options().create(true).append(true).open(self.log()).unwrap();
        let input = match self.pair.starts_with("stdin") {
            true => Stdio::from(File::open(self.data.path("all.csv")).unwrap()),
            false => Stdio::null(),
        };
        let child = Command::new(env!("CARGO_BIN_EXE_hapax"))
            .arg("run")
            .arg(self.file())
            .envs(self.planted.map(|mistake| ("HAPAX_PLANT", mistake.name())))
            .envs(self.database.as_ref().map(|database| ("KILL_MYSQL", database.url())))
            .envs(self.schema.as_ref().map(|_| ("KILL_POSTGRES", hapax_conformance::server::postgres())))
            .envs(self.keys.as_ref().map(|_| ("KILL_REDIS", hapax_conformance::server::redis())))
            .envs(variables.iter().copied())
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        Running(child)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("stderr.log")
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap()
    }

    /// Runs to the end, and once more: the second run must find nothing to do.
    pub fn complete(&self) {
        for _ in 0..2 {
            self.run();
        }
    }

    /// Runs to the end.
    pub fn run(&self) {
        let ended = self.start(&[]).wait();
        assert_eq!(ended, Ended::Code(0), "{}: {}", self.pair, self.said());
    }

    /// What a reader sees of the destination now.
    pub fn glance(&self) -> Option<Verdict> {
        checker::glance(self.pair, &self.out(), self.data)
    }

    pub fn check(&self) -> Verdict {
        checker::check(self.pair, &self.out(), self.data)
    }
}

/// A run in progress. It is killed if a test fails.
pub struct Running(Child);

impl Running {
    pub fn wait(mut self) -> Ended {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return ended(status);
            }
            assert!(Instant::now() < until, "a run did not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn kill_after(mut self, moment: Duration) -> Ended {
        std::thread::sleep(moment);
        let _ = self.0.kill();
        ended(self.0.wait().unwrap())
    }

    /// Returns once it stands still.
    pub fn stopped(&mut self) {
        let until = Instant::now() + LIMIT;
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        while waitid(WaitId::Pid(Pid::from_child(&self.0)), stopped).unwrap().is_none() {
            assert!(self.0.try_wait().unwrap().is_none(), "it came to its end before it was stopped");
            assert!(Instant::now() < until, "it did not stop");
            std::thread::yield_now();
        }
    }

    /// Sends SIGCONT.
    pub fn go_on(&self) {
        kill_process(Pid::from_child(&self.0), Signal::CONT).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ended(status: std::process::ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap()),
    }
}
