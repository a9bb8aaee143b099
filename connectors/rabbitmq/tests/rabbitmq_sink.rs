//! A queue of the real broker as sink, with a keeper in memory.
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

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use hapax_conformance::memory::Memory;
use hapax_conformance::proxy::{Failure, Proxy};
use hapax_conformance::queue::moved_to;
use hapax_conformance::sent::{self, Arrived};
use hapax_engine::batch::ReadLimit;
use hapax_engine::run::{Stop, Until};
use hapax_engine::sink::{Kept, Repeat, Sending, Sent, Shape, Sink, Target};
use hapax_engine::source::Source;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::InDoubt;
use hapax_protocol::identity::{Duplicates, RecordId, Token};
use hapax_protocol::position::SplitId;
use hapax_rabbitmq::codes;
use scene::Scene;
use serde_json::{Value, json};

const WIDE: ReadLimit = ReadLimit { records_max: 1 << 16, bytes_max: 1 << 26 };

async fn target(scene: &Scene, more: Value) -> Result<Arc<dyn Target>, Code> {
    let mut keys = json!({ "url": scene.url, "routing_key": scene.name("out") });
    for (key, value) in more.as_object().unwrap() {
        keys[key] = value.clone();
    }
    hapax_rabbitmq::sink::open(serde_json::from_value(keys).unwrap())
        .await
        .map_err(|error| error.fault.code())
}

fn records(ids: std::ops::Range<i64>) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    RecordBatch::try_from_iter([("id", ids)]).unwrap()
}

fn tokens(ids: std::ops::Range<i64>) -> Vec<Token> {
    ids.map(|id| Token(RecordId([u8::try_from(id % 251).unwrap(); 16]))).collect()
}

async fn sent(target: &Arc<dyn Target>, ids: std::ops::Range<i64>) -> Sent {
    let mut sender = target.sender(&SplitId::new("s")).await.unwrap();
    let (records, tokens) = (records(ids.clone()), tokens(ids));
    let sending = Sending { records: &records, tokens: &tokens, deadline: None };
    sender.send(sending).await.unwrap()
}

/// What the queue `out` holds: `message-id` and `id` of each.
async fn arrived(scene: &Scene) -> Vec<(String, i64)> {
    let source = scene.open("out", json!({ "metadata": ["message_id"] })).await.unwrap();
    let split = source.splits().await.unwrap().remove(0).id;
    let mut reader = source.open(&split, None).await.unwrap();
    let mut all = Vec::new();
    while let Some(batch) = reader.read(WIDE).await.unwrap() {
        assert_eq!(batch.rejected, []);
        let ids = batch.records.column(0).as_primitive::<Int64Type>();
        let names = batch.records.column(1).as_string::<i32>();
        all.extend((0..ids.len()).map(|row| (names.value(row).to_owned(), ids.value(row))));
    }
    all
}

/// An exchange, or the default one, with a queue behind it; with an id that the template makes, or one of Hapax's.
struct Queues<'a> {
    scene: &'a Scene,
    more: Value,
}

impl sent::Scene for Queues<'_> {
    async fn open(&self, name: &str) -> Arc<dyn Target> {
        if !self.scene.is_declared(name) {
            self.scene.declare(name, &[]).await;
        }
        let mut keys = json!({ "routing_key": self.scene.name(name) });
        for (key, value) in self.more.as_object().unwrap() {
            keys[key] = value.clone();
        }
        target(self.scene, keys).await.unwrap()
    }

    fn is_named_by_columns(&self) -> bool {
        self.more.get("message_id").is_some()
    }

    async fn state(&self, name: &str) -> Vec<Arrived> {
        let arrived = self.scene.looked_at(name).await.into_iter().map(|(token, body)| {
            let record: Value = serde_json::from_slice(&body).unwrap();
            let text = record["text"].as_str().unwrap().to_owned();
            Arrived { id: record["id"].as_i64().unwrap(), text, token }
        });
        arrived.collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_passes_the_suite_of_what_is_sent() {
    for more in [json!({}), json!({ "message_id": "order-{id}", "in_doubt": "hold" })] {
        let scene = Scene::new().await;
        sent::suite(&Queues { scene: &scene, more }).await;
        scene.clear().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_is_confirmed_and_has_an_id_that_stays() {
    let scene = Scene::new().await;
    scene.declare("out", &[]).await;
    let plain = target(&scene, json!({})).await.unwrap();
    assert_eq!(plain.repeat(), Repeat::Adds { in_doubt: InDoubt::Resend });
    assert!(plain.readers().unwrap().contains("message-id"));
    for _ in 0..2 {
        assert_eq!(sent(&plain, 0..100).await, Sent::default());
    }
    let all = arrived(&scene).await;
    assert_eq!(all.len(), 200, "a repeat adds another");
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 100, "and it has the id of the first");
    let named = target(&scene, json!({ "message_id": "order-{id}" })).await.unwrap();
    assert_eq!(sent(&named, 500..501).await, Sent::default());
    assert!(arrived(&scene).await.contains(&("order-500".to_owned(), 500)));
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_takes_and_no_message_holds_is_refused() {
    let scene = Scene::new().await;
    scene.declare("out", &[]).await;
    let nowhere = target(&scene, json!({ "routing_key": "hapax_nowhere_{id}" })).await.unwrap();
    let unroutable = sent(&nowhere, 0..3).await;
    assert_eq!(unroutable.unknown, [] as [usize; 0]);
    let codes_of =
        |sent: &Sent| sent.refused.iter().map(|refused| (refused.row, refused.code)).collect::<Vec<_>>();
    assert_eq!(
        codes_of(&unroutable),
        [(0, codes::UNROUTABLE), (1, codes::UNROUTABLE), (2, codes::UNROUTABLE)]
    );
    let long = format!("{}{{id}}", "x".repeat(255));
    let long = target(&scene, json!({ "message_id": long })).await.unwrap();
    assert_eq!(codes_of(&sent(&long, 0..1).await), [(0, codes::UNHELD)]);
    assert_eq!(arrived(&scene).await, []);
    for (more, expected) in [
        (json!({ "exchange": "hapax_no_exchange" }), codes::NO_QUEUE),
        (json!({ "routing_key": "a{" }), codes::CONFIG),
        (json!({ "url": "amqp://hapax:wrong@127.0.0.1:1" }), codes::GONE),
    ] {
        assert_eq!(target(&scene, more.clone()).await.map(|_| ()), Err(expected), "{more}");
    }
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let shape = Shape { schema: Arc::clone(&schema), key: Vec::new() };
    for more in
        [json!({ "routing_key": "{other}" }), json!({ "message_id": "{other}" }), json!({ "format": "raw" })]
    {
        let target = target(&scene, more).await.unwrap();
        assert_eq!(target.check(&shape).await.map_err(|error| error.fault.code()), Err(codes::CONFIG));
    }
    let error = target(&scene, json!({})).await.unwrap().read_back(schema).await.map(|_| ()).unwrap_err();
    assert_eq!(error.fault.code(), codes::NO_READ_BACK);
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_loses_nothing_and_the_ids_tell_repeats() {
    let place = Scene::new().await.url.rsplit('@').next().unwrap().to_owned();
    for (in_doubt, failure) in [
        ("resend", Failure::Cut { bytes: 30_000 }),
        ("resend", Failure::Unanswered(vec![0, 60, 0, 40])),
        ("hold", Failure::Cut { bytes: 30_000 }),
    ] {
        let scene = Scene::new().await;
        scene.declare("in", &[]).await;
        scene.declare("out", &[]).await;
        scene.fill("in", 0..600).await;
        let source: Arc<dyn Source> = Arc::new(scene.open("in", json!({})).await.unwrap());
        let proxy = Proxy::before(place.clone()).await;
        let through = scene.url.replace(&place, &format!("127.0.0.1:{}", proxy.port()));
        let keys = json!({ "url": through, "in_doubt": in_doubt, "message_id": "m{id}" });
        let target = target(&scene, keys).await.unwrap();
        proxy.fail(failure.clone());
        let keeper = Memory::default();
        let sink = Sink::Kept(Kept { target, keeper: Arc::new(keeper.clone()) });
        let run = moved_to(source, sink, Duplicates::Keep, Until::End, Stop::default());
        let ended = tokio::time::timeout(Duration::from_secs(120), run).await.unwrap();
        if in_doubt == "hold" {
            // What may have been sent is known by its place, and a queue gives no place twice.
            assert!(format!("{:?}", ended.unwrap_err()).contains("PlacesMove"));
        } else {
            ended.unwrap();
            assert_eq!(proxy.happened(), 1, "{failure:?}: nothing was lost");
            let all = arrived(&scene).await;
            let distinct: BTreeSet<_> = all.iter().collect();
            assert_eq!(distinct.len(), 600, "{failure:?}: something is missing");
        }
        scene.clear().await;
    }
}
