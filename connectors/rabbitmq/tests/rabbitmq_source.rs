//! A queue of the real broker as source.
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

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use hapax_conformance::memory::Memory;
use hapax_conformance::proxy::{Failure, Proxy};
use hapax_conformance::queue::{self, Subject, moved, sorted};
use hapax_engine::batch::ReadLimit;
use hapax_engine::fault::SourceErrorKind;
use hapax_engine::run::{Stop, Until};
use hapax_engine::source::Source;
use hapax_protocol::identity::Duplicates;
use hapax_protocol::position::Position;
use hapax_rabbitmq::codes;
use lapin::types::AMQPValue;
use scene::Scene;
use serde_json::json;

const WIDE: ReadLimit = ReadLimit { records_max: 1 << 16, bytes_max: 1 << 26 };

struct Queues<'a>(&'a Scene);

impl Subject for Queues<'_> {
    async fn create(&self, name: &str) {
        self.0.declare(name, &[("x-queue-type", self.0.kind())]).await;
    }

    async fn publish(&self, name: &str, ids: std::ops::Range<i64>) {
        self.0.fill(name, ids).await;
    }

    async fn spoil(&self, name: &str) {
        self.0.put(name, Some("spoiled"), b"{\"id\":\"not a number\"}").await;
    }

    async fn open(&self, name: &str, workers: u16) -> Arc<dyn Source> {
        Arc::new(self.0.open(name, json!({ "workers": workers, "prefetch": 500 })).await.unwrap())
    }

    async fn holds(&self, name: &str) -> u64 {
        self.0.holds(name).await
    }

    async fn waits(&self, name: &str) -> u64 {
        self.0.waiting(name).await
    }

    fn in_hand_max(&self) -> u64 {
        500
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classic_queue_passes_the_suite() {
    let scene = Scene::new().await;
    queue::suite(&Queues(&scene)).await;
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_queue_passes_the_suite() {
    let scene = Scene::at(hapax_conformance::server::rabbitmq(), "quorum").await;
    queue::suite(&Queues(&scene)).await;
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_prefetch_waits_for_commits_and_does_not_end_early() {
    let scene = Scene::new().await;
    scene.declare("q", &[]).await;
    scene.fill("q", 0..100).await;
    let source = Arc::new(scene.open("q", json!({ "prefetch": 7 })).await.unwrap());
    let memory = Memory::default();
    let summary = moved(source, &memory, Duplicates::Drop, Until::End, Stop::default()).await.unwrap();
    assert_eq!(summary.totals.moved, 100);
    assert!(summary.commits > 10, "{summary:?}");
    assert_eq!(scene.holds("q").await, 0);
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_beside_a_body_becomes_columns() {
    let scene = Scene::at(hapax_conformance::server::rabbitmq(), "quorum").await;
    scene.declare("q", &[("x-queue-type", scene.kind())]).await;
    scene.put("q", Some("first"), br#"{"id":1}"#).await;
    scene.put("q", None, br#"{"id":2}"#).await;
    let metadata = json!(["message_id", "routing_key", "exchange", "timestamp", "delivery_count"]);
    let source = scene.open("q", json!({ "metadata": metadata })).await.unwrap();
    let split = source.splits().await.unwrap().remove(0);
    for round in 0..2 {
        let mut reader = source.open(&split.id, None).await.unwrap();
        let mut all = Vec::new();
        while let Some(batch) = reader.read(WIDE).await.unwrap() {
            all.push(batch);
        }
        let rejected: Vec<_> = all.iter().flat_map(|batch| batch.rejected.clone()).collect();
        assert_eq!(rejected.len(), 1, "a message without an id is told by none");
        assert_eq!((rejected[0].code, rejected[0].id), (codes::NO_MESSAGE_ID, None));
        let records = &all.iter().find(|batch| batch.records.num_rows() == 1).unwrap().records;
        let text = |name: &str| records.column_by_name(name).unwrap().as_string::<i32>().value(0).to_owned();
        assert_eq!((text("_message_id"), text("_exchange")), ("first".to_owned(), String::new()));
        assert_eq!(text("_routing_key"), scene.name("q"));
        let at = records.column_by_name("_timestamp").unwrap().as_primitive::<TimestampMicrosecondType>();
        assert_eq!(at.value(0), 1_700_000_000_000_000);
        let count = records.column_by_name("_delivery_count").unwrap().as_primitive::<Int64Type>();
        assert_eq!(if count.is_valid(0) { count.value(0) } else { 0 }, round, "a quorum queue counts");
    }
    scene.holds("q").await;
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_has_its_own_error() {
    let scene = Scene::new().await;
    scene.declare("q", &[]).await;
    let with = |from: &str, to: &str| json!({ "url": scene.url.replace(from, to) });
    let password = scene.url.split(['@', ':']).nth(2).unwrap().to_owned();
    let port = scene.url.rsplit(':').next().unwrap().to_owned();
    for (name, more, expected) in [
        ("none", json!({}), codes::NO_QUEUE),
        ("q", with(&password, "wrong"), codes::WRONG_PASSWORD),
        ("q", json!({ "url": format!("{}/nowhere", scene.url) }), codes::NO_VHOST),
        ("q", with(&port, "1"), codes::GONE),
        ("q", with("amqp://", "http://"), codes::BAD_URL),
        ("q", json!({ "prefetch": 0 }), codes::CONFIG),
        ("q", json!({ "workers": 65 }), codes::CONFIG),
        ("q", json!({ "schema": null }), codes::CONFIG),
        ("q", json!({ "format": "raw" }), codes::CONFIG),
        ("q", json!({ "schema": { "_id": "int64" } }), codes::CONFIG),
    ] {
        assert_eq!(scene.refusal(name, more.clone()).await, expected, "{more}");
    }
    let error = scene.open("q", with(&password, "wrong")).await.map(|_| ()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(&password));
    let source = scene.open("q", json!({})).await.unwrap();
    let split = source.splits().await.unwrap().remove(0).id;
    let foreign = Position::new([9_u8].as_slice());
    let error = source.open(&split, Some(&foreign)).await.map(|_| ()).unwrap_err();
    assert_eq!(error.fault.code(), codes::FOREIGN_POSITION);
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_refused_at_its_first_message() {
    let scene = Scene::new().await;
    scene.declare("s", &[("x-queue-type", AMQPValue::LongString("stream".into()))]).await;
    scene.fill("s", 0..3).await;
    let source = scene.open("s", json!({})).await.unwrap();
    let split = source.splits().await.unwrap().remove(0).id;
    let mut reader = source.open(&split, None).await.unwrap();
    let error = loop {
        match reader.read(WIDE).await {
            Ok(Some(batch)) => panic!("a stream was read: {batch:?}"),
            Ok(None) => {}
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind, error.fault.code()), (SourceErrorKind::Stop, codes::STREAM));
    drop(reader);
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_under_us_stops_the_run() {
    let scene = Scene::new().await;
    scene.declare("q", &[]).await;
    let source = Arc::new(scene.open("q", json!({})).await.unwrap());
    let (memory, stop) = (Memory::default(), Stop::default());
    let run =
        tokio::spawn(async move { moved(source, &memory, Duplicates::Drop, Until::Stopped, stop).await });
    scene.fill("q", 0..10).await;
    while scene.waiting("q").await > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    scene.delete("q").await;
    let error = tokio::time::timeout(Duration::from_secs(120), run).await.unwrap().unwrap().unwrap_err();
    assert!(format!("{error:?}").contains("Missing"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_is_lost_and_a_line_that_breaks_move_nothing_twice() {
    let scene = Scene::new().await;
    let place = scene.url.rsplit('@').next().unwrap().to_owned();
    // class basic, method ack.
    let ack = [0, 60, 0, 80];
    for failure in
        [Failure::Unsent(ack.to_vec()), Failure::Unanswered(ack.to_vec()), Failure::Cut { bytes: 20_000 }]
    {
        let name = format!("{failure:?}").chars().filter(char::is_ascii_alphabetic).collect::<String>();
        scene.declare(&name, &[]).await;
        scene.fill(&name, 0..400).await;
        let proxy = Proxy::before(place.clone()).await;
        let through = scene.url.replace(&place, &format!("127.0.0.1:{}", proxy.port()));
        let source = Arc::new(scene.open(&name, json!({ "url": through })).await.unwrap());
        proxy.fail(failure.clone());
        let memory = Memory::default();
        let run = moved(source, &memory, Duplicates::Drop, Until::End, Stop::default());
        let summary = tokio::time::timeout(Duration::from_secs(120), run).await.unwrap().unwrap();
        assert_eq!(proxy.happened(), 1, "{failure:?}: nothing was lost");
        assert_eq!(summary.totals.moved, 400, "{failure:?}");
        assert_eq!(sorted(&memory.batches()), (0..400).collect::<Vec<_>>(), "{failure:?}");
        assert_eq!(scene.holds(&name).await, 0, "{failure:?}");
    }
    scene.clear().await;
}
