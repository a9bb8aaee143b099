use hapax_engine::dead_letter::{DeadLetter, Ending, Settlement};
use hapax_engine::fault::{CommitError, SinkErrorKind};
use hapax_engine::sink::{Arrival, Sink};
use hapax_postgres::codes;
use hapax_postgres::config::{SinkConfig, Write};
use hapax_protocol::code::Code;
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Epoch, SplitId};

use crate::scene::{Scene, applicant, at, people, pipeline, ready, shape, split, step, taken};

#[tokio::test]
async fn effects_and_position_are_committed_together() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, standing) = taken(&sink, &lease).await;
    assert_eq!(standing.position, None);
    assert_eq!(writer.write(&people(&[(Some(1), Some("a")), (Some(2), None)])).await.unwrap(), []);
    assert_eq!(scene.count("SELECT count(*) FROM t").await, 0);
    writer.commit(&step(None, 2, 1)).await.unwrap();
    assert_eq!(scene.count("SELECT count(*) FROM t").await, 2);
    let standings = sink.standings(&pipeline()).await.unwrap();
    assert_eq!(standings, [(split(), step(None, 2, 1).standing())]);
    let (_, again) = taken(&sink, &lease).await;
    assert_eq!(again.position, Some(at(2)));
    assert_eq!(again.epoch, Epoch::new(1));
}

#[tokio::test]
async fn a_writer_that_dies_before_its_commit_leaves_nothing() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.write(&people(&[(Some(1), None)])).await.unwrap();
    drop(writer);
    let (mut writer, standing) = taken(&sink, &lease).await;
    assert_eq!(standing.position, None);
    writer.write(&people(&[(Some(2), None)])).await.unwrap();
    writer.commit(&step(None, 1, 1)).await.unwrap();
    writer.write(&people(&[(Some(3), None)])).await.unwrap();
    writer.abort().await.unwrap();
    writer.write(&people(&[(Some(4), None)])).await.unwrap();
    writer.commit(&step(Some(1), 2, 2)).await.unwrap();
    assert_eq!(scene.count("SELECT sum(id)::bigint FROM t").await, 6);
}

#[tokio::test]
async fn a_dropped_write_cannot_be_committed() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.write(&people(&[(Some(1), None)])).await.unwrap();
    let batch = people(&[(Some(2), None); 100_000]);
    let mut dropped = writer.write(&batch);
    let polled = std::future::poll_fn(|context| std::task::Poll::Ready(dropped.as_mut().poll(context))).await;
    assert!(polled.is_pending());
    drop(dropped);
    assert!(matches!(writer.commit(&step(None, 1, 1)).await, Err(CommitError::Refused(_))));
    writer.take_over(&lease).await.unwrap();
    writer.write(&people(&[(Some(5), None)])).await.unwrap();
    writer.commit(&step(None, 1, 1)).await.unwrap();
    assert_eq!(scene.count("SELECT sum(id)::bigint FROM t").await, 5);
}

#[tokio::test]
async fn a_later_holder_fences_an_earlier_one_everywhere() {
    let scene = Scene::new();
    let first = scene.sink(Write::Append).await;
    let old = ready(&first, &shape(&[])).await;
    let (mut idle, _) = taken(&first, &old).await;
    let second = scene.sink(Write::Append).await;
    let new = ready(&second, &shape(&[])).await;
    assert!(new.token > old.token);
    let refused = idle.write(&people(&[(Some(1), None)])).await.unwrap_err();
    assert_eq!((refused.kind, refused.fault.code()), (SinkErrorKind::Fenced, codes::FENCED));
    idle.abort().await.unwrap();
    let CommitError::Refused(refused) = idle.commit(&step(None, 1, 1)).await.unwrap_err() else { panic!() };
    assert_eq!(refused.kind, SinkErrorKind::Fenced);
    let mut late = first.writer(&split()).await.unwrap();
    assert_eq!(late.take_over(&old).await.unwrap_err().kind, SinkErrorKind::Fenced);
    let (mut writer, _) = taken(&second, &new).await;
    writer.write(&people(&[(Some(2), None)])).await.unwrap();
    writer.commit(&step(None, 1, 1)).await.unwrap();
    assert_eq!(scene.count("SELECT sum(id)::bigint FROM t").await, 2);
}

/// A holder that stalls in the middle of its commit keeps its locks for as long as it likes.
#[tokio::test]
async fn a_holder_that_stalls_with_its_transaction_open_is_ended() {
    let scene = Scene::new();
    let first = scene.sink(Write::Upsert).await;
    let old = ready(&first, &shape(&["id"])).await;
    let (mut stalled, _) = taken(&first, &old).await;
    stalled.write(&people(&[(Some(1), Some("stale"))])).await.unwrap();
    let second = scene.sink(Write::Upsert).await;
    let new = ready(&second, &shape(&["id"])).await;
    let (mut writer, standing) = taken(&second, &new).await;
    assert_eq!(standing.position, None);
    writer.write(&people(&[(Some(1), Some("new"))])).await.unwrap();
    writer.commit(&step(None, 1, 1)).await.unwrap();
    // It wakes.
    let CommitError::Refused(refused) = stalled.commit(&step(None, 1, 1)).await.unwrap_err() else {
        panic!()
    };
    assert_eq!(refused.kind, SinkErrorKind::Unavailable);
    assert_eq!(stalled.take_over(&old).await.unwrap_err().kind, SinkErrorKind::Fenced);
    assert_eq!(scene.texts("SELECT name FROM t").await, ["new"]);
}

#[tokio::test]
async fn a_commit_from_another_position_is_refused() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.commit(&step(None, 3, 1)).await.unwrap();
    for wrong in [step(None, 4, 2), step(Some(2), 4, 2), step(Some(3), 4, 1), step(Some(3), 4, 3)] {
        writer.write(&people(&[(Some(1), None)])).await.unwrap();
        let CommitError::Refused(refused) = writer.commit(&wrong).await.unwrap_err() else { panic!() };
        assert_eq!(refused.fault.code(), codes::DIVERGED);
        assert_eq!(writer.take_over(&lease).await.unwrap().position, Some(at(3)));
    }
    assert_eq!(scene.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn splits_move_side_by_side() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let mut tasks = Vec::new();
    for number in 0..4_i64 {
        let mut writer = sink.writer(&SplitId::new(format!("s{number}"))).await.unwrap();
        let lease = lease.clone();
        tasks.push(tokio::spawn(async move {
            writer.take_over(&lease).await.unwrap();
            for round in 0..10_u8 {
                writer.write(&people(&[(Some(number), None), (Some(number), None)])).await.unwrap();
                writer.write(&people(&[(Some(number), None)])).await.unwrap();
                let after = (round > 0).then_some(round);
                writer.commit(&step(after, round + 1, u64::from(round) + 1)).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(scene.count("SELECT count(*) FROM t").await, 120);
    assert_eq!(sink.standings(&pipeline()).await.unwrap().len(), 4);
}

#[tokio::test]
async fn positions_of_another_definition_are_refused_once_there_are_any() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    // Nothing was committed yet: the file may still change.
    sink.acquire(&applicant("another")).await.unwrap();
    let lease = sink.acquire(&applicant("d")).await.map_err(|_| lease).unwrap();
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.commit(&step(None, 1, 1)).await.unwrap();
    let refused = sink.acquire(&applicant("another")).await.unwrap_err();
    assert_eq!((refused.kind, refused.fault.code()), (SinkErrorKind::Stop, codes::OTHER_DEFINITION));
    assert!(sink.acquire(&applicant("d")).await.is_ok());
}

#[tokio::test]
async fn a_commit_that_postgres_refuses_is_refused_and_taken_back() {
    let scene = Scene::new();
    scene
        .sql(
            "CREATE TABLE parent (name text PRIMARY KEY);
             CREATE TABLE t (id bigint, name text REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
        )
        .await;
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    assert_eq!(writer.write(&people(&[(Some(1), Some("nobody"))])).await.unwrap(), []);
    let CommitError::Refused(refused) = writer.commit(&step(None, 1, 1)).await.unwrap_err() else { panic!() };
    assert_eq!((refused.kind, refused.fault.code()), (SinkErrorKind::Stop, codes::DATABASE_FAILED));
    assert_eq!(scene.count("SELECT count(*) FROM t").await, 0);
    assert_eq!(writer.take_over(&lease).await.unwrap().position, None);
}

fn letter(ordinal: u64, reason: &str) -> DeadLetter {
    DeadLetter {
        place: Place { split: split(), ordinal },
        code: Code(309),
        reason: reason.into(),
        raw: "a\0b".into(),
        set_aside_unix_ms: 5,
    }
}

#[tokio::test]
async fn dead_letters_belong_to_the_commit_and_are_kept_once() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    assert_eq!(sink.dead_letters(&pipeline(), 10).await.unwrap(), []);
    assert_eq!(sink.settled_letters(&pipeline(), 10).await.unwrap(), []);
    assert_eq!(sink.standings(&pipeline()).await.unwrap(), []);
    assert_eq!(sink.claimant(&pipeline(), &RecordId([1; 16])).await.unwrap(), None);
    let here = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
    assert!(scene.texts(here).await.is_empty(), "looking must not create anything");
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.set_aside(&[letter(3, "gone")]).await.unwrap();
    writer.abort().await.unwrap();
    writer.set_aside(&[letter(2, "first"), letter(1, "one")]).await.unwrap();
    writer.set_aside(&[letter(2, "second")]).await.unwrap();
    writer.commit(&step(None, 3, 1)).await.unwrap();
    assert_eq!(sink.dead_letters(&pipeline(), 10).await.unwrap(), [letter(1, "one"), letter(2, "first")]);
    assert_eq!(sink.dead_letters(&pipeline(), 1).await.unwrap(), [letter(1, "one")]);
    let settlement = Settlement { ending: Ending::Moved, epoch: Epoch::new(2), settled_unix_ms: 8 };
    writer.settle(&[letter(1, "").place], &settlement).await.unwrap();
    writer.commit(&step(Some(3), 4, 2)).await.unwrap();
    assert_eq!(sink.dead_letters(&pipeline(), 10).await.unwrap(), [letter(2, "first")]);
}

fn arrival(id: u8, ordinal: u64) -> Arrival {
    Arrival { id: RecordId([id; 16]), ordinal }
}

fn twin(ordinal: u64) -> Claim<Place> {
    Claim::Twin { of: Place { split: split(), ordinal } }
}

#[tokio::test]
async fn claims_live_and_die_with_the_transaction() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    let arrivals = [arrival(1, 0), arrival(2, 1), arrival(1, 2)];
    assert_eq!(writer.claim(&arrivals).await.unwrap(), [Claim::New, Claim::New, twin(0)]);
    writer.abort().await.unwrap();
    assert_eq!(writer.claim(&[arrival(1, 7)]).await.unwrap(), [Claim::New]);
    writer.commit(&step(None, 1, 1)).await.unwrap();
    assert_eq!(writer.claim(&[arrival(1, 7), arrival(1, 8)]).await.unwrap(), [Claim::Replay, twin(7)]);
    // What another commit claimed, or another place, stays.
    writer.withdraw(&[arrival(1, 7), arrival(1, 8)]).await.unwrap();
    assert_eq!(writer.claim(&[arrival(1, 9)]).await.unwrap(), [twin(7)]);
    // Records in between do not make a claim somebody else's.
    assert_eq!(writer.claim(&[arrival(5, 10)]).await.unwrap(), [Claim::New]);
    writer.write(&people(&[(Some(1), None)])).await.unwrap();
    writer.withdraw(&[arrival(5, 10)]).await.unwrap();
    assert_eq!(writer.claim(&[arrival(5, 11)]).await.unwrap(), [Claim::New]);
    writer.abort().await.unwrap();
    drop(writer);
    let other = scene.sink(Write::Append).await;
    let newer = ready(&other, &shape(&[])).await;
    let (mut writer, _) = taken(&other, &newer).await;
    assert_eq!(writer.claim(&[arrival(1, 9), arrival(3, 10)]).await.unwrap(), [twin(7), Claim::New]);
    writer.commit(&step(Some(1), 2, 2)).await.unwrap();
    let claimant = sink.claimant(&pipeline(), &RecordId([3; 16])).await.unwrap();
    assert_eq!(claimant, Some(Place { split: split(), ordinal: 10 }));
}

/// A claim in one split waits for the same claim in another, and is a twin once that is committed.
#[tokio::test]
async fn two_splits_claim_an_identity_once() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut first, _) = taken(&sink, &lease).await;
    assert_eq!(first.claim(&[arrival(1, 0)]).await.unwrap(), [Claim::New]);
    let mut second = sink.writer(&SplitId::new("other")).await.unwrap();
    second.take_over(&lease).await.unwrap();
    let waiting = tokio::spawn(async move { second.claim(&[arrival(2, 0), arrival(1, 1)]).await.unwrap() });
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND cardinality(pg_blocking_pids(pid)) > 0";
    while scene.count(blocked).await == 0 {
        tokio::task::yield_now().await;
    }
    first.commit(&step(None, 1, 1)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), [Claim::New, twin(0)]);
}

#[tokio::test]
async fn a_restart_with_nothing_to_do_changes_nothing() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.write(&people(&[(Some(1), None)])).await.unwrap();
    writer.commit(&step(None, 1, 1)).await.unwrap();
    let rows = "SELECT ctid::text || xmin::text FROM t";
    let before = scene.texts(rows).await;
    let again = scene.sink(Write::Append).await;
    let lease = ready(&again, &shape(&[])).await;
    let (_, standing) = taken(&again, &lease).await;
    again.finish(&lease).await.unwrap();
    assert_eq!(standing.position, Some(at(1)));
    assert_eq!(scene.texts(rows).await, before);
}

#[tokio::test]
async fn without_positions_nothing_but_the_table_is_made() {
    let scene = Scene::new();
    let config = SinkConfig { positions: Some(false), ..scene.config(Write::Append) };
    let Sink::Append(sink) = hapax_postgres::sink::open(config).await.unwrap() else { panic!() };
    sink.prepare(&shape(&[])).await.unwrap();
    let lease = sink.acquire(&applicant("d")).await.unwrap();
    assert!(sink.standings(&pipeline()).await.unwrap().is_empty());
    let mut writer = sink.writer(&split()).await.unwrap();
    assert_eq!(writer.take_over(&lease).await.unwrap(), Default::default());
    writer.write(&people(&[(Some(1), None)])).await.unwrap();
    assert_eq!(scene.count("SELECT count(*) FROM t").await, 0);
    writer.flush().await.unwrap();
    assert_eq!(scene.count("SELECT count(*) FROM t").await, 1);
    let refused = writer.set_aside(&[letter(1, "x")]).await.unwrap_err();
    assert!(refused.to_string().contains("dead letters"), "{refused}");
    assert_eq!(
        scene.texts("SELECT relname::text FROM pg_class WHERE relname LIKE '\\_hapax%'").await,
        [""; 0]
    );
}
