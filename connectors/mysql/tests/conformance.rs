//! The suites of `hapax-conformance`, over a real server.
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

mod scene;

use std::sync::Arc;

use hapax_conformance::{sink, source};
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_mysql::config::{SinkConfig, SourceConfig};
use hapax_mysql::source::Mysql;
use scene::Scene;

/// A database for each destination of the suite.
struct Databases {
    scene: Scene,
    write: &'static str,
}

impl sink::Subject for Databases {
    async fn open(&self, name: &str) -> Sink {
        let url = self.scene.database(name);
        let config = serde_json::json!({ "url": url, "table": "t", "write": self.write });
        let config: SinkConfig = serde_json::from_value(config).unwrap();
        hapax_mysql::sink::open(config).await.unwrap()
    }

    fn ids(&self, name: &str) -> Vec<i64> {
        self.scene.database(name);
        if self.scene.numbers(name, "SELECT count(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 't'") == [0] {
            return Vec::new();
        }
        self.scene.numbers(name, "SELECT id FROM t ORDER BY id")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_conforms() {
    sink::suite(&Databases { scene: Scene::new(), write: "append" }).await;
}

/// A table of events: gaps in the keys, nulls, values that do not fit, equal times.
const EVENTS: &str = "CREATE TABLE events(id BIGINT PRIMARY KEY, at TIMESTAMP NOT NULL, day DATE, note VARCHAR(20),
     raw VARBINARY(9), code DECIMAL(9,3) NOT NULL, UNIQUE (code, at), INDEX (at)) ENGINE = InnoDB;
     INSERT INTO events SELECT seq * SPREAD, '2024-01-01' + INTERVAL seq DIV 10 SECOND,
     IF(seq % 50 = 7, '0000-00-00', '2024-01-01' + INTERVAL seq DAY), IF(seq % 5 = 0, NULL, concat('note ', seq)),
     unhex(lpad(hex(seq % 256), 6, '0')), seq / 8 FROM seq_0_to_999;";

async fn source_suite(url: &str, settings: serde_json::Value) {
    let mut config = serde_json::json!({ "url": url });
    config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let config: SourceConfig = serde_json::from_value(config).unwrap();
    source::suite(1000, async || Arc::new(Mysql::open(config.clone()).await.unwrap()) as Arc<dyn Source>)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_conforms() {
    let scene = Scene::new();
    // Keys that reach over many ranges, and keys in one.
    for (name, spread) in [("one", "1"), ("many", "5000")] {
        let url = scene.database(name);
        scene.run(name, &format!("SET sql_mode = ''; {}", EVENTS.replace("SPREAD", spread)));
        source_suite(&url, serde_json::json!({ "table": "events" })).await;
    }
    let url = scene.database("one");
    // A key of two columns, one of them a decimal; a key of text; no key at all.
    scene.run("one", "ALTER TABLE events DROP PRIMARY KEY");
    source_suite(&url, serde_json::json!({ "table": "events" })).await;
    scene.run("one", "SET sql_mode = ''; CREATE TABLE texts(PRIMARY KEY (name)) SELECT concat('Ä', id) AS name, day FROM events");
    source_suite(&url, serde_json::json!({ "table": "texts" })).await;
    source_suite(&url, serde_json::json!({ "query": "SELECT id, note FROM events" })).await;
    source_suite(&url, serde_json::json!({ "query": "SELECT id, note FROM events;", "cursor": "id" })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn incremental_reading_conforms() {
    let scene = Scene::new();
    let url = scene.database("i");
    scene.run("i", &format!("SET sql_mode = ''; {}", EVENTS.replace("SPREAD", "3")));
    let mut settings = serde_json::json!({
        "table": "events", "read": "incremental", "cursor": "at", "cursor_set_by": "database",
    });
    source_suite(&url, settings.clone()).await;
    settings["cursor_set_by"] = "application".into();
    settings["lateness"] = "1m".into();
    source_suite(&url, settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_type_conform() {
    let scene = Scene::new();
    for (number, (declared, value)) in [
        ("VARBINARY(9)", "unhex(concat('ff', lpad(hex(seq), 4, '0')))"),
        ("CHAR(9)", "concat(if(seq % 2, 'a', 'B'), lpad(seq, 4, ' '))"),
        ("VARCHAR(9) CHARACTER SET latin1", "concat('é', seq)"),
        ("BIGINT UNSIGNED", "18446744073709551615 - seq * 3"),
        ("SMALLINT", "CAST(seq AS SIGNED) - 500"),
        ("DECIMAL(40,20)", "-1.0 * seq / 7"),
        ("DECIMAL(30,0)", "12345678901234567890123456789 + seq"),
        ("FLOAT", "seq / 3"),
        ("DOUBLE", "-1.0 * seq / 3"),
        ("DATE", "'2000-01-01' + INTERVAL seq DAY"),
        ("DATETIME(6)", "'2000-01-01' + INTERVAL seq MICROSECOND"),
        ("TIMESTAMP(3)", "'2000-01-01' + INTERVAL seq * 1000 MICROSECOND"),
        ("TIME(3)", "SEC_TO_TIME(36000 + seq / 1000)"),
    ]
    .into_iter()
    .enumerate()
    {
        let url = scene.database("k");
        scene.run(
            "k",
            &format!(
                "CREATE TABLE k{number} (k {declared} NOT NULL PRIMARY KEY, n INT) ENGINE = InnoDB;
                 INSERT INTO k{number} SELECT {value}, seq FROM seq_0_to_999"
            ),
        );
        println!("{declared}");
        source_suite(&url, serde_json::json!({ "table": format!("k{number}") })).await;
    }
}
