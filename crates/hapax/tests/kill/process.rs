//! One pipeline and the processes that run it.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::checker::{self, Verdict};
use crate::data::Data;

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
}

const LIMIT: Duration = Duration::from_secs(120);

impl<'a> Pipeline<'a> {
    pub fn new(pair: &str, data: &'a Data) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let csv = format!(
            "files: {{ path: \"{}\", schema: {{ writer: int64, sequence: int64, amount: float64, text: string, hash: string }} }}",
            data.path("part-*.csv").display()
        );
        let target = |name: &str| folder.path().join(name).display().to_string();
        let (pair, source, sink) = match pair {
            "csv-to-sqlite" => (
                "csv-to-sqlite",
                csv,
                format!("sqlite: {{ path: \"{}\", table: events }}", target("target.db")),
            ),
            "csv-to-parquet" => (
                "csv-to-parquet",
                csv,
                format!("files: {{ path: \"{}/\", format: parquet }}", target("target")),
            ),
            "sqlite-to-jsonl" => (
                "sqlite-to-jsonl",
                format!("sqlite: {{ path: \"{}\", table: events }}", data.path("source.db").display()),
                format!("files: {{ path: \"{}\" }}", target("target.jsonl")),
            ),
            other => panic!("no pair {other}"),
        };
        let file = format!(
            "version: 1\nname: kill\nsource:\n  {source}\nidentity: {{ key: [writer, sequence] }}\nduplicates: drop\nsink:\n  {sink}\ndelivery: exactly-once\ncommit: {{ records: 700 }}\n"
        );
        std::fs::write(folder.path().join("pipeline.yaml"), file).unwrap();
        Self { pair, data, folder }
    }

    /// Starts a run, with these environment variables.
    pub fn start(&self, variables: &[(&str, &str)]) -> Running {
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_hapax"))
            .arg("run")
            .arg(self.folder.path().join("pipeline.yaml"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        Running(child)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("stderr.log")
    }

    /// Runs to the end, and once more: the second run must find nothing to do.
    pub fn complete(&self) {
        for _ in 0..2 {
            let ended = self.start(&[]).wait();
            assert_eq!(
                ended,
                Ended::Code(0),
                "{}: {}",
                self.pair,
                std::fs::read_to_string(self.log()).unwrap()
            );
        }
    }

    pub fn wait_for_progress(&self) {
        let until = Instant::now() + LIMIT;
        while !checker::has_progress(self.pair, self.folder.path()) {
            assert!(
                Instant::now() < until,
                "{}: no progress: {}",
                self.pair,
                std::fs::read_to_string(self.log()).unwrap()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn check(&self) -> Verdict {
        checker::check(self.pair, self.folder.path(), self.data)
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
