//! Pipelines out of a real MariaDB or MySQL database, as a person runs them.
// A test fails by panicking; its numbers are small.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};
use tokio_postgres::{Config, NoTls};

/// A database that is dropped at the end of the test.
enum Database {
    Mysql(String),
    Postgres(String),
}

impl Database {
    fn new(server: fn(String) -> Self) -> Self {
        let database = server(format!("hapax_from_mysql_{}", std::process::id()));
        let name = database.name();
        database.at_server(&format!("DROP DATABASE IF EXISTS {name}"));
        database.at_server(&format!("CREATE DATABASE {name}"));
        database
    }

    fn name(&self) -> &str {
        match self {
            Self::Mysql(name) | Self::Postgres(name) => name,
        }
    }

    fn server(&self) -> String {
        match self {
            Self::Mysql(_) => hapax_conformance::server::mysql(),
            Self::Postgres(_) => hapax_conformance::server::postgres(),
        }
    }

    fn url(&self) -> String {
        format!("{}/{}", self.server().rsplit_once('/').unwrap().0, self.name())
    }

    fn at_server(&self, sql: &str) {
        self.at(&self.server(), sql);
    }

    fn sql(&self, sql: &str) -> Option<String> {
        self.at(&self.url(), sql)
    }

    /// Runs statements, and returns what the first row has in its first column.
    fn at(&self, url: &str, sql: &str) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            match self {
                Self::Mysql(_) => {
                    let options = OptsBuilder::from_opts(Opts::from_url(url).unwrap()).prefer_socket(false);
                    let mut connection = Conn::new(options).await.unwrap();
                    connection.query_first(sql).await.unwrap()
                }
                Self::Postgres(_) => {
                    let (client, connection) = url.parse::<Config>().unwrap().connect(NoTls).await.unwrap();
                    tokio::spawn(connection);
                    let rows = client.simple_query(sql).await.unwrap();
                    rows.iter().rev().find_map(|message| match message {
                        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0)?.to_owned()),
                        _ => None,
                    })
                }
            }
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let force = if matches!(self, Self::Postgres(_)) { " WITH (FORCE)" } else { "" };
        self.at_server(&format!("DROP DATABASE {}{force}", self.name()));
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn hapax(arguments: &[&str], variables: &[(&str, String)], in_folder: &Path) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_hapax"))
        .current_dir(in_folder)
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{said}");
    for (_, url) in variables {
        let password = url.split(['@', ':']).nth(2).unwrap();
        assert!(!said.contains(password), "{arguments:?} shows a password");
    }
    output
}

/// Verifies until both ends are equal: a transaction that others have open holds the look at the source back too.
fn verified(file: &str, variables: &[(&str, String)]) {
    let mut last = None;
    let equal = (0..100).find(|_| {
        let verify = Command::new(env!("CARGO_BIN_EXE_hapax"))
            .current_dir(root())
            .args(["verify", file])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let is_equal = verify.status.success();
        last = Some(verify);
        is_equal
    });
    assert!(equal.is_some(), "{last:?}");
}

fn moved(file: &str, variables: &[(&str, String)]) -> i64 {
    let output = hapax(&["run", file, "--json"], variables, &root());
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    document["moved"].as_i64().unwrap()
}

#[test]
fn the_example_runs() {
    let (source, target) = (Database::new(Database::Mysql), Database::new(Database::Postgres));
    source.sql(&std::fs::read_to_string(root().join("examples/data/shop.mysql.sql")).unwrap());
    let file = "examples/mysql-to-postgres.yaml";
    let urls = [("SOURCE_URL", source.url()), ("TARGET_URL", target.url())];
    hapax(&["validate", file], &urls, &root());
    hapax(&["plan", file], &urls, &root());
    let all = |wanted: i64| {
        // Rows are left alone until nothing older can commit: 2 seconds, and longer where others work.
        let arrived = (0..200).map(|_| moved(file, &urls)).scan(0, |sum, moved| {
            *sum += moved;
            Some(*sum)
        });
        arrived.into_iter().find(|sum| *sum >= wanted)
    };
    assert_eq!(all(500), Some(500));
    verified(file, &urls);
    let sum = "SELECT sum(amount) FROM ";
    let expected = source.sql(&format!("{sum}orders"));
    assert_eq!(target.sql(&format!("{sum}orders_from_mysql")), expected);
    source.sql("UPDATE orders SET amount = 0 WHERE id <= 3");
    assert_eq!(all(3), Some(3));
    assert_eq!(target.sql("SELECT count(*) FROM orders_from_mysql WHERE amount = 0").as_deref(), Some("3"));
    verified(file, &urls);
}

#[test]
fn a_table_goes_out_and_back_on_the_command_line() {
    let database = Database::new(|name| Database::Mysql(format!("{name}_copy")));
    database.sql(&std::fs::read_to_string(root().join("examples/data/shop.mysql.sql")).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let at = |table: &str| format!("{}?table={table}", database.url());
    let copy = |from: &str, to: &str| {
        hapax(&["copy", "--from", from, "--to", to, "--key", "id"], &[], folder.path())
    };
    copy(&at("orders"), "orders.parquet");
    copy("orders.parquet", &at("back"));
    let same = "SELECT count(*) FROM orders o JOIN back b ON b.id = o.id AND b.customer = o.customer \
                AND b.amount = o.amount AND b.changed_at = o.changed_at AND JSON_EQUALS(b.details, o.details)";
    assert_eq!(database.sql(same).as_deref(), Some("500"));
    let copied = copy("orders.parquet", &at("back"));
    assert!(String::from_utf8_lossy(&copied.stdout).contains("nothing new"), "{copied:?}");
}

/// How rows of an outbox and rows that arrived differ: rows whose mark and effect do not agree, rows that arrived twice.
const DIFFER: &str = "SELECT concat((SELECT count(*) FROM outbox o LEFT JOIN arrived a USING (id)
    WHERE (o.processed_at IS NULL) <> (a.id IS NULL)), ' ', (SELECT count(*) - count(DISTINCT id) FROM arrived))";

const WAITING: &str = "SELECT CAST(count(*) AS CHAR) FROM outbox WHERE processed_at IS NULL";

const REFILLED: &str =
    "DROP TABLE IF EXISTS outbox, arrived, _hapax_leases, _hapax_positions, _hapax_commits,
    _hapax_moved_again, _hapax_dead_letters, _hapax_settled_letters, _hapax_ledger;
    CREATE TABLE arrived (id BIGINT, note TEXT);
    CREATE TABLE outbox (id BIGINT PRIMARY KEY, note TEXT, processed_at DATETIME(6), INDEX (processed_at));
    INSERT INTO outbox SELECT seq, concat('note ', seq), NULL FROM seq_1_to_1500";

/// Writes a pipeline from an outbox into a table beside it.
fn outbox_pipeline(folder: &Path, name: &str) -> String {
    let file = folder.join(format!("{name}.yaml"));
    let text = format!(
        "version: 1\nname: {name}\nsource:\n  mysql: {{ url: \"${{env:OUTBOX_URL}}\", table: outbox, read: marked, mark: processed_at }}\n\
         identity: {{ key: [id] }}\nduplicates: keep\ntransform: SELECT id, note FROM input\n\
         sink:\n  mysql: {{ url: \"${{env:OUTBOX_URL}}\", table: arrived }}\ndelivery: exactly-once\n"
    );
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// Starts a run that is killed where `crash` says, if it says anything.
fn killed(file: &str, url: &str, crash: &str) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_hapax"))
        .args(["run", file])
        .env("OUTBOX_URL", url)
        .envs((!crash.is_empty()).then_some(("HAPAX_CRASH", crash)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn an_outbox_within_one_database_survives_every_crash_point() {
    use std::os::unix::process::ExitStatusExt;
    let database = Database::new(|name| Database::Mysql(format!("{name}_outbox")));
    let folder = tempfile::tempdir().unwrap();
    database.sql(REFILLED);
    let file = outbox_pipeline(folder.path(), "outbox");
    let urls = [("OUTBOX_URL", database.url())];
    let plan = String::from_utf8(hapax(&["plan", &file], &urls, folder.path()).stdout).unwrap();
    assert!(plan.contains("exactly-once"), "{plan}");
    assert!(plan.contains("the mark at the source and the effect at the sink are one transaction"), "{plan}");
    let mut kills = 0;
    for point in [
        "position-read",
        "batch-read",
        "mid-write",
        "commit-before",
        "commit-decided",
        "commit-after",
        "acknowledge-before",
        "acknowledge-after",
        "split-done",
    ] {
        for nth in [1, 3] {
            database.sql(REFILLED);
            let ended = killed(&file, &database.url(), &format!("{point}:{nth}")).wait().unwrap();
            kills += usize::from(ended.signal() == Some(9));
            assert!(ended.signal() == Some(9) || ended.success(), "{point}:{nth} ended as {ended}");
            assert_eq!(database.sql(DIFFER).as_deref(), Some("0 0"), "{point}:{nth}, after the kill");
            // Whoever is gone still holds its rows until the server notices.
            let rerun = (0..100).find(|_| {
                hapax(&["run", &file], &urls, folder.path());
                database.sql(WAITING).as_deref() == Some("0")
            });
            assert!(rerun.is_some(), "{point}:{nth}: rows wait for ever");
            assert_eq!(database.sql(DIFFER).as_deref(), Some("0 0"), "{point}:{nth}, after the rerun");
        }
    }
    println!("{kills} kills");
    assert!(kills >= 12, "{kills} kills: the test shows little");
}

#[test]
fn two_processes_share_an_outbox_and_one_is_killed() {
    let database = Database::new(|name| Database::Mysql(format!("{name}_two")));
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (outbox_pipeline(folder.path(), "one"), outbox_pipeline(folder.path(), "two"));
    let urls = [("OUTBOX_URL", database.url())];
    for crash in ["mid-write:2", "commit-before:2", "commit-after:2"] {
        database.sql(REFILLED);
        let mut first = killed(&one, &database.url(), crash);
        hapax(&["run", &two], &urls, folder.path());
        first.wait().unwrap();
        assert_eq!(database.sql(DIFFER).as_deref(), Some("0 0"), "{crash}");
        let rerun = (0..100).find(|_| {
            hapax(&["run", &one], &urls, folder.path());
            database.sql(WAITING).as_deref() == Some("0")
        });
        assert!(rerun.is_some(), "{crash}: rows wait for ever");
        assert_eq!(database.sql(DIFFER).as_deref(), Some("0 0"), "{crash}");
    }
}

/// A worker that stops with rows marked and written, and wakes up when another run has moved them.
#[test]
fn a_run_that_wakes_late_marks_and_writes_nothing() {
    let database = Database::new(|name| Database::Mysql(format!("{name}_late")));
    let folder = tempfile::tempdir().unwrap();
    let file = outbox_pipeline(folder.path(), "outbox");
    let urls = [("OUTBOX_URL", database.url())];
    for crash in ["mid-write:2=stop", "commit-before:2=stop", "commit-after:2=stop"] {
        database.sql(REFILLED);
        let mut late = killed(&file, &database.url(), crash);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", late.id())).unwrap();
        while !state().contains(") T ") {
            assert!(std::time::Instant::now() < until, "{crash}: it does not stop");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let rerun = (0..100).find(|_| {
            hapax(&["run", &file], &urls, folder.path());
            database.sql(WAITING).as_deref() == Some("0")
        });
        assert!(rerun.is_some(), "{crash}: rows wait for ever");
        assert_eq!(database.sql(DIFFER).as_deref(), Some("0 0"), "{crash}, overtaken");
        assert!(Command::new("kill").args(["-CONT", &late.id().to_string()]).status().unwrap().success());
        assert_eq!(late.wait().unwrap().code(), Some(5), "{crash}: it was not fenced");
        assert_eq!(database.sql(DIFFER).as_deref(), Some("0 0"), "{crash}, woken");
        assert_eq!(database.sql("SELECT CAST(count(*) AS CHAR) FROM arrived").as_deref(), Some("1500"));
    }
}

/// Waits until the first row of a query is what is expected.
fn comes(database: &Database, sql: &str, expected: &str) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while database.sql(sql).as_deref() != Some(expected) {
        assert!(std::time::Instant::now() < until, "{sql} is not {expected}: {:?}", database.sql(sql));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn what_comes_later_is_followed_until_the_run_is_told_to_stop() {
    let database = Database::new(|name| Database::Mysql(format!("{name}_follow")));
    let folder = tempfile::tempdir().unwrap();
    database.sql(REFILLED);
    database.sql(
        "CREATE TABLE grows (id BIGINT PRIMARY KEY, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), INDEX (at));
         INSERT INTO grows(id) VALUES (1), (2)",
    );
    let outbox = outbox_pipeline(folder.path(), "outbox");
    let text = std::fs::read_to_string(&outbox).unwrap();
    let text = text.replace("mark: processed_at", "mark: processed_at, poll_ms: 50");
    std::fs::write(&outbox, format!("{text}follow: true\n")).unwrap();
    let tail = folder.path().join("tail.yaml");
    let text = "version: 1\nname: tail\nfollow: true\nsource:\n  mysql: { url: \"${env:OUTBOX_URL}\", table: grows, \
                read: incremental, cursor: at, cursor_set_by: database, poll_ms: 50 }\nidentity: { key: [id] }\n\
                duplicates: keep\nsink:\n  mysql: { url: \"${env:OUTBOX_URL}\", table: grown }\ndelivery: exactly-once\n";
    std::fs::write(&tail, text).unwrap();
    let mut runs =
        [outbox.as_str(), &tail.display().to_string()].map(|file| killed(file, &database.url(), ""));
    let arrived = "SELECT CAST(count(*) AS CHAR) FROM arrived";
    comes(&database, arrived, "1500");
    database.sql("INSERT INTO outbox (id, note) VALUES (5000, 'later')");
    comes(&database, arrived, "1501");
    // There once the tail has read, and not before.
    let grown = "SELECT CAST(count(*) AS CHAR) FROM grown";
    comes(
        &database,
        "SELECT CAST(count(*) AS CHAR) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'grown'",
        "1",
    );
    comes(&database, grown, "2");
    database.sql("INSERT INTO grows(id) VALUES (3)");
    comes(&database, grown, "3");
    for run in &mut runs {
        assert!(Command::new("kill").arg(run.id().to_string()).status().unwrap().success());
        assert!(run.wait().unwrap().success(), "a run that was told to stop failed");
    }
    assert_eq!(database.sql(DIFFER).as_deref(), Some("0 0"));
    assert_eq!(database.sql(WAITING).as_deref(), Some("0"));
}
