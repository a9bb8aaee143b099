//! What a broker refuses, and what it drops, on one whose settings are ours.
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
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use hapax_conformance::memory::Memory;
use hapax_conformance::queue::moved_to;
use hapax_conformance::server::Own;
use hapax_engine::batch::ReadLimit;
use hapax_engine::fault::{SinkErrorKind, SourceErrorKind};
use hapax_engine::run::{Stop, Until};
use hapax_engine::sink::{Kept, Sending, Sent, Sink, Target};
use hapax_engine::source::Source;
use hapax_protocol::identity::{Duplicates, RecordId, Token};
use hapax_protocol::position::SplitId;
use hapax_rabbitmq::codes;
use lapin::types::AMQPValue;
use scene::Scene;
use serde_json::{Value, json};

/// How large a body the broker takes.
const BODY_BYTES_MAX: usize = 2_000;

const WIDE: ReadLimit = ReadLimit { records_max: 1 << 16, bytes_max: 1 << 26 };

/// A broker that the tests of this file share while one of them runs.
fn broker() -> Arc<Own> {
    static RUNNING: Mutex<Weak<Own>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap();
    running.upgrade().unwrap_or_else(|| {
        let limit = BODY_BYTES_MAX.to_string();
        let own = Arc::new(Own::start("rabbitmq", &[("HAPAX_RABBITMQ_MESSAGE_BYTES_MAX", &limit)]));
        *running = Arc::downgrade(&own);
        own
    })
}

/// Puts something at a path of the management API.
fn put(own: &Own, path: &str, body: &Value) {
    let url = format!("{}/api/{path}", own.says("management"));
    let output = Command::new("curl").args(["-fsS", "-X", "PUT", "-d", &body.to_string(), &url]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{path}: {output:?}");
}

/// The broker's URL for a user who may do just this.
fn user(own: &Own, name: &str, write: &str, read: &str) -> String {
    put(own, &format!("users/{name}"), &json!({ "password": "word", "tags": "management" }));
    put(own, &format!("permissions/%2F/{name}"), &json!({ "configure": "", "write": write, "read": read }));
    let url = own.says("url");
    let (_, place) = url.rsplit_once('@').unwrap();
    format!("amqp://{name}:word@{place}")
}

async fn target(scene: &Scene, more: Value) -> Arc<dyn Target> {
    let mut keys = json!({ "url": scene.url, "routing_key": scene.name("out"), "message_id": "m{id}" });
    for (key, value) in more.as_object().unwrap() {
        keys[key] = value.clone();
    }
    hapax_rabbitmq::sink::open(serde_json::from_value(keys).unwrap()).await.unwrap()
}

/// 60 records, of which those whose number ends with 7 are too large.
fn records() -> RecordBatch {
    let text = |id: i64| "x".repeat(if id % 10 == 7 { BODY_BYTES_MAX } else { 20 });
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..60));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..60).map(text)));
    RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap()
}

async fn send(target: &Arc<dyn Target>, records: &RecordBatch) -> Sent {
    let tokens: Vec<Token> = (0..records.num_rows()).map(|row| Token(RecordId([row as u8; 16]))).collect();
    let mut sender = target.sender(&SplitId::new("s")).await.unwrap();
    sender.send(Sending { records, tokens: &tokens, deadline: None }).await.unwrap()
}

async fn arrived(scene: &Scene) -> Vec<i64> {
    let schema = json!({ "schema": { "id": "int64", "text": "string" } });
    let source = scene.open("out", schema).await.unwrap();
    let split = source.splits().await.unwrap().remove(0).id;
    let mut reader = source.open(&split, None).await.unwrap();
    let mut all = Vec::new();
    while let Some(batch) = reader.read(WIDE).await.unwrap() {
        all.extend(batch.records.column(0).as_primitive::<Int64Type>().values());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_larger_than_the_broker_takes_is_set_aside_and_the_others_arrive() {
    let own = broker();
    let large: Vec<usize> = (0..60).filter(|row| row % 10 == 7).collect();
    for in_doubt in ["resend", "hold"] {
        let scene = Scene::at(own.says("url"), "classic").await;
        scene.declare("out", &[]).await;
        let target = target(&scene, json!({ "in_doubt": in_doubt })).await;
        // The broker says how much it takes when it is given more, and closes the channel: what it had not confirmed is in
        // doubt, and what stood behind that message never arrived.
        let first = send(&target, &records()).await;
        let refused = |sent: &Sent| -> Vec<usize> {
            let all = sent.refused.iter();
            all.inspect(|one| assert_eq!(one.code, codes::TOO_LARGE, "{one:?}"))
                .inspect(|one| assert!(one.reason.contains("at most 2000"), "{one:?}"))
                .map(|one| one.row)
                .collect()
        };
        assert_eq!(refused(&first), large, "{in_doubt}: {first:?}");
        if in_doubt == "hold" {
            let there: BTreeSet<i64> = arrived(&scene).await.into_iter().collect();
            let certain = (0..60).filter(|row| !large.contains(row) && !first.unknown.contains(row));
            let missing: Vec<usize> = certain.filter(|row| !there.contains(&(*row as i64))).collect();
            assert_eq!(missing, [] as [usize; 0], "what is not in doubt arrived: {first:?}");
            assert!(
                first.unknown.iter().all(|row| *row < 57),
                "behind the last large one none is: {first:?}"
            );
        }
        // From now on it is known, also by another sender, and none is in doubt.
        let again = send(&target, &records()).await;
        assert_eq!((refused(&again), again.unknown), (large.clone(), vec![]), "{in_doubt}");
        let there = arrived(&scene).await;
        let distinct: BTreeSet<i64> = there.iter().copied().collect();
        let expected: BTreeSet<i64> = (0..60).filter(|id| id % 10 != 7).collect();
        assert_eq!(distinct, expected, "{in_doubt}");
        scene.clear().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_sets_aside_what_is_too_large_and_goes_on() {
    let own = broker();
    // The broker that it comes from takes more.
    let (from, to) = (Scene::new().await, Scene::at(own.says("url"), "classic").await);
    from.declare("in", &[]).await;
    to.declare("out", &[]).await;
    for id in 0..60 {
        let text = "x".repeat(if id % 10 == 7 { BODY_BYTES_MAX } else { 20 });
        from.put("in", Some(&format!("m{id}")), json!({ "id": id, "text": text }).to_string().as_bytes())
            .await;
    }
    let schema = json!({ "schema": { "id": "int64", "text": "string" } });
    let source: Arc<dyn Source> = Arc::new(from.open("in", schema).await.unwrap());
    let keeper = Memory::default();
    let target = target(&to, json!({})).await;
    let sink = Sink::Kept(Kept { target, keeper: Arc::new(keeper.clone()) });
    let run = moved_to(source, sink, Duplicates::Keep, Until::End, Stop::default());
    let summary = run.await.unwrap();
    assert_eq!((summary.totals.moved, summary.totals.set_aside), (54, 6));
    assert!(keeper.letters().iter().all(|letter| letter.code == codes::TOO_LARGE), "{:?}", keeper.letters());
    let distinct: BTreeSet<i64> = arrived(&to).await.into_iter().collect();
    assert_eq!(distinct, (0..60).filter(|id| id % 10 != 7).collect(), "something is missing");
    assert_eq!(from.holds("in").await, 0);
    from.clear().await;
    to.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_is_told_what_is_missing() {
    let own = broker();
    let scene = Scene::at(own.says("url"), "classic").await;
    scene.declare("q", &[]).await;
    scene.fill("q", 0..3).await;
    let (q, nothing) = (scene.name("q"), "^$");

    // Who may not read does not begin, and takes nothing.
    let source = scene.open("q", json!({ "url": user(&own, "writes", ".*", nothing) })).await;
    let began = match source {
        Ok(source) => {
            let split = source.splits().await.unwrap().remove(0).id;
            source.open(&split, None).await.map(|_| ())
        }
        Err(error) => Err(error),
    };
    let error = began.expect_err("it reads");
    assert_eq!((error.kind, error.fault.code()), (SourceErrorKind::Stop, codes::DENIED), "{error}");
    assert!(error.to_string().contains(&q) && !error.to_string().contains("word"), "{error}");
    assert!(error.fault.help().contains("`read`"), "{}", error.fault.help());

    // Who may not write sends nothing. Reading is no permission to write, and `configure` is never needed.
    let url = user(&own, "reads", nothing, ".*");
    let keys = json!({ "url": url, "routing_key": q });
    let target = hapax_rabbitmq::sink::open(serde_json::from_value(keys).unwrap()).await.unwrap();
    let mut sender = target.sender(&SplitId::new("s")).await.unwrap();
    let sending = Sending { records: &records().slice(0, 5), tokens: &[], deadline: None };
    let error = sender.send(sending).await.expect_err("it writes");
    assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Stop, codes::DENIED), "{error}");
    assert!(error.fault.help().contains("`write`"), "{}", error.fault.help());

    // The permissions of docs/connectors/rabbitmq.md do.
    let source = scene.open("q", json!({ "url": user(&own, "source", "", &q) })).await.unwrap();
    let split = source.splits().await.unwrap().remove(0).id;
    let mut reader = source.open(&split, None).await.unwrap();
    let mut read = 0;
    while let Some(batch) = reader.read(WIDE).await.unwrap() {
        read += batch.records.num_rows();
    }
    assert_eq!(read, 3);
    drop(reader);
    let keys = json!({ "url": user(&own, "sink", "amq.default", ""), "routing_key": q });
    let target = hapax_rabbitmq::sink::open(serde_json::from_value(keys).unwrap()).await.unwrap();
    assert_eq!(send(&target, &records().slice(0, 5)).await, Sent::default());
    assert_eq!(scene.holds("q").await, 8);
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_delivery_limit_is_read_and_is_what_the_broker_does() {
    let own = broker();
    let scene = Scene::at(own.says("url"), "quorum").await;
    let address = own.says("management");
    let address = format!("http://{}", address.rsplit_once('@').unwrap().1);
    let limit = AMQPValue::LongLongInt(2);
    scene.declare("q", &[("x-queue-type", scene.kind()), ("x-delivery-limit", limit.clone())]).await;
    scene.declare("dead", &[]).await;
    let letters = [
        ("x-queue-type", scene.kind()),
        ("x-delivery-limit", limit),
        ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
        ("x-dead-letter-routing-key", AMQPValue::LongString(scene.name("dead").into())),
    ];
    scene.declare("kept", &letters).await;
    scene.declare("endless", &[("x-queue-type", scene.kind())]).await;
    scene.declare("classic", &[]).await;
    let management = json!({ "management": address });
    let note = async |name: &str| scene.open(name, management.clone()).await.unwrap().notes().join("\n");
    let said = note("q").await;
    assert!(said.contains("delivery limit of 2: ") && said.contains("comes back 3 times"), "{said}");
    assert!(said.contains("drops it: it has no dead-letter exchange"), "{said}");
    assert!(note("kept").await.contains("by its default exchange to where it has dead letters"));
    assert!(note("endless").await.contains("without a delivery limit"));
    assert!(note("classic").await.contains("is a classic queue"));
    // A policy counts, too, and the lesser of both.
    let policy = json!({ "pattern": format!("^{}$", scene.name("q")), "definition": { "delivery-limit": 1 }, "apply-to": "queues" });
    put(&own, &format!("policies/%2F/{}", scene.name("q")), &policy);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !note("q").await.contains("delivery limit of 1: ") {
        assert!(std::time::Instant::now() < until, "{}", note("q").await);
    }
    assert_eq!(scene.open("q", json!({})).await.unwrap().notes(), [] as [String; 0]);
    // Who does not answer keeps nobody from reading.
    let away =
        scene.open("q", json!({ "management": "http://127.0.0.1:1" })).await.unwrap().notes().join("\n");
    assert!(away.contains("does not say whether it counts deliveries") && away.contains("refused"), "{away}");
    for (url, reason) in
        [("https://127.0.0.1:1", "http://host:port"), ("http://u:p@127.0.0.1:1", "without a user")]
    {
        let error = scene.open("q", json!({ "management": url })).await.map(|_| ()).unwrap_err();
        assert_eq!(error.fault.code(), codes::CONFIG);
        assert!(error.to_string().contains(reason), "{error}");
    }

    // The broker does what was said: with a limit of 2, a message that came back twice is given out once more.
    for (name, left) in [("kept", 0), ("endless", 5)] {
        scene.fill(name, 0..5).await;
        for returned in 0..4 {
            let source = scene.open(name, json!({ "metadata": ["delivery_count"] })).await.unwrap();
            let split = source.splits().await.unwrap().remove(0).id;
            let mut reader = source.open(&split, None).await.unwrap();
            let mut counts = Vec::new();
            while let Some(batch) = reader.read(WIDE).await.unwrap() {
                counts.extend(
                    batch.records.column(1).as_primitive::<Int64Type>().iter().map(|n| n.unwrap_or(0)),
                );
            }
            let expected = if name == "endless" || returned < 3 { vec![returned; 5] } else { vec![] };
            assert_eq!(counts, expected, "{name}, returned {returned} times");
            drop(reader);
            let there = if name == "kept" && returned >= 2 { 0 } else { 5 };
            let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
            while scene.holds(name).await != there {
                assert!(std::time::Instant::now() < until, "{name}: it does not hold {there}");
            }
        }
        assert_eq!(scene.holds(name).await, left, "{name}");
    }
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while scene.waiting("dead").await < 5 {
        assert!(std::time::Instant::now() < until, "the dead letters do not arrive");
    }
    scene.clear().await;
}
