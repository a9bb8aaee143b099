//! Connections that end at the wrong moment.

use std::sync::Arc;

use hapax_conformance::proxy::{Failure, Proxy};
use hapax_engine::fault::{CommitError, SinkErrorKind};
use hapax_engine::sink::CoCommitSink;
use hapax_postgres::codes;
use hapax_postgres::config::{SinkConfig, Url, Write};

use crate::scene::{Scene, at, opened, people, ready, shape, step, taken};

/// A sink behind a proxy, without TLS, so that the proxy can read along.
async fn behind(scene: &Scene, proxy: &Proxy) -> Arc<dyn CoCommitSink> {
    let url = format!("{}?sslmode=disable", scene.database.url_through(proxy.port()));
    opened(SinkConfig { url: Url::new(url), ..scene.config(Write::Append) }).await
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_looked_up() {
    let scene = Scene::new();
    let proxy = Proxy::before(scene.database.host()).await;
    let sink = behind(&scene, &proxy).await;
    let lease = ready(&sink, &shape(&[])).await;
    let mut stands = None;
    for (number, (failure, took_effect)) in [
        (Failure::Unanswered(b"COMMIT".to_vec()), true),
        (Failure::Unsent(b"COMMIT".to_vec()), false),
        (Failure::Unanswered(b"COMMIT".to_vec()), true),
    ]
    .into_iter()
    .enumerate()
    {
        let (mut writer, standing) = taken(&sink, &lease).await;
        assert_eq!(standing.position, stands.map(at));
        writer.write(&people(&[(Some(i64::try_from(number).unwrap()), None)])).await.unwrap();
        proxy.fail(failure);
        let commit = step(stands, stands.unwrap_or(0) + 1, standing.epoch.get() + 1);
        let CommitError::Unknown(unknown) = writer.commit(&commit).await.unwrap_err() else { panic!() };
        assert_eq!((unknown.kind, unknown.fault.code()), (SinkErrorKind::Unavailable, codes::COMMIT_UNKNOWN));
        // The same writer takes over again, as a new one would.
        let found = writer.take_over(&lease).await.unwrap();
        if took_effect {
            stands = Some(stands.unwrap_or(0) + 1);
        }
        assert_eq!(found.position, stands.map(at));
    }
    assert_eq!(scene.count("SELECT sum(id)::bigint FROM t").await, 2);
}

/// The server goes on with a commit whose client is gone: whoever looks waits for its end.
#[tokio::test]
async fn whoever_looks_waits_for_a_commit_that_is_still_on_its_way() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    // A commit that takes its time: the trigger waits for a lock that this test holds.
    scene
        .sql(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await;
    let holder = scene.database.client().await;
    holder.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.write(&people(&[(Some(1), None)])).await.unwrap();
    let commit = step(None, 1, 1);
    let mut committing = writer.commit(&commit);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'COMMIT' \
                 AND wait_event = 'advisory'";
    loop {
        tokio::select! {
            biased;
            _ = &mut committing => panic!("it did not wait"),
            waiting = scene.count(waits) => if waiting == 1 { break },
        }
    }
    drop(committing);
    drop(writer);
    let (other, lease_then) = (Arc::clone(&sink), lease.clone());
    let looking = tokio::spawn(async move { taken(&other, &lease_then).await.1 });
    let blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'";
    while scene.count(blocked).await == 0 {
        assert!(!looking.is_finished(), "it looked before the commit was over");
        tokio::task::yield_now().await;
    }
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    let stands = looking.await.unwrap().position;
    let rows = scene.count("SELECT count(*) FROM t").await;
    assert_eq!(stands.is_some(), rows == 1, "the position says something else than the table");
}

#[tokio::test]
async fn a_session_that_an_administrator_ends_is_tried_again() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.write(&people(&[(Some(1), None)])).await.unwrap();
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'hapax'";
    assert!(scene.count(end).await > 0);
    let error = writer.write(&people(&[(Some(2), None)])).await.unwrap_err();
    assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Unavailable, codes::UNREACHABLE));
    writer.abort().await.unwrap();
    assert_eq!(writer.write(&people(&[(Some(2), None)])).await.unwrap_err().kind, SinkErrorKind::Unavailable);
    assert_eq!(writer.take_over(&lease).await.unwrap().position, None);
    writer.write(&people(&[(Some(3), None)])).await.unwrap();
    writer.commit(&step(None, 1, 1)).await.unwrap();
    assert_eq!(scene.count("SELECT sum(id)::bigint FROM t").await, 3);
}

#[tokio::test]
async fn a_deadlock_takes_back_one_of_two_and_may_be_tried_again() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Upsert).await;
    let lease = ready(&sink, &shape(&["id"])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.write(&people(&[(Some(1), None), (Some(2), None)])).await.unwrap();
    writer.commit(&step(None, 1, 1)).await.unwrap();
    let other = scene.database.client().await;
    // The other one waits longer before it looks for a deadlock: ours is the one that is taken back.
    other
        .batch_execute("SET deadlock_timeout = '1min'; BEGIN; UPDATE t SET name = 'theirs' WHERE id = 2")
        .await
        .unwrap();
    writer.write(&people(&[(Some(1), Some("ours"))])).await.unwrap();
    let theirs = other.batch_execute("UPDATE t SET name = 'theirs' WHERE id = 1; COMMIT");
    let records = people(&[(Some(2), Some("ours"))]);
    let (theirs, ours) = tokio::join!(theirs, writer.write(&records));
    theirs.unwrap();
    let error = ours.unwrap_err();
    assert_eq!(
        (error.kind, error.fault.code()),
        (SinkErrorKind::Unavailable, codes::TRANSACTION_LOST),
        "{error}"
    );
    assert!(matches!(writer.commit(&step(Some(1), 2, 2)).await, Err(CommitError::Refused(_))));
    assert_eq!(writer.take_over(&lease).await.unwrap().position, Some(at(1)));
    writer.write(&people(&[(Some(1), Some("ours")), (Some(2), Some("ours"))])).await.unwrap();
    writer.commit(&step(Some(1), 2, 2)).await.unwrap();
    assert_eq!(scene.count("SELECT count(*) FROM t WHERE name = 'ours'").await, 2);
}
