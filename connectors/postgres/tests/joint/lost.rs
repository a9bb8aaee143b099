//! Connections and holders that are lost while a transaction holds mark and effect.

use std::sync::Arc;

use hapax_conformance::proxy::{Failure, Proxy};
use hapax_engine::batch::ReadLimit;
use hapax_engine::run::RunError;
use hapax_engine::sink::Sink;
use hapax_engine::source::Source;
use hapax_protocol::identity::Duplicates;
use serde_json::json;

use crate::kit::Database;
use crate::scene::{APART, ARRIVED, DISTINCT, OUTBOX, WAITING, ends, run, within};

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_looked_up() {
    for failure in [Failure::Unsent(b"COMMIT\0".to_vec()), Failure::Unanswered(b"COMMIT\0".to_vec())] {
        let database = Database::new();
        database.sql(OUTBOX).await;
        let proxy = Proxy::before(database.host()).await;
        let through = format!("{}?sslmode=disable", database.url_through(proxy.port()));
        let within = run(ends(&database.url(), &through, json!({}), json!({})).await);
        let shape = within.shape();
        within.sink.destination().prepare(&shape).await.unwrap();
        within.sink.destination().acquire(&within.applicant).await.unwrap();
        // Again and again: each falls on another commit, of a take-over or of a batch.
        let failing = async {
            for round in 0..3_u64 {
                proxy.fail(failure.clone());
                while proxy.happened() <= round {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            }
            std::future::pending::<()>().await;
        };
        let moved = tokio::select! {
            moved = within.run() => moved,
            () = failing => unreachable!(),
        };
        proxy.heal();
        assert!(proxy.happened() > 0, "{failure:?}: nothing was lost, {moved:?}");
        if moved.is_err() {
            run(ends(&database.url(), &database.url(), json!({}), json!({})).await).run().await.unwrap();
        }
        assert_eq!(
            (database.count(ARRIVED).await, database.count(DISTINCT).await),
            (1000, 1000),
            "{failure:?}"
        );
        assert_eq!((database.count(APART).await, database.count(WAITING).await), (0, 0), "{failure:?}");
    }
}

#[tokio::test]
async fn sessions_that_are_ended_at_any_moment_leave_no_mark_behind() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'hapax' AND xact_start IS NOT NULL \
               ORDER BY random() LIMIT 1) s";
    let making = within(&database).await;
    making.sink.destination().prepare(&making.shape()).await.unwrap();
    let mut ended = 0;
    for _ in 0..50 {
        let mut slow = within(&database).await;
        slow.limits.batch_records_max = 5;
        let ending = async {
            loop {
                // A busy machine must get to its end all the same.
                if ended < 60 {
                    ended += database.count(end).await;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let moved = tokio::select! {
            moved = slow.run() => moved,
            () = ending => unreachable!(),
        };
        assert_eq!(database.count(APART).await, 0, "{moved:?}");
        if moved.is_ok() && database.count(WAITING).await == 0 {
            break;
        }
    }
    assert!(ended > 0, "nothing was ended");
    assert_eq!((database.count(ARRIVED).await, database.count(DISTINCT).await), (1000, 1000));
    assert_eq!((database.count(APART).await, database.count(WAITING).await), (0, 0));
}

/// A worker stalls with its rows locked and marked; a later run has to get past it, and it must not write when it wakes.
#[tokio::test]
async fn a_stalled_worker_is_ended_and_what_it_had_marked_moves() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    let (source, sink) = ends(&database.url(), &database.url(), json!({}), json!({})).await;
    let Sink::CoCommit(sink) = sink else { panic!("positions are kept") };
    let (source, shape) = (Arc::new(source), within(&database).await.shape());
    let applicant = within(&database).await.applicant;
    sink.prepare(&shape).await.unwrap();
    let lease = sink.acquire(&applicant).await.unwrap();
    let split = source.splits().await.unwrap().remove(0).id;
    let mut writer = sink.writer(&split).await.unwrap();
    writer.take_over(&lease).await.unwrap();
    let mut reader = source.open(&split, None).await.unwrap();
    let limit = ReadLimit { records_max: 100, bytes_max: 1 << 20 };
    let batch = reader.read(limit).await.unwrap().unwrap();
    assert_eq!(database.count(WAITING).await, 1000, "nobody else sees the marks");
    // It stalls here.
    let done = within(&database).await.run().await.unwrap();
    assert_eq!((done.totals.moved, database.count(WAITING).await), (1000, 0));
    // And wakes up.
    let late = writer.write(&batch.records).await;
    assert!(late.is_err(), "it wrote into a transaction that was taken from it");
    writer.abort().await.unwrap();
    let again = writer.take_over(&lease).await.unwrap_err();
    assert_eq!(again.kind, hapax_engine::fault::SinkErrorKind::Fenced);
    drop(reader);
    assert_eq!((database.count(ARRIVED).await, database.count(APART).await), (1000, 0));
}

#[tokio::test]
async fn of_two_runs_one_is_fenced_and_two_pipelines_share_the_rows() {
    let database = Database::new();
    database.sql(OUTBOX).await;
    let (mut one, mut two) = (within(&database).await, within(&database).await);
    (one.limits.batch_records_max, two.limits.batch_records_max) = (5, 5);
    let (one, two) = tokio::join!(one.run(), two.run());
    for fenced in [one, two].into_iter().filter_map(Result::err) {
        assert!(fenced.is_fenced(), "{fenced:?}");
    }
    within(&database).await.run().await.unwrap();
    assert_eq!((database.count(ARRIVED).await, database.count(DISTINCT).await), (1000, 1000));
    database.sql("UPDATE outbox SET processed_at = NULL; TRUNCATE arrived").await;
    let mut other = within(&database).await;
    other.applicant.pipeline = hapax_protocol::lease::PipelineName::new("other").unwrap();
    other.duplicates = Duplicates::Keep;
    let (mut one, mut other) = (within(&database).await, other);
    (one.limits.batch_records_max, other.limits.batch_records_max) = (5, 5);
    let (one, other) = tokio::join!(one.run(), other.run());
    let (one, other): (Result<_, RunError>, _) = (one, other);
    let (one, other) = (one.unwrap().totals.moved, other.unwrap().totals.moved);
    assert!(one > 0 && other > 0 && one + other == 1000, "{one} and {other}");
    assert_eq!((database.count(DISTINCT).await, database.count(APART).await), (1000, 0));
}
