//! Mistakes planted in source and sink: the suite that each must pass catches each, and passes without it.
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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hapax_conformance::{sink, source};
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_mysql::config::{SinkConfig, SourceConfig};
use hapax_mysql::source::Mysql;
use hapax_planted::{Mistake, with};
use scene::Scene;

struct Databases(Scene);

impl sink::Subject for Databases {
    async fn open(&self, name: &str) -> Sink {
        let config = serde_json::json!({ "url": self.0.database(name), "table": "t" });
        let config: SinkConfig = serde_json::from_value(config).unwrap();
        hapax_mysql::sink::open(config).await.unwrap()
    }

    fn ids(&self, name: &str) -> Vec<i64> {
        self.0.database(name);
        let there = "SELECT count(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 't'";
        if self.0.numbers(name, there) == [0] {
            return Vec::new();
        }
        self.0.numbers(name, "SELECT id FROM t ORDER BY id")
    }
}

/// What a suite finds: the words of its failure, or nothing.
fn found(mistake: Option<Mistake>, suite: impl Future<Output = ()>) -> Option<String> {
    // A mistake is planted for one thread: all of the suite runs on it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let played = || with(mistake, || runtime.block_on(suite));
    let failure = catch_unwind(AssertUnwindSafe(played)).err()?;
    let words = failure.downcast_ref::<String>().cloned();
    Some(words.or_else(|| failure.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
}

/// The same without a mistake and with it.
fn caught(mistake: Mistake, suite: impl AsyncFn()) {
    assert_eq!(found(None, suite()), None, "without a mistake");
    let words = found(Some(mistake), suite());
    let first: String = words.iter().flat_map(|words| words.chars().take(160)).collect();
    println!("{}: {first}", mistake.name());
    assert!(words.is_some(), "NOT caught: {}", mistake.name());
}

#[test]
fn the_suite_catches_a_missing_fence_and_claims_outside_of_the_commit() {
    for mistake in [Mistake::NoFence, Mistake::ClaimOutsideCommit] {
        caught(mistake, async || sink::suite(&Databases(Scene::new())).await);
    }
}

#[test]
fn the_suite_catches_a_bare_cursor() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        "CREATE TABLE events(id BIGINT PRIMARY KEY, at TIMESTAMP NOT NULL, INDEX (at)) ENGINE = InnoDB;
         INSERT INTO events SELECT seq, '2024-01-01' + INTERVAL seq DIV 10 SECOND FROM seq_1_to_1000",
    );
    let config = serde_json::json!({
        "url": url, "table": "events", "read": "incremental", "cursor": "at", "cursor_set_by": "database",
    });
    let config: SourceConfig = serde_json::from_value(config).unwrap();
    let open = async || Arc::new(Mysql::open(config.clone()).await.unwrap()) as Arc<dyn Source>;
    caught(Mistake::BareCursor, async || source::suite(1000, &open).await);
}
