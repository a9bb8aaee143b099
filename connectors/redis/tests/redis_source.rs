//! What the source does with streams that are trimmed, deleted, made anew, and with servers that go away.
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

use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use hapax_conformance::proxy::{Failure, Proxy};
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::{SourceError, SourceErrorKind};
use hapax_engine::source::{Arrangement, Extent, Source, SplitReader};
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::{Position, SplitId};
use hapax_redis::codes;
use hapax_redis::config::SourceConfig;
use hapax_redis::source::Streams;
use scene::{Own, Scene};

const LIMIT: ReadLimit = ReadLimit { records_max: 10, bytes_max: 1 << 20 };

async fn opened(scene: &Scene, more: serde_json::Value) -> Result<Streams, SourceError> {
    let mut config = serde_json::json!({
        "url": scene.url(), "stream": scene.key("log"), "fields": ["id", "name"], "schema": { "id": "int64" },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let config: SourceConfig = serde_json::from_value(config).unwrap();
    Streams::open(config).await
}

async fn plain(scene: &Scene) -> Streams {
    opened(scene, serde_json::json!({})).await.unwrap()
}

async fn reader(source: &Streams, scene: &Scene, after: Option<&Position>) -> Box<dyn SplitReader> {
    source.open(&SplitId::new(scene.key("log")), after).await.unwrap()
}

fn ids(batch: &Batch) -> Vec<i64> {
    batch.records.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

async fn ten(reader: &mut Box<dyn SplitReader>) -> Batch {
    reader.read(LIMIT).await.unwrap().unwrap()
}

async fn fails(reader: &mut Box<dyn SplitReader>) -> (Code, String) {
    let error = reader.read(LIMIT).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Stop);
    (error.fault.code(), format!("{error}. {}", error.fault.help()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_grows_and_its_reader_waits() {
    let scene = Scene::new();
    scene.fill(&scene.key("log"), 0..15);
    let source = plain(&scene).await;
    assert_eq!((source.extent(), source.arrangement()), (Extent::Growing, Arrangement::Partitions));
    let split = SplitId::new(scene.key("log"));
    assert_eq!(source.lag(&split, None).await.unwrap(), Some(15));
    let mut reader = reader(&source, &scene, None).await;
    let first = ten(&mut reader).await;
    assert_eq!(source.lag(&split, Some(&first.through)).await.unwrap(), Some(5));
    assert_eq!(ids(&ten(&mut reader).await), [10, 11, 12, 13, 14]);
    assert!(reader.read(LIMIT).await.unwrap().is_none());
    // A wait that is given up has moved nothing.
    assert!(tokio::time::timeout(Duration::from_millis(20), reader.more()).await.is_err());
    let writing = tokio::task::spawn_blocking({
        let (url, key) = (scene.url(), scene.key("log"));
        move || Scene::on(&url).fill(&key, 15..17)
    });
    while reader.read(LIMIT).await.unwrap().map(|batch| ids(&batch)).is_none_or(|ids| ids.last() != Some(&16))
    {
        tokio::time::timeout(Duration::from_secs(120), reader.more()).await.unwrap().unwrap();
    }
    writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_may_be_trimmed() {
    let scene = Scene::new();
    let log = scene.key("log");
    scene.fill(&log, 0..50);
    let source = plain(&scene).await;
    let all = reader(&source, &scene, None)
        .await
        .read(ReadLimit { records_max: 100, ..LIMIT })
        .await
        .unwrap()
        .unwrap();
    // A record has the same number whatever was removed before it.
    let number = |id: usize| all.ordinals.of(id);
    let mut one = reader(&source, &scene, None).await;
    let first = ten(&mut one).await;
    scene.run(&["XTRIM", &log, "MAXLEN", "=", "40"]);
    let anew = ten(&mut reader(&source, &scene, None).await).await;
    assert_eq!((ids(&anew)[0], anew.ordinals.of(0)), (10, number(10)));
    let second = ten(&mut one).await;
    assert_eq!((ids(&second)[0], second.ordinals.of(0)), (10, number(10)));
    // Exactly what was read is gone.
    scene.run(&["XTRIM", &log, "MAXLEN", "=", "30"]);
    let mut two = reader(&source, &scene, Some(&second.through)).await;
    let third = ten(&mut two).await;
    assert_eq!((ids(&third)[0], third.ordinals.of(0)), (20, number(20)));
    assert_eq!(source.lag(&third.split, Some(&third.through)).await.unwrap(), Some(20));
    // One more is too many, for whoever stands before it.
    scene.run(&["XTRIM", &log, "MAXLEN", "=", "19"]);
    let mut behind = reader(&source, &scene, Some(&third.through)).await;
    let (code, said) = fails(&mut behind).await;
    assert_eq!(code, codes::TRIMMED, "{said}");
    assert_eq!(fails(&mut reader(&source, &scene, Some(&first.through)).await).await.0, codes::TRIMMED);
    assert_eq!(fails(&mut two).await.0, codes::TRIMMED);
    // Accepted by name, and by that name only.
    let through = said.split("accept_gap: ").nth(1).unwrap().split('`').next().unwrap().to_owned();
    let source = opened(&scene, serde_json::json!({ "accept_gap": through })).await.unwrap();
    let mut accepted = reader(&source, &scene, Some(&third.through)).await;
    let fourth = ten(&mut accepted).await;
    assert_eq!((ids(&fourth)[0], fourth.ordinals.of(0)), (31, number(31)));
    assert_eq!(source.lag(&fourth.split, Some(&fourth.through)).await.unwrap(), Some(9));
    scene.run(&["XTRIM", &log, "MAXLEN", "=", "3"]);
    assert_eq!(fails(&mut accepted).await.0, codes::TRIMMED);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_deleted_unread_stops_the_run() {
    let scene = Scene::new();
    let log = scene.key("log");
    scene.fill(&log, 0..30);
    let entries: Vec<(String, Vec<String>)> =
        redis::cmd("XRANGE").arg(&log).arg("-").arg("+").query(&mut scene.connect()).unwrap();
    let source = plain(&scene).await;
    let mut reader_of_all = reader(&source, &scene, None).await;
    let first = ten(&mut reader_of_all).await;
    scene.run(&["XDEL", &log, &entries[3].0, &entries[9].0]);
    // Both were read, the last one included.
    assert_eq!(ids(&ten(&mut reader_of_all).await)[0], 10);
    let mut again = reader(&source, &scene, Some(&first.through)).await;
    assert_eq!(ids(&ten(&mut again).await)[0], 10);
    scene.run(&["XDEL", &log, &entries[25].0]);
    let (code, said) = fails(&mut again).await;
    assert_eq!(code, codes::TRIMMED, "{said}");
    assert!(said.contains(&entries[25].0) && said.contains(&entries[19].0), "{said}");
    // Everything behind the place is gone before the first record was read.
    scene.run(&["DEL", &log]);
    scene.fill(&log, 0..1);
    scene.run(&["XTRIM", &log, "MAXLEN", "=", "0"]);
    let mut fresh = reader(&source, &scene, None).await;
    assert!(fresh.read(LIMIT).await.unwrap().is_none());
    scene.fill(&log, 1..3);
    scene.run(&["XTRIM", &log, "MAXLEN", "=", "1"]);
    assert_eq!(fails(&mut fresh).await.0, codes::TRIMMED);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_stream_of_the_name_stops_the_run() {
    let scene = Scene::new();
    let log = scene.key("log");
    for length in [5, 10, 40] {
        scene.run(&["DEL", &log]);
        scene.fill(&log, 0..20);
        let source = plain(&scene).await;
        let mut old = reader(&source, &scene, None).await;
        let first = ten(&mut old).await;
        scene.run(&["DEL", &log]);
        assert_eq!(fails(&mut old).await.0, codes::NO_STREAM);
        scene.fill(&log, 0..length);
        assert_eq!(fails(&mut old).await.0, codes::RECREATED, "{length}");
        let mut next = reader(&source, &scene, Some(&first.through)).await;
        assert_eq!(fails(&mut next).await.0, codes::RECREATED, "{length}");
    }
    // The same ids with something else in them.
    scene.run(&["DEL", &log]);
    let fill = |word: &str| {
        for id in 1..=20 {
            scene.run(&["XADD", &log, &format!("{id}-0"), "id", &id.to_string(), "name", word]);
        }
    };
    fill("one");
    let source = plain(&scene).await;
    let first = ten(&mut reader(&source, &scene, None).await).await;
    scene.run(&["DEL", &log]);
    fill("two");
    assert_eq!(fails(&mut reader(&source, &scene, Some(&first.through)).await).await.0, codes::RECREATED);
    scene.run(&["DEL", &log]);
    fill("one");
    // Nobody can tell, and nothing is lost.
    assert_eq!(ids(&ten(&mut reader(&source, &scene, Some(&first.through)).await).await)[0], 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_numbers_no_record_stops_the_run_before_it() {
    let scene = Scene::new();
    let log = scene.key("log");
    for id in ["0-2097151", "1-0"] {
        scene.run(&["XADD", &log, id, "id", "1", "name", "x"]);
    }
    let source = plain(&scene).await;
    let batch = ten(&mut reader(&source, &scene, None).await).await;
    assert_eq!((batch.ordinals.of(0), batch.ordinals.of(1)), ((1 << 21) - 1, 1 << 21));
    scene.run(&["XADD", &log, "1-2097152", "id", "1", "name", "x"]);
    let (code, said) = fails(&mut reader(&source, &scene, Some(&batch.through)).await).await;
    assert_eq!(code, codes::LARGE_ID, "{said}");
    assert!(said.contains("1-2097152"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_do_not_fit_are_read_again_by_the_schema_of_today() {
    let scene = Scene::new();
    let log = scene.key("log");
    scene.run(&["XADD", &log, "1-0", "id", "seven", "name", "x"]);
    scene.run(&["XADD", &log, "2-0", "id", "8", "name", "y"]);
    let source = plain(&scene).await;
    let batch = ten(&mut reader(&source, &scene, None).await).await;
    assert_eq!((ids(&batch), batch.ordinals.of(0)), (vec![8], 2 << 21));
    let rejected = &batch.rejected[0];
    assert_eq!((rejected.ordinal, rejected.code), (1 << 21, codes::VALUE_MISFIT));
    assert!(rejected.reason.contains("1-0") && rejected.reason.contains("seven"), "{}", rejected.reason);
    assert!(source.rejects_with(rejected.code));
    let letter = |raw: &str| DeadLetter {
        place: Place { split: batch.split.clone(), ordinal: rejected.ordinal },
        code: rejected.code,
        reason: rejected.reason.clone(),
        raw: raw.to_owned(),
        set_aside_unix_ms: 0,
    };
    let still = source.reread(&letter(&rejected.raw)).await.unwrap_err();
    assert_eq!(still.fault.code(), codes::LETTER_UNREADABLE);
    let texts = opened(&scene, serde_json::json!({ "schema": null })).await.unwrap();
    for _ in 0..2 {
        // From the stream, then from what was kept.
        let again = texts.reread(&letter(&rejected.raw)).await.unwrap();
        assert_eq!(again.column(0).as_string::<i32>().value(0), "seven");
        scene.run(&["XDEL", &log, "1-0"]);
    }
    // What the sink refused is a JSON object of the columns.
    let again = source.reread(&letter(r#"{"id":9,"name":null}"#)).await.unwrap();
    assert_eq!(again.column(0).as_primitive::<Int64Type>().value(0), 9);
    assert!(source.reread(&letter("cut off {")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused() {
    let scene = Scene::new();
    scene.fill(&scene.key("log"), 0..3);
    scene.run(&["SET", &scene.key("text"), "text"]);
    let foreign = scene.url().replace("redis://:", "redis://:wrong");
    for (more, expected) in [
        (serde_json::json!({ "stream": scene.key("none") }), codes::NO_STREAM),
        (serde_json::json!({ "stream": scene.key("text") }), codes::NOT_A_STREAM),
        (serde_json::json!({ "stream": null }), codes::CONFIG),
        (serde_json::json!({ "streams": ["a"] }), codes::CONFIG),
        (serde_json::json!({ "stream": null, "streams": [] }), codes::CONFIG),
        (serde_json::json!({ "schema": { "none": "int64" } }), codes::CONFIG),
        (serde_json::json!({ "fields": ["id", "id"] }), codes::CONFIG),
        (serde_json::json!({ "id_column": "id" }), codes::CONFIG),
        (serde_json::json!({ "accept_gap": "yesterday" }), codes::CONFIG),
        (serde_json::json!({ "url": foreign }), codes::WRONG_PASSWORD),
        (serde_json::json!({ "url": "redis://127.0.0.1:1" }), codes::GONE),
    ] {
        let error = opened(&scene, more.clone()).await.err().unwrap_or_else(|| panic!("{more} was opened"));
        assert_eq!(error.fault.code(), expected, "{more}: {error}");
    }
    let error = opened(&scene, serde_json::json!({ "schema": null, "fields": null })).await.err().unwrap();
    assert!(error.to_string().contains("[id, name]"), "{error}");
    let source = plain(&scene).await;
    let log = SplitId::new(scene.key("log"));
    let foreign = source.open(&log, Some(&Position::new([1, 2, 3].as_slice()))).await.err().unwrap();
    assert_eq!(foreign.fault.code(), codes::FOREIGN_POSITION);
    assert!(source.open(&SplitId::new("another"), None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_is_found_again() {
    let server = Own::start(&[]);
    let scene = Scene::on(&server.url());
    scene.fill(&scene.key("log"), 0..30);
    let source = plain(&scene).await;
    let mut reader = reader(&source, &scene, None).await;
    ten(&mut reader).await;
    server.kill();
    let gone = reader.read(LIMIT).await.unwrap_err();
    assert_eq!((gone.kind, gone.fault.code()), (SourceErrorKind::Unavailable, codes::GONE), "{gone}");
    // It answered before, so it is waited for.
    let resumed = tokio::task::spawn_blocking(move || {
        server.resume();
        server
    });
    let next = reader.read(LIMIT).await.unwrap().unwrap();
    assert_eq!(ids(&next)[0], 10);
    resumed.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_loses_nothing() {
    let scene = Scene::new();
    scene.fill(&scene.key("log"), 0..200);
    let proxy = Proxy::before(scene.host()).await;
    let source = opened(&scene, serde_json::json!({ "url": scene.through(proxy.port()) })).await.unwrap();
    let mut reader = reader(&source, &scene, None).await;
    let mut found = Vec::new();
    let mut cuts: u64 = 0;
    loop {
        if cuts < 8 {
            proxy.fail(Failure::Cut { bytes: 150 * (cuts + 1) });
            cuts += 1;
        }
        match reader.read(LIMIT).await {
            Ok(Some(batch)) => found.extend(ids(&batch)),
            Ok(None) => break,
            Err(error) => assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}"),
        }
    }
    assert!(proxy.happened() > 2, "nothing was cut");
    assert_eq!(found, (0..200).collect::<Vec<i64>>());
}

/// A user with what the page lists, but this.
fn user(server: &Own, name: &str, stream: &str, without: Option<&str>) -> String {
    let page = include_str!("../../../docs/connectors/redis.md").replace("\\\n ", "");
    let listed = page
        .lines()
        .find(|line| line.contains("~orders "))
        .unwrap()
        .replace("~orders ", &format!("~{stream} "));
    let rights = listed.split_whitespace().skip_while(|word| !word.starts_with('~'));
    let rights: Vec<&str> = rights.filter(|right| Some(*right) != without).collect();
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg(name).arg("on").arg(">secret").arg(&rights);
    let () = user.query(&mut redis::Client::open(server.url()).unwrap().get_connection().unwrap()).unwrap();
    format!("redis://{name}:secret@{}", server.url().rsplit_once('@').unwrap().1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_a_right_is_told_which_one_is_missing() {
    let server = Own::start(&[]);
    let scene = Scene::on(&server.url());
    scene.fill(&scene.key("log"), 0..5);
    let stream = scene.key("log");
    let all = user(&server, "all", &stream, None);
    let source = opened(&scene, serde_json::json!({ "url": all })).await.unwrap();
    let mut enough = reader(&source, &scene, None).await;
    assert_eq!(ids(&ten(&mut enough).await), [0, 1, 2, 3, 4]);
    for (nth, (right, named)) in [
        ("+info", "`+info`"),
        ("+xinfo", "`+xinfo|stream`"),
        ("+xrange", "`+xrange`"),
        ("+multi", "`+multi`"),
        ("+exec", "`+exec`"),
        (format!("~{stream}").as_str(), format!("`~{stream}`").as_str()),
    ]
    .into_iter()
    .enumerate()
    {
        let url = user(&server, &format!("user{nth}"), &stream, Some(right));
        let error = opened(&scene, serde_json::json!({ "url": url })).await.err().expect(right);
        assert_eq!((error.fault.code(), error.kind), (codes::DENIED, SourceErrorKind::Stop), "{error}");
        assert!(error.to_string().contains(named), "{right}: {error}");
    }
    // One that may read, and not wait for more.
    let url = user(&server, "impatient", &stream, Some("+xread"));
    let source = opened(&scene, serde_json::json!({ "url": url })).await.unwrap();
    let mut reader = reader(&source, &scene, None).await;
    ten(&mut reader).await;
    assert!(reader.read(LIMIT).await.unwrap().is_none());
    let error = reader.more().await.unwrap_err();
    assert_eq!((error.fault.code(), error.kind), (codes::DENIED, SourceErrorKind::Stop), "{error}");
    assert!(error.to_string().contains("`+xread`"), "{error}");
}
