//! Runs that go on until they are stopped.

use std::time::{Duration, Instant};

use hapax_engine::run::{CommitLimit, Run, RunError, Until};
use hapax_postgres::source::Postgres;
use hapax_protocol::identity::Duplicates;
use serde_json::{Value, json};

use crate::kit::Database;
use crate::scene::{APART, ARRIVED, DISTINCT, OUTBOX, WAITING, ends, run};

/// Waits until a query counts so many.
async fn counts(database: &Database, sql: &str, wanted: i64) {
    let began = Instant::now();
    while database.count(sql).await != wanted {
        assert!(began.elapsed() < Duration::from_secs(120), "{sql} never says {wanted}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn followed(database: &Database, target: &Database, mut going: Run) {
    going.until = Until::Stopped;
    going.limits.commit = CommitLimit { interval_ms: Some(20), ..CommitLimit::default() };
    let stop = going.stop.clone();
    let running = tokio::spawn(going.run());
    counts(target, "SELECT count(*) FROM pg_tables WHERE tablename = 'arrived'", 1).await;
    counts(target, ARRIVED, 1000).await;
    for round in 1..=3 {
        database
            .sql(&format!(
                "INSERT INTO outbox (id, note) SELECT g, 'new' FROM generate_series({round}001, {round}100) g"
            ))
            .await;
        counts(target, ARRIVED, 1000 + 100 * round).await;
    }
    stop.request();
    let summary = running.await.unwrap().unwrap();
    assert!(summary.stopped);
    assert_eq!((summary.totals.moved, target.count(DISTINCT).await), (1300, 1300));
}

#[tokio::test]
async fn an_outbox_is_followed_within_one_database_and_between_two() {
    let keys = || json!({ "poll_ms": 20 });
    for write in ["append", "upsert"] {
        let database = Database::new();
        database.sql(OUTBOX).await;
        // What replaces by key takes one worker.
        let source = if write == "upsert" { json!({ "poll_ms": 20, "workers": 1 }) } else { keys() };
        let pair = ends(&database.url(), &database.url(), source, json!({ "write": write })).await;
        followed(&database, &database, run(pair)).await;
        assert_eq!((database.count(APART).await, database.count(WAITING).await), (0, 0));
    }
    let (database, target) = (Database::new(), Database::new());
    database.sql(OUTBOX).await;
    let mut between = run(ends(&database.url(), &target.url(), keys(), json!({})).await);
    between.duplicates = Duplicates::Drop;
    followed(&database, &target, between).await;
    // A stop marks what was committed, all of it.
    assert_eq!(database.count(WAITING).await, 0);
}

#[tokio::test]
async fn several_workers_cannot_follow_into_a_table_that_replaces_by_key() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    let pair = ends(&database.url(), &database.url(), json!({}), json!({ "write": "upsert" })).await;
    let mut going = run(pair);
    going.until = Until::Stopped;
    assert!(matches!(going.run().await, Err(RunError::OneByOne)));
}

async fn cursor(database: &Database, keys: Value) -> Run {
    let mut of_source =
        json!({ "url": database.url(), "table": "outbox", "read": "incremental", "poll_ms": 20 });
    of_source.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let source = Postgres::open(serde_json::from_value(of_source).unwrap()).await.unwrap();
    let sink = json!({ "url": database.url(), "table": "arrived" });
    let sink = hapax_postgres::sink::open(serde_json::from_value(sink).unwrap()).await.unwrap();
    run((source, sink))
}

#[tokio::test]
async fn a_cursor_is_followed_to_each_new_horizon() {
    for keys in [json!({ "cursor": "xid" }), json!({ "cursor": "at", "cursor_set_by": "database" })] {
        let database = Database::new();
        database.sql(OUTBOX).await;
        database
            .sql(
                "ALTER TABLE outbox ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id(), \
                 ADD COLUMN at timestamptz NOT NULL DEFAULT now()",
            )
            .await;
        followed(&database, &database, cursor(&database, keys).await).await;
    }
}

#[tokio::test]
async fn what_looks_back_is_not_followed() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    database.sql("ALTER TABLE outbox ADD COLUMN at timestamptz NOT NULL DEFAULT now()").await;
    let mut going =
        cursor(&database, json!({ "cursor": "at", "cursor_set_by": "application", "lateness": "1m" })).await;
    going.until = Until::Stopped;
    assert!(matches!(going.run().await, Err(RunError::Bounded)));
}
