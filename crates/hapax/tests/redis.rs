//! The command with Redis at both ends: what it promises, what it shows, and what stops it.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

#[path = "redis/flow.rs"]
mod flow;
mod queue_kit;
#[path = "redis/restarted.rs"]
mod restarted;

use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::{Commands, Connection};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A folder for files, and keys that begin with a name of its own.
struct Case {
    folder: TempDir,
    prefix: String,
}

impl Case {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("hapax_cli_{}_{count}", std::process::id());
        Self { folder: tempfile::tempdir().unwrap(), prefix }
    }

    fn connect(&self) -> Connection {
        redis::Client::open(hapax_conformance::server::redis()).unwrap().get_connection().unwrap()
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn count(&self, pattern: &str) -> usize {
        self.connect().keys::<_, Vec<String>>(self.key(pattern)).unwrap().len()
    }

    fn fill(&self, ids: std::ops::Range<u64>) {
        let mut pipe = redis::pipe();
        for id in ids {
            pipe.cmd("XADD")
                .arg(self.key("in"))
                .arg("*")
                .arg("id")
                .arg(id)
                .arg("name")
                .arg(format!("name {id}"));
        }
        let _: Vec<String> = pipe.query(&mut self.connect()).unwrap();
    }

    /// A pipeline from the stream `in` to hashes `out:ID`.
    fn pipeline(&self, source: &str, sink: &str, rest: &str) {
        let key = |name| self.key(name);
        let file = format!(
            "name: p\nsource:\n  redis: {{ url: \"${{env:TEST_REDIS}}\", stream: {}, fields: [id, name], schema: {{ id: int64 }}{source} }}\n\
             identity: {{ key: [id] }}\nsink:\n  redis: {{ url: \"${{env:TEST_REDIS}}\", key: \"{}:{{id}}\", state: {}{sink} }}\n{rest}",
            key("in"),
            key("out"),
            key("state"),
        );
        fs::write(self.folder.path().join("p.yaml"), file).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("TEST_REDIS", hapax_conformance::server::redis()).stdin(Stdio::null());
        command
    }

    /// Runs the command in the folder. What it says never shows the password.
    fn hapax(&self, arguments: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        let server = hapax_conformance::server::redis();
        let password = server.split(['@', ':']).nth(2).unwrap();
        assert!(!said.contains(password), "it shows the password: {said}");
        (status.code().unwrap(), said)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let mut connection = self.connect();
        let keys: Vec<Vec<u8>> = connection.keys(format!("{}.*", self.prefix)).unwrap_or_default();
        for keys in keys.chunks(1_000) {
            let _: redis::RedisResult<()> = connection.unlink(keys);
        }
    }
}

#[test]
fn a_stream_is_moved_once_however_often_it_is_asked_for() {
    let case = Case::new();
    case.fill(0..100);
    case.pipeline("", "", "delivery: exactly-once\n");
    let (code, said) = case.hapax(&["plan", "p.yaml"]);
    assert_eq!(code, 0, "{said}");
    for words in
        ["exactly-once", "(rule 2)", "write each record to", "a power loss takes nothing that was answered"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(case.count("state*"), 0, "a plan makes nothing");
    let (code, said) = case.hapax(&["run", "p.yaml"]);
    assert!(code == 0 && said.contains("moved 100 records"), "{said}");
    assert_eq!(case.count("out:*"), 100);
    let (code, said) = case.hapax(&["run", "p.yaml"]);
    assert!(code == 0 && said.contains("nothing new"), "{said}");
    case.fill(100..107);
    let (code, said) = case.hapax(&["status", "p.yaml"]);
    assert!(code == 0 && said.contains("7 records behind"), "{said}");
    assert!(case.hapax(&["run", "p.yaml"]).1.contains("moved 7 records"));
    let (code, said) = case.hapax(&["verify", "p.yaml"]);
    assert!(code == 0 && said.contains("equal"), "{said}");
    // What was lost at the destination is found, moved again, and nothing else.
    let () = case.connect().del(case.key("out:3")).unwrap();
    let () = case.connect().hset(case.key("out:4"), "name", "forged").unwrap();
    let (code, said) = case.hapax(&["verify", "p.yaml"]);
    assert_eq!(code, 4, "{said}");
    case.hapax(&["verify", "p.yaml", "--repair"]);
    assert_eq!(case.count("out:*"), 107);
}

#[test]
fn what_does_not_fit_is_set_aside_mended_and_moved() {
    let case = Case::new();
    case.fill(0..10);
    let _: String = redis::cmd("XADD")
        .arg(case.key("in"))
        .arg("*")
        .arg("id")
        .arg("ten")
        .query(&mut case.connect())
        .unwrap();
    let () = case.connect().rpush(case.key("out:5"), "a list").unwrap();
    case.pipeline("", "", "");
    let (code, said) = case.hapax(&["run", "p.yaml"]);
    assert!(code == 0 && said.contains("moved 9 records") && said.contains("2 set aside"), "{said}");
    let (_, said) = case.hapax(&["dead-letters", "list", "p.yaml"]);
    assert!(said.contains("HX0666") && said.contains("HX0677") && said.contains("\"ten\""), "{said}");
    let () = case.connect().del(case.key("out:5")).unwrap();
    let (_, said) = case.hapax(&["dead-letters", "replay", "p.yaml", "--all"]);
    assert!(said.contains("1 record moved"), "{said}");
    let name: String = case.connect().hget(case.key("out:5"), "name").unwrap();
    assert_eq!(name, "name 5");
}

#[test]
fn a_stream_trimmed_under_a_pipeline_stops_it_until_that_is_accepted() {
    let case = Case::new();
    case.fill(0..50);
    case.pipeline("", "", "");
    assert_eq!(case.hapax(&["run", "p.yaml"]).0, 0);
    case.fill(50..100);
    let _: i64 = redis::cmd("XTRIM")
        .arg(case.key("in"))
        .arg("MAXLEN")
        .arg("=")
        .arg(20)
        .query(&mut case.connect())
        .unwrap();
    let (code, said) = case.hapax(&["run", "p.yaml"]);
    assert!(code == 1 && said.contains("HX0664"), "{said}");
    let gap = said.split("accept_gap: ").nth(1).unwrap().split('`').next().unwrap();
    case.pipeline(&format!(", accept_gap: {gap}"), "", "");
    let (code, said) = case.hapax(&["run", "p.yaml"]);
    assert!(code == 0 && said.contains("moved 20 records"), "{said}");
    // Another stream of the name has no gap that could be accepted.
    let () = case.connect().del(case.key("in")).unwrap();
    case.fill(0..10);
    let (code, said) = case.hapax(&["run", "p.yaml"]);
    assert!(code == 1 && said.contains("HX0665"), "{said}");
}

#[test]
fn a_run_that_goes_on_is_stopped_gracefully() {
    let case = Case::new();
    case.fill(0..10);
    case.pipeline("", "", "follow: true\ncommit: { interval_ms: 50 }\n");
    let mut child =
        case.command(&["run", "p.yaml"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    let mut moved = |count: usize| {
        while case.count("out:*") < count {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "it ended: {status}, {}",
                    std::io::read_to_string(child.stderr.take().unwrap()).unwrap()
                );
            }
            assert!(Instant::now() < until, "{count} records do not arrive");
            std::thread::yield_now();
        }
    };
    moved(10);
    case.fill(10..20);
    moved(20);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(case.hapax(&["run", "p.yaml", "--dry-run"]).0 == 0);
}

#[test]
fn a_drill_leaves_the_real_keys_alone() {
    let case = Case::new();
    case.fill(0..50);
    case.pipeline("", "", "");
    let (code, said) = case.hapax(&["drill", "p.yaml", "--kills", "2", "--seed", "1"]);
    assert!(code == 0 && said.contains("exactly-once"), "{said}");
    assert_eq!((case.count("out:*"), case.count("state*")), (0, 0));
    let left: Vec<String> = case.connect().keys(format!("hapax_drill_*{}*", case.prefix)).unwrap();
    assert_eq!(left, Vec::<String>::new(), "a drill leaves keys");
}

#[test]
fn a_wrong_password_is_said_and_not_shown() {
    let case = Case::new();
    case.fill(0..1);
    case.pipeline("", "", "");
    let wrong = hapax_conformance::server::redis().replace("redis://:", "redis://:wr0ng-");
    let Output { status, stderr, stdout } =
        case.command(&["run", "p.yaml"]).env("TEST_REDIS", wrong).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.code() == Some(1) && said.contains("HX0651") && !said.contains("wr0ng-"), "{said}");
}

#[test]
fn an_entry_is_traced_to_its_commit_by_its_place() {
    let case = Case::new();
    case.pipeline("", "", "");
    // Three commits, of entries whose numbers are their ids.
    for from in [0, 10, 20] {
        case.fill(from..from + 10);
        let (code, said) = case.hapax(&["run", "p.yaml"]);
        assert_eq!(code, 0, "{said}");
    }
    case.fill(30..40);
    let traced = |id: u64| {
        let (code, said) = case.hapax(&["trace", "p.yaml", &format!("id={id}"), "--json"]);
        assert_eq!(code, 0, "{said}");
        let trace: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
        let arrival = &trace["arrivals"][0];
        (arrival["decision"].as_str().unwrap().to_owned(), arrival["commit"]["number"].as_u64())
    };
    for (id, commit) in [(0, 1), (9, 1), (10, 2), (19, 2), (20, 3), (29, 3)] {
        assert_eq!(traced(id), ("moved".to_owned(), Some(commit)), "record {id}");
    }
    assert_eq!(traced(30), ("not-reached".to_owned(), None));
    assert_eq!(traced(39), ("not-reached".to_owned(), None));
}
