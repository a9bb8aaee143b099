//! A stream of the real server as sink, with a keeper in memory.
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

use arrow::datatypes::{DataType, Field, Schema};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use hapax_conformance::memory::Memory;
use hapax_conformance::proxy::{Failure, Proxy};
use hapax_conformance::queue::{moved_to, sorted};
use hapax_conformance::sent::{self, Arrived};
use hapax_conformance::server::Own;
use hapax_engine::batch::ReadLimit;
use hapax_engine::run::{RunError, Stop, Summary, Until};
use hapax_engine::sink::{Kept, Repeat, Shape, Sink, Target};
use hapax_engine::source::Source;
use hapax_nats::codes;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::Window;
use hapax_protocol::identity::Duplicates;
use scene::Scene;
use serde_json::{Value, json};

const WIDE: ReadLimit = ReadLimit { records_max: 1 << 16, bytes_max: 1 << 26 };

async fn target(scene: &Scene, more: Value) -> Result<Arc<dyn Target>, Code> {
    let out = scene.name("out");
    let mut keys = json!({ "url": scene.url, "stream": out, "subject": format!("{out}.{{id}}") });
    for (key, value) in more.as_object().unwrap() {
        keys[key] = value.clone();
    }
    hapax_nats::sink::open(serde_json::from_value(keys).unwrap()).await.map_err(|error| error.fault.code())
}

/// Moves what the stream `in` holds into the stream `out`.
async fn moved(scene: &Scene, keeper: &Memory, more: Value) -> Result<Summary, RunError> {
    let source = Arc::new(scene.open("in", json!({})).await.unwrap());
    let target = target(scene, more).await.unwrap();
    let sink = Sink::Kept(Kept { target, keeper: Arc::new(keeper.clone()) });
    moved_to(source, sink, Duplicates::Keep, Until::End, Stop::default()).await
}

/// The ids that `out` holds.
async fn arrived(scene: &Scene) -> Vec<i64> {
    let source = scene.open("out", json!({})).await.unwrap();
    let split = source.splits().await.unwrap().remove(0).id;
    let mut reader = source.open(&split, None).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = reader.read(WIDE).await.unwrap() {
        assert_eq!(batch.rejected, []);
        batches.push(batch.records);
    }
    sorted(&batches)
}

async fn two_streams(records: i64) -> Scene {
    let scene = Scene::new().await;
    scene.stream("in", Config::default()).await;
    scene.stream("out", Config::default()).await;
    scene.fill("in", 0..records).await;
    scene
}

/// A stream for each name, with an id that the stream remembers, or with a subject for each identity.
struct Streams<'a> {
    scene: &'a Scene,
    once: &'static str,
}

impl sent::Scene for Streams<'_> {
    async fn open(&self, name: &str) -> Arc<dyn Target> {
        if !self.scene.is_made(name) {
            self.scene.stream(name, Config::default()).await;
        }
        let full = self.scene.name(name);
        let subject = format!("{full}.{{id}}");
        target(self.scene, json!({ "stream": full, "subject": subject, "once": self.once })).await.unwrap()
    }

    async fn state(&self, name: &str) -> Vec<Arrived> {
        let arrived = self.scene.looked_at(name).await.into_iter().map(|message| {
            let record: Value = serde_json::from_slice(&message.payload).unwrap();
            let text = record["text"].as_str().unwrap().to_owned();
            let token = match self.once {
                "subject" => message.subject.to_string(),
                _ => message.headers.get("Nats-Msg-Id").unwrap().to_string(),
            };
            Arrived { id: record["id"].as_i64().unwrap(), text, token }
        });
        arrived.collect()
    }

    fn unfit(&self) -> Option<String> {
        // The server takes 1 MB.
        Some("x".repeat(1 << 20))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_passes_the_suite_of_what_is_sent() {
    for once in ["message_id", "subject"] {
        let scene = Scene::new().await;
        sent::suite(&Streams { scene: &scene, once }).await;
        scene.clear().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_arrives_once_however_often_it_is_sent() {
    for once in ["message_id", "subject"] {
        let scene = two_streams(500).await;
        // A keeper that knows nothing of what was sent: all of it is sent again.
        for _ in 0..2 {
            let summary = moved(&scene, &Memory::default(), json!({ "once": once })).await.unwrap();
            assert_eq!((summary.totals.moved, summary.totals.set_aside), (500, 0), "{once}");
            assert_eq!(arrived(&scene).await, (0..500).collect::<Vec<_>>(), "{once}");
        }
        let keeper = Memory::default();
        moved(&scene, &keeper, json!({ "once": once })).await.unwrap();
        scene.fill("in", 500..510).await;
        let summary = moved(&scene, &keeper, json!({ "once": once })).await.unwrap();
        assert_eq!((summary.totals.moved, summary.totals.read), (10, 10), "{once}");
        assert_eq!(arrived(&scene).await, (0..510).collect::<Vec<_>>(), "{once}");
        assert!(keeper.batches().is_empty(), "a keeper is given no records");
        scene.clear().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_is_lost_doubles_nothing() {
    let place = Scene::new().await.url.rsplit('@').next().unwrap().to_owned();
    for once in ["message_id", "subject"] {
        for failure in [
            Failure::Unsent(b"HPUB".to_vec()),
            Failure::Unanswered(b"HPUB".to_vec()),
            Failure::Cut { bytes: 60_000 },
        ] {
            let scene = two_streams(800).await;
            let proxy = Proxy::before(place.clone()).await;
            let through = scene.url.replace(&place, &format!("127.0.0.1:{}", proxy.port()));
            proxy.fail(failure.clone());
            let keys = json!({ "once": once, "url": through });
            let keeper = Memory::default();
            let run = moved(&scene, &keeper, keys);
            let summary = tokio::time::timeout(Duration::from_secs(120), run).await.unwrap().unwrap();
            assert_eq!(proxy.happened(), 1, "{once}, {failure:?}: nothing was lost");
            assert_eq!(summary.totals.moved, 800, "{once}, {failure:?}");
            assert_eq!(arrived(&scene).await, (0..800).collect::<Vec<_>>(), "{once}, {failure:?}");
            scene.clear().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_does_not_take_is_set_aside() {
    let scene = Scene::new().await;
    scene.stream("in", Config::default()).await;
    scene.stream("out", Config { max_message_size: 200, ..Config::default() }).await;
    scene.fill("in", 0..3).await;
    let keeper = Memory::default();
    // A subject that the stream has not.
    let elsewhere = json!({ "subject": "hapax_nowhere.{id}" });
    let summary = moved(&scene, &keeper, elsewhere).await.unwrap();
    assert_eq!((summary.totals.moved, summary.totals.set_aside), (0, 3));
    assert!(keeper.letters().iter().all(|letter| letter.code == codes::UNCOVERED));
    // A subject that holds another record.
    let subject = format!("{}.1", scene.name("out"));
    scene.context.publish(subject, "{\"id\":1,\"note\":\"another\"}".into()).await.unwrap().await.unwrap();
    let keeper = Memory::default();
    let summary = moved(&scene, &keeper, json!({ "once": "subject" })).await.unwrap();
    assert_eq!((summary.totals.moved, summary.totals.set_aside), (2, 1));
    assert_eq!(keeper.letters()[0].code, codes::KEY_TAKEN);
    // A message that is larger than the stream takes.
    let long = format!("{{\"id\":7,\"note\":\"{}\"}}", "x".repeat(300));
    scene.put("in", "odd", PublishMessage::build().payload(long.into())).await;
    let source = scene.open("in", json!({ "schema": { "id": "int64", "note": "string" } })).await.unwrap();
    let keeper = Memory::default();
    let sink = Sink::Kept(Kept {
        target: target(&scene, json!({})).await.unwrap(),
        keeper: Arc::new(keeper.clone()),
    });
    moved_to(Arc::new(source), sink, Duplicates::Keep, Until::End, Stop::default()).await.unwrap();
    assert_eq!(keeper.letters().iter().map(|letter| letter.code).collect::<Vec<_>>(), [codes::UNHELD]);
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read_back() {
    let scene = two_streams(20).await;
    moved(&scene, &Memory::default(), json!({})).await.unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let source = target(&scene, json!({})).await.unwrap().read_back(schema).await.unwrap();
    let split = source.splits().await.unwrap().remove(0).id;
    let mut reader = source.open(&split, None).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = reader.read(WIDE).await.unwrap() {
        batches.push(batch.records);
    }
    assert_eq!(sorted(&batches), (0..20).collect::<Vec<_>>());
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_and_the_server_decide_what_is_promised() {
    let scene = Scene::new().await;
    let window = Duration::from_secs(600);
    scene.stream("out", Config { duplicate_window: window, ..Config::default() }).await;
    let out = target(&scene, json!({})).await.unwrap();
    assert!(matches!(out.repeat(), Repeat::Dropped { window: Window(600_000), .. }));
    assert!(out.readers().unwrap().contains("power loss"));
    let out = target(&scene, json!({ "once": "subject" })).await.unwrap();
    assert_eq!(out.repeat(), Repeat::Refused { for_good: true });
    assert!(out.readers().unwrap().contains("deny_purge"));
    let hour = Duration::from_secs(3600);
    let aged = Config { max_age: hour, deny_delete: true, deny_purge: true, ..Config::default() };
    scene.stream("aged", aged).await;
    scene.stream("sized", Config { max_bytes: 1 << 20, ..Config::default() }).await;
    let by_subject = |name: &str| json!({ "once": "subject", "stream": scene.name(name) });
    let aged = target(&scene, by_subject("aged")).await.unwrap();
    assert!(matches!(aged.repeat(), Repeat::Dropped { window: Window(3_600_000), .. }));
    assert!(!aged.readers().unwrap().contains("deny_purge"));
    let sized = target(&scene, by_subject("sized")).await.unwrap();
    assert_eq!(sized.repeat(), Repeat::Refused { for_good: false });
    let short = Duration::from_secs(3);
    for (name, config, more, expected) in [
        ("short", Config { duplicate_window: short, ..Config::default() }, json!({}), codes::NO_WINDOW),
        ("silent", Config { no_ack: true, ..Config::default() }, json!({}), codes::STREAM_UNFIT),
        (
            "work",
            Config { retention: RetentionPolicy::WorkQueue, ..Config::default() },
            json!({ "once": "subject" }),
            codes::STREAM_UNFIT,
        ),
    ] {
        scene.stream(name, config).await;
        let mut keys = more;
        keys["stream"] = scene.name(name).into();
        assert_eq!(target(&scene, keys).await.map(|_| ()), Err(expected), "{name}");
    }
    for (more, expected) in [
        (json!({ "stream": "hapax_none" }), codes::NO_STREAM),
        (json!({ "subject": "a.{id" }), codes::CONFIG),
        (json!({ "monitor": "http://127.0.0.1:1" }), codes::CONFIG),
    ] {
        assert_eq!(target(&scene, more.clone()).await.map(|_| ()), Err(expected), "{more}");
    }
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("region", DataType::Utf8, true),
    ]));
    let by = |subject: &str| json!({ "once": "subject", "subject": subject });
    for (more, key, fits) in [
        (by("o.{region}.{id}"), vec!["id", "region"], true),
        (by("o.{region}.{id}"), vec!["id"], false),
        (by("o.{id}"), vec!["id", "region"], false),
        (by("o.{region}{id}"), vec!["id", "region"], false),
        (by("o.{id}"), vec![], false),
        (json!({ "subject": "o.{other}" }), vec![], false),
        (json!({ "format": "raw" }), vec![], false),
    ] {
        let target = target(&scene, more.clone()).await.unwrap();
        let shape =
            Shape { schema: Arc::clone(&schema), key: key.iter().map(|key| (*key).to_owned()).collect() };
        let checked = target.check(&shape).await.map_err(|error| error.fault.code());
        assert_eq!(checked.is_ok(), fits, "{more} {key:?}");
        assert_eq!(target.prepare(&shape).await.is_ok(), fits);
        assert!(fits || checked == Err(codes::CONFIG));
    }
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_power_loss_costs_is_read_from_the_server() {
    for (sync, words) in [("always", None), ("30s", Some("every 30s"))] {
        let own = Own::start("nats", &[("HAPAX_NATS_SYNC", sync)]);
        let scene = Scene::at(own.says("url")).await;
        scene.stream("out", Config::default()).await;
        let told = target(&scene, json!({ "monitor": own.says("monitor") })).await.unwrap().readers();
        match words {
            None => assert_eq!(told, None),
            Some(words) => assert!(told.as_ref().is_some_and(|told| told.contains(words)), "{told:?}"),
        }
    }
}
