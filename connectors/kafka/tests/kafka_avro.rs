//! Avro from a real broker, its schemas from a registry that is a few lines of HTTP.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod scene;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::fault::{SourceError, SourceErrorKind};
use hapax_engine::source::Source;
use hapax_kafka::codes;
use hapax_kafka::source::Kafka;
use hapax_protocol::position::SplitId;
use scene::Scene;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What a registry answers, by path: a status and a body.
type Answers = Arc<Mutex<BTreeMap<String, (u16, String)>>>;

/// A schema registry.
struct Registry {
    url: String,
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/registry", listener.local_addr().unwrap());
        let (answers, asked) = (Answers::default(), Arc::new(Mutex::new(Vec::new())));
        let (answering, asking) = (Arc::clone(&answers), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                        break;
                    }
                    request.push(byte[0]);
                }
                let request = String::from_utf8(request).unwrap();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let (status, body) = answering
                    .lock()
                    .unwrap()
                    .get(path.trim_start_matches("/registry/"))
                    .cloned()
                    .unwrap_or((404, "{\"error_code\":40403,\"message\":\"not found\"}".to_owned()));
                asking.lock().unwrap().push(request);
                // Cut before its end: it says that it is longer.
                let cut = usize::from(body.contains("CUT"));
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len() + cut
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, answers, asked }
    }

    fn answer(&self, path: &str, status: u16, body: serde_json::Value) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, body.to_string()));
    }

    fn schema(&self, id: u32, schema: &str) {
        self.answer(&format!("schemas/ids/{id}"), 200, serde_json::json!({ "schema": schema }));
    }
}

const FIRST: &str = r#"{"type":"record","name":"order","fields":[{"name":"id","type":"long"},{"name":"note","type":"string"}]}"#;
const SECOND: &str = r#"{"type":"record","name":"order","fields":[{"name":"id","type":"long"},{"name":"note","type":["null","string"],"default":null},{"name":"amount","type":"double","default":0.5},{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"},"default":0}]}"#;

fn long(value: i64, bytes: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        bytes.push((zigzag as u8) | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
}

fn framed(schema: u32) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&schema.to_be_bytes());
    bytes
}

/// By the first schema.
fn first(id: i64, note: &str) -> Vec<u8> {
    let mut bytes = framed(1);
    long(id, &mut bytes);
    long(note.len() as i64, &mut bytes);
    bytes.extend_from_slice(note.as_bytes());
    bytes
}

/// By the second schema.
fn second(id: i64, amount: f64) -> Vec<u8> {
    let mut bytes = framed(2);
    long(id, &mut bytes);
    long(0, &mut bytes);
    bytes.extend_from_slice(&amount.to_le_bytes());
    long(1_700_000_000_000_000, &mut bytes);
    bytes
}

async fn open(scene: &Scene, topic: &str, registry: serde_json::Value) -> Result<Kafka, SourceError> {
    let config = serde_json::json!({
        "brokers": scene.brokers, "topic": topic, "format": "avro", "registry": registry,
        "metadata": ["_offset", "_deleted"],
    });
    Kafka::open(serde_json::from_value(config).unwrap()).await
}

async fn read(source: &Kafka, topic: &str) -> Result<Vec<Batch>, SourceError> {
    let mut reader = source.open(&SplitId::new(format!("{topic}[0]")), None).await?;
    let mut batches = Vec::new();
    while let Some(batch) = reader.read(ReadLimit { records_max: 1000, bytes_max: 1 << 20 }).await? {
        batches.push(batch);
    }
    Ok(batches)
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_older_schemas_are_read_into_the_newest() {
    let (scene, registry) = (Scene::new(), Registry::start().await);
    let topic = scene.topic("t", 1, &[]);
    registry.answer(
        &format!("subjects/{topic}-value/versions/latest"),
        200,
        serde_json::json!({ "subject": "s", "version": 2, "id": 2, "schema": SECOND }),
    );
    registry.schema(1, FIRST);
    registry.schema(3, r#"{"type":"record","name":"order","fields":[{"name":"id","type":"string"}]}"#);
    let values = [
        first(1, "ü"),
        second(2, 2.5),
        second(3, 3.5)[..8].to_vec(),
        [second(4, 4.5), vec![0]].concat(),
        b"\x00\x00".to_vec(),
        framed(3),
        framed(9),
        first(5, ""),
        second(-6, 0.0),
    ];
    scene.write(&topic, values.iter().map(|value| (0, None, Some(value.as_slice()))));
    scene.write(&topic, [(0, Some(&b"k"[..]), None)]);
    let source = open(&scene, &topic, serde_json::json!({ "url": registry.url })).await.unwrap();
    let names: Vec<_> = source.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "note", "amount", "at", "_offset", "_deleted"]);
    assert!(matches!(source.schema().field(3).data_type(), DataType::Timestamp(_, Some(_))));
    let batches = read(&source, &topic).await.unwrap();
    let records =
        arrow::compute::concat_batches(&source.schema(), batches.iter().map(|b| &b.records)).unwrap();
    let ids: Vec<_> = records.column(0).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(ids, [Some(1), Some(2), Some(5), Some(-6), None]);
    let notes: Vec<_> = records.column(1).as_string::<i32>().iter().collect();
    assert_eq!(notes, [Some("ü"), None, Some(""), None, None]);
    let amounts: Vec<_> = records.column(2).as_primitive::<Float64Type>().iter().collect();
    assert_eq!(amounts, [Some(0.5), Some(2.5), Some(0.5), Some(0.0), None]);
    let offsets: Vec<_> = records.column(4).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(offsets, [Some(0), Some(1), Some(7), Some(8), Some(9)]);
    let mut rejected: Vec<_> =
        batches.iter().flat_map(|b| b.rejected.iter().map(|r| (r.ordinal, r.code))).collect();
    rejected.sort_unstable();
    assert_eq!(rejected, [2, 3, 4, 5, 6].map(|ordinal| (ordinal, codes::UNDECODABLE)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_or_refuses_is_named_without_secrets() {
    let (scene, registry) = (Scene::new(), Registry::start().await);
    let topic = scene.topic("t", 1, &[]);
    let refused = async |registry: serde_json::Value| {
        let error = open(&scene, &topic, registry).await.err().unwrap();
        assert!(!error.to_string().contains("geheim"), "{error}");
        (error.fault.code(), error.kind)
    };
    let secret = registry.url.replace("http://", "http://me:geheim@");
    assert_eq!(
        refused(serde_json::json!({ "url": secret })).await,
        (codes::REGISTRY_REFUSED, SourceErrorKind::Stop)
    );
    assert!(registry.asked.lock().unwrap()[0].to_lowercase().contains("authorization: basic"));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = serde_json::json!({ "url": format!("http://{nobody}"), "user": "me", "password": "geheim" });
    assert_eq!(refused(away).await, (codes::REGISTRY_AWAY, SourceErrorKind::Unavailable));
    let subject = format!("subjects/{topic}-value/versions/latest");
    registry.answer(&subject, 503, serde_json::json!({}));
    let there = serde_json::json!({ "url": registry.url });
    assert_eq!(refused(there.clone()).await, (codes::REGISTRY_AWAY, SourceErrorKind::Unavailable));
    for unfit in [
        serde_json::json!({ "id": 1, "schema": "\"string\"" }),
        serde_json::json!({ "id": 1, "schema": FIRST, "schemaType": "JSON" }),
        serde_json::json!({ "id": 1, "schema": FIRST, "references": [{}] }),
    ] {
        registry.answer(&subject, 200, unfit);
        assert_eq!(refused(there.clone()).await, (codes::SCHEMA_UNFIT, SourceErrorKind::Stop));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_goes_away_in_mid_run_is_waited_for_and_loses_nothing() {
    let (scene, registry) = (Scene::new(), Registry::start().await);
    let topic = scene.topic("t", 1, &[]);
    let latest = serde_json::json!({ "id": 2, "schema": SECOND });
    registry.answer(&format!("subjects/{topic}-value/versions/latest"), 200, latest);
    registry.answer("schemas/ids/1", 503, serde_json::json!({}));
    scene.write(&topic, [(0, None, Some(first(7, "x").as_slice()))]);
    let source = open(&scene, &topic, serde_json::json!({ "url": registry.url })).await.unwrap();
    let mut reader = source.open(&SplitId::new(format!("{topic}[0]")), None).await.unwrap();
    let limit = ReadLimit { records_max: 10, bytes_max: 1 << 20 };
    let error = reader.read(limit).await.err().unwrap();
    assert_eq!((error.fault.code(), error.kind), (codes::REGISTRY_AWAY, SourceErrorKind::Unavailable));
    registry.schema(1, FIRST);
    let batch = reader.read(limit).await.unwrap().unwrap();
    assert_eq!(batch.records.column(0).as_primitive::<Int64Type>().value(0), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_answer_that_is_whole_and_says_no_spoils_a_message() {
    let (scene, registry) = (Scene::new(), Registry::start().await);
    let topic = scene.topic("t", 1, &[]);
    let latest = serde_json::json!({ "id": 2, "schema": SECOND });
    registry.answer(&format!("subjects/{topic}-value/versions/latest"), 200, latest);
    scene.write(&topic, [(0, None, Some(first(7, "x").as_slice()))]);
    let source = open(&scene, &topic, serde_json::json!({ "url": registry.url })).await.unwrap();
    let mut reader = source.open(&SplitId::new(format!("{topic}[0]")), None).await.unwrap();
    let limit = ReadLimit { records_max: 10, bytes_max: 1 << 20 };
    let passing = [
        (200, serde_json::json!({ "schema": FIRST, "CUT": 1 }), codes::REGISTRY_AWAY),
        (200, serde_json::json!("<html>"), codes::REGISTRY_AWAY),
        (404, serde_json::json!("a proxy's page"), codes::REGISTRY_AWAY),
        (502, serde_json::json!({}), codes::REGISTRY_AWAY),
        (401, serde_json::json!({ "error_code": 401 }), codes::REGISTRY_REFUSED),
    ];
    for (status, body, code) in passing {
        registry.answer("schemas/ids/1", status, body.clone());
        let error =
            reader.read(limit).await.err().unwrap_or_else(|| panic!("{status} {body} counts as a schema"));
        assert_eq!(error.fault.code(), code, "{status} {body}: {error}");
    }
    registry.schema(1, FIRST);
    let batch = reader.read(limit).await.unwrap().unwrap();
    assert_eq!((batch.records.num_rows(), batch.rejected.len()), (1, 0));
}
