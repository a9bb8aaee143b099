//! Pipelines between real PostgreSQL databases, as a person runs them.
// A test fails by panicking; its numbers are small.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[path = "postgres/joint.rs"]
mod joint;

use serde_json::Value;
use tokio_postgres::{Client, Config, NoTls};

/// A database that is dropped at the end of the test.
struct Database {
    server: String,
    name: String,
}

impl Database {
    fn new(name: &str) -> Self {
        let name = format!("hapax_{name}_{}", std::process::id());
        let server = hapax_conformance::server::postgres();
        statement(&server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        statement(&server, &format!("CREATE DATABASE {name}"));
        Self { server, name }
    }

    fn url(&self) -> String {
        format!("{}/{}", self.server.rsplit_once('/').unwrap().0, self.name)
    }

    fn sql(&self, sql: &str) {
        statement(&self.url(), sql);
    }

    fn number(&self, sql: &str) -> i64 {
        blocking(async { connected(&self.url()).await.query_one(sql, &[]).await.unwrap().get(0) })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        statement(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

fn blocking<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn connected(url: &str) -> Client {
    let (client, connection) = url.parse::<Config>().unwrap().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn statement(url: &str, sql: &str) {
    blocking(async { connected(url).await.batch_execute(sql).await.unwrap() });
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn command(arguments: &[&str], source: &Database, target: &Database) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
    command
        .current_dir(root())
        .args(arguments)
        .env("SOURCE_URL", source.url())
        .env("TARGET_URL", target.url())
        .env_remove("HAPAX_CRASH")
        .stdin(Stdio::null());
    command
}

fn hapax(arguments: &[&str], source: &Database, target: &Database) -> Value {
    let output = command(arguments, source, target).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{stdout}{stderr}");
    for url in [source.url(), target.url()] {
        let password = url.split(['@', ':']).nth(2).unwrap();
        assert!(!format!("{stdout}{stderr}").contains(password), "{arguments:?} shows a password");
    }
    serde_json::from_str(&stdout).unwrap_or_default()
}

#[test]
fn the_examples_run() {
    let (source, target) = (Database::new("shop"), Database::new("analytics"));
    source.sql(&std::fs::read_to_string(root().join("examples/data/shop.sql")).unwrap());
    for (file, rows) in [("examples/postgres-to-postgres.yaml", 500), ("examples/marked-outbox.yaml", 300)] {
        hapax(&["validate", file], &source, &target);
        hapax(&["plan", file], &source, &target);
        // Transactions of other databases of this server may hold the horizon back for a moment.
        let mut moved = 0;
        for _ in 0..100 {
            let done = hapax(&["run", file, "--json"], &source, &target);
            moved += done["moved"].as_i64().unwrap();
            if moved >= rows {
                break;
            }
        }
        assert_eq!(moved, rows, "{file}");
        assert_eq!(hapax(&["run", file, "--json"], &source, &target)["nothing_new"], true, "{file}");
    }
    hapax(&["verify", "examples/postgres-to-postgres.yaml"], &source, &target);
    assert_eq!(source.number("SELECT count(*) FROM outbox WHERE processed_at IS NULL"), 0);
    assert_eq!(target.number("SELECT count(*) FROM events WHERE topic = 'order.placed'"), 300);
    source.sql("UPDATE outbox SET processed_at = NULL");
    let within = "examples/outbox-in-one-database.yaml";
    hapax(&["validate", within], &source, &target);
    assert_eq!(hapax(&["run", within, "--json"], &source, &target)["moved"], 300);
    assert_eq!(hapax(&["run", within, "--json"], &source, &target)["nothing_new"], true);
    let both = "SELECT count(*) FROM deliveries JOIN outbox USING (id, topic, payload) WHERE processed_at IS NOT NULL";
    assert_eq!(source.number(both), 300);
    source.sql("UPDATE orders SET amount = 0 WHERE id <= 3");
    let mut moved = 0;
    for _ in 0..100 {
        let file = "examples/postgres-to-postgres.yaml";
        moved += hapax(&["run", file, "--json"], &source, &target)["moved"].as_i64().unwrap();
        if moved > 0 {
            break;
        }
    }
    assert_eq!((moved, target.number("SELECT count(*) FROM orders_copy WHERE amount = 0")), (3, 3));
}

/// How many rows the runs that are killed have to move, a tenth of them in each commit.
const ROWS: i64 = 2_000;

const EVENTS: &str = "\
    CREATE TABLE events (id bigint PRIMARY KEY, text text, amount numeric(12,4), doc jsonb, tags text[], \
      changed_by xid8 NOT NULL DEFAULT pg_current_xact_id(), processed_at timestamptz); \
    INSERT INTO events SELECT g, 'event ' || g, g / 7.0, jsonb_build_object('n', g), ARRAY[g::text, NULL] \
      FROM generate_series(1, 2000) g";

/// A pipeline from `events` into a table of this name, by these keys of the source.
fn pipeline(name: &str, keys: &str) -> String {
    format!(
        "name: {name}\nsource:\n  postgres: {{ url: '${{env:SOURCE_URL}}', table: events, {keys} }}\n\
         identity: {{ key: [id] }}\nduplicates: drop\n\
         transform: SELECT id, text, amount, doc, tags FROM input\n\
         sink:\n  postgres: {{ url: '${{env:TARGET_URL}}', table: {name} }}\n\
         commit: {{ records: 200 }}\ndelivery: exactly-once\n"
    )
}

/// Kills a run at a point, then lets runs complete until everything is there.
fn killed(database: &Database, keys: &str, point: &str, number: usize) {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("arrived_{number}");
    let file = folder.path().join("pipeline.yaml");
    std::fs::write(&file, pipeline(&name, keys)).unwrap();
    let file = file.to_str().unwrap();
    database.sql("UPDATE events SET processed_at = NULL");
    let killed = command(&["run", file], database, database).env("HAPAX_CRASH", point).output().unwrap();
    assert!(killed.status.code().is_none(), "{keys}: the run was not killed at {point}");
    let began = std::time::Instant::now();
    loop {
        hapax(&["run", file, "--json"], database, database);
        // What the killed run had locked, or its transaction, may be there for a moment.
        if database.number(&format!("SELECT count(DISTINCT id) FROM {name}")) == ROWS {
            break;
        }
        assert!(began.elapsed().as_secs() < 120, "{keys} killed at {point}: rows stay behind");
    }
    let columns = "id, text, amount, doc, tags";
    for (here, there) in [("events", name.as_str()), (name.as_str(), "events")] {
        let beyond = format!(
            "SELECT count(*) FROM (SELECT {columns} FROM {here} EXCEPT ALL SELECT {columns} FROM {there}) AS rest"
        );
        assert_eq!(database.number(&beyond), 0, "{keys} killed at {point}: in {here} and not in {there}");
    }
    if keys.contains("marked") {
        hapax(&["run", file, "--json"], database, database);
        let waiting = "SELECT count(*) FROM events WHERE processed_at IS NULL";
        assert_eq!(database.number(waiting), 0, "{keys} killed at {point}");
    }
}

#[test]
fn killed_runs_lose_and_repeat_nothing() {
    let database = Database::new("killed");
    database.sql(EVENTS);
    let scenes: [(&str, &[&str]); 3] = [
        ("read: snapshot", &["batch-read:3", "mid-write:4", "commit-before:2", "commit-after:3"]),
        ("read: incremental, cursor: changed_by", &["mid-write:3", "commit-before:3", "commit-after:2"]),
        (
            "read: marked, mark: processed_at",
            &[
                "batch-read:4",
                "claimed:2",
                "commit-before:3",
                "commit-after:3",
                "acknowledge-before:2",
                "acknowledge-after:3",
            ],
        ),
    ];
    let mut number = 0;
    for (keys, points) in scenes {
        for point in points {
            number += 1;
            killed(&database, keys, point, number);
        }
    }
}
