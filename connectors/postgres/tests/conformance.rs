//! The suites of `hapax-conformance`, over real tables.
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

#[allow(dead_code)]
mod kit;

use hapax_conformance::sink;
use hapax_engine::sink::Sink;
use hapax_postgres::config::SinkConfig;
use kit::Database;

struct Schemas {
    database: Database,
    write: &'static str,
}

impl sink::Subject for Schemas {
    async fn open(&self, name: &str) -> Sink {
        self.database.sql(&format!("CREATE SCHEMA IF NOT EXISTS \"{name}\"")).await;
        let config = serde_json::json!({
            "url": self.database.url(), "table": format!("{name}.t"), "write": self.write
        });
        let config: SinkConfig = serde_json::from_value(config).unwrap();
        hapax_postgres::sink::open(config).await.unwrap()
    }

    fn ids(&self, name: &str) -> Vec<i64> {
        self.database.numbers(&format!("SELECT id FROM \"{name}\".t ORDER BY id"))
    }
}

#[tokio::test]
async fn a_table_conforms() {
    sink::suite(&Schemas { database: Database::new(), write: "append" }).await;
}
