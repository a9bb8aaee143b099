//! Pipelines between real PostgreSQL databases, as a person runs them.
// A test fails by panicking; its numbers are small.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

fn hapax(arguments: &[&str], source: &Database, target: &Database) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_hapax"))
        .current_dir(root())
        .args(arguments)
        .env("SOURCE_URL", source.url())
        .env("TARGET_URL", target.url())
        .stdin(Stdio::null())
        .output()
        .unwrap();
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
