//! The real binary as a process that is started, killed and run to its end.
#![allow(dead_code)]

pub mod broker;
pub mod flow;
pub mod jetstream;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio_postgres::{Config, NoTls};

/// The crash points that every run passes.
pub const POINTS: [&str; 13] = [
    "prepared",
    "lease-acquired",
    "position-read",
    "batch-read",
    "claimed",
    "mid-write",
    "commit-before",
    "commit-after",
    "acknowledge-before",
    "acknowledge-after",
    "split-done",
    "finish-before",
    "finish-after",
];

const LIMIT: Duration = Duration::from_secs(120);

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A server of the test's own, which may be stopped. It keeps what it has, and its port.
pub struct Own {
    service: &'static str,
    folder: tempfile::TempDir,
    variable: Option<&'static str>,
}

impl Own {
    pub fn start(service: &'static str) -> Self {
        Self::start_with(service, None)
    }

    /// Starts one with a variable that its script knows.
    pub fn start_with(service: &'static str, variable: Option<&'static str>) -> Self {
        let own = Self { service, folder: tempfile::tempdir().unwrap(), variable };
        own.say("start");
        own
    }

    /// `start` or `stop`.
    pub fn say(&self, what: &str) {
        let script = root().join("services").join(self.service);
        let variable = self.variable.map(|name| (name, "1"));
        let output = Command::new(script).arg(what).arg(self.folder()).envs(variable).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn url(&self) -> String {
        std::fs::read_to_string(self.folder().join("url")).unwrap().trim().to_owned()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let script = root().join("services").join(self.service);
        let _ = Command::new(script).arg("stop").arg(self.folder()).output();
    }
}

/// A pipeline file and what its references stand for.
pub struct Hapax {
    pub folder: PathBuf,
    pub file: PathBuf,
    pub variables: Vec<(&'static str, String)>,
}

impl Hapax {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
        command
            .current_dir(&self.folder)
            .args(arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command with the file to its end: its code and what it said, which shows no password.
    pub fn said(&self, arguments: &[&str]) -> (i32, String) {
        let mut all = arguments.to_vec();
        let behind = if ["dead-letters", "in-doubt"].contains(&arguments[0]) { 2 } else { 1 };
        all.insert(behind, self.file.to_str().unwrap());
        let output = self.command(&all).output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        for (name, url) in &self.variables {
            let password = match url.rsplit_once('@') {
                Some((before, _)) => before.split(':').nth(2),
                None if url.contains("://") => None,
                // A token.
                None => url.split_once(':').map(|(_, password)| password),
            };
            let password = password.unwrap_or("no password");
            assert!(!said.contains(password), "{arguments:?} shows the password of {name}");
        }
        (output.status.code().unwrap(), said)
    }

    /// Runs to the end, and returns how many records were moved.
    pub fn moved(&self) -> i64 {
        let output = self.command(&["run", self.file.to_str().unwrap(), "--json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        document["moved"].as_i64().unwrap()
    }

    pub fn start(&self) -> Running {
        self.start_with(&[])
    }

    /// Starts a run that gets no further than a crash point, at which it is killed.
    pub fn start_until(&self, point: &str) -> Running {
        self.start_with(&[("HAPAX_CRASH", point)])
    }

    /// Starts a run, with these variables beside the others.
    pub fn start_with(&self, variables: &[(&str, &str)]) -> Running {
        let file = |name: &str| {
            std::fs::File::options().create(true).append(true).open(self.folder.join(name)).unwrap()
        };
        let child = self
            .command(&["run", self.file.to_str().unwrap()])
            .envs(variables.iter().copied())
            .stdout(file("stdout.log"))
            .stderr(file("stderr.log"))
            .spawn()
            .unwrap();
        Running(child)
    }

    /// Runs until it is killed at a crash point, or to its end. Returns whether it was killed.
    pub fn crash(&self, point: &str) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let output =
            self.command(&["run", self.file.to_str().unwrap()]).env("HAPAX_CRASH", point).output().unwrap();
        let killed = output.status.signal() == Some(9);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(killed || output.status.code() == Some(0), "{point}: {:?} {said}", output.status);
        killed
    }

    /// Starts a run that stops itself at a crash point, and returns once it did.
    pub fn stopped_at(&self, point: &str) -> Running {
        let running = self.start_with(&[("HAPAX_CRASH", &format!("{point}=stop"))]);
        running.stands_still();
        running
    }

    /// What runs have said at their ends.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("stdout.log")).unwrap_or_default()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr.log")).unwrap_or_default()
    }
}

/// A run in progress. It is killed if a test fails.
pub struct Running(Child);

impl Running {
    /// Kills it once something holds. Returns whether it was still running.
    pub fn kill_once(mut self, mut holds: impl FnMut() -> bool) -> bool {
        let until = Instant::now() + LIMIT;
        while !holds() {
            if self.0.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < until, "nothing happens");
            std::thread::sleep(Duration::from_millis(2));
        }
        let was_running = self.0.try_wait().unwrap().is_none();
        let _ = self.0.kill();
        let _ = self.0.wait();
        was_running
    }

    /// Kills it after a while, or sees it end by itself. Returns whether it was killed.
    pub fn kill_after(mut self, while_ms: u64) -> bool {
        let until = Instant::now() + Duration::from_millis(while_ms);
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert_eq!(status.code(), Some(0), "a run failed");
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let was_running = self.0.try_wait().unwrap().is_none();
        let _ = self.0.kill();
        let _ = self.0.wait();
        was_running
    }

    /// Waits until something holds, while it runs.
    pub fn wait_for(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + LIMIT;
        while !holds() {
            assert!(self.0.try_wait().unwrap().is_none(), "it ended before {what}");
            assert!(Instant::now() < until, "{what} does not come");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it has stopped itself at a crash point.
    pub fn stands_still(&self) {
        let until = Instant::now() + LIMIT;
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        while waitid(WaitId::Pid(Pid::from_child(&self.0)), options).unwrap().is_none() {
            assert!(Instant::now() < until, "it does not stop itself");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets one that stopped itself go on.
    pub fn wake(&self) {
        kill_process(Pid::from_child(&self.0), Signal::CONT).unwrap();
    }

    /// Lets it go on, and returns the code that it ends with.
    pub fn go_on(mut self) -> i32 {
        self.wake();
        self.ended()
    }

    fn ended(&mut self) -> i32 {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to stop, and waits until it did.
    pub fn stop(mut self) -> i32 {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.ended()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A PostgreSQL database that is dropped at the end of the test.
pub struct Database(String);

impl Database {
    pub fn new(name: &str) -> Self {
        let database = Self(format!("hapax_queue_{name}_{}", std::process::id()));
        at(&hapax_conformance::server::postgres(), &format!("DROP DATABASE IF EXISTS {}", database.0));
        at(&hapax_conformance::server::postgres(), &format!("CREATE DATABASE {}", database.0));
        database
    }

    pub fn url(&self) -> String {
        format!("{}/{}", hapax_conformance::server::postgres().rsplit_once('/').unwrap().0, self.0)
    }

    /// What the first row has in its first column; `None` where the statement fails.
    pub fn ask(&self, sql: &str) -> Option<String> {
        at(&self.url(), sql)
    }

    pub fn count(&self, sql: &str) -> i64 {
        self.ask(sql).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        at(&hapax_conformance::server::postgres(), &format!("DROP DATABASE {} WITH (FORCE)", self.0));
    }
}

fn at(url: &str, sql: &str) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = url.parse::<Config>().unwrap().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let rows = client.simple_query(sql).await.ok()?;
        rows.iter().rev().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0)?.to_owned()),
            _ => None,
        })
    })
}
