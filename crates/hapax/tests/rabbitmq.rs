//! Pipelines out of a real RabbitMQ broker, as a person runs them, and as they are killed.
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

use std::path::Path;
use std::time::{Duration, Instant};

use hapax_conformance::server::Own;
use queue_kit::broker::Broker;
use queue_kit::{Database, Hapax, POINTS, root};

fn orders(ids: std::ops::Range<u32>) -> impl Iterator<Item = (String, String)> {
    ids.map(|id| {
        let body = format!(
            "{{\"id\":{id},\"status\":\"new\",\"amount\":{}.25,\"at\":\"2026-11-24T08:00:00Z\"}}",
            id % 100
        );
        (format!("order-{id}"), body)
    })
}

#[test]
fn the_example_runs() {
    let url = hapax_conformance::server::rabbitmq();
    let (broker, database) = (Broker::at(&url), Database::new("example"));
    let queue = "hapax_example_orders";
    broker.declare(queue, "classic");
    broker.publish(queue, orders(0..200));
    // Published again by somebody who did not get an answer; and one that nobody can read.
    broker.publish(queue, orders(50..150));
    broker.publish(queue, std::iter::once(("broken".to_owned(), "no JSON".to_owned())));
    let folder = tempfile::tempdir().unwrap();
    let hapax = Hapax {
        folder: folder.path().to_owned(),
        file: root().join("examples/rabbitmq-to-postgres.yaml"),
        variables: vec![("RABBITMQ_URL", url), ("TARGET_URL", database.url())],
    };
    for command in ["validate", "plan"] {
        let (code, said) = hapax.said(&[command]);
        assert_eq!(code, 0, "{said}");
        assert!(command == "validate" || said.contains("exactly-once"), "{said}");
    }
    assert_eq!(broker.waiting(queue), 301, "a plan took messages");
    assert_eq!(hapax.moved(), 200);
    assert_eq!(broker.waiting(queue), 0);
    assert_eq!(database.ask("SELECT sum(amount) FROM orders_from_rabbitmq").as_deref(), Some("9950.00"));
    let (code, said) = hapax.said(&["dead-letters", "list"]);
    assert!(code == 0 && said.contains("HX0696"), "{said}");
    broker.publish(queue, orders(199..205));
    let (code, said) = hapax.said(&["status"]);
    assert!(code == 0 && said.contains(", 6 records behind"), "{said}");
    assert_eq!(hapax.moved(), 5);
    let (code, said) = hapax.said(&["status"]);
    assert!(code == 0 && said.contains("205"), "{said}");
    broker.delete(queue);
    let (code, said) = hapax.said(&["run"]);
    assert!(code != 0 && said.contains("HX0694"), "{said}");
}

/// A pipeline from a queue into the table `orders`.
fn pipeline(folder: &Path, queue: &str, more: &str) -> std::path::PathBuf {
    let text = format!(
        "version: 1\nname: killed\nsource:\n  rabbitmq:\n    url: ${{env:RABBITMQ_URL}}\n    queue: {queue}\n    \
         prefetch: 900\n    schema: {{ id: int64, status: string, amount: \"decimal(12,2)\", at: timestamptz }}\n\
         identity: {{ key: [id] }}\nsink:\n  postgres: {{ url: \"${{env:TARGET_URL}}\", table: orders }}\n\
         delivery: exactly-once\ncommit: {{ records: 300 }}\n{more}"
    );
    let file = folder.join("p.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Waits until the broker says that nothing waits, which a quorum queue learns a little later.
fn drained(broker: &Broker, queue: &str) {
    let until = Instant::now() + Duration::from_secs(120);
    while broker.waiting(queue) > 0 {
        assert!(Instant::now() < until, "{} messages stay", broker.waiting(queue));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn killed(kind: &str, workers: u32, rounds: i32, records: u32) {
    killed_by("{ key: [id] }", kind, workers, rounds, records);
}

fn killed_by(identity: &str, kind: &str, workers: u32, rounds: i32, records: u32) {
    let url = hapax_conformance::server::rabbitmq();
    let by = if identity == "hash" { "hash" } else { "key" };
    let database = Database::new(&format!("killed_{kind}_{by}_{workers}"));
    let broker = Broker::at(&url);
    let queue = format!("hapax_killed_{kind}_{by}_{workers}_{}", std::process::id());
    broker.declare(&queue, kind);
    broker.publish(&queue, orders(0..records));
    broker.publish(&queue, orders(0..records / 2));
    let folder = tempfile::tempdir().unwrap();
    let file = pipeline(folder.path(), &queue, "");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("prefetch: 900", &format!("prefetch: 900\n    workers: {workers}"));
    std::fs::write(&file, text.replace("{ key: [id] }", identity)).unwrap();
    let hapax = Hapax {
        folder: folder.path().to_owned(),
        file,
        variables: vec![("RABBITMQ_URL", url), ("TARGET_URL", database.url())],
    };
    let mut kills = 0;
    for round in 1..=rounds {
        let wanted = i64::from(round) * 900;
        let arrived = || database.count("SELECT count(*) FROM orders") >= wanted;
        kills += i32::from(hapax.start().kill_once(arrived));
        let twice = database.count("SELECT count(*) - count(DISTINCT id) FROM orders");
        assert_eq!(twice, 0, "after {kills} kills");
    }
    assert!(kills >= rounds * 2 / 3, "only {kills} runs were killed");
    // What a killed run held may come back a little later.
    let until = Instant::now() + Duration::from_secs(120);
    while hapax.moved() > 0 || database.count("SELECT count(*) FROM orders") < i64::from(records) {
        assert!(Instant::now() < until, "lost after {kills} kills");
    }
    assert_eq!(database.count("SELECT count(*) FROM orders"), i64::from(records), "after {kills} kills");
    assert_eq!(database.count("SELECT count(DISTINCT id) FROM orders"), i64::from(records));
    drained(&broker, &queue);
    broker.delete(&queue);
    println!("{kind}, {workers} workers: {kills} kills, {records} records, 0 lost, 0 duplicated");
}

#[test]
fn a_run_that_is_killed_moves_each_message_once() {
    killed("classic", 1, 12, 12_000);
}

#[test]
fn two_workers_that_are_killed_move_each_message_once() {
    killed("classic", 2, 12, 12_000);
}

#[test]
fn a_quorum_queue_gives_back_what_killed_runs_held() {
    killed("quorum", 1, 5, 8_000);
    killed("quorum", 2, 5, 8_000);
}

#[test]
fn messages_that_only_their_content_tells_apart_are_moved_once() {
    killed_by("hash", "classic", 1, 4, 4_000);
}

#[test]
fn messages_that_are_given_out_three_times_take_effect_once() {
    let url = hapax_conformance::server::rabbitmq();
    for kind in ["classic", "quorum"] {
        let database = Database::new(&format!("storm_{kind}"));
        let broker = Broker::at(&url);
        let queue = format!("hapax_storm_{kind}_{}", std::process::id());
        broker.declare(&queue, kind);
        broker.publish(&queue, orders(0..300));
        let folder = tempfile::tempdir().unwrap();
        let hapax = Hapax {
            folder: folder.path().to_owned(),
            file: pipeline(folder.path(), &queue, ""),
            variables: vec![("RABBITMQ_URL", url.clone()), ("TARGET_URL", database.url())],
        };
        let given_back = || {
            let until = Instant::now() + Duration::from_secs(120);
            while broker.waiting(&queue) < 300 {
                assert!(Instant::now() < until, "{} messages came back", broker.waiting(&queue));
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        for round in 1..=2 {
            given_back();
            assert!(hapax.crash("acknowledge-before:1"), "{kind}, round {round}");
            assert_eq!(database.count("SELECT count(*) FROM orders"), 300, "{kind}, round {round}");
        }
        given_back();
        let (code, said) = hapax.said(&["run"]);
        assert!(code == 0 && said.contains("300 suppressed"), "{kind}: {said}");
        assert_eq!(database.count("SELECT count(*) * 1000 + count(DISTINCT id) FROM orders"), 300_300);
        drained(&broker, &queue);
        broker.delete(&queue);
    }
}

#[test]
fn every_crash_point_is_survived() {
    let url = hapax_conformance::server::rabbitmq();
    let database = Database::new("points");
    let broker = Broker::at(&url);
    let mut kills = 0;
    for point in POINTS {
        database.ask("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        let queue = format!("hapax_points_{point}_{}", std::process::id());
        broker.declare(&queue, "classic");
        broker.publish(&queue, orders(0..1500));
        broker.publish(&queue, orders(100..300));
        let folder = tempfile::tempdir().unwrap();
        let hapax = Hapax {
            folder: folder.path().to_owned(),
            file: pipeline(folder.path(), &queue, ""),
            variables: vec![("RABBITMQ_URL", url.clone()), ("TARGET_URL", database.url())],
        };
        let killed: i32 = [1, 3, 2].map(|nth| i32::from(hapax.crash(&format!("{point}:{nth}")))).iter().sum();
        assert!(killed > 0, "no run came to {point}");
        kills += killed;
        hapax.moved();
        assert_eq!(hapax.moved(), 0);
        let counted = "SELECT count(*) * 10000 + count(DISTINCT id) FROM orders";
        assert_eq!(database.count(counted), 15_001_500, "killed at {point}");
        assert_eq!(broker.waiting(&queue), 0, "killed at {point}");
        broker.delete(&queue);
    }
    println!("{kills} kills at {} points, 0 lost, 0 duplicated", POINTS.len());
}

#[test]
fn a_run_that_stalls_and_wakes_up_late_is_fenced() {
    let url = hapax_conformance::server::rabbitmq();
    let database = Database::new("stalled");
    let broker = Broker::at(&url);
    let queue = format!("hapax_stalled_{}", std::process::id());
    broker.declare(&queue, "classic");
    broker.publish(&queue, orders(0..3000));
    let folder = tempfile::tempdir().unwrap();
    // The broker gives up a connection that is silent for two heartbeats.
    let hapax = Hapax {
        folder: folder.path().to_owned(),
        file: pipeline(folder.path(), &queue, ""),
        variables: vec![("RABBITMQ_URL", format!("{url}?heartbeat=1")), ("TARGET_URL", database.url())],
    };
    let first = hapax.stopped_at("commit-after:2");
    let until = Instant::now() + Duration::from_secs(120);
    while database.count("SELECT count(*) FROM orders") < 3000 {
        assert!(Instant::now() < until, "what the stalled run holds does not come back");
        hapax.moved();
    }
    assert_eq!(first.go_on(), 5, "it was not fenced");
    assert_eq!(hapax.moved(), 0);
    assert_eq!(database.count("SELECT count(*) FROM orders"), 3000);
    assert_eq!(database.count("SELECT count(DISTINCT id) FROM orders"), 3000);
    assert_eq!(broker.waiting(&queue), 0);
    broker.delete(&queue);
}

/// A pipeline whose `url` is followed by these lines, as `hapax plan` shows it.
fn planned(queue: &str, more: &str) -> String {
    let (folder, database) =
        (tempfile::tempdir().unwrap(), Database::new(&format!("planned_{}", more.len())));
    let file = pipeline(folder.path(), queue, "");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("    prefetch: 900\n", &format!("    prefetch: 900\n{more}")))
        .unwrap();
    let hapax = Hapax {
        folder: folder.path().to_owned(),
        file,
        variables: vec![
            ("RABBITMQ_URL", hapax_conformance::server::rabbitmq()),
            ("TARGET_URL", database.url()),
        ],
    };
    let (code, said) = hapax.said(&["plan"]);
    assert_eq!(code, 0, "{said}");
    said
}

#[test]
fn the_plan_shows_the_delivery_limit() {
    let broker = Broker::at(&hapax_conformance::server::rabbitmq());
    let queue = format!("hapax_limited_{}", std::process::id());
    broker.declare_with(&queue, "quorum", &[("x-delivery-limit", 6)]);
    let management = hapax_conformance::server::rabbitmq_management();
    let management = format!("    management: http://{}\n", management.rsplit_once('@').unwrap().1);
    let said = planned(&queue, &management);
    assert!(said.contains("delivery limit of 6") && said.contains("drops it"), "{said}");
    assert!(said.contains("guarantee  exactly-once"), "{said}");
    let said = planned(&queue, "");
    assert!(
        said.contains("`management` lets Hapax look at the limit") && !said.contains("limit of 6"),
        "{said}"
    );
    broker.delete(&queue);
}

#[test]
fn the_plan_of_a_pipeline_into_a_queue_says_what_its_consumers_have_to_do() {
    let url = hapax_conformance::server::rabbitmq();
    let broker = Broker::at(&url);
    let queue = format!("hapax_into_{}", std::process::id());
    broker.declare(&queue, "classic");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.csv"), "id\n1\n2\n").unwrap();
    let file = folder.path().join("p.yaml");
    let text = format!(
        "name: into\nsource:\n  files: {{ path: in.csv, schema: {{ id: int64 }} }}\nidentity: {{ key: [id] }}\n\
         sink:\n  rabbitmq: {{ url: \"${{env:RABBITMQ_URL}}\", routing_key: {queue} }}\n"
    );
    std::fs::write(&file, &text).unwrap();
    let hapax = Hapax {
        folder: folder.path().to_owned(),
        file: file.clone(),
        variables: vec![("RABBITMQ_URL", url)],
    };
    let (code, said) = hapax.said(&["plan"]);
    assert!(code == 0 && said.contains("guarantee  at-least-once"), "{said}");
    assert!(said.contains("consumers drop a message whose `message-id` they have had"), "{said}");
    assert!(said.contains("is sent again, under the same id"), "{said}");
    // More is not to be had.
    std::fs::write(&file, format!("{text}delivery: exactly-once\n")).unwrap();
    let (code, said) = hapax.said(&["plan"]);
    assert!(code == 3 && said.contains("at-least-once"), "{said}");
    assert_eq!(broker.waiting(&queue), 0, "a plan sent messages");
    broker.delete(&queue);
}

#[test]
fn a_broker_that_is_restarted_is_waited_for() {
    let (own, database) = (Own::start("rabbitmq", &[]), Database::new("restarted"));
    let url = own.says("url");
    let broker = Broker::at(&url);
    broker.declare("q", "quorum");
    broker.publish("q", orders(0..3000));
    let folder = tempfile::tempdir().unwrap();
    let hapax = Hapax {
        folder: folder.path().to_owned(),
        file: pipeline(folder.path(), "q", "follow: true\n"),
        variables: vec![("RABBITMQ_URL", url.clone()), ("TARGET_URL", database.url())],
    };
    let mut running = hapax.start();
    running.wait_for("the first records", || database.count("SELECT count(*) FROM orders") >= 300);
    drop(broker);
    own.restart();
    assert_eq!(own.says("url"), url, "the broker came back elsewhere");
    Broker::at(&url).publish("q", orders(2500..4000));
    running.wait_for("all records", || database.count("SELECT count(*) FROM orders") >= 4000);
    assert_eq!(running.stop(), 0, "{}", hapax.log());
    assert_eq!(database.count("SELECT count(DISTINCT id) FROM orders"), 4000);
    assert_eq!(database.count("SELECT count(*) FROM orders"), 4000);
}
