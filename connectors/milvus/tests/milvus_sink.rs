//! A collection of the real server as sink: what it refuses, and what is lost on the way.
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

use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use hapax_conformance::milvus::{Kind, Made};
use hapax_conformance::proxy::{Failure, Proxy};
use hapax_engine::fault::SinkErrorKind;
use hapax_engine::sink::{Sender, Sending, Sent, Shape, Target};
use hapax_engine::source::Source;
use hapax_milvus::codes;
use hapax_protocol::code::Code;
use hapax_protocol::position::SplitId;
use scene::{KEYED, Scene, everything};
use serde_json::{Value, json};

type Row<'a> = (Option<i64>, Option<Vec<f64>>, Option<&'a str>);

fn records(rows: &[Row<'_>]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)));
    let vectors = rows.iter().map(|row| row.1.clone().map(|vector| vector.into_iter().map(Some)));
    let vectors: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(vectors));
    let texts: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2)));
    let columns = vec![("id", ids, true), ("vec", vectors, true), ("text", texts, true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn shape(records: &RecordBatch, key: &[&str]) -> Shape {
    Shape { schema: records.schema(), key: key.iter().map(|name| (*name).to_owned()).collect() }
}

async fn sender(target: &Arc<dyn Target>, shape: &Shape) -> Box<dyn Sender> {
    target.prepare(shape).await.unwrap();
    target.sender(&SplitId::new("s")).await.unwrap()
}

async fn sent(sender: &mut dyn Sender, records: &RecordBatch) -> Sent {
    sender.send(Sending { records, tokens: &[], deadline: None }).await.unwrap()
}

async fn refusal(target: &Arc<dyn Target>, shape: &Shape) -> Code {
    let checked = target.check(shape).await.unwrap_err();
    let prepared = target.prepare(shape).await.unwrap_err();
    assert_eq!(checked.fault.code(), prepared.fault.code());
    assert!(!checked.fault.help().is_empty());
    prepared.fault.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_said_before_anything_moves() {
    let scene = Scene::new();
    let good = records(&[(Some(1), Some(vec![1.0, 2.0]), Some("a"))]);
    let keyed = shape(&good, &["id"]);
    let target = |name: &str, more: Value| scene.sink(name, more).unwrap();
    assert_eq!(refusal(&target("nothing", json!({})), &keyed).await, codes::NO_COLLECTION);
    scene.make("own", Made { auto_id: true, ..KEYED }, false).await;
    assert_eq!(refusal(&target("own", json!({})), &keyed).await, codes::AUTO_ID);
    scene.make("keyed", KEYED, false).await;
    assert_eq!(refusal(&target("keyed", json!({})), &shape(&good, &[])).await, codes::KEY_UNFIT);
    assert_eq!(refusal(&target("keyed", json!({})), &shape(&good, &["id", "text"])).await, codes::KEY_UNFIT);
    let less = good.project(&[0, 1]).unwrap();
    assert_eq!(refusal(&target("keyed", json!({})), &shape(&less, &["id"])).await, codes::COLUMN_UNFIT);
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("vec", DataType::FixedSizeList(item, 3), true),
        Field::new("text", DataType::Utf8, true),
    ];
    let three = Shape { schema: Arc::new(Schema::new(fields)), key: vec!["id".to_owned()] };
    assert_eq!(refusal(&target("keyed", json!({})), &three).await, codes::DIMENSION);
    let create = |vector: &str| json!({ "create": { "vector": vector, "dimension": 2 } });
    assert_eq!(refusal(&target("new", create("vec")), &three).await, codes::DIMENSION);
    // What is there already, and not so.
    let three_wanted = json!({ "create": { "vector": "vec", "dimension": 3 } });
    for (more, shape) in [(three_wanted, &three), (create("text"), &keyed), (create("nothing"), &keyed)] {
        assert_eq!(refusal(&target("keyed", more), shape).await, codes::MADE_OTHERWISE);
    }
    target("keyed", create("vec")).check(&keyed).await.unwrap();
    assert_eq!(refusal(&target("new", create("nothing")), &keyed).await, codes::CONFIG);
    assert_eq!(refusal(&target("new", create("id")), &keyed).await, codes::CONFIG);
    assert_eq!(refusal(&target("keyed", json!({ "delete": "text" })), &keyed).await, codes::CONFIG);
    let binary = Made {
        fields: &[("id", Kind::Int64), ("vec", Kind::BinaryVector(8)), ("text", Kind::Varchar(9))],
        ..KEYED
    };
    scene.make("binary", binary, false).await;
    assert_eq!(refusal(&target("binary", json!({})), &keyed).await, codes::TYPE_UNKNOWN);
    let (token, place) = scene.url.trim_start_matches("http://").rsplit_once('@').unwrap();
    for (keys, code) in [
        (json!({ "url": format!("http://{place}"), "token": "root:wrong" }), codes::WRONG_TOKEN),
        (json!({ "url": format!("https://{place}"), "token": token }), codes::TLS),
        (json!({ "url": "http://127.0.0.1:1" }), codes::GONE),
    ] {
        assert_eq!(refusal(&target("keyed", keys), &keyed).await, code);
    }
    let planned = target("new", create("vec")).check(&keyed).await.unwrap().join("\n");
    assert!(planned.contains("make the collection") && planned.contains("2 numbers"), "{planned}");
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_held_is_refused_and_no_other() {
    let scene = Scene::new();
    let long = "x".repeat(65);
    let good = || Some(vec![1.0, 2.0]);
    let batch = records(&[
        (Some(1), good(), Some("a")),
        (None, good(), Some("no key")),
        (Some(i64::MAX), good(), Some("never found again")),
        (Some(i64::MIN), good(), Some("cannot be named")),
        (Some(5), Some(vec![1.0]), Some("short")),
        (Some(6), Some(vec![1.0, f64::NAN]), Some("NaN")),
        (Some(7), Some(vec![f64::INFINITY, 1.0]), Some("infinite")),
        (Some(8), Some(vec![1e300, 1.0]), Some("too large")),
        (Some(9), None, Some("no vector")),
        (Some(10), good(), Some(&long)),
        (Some(11), good(), None),
        (Some(12), good(), Some("b")),
    ]);
    scene.make("fields", KEYED, true).await;
    let target = scene.sink("fields", json!({})).unwrap();
    let mut writer = sender(&target, &shape(&batch, &["id"])).await;
    let ended = sent(writer.as_mut(), &batch).await;
    let refused: Vec<(usize, Code)> = ended.refused.iter().map(|row| (row.row, row.code)).collect();
    let (key, vector, value) = (codes::KEY_UNHELD, codes::VECTOR_UNHELD, codes::VALUE_UNHELD);
    let number = codes::VECTOR_NOT_FINITE;
    let expected =
        [(1, key), (2, key), (3, key), (4, vector), (5, number), (6, number), (7, number), (8, vector)];
    assert_eq!(refused, [expected.as_slice(), &[(9, value), (10, value)]].concat());
    let found = everything(target.read_back(batch.schema()).await.unwrap().as_ref()).await;
    assert_eq!(found.iter().map(|row| row["id"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 12]);
    assert_eq!(found[1], json!({ "id": 12, "vec": [1.0, 2.0], "text": "b" }));
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_batch_of_vectors_of_another_dimension_stops() {
    let scene = Scene::new();
    scene.make("other", KEYED, true).await;
    let three =
        |rows: i64| -> Vec<_> { (0..rows).map(|id| (Some(id), Some(vec![1.0; 3]), Some("a"))).collect() };
    let (few, many) = (records(&three(9)), records(&three(10)));
    let target = scene.sink("other", json!({})).unwrap();
    let mut writer = sender(&target, &shape(&many, &["id"])).await;
    // A few are each a letter: a queue may begin with one that is wrong.
    assert_eq!(sent(writer.as_mut(), &few).await.refused.len(), 9);
    let sending = Sending { records: &many, tokens: &[], deadline: None };
    let error = writer.send(sending).await.unwrap_err();
    assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Stop, codes::DIMENSION), "{error}");
    assert!(
        error.to_string().contains("have 2 numbers in `vec`, and those of the records have 3"),
        "{error}"
    );
    let good = records(&[(Some(1), Some(vec![1.0, 2.0]), Some("a"))]);
    assert_eq!(sent(writer.as_mut(), &good).await.refused, []);
    assert_eq!(sent(writer.as_mut(), &many).await.refused.len(), 10, "the first were right");
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_of_several_columns_becomes_a_text() {
    let scene = Scene::new();
    let good = || Some(vec![1.0, 2.0]);
    let batch = records(&[
        (Some(1), good(), Some("a/b")),
        (Some(1), good(), Some("a")),
        (Some(2), good(), Some("")),
        (Some(1), Some(vec![3.0, 4.0]), Some("a")),
    ]);
    let create = json!({ "create": { "vector": "vec", "dimension": 2, "key": "pk", "key_bytes_max": 8 } });
    let target = scene.sink("made", create).unwrap();
    let mut writer = sender(&target, &shape(&batch, &["id", "text"])).await;
    assert_eq!(sent(writer.as_mut(), &batch).await.refused, []);
    let (mut client, name) = (scene.client().await, scene.name("made"));
    let mut rows = client.rows(&name, "pk >= \"\"", &["pk", "vec", "id", "text"]).await;
    rows.sort_by_key(|row| row["pk"].as_str().unwrap().to_owned());
    let keys: Vec<&str> = rows.iter().map(|row| row["pk"].as_str().unwrap()).collect();
    assert_eq!(keys, ["1/a", "1/a%2Fb", "2/"]);
    assert_eq!((&rows[0]["vec"], &rows[0]["id"]), (&json!([3.0, 4.0]), &json!(1)));
    let long = records(&[(Some(1), good(), Some("too long a key"))]);
    assert_eq!(sent(writer.as_mut(), &long).await.refused[0].code, codes::KEY_UNHELD);
    let back = everything(target.read_back(batch.schema()).await.unwrap().as_ref()).await;
    assert_eq!(back.len(), 3);
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_all_kinds_are_deleted_by_their_key() {
    let scene = Scene::new();
    let keys = ["a\"b", "c\\d", "e'f", "g\nh", "\\\"", "ü %", "stays"];
    let batch = |gone: bool| {
        let rows: Vec<Row<'_>> =
            (0_i64..).zip(keys).map(|(id, key)| (Some(id), Some(vec![1.0, 2.0]), Some(key))).collect();
        let rows = records(if gone { &rows[..6] } else { &rows });
        let marks: ArrayRef = Arc::new(BooleanArray::from(vec![gone; rows.num_rows()]));
        let names = ["id", "vec", "text", "gone"];
        let columns = rows.columns().iter().cloned().chain([marks]);
        RecordBatch::try_from_iter_with_nullable(
            names.into_iter().zip(columns).map(|(name, column)| (name, column, true)),
        )
        .unwrap()
    };
    let create = json!({
        "create": { "vector": "vec", "dimension": 2, "key_bytes_max": 64 }, "delete": "gone",
    });
    let target = scene.sink("texts", create).unwrap();
    let mut writer = sender(&target, &shape(&batch(false), &["text"])).await;
    assert_eq!(sent(writer.as_mut(), &batch(false)).await.refused, []);
    let (mut client, name) = (scene.client().await, scene.name("texts"));
    let count = client.rows(&name, "text >= \"\"", &["text"]).await.len();
    assert_eq!(count, keys.len());
    assert_eq!(sent(writer.as_mut(), &batch(true)).await.refused, []);
    let left = client.rows(&name, "text >= \"\"", &["text"]).await;
    assert_eq!(left.iter().map(|row| row["text"].as_str().unwrap()).collect::<Vec<_>>(), ["stays"]);
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_whose_answer_is_lost_is_sent_again_and_changes_nothing() {
    let scene = Scene::new();
    scene.make("lost", KEYED, true).await;
    let place = scene.url.rsplit_once('@').unwrap().1.to_owned();
    for (at, failure) in [
        Failure::Unanswered(b"a marked text".to_vec()),
        Failure::Unsent(b"a marked text".to_vec()),
        Failure::Cut { bytes: 3_000 },
    ]
    .into_iter()
    .enumerate()
    {
        let proxy = Proxy::before(place.clone()).await;
        let through = scene.url.replace(&place, &format!("127.0.0.1:{}", proxy.port()));
        let target = scene.sink("lost", json!({ "url": through })).unwrap();
        let rows: Vec<Row<'_>> =
            (0..300).map(|id| (Some(id), Some(vec![at as f64, 2.0]), Some("a marked text"))).collect();
        let batch = records(&rows);
        let mut writer = sender(&target, &shape(&batch, &["id"])).await;
        proxy.fail(failure.clone());
        let sending = Sending { records: &batch, tokens: &[], deadline: None };
        let error = writer.send(sending).await.unwrap_err();
        assert_eq!(
            (error.kind, error.fault.code()),
            (SinkErrorKind::Unavailable, codes::GONE),
            "{failure:?}"
        );
        assert_eq!(proxy.happened(), 1, "{failure:?}");
        // As the next attempt of the run does.
        let mut writer = target.sender(&SplitId::new("s")).await.unwrap();
        assert_eq!(sent(writer.as_mut(), &batch).await.refused, []);
        let found = everything(target.read_back(batch.schema()).await.unwrap().as_ref()).await;
        assert_eq!(found.len(), 300, "{failure:?}");
        assert!(found.iter().all(|row| row["vec"][0] == at as f64), "{failure:?}");
    }
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_there_twice_is_found_when_it_is_read_back() {
    let scene = Scene::new();
    scene.make("twice", KEYED, true).await;
    let (mut client, name) = (scene.client().await, scene.name("twice"));
    let row = |text: &str| json!({ "id": 1, "vec": [1.0, 2.0], "text": text });
    client.write(true, &name, KEYED, &[row("a")]).await;
    client.write(false, &name, KEYED, &[row("b")]).await;
    let target = scene.sink("twice", json!({})).unwrap();
    let batch = records(&[(Some(1), Some(vec![1.0, 2.0]), Some("c"))]);
    let read = async || {
        let source: Arc<dyn Source> = target.read_back(batch.schema()).await.unwrap();
        let split = source.splits().await.unwrap().remove(0).id;
        let mut reader = source.open(&split, None).await.unwrap();
        let limit = hapax_engine::batch::ReadLimit { records_max: 100, bytes_max: 1 << 20 };
        while let Some(_batch) = reader.read(limit).await? {}
        Ok::<_, hapax_engine::fault::SourceError>(())
    };
    assert_eq!(read().await.unwrap_err().fault.code(), codes::KEYS_TWICE);
    // An upsert leaves one.
    let mut writer = sender(&target, &shape(&batch, &["id"])).await;
    sent(writer.as_mut(), &batch).await;
    read().await.unwrap();
    assert_eq!(client.count(&name, "").await, 1);
    scene.clear().await;
}

/// A server of the test's own, with settings, which ends with it.
struct Own(tempfile::TempDir);

impl Own {
    fn with(settings: &str) -> (Self, String) {
        let own = Self(tempfile::tempdir().unwrap());
        let started = own.service("start").env("HAPAX_MILVUS_CONFIG", settings).output().unwrap();
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let url = std::fs::read_to_string(own.0.path().join("url")).unwrap().trim().to_owned();
        (own, url)
    }

    fn service(&self, command: &str) -> Command {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut service = Command::new(root.join("services/milvus"));
        service.arg(command).arg(self.0.path());
        service
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.service("stop").output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_is_an_error_of_its_own_once_it_was_waited_for() {
    let (_own, url) = Own::with("quotaAndLimits.limitWriting.forceDeny=true");
    let config = json!({
        "url": url, "collection": "denied", "create": { "vector": "vec", "dimension": 2, "index": "flat" },
    });
    let target = hapax_milvus::sink::open(serde_json::from_value(config).unwrap()).unwrap();
    let one = |id: i64| records(&[(Some(id), Some(vec![1.0, 2.0]), Some("a"))]);
    let mut writer = sender(&target, &shape(&one(0), &["id"])).await;
    let (mut id, until) = (0, std::time::Instant::now() + std::time::Duration::from_secs(180));
    // It denies nothing before it has first looked at its quotas.
    let error = loop {
        id += 1;
        match writer.send(Sending { records: &one(id), tokens: &[], deadline: None }).await {
            Err(error) => break error,
            Ok(_) => assert!(std::time::Instant::now() < until, "the server denies nothing"),
        }
    };
    assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Unavailable, codes::QUOTA), "{error}");
    assert!(error.fault.help().contains("nothing was lost"), "{}", error.fault.help());
    let mut client = hapax_conformance::milvus::Client::at(&url).await;
    assert_eq!(client.count("denied", &format!("id >= {id}")).await, 0, "what was denied took effect");
    assert_eq!(client.count("denied", "").await, id - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_that_is_used_up_is_waited_for() {
    let (_own, url) = Own::with(
        "quotaAndLimits.dml.enabled=true quotaAndLimits.dml.insertRate.max=0.2 quotaAndLimits.dml.upsertRate.max=0.2",
    );
    let config = json!({
        "url": url, "collection": "limited", "create": { "vector": "vec", "dimension": 2, "index": "flat" },
    });
    let target = hapax_milvus::sink::open(serde_json::from_value(config).unwrap()).unwrap();
    let text = "x".repeat(1_000);
    let mut writer = None;
    let begun = std::time::Instant::now();
    for batch in 0..8_i64 {
        let rows: Vec<Row<'_>> =
            (0..100).map(|id| (Some(batch * 100 + id), Some(vec![1.0, 2.0]), Some(text.as_str()))).collect();
        let batch = records(&rows);
        if writer.is_none() {
            writer = Some(sender(&target, &shape(&batch, &["id"])).await);
        }
        assert_eq!(sent(writer.as_mut().unwrap().as_mut(), &batch).await.refused, []);
    }
    let took = begun.elapsed();
    let mut client = hapax_conformance::milvus::Client::at(&url).await;
    assert_eq!(client.count("limited", "").await, 800);
    assert!(took.as_millis() > 1_500, "the rate was never used up: {took:?}");
}
