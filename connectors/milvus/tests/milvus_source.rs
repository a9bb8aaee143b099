//! A collection of the real server as source.
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

use arrow::array::AsArray;
use hapax_conformance::milvus::{Kind, Made};
use hapax_engine::batch::ReadLimit;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceErrorKind;
use hapax_engine::source::Source;
use hapax_milvus::codes;
use hapax_protocol::identity::Place;
use hapax_protocol::position::Position;
use scene::{Scene, everything};
use serde_json::{Value, json};

const NUMBERED: Made<'static> = Made {
    fields: &[
        ("id", Kind::Int64),
        ("vec", Kind::Vector(2)),
        ("text", Kind::Varchar(64)),
        ("small", Kind::Int8),
        ("flag", Kind::Bool),
        ("single", Kind::Float),
        ("json", Kind::Json),
    ],
    auto_id: false,
    dynamic: true,
};

const NAMED: Made<'static> =
    Made { fields: &[("id", Kind::Varchar(64)), ("vec", Kind::Vector(2))], auto_id: false, dynamic: false };

fn row(id: i64) -> Value {
    json!({
        "id": id, "vec": [id as f32, 0.5], "text": format!("text {id}"), "small": id % 100, "flag": id % 2 == 0,
        "single": 1.5, "json": { "a": id }, "more": id * 2, "name": format!("n{id}"),
    })
}

async fn source(scene: &Scene, name: &str) -> Arc<dyn Source> {
    scene.source(name, json!({})).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_come_in_the_order_of_their_keys_over_segments_and_batches() {
    let scene = Scene::new();
    scene.make("in", NUMBERED, true).await;
    let (mut client, name) = (scene.client().await, scene.name("in"));
    // Several segments, whose keys lie between each other, and the extremes.
    let ids = |from: i64| (0..40).map(move |n| n * 3 + from).map(row).collect::<Vec<_>>();
    for from in 0..3 {
        client.write(true, &name, NUMBERED, &ids(from)).await;
        if from < 2 {
            client.flush(&name).await;
        }
    }
    let extremes: Vec<Value> = [i64::MIN, i64::MIN + 1, -5, i64::MAX - 1].map(row_of_extreme).into();
    client.write(true, &name, NUMBERED, &extremes).await;
    hapax_conformance::source::suite(124, async || source(&scene, "in").await).await;

    let rows = everything(source(&scene, "in").await.as_ref()).await;
    let found: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    let mut expected: Vec<i64> = (0..120).chain([i64::MIN, i64::MIN + 1, -5, i64::MAX - 1]).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let seven = rows.iter().find(|row| row["id"] == 7).unwrap();
    let meta: Value = serde_json::from_str(seven["$meta"].as_str().unwrap()).unwrap();
    assert_eq!(meta, json!({ "more": 14, "name": "n7" }));
    let json: Value = serde_json::from_str(seven["json"].as_str().unwrap()).unwrap();
    assert_eq!((&seven["vec"], &seven["small"], json), (&json!([7.0, 0.5]), &json!(7), json!({ "a": 7 })));
    scene.clear().await;
}

fn row_of_extreme(id: i64) -> Value {
    let mut row = row(0);
    row["id"] = json!(id);
    row
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_as_large_as_the_server_gives_however_long_the_texts_are() {
    const LONG: Made<'static> = Made {
        fields: &[("id", Kind::Int64), ("vec", Kind::Vector(2)), ("text", Kind::Varchar(65_535))],
        auto_id: false,
        dynamic: false,
    };
    let scene = Scene::new();
    scene.make("in", LONG, true).await;
    let (mut client, name) = (scene.client().await, scene.name("in"));
    // After thousands of short ones, so that pages have grown, more than the server gives at once.
    let (short, all, long) = (6_000, 7_200, "x".repeat(65_000));
    let row =
        |id: i64| json!({ "id": id, "vec": [1.0, 2.0], "text": if id < short { "short" } else { &long } });
    client.write(true, &name, LONG, &(0..short).map(row).collect::<Vec<_>>()).await;
    for from in (short..all).step_by(200) {
        client.write(true, &name, LONG, &(from..from + 200).map(row).collect::<Vec<_>>()).await;
    }
    let refused = client.try_rows(&name, &format!("id >= {short}"), &["text"]).await;
    assert!(refused.is_err(), "the server gives everything at once: this test shows nothing");
    let source = source(&scene, "in").await;
    let split = source.splits().await.unwrap().remove(0).id;
    let mut reader = source.open(&split, None).await.unwrap();
    let (mut read, mut bytes) = (0, 0);
    while let Some(batch) = reader.read(ReadLimit { records_max: 1 << 20, bytes_max: 1 << 30 }).await.unwrap()
    {
        read += batch.records.num_rows();
        bytes +=
            batch.records.column(2).as_string::<i32>().iter().map(|text| text.unwrap().len()).sum::<usize>();
    }
    assert_eq!((read as i64, bytes as i64), (all, short * 5 + (all - short) * 65_000));
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_text_come_in_their_order_whatever_they_hold() {
    let scene = Scene::new();
    scene.make("in", NAMED, true).await;
    let (mut client, name) = (scene.client().await, scene.name("in"));
    let keys = [
        "", " ", "a", "a\"b\\c", "a\nb", "a\tb\rc", "a/b", "a\u{1}b", "Z", "ü", "🦀", "%", "'x'", "zz",
        "日本",
    ];
    let rows: Vec<Value> = keys.iter().map(|key| json!({ "id": key, "vec": [1.0, 2.0] })).collect();
    client.write(true, &name, NAMED, &rows).await;
    hapax_conformance::source::suite(keys.len() as u64, async || source(&scene, "in").await).await;
    let rows = everything(source(&scene, "in").await.as_ref()).await;
    let found: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    let mut expected = keys;
    expected.sort_unstable();
    assert_eq!(found, expected);
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_dynamic_field_become_columns_and_what_does_not_fit_a_dead_letter() {
    let scene = Scene::new();
    scene.make("in", NUMBERED, true).await;
    let (mut client, name) = (scene.client().await, scene.name("in"));
    let mut rows: Vec<Value> = (1..=4).map(row).collect();
    rows[1]["more"] = json!("not a number");
    rows[2]["other"] = json!(1);
    client.write(true, &name, NUMBERED, &rows).await;
    let more = json!({ "schema": { "more": "int64", "name": "string" } });
    let opened = scene.source("in", more.clone()).await.unwrap();
    let split = opened.splits().await.unwrap().remove(0).id;
    let limit = ReadLimit { records_max: 10, bytes_max: 1 << 20 };
    let batch = opened.open(&split, None).await.unwrap().read(limit).await.unwrap().unwrap();
    assert_eq!(batch.records.num_rows(), 2);
    assert_eq!((batch.ordinals.of(0), batch.ordinals.of(1)), (0, 3));
    let rejected: Vec<_> = batch.rejected.iter().map(|r| (r.ordinal, r.code)).collect();
    assert_eq!(rejected, [(1, codes::UNDECODABLE), (2, codes::UNDECODABLE)]);
    assert!(batch.rejected[0].reason.contains("more"), "{}", batch.rejected[0].reason);

    let letter = DeadLetter {
        place: Place { split: split.clone(), ordinal: 1 },
        code: codes::UNDECODABLE,
        reason: String::new(),
        raw: batch.rejected[0].raw.clone(),
        set_aside_unix_ms: 0,
    };
    let refused = opened.reread(&letter).await.unwrap_err();
    assert_eq!(refused.fault.code(), codes::LETTER_UNREADABLE);
    client.write(true, &name, NUMBERED, &[row(2)]).await;
    assert_eq!(opened.reread(&letter).await.unwrap().num_rows(), 1);

    let ignoring = json!({ "schema": { "name": "string" }, "unknown_fields": "ignore" });
    assert_eq!(everything(scene.source("in", ignoring).await.unwrap().as_ref()).await.len(), 4);
    let refused =
        scene.source("in", json!({ "schema": { "text": "string" } })).await.map(|_| ()).unwrap_err();
    assert_eq!(refused, codes::CONFIG);
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_made_anew_under_its_name_is_noticed() {
    let scene = Scene::new();
    let mut client = scene.client().await;
    let name = scene.name("in");
    scene.make("in", NUMBERED, true).await;
    client.write(true, &name, NUMBERED, &(0..5).map(row).collect::<Vec<_>>()).await;
    let opened = source(&scene, "in").await;
    let split = opened.splits().await.unwrap().remove(0).id;
    let mut reader = opened.open(&split, None).await.unwrap();
    let limit = ReadLimit { records_max: 3, bytes_max: 1 << 20 };
    let through = reader.read(limit).await.unwrap().unwrap().through;
    assert!(opened.open(&split, Some(&through)).await.is_ok());
    client.drop(&name).await;
    scene.make("in", NUMBERED, true).await;
    let refused = opened.open(&split, Some(&through)).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.fault.code(), codes::RECREATED, "{refused}");
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_being_loaded_is_waited_for() {
    let scene = Scene::new();
    scene.make("in", NAMED, true).await;
    let (mut client, name) = (scene.client().await, scene.name("in"));
    let opened = source(&scene, "in").await;
    let split = opened.splits().await.unwrap().remove(0).id;
    let (mut seen, until) = (false, std::time::Instant::now() + std::time::Duration::from_secs(180));
    while !seen {
        assert!(std::time::Instant::now() < until, "the collection was never seen while it was loaded");
        client.release(&name).await;
        client.ask_to_load(&name).await;
        while let Err(error) = opened.open(&split, None).await.map(|_| ()) {
            // One that was not loaded would have to be loaded by somebody.
            assert_eq!((error.kind, error.fault.code()), (SourceErrorKind::Unavailable, codes::LOADING));
            seen = true;
        }
    }
    scene.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said_before_anything_moves() {
    let scene = Scene::new();
    let refused = async |name: &str, more: Value| scene.source(name, more).await.map(|_| ()).unwrap_err();
    assert_eq!(refused("nothing", json!({})).await, codes::NO_COLLECTION);
    scene.make("idle", NAMED, false).await;
    assert_eq!(refused("idle", json!({})).await, codes::NOT_LOADED);
    let binary = Made {
        fields: &[("id", Kind::Int64), ("vec", Kind::BinaryVector(8))],
        auto_id: false,
        dynamic: false,
    };
    scene.make("binary", binary, false).await;
    let (token, place) = scene.url.trim_start_matches("http://").rsplit_once('@').unwrap();
    let at = |url: String, more: Value| {
        let mut keys = json!({ "url": url });
        keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        keys
    };
    let plain = format!("http://{place}");
    for (keys, code) in [
        (at(plain.clone(), json!({ "token": "root:wrong" })), codes::WRONG_TOKEN),
        (at(plain.clone(), json!({})), codes::WRONG_TOKEN),
        (at(format!("https://{place}"), json!({ "token": token })), codes::TLS),
        (at("http://127.0.0.1:1".to_owned(), json!({})), codes::GONE),
        (at("ftp://127.0.0.1:1".to_owned(), json!({})), codes::BAD_URL),
        (at(plain, json!({ "token": token, "database": "nothing" })), codes::NO_DATABASE),
    ] {
        assert_eq!(refused("idle", keys.clone()).await, code, "{keys}");
    }
    // Its own token, and a position of something else.
    scene.make("in", NAMED, true).await;
    let opened = source(&scene, "in").await;
    let split = opened.splits().await.unwrap().remove(0).id;
    for position in
        [Position::new([1, 2]), Position::new([1, 0, 0, 0, 0, 0, 0, 0, 0, b'i', 0, 0, 0, 0, 0, 0, 0, 1])]
    {
        let refused = opened.open(&split, Some(&position)).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.fault.code(), codes::FOREIGN_POSITION);
    }
    scene.clear().await;
}
