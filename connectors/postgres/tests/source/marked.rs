//! Rows that are marked once they have taken effect, through the real engine into a real table.

use std::sync::Arc;

use hapax_conformance::proxy::{Failure, Proxy};
use hapax_engine::batch::ReadLimit;
use hapax_engine::clock::SystemClock;
use hapax_engine::progress::Progress;
use hapax_engine::run::{CommitLimit, Limits, OnError, Run, RunError, Stop, Summary, Until};
use hapax_engine::source::Source;
use hapax_protocol::guarantee::{Replay, Settle};
use hapax_protocol::identity::{Duplicates, Identity};
use hapax_protocol::lease::{Applicant, PipelineName};
use serde_json::{Value, json};

use crate::kit::Database;
use crate::reading::{numbers, open, try_open};

const OUTBOX: &str = "CREATE TABLE outbox (id bigint PRIMARY KEY, note text, processed_at timestamptz); \
                      CREATE INDEX ON outbox (id) WHERE processed_at IS NULL; \
                      INSERT INTO outbox SELECT g, 'note ' || g FROM generate_series(1, 1000) g";

fn outbox() -> Value {
    json!({ "table": "outbox", "read": "marked", "mark": "processed_at" })
}

/// Moves what waits into a table, in batches of 50; `url` is where the source is reached.
pub async fn moved(
    database: &Database,
    url: &str,
    keys: Value,
    duplicates: Duplicates,
) -> Result<Summary, RunError> {
    run(database, url, keys, duplicates).await.run().await
}

async fn run(database: &Database, url: &str, keys: Value, duplicates: Duplicates) -> Run {
    let sink = json!({ "url": database.url(), "table": "arrived" });
    let commit = CommitLimit { interval_ms: Some(50), ..CommitLimit::default() };
    Run {
        source: Arc::new(try_open(url, keys).await.unwrap()),
        transform: None,
        sink: hapax_postgres::sink::open(serde_json::from_value(sink).unwrap()).await.unwrap(),
        ledger: None,
        identity: Identity::Key(vec!["id".to_owned()]),
        duplicates,
        on_error: OnError::Stop,
        until: Until::End,
        parallel: 4,
        applicant: Applicant {
            pipeline: PipelineName::new("outbox").unwrap(),
            holder: "test".to_owned(),
            definition: "outbox".to_owned(),
        },
        clock: Arc::new(SystemClock::default()),
        progress: Progress::default(),
        stop: Stop::default(),
        limits: Limits { batch_records_max: 50, commit, ..Limits::default() },
    }
}

const ARRIVED: &str = "SELECT count(*) FROM arrived";
const DISTINCT: &str = "SELECT count(DISTINCT id) FROM arrived";
const WAITING: &str = "SELECT count(*) FROM outbox WHERE processed_at IS NULL";

#[tokio::test]
async fn what_arrived_is_marked_and_does_not_arrive_again() {
    for duplicates in [Duplicates::Drop, Duplicates::Keep] {
        let database = Database::new();
        database.sql(OUTBOX).await;
        let first = moved(&database, &database.url(), outbox(), duplicates).await.unwrap();
        assert_eq!((first.totals.moved, first.splits), (1000, 4));
        assert_eq!((database.count(ARRIVED).await, database.count(DISTINCT).await), (1000, 1000));
        assert_eq!(database.count(WAITING).await, 0);
        let again = moved(&database, &database.url(), outbox(), duplicates).await.unwrap();
        assert_eq!(again.totals.read, 0);
        database.sql("INSERT INTO outbox VALUES (0, 'late'), (2000, 'new')").await;
        assert_eq!(moved(&database, &database.url(), outbox(), duplicates).await.unwrap().totals.moved, 2);
    }
}

/// Whoever stops has marked all that was committed, although nothing is read any more.
#[tokio::test]
async fn a_stop_leaves_nothing_that_arrived_unmarked() {
    for round in 0..5 {
        let database = Database::new();
        database.sql(OUTBOX).await;
        let mut run = run(&database, &database.url(), outbox(), Duplicates::Keep).await;
        run.limits.batch_records_max = 10 + round;
        run.limits.commit = CommitLimit { records_max: Some(1), ..CommitLimit::default() };
        let (stop, progress) = (run.stop.clone(), run.progress.clone());
        let running = tokio::spawn(run.run());
        while progress.snapshot().commits < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        stop.request();
        let summary = running.await.unwrap().unwrap();
        let marked = "SELECT count(*) FROM outbox WHERE processed_at IS NOT NULL";
        let arrived = database.count(ARRIVED).await;
        assert_eq!((database.count(marked).await, database.count(DISTINCT).await), (arrived, arrived));
        assert_eq!(summary.totals.moved, arrived.unsigned_abs());
        assert!(arrived > 0);
    }
}

#[tokio::test]
async fn a_mark_that_is_lost_behind_the_commit_moves_nothing_twice() {
    for pattern in ["UPDATE ONLY", "COMMIT\0"] {
        for lost in [Failure::Unsent(pattern.into()), Failure::Unanswered(pattern.into())] {
            let database = Database::new();
            database.sql(OUTBOX).await;
            let proxy = Proxy::before(database.host()).await;
            proxy.fail(lost.clone());
            // Encrypted, no pattern could be found.
            let url = format!("{}?sslmode=disable", database.url_through(proxy.port()));
            let first = moved(&database, &url, outbox(), Duplicates::Drop).await;
            assert_eq!(proxy.happened(), 1, "{lost:?}: nothing was lost");
            let totals = match first {
                Ok(summary) => summary.totals,
                Err(_) => moved(&database, &database.url(), outbox(), Duplicates::Drop).await.unwrap().totals,
            };
            assert_eq!(
                (database.count(ARRIVED).await, database.count(DISTINCT).await),
                (1000, 1000),
                "{lost:?}"
            );
            assert_eq!(database.count(WAITING).await, 0, "{lost:?}");
            let unmarked = lost != Failure::Unanswered("COMMIT\0".into());
            assert!(
                !unmarked || totals.suppressed > 0,
                "{lost:?}: what was not marked comes again, {totals:?}"
            );
        }
    }
}

#[tokio::test]
async fn workers_share_the_rows_and_who_goes_leaves_nothing_marked() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    database.sql("INSERT INTO outbox SELECT g, 'note ' || g FROM generate_series(1001, 2000) g").await;
    let source = open(&database, outbox()).await;
    let splits = source.splits().await.unwrap();
    assert_eq!(splits.len(), 4);
    let limit = ReadLimit { records_max: 200, bytes_max: 4000 };
    let mut seen = Vec::new();
    let mut workers = Vec::new();
    for split in &splits {
        let mut worker = source.open(&split.id, None).await.unwrap();
        let batch = worker.read(limit).await.unwrap().unwrap();
        assert!(batch.records.num_rows() < 200, "a batch has a limit in bytes, too");
        let mut ids = numbers([&batch]);
        assert!(ids.is_sorted());
        while ids.len() < 150 {
            ids.extend(numbers([&worker.read(limit).await.unwrap().unwrap()]));
        }
        seen.extend(ids);
        workers.push(worker);
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count, "two workers were given the same row");
    drop(workers);
    assert_eq!(database.count(WAITING).await, 2000);
    // And nothing stays locked.
    database.sql("SET lock_timeout = 60000; UPDATE outbox SET note = note").await;
}

#[tokio::test]
async fn a_mark_may_be_a_word_or_a_flag() {
    let database = Database::new();
    database
        .sql(
            "CREATE TYPE state AS ENUM ('new', 'held', 'done'); \
              CREATE TABLE jobs (id bigint PRIMARY KEY, state state NOT NULL DEFAULT 'new', sent boolean); \
              INSERT INTO jobs VALUES (1, 'new', NULL), (2, 'new', NULL), (3, 'held', false), (4, 'done', true)",
        )
        .await;
    let words =
        json!({ "table": "jobs", "read": "marked", "mark": "state", "mark_from": "new", "mark_to": "done" });
    let facts = open(&database, words.clone()).await.facts();
    assert_eq!((facts.settle, facts.replay), (Settle::Mark, Replay::Unidentified));
    assert_eq!(moved(&database, &database.url(), words, Duplicates::Drop).await.unwrap().totals.moved, 2);
    let states = database.texts("SELECT string_agg(state::text, ' ' ORDER BY id) FROM jobs").await;
    assert_eq!(states, ["done done held done"]);
    database.sql("DROP TABLE arrived; UPDATE _hapax_ledger SET pipeline = 'other'").await;
    let flag = json!({ "table": "jobs", "read": "marked", "mark": "sent" });
    assert_eq!(moved(&database, &database.url(), flag, Duplicates::Drop).await.unwrap().totals.moved, 3);
    assert_eq!(database.count("SELECT count(*) FROM jobs WHERE sent").await, 4);
}

#[tokio::test]
async fn rows_that_cannot_be_marked_stop_the_run() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    database
        .sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
              CREATE TRIGGER refuse BEFORE UPDATE ON outbox FOR EACH ROW WHEN (OLD.id = 7) EXECUTE FUNCTION refuse()")
        .await;
    let error = moved(&database, &database.url(), outbox(), Duplicates::Drop).await.unwrap_err();
    assert!(
        error.to_string().contains("could be marked") || format!("{error:?}").contains("MarkLost"),
        "{error:?}"
    );
    assert_eq!(database.count(DISTINCT).await, database.count(ARRIVED).await);
}

#[tokio::test]
async fn a_role_with_one_column_to_write_is_enough() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    let role = format!("{}_marker", database.name());
    database
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'marks'; GRANT SELECT, UPDATE (processed_at) ON outbox TO {role}"
        ))
        .await;
    let url = database.url_as(&role, "marks");
    assert_eq!(moved(&database, &url, outbox(), Duplicates::Drop).await.unwrap().totals.moved, 1000);
    assert_eq!(database.count(WAITING).await, 0);
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
