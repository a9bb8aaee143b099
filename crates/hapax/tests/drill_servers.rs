//! Drills of pipelines whose destination is on a server: on a scratch schema or database, and on nothing else.
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

#[path = "../../../connectors/kafka/tests/scene/mod.rs"]
mod scene;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tempfile::TempDir;
use tokio_postgres::{Config, NoTls};

const RECORDS: usize = 400;

fn blocking<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A folder with a CSV and a pipeline into this sink.
fn place(sink: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..RECORDS).map(|n| format!("{n},name {n}\n")).collect();
    fs::write(folder.path().join("people.csv"), format!("id,name\n{rows}")).unwrap();
    let text = format!(
        "name: drilled\nsource:\n  files: {{ path: people.csv }}\nidentity: {{ key: [id] }}\nduplicates: drop\n\
         sink:\n  {sink}\ndelivery: exactly-once\n"
    );
    fs::write(folder.path().join("p.yaml"), text).unwrap();
    fs::create_dir(folder.path().join("scratch")).unwrap();
    folder
}

fn drill(folder: &TempDir, kills: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_hapax"))
        .args(["drill", "p.yaml", "--kills", kills, "--seed", "5", "--json", "--scratch", "scratch"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for(what: &str, mut is_true: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !is_true() {
        assert!(Instant::now() < until, "{what} did not come in two minutes");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A drill that is killed, and one that is held to its end and clears up behind both.
fn drilled(folder: &TempDir, scratches: impl Fn() -> Vec<String>) {
    let mut dies = drill(folder, "1000000");
    wait_for("a scratch destination", || !scratches().is_empty() || dies.try_wait().unwrap().is_some());
    assert!(dies.try_wait().unwrap().is_none(), "{:?}", dies.wait_with_output());
    dies.kill().unwrap();
    dies.wait().unwrap();
    let left = scratches();
    let ended = drill(folder, "3").wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    assert!(said.contains("\"lost\": 0") && said.contains("\"kept\": true"), "{said}");
    // A broker says of a topic that it is there for a moment after it was deleted.
    wait_for(&format!("the end of all scratches, also of what the first drill left, {left:?},"), || {
        scratches().is_empty()
    });
    assert_eq!(fs::read_dir(folder.path().join("scratch")).unwrap().count(), 0);
}

#[test]
fn a_drill_on_postgres_makes_schemas_and_removes_them() {
    let server = hapax_conformance::server::postgres();
    let name = format!("hapax_drilled_{}", std::process::id());
    let asked = |url: &str, sql: String| {
        let server: Config = url.parse().unwrap();
        blocking(async move {
            let (client, connection) = server.connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            let said = client.simple_query(&sql).await.unwrap();
            let rows = said.iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap().to_owned()),
                _ => None,
            });
            rows.collect::<Vec<_>>()
        })
    };
    asked(&server, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
    asked(&server, format!("CREATE DATABASE {name}"));
    let (before, _) = server.rsplit_once('/').unwrap();
    let url = format!("{before}/{name}");
    asked(
        &url,
        "CREATE TABLE people (id bigint, name text); INSERT INTO people VALUES (-1, 'precious')".into(),
    );
    let folder = place(&format!("postgres: {{ url: '{url}', table: people }}"));
    drilled(&folder, || asked(&url, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hapax%'".into()));
    assert_eq!(asked(&url, "SELECT id || name FROM people".into()), ["-1precious"]);
    let tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE E'\\\\_hapax%'";
    assert_eq!(asked(&url, tables.into()), Vec::<String>::new(), "the real destination was not touched");
    asked(&server, format!("DROP DATABASE {name} WITH (FORCE)"));
}

#[test]
fn a_drill_on_mysql_makes_databases_and_removes_them() {
    let server = hapax_conformance::server::mysql();
    let name = format!("hapaxed_{}", std::process::id());
    let (before, _) = server.rsplit_once('/').unwrap();
    let asked = |sql: String| {
        let options = mysql_async::Opts::from_url(&format!("{before}/information_schema")).unwrap();
        blocking(async move {
            let mut session = mysql_async::Conn::new(options).await.unwrap();
            let rows: Vec<String> = session.query(sql).await.unwrap();
            session.disconnect().await.unwrap();
            rows
        })
    };
    asked(format!("CREATE DATABASE {name}"));
    asked(format!("CREATE TABLE {name}.people (id bigint, name text)"));
    asked(format!("INSERT INTO {name}.people VALUES (-1, 'precious')"));
    let folder = place(&format!("mysql: {{ url: '{before}/{name}', table: people }}"));
    drilled(&folder, || {
        asked("SELECT SCHEMA_NAME FROM SCHEMATA WHERE SCHEMA_NAME LIKE 'hapax\\_drill%'".into())
    });
    assert_eq!(asked(format!("SELECT CONCAT(id, name) FROM {name}.people")), ["-1precious"]);
    let tables = format!("SELECT TABLE_NAME FROM TABLES WHERE TABLE_SCHEMA = '{name}'");
    assert_eq!(asked(tables), ["people"], "the real destination was not touched");
    asked(format!("DROP DATABASE {name}"));
}

/// What one round says whose worker stalls before its first commit and wakes up behind the last one of another.
fn stalled(folder: &TempDir, planted: Option<&str>) -> serde_json::Value {
    let ended = Command::new(env!("CARGO_BIN_EXE_hapax"))
        .args(["drill", "p.yaml", "--seed", "8", "--round", "17", "--json", "--scratch", "scratch"])
        .envs(planted.map(|mistake| ("HAPAX_PLANT", mistake)))
        .current_dir(folder.path())
        .output()
        .unwrap();
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
}

#[test]
fn a_stream_of_redis_shows_a_repeat_that_hashes_hide() {
    let (url, name) = (hapax_conformance::server::redis(), format!("hapax_drilled_{}", std::process::id()));
    let hashes = format!("redis: {{ url: '{url}', key: '{name}:{{id}}' }}");
    let stream = format!("redis: {{ url: '{url}', key: {name}, write: stream }}");
    for (sink, planted, repeated) in
        [(&stream, None, 0), (&stream, Some("no-fence"), RECORDS), (&hashes, Some("no-fence"), 0)]
    {
        let folder = place(sink);
        let file = folder.path().join("p.yaml");
        let text = fs::read_to_string(&file).unwrap().replace("duplicates: drop", "duplicates: keep");
        fs::write(&file, text).unwrap();
        let row = stalled(&folder, planted);
        assert_eq!(row["duplicated"], repeated, "{sink}, {planted:?}: {row:#}");
        assert_eq!(row["kept"], planted.is_none(), "{sink}, {planted:?}: {row:#}");
        if let Some(finding) = row["findings"].get(0) {
            assert!(finding["schedule"].to_string().contains("stalled at position-read:1"), "{row:#}");
        }
    }
}

#[test]
fn a_drill_on_kafka_makes_topics_and_removes_them() {
    let scene = scene::Scene::new();
    let (topic, state) = (scene.topic("people", 2, &[]), scene.name("state"));
    scene.write(&topic, [(0, None, Some(&b"precious"[..]))]);
    let brokers = &scene.brokers;
    let folder =
        place(&format!("kafka: {{ brokers: \"{brokers}\", topic: {topic}, state: {state}, key: [id] }}"));
    let file = folder.path().join("p.yaml");
    // A topic keeps no identities.
    let text = fs::read_to_string(&file).unwrap().replace("duplicates: drop", "duplicates: keep");
    fs::write(&file, text).unwrap();
    drilled(&folder, || scene.topics("hapax_drill"));
    assert_eq!(scene.messages(&topic).len(), 1, "the real destination was not touched");
    assert!(!scene.exists(&state), "the real positions were not touched");
}
