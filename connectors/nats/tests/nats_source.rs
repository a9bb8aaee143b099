//! A stream of the real server as source.
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
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use futures::StreamExt;
use hapax_conformance::memory::Memory;
use hapax_conformance::proxy::{Failure, Proxy};
use hapax_conformance::queue::{self, Subject, ids, moved, sorted};
use hapax_conformance::source::{everything, suite};
use hapax_engine::batch::ReadLimit;
use hapax_engine::run::{Stop, Until};
use hapax_engine::source::Source;
use hapax_nats::codes;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Replay, Retention, Settle, Window};
use hapax_protocol::identity::Duplicates;
use hapax_protocol::position::Position;
use scene::Scene;
use serde_json::{Value, json};

const WIDE: ReadLimit = ReadLimit { records_max: 1 << 16, bytes_max: 1 << 26 };

struct Consumers<'a>(&'a Scene);

impl Subject for Consumers<'_> {
    async fn create(&self, name: &str) {
        self.0.stream(name, Config::default()).await;
        // Longer than a busy machine takes from the first message of a round to its last.
        self.0.consumer_of(name, Duration::from_secs(4), 500).await;
    }

    async fn publish(&self, name: &str, ids: std::ops::Range<i64>) {
        self.0.fill(name, ids).await;
    }

    async fn spoil(&self, name: &str) {
        let message = PublishMessage::build().payload("{\"id\":\"not a number\"}".into());
        self.0.put(name, "even", message).await;
    }

    async fn open(&self, name: &str, workers: u16) -> Arc<dyn Source> {
        Arc::new(self.0.open(name, json!({ "workers": workers, "consumer": "worker" })).await.unwrap())
    }

    async fn holds(&self, name: &str) -> u64 {
        self.0.holds(name).await
    }

    async fn waits(&self, name: &str) -> u64 {
        self.0.consumer_info(name).await.num_pending
    }

    fn in_hand_max(&self) -> u64 {
        500
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_consumer_passes_the_suite_of_queues() {
    let scene = Scene::new().await;
    queue::suite(&Consumers(&scene)).await;
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_by_sequence_passes_the_suite_of_sources() {
    let scene = Scene::new().await;
    scene.stream("s", Config::default()).await;
    scene.fill("s", 0..150).await;
    scene.put("s", "even", PublishMessage::build().payload("no JSON".into())).await;
    scene.fill("s", 151..200).await;
    suite(200, async || {
        let source: Arc<dyn Source> = Arc::new(scene.open("s", json!({})).await.unwrap());
        source
    })
    .await;
    let source = scene.open("s", json!({})).await.unwrap();
    let facts = source.facts();
    assert_eq!(
        (facts.replay, facts.settle, facts.retention),
        (Replay::Exact, Settle::Seek, Retention::Unbounded)
    );
    let split = source.splits().await.unwrap().remove(0).id;
    assert_eq!(source.lag(&split, None).await.unwrap(), Some(200));
    scene.clear().await;
}

/// Reads to the end behind a position: what came, and where it ends.
async fn rest(source: &dyn Source, after: Option<&Position>) -> Result<(Vec<i64>, Option<Position>), Code> {
    let split = source.splits().await.unwrap().remove(0).id;
    let code = |error: hapax_engine::fault::SourceError| error.fault.code();
    let mut reader = source.open(&split, after).await.map_err(code)?;
    let (mut all, mut stood) = (Vec::new(), after.cloned());
    while let Some(batch) = reader.read(WIDE).await.map_err(code)? {
        assert_eq!(batch.after, stood);
        stood = Some(batch.through);
        all.extend(ids(&[batch.records]));
    }
    Ok((all, stood))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_takes_small_requests_alone_is_asked_by_them() {
    let scene = Scene::new().await;
    scene.stream("s", Config::default()).await;
    scene.fill("s", 0..500).await;
    let limits = pull::Config {
        max_batch: 50,
        max_bytes: 20_000,
        max_expires: Duration::from_secs(4),
        ..pull::Config::default()
    };
    scene.consumer_with("s", limits).await;
    let source = scene.open("s", json!({ "consumer": "worker" })).await.unwrap();
    let (mut read, _) = rest(&source, None).await.unwrap();
    read.sort_unstable();
    assert_eq!(read, (0..500).collect::<Vec<_>>());
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_read_alone_and_quiet_times_are_passed_over() {
    let scene = Scene::new().await;
    let stream = scene.stream("s", Config::default()).await;
    scene.fill("s", 0..20).await;
    let odd = json!({ "subject": format!("{}.odd", scene.name("s")) });
    let source = scene.open("s", odd).await.unwrap();
    let (read, at) = rest(&source, None).await.unwrap();
    assert_eq!(read, (0..20).filter(|id| id % 2 == 1).collect::<Vec<_>>());
    // Nothing of this subject for a long time, and then the stream forgets all that was.
    for id in [20, 22, 24] {
        scene.fill("s", id..id + 1).await;
    }
    let (read, at) = rest(&source, at.as_ref()).await.unwrap();
    assert_eq!(read, [] as [i64; 0]);
    stream.purge().await.unwrap();
    scene.fill("s", 31..32).await;
    assert_eq!(rest(&source, at.as_ref()).await.unwrap().0, [31]);
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_before_it_was_read_is_named_and_accepted_only_in_writing() {
    let scene = Scene::new().await;
    let stream = scene.stream("s", Config { max_messages: 1000, ..Config::default() }).await;
    scene.fill("s", 0..10).await;
    let source = scene.open("s", json!({})).await.unwrap();
    let (_, at) = rest(&source, None).await.unwrap();
    // One that was deleted in the middle was meant to be.
    scene.fill("s", 10..20).await;
    stream.delete_message(15).await.unwrap();
    let (read, behind) = rest(&source, at.as_ref()).await.unwrap();
    assert_eq!(read, [10, 11, 12, 13, 15, 16, 17, 18, 19]);
    // The head of the stream has come past the position.
    stream.purge().sequence(15).await.unwrap();
    assert_eq!(rest(&source, at.as_ref()).await, Err(codes::TRIMMED));
    let split = source.splits().await.unwrap().remove(0).id;
    let error = source.open(&split, at.as_ref()).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("from 11 to 15"), "{error}");
    assert!(error.fault.help().contains("on_gap: accept"));
    let accepting = scene.open("s", json!({ "on_gap": "accept" })).await.unwrap();
    assert_eq!(rest(&accepting, at.as_ref()).await.unwrap().0, [15, 16, 17, 18, 19]);
    assert_eq!(rest(&source, behind.as_ref()).await.unwrap().0, [] as [i64; 0]);
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_trimmed_under_a_reader_stops_it() {
    let scene = Scene::new().await;
    let stream = scene.stream("s", Config::default()).await;
    scene.fill("s", 0..10).await;
    let source = scene.open("s", json!({})).await.unwrap();
    let split = source.splits().await.unwrap().remove(0).id;
    let mut reader = source.open(&split, None).await.unwrap();
    while reader.read(WIDE).await.unwrap().is_some() {}
    // It waits for nothing, so the server has nothing to send when this is removed: 11 and 12 come and go.
    drop(reader);
    let at = rest(&source, None).await.unwrap().1;
    let mut reader = source.open(&split, at.as_ref()).await.unwrap();
    scene.fill("s", 10..12).await;
    stream.purge().sequence(13).await.unwrap();
    scene.fill("s", 12..13).await;
    let mut seen = Vec::new();
    let error = loop {
        match reader.read(WIDE).await {
            Ok(Some(batch)) => seen.extend(ids(&[batch.records])),
            Ok(None) => tokio::time::timeout(Duration::from_secs(60), reader.more()).await.unwrap().unwrap(),
            Err(error) => break Some(error.fault.code()),
        }
        if seen.contains(&12) {
            break None;
        }
    };
    // Either they had reached the reader before they were removed, or it says that they are missing.
    match error {
        None => assert_eq!(seen, [10, 11, 12]),
        Some(code) => assert_eq!((code, seen), (codes::TRIMMED, vec![])),
    }
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_stream_of_the_name_and_a_shorter_one_stop() {
    let scene = Scene::new().await;
    scene.stream("s", Config::default()).await;
    scene.fill("s", 0..10).await;
    let source = scene.open("s", json!({})).await.unwrap();
    let (_, at) = rest(&source, None).await.unwrap();
    scene.context.delete_stream(scene.name("s")).await.unwrap();
    assert_eq!(rest(&source, at.as_ref()).await, Err(codes::NO_STREAM));
    scene.stream("s", Config::default()).await;
    scene.fill("s", 0..20).await;
    assert_eq!(rest(&source, at.as_ref()).await, Err(codes::RECREATED));
    // A server that lost its last messages.
    let mut shorter = rest(&source, None).await.unwrap().1.unwrap().as_bytes().to_vec();
    *shorter.last_mut().unwrap() += 5;
    assert_eq!(rest(&source, Some(&Position::new(shorter))).await, Err(codes::ENDS_BEFORE));
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_has_its_own_error() {
    let scene = Scene::new().await;
    scene.stream("s", Config::default()).await;
    let work = Config { retention: RetentionPolicy::WorkQueue, ..Config::default() };
    scene.stream("w", work).await;
    let with = |from: &str, to: &str| json!({ "url": scene.url.replace(from, to) });
    let password = scene.url.split(['@', ':']).nth(2).unwrap().to_owned();
    let port = scene.url.rsplit(':').next().unwrap().to_owned();
    for (name, more, expected) in [
        ("none", json!({}), codes::NO_STREAM),
        ("s", with(&password, "wrong"), codes::WRONG_PASSWORD),
        ("s", with(&format!(":{port}"), ":1"), codes::GONE),
        ("s", with("nats://", "http://"), codes::BAD_URL),
        ("w", json!({}), codes::WORK_QUEUE),
        ("s", json!({ "workers": 2 }), codes::CONFIG),
        ("s", json!({ "workers": 65, "consumer": "c" }), codes::CONFIG),
        ("s", json!({ "consumer": "a.b" }), codes::CONFIG),
        ("s", json!({ "schema": null }), codes::CONFIG),
    ] {
        assert_eq!(scene.refusal(name, more.clone()).await, expected, "{more}");
    }
    let error = scene.open("s", with(&password, "wrong")).await.map(|_| ()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(&password));
    scene.consumer("s", Duration::from_secs(5)).await;
    let other = json!({ "consumer": "worker", "subject": format!("{}.odd", scene.name("s")) });
    let source = scene.open("s", other).await.unwrap();
    assert_eq!(rest(&source, None).await, Err(codes::CONSUMER_UNFIT));
    let foreign = Position::new([9_u8].as_slice());
    for more in [json!({}), json!({ "consumer": "worker" })] {
        let source = scene.open("s", more).await.unwrap();
        assert_eq!(rest(&source, Some(&foreign)).await, Err(codes::FOREIGN_POSITION));
    }
    let aging = Config { max_age: Duration::from_secs(3600), ..Config::default() };
    scene.stream("a", aging).await;
    let facts = scene.open("a", json!({})).await.unwrap().facts();
    assert_eq!(facts.retention, Retention::For(Window(3_600_000)));
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_beside_a_message_becomes_columns() {
    let scene = Scene::new().await;
    scene.stream("s", Config::default()).await;
    scene.put("s", "odd", PublishMessage::build().payload("{\"id\":1}".into()).message_id("one")).await;
    scene.put("s", "odd", PublishMessage::build().payload("{\"id\":2}".into())).await;
    let metadata: Value = json!(["subject", "sequence", "timestamp", "message_id"]);
    let source = scene.open("s", json!({ "metadata": metadata })).await.unwrap();
    let split = source.splits().await.unwrap().remove(0).id;
    let mut reader = source.open(&split, None).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = reader.read(WIDE).await.unwrap() {
        batches.push(batch);
    }
    let records = &batches[0].records;
    assert_eq!(records.column(1).as_string::<i32>().value(0), format!("{}.odd", scene.name("s")));
    assert_eq!(records.column(2).as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(records.column(4).as_string::<i32>().value(0), "one");
    let rejected: Vec<_> = batches.iter().flat_map(|batch| batch.rejected.clone()).collect();
    assert_eq!((rejected.len(), rejected[0].code, rejected[0].ordinal), (1, codes::NO_MESSAGE_ID, 1));
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_moves_nothing_twice() {
    let scene = Scene::new().await;
    let place = scene.url.rsplit('@').next().unwrap().to_owned();
    for consumer in [false, true] {
        let name = format!("s{consumer}");
        scene.stream(&name, Config::default()).await;
        scene.consumer(&name, Duration::from_secs(1)).await;
        scene.fill(&name, 0..2000).await;
        let proxy = Proxy::before(place.clone()).await;
        let through = scene.url.replace(&place, &format!("127.0.0.1:{}", proxy.port()));
        let mut keys = json!({ "url": through });
        if consumer {
            keys["consumer"] = "worker".into();
        }
        let source = Arc::new(scene.open(&name, keys).await.unwrap());
        proxy.fail(Failure::Cut { bytes: 60_000 });
        let memory = Memory::default();
        let run = moved(source, &memory, Duplicates::Drop, Until::End, Stop::default());
        let summary = tokio::time::timeout(Duration::from_secs(120), run).await.unwrap().unwrap();
        assert_eq!(proxy.happened(), 1, "nothing broke");
        assert_eq!(summary.totals.moved, 2000, "consumer {consumer}");
        assert_eq!(sorted(&memory.batches()), (0..2000).collect::<Vec<_>>(), "consumer {consumer}");
    }
    assert_eq!(everything(&scene.open("sfalse", json!({})).await.unwrap(), WIDE).await.len(), 1);
    scene.clear().await;
}

/// What a server has given to a reader whose destination takes nothing, in messages of 64 KiB.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_destination_is_waited_for_with_little_in_hand() {
    const BODY_BYTES: usize = 64 << 10;
    // Two requests of 8 MiB, the channel and the batches of the run.
    const IN_HAND_BYTES_MAX: u64 = 32 << 20;
    const MESSAGES: u64 = 1_000;
    let scene = Scene::new().await;
    let body = |id: u64| format!("{{\"id\":{id},\"text\":\"{}\"}}", "x".repeat(BODY_BYTES));
    for consumer in [false, true] {
        let name = format!("s{consumer}");
        let stream = scene.stream(&name, Config::default()).await;
        for id in 0..MESSAGES {
            scene.put(&name, "even", PublishMessage::build().payload(body(id).into())).await;
        }
        let mut keys = json!({ "schema": { "id": "int64", "text": "string" } });
        if consumer {
            scene.consumer(&name, Duration::from_secs(60)).await;
            keys["consumer"] = "worker".into();
        }
        let source = Arc::new(scene.open(&name, keys).await.unwrap());
        let memory = Memory::default();
        memory.shut();
        let run = moved(source, &memory, Duplicates::Drop, Until::End, Stop::default());
        let in_hand = async || {
            let mut consumers = stream.consumers();
            let mut given = 0;
            while let Some(consumer) = consumers.next().await {
                given = consumer.unwrap().delivered.consumer_sequence;
            }
            given.saturating_sub(memory.rows() as u64) * BODY_BYTES as u64
        };
        let looking = async {
            let (mut before, mut same) = (0, 0);
            while same < 40 {
                let now = in_hand().await;
                assert!(now <= IN_HAND_BYTES_MAX, "{now} bytes in hand, by a consumer: {consumer}");
                same = if now > 0 && now == before { same + 1 } else { 0 };
                before = now;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(memory.rows(), 0);
            memory.open();
            while (memory.rows() as u64) < MESSAGES {
                let now = in_hand().await;
                assert!(now <= IN_HAND_BYTES_MAX, "{now} bytes in hand, by a consumer: {consumer}");
            }
        };
        let both = futures::future::join(run, looking);
        let (summary, ()) = tokio::time::timeout(Duration::from_secs(120), both).await.unwrap();
        assert_eq!(summary.unwrap().totals.moved, MESSAGES);
        assert_eq!(sorted(&memory.batches()), (0..MESSAGES as i64).collect::<Vec<_>>());
    }
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_no_record_has_its_code_and_can_be_read_again() {
    let scene = Scene::new().await;
    scene.stream("s", Config::default()).await;
    scene.consumer("s", Duration::from_secs(60)).await;
    let spoiled = ["no JSON", "[1]", "{\"id\":\"x\"}", "{\"id\":1,\"id\":2}", "{\"id\":3,\"more\":4}"];
    for body in spoiled {
        scene.put("s", "odd", PublishMessage::build().payload(body.into())).await;
    }
    scene.fill("s", 0..1).await;
    for (more, rejected) in [
        (json!({}), &spoiled[..]),
        (json!({ "unknown_fields": "ignore" }), &spoiled[..4]),
        (json!({ "consumer": "worker" }), &spoiled[..]),
    ] {
        let source: Arc<dyn Source> = Arc::new(scene.open("s", more.clone()).await.unwrap());
        let memory = Memory::default();
        let run = moved(Arc::clone(&source), &memory, Duplicates::Keep, Until::End, Stop::default());
        let summary = run.await.unwrap();
        let moved = 6 - rejected.len() as u64;
        assert_eq!((summary.totals.moved, summary.totals.set_aside), (moved, 6 - moved), "{more}");
        let letters = memory.letters();
        assert_eq!(letters.len(), rejected.len(), "{more}");
        for (letter, body) in letters.iter().zip(rejected) {
            assert_eq!(letter.code, codes::UNDECODABLE, "{more}: {letter:?}");
            assert!(letter.raw.contains(body) && !letter.reason.is_empty(), "{more}: {letter:?}");
            assert!(source.rejects_with(letter.code) && source.reread(letter).await.is_err());
        }
        // By a schema that was mended it is a record.
        let mended = scene.open("s", json!({ "schema": { "id": "string" } })).await.unwrap();
        let record = mended.reread(&letters[2]).await.unwrap();
        assert_eq!(record.column(0).as_string::<i32>().value(0), "x");
    }
    scene.clear().await;
}
