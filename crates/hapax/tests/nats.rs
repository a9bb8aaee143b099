//! Pipelines out of a real NATS server, as a person runs them, and as they are killed.
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

mod queue_kit;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use hapax_conformance::server::Own;
use queue_kit::jetstream::Server;
use queue_kit::{Hapax, POINTS, root};
use rusqlite::Connection;

fn order(id: u32) -> String {
    format!("{{\"id\":{id},\"status\":\"new\",\"amount\":{}.25,\"at\":\"2026-11-24T08:00:00Z\"}}", id % 100)
}

/// A number that SQLite answers with; 0 where there is nothing to ask.
fn ask(path: &Path, sql: &str) -> i64 {
    let Ok(connection) = Connection::open(path) else { return 0 };
    connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap_or(0)
}

#[test]
fn the_example_runs() {
    let url = hapax_conformance::server::nats();
    let server = Server::at(&url);
    server.make("EXAMPLE_ORDERS", "example.orders.>");
    server.publish("example.orders.eu", (0..200).map(order));
    let folder = tempfile::tempdir().unwrap();
    let hapax = Hapax {
        folder: folder.path().to_owned(),
        file: root().join("examples/nats-to-sqlite.yaml"),
        variables: vec![("NATS_URL", url)],
    };
    for command in ["validate", "plan"] {
        let (code, said) = hapax.said(&[command]);
        assert_eq!(code, 0, "{said}");
        assert!(command == "validate" || said.contains("exactly-once"), "{said}");
    }
    assert_eq!(hapax.moved(), 200);
    let db = folder.path().join("orders.db");
    assert_eq!(ask(&db, "SELECT count(*) FROM orders WHERE _subject = 'example.orders.eu'"), 200);
    assert_eq!(ask(&db, "SELECT max(_sequence) FROM orders"), 200);
    server.publish("example.orders.us", (200..205).map(order));
    let (code, said) = hapax.said(&["status"]);
    assert!(code == 0 && said.contains("sequence 200"), "{said}");
    assert_eq!(hapax.moved(), 5);
    assert_eq!(hapax.moved(), 0);
    // One that nobody can read is set aside, and those behind it move.
    server.publish("example.orders.us", ["{\"id\":\"no number\"}".to_owned(), order(205)].into_iter());
    assert_eq!(hapax.moved(), 1);
    let (code, said) = hapax.said(&["dead-letters", "list"]);
    assert!(code == 0 && said.contains("HX0725") && said.contains("no number"), "{said}");
    server.make("EXAMPLE_ORDERS", "example.orders.>");
    let (code, said) = hapax.said(&["run"]);
    assert!(code == 1 && said.contains("HX0730"), "{said}");
    server.delete("EXAMPLE_ORDERS");
    let (code, said) = hapax.said(&["run"]);
    assert!(code != 0 && said.contains("HX0723"), "{said}");
}

fn pipeline(folder: &Path, stream: &str, source: &str, more: &str) -> std::path::PathBuf {
    let text = format!(
        "version: 1\nname: killed\nsource:\n  nats:\n    url: ${{env:NATS_URL}}\n    stream: {stream}\n    \
         schema: {{ id: int64, status: string, amount: \"decimal(12,2)\", at: timestamptz }}\n{source}\
         sink:\n  sqlite: {{ path: out.db, table: orders }}\ndelivery: exactly-once\ncommit: {{ records: 300 }}\n{more}"
    );
    let file = folder.join("p.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Kills runs until all is moved; returns how many were killed.
fn killed(name: &str, source: &str, twice: bool) -> i32 {
    let url = hapax_conformance::server::nats();
    let server = Server::at(&url);
    let stream = format!("hapax_killed_{name}_{}", std::process::id());
    server.make(&stream, &format!("{stream}.>"));
    let records = 12_000;
    server.publish(&format!("{stream}.a"), (0..records).map(order));
    if twice {
        server.consumer(&stream);
        server.publish(&format!("{stream}.a"), (0..records / 2).map(order));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = pipeline(folder.path(), &stream, source, "");
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables: vec![("NATS_URL", url)] };
    let db = folder.path().join("out.db");
    let mut kills = 0;
    for round in 1..=12 {
        let arrived = || ask(&db, "SELECT count(*) FROM orders") >= round * 900;
        kills += i32::from(hapax.start().kill_once(arrived));
        assert_eq!(ask(&db, "SELECT count(*) - count(DISTINCT id) FROM orders"), 0, "after {kills} kills");
    }
    assert!(kills >= 8, "only {kills} runs were killed");
    hapax.moved();
    assert_eq!(hapax.moved(), 0);
    assert_eq!(ask(&db, "SELECT count(*) FROM orders"), i64::from(records), "after {kills} kills");
    assert_eq!(ask(&db, "SELECT count(DISTINCT id) FROM orders"), i64::from(records));
    if twice {
        assert_eq!(server.open_at(&stream, "worker"), 0, "what took effect was not acknowledged");
    }
    server.delete(&stream);
    println!("{name}: {kills} kills, {records} records, 0 lost, 0 duplicated");
    kills
}

#[test]
fn a_run_by_sequence_that_is_killed_moves_each_message_once() {
    killed("straight", "", false);
}

#[test]
fn a_run_with_a_consumer_that_is_killed_moves_each_message_once() {
    killed("shared", "    consumer: worker\nidentity: { key: [id] }\n", true);
}

#[test]
fn two_workers_of_a_consumer_that_are_killed_move_each_message_once() {
    killed("workers", "    consumer: worker\n    workers: 2\nidentity: { key: [id] }\n", true);
}

#[test]
fn status_says_how_much_waits_for_a_consumer() {
    let url = hapax_conformance::server::nats();
    let server = Server::at(&url);
    let stream = format!("hapax_lag_{}", std::process::id());
    server.make(&stream, &format!("{stream}.>"));
    server.consumer(&stream);
    server.publish(&format!("{stream}.a"), (0..40).map(order));
    let folder = tempfile::tempdir().unwrap();
    let source = "    consumer: worker\nidentity: { key: [id] }\n";
    let file = pipeline(folder.path(), &stream, source, "");
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables: vec![("NATS_URL", url)] };
    assert_eq!(hapax.moved(), 40);
    server.publish(&format!("{stream}.a"), (40..47).map(order));
    let (code, said) = hapax.said(&["status"]);
    assert!(code == 0 && said.contains(", 7 records behind"), "{said}");
    server.delete(&stream);
}

fn every_point(name: &str, source: &str) {
    let url = hapax_conformance::server::nats();
    let server = Server::at(&url);
    let mut kills = 0;
    for point in POINTS {
        let stream = format!("hapax_points_{name}_{point}_{}", std::process::id());
        server.make(&stream, &format!("{stream}.>"));
        server.consumer(&stream);
        server.publish(&format!("{stream}.a"), (0..1500).map(order));
        let folder = tempfile::tempdir().unwrap();
        let file = pipeline(folder.path(), &stream, source, "");
        let hapax =
            Hapax { folder: folder.path().to_owned(), file, variables: vec![("NATS_URL", url.clone())] };
        let killed: i32 = [1, 3, 2].map(|nth| i32::from(hapax.crash(&format!("{point}:{nth}")))).iter().sum();
        assert!(killed > 0, "no run came to {point}");
        kills += killed;
        hapax.moved();
        assert_eq!(hapax.moved(), 0);
        let db = folder.path().join("out.db");
        let counted = "SELECT count(*) * 10000 + count(DISTINCT id) FROM orders";
        assert_eq!(ask(&db, counted), 15_001_500, "killed at {point}");
        server.delete(&stream);
    }
    println!("{name}: {kills} kills at {} points, 0 lost, 0 duplicated", POINTS.len());
}

#[test]
fn every_crash_point_is_survived_by_sequence() {
    every_point("straight", "");
}

#[test]
fn every_crash_point_is_survived_with_a_consumer() {
    every_point("shared", "    consumer: worker\nidentity: { key: [id] }\n");
}

/// The id in a body, which its subject ends with.
fn own_id(subject: &str, body: &[u8]) -> u32 {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap();
    let id = value["id"].as_u64().unwrap() as u32;
    assert!(subject.ends_with(&format!(".{id}")), "{subject} holds {id}");
    id
}

/// A pipeline out of one stream into another.
struct Between {
    server: Server,
    from: String,
    to: String,
    hapax: Hapax,
    records: u32,
    _folder: tempfile::TempDir,
}

impl Between {
    fn new(name: &str, once: &str, subject: &str, records: u32) -> Self {
        let url = hapax_conformance::server::nats();
        let server = Server::at(&url);
        let [from, to] = ["from", "to"].map(|end| format!("hapax_{name}_{end}_{}", std::process::id()));
        server.make(&from, &format!("{from}.>"));
        server.make(&to, &format!("{to}.>"));
        server.publish(&format!("{from}.a"), (0..records).map(order));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        let text = format!(
            "version: 1\nname: killed\nsource:\n  nats:\n    url: ${{env:NATS_URL}}\n    stream: {from}\n    \
             schema: {{ id: int64, status: string, amount: \"decimal(12,2)\", at: timestamptz }}\n\
             identity: {{ key: [id] }}\nsink:\n  nats: {{ url: \"${{env:NATS_URL}}\", stream: {to}, subject: \"{to}.{subject}\", once: {once} }}\n\
             commit: {{ records: 200 }}\n"
        );
        std::fs::write(&file, text).unwrap();
        let hapax = Hapax { folder: folder.path().to_owned(), file, variables: vec![("NATS_URL", url)] };
        Self { server, from, to, hapax, records, _folder: folder }
    }

    /// Counts what arrived, by its bodies: each record once, and nothing else.
    fn has_each_once(&self, by_subject: bool) {
        let messages = self.server.messages(&self.to);
        assert_eq!(messages.len(), self.records as usize);
        let bodies: BTreeSet<&Vec<u8>> = messages.iter().map(|(_, body)| body).collect();
        assert_eq!(bodies.len(), self.records as usize, "two messages are the same");
        if by_subject {
            let ids: BTreeSet<u32> = messages.iter().map(|(subject, body)| own_id(subject, body)).collect();
            assert_eq!(ids, (0..self.records).collect());
        }
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.server.delete(&self.from);
        self.server.delete(&self.to);
    }
}

fn killed_between(once: &str, subject: &str) {
    let between = Between::new(once, once, subject, 6_000);
    let Between { server, to, hapax, .. } = &between;
    let (code, said) = hapax.said(&["plan"]);
    assert_eq!(code, 0, "{said}");
    let promised = if once == "subject" { "exactly-once" } else { "exactly-once within 2m" };
    assert!(said.contains(&format!("guarantee  {promised}\n")) && said.contains("power loss"), "{said}");
    let mut kills = 0;
    for round in 1..=8 {
        kills += i32::from(hapax.start().kill_once(|| server.holds(to) >= round * 600));
    }
    assert!(kills >= 6, "only {kills} runs were killed");
    hapax.moved();
    assert_eq!(hapax.moved(), 0);
    between.has_each_once(once == "subject");
    println!("nats to nats by {once}: {kills} kills, {} records, 0 lost, 0 duplicated", between.records);
}

#[test]
fn a_run_by_subject_that_wakes_up_late_sends_nothing_twice() {
    let between = Between::new("late", "subject", "{id}", 1_000);
    // It stands still with a batch in its hands that it has not sent, while another run moves everything.
    let stalled = between.hapax.stopped_at("claimed:2");
    assert!(between.hapax.moved() > 0);
    between.has_each_once(true);
    assert_eq!(stalled.go_on(), 5, "it was superseded");
    between.has_each_once(true);
    assert_eq!(between.hapax.moved(), 0);
}

/// What a plan says of a stream with these settings that is written by subject, and the code it ends with.
fn planned(settings: Config, source: &str, more: &str) -> (i32, String) {
    let url = hapax_conformance::server::nats();
    let server = Server::at(&url);
    let names = ["from", "to"].map(|name| format!("hapax_planned_{name}_{}", std::process::id()));
    let [from, to] = &names;
    server.make(from, &format!("{from}.>"));
    server.make_with(to, &format!("{to}.>"), settings);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    let text = format!(
        "name: planned\nsource:\n  nats: {{ url: \"${{env:NATS_URL}}\", stream: {from}, schema: {{ id: int64 }}{source} }}\n\
         identity: {{ key: [id] }}\nsink:\n  nats: {{ url: \"${{env:NATS_URL}}\", stream: {to}, subject: \"{to}.{{id}}\", once: subject }}\n{more}"
    );
    std::fs::write(&file, text).unwrap();
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables: vec![("NATS_URL", url)] };
    let said = hapax.said(&["plan"]);
    names.iter().for_each(|name| server.delete(name));
    said
}

#[test]
fn what_a_stream_forgets_decides_what_is_promised() {
    let exactly = "delivery: exactly-once\n";
    let shared = ", consumer: worker";
    let keeps = Config { deny_delete: true, deny_purge: true, ..Config::default() };
    let full = Config { max_messages: 10, discard: DiscardPolicy::New, ..keeps.clone() };
    for settings in [keeps.clone(), full] {
        for source in ["", shared] {
            let (code, said) = planned(settings.clone(), source, exactly);
            assert!(code == 0 && said.contains("guarantee  exactly-once\n"), "{said}");
            assert!(said.contains("refused, for good") && said.contains("rule 7"), "{said}");
            assert!(said.contains("power loss") && !said.contains("deny_purge"), "{said}");
            assert!(said.contains("two records with the same key are the same record"), "{said}");
        }
    }
    let (code, said) = planned(Config::default(), "", exactly);
    assert!(code == 0 && said.contains("deny_purge"), "{said}");
    let hour = Duration::from_secs(3600);
    let aged = Config { max_age: hour, ..keeps.clone() };
    let counted = Config { max_messages: 10, ..keeps.clone() };
    let held = Config { storage: StorageType::Memory, ..keeps };
    for (settings, level, words, raise) in [
        (aged, "exactly-once within 1h", "`max_age`", "refuses repeats for good"),
        (counted.clone(), "at-least-once", "`max_msgs`", "refuses repeats for good"),
        (counted, "at-least-once", "until a limit of its size has removed", "exactly-once"),
        (held, "lossy", "forget a write it acknowledged", "keeps what it acknowledged"),
    ] {
        let (code, said) = planned(settings.clone(), "", "");
        assert_eq!(code == 0, level != "lossy", "{said}");
        assert!(said.contains(&format!("guarantee  {level}")), "{said}");
        assert!(said.contains(words) && said.contains(raise), "{said}");
        let (code, said) = planned(settings, "", exactly);
        assert!(code == 3, "{said}");
    }
}

#[test]
fn a_run_into_a_stream_by_ids_that_is_killed_sends_each_message_once() {
    killed_between("message_id", "x");
}

#[test]
fn a_run_into_a_stream_by_subjects_that_is_killed_sends_each_message_once() {
    killed_between("subject", "{id}");
}

fn restarted(source: &str) {
    let own = Own::start("nats", &[]);
    let url = own.says("url");
    let server = Server::at(&url);
    server.make("s", "s.>");
    server.publish("s.a", (0..3000).map(order));
    let folder = tempfile::tempdir().unwrap();
    let hapax = Hapax {
        folder: folder.path().to_owned(),
        file: pipeline(folder.path(), "s", source, "follow: true\n"),
        variables: vec![("NATS_URL", url.clone())],
    };
    let db = folder.path().join("out.db");
    let mut running = hapax.start();
    running.wait_for("the first records", || ask(&db, "SELECT count(*) FROM orders") >= 300);
    drop(server);
    own.restart();
    assert_eq!(own.says("url"), url, "the server came back elsewhere");
    Server::at(&url).publish("s.a", (3000..4000).map(order));
    running.wait_for("all records", || ask(&db, "SELECT count(*) FROM orders") >= 4000);
    assert_eq!(running.stop(), 0, "{}", hapax.log());
    assert_eq!(ask(&db, "SELECT count(DISTINCT id) FROM orders"), 4000);
    assert_eq!(ask(&db, "SELECT count(*) FROM orders"), 4000);
}

#[test]
fn a_server_that_is_restarted_is_waited_for_by_sequence() {
    restarted("");
}

#[test]
fn a_server_that_is_restarted_is_waited_for_with_a_consumer() {
    restarted("    consumer: worker\nidentity: { key: [id] }\n");
}
