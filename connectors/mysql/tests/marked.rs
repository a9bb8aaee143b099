//! Rows that are marked once they have taken effect, through the real engine into a real table.
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

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use hapax_conformance::proxy::{Failure, Proxy};
use hapax_conformance::server;
use hapax_engine::batch::ReadLimit;
use hapax_engine::clock::SystemClock;
use hapax_engine::progress::Progress;
use hapax_engine::run::{CommitLimit, Limits, OnError, Run, RunError, Stop, Summary, Until};
use hapax_engine::source::Source;
use hapax_mysql::codes;
use hapax_mysql::source::Mysql;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Replay, Settle};
use hapax_protocol::identity::{Duplicates, Identity};
use hapax_protocol::lease::{Applicant, PipelineName};
use scene::Scene;
use serde_json::{Value, json};

const OUTBOX: &str =
    "CREATE TABLE outbox (id BIGINT PRIMARY KEY, note TEXT, processed_at DATETIME(6), INDEX (processed_at));
                      INSERT INTO outbox SELECT seq, concat('note ', seq), NULL FROM seq_1_to_1000";

fn outbox() -> Value {
    json!({ "table": "outbox", "read": "marked", "mark": "processed_at" })
}

async fn open(url: &str, mut keys: Value) -> Result<Mysql, Code> {
    keys["url"] = url.into();
    Mysql::open(serde_json::from_value(keys).unwrap()).await.map_err(|error| error.fault.code())
}

/// Moves what waits into a table, in batches of 50; `from` is where the source is reached.
async fn moved(to: &str, from: &str, keys: Value, duplicates: Duplicates) -> Result<Summary, RunError> {
    let sink = json!({ "url": to, "table": "arrived" });
    let commit = CommitLimit { interval_ms: Some(50), ..CommitLimit::default() };
    let run = Run {
        source: Arc::new(open(from, keys).await.unwrap()),
        transform: None,
        sink: hapax_mysql::sink::open(serde_json::from_value(sink).unwrap()).await.unwrap(),
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
    };
    run.run().await
}

const ARRIVED: &str = "SELECT count(*), count(DISTINCT id) FROM arrived";
const WAITING: &str = "SELECT count(*) FROM outbox WHERE processed_at IS NULL";

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_is_marked_and_does_not_arrive_again() {
    for duplicates in [Duplicates::Drop, Duplicates::Keep] {
        let scene = Scene::new();
        let url = scene.database("d");
        scene.run("d", OUTBOX);
        let first = moved(&url, &url, outbox(), duplicates).await.unwrap();
        assert_eq!((first.totals.moved, first.splits), (1000, 4));
        assert_eq!(scene.rows("d", ARRIVED), [["1000", "1000"]]);
        assert_eq!(scene.numbers("d", WAITING), [0]);
        assert_eq!(moved(&url, &url, outbox(), duplicates).await.unwrap().totals.read, 0);
        scene.run("d", "INSERT INTO outbox (id, note) VALUES (0, 'late'), (2000, 'new')");
        assert_eq!(moved(&url, &url, outbox(), duplicates).await.unwrap().totals.moved, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_is_lost_behind_the_commit_moves_nothing_twice() {
    let place = server::mysql().trim_end_matches('/').rsplit('@').next().unwrap().to_owned();
    // The whole packet, or it would be found in the setting of the isolation level.
    let commit = "\u{7}\0\0\0\u{3}COMMIT";
    for pattern in ["UPDATE `outbox`", commit] {
        for lost in [Failure::Unsent(pattern.into()), Failure::Unanswered(pattern.into())] {
            let scene = Scene::new();
            let url = scene.database("d");
            scene.run("d", OUTBOX);
            let proxy = Proxy::before(place.clone()).await;
            proxy.fail(lost.clone());
            let through =
                format!("{}?ssl-mode=disabled", url.replace(&place, &format!("127.0.0.1:{}", proxy.port())));
            let first = moved(&url, &through, outbox(), Duplicates::Drop).await;
            assert_eq!(proxy.happened(), 1, "{lost:?}: nothing was lost");
            let totals = match first {
                Ok(summary) => summary.totals,
                Err(_) => moved(&url, &url, outbox(), Duplicates::Drop).await.unwrap().totals,
            };
            assert_eq!(scene.rows("d", ARRIVED), [["1000", "1000"]], "{lost:?}");
            assert_eq!(scene.numbers("d", WAITING), [0], "{lost:?}");
            let unmarked = lost != Failure::Unanswered(commit.into());
            assert!(
                !unmarked || totals.suppressed > 0,
                "{lost:?}: what was not marked comes again, {totals:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_the_rows_and_who_goes_leaves_nothing_marked() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run("d", OUTBOX);
    let source = open(&url, outbox()).await.unwrap();
    let facts = source.facts();
    assert_eq!((facts.settle, facts.replay), (Settle::Mark, Replay::Unidentified));
    let limit = ReadLimit { records_max: 100, bytes_max: 1 << 20 };
    let (mut seen, mut workers) = (Vec::new(), Vec::new());
    for split in source.splits().await.unwrap() {
        let mut worker = source.open(&split.id, None).await.unwrap();
        for _ in 0..2 {
            let batch = worker.read(limit).await.unwrap().unwrap();
            let ids = batch.records.column(0).as_primitive::<Int64Type>().values().to_vec();
            assert!(ids.is_sorted());
            seen.extend(ids);
        }
        workers.push(worker);
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), count), (800, 800), "two workers were given the same row");
    drop(workers);
    assert_eq!(scene.numbers("d", WAITING), [1000]);
    // And nothing stays locked.
    scene.run("d", "SET innodb_lock_wait_timeout = 60; UPDATE outbox SET note = 'free'");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_may_be_a_word_or_a_flag_and_nothing_else() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        "CREATE TABLE jobs (a INT, id BIGINT, state ENUM('new', 'held', 'done') NOT NULL DEFAULT 'new', sent BOOLEAN,
         n INT, PRIMARY KEY (id, a));
         INSERT INTO jobs VALUES (1, 1, 'new', NULL, 1), (1, 2, 'new', NULL, 1), (1, 3, 'held', false, 1), (1, 4, 'done', true, 1);
         CREATE VIEW v AS SELECT * FROM jobs",
    );
    let marked = |mark: &str| json!({ "table": "jobs", "read": "marked", "mark": mark });
    let mut words = marked("state");
    (words["mark_from"], words["mark_to"]) = ("new".into(), "done".into());
    assert_eq!(moved(&url, &url, words, Duplicates::Drop).await.unwrap().totals.moved, 2);
    let states = "SELECT group_concat(state ORDER BY id SEPARATOR ' ') FROM jobs";
    assert_eq!(scene.rows("d", states), [["done done held done"]]);
    scene.run("d", "DROP TABLE arrived; UPDATE _hapax_ledger SET pipeline = 'other'");
    assert_eq!(moved(&url, &url, marked("sent"), Duplicates::Drop).await.unwrap().totals.moved, 3);
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM jobs WHERE sent"), [4]);
    let mut view = marked("sent");
    view["table"] = "v".into();
    for (keys, expected) in [
        (json!({ "table": "jobs", "read": "marked" }), codes::CONFIG),
        (json!({ "table": "jobs", "mark": "sent" }), codes::CONFIG),
        (marked("state"), codes::CONFIG),
        (marked("n"), codes::CONFIG),
        (marked("none"), codes::NO_COLUMN),
        (view, codes::CONFIG),
    ] {
        assert_eq!(open(&url, keys.clone()).await.map(|_| ()), Err(expected), "{keys}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_marked_stop_the_run() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run("d", OUTBOX);
    scene.run(
        "d",
        "CREATE TRIGGER refuse BEFORE UPDATE ON outbox FOR EACH ROW SET NEW.processed_at = IF(OLD.id = 7, NULL, NEW.processed_at)",
    );
    let error = moved(&url, &url, outbox(), Duplicates::Drop).await.unwrap_err();
    assert!(format!("{error:?}").contains("MarkLost"), "{error:?}");
    let arrived = scene.rows("d", ARRIVED);
    assert_eq!(arrived[0][0], arrived[0][1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_one_column_to_write_is_enough() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run("d", OUTBOX);
    let database = scene.name("d");
    let user = format!("{}_m", database.replace("hapax_", "h"));
    scene.run(
        "d",
        &format!(
            "CREATE USER '{user}'@'%' IDENTIFIED BY 'marks'; GRANT SELECT, UPDATE (processed_at) ON {database}.outbox TO '{user}'@'%'"
        ),
    );
    let place = server::mysql().trim_end_matches('/').rsplit('@').next().unwrap().to_owned();
    let from = format!("mysql://{user}:marks@{place}/{database}");
    assert_eq!(moved(&url, &from, outbox(), Duplicates::Drop).await.unwrap().totals.moved, 1000);
    assert_eq!(scene.numbers("d", WAITING), [0]);
    scene.run("d", &format!("DROP USER '{user}'@'%'"));
}
