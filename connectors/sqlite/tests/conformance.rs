//! The suites of `hapax-conformance`, over real databases.
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

use std::path::PathBuf;
use std::sync::Arc;

use hapax_conformance::{sink, source};
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_sqlite::config::{SinkConfig, SourceConfig};
use hapax_sqlite::source::Sqlite;
use rusqlite::Connection;

fn source_config(value: serde_json::Value) -> SourceConfig {
    serde_json::from_value(value).unwrap()
}

/// A database of events: gaps in the keys, nulls, values that do not fit, equal times.
fn events(rows: i64, spread: i64) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.db");
    let mut db = Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE TABLE events(id INTEGER PRIMARY KEY, at TIMESTAMP NOT NULL, amount REAL, note TEXT, raw BLOB);
         CREATE INDEX events_at ON events(at);",
    )
    .unwrap();
    let tx = db.transaction().unwrap();
    for n in 0..rows {
        let at = format!("2024-01-01T00:{:02}:{:02}", (n / 600) % 60, (n / 10) % 60);
        let amount: rusqlite::types::Value = match n % 50 {
            7 => "not a number".to_owned().into(),
            8 => rusqlite::types::Value::Null,
            _ => (n as f64 / 4.0).into(),
        };
        tx.execute(
            "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5)",
            (n * spread, at, amount, (n % 5 != 0).then(|| format!("note {n}")), vec![(n % 256) as u8; 3]),
        )
        .unwrap();
    }
    tx.commit().unwrap();
    (folder, path)
}

async fn source_suite(records: u64, config: serde_json::Value) {
    source::suite(records, async || {
        Arc::new(Sqlite::open(source_config(config.clone())).await.unwrap()) as Arc<dyn Source>
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_conforms() {
    // Keys that reach over many ranges, and keys in one.
    for spread in [1, 5000] {
        let (_folder, path) = events(1000, spread);
        source_suite(1000, serde_json::json!({ "path": path, "table": "events" })).await;
    }
}

#[tokio::test]
async fn incremental_reading_conforms() {
    let (_folder, path) = events(1000, 3);
    for cursor in ["at", "id"] {
        let config =
            serde_json::json!({ "path": path, "table": "events", "read": "incremental", "cursor": cursor });
        source_suite(1000, config).await;
    }
}

struct Databases {
    folder: tempfile::TempDir,
    write: &'static str,
}

impl sink::Subject for Databases {
    async fn open(&self, name: &str) -> Sink {
        let path = self.folder.path().join(format!("{name}.db"));
        let config = serde_json::json!({ "path": path, "table": "t", "write": self.write });
        let config: SinkConfig = serde_json::from_value(config).unwrap();
        hapax_sqlite::sink::open(config).await.unwrap()
    }

    fn ids(&self, name: &str) -> Vec<i64> {
        let Ok(db) = Connection::open(self.folder.path().join(format!("{name}.db"))) else {
            return Vec::new();
        };
        let Ok(mut rows) = db.prepare("SELECT id FROM t ORDER BY id") else { return Vec::new() };
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }
}

#[tokio::test]
async fn a_table_conforms() {
    sink::suite(&Databases { folder: tempfile::tempdir().unwrap(), write: "append" }).await;
}
