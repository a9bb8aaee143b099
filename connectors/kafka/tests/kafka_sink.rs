//! Writing to a real broker.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "sink/lost.rs"]
mod lost;
mod scene;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use hapax_conformance::sink;
use hapax_engine::batch::ReadLimit;
use hapax_engine::fault::{SinkError, SinkErrorKind};
use hapax_engine::sink::{CoCommit, CoCommitSink, Shape, Sink};
use hapax_kafka::codes;
use hapax_protocol::code::Code;
use hapax_protocol::lease::{Applicant, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Position, SplitId, Standing, Totals};
use rdkafka::Message;
use rdkafka::producer::Producer;
use scene::{PATIENCE, Scene};

/// A topic for each destination of the suite, and one for its state.
struct Topics(Scene);

fn name() -> PipelineName {
    PipelineName::new("conformance").unwrap()
}

impl sink::Subject for Topics {
    async fn open(&self, name: &str) -> Sink {
        let (topic, state) = (self.0.name(name), self.0.name(&format!("{name}-state")));
        let config = serde_json::json!({
            "brokers": self.0.brokers, "topic": topic, "state": state, "key": ["id"], "create": { "partitions": 3 },
        });
        hapax_kafka::sink::open(serde_json::from_value(config).unwrap(), &self::name()).unwrap()
    }

    fn ids(&self, name: &str) -> Vec<i64> {
        // Some of what is looked at is open, and stays so.
        let (topic, start) = (self.0.name(name), std::time::Instant::now());
        while !self.0.is_settled(&topic) && start.elapsed().as_secs() < 3 {}
        ids_in(&self.0, name)
    }
}

/// The ids in the messages that a reader sees now, in their order.
fn ids_in(scene: &Scene, name: &str) -> Vec<i64> {
    let messages = scene.messages(&scene.name(name));
    let id = |message: &rdkafka::message::OwnedMessage| {
        serde_json::from_slice::<serde_json::Value>(message.payload().unwrap()).unwrap()["id"].as_i64()
    };
    let mut ids: Vec<i64> = messages.iter().map(|message| id(message).unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_conforms() {
    sink::suite(&Topics(Scene::new())).await;
}

type Columns = Vec<(&'static str, ArrayRef)>;

fn batch(columns: Columns) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

fn open(scene: &Scene, settings: serde_json::Value) -> Arc<dyn CoCommitSink> {
    let state = scene.name("state");
    let mut config = serde_json::json!({
        "brokers": scene.brokers, "topic": scene.name("t"), "state": state, "create": { "partitions": 7 },
    });
    config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    config.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    match hapax_kafka::sink::open(serde_json::from_value(config).unwrap(), &name()).unwrap() {
        Sink::CoCommit(sink) => sink,
        _ => panic!("positions are kept"),
    }
}

async fn acquire(sink: &Arc<dyn CoCommitSink>) -> Result<Lease, SinkError> {
    let applicant = Applicant { pipeline: name(), holder: "test".into(), definition: "one".into() };
    sink.acquire(&applicant).await
}

async fn taken(sink: &Arc<dyn CoCommitSink>, split: &str, lease: &Lease) -> (Box<dyn CoCommit>, Standing) {
    let mut writer = sink.writer(&SplitId::new(split)).await.unwrap();
    let standing = writer.take_over(lease).await.unwrap();
    (writer, standing)
}

fn next(standing: &Standing) -> Checkpoint {
    let through = Position::new(standing.epoch.next().get().to_be_bytes().as_slice());
    Checkpoint {
        after: standing.position.clone(),
        through,
        epoch: standing.epoch.next(),
        totals: Totals::default(),
        again: Vec::new(),
        made_unix_ms: 0,
    }
}

/// Writes records in a run of their own. Returns what was refused.
async fn written(
    scene: &Scene,
    settings: serde_json::Value,
    key: &[&str],
    records: &RecordBatch,
) -> Result<Vec<(usize, Code)>, SinkError> {
    let sink = open(scene, settings);
    let key = key.iter().map(|column| (*column).to_owned()).collect();
    let shape = Shape { schema: records.schema(), key };
    sink.check(&shape).await?;
    sink.prepare(&shape).await?;
    let lease = acquire(&sink).await?;
    let (mut writer, standing) = taken(&sink, "s", &lease).await;
    let refused = writer.write(records).await?;
    writer.commit(&next(&standing)).await.unwrap();
    Ok(refused.into_iter().map(|refused| (refused.row, refused.code)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_choose_partitions_as_java_clients_do_and_no_value_is_a_tombstone() {
    let scene = Scene::new();
    let records = batch(vec![
        ("k", Arc::new(StringArray::from(vec![Some("foobar"), Some("21"), None, Some("gone")]))),
        ("n", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ("_deleted", Arc::new(BooleanArray::from(vec![None, Some(false), Some(false), Some(true)]))),
    ]);
    let settings = serde_json::json!({ "tombstone": "_deleted" });
    let refused = written(&scene, settings.clone(), &["k"], &records).await.unwrap();
    assert_eq!(refused, [(2, codes::KEY_NULL)]);
    let mut messages = scene.settled(&scene.name("t"));
    messages.sort_by_key(|message| message.key().unwrap().to_vec());
    let found: Vec<_> = messages.iter().map(|m| (m.key().unwrap(), m.payload(), m.partition())).collect();
    // murmur2 as in Kafka's own tests: "21" gives -973932308, "foobar" -790332482.
    let partition = |hash: i32| (hash & 0x7fff_ffff) % 7;
    assert_eq!(found[0], (&b"21"[..], Some(&br#"{"k":"21","n":2}"#[..]), partition(-973_932_308)));
    assert_eq!(found[1], (&b"foobar"[..], Some(&br#"{"k":"foobar","n":1}"#[..]), partition(-790_332_482)));
    assert_eq!((found[2].0, found[2].1), (&b"gone"[..], None));
    // A reader of Hapax sees them again.
    let sink = open(&scene, settings);
    let schema = batch(vec![
        ("_deleted", Arc::new(BooleanArray::from(vec![true]))),
        ("n", Arc::new(Int64Array::from(vec![1]))),
        ("k", Arc::new(StringArray::from(vec!["x"]))),
    ])
    .schema();
    let back = sink.read_back(schema.clone()).await.unwrap();
    let mut rows = 0;
    for split in back.splits().await.unwrap() {
        let mut reader = back.open(&split.id, None).await.unwrap();
        while let Some(batch) = reader.read(ReadLimit { records_max: 10, bytes_max: 1 << 20 }).await.unwrap()
        {
            assert_eq!((batch.records.schema(), batch.rejected.len()), (schema.clone(), 0));
            rows += batch.records.num_rows();
        }
    }
    assert_eq!(rows, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_several_columns_are_objects_and_bytes_pass_as_they_are() {
    let scene = Scene::new();
    let records = batch(vec![
        ("a", Arc::new(Int64Array::from(vec![1]))),
        ("b", Arc::new(StringArray::from(vec!["x"]))),
    ]);
    assert_eq!(written(&scene, serde_json::json!({}), &["a", "b"], &records).await.unwrap(), []);
    let messages = scene.settled(&scene.name("t"));
    assert_eq!(messages[0].key().unwrap(), br#"{"a":1,"b":"x"}"#);

    let scene = Scene::new();
    let records = batch(vec![
        ("body", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None]))),
        ("_key_bytes", Arc::new(BinaryArray::from(vec![&b"\xfe"[..], b"k"]))),
    ]);
    let settings = serde_json::json!({ "format": "raw", "key": ["_key_bytes"] });
    assert_eq!(written(&scene, settings, &[], &records).await.unwrap(), []);
    let mut found: Vec<_> = scene.settled(&scene.name("t"));
    found.sort_by_key(|message| message.key().unwrap().to_vec());
    assert_eq!((found[0].key(), found[0].payload()), (Some(&b"k"[..]), None));
    assert_eq!((found[1].key(), found[1].payload()), (Some(&b"\xfe"[..]), Some(&b"\x00\xff"[..])));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_message_cannot_hold_is_refused() {
    let scene = Scene::new();
    scene.topic("t", 1, &[("max.message.bytes", "20000")]);
    let long = "x".repeat(30_000);
    let records = batch(vec![
        ("f", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), None]))),
        ("s", Arc::new(StringArray::from(vec![Some("ok"), Some("ok"), Some(&long)]))),
    ]);
    let refused = written(&scene, serde_json::json!({}), &[], &records).await.unwrap();
    assert_eq!(refused, [(1, codes::NOT_FINITE), (2, codes::TOO_LARGE)]);
    assert_eq!(scene.settled(&scene.name("t")).len(), 1);

    let stops = async |settings, key: &[&str], columns: Columns, code| {
        let error = written(&scene, settings, key, &batch(columns)).await.unwrap_err();
        assert_eq!((error.fault.code(), error.kind), (code, SinkErrorKind::Stop), "{error}");
    };
    let ids = || -> ArrayRef { Arc::new(Int64Array::from(vec![1])) };
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1]));
    stops(serde_json::json!({}), &[], vec![("t", nanos)], codes::TYPE_UNHELD).await;
    stops(serde_json::json!({ "key": ["no"] }), &[], vec![("id", ids())], codes::NO_COLUMN).await;
    stops(serde_json::json!({ "tombstone": "id" }), &[], vec![("id", ids())], codes::NO_COLUMN).await;
    stops(serde_json::json!({ "format": "raw" }), &[], vec![("id", ids())], codes::NO_COLUMN).await;
    stops(serde_json::json!({}), &[], vec![("_id", ids())], codes::NO_COLUMN).await;
    let elsewhere = scene.name("elsewhere");
    let missing = serde_json::json!({ "topic": elsewhere, "create": null });
    stops(missing, &[], vec![("id", ids())], codes::NO_TOPIC).await;
    let state = scene.topic("bad-state", 1, &[]);
    stops(serde_json::json!({ "state": state }), &[], vec![("id", ids())], codes::STATE_UNFIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_a_dead_run_left_open_hides_nothing_for_long() {
    let scene = Scene::new();
    let records = batch(vec![("id", Arc::new(Int64Array::from(vec![1])))]);
    let sink = open(&scene, serde_json::json!({}));
    sink.prepare(&Shape { schema: records.schema(), key: Vec::new() }).await.unwrap();
    let lease = acquire(&sink).await.unwrap();
    let (one, _) = taken(&sink, "one", &lease).await;
    let (two, _) = taken(&sink, "two", &lease).await;
    drop((one, two));
    // As if the run had died between what it says of its position and its commit.
    let state = scene.name("state");
    let id = format!("{state}/one");
    // The broker itself ends it much later.
    let dead = scene.producer(&[("transactional.id", &id), ("transaction.timeout.ms", "600000")]);
    dead.init_transactions(PATIENCE).unwrap();
    dead.begin_transaction().unwrap();
    scene::send(&dead, &state, 0, Some(br#"{"split":"one"}"#), Some(b"{}"), &[]);
    dead.flush(PATIENCE).unwrap();

    let start = std::time::Instant::now();
    let sink = open(&scene, serde_json::json!({}));
    sink.prepare(&Shape { schema: records.schema(), key: Vec::new() }).await.unwrap();
    let lease = acquire(&sink).await.unwrap();
    let (mut two, standing) = taken(&sink, "two", &lease).await;
    two.write(&records).await.unwrap();
    two.commit(&next(&standing)).await.unwrap();
    assert!(start.elapsed().as_secs() < 300, "{:?}", start.elapsed());
    assert_eq!(scene.settled(&scene.name("t")).len(), 1);
    drop(dead);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_fenced_by_an_earlier_one_takes_over_again() {
    let scene = Scene::new();
    let records = batch(vec![("id", Arc::new(Int64Array::from(vec![1])))]);
    let sink = open(&scene, serde_json::json!({}));
    sink.prepare(&Shape { schema: records.schema(), key: Vec::new() }).await.unwrap();
    let lease = acquire(&sink).await.unwrap();
    let (mut writer, standing) = taken(&sink, "s", &lease).await;
    writer.write(&records).await.unwrap();
    // One that was stalled between looking at the lease and taking the producer's name.
    let stalled = scene.producer(&[("transactional.id", &format!("{}/s", scene.name("state")))]);
    stalled.init_transactions(PATIENCE).unwrap();
    let error = writer.commit(&next(&standing)).await.unwrap_err();
    let hapax_engine::fault::CommitError::Refused(error) = error else { panic!("{error:?}") };
    assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
    let (mut writer, again) = taken(&sink, "s", &lease).await;
    assert_eq!(again, standing);
    writer.write(&records).await.unwrap();
    writer.commit(&next(&again)).await.unwrap();
    assert_eq!(scene.settled(&scene.name("t")).len(), 1);
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_group_have_one_token_and_a_run_takes_it_from_all_of_them() {
    let scene = Scene::new();
    let records = |id: i64| batch(vec![("id", Arc::new(Int64Array::from(vec![id])))]);
    let applicant = |holder: &str| Applicant {
        pipeline: name(),
        holder: holder.to_owned(),
        definition: "one".to_owned(),
    };
    let (one, two) = (open(&scene, serde_json::json!({})), open(&scene, serde_json::json!({})));
    one.prepare(&Shape { schema: records(0).schema(), key: Vec::new() }).await.unwrap();
    two.prepare(&Shape { schema: records(0).schema(), key: Vec::new() }).await.unwrap();
    // At once: they fence each other, and both join in the end.
    let group = applicant("group g");
    let (lease, same) = tokio::join!(one.join(&group), two.join(&group));
    let lease = lease.unwrap();
    assert_eq!(lease, same.unwrap());
    // Both write one split: whoever took it over last can, and the other finds that it moved.
    let (mut a, standing) = taken(&one, "s", &lease).await;
    a.write(&records(1)).await.unwrap();
    let (mut b, found) = taken(&two, "s", &lease).await;
    assert_eq!(found, standing);
    b.write(&records(2)).await.unwrap();
    b.commit(&next(&found)).await.unwrap();
    a.commit(&next(&standing)).await.unwrap_err();
    let (mut a, again) = taken(&one, "s", &lease).await;
    assert_eq!(again, next(&found).standing());
    a.write(&records(3)).await.unwrap();
    a.commit(&next(&again)).await.unwrap();
    // A run of its own takes the lease from all members.
    let alone = two.acquire(&applicant("alone")).await.unwrap();
    assert!(alone.token > lease.token);
    let mut a = one.writer(&SplitId::new("s")).await.unwrap();
    let error = a.take_over(&lease).await.unwrap_err();
    assert_eq!((error.fault.code(), error.kind), (codes::FENCED, SinkErrorKind::Fenced));
    assert_eq!(scene.settled(&scene.name("t")).len(), 2);
}
