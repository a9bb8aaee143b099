use std::sync::Arc;

use hapax_engine::dead_letter::{DeadLetter, Ending, Settlement};
use hapax_engine::fault::{CommitError, SinkErrorKind};
use hapax_engine::sink::{Arrival, Sink};
use hapax_protocol::code::Code;
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Epoch, SplitId};
use hapax_sqlite::codes;
use hapax_sqlite::config::{SinkConfig, Write};

use crate::scene::{Scene, applicant, at, people, pipeline, ready, shape, split, step, taken};

#[tokio::test]
async fn effects_and_position_are_committed_together() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, standing) = taken(&sink, &lease).await;
    assert_eq!(standing.position, None);
    assert_eq!(writer.write(&people(&[(Some(1), Some("a")), (Some(2), None)])).await.unwrap(), []);
    assert_eq!(scene.count("SELECT count(*) FROM t"), 0);
    writer.commit(&step(None, 2, 1)).await.unwrap();
    assert_eq!(scene.count("SELECT count(*) FROM t"), 2);
    let standings = sink.standings(&pipeline()).await.unwrap();
    assert_eq!(standings, [(split(), step(None, 2, 1).standing())]);
    let (_, again) = taken(&sink, &lease).await;
    assert_eq!(again.position, Some(at(2)));
    assert_eq!(again.epoch, Epoch::new(1));
    sink.finish(&lease).await.unwrap();
    let log = scene.path().with_extension("db-wal");
    assert!(!log.exists() || log.metadata().unwrap().len() == 0);
}

#[tokio::test]
async fn a_writer_that_dies_before_its_commit_leaves_nothing() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.write(&people(&[(Some(1), None)])).await.unwrap();
    drop(writer);
    scene.sql("CREATE TABLE nobody_is_locked_out (n)");
    let (mut writer, standing) = taken(&sink, &lease).await;
    assert_eq!(standing.position, None);
    writer.write(&people(&[(Some(2), None)])).await.unwrap();
    writer.commit(&step(None, 1, 1)).await.unwrap();
    assert_eq!(scene.count("SELECT sum(id) FROM t"), 2);
    writer.write(&people(&[(Some(3), None)])).await.unwrap();
    writer.abort().await.unwrap();
    writer.write(&people(&[(Some(4), None)])).await.unwrap();
    writer.commit(&step(Some(1), 2, 2)).await.unwrap();
    assert_eq!(scene.count("SELECT sum(id) FROM t"), 6);
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
    assert_eq!(scene.count("SELECT sum(id) FROM t"), 5);
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
    let CommitError::Refused(refused) = idle.commit(&step(None, 1, 1)).await.unwrap_err() else { panic!() };
    assert_ne!(refused.kind, SinkErrorKind::Stop);
    idle.abort().await.unwrap();
    let CommitError::Refused(refused) = idle.commit(&step(None, 1, 1)).await.unwrap_err() else { panic!() };
    assert_eq!(refused.kind, SinkErrorKind::Fenced);
    let mut late = first.writer(&split()).await.unwrap();
    assert_eq!(late.take_over(&old).await.unwrap_err().kind, SinkErrorKind::Fenced);
    let (mut writer, _) = taken(&second, &new).await;
    writer.write(&people(&[(Some(2), None)])).await.unwrap();
    writer.commit(&step(None, 1, 1)).await.unwrap();
    assert_eq!(scene.count("SELECT sum(id) FROM t"), 2);
}

#[tokio::test]
async fn a_commit_from_another_position_is_refused() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.commit(&step(None, 3, 1)).await.unwrap();
    for wrong in [step(None, 4, 2), step(Some(2), 4, 2)] {
        writer.write(&people(&[(Some(1), None)])).await.unwrap();
        let CommitError::Refused(refused) = writer.commit(&wrong).await.unwrap_err() else { panic!() };
        assert_eq!(refused.fault.code(), codes::DIVERGED);
        assert_eq!(writer.take_over(&lease).await.unwrap().position, Some(at(3)));
    }
    assert_eq!(scene.count("SELECT count(*) FROM t"), 0);
}

#[tokio::test]
async fn two_splits_take_turns() {
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
    assert_eq!(scene.count("SELECT count(*) FROM t"), 120);
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
async fn a_restart_with_nothing_to_do_leaves_the_table_alone() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.write(&people(&[(Some(1), None)])).await.unwrap();
    writer.commit(&step(None, 1, 1)).await.unwrap();
    scene.sql(
        "CREATE TABLE log (n); CREATE TRIGGER i AFTER INSERT ON t BEGIN INSERT INTO log VALUES (1); END; \
         CREATE TRIGGER u AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (1); END; \
         CREATE TRIGGER d AFTER DELETE ON t BEGIN INSERT INTO log VALUES (1); END;",
    );
    let schema_before = scene.texts("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL");
    let again = scene.sink(Write::Append).await;
    let lease = ready(&again, &shape(&[])).await;
    let (_, standing) = taken(&again, &lease).await;
    again.finish(&lease).await.unwrap();
    assert_eq!(standing.position, Some(at(1)));
    assert_eq!(scene.count("SELECT count(*) FROM log"), 0);
    assert_eq!(scene.texts("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"), schema_before);
}

fn letter(ordinal: u64, reason: &str) -> DeadLetter {
    DeadLetter {
        place: Place { split: split(), ordinal },
        code: Code(309),
        reason: reason.into(),
        raw: "{}".into(),
        set_aside_unix_ms: 5,
    }
}

#[tokio::test]
async fn dead_letters_belong_to_the_commit_and_are_kept_once() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    assert_eq!(sink.dead_letters(&pipeline(), 10).await.unwrap(), []);
    assert_eq!(sink.standings(&pipeline()).await.unwrap(), []);
    assert!(!scene.path().exists(), "looking must not create the file");
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
    drop(writer);
    // Another process claims an identity; this one must see it although it had its own picture.
    let other = scene.sink(Write::Append).await;
    let newer = ready(&other, &shape(&[])).await;
    let (mut writer, _) = taken(&other, &newer).await;
    assert_eq!(writer.claim(&[arrival(1, 9), arrival(3, 10)]).await.unwrap(), [twin(7), Claim::New]);
    writer.commit(&step(Some(1), 2, 2)).await.unwrap();
    let newest = sink.acquire(&applicant("d")).await.unwrap();
    let (mut writer, _) = taken(&sink, &newest).await;
    assert_eq!(writer.claim(&[arrival(3, 11), arrival(4, 12)]).await.unwrap(), [twin(10), Claim::New]);
}

#[tokio::test]
async fn without_positions_nothing_but_the_table_is_made() {
    let scene = Scene::new();
    let config = SinkConfig { positions: Some(false), ..scene.sink_config(Write::Append) };
    let Sink::Append(sink) = hapax_sqlite::sink::open(config).await.unwrap() else { panic!() };
    sink.prepare(&shape(&[])).await.unwrap();
    let lease = sink.acquire(&applicant("d")).await.unwrap();
    let mut writer = sink.writer(&split()).await.unwrap();
    assert_eq!(writer.take_over(&lease).await.unwrap(), Default::default());
    writer.write(&people(&[(Some(1), None)])).await.unwrap();
    writer.flush().await.unwrap();
    assert_eq!(
        writer.set_aside(&[letter(1, "x")]).await.unwrap_err().fault.code(),
        codes::NO_PLACE_FOR_LETTERS
    );
    assert_eq!(scene.texts("SELECT name FROM sqlite_master"), ["t"]);
    assert_eq!(scene.count("SELECT count(*) FROM t"), 1);
}

#[tokio::test]
async fn a_locked_database_is_said_to_be_locked_by_someone_else() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let holder = scene.db();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (sink_then, lease_then) = (Arc::clone(&sink), lease.clone());
    let refused = sink_then.acquire(&applicant("d")).await.unwrap_err();
    assert_eq!((refused.kind, refused.fault.code()), (SinkErrorKind::Unavailable, codes::LOCKED));
    assert!(refused.to_string().contains("locked by someone else"));
    holder.execute_batch("COMMIT").unwrap();
    let (mut writer, _) = taken(&sink, &lease_then).await;
    writer.commit(&step(None, 1, 1)).await.unwrap();
}

#[tokio::test]
async fn a_database_of_a_version_without_history_goes_on_and_remembers_from_then_on() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.set_aside(&[letter(1, "one")]).await.unwrap();
    writer.commit(&step(None, 3, 1)).await.unwrap();
    drop((writer, sink));
    scene.sql("DROP TABLE _hapax_commits; DROP TABLE _hapax_settled_letters");
    let places = [1, 4].map(|ordinal| Place { split: split(), ordinal });

    let sink = scene.sink(Write::Append).await;
    assert_eq!(sink.settled_letters(&pipeline(), 10).await.unwrap(), []);
    let remembered = sink.remembered(&pipeline(), &places).await.unwrap();
    assert_eq!((&remembered[0].commit, &remembered[0].letter), (&None, &Some(letter(1, "one"))));
    let words = sink.check(&shape(&[])).await.unwrap();
    let creates = "create the tables _hapax_commits, _hapax_settled_letters in the same database";
    assert!(words.iter().any(|line| line == creates), "{words:?}");
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    let settlement = Settlement { ending: Ending::Dropped, epoch: Epoch::new(2), settled_unix_ms: 8 };
    writer.settle(&[letter(1, "").place], &settlement).await.unwrap();
    writer.commit(&step(Some(3), 5, 2)).await.unwrap();
    let remembered = sink.remembered(&pipeline(), &places).await.unwrap();
    assert_eq!(remembered[0].commit, None);
    assert_eq!(remembered[0].settled.as_ref().unwrap().settlement, settlement);
    assert_eq!(remembered[1].commit.as_ref().unwrap().records, 3..5);
    // Set aside once more, it is on the list again.
    writer.set_aside(&[letter(1, "again")]).await.unwrap();
    writer.commit(&step(Some(5), 6, 3)).await.unwrap();
    assert_eq!(sink.dead_letters(&pipeline(), 10).await.unwrap(), [letter(1, "again")]);
}
