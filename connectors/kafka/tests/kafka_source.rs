//! Reading from a real broker.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "kafka_source/anew.rs"]
mod anew;
mod scene;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use hapax_conformance::source;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::{SourceError, SourceErrorKind};
use hapax_engine::source::{Shift, Source, SplitReader};
use hapax_kafka::codes;
use hapax_kafka::config::SourceConfig;
use hapax_kafka::source::Kafka;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Order, Replay, Retention, Window};
use hapax_protocol::identity::Place;
use hapax_protocol::position::SplitId;
use rdkafka::producer::Producer;
use scene::{PATIENCE, Scene, send};

const LIMIT: ReadLimit = ReadLimit { records_max: 1000, bytes_max: 1 << 24 };

fn config(scene: &Scene, settings: serde_json::Value) -> SourceConfig {
    let mut config =
        serde_json::json!({ "brokers": scene.brokers, "schema": { "id": "int64", "note": "string" } });
    config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    config.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    serde_json::from_value(config).unwrap()
}

async fn open(scene: &Scene, settings: serde_json::Value) -> Result<Kafka, SourceError> {
    Kafka::open(config(scene, settings)).await
}

fn bodies(ids: impl IntoIterator<Item = i64>) -> Vec<Vec<u8>> {
    ids.into_iter().map(|id| format!("{{\"id\": {id}, \"note\": \"no {id}\"}}").into_bytes()).collect()
}

fn write(scene: &Scene, topic: &str, partition: i32, ids: impl IntoIterator<Item = i64>) {
    let bodies = bodies(ids);
    scene.write(topic, bodies.iter().map(|body| (partition, None, Some(body.as_slice()))));
}

fn ids(batches: &[Batch]) -> Vec<i64> {
    let column = |batch: &Batch| batch.records.column(0).as_primitive::<Int64Type>().values().to_vec();
    batches.iter().flat_map(column).collect()
}

async fn rest(reader: &mut dyn SplitReader) -> Vec<Batch> {
    let mut batches = Vec::new();
    while let Some(batch) = reader.read(LIMIT).await.unwrap() {
        batches.push(batch);
    }
    batches
}

fn split(topic: &str, partition: i32) -> SplitId {
    SplitId::new(format!("{topic}[{partition}]"))
}

fn stops<T>(result: Result<T, SourceError>, code: Code) -> String {
    let error = result.err().expect("this must be refused");
    assert_eq!((error.fault.code(), error.kind), (code, SourceErrorKind::Stop), "{error}");
    format!("{error}\n{}", error.fault.help())
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_conform() {
    let scene = Scene::new();
    let (one, two) = (scene.topic("one", 3, &[]), scene.topic("two", 1, &[]));
    for partition in 0..2 {
        write(&scene, &one, partition, 0..400);
    }
    write(&scene, &two, 0, 0..200);
    scene.write(&two, [(0, None, Some(&b"no json"[..])), (0, Some(&b"k"[..]), None)]);
    let settings = serde_json::json!({ "topics": [one, two], "metadata": ["_key", "_offset", "_timestamp"] });
    let config = config(&scene, settings);
    source::suite(1002, async || Arc::new(Kafka::open(config.clone()).await.unwrap()) as Arc<dyn Source>)
        .await;

    let raw =
        serde_json::json!({ "pattern": format!("{}|x", &one[..one.len()]), "format": "raw", "schema": null });
    let raw = self::config(&scene, raw);
    source::suite(800, async || Arc::new(Kafka::open(raw.clone()).await.unwrap()) as Arc<dyn Source>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_topics_and_partitions_that_are_asked_for_are_read() {
    let scene = Scene::new();
    let topics = ["orders-1", "orders-2", "orders-1-late"].map(|name| scene.topic(name, 1, &[]));
    let four = scene.topic("four", 4, &[]);
    (0..3).for_each(|nth| write(&scene, &topics[nth], 0, [nth as i64]));
    (0..4).for_each(|partition| write(&scene, &four, partition, [i64::from(partition)]));
    let pattern = serde_json::json!({ "pattern": format!("{}[0-9]", topics[0].trim_end_matches('1')) });
    let fixed = serde_json::json!({ "topic": four, "partitions": [1, 2] });
    let by_pattern = [split(&topics[0], 0), split(&topics[1], 0)];
    for (settings, splits, wanted) in
        [(pattern, by_pattern, [0, 1]), (fixed, [split(&four, 1), split(&four, 2)], [1, 2])]
    {
        let source = open(&scene, settings).await.unwrap();
        let found: Vec<SplitId> = source.splits().await.unwrap().into_iter().map(|split| split.id).collect();
        assert_eq!(found, splits);
        let mut read = Vec::new();
        for split in &found {
            let mut reader = source.open(split, None).await.unwrap();
            read.extend(ids(&rest(reader.as_mut()).await));
        }
        assert_eq!(read, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_say_what_the_topic_keeps() {
    let scene = Scene::new();
    let plain = scene.topic("plain", 1, &[("retention.ms", "3600000")]);
    let forever = scene.topic("forever", 1, &[("retention.ms", "-1")]);
    let by_size = scene.topic("by-size", 1, &[("retention.ms", "-1"), ("retention.bytes", "1000000")]);
    let compacted = scene.topic("compacted", 1, &[("cleanup.policy", "compact")]);
    let facts =
        async |topic: &str| open(&scene, serde_json::json!({ "topic": topic })).await.unwrap().facts();
    let hour = facts(&plain).await;
    assert_eq!((hour.replay, hour.order), (Replay::Exact, Order::PerKey));
    assert_eq!(hour.retention, Retention::For(Window(3_600_000)));
    assert_eq!(facts(&forever).await.retention, Retention::Unbounded);
    assert!(facts(&by_size).await.condition.unwrap().contains("retention.bytes"));
    let facts_of_compacted = facts(&compacted).await;
    assert_eq!(facts_of_compacted.retention, Retention::Unbounded);
    assert!(facts_of_compacted.condition.unwrap().contains("compacted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_waits_for_what_comes_and_lag_counts_it() {
    let scene = Scene::new();
    let topic = scene.topic("t", 1, &[]);
    write(&scene, &topic, 0, 0..10);
    let source =
        open(&scene, serde_json::json!({ "topic": topic, "group": format!("{topic}-group") })).await.unwrap();
    let id = split(&topic, 0);
    assert_eq!(source.lag(&id, None).await.unwrap(), Some(10));
    let mut reader = source.open(&id, None).await.unwrap();
    let batches = rest(reader.as_mut()).await;
    assert_eq!(ids(&batches), (0..10).collect::<Vec<_>>());
    let through = &batches.last().unwrap().through;
    assert_eq!(source.lag(&id, Some(through)).await.unwrap(), Some(0));
    // Nothing comes, and a wait that is dropped moves nothing.
    assert!(tokio::time::timeout(Duration::from_millis(300), reader.more()).await.is_err());
    assert!(reader.read(LIMIT).await.unwrap().is_none());
    write(&scene, &topic, 0, 10..15);
    let mut found = Vec::new();
    while found.len() < 5 {
        tokio::time::timeout(PATIENCE, reader.more()).await.unwrap().unwrap();
        found.extend(ids(&rest(reader.as_mut()).await));
    }
    assert_eq!(found, (10..15).collect::<Vec<_>>());
    assert_eq!(source.lag(&id, Some(through)).await.unwrap(), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_is_not_read_and_an_open_transaction_is_not_waited_for() {
    let scene = Scene::new();
    let topic = scene.topic("t", 1, &[]);
    let producer = scene.producer(&[("transactional.id", &topic)]);
    producer.init_transactions(PATIENCE).unwrap();
    let transaction = |ids: std::ops::Range<i64>| {
        producer.begin_transaction().unwrap();
        bodies(ids).iter().for_each(|body| send(&producer, &topic, 0, None, Some(body), &[]));
        producer.flush(PATIENCE).unwrap();
    };
    transaction(0..5);
    producer.commit_transaction(PATIENCE).unwrap();
    transaction(100..105);
    producer.abort_transaction(PATIENCE).unwrap();
    transaction(5..8);
    producer.commit_transaction(PATIENCE).unwrap();
    transaction(200..205);
    let source = open(&scene, serde_json::json!({ "topic": topic })).await.unwrap();
    let mut reader = source.open(&split(&topic, 0), None).await.unwrap();
    let batches = rest(reader.as_mut()).await;
    assert_eq!(ids(&batches), (0..8).collect::<Vec<_>>());
    let ordinals: Vec<u64> =
        batches.iter().flat_map(|b| (0..b.records.num_rows()).map(|row| b.ordinals.of(row))).collect();
    assert_eq!(ordinals, [0, 1, 2, 3, 4, 12, 13, 14], "an ordinal is the offset");
    producer.commit_transaction(PATIENCE).unwrap();
    scene.settled(&topic);
    // From the position the rest comes, and the record before it is looked at again.
    let position = batches.last().unwrap().through.clone();
    let mut reader = source.open(&split(&topic, 0), Some(&position)).await.unwrap();
    assert_eq!(ids(&rest(reader.as_mut()).await), (200..205).collect::<Vec<_>>());
    let all =
        open(&scene, serde_json::json!({ "topic": topic, "isolation": "read_uncommitted" })).await.unwrap();
    let mut reader = all.open(&split(&topic, 0), None).await.unwrap();
    assert_eq!(ids(&rest(reader.as_mut()).await).len(), 18);
    assert!(all.facts().condition.unwrap().contains("transactions"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_beside_the_value_is_read() {
    let scene = Scene::new();
    let topic = scene.topic("t", 1, &[]);
    let producer = scene.producer(&[]);
    send(
        &producer,
        &topic,
        0,
        Some("ключ".as_bytes()),
        Some(b"{\"id\":1}"),
        &[("trace", Some(b"ab\"c")), ("none", None)],
    );
    send(&producer, &topic, 0, None, None, &[]);
    send(&producer, &topic, 0, Some(b"\xff"), Some(b"{\"id\":3}"), &[]);
    producer.flush(PATIENCE).unwrap();
    let all = ["_topic", "_partition", "_offset", "_key", "_timestamp", "_headers", "_deleted"];
    let source = open(&scene, serde_json::json!({ "topic": topic, "metadata": all })).await.unwrap();
    let mut reader = source.open(&split(&topic, 0), None).await.unwrap();
    let batches = rest(reader.as_mut()).await;
    let records =
        arrow::compute::concat_batches(&source.schema(), batches.iter().map(|b| &b.records)).unwrap();
    assert_eq!(records.num_rows(), 2);
    let text = |name: &str, row: usize| {
        let column = records.column_by_name(name).unwrap().as_string::<i32>();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    assert_eq!(
        (text("_topic", 0), text("_key", 0), text("_key", 1)),
        (Some(topic.clone()), Some("ключ".into()), None)
    );
    assert_eq!(text("_headers", 0).unwrap(), r#"[["trace","ab\"c"],["none",null]]"#);
    assert_eq!(text("_headers", 1).unwrap(), "[]");
    let deleted = records.column_by_name("_deleted").unwrap().as_boolean();
    assert_eq!((deleted.value(0), deleted.value(1)), (false, true));
    assert!(records.column(0).is_null(1));
    let at =
        records.column_by_name("_timestamp").unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
    assert!(at > 1_700_000_000_000_000);
    let rejected: Vec<_> = batches.iter().flat_map(|batch| &batch.rejected).collect();
    assert_eq!((rejected.len(), rejected[0].ordinal, rejected[0].code), (1, 2, codes::NOT_TEXT));
    assert!(rejected[0].reason.starts_with(&format!("{topic}[0] offset 2: ")), "{}", rejected[0].reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_no_record_is_rejected_and_may_be_read_again() {
    let scene = Scene::new();
    let topic = scene.topic("t", 1, &[]);
    scene.write(
        &topic,
        [(0, None, Some(&b"{\"id\": \"x\"}"[..])), (0, Some(&b"k"[..]), None), (0, None, Some(&b"\xff"[..]))],
    );
    let source = open(&scene, serde_json::json!({ "topic": topic })).await.unwrap();
    let mut reader = source.open(&split(&topic, 0), None).await.unwrap();
    let batches = rest(reader.as_mut()).await;
    let rejected: Vec<_> = batches.iter().flat_map(|batch| batch.rejected.clone()).collect();
    let found: Vec<_> = rejected.iter().map(|r| (r.ordinal, r.code, source.rejects_with(r.code))).collect();
    assert_eq!(
        found,
        [(0, codes::UNDECODABLE, true), (1, codes::TOMBSTONE, true), (2, codes::UNDECODABLE, true)]
    );
    assert_eq!(rejected[0].raw, "{\"id\": \"x\"}");
    let letter = DeadLetter {
        place: Place { split: split(&topic, 0), ordinal: 0 },
        code: rejected[0].code,
        reason: rejected[0].reason.clone(),
        raw: rejected[0].raw.clone(),
        set_aside_unix_ms: 0,
    };
    stops(source.reread(&letter).await, codes::LETTER_UNREADABLE);
    let text = serde_json::json!({ "topic": topic, "schema": { "id": "string", "note": "string" } });
    let again = open(&scene, text).await.unwrap().reread(&letter).await.unwrap();
    assert_eq!(again.column(0).as_string::<i32>().value(0), "x");
    scene.delete_before(&topic, 0, 1);
    stops(source.reread(&letter).await, codes::LETTER_UNREADABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_unread_stops_until_it_is_accepted() {
    let scene = Scene::new();
    let topic = scene.topic("t", 1, &[]);
    write(&scene, &topic, 0, 0..10);
    let settings = serde_json::json!({ "topic": topic });
    let source = open(&scene, settings.clone()).await.unwrap();
    let id = split(&topic, 0);
    let mut reader = source.open(&id, None).await.unwrap();
    let position = reader.read(ReadLimit { records_max: 4, ..LIMIT }).await.unwrap().unwrap().through;
    // What was read may be deleted.
    scene.delete_before(&topic, 0, 4);
    let mut reader = source.open(&id, Some(&position)).await.unwrap();
    assert_eq!(ids(&rest(reader.as_mut()).await), (4..10).collect::<Vec<_>>());
    scene.delete_before(&topic, 0, 7);
    let said = stops(source.open(&id, Some(&position)).await, codes::GAP);
    assert!(
        said.contains("offsets 4 to 6 are gone") && said.contains(&format!("accept_gap: {{ \"{id}\": 7 }}")),
        "{said}"
    );
    let mut accepting = settings;
    accepting["accept_gap"] = serde_json::json!({ id.as_str(): 7 });
    let accepts = open(&scene, accepting).await.unwrap();
    let mut reader = accepts.open(&id, Some(&position)).await.unwrap();
    let batches = rest(reader.as_mut()).await;
    assert_eq!((ids(&batches), batches[0].after.as_ref()), ((7..10).collect::<Vec<_>>(), Some(&position)));
    // The next gap is another one.
    scene.delete_before(&topic, 0, 8);
    stops(accepts.open(&id, Some(&position)).await, codes::GAP);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named() {
    let scene = Scene::new();
    let topic = scene.topic("t", 1, &[]);
    write(&scene, &topic, 0, 0..3);
    let refused = async |settings, code| stops(open(&scene, settings).await, code);
    refused(serde_json::json!({ "topic": "nowhere" }), codes::NO_TOPIC).await;
    refused(serde_json::json!({ "topic": topic, "partitions": [7] }), codes::NO_TOPIC).await;
    refused(serde_json::json!({ "pattern": "nowhere.*" }), codes::NO_TOPIC).await;
    refused(serde_json::json!({ "pattern": "(" }), codes::CONFIG).await;
    refused(serde_json::json!({}), codes::CONFIG).await;
    let forbidden = serde_json::json!({ "topic": topic, "options": { "enable.auto.commit": "true" } });
    refused(forbidden, codes::CONFIG).await;
    let secret = serde_json::json!({ "topic": topic, "options": { "ssl.key.passwordx": "geheim" } });
    assert!(!refused(secret, codes::CONFIG).await.contains("geheim"));
    let said = refused(serde_json::json!({ "topic": topic, "schema": null }), codes::NO_SCHEMA).await;
    assert!(said.contains("\"id\": int64\n  \"note\": string"), "{said}");
    let source = open(&scene, serde_json::json!({ "topic": topic })).await.unwrap();
    stops(source.open(&SplitId::new("other[0]"), None).await, codes::FOREIGN_POSITION);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_cannot_be_entered_is_named_without_secrets() {
    let mut away = config(&Scene::new(), serde_json::json!({ "topic": "t" }));
    away.brokers = "127.0.0.1:1".to_owned();
    let error = Kafka::open(away).await.err().unwrap();
    assert_eq!(
        (error.fault.code(), error.kind),
        (codes::UNREACHABLE, SourceErrorKind::Unavailable),
        "{error}"
    );

    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/services/kafka");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap().trim().to_owned();
    // The one beside which there is a listener that asks for a password.
    let scene = Scene::at(read("url"));
    let topic = scene.topic("t", 1, &[]);
    let secured = |password: &str| {
        let security = serde_json::json!({ "user": "hapax", "password": password });
        let mut config = config(&scene, serde_json::json!({ "topic": topic, "security": security }));
        config.brokers = read("sasl");
        config
    };
    Kafka::open(secured(&read("password"))).await.unwrap();
    let said = stops(Kafka::open(secured("falsch-geheim")).await, codes::CREDENTIALS);
    assert!(!said.contains("geheim"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_group_share_the_partitions_and_hand_them_over() {
    let scene = Scene::new();
    let topic = scene.topic("t", 4, &[]);
    let settings = serde_json::json!({
        "topic": topic, "group": format!("{topic}-members"),
        "options": { "heartbeat.interval.ms": "500" },
    });
    let mut fixed = settings.clone();
    fixed["partitions"] = serde_json::json!([1, 2]);
    assert!(open(&scene, fixed).await.unwrap().group().is_none(), "it would be given other partitions");
    let one = open(&scene, settings.clone()).await.unwrap();
    let first = one.group().unwrap();
    let mut has = BTreeSet::new();
    let shift = async |source: &Kafka| {
        tokio::time::timeout(PATIENCE, source.group().unwrap().shift()).await.expect("no shift").unwrap()
    };
    let note = |has: &mut BTreeSet<String>, shift: &Shift| match shift {
        Shift::Given(splits) => has.extend(splits.iter().map(|split| split.id.to_string())),
        Shift::AskedBack(splits) | Shift::Lost(splits) => splits.iter().for_each(|split| {
            has.remove(split.as_str());
        }),
    };
    while has.len() < 4 {
        note(&mut has, &shift(&one).await);
    }
    // A second member: some are asked back, and given to it only once they were.
    let two = open(&scene, settings.clone()).await.unwrap();
    let (mut others, mut asked_back) = (BTreeSet::new(), 0);
    while others.len() < 2 || has.len() > 2 {
        tokio::select! {
            shift = shift(&one) => {
                note(&mut has, &shift);
                if let Shift::AskedBack(splits) = &shift {
                    asked_back += splits.len();
                    assert!(splits.iter().all(|split| !others.contains(split.as_str())));
                    first.release(splits).await.unwrap();
                }
            }
            shift = shift(&two) => note(&mut others, &shift),
        }
    }
    assert!(has.is_disjoint(&others), "{has:?} {others:?}");
    assert_eq!(asked_back, 2, "what it keeps it goes on reading");
    // One leaves, and the other has all.
    first.leave().await.unwrap();
    while others.len() < 4 {
        note(&mut others, &shift(&two).await);
    }
    two.group().unwrap().leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_at_the_end_are_passed_so_that_nothing_seems_missing_once_they_are_gone() {
    let scene = Scene::new();
    let topic = scene.topic("t", 1, &[]);
    let producer = scene.producer(&[("transactional.id", &topic)]);
    producer.init_transactions(PATIENCE).unwrap();
    let transaction = |ids: std::ops::Range<i64>, commits: bool| {
        producer.begin_transaction().unwrap();
        bodies(ids).iter().for_each(|body| send(&producer, &topic, 0, None, Some(body), &[]));
        producer.flush(PATIENCE).unwrap();
        match commits {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    };
    transaction(0..5, true);
    transaction(100..103, false);
    scene.settled(&topic);
    let source = open(&scene, serde_json::json!({ "topic": topic })).await.unwrap();
    let id = split(&topic, 0);
    let mut reader = source.open(&id, None).await.unwrap();
    let batches = rest(reader.as_mut()).await;
    assert_eq!(ids(&batches), (0..5).collect::<Vec<_>>());
    let through = batches.last().unwrap().through.clone();
    // Offsets 5 and 9 are markers, 6 to 8 were taken back.
    assert_eq!(source.describe(&through), "offset 10");
    assert_eq!(source.lag(&id, Some(&through)).await.unwrap(), Some(0));
    // Whoever waits hears of a marker, too.
    transaction(5..6, true);
    tokio::time::timeout(PATIENCE, reader.more()).await.unwrap().unwrap();
    let mut moved = rest(reader.as_mut()).await;
    while source.describe(&moved.last().unwrap().through) != "offset 12" {
        tokio::time::timeout(PATIENCE, reader.more()).await.unwrap().unwrap();
        moved.extend(rest(reader.as_mut()).await);
    }
    assert_eq!(ids(&moved), [5]);
    // Nothing is deleted yet: the record before the position is read again, and the position stays.
    let again = moved.last().unwrap().through.clone();
    let mut reader = source.open(&id, Some(&again)).await.unwrap();
    assert!(reader.read(LIMIT).await.unwrap().is_none());
    scene.delete_before(&topic, 0, 12);
    let mut reader = source.open(&id, Some(&again)).await.unwrap();
    assert!(reader.read(LIMIT).await.unwrap().is_none());
    transaction(6..8, true);
    tokio::time::timeout(PATIENCE, reader.more()).await.unwrap().unwrap();
    assert_eq!(ids(&rest(reader.as_mut()).await), [6, 7]);
    // What is missing is still told from markers.
    scene.delete_before(&topic, 0, 13);
    let gap = stops(source.open(&id, Some(&again)).await, codes::GAP);
    assert!(gap.contains("12"), "{gap}");
}
