//! Source and sink in one database: a row's mark and its effect are one transaction, whatever dies.
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

use hapax_conformance::proxy::{Failure, Proxy};
use hapax_conformance::server;
use hapax_engine::clock::SystemClock;
use hapax_engine::progress::Progress;
use hapax_engine::run::{CommitLimit, Limits, OnError, Run, RunError, Stop, Summary, Until};
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_mysql::joint;
use hapax_mysql::source::Mysql;
use hapax_protocol::guarantee::Settle;
use hapax_protocol::identity::{Duplicates, Identity};
use hapax_protocol::lease::{Applicant, PipelineName};
use scene::Scene;
use serde_json::json;

const OUTBOX: &str =
    "CREATE TABLE outbox (id BIGINT PRIMARY KEY, note TEXT, processed_at DATETIME(6), INDEX (processed_at));
     INSERT INTO outbox SELECT seq, concat('note ', seq), NULL FROM seq_1_to_1000";

/// Rows of which mark and effect do not agree, rows that arrived twice, and rows that wait.
const DIFFER: &str = "SELECT (SELECT count(*) FROM outbox o LEFT JOIN arrived a USING (id) \
                      WHERE (o.processed_at IS NULL) <> (a.id IS NULL)), \
                      (SELECT count(*) - count(DISTINCT id) FROM arrived), \
                      (SELECT count(*) FROM outbox WHERE processed_at IS NULL)";

async fn open(from: &str, to: &str) -> (Mysql, Sink) {
    let source = json!({ "url": from, "table": "outbox", "read": "marked", "mark": "processed_at" });
    let sink = json!({ "url": to, "table": "arrived" });
    joint::open(serde_json::from_value(source).unwrap(), serde_json::from_value(sink).unwrap()).await.unwrap()
}

async fn moved(from: &str, to: &str, pipeline: &str, on_error: OnError) -> Result<Summary, RunError> {
    let (source, sink) = open(from, to).await;
    let run = Run {
        source: Arc::new(source),
        transform: None,
        sink,
        identity: Identity::Key(vec!["id".to_owned()]),
        duplicates: Duplicates::Keep,
        ledger: None,
        on_error,
        until: Until::End,
        parallel: 4,
        applicant: Applicant {
            pipeline: PipelineName::new(pipeline).unwrap(),
            holder: "test".to_owned(),
            definition: "outbox".to_owned(),
        },
        clock: Arc::new(SystemClock::default()),
        progress: Progress::default(),
        stop: Stop::default(),
        limits: Limits { batch_records_max: 50, commit: CommitLimit::default(), ..Limits::default() },
    };
    run.run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mark_and_effect_are_one_transaction() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run("d", OUTBOX);
    let (source, _) = open(&url, &url).await;
    assert_eq!(source.facts().settle, Settle::MarkWithEffect);
    let first = moved(&url, &url, "p", OnError::Stop).await.unwrap();
    assert_eq!((first.totals.moved, first.splits), (1000, 4));
    assert_eq!(scene.rows("d", DIFFER), [["0", "0", "0"]]);
    // Whoever marks also wrote the position: the marks of a batch are as old as its commit.
    let commits = scene.numbers("d", "SELECT count(*) FROM _hapax_commits")[0];
    assert!(commits >= 20, "{commits} commits for 1000 rows in batches of 50");
    assert_eq!(moved(&url, &url, "p", OnError::Stop).await.unwrap().totals.read, 0);
    scene.run("d", "INSERT INTO outbox (id, note) VALUES (0, 'late'), (2000, 'new')");
    assert_eq!(moved(&url, &url, "p", OnError::Stop).await.unwrap().totals.moved, 2);
    assert_eq!(scene.rows("d", DIFFER), [["0", "0", "0"]]);
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM _hapax_ledger"), [0], "a ledger is of no use here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_leaves_no_mark_without_its_effect() {
    let place = server::mysql().trim_end_matches('/').rsplit('@').next().unwrap().to_owned();
    // Whole packets, or the words would be found elsewhere.
    let commit = "\u{7}\0\0\0\u{3}COMMIT";
    for pattern in [
        "UPDATE `outbox` SET `processed_at` = CURRENT_TIMESTAMP(6) WHERE (",
        "LOAD DATA",
        "UPDATE _hapax_positions SET position",
        commit,
    ] {
        for lost in [Failure::Unsent(pattern.into()), Failure::Unanswered(pattern.into())] {
            let scene = Scene::new();
            let url = scene.database("d");
            scene.run(
                "d",
                &format!("{OUTBOX}; CREATE TABLE arrived (id BIGINT, note TEXT, processed_at DATETIME(6))"),
            );
            let proxy = Proxy::before(place.clone()).await;
            proxy.fail(lost.clone());
            let through =
                format!("{}?ssl-mode=disabled", url.replace(&place, &format!("127.0.0.1:{}", proxy.port())));
            let first = moved(&url, &through, "p", OnError::Stop).await;
            assert_eq!(proxy.happened(), 1, "{lost:?}: nothing was lost");
            let between = scene.rows("d", DIFFER);
            assert_eq!(between[0][..2], ["0", "0"], "{lost:?}");
            if first.is_err() {
                moved(&url, &url, "p", OnError::Stop).await.unwrap();
            }
            assert_eq!(scene.rows("d", DIFFER), [["0", "0", "0"]], "{lost:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_refused_keep_the_marks_of_the_others() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        &format!("{OUTBOX}; CREATE TABLE arrived (id BIGINT, note TEXT, processed_at DATETIME(6), CHECK (id % 100 <> 7))"),
    );
    // Stopped at the first: what is not written is not marked.
    assert!(moved(&url, &url, "p", OnError::Stop).await.is_err());
    println!("stopped");
    assert_eq!(scene.rows("d", DIFFER)[0][..2], ["0", "0"]);
    // Set aside, in the transaction that marks it.
    let summary = moved(&url, &url, "p", OnError::SetAside).await.unwrap();
    let aside = summary.totals.set_aside;
    assert_eq!(aside, 10);
    let unmarked = scene.rows("d", DIFFER);
    assert_eq!(
        unmarked,
        [["10", "0", "0"]],
        "marked without effect are those that were set aside, and no others"
    );
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM _hapax_dead_letters"), [10]);
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM arrived"), [990]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_share_the_rows() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run("d", &format!("{OUTBOX}; INSERT INTO outbox SELECT seq, 'more', NULL FROM seq_3000_to_7000"));
    let (one, two) =
        tokio::join!(moved(&url, &url, "one", OnError::Stop), moved(&url, &url, "two", OnError::Stop));
    let (one, two) = (one.unwrap().totals.moved, two.unwrap().totals.moved);
    println!("one moved {one}, the other {two}");
    // A run ends where no row is free: what the other one held then may wait no more.
    assert_eq!(one + two, 5001);
    assert_eq!(scene.rows("d", DIFFER), [["0", "0", "0"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_that_cannot_share_a_transaction_do_not_claim_to() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run("d", OUTBOX);
    let other = scene.database("other");
    assert_eq!(open(&url, &other).await.0.facts().settle, Settle::Mark);
    let database = scene.name("d");
    let user = format!("{}_j", database.replace("hapax_", "h"));
    let place = server::mysql().trim_end_matches('/').rsplit('@').next().unwrap().to_owned();
    let as_user = format!("mysql://{user}:secret@{place}/{database}");
    scene.run("d", &format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secret'"));
    scene.run("d", "CREATE TABLE arrived (id BIGINT, note TEXT, processed_at DATETIME(6))");
    scene.run("d", &format!("GRANT SELECT, INSERT ON {database}.arrived TO '{user}'@'%'"));
    assert_eq!(open(&url, &as_user).await.0.facts().settle, Settle::Mark);
    scene.run("d", &format!("GRANT SELECT ON {database}.outbox TO '{user}'@'%'"));
    assert_eq!(open(&url, &as_user).await.0.facts().settle, Settle::Mark);
    scene.run("d", &format!("GRANT UPDATE (processed_at) ON {database}.outbox TO '{user}'@'%'"));
    assert_eq!(open(&url, &as_user).await.0.facts().settle, Settle::MarkWithEffect);
    scene.run("d", &format!("DROP USER '{user}'@'%'"));
}
