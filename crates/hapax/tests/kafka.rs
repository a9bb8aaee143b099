//! Pipelines out of and into a real Kafka broker, as a person runs them.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "kafka/amid.rs"]
mod amid;
#[path = "kafka/beside.rs"]
mod beside;
#[path = "kafka/emptied.rs"]
mod emptied;
#[path = "kafka/flow.rs"]
mod flow;
#[path = "kafka/group.rs"]
mod group;
#[path = "kafka/lost.rs"]
mod lost;
mod queue_kit;
#[path = "kafka/restarted.rs"]
mod restarted;
#[path = "kafka/rights.rs"]
mod rights;
#[path = "../../../connectors/kafka/tests/scene/mod.rs"]
mod scene;
#[path = "kafka/within.rs"]
mod within;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use queue_kit::Own;
use rdkafka::Message;
use rdkafka::producer::Producer;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use scene::{PATIENCE, Scene, send, until};
use tempfile::TempDir;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

/// A database that is dropped at the end of the test.
struct Database(String);

impl Database {
    fn new(name: &str) -> Self {
        let database = Self(format!("hapax_kafka_{name}_{}", std::process::id()));
        let name = &database.0;
        sql(&hapax_conformance::server::postgres(), &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        sql(&hapax_conformance::server::postgres(), &format!("CREATE DATABASE {name}"));
        database
    }

    fn url(&self) -> String {
        format!("{}/{}", hapax_conformance::server::postgres().rsplit_once('/').unwrap().0, self.0)
    }

    /// A number; `None` where the query fails.
    fn number(&self, query: &str) -> Option<i64> {
        sql(&self.url(), query).into_iter().next()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        sql(&hapax_conformance::server::postgres(), &format!("DROP DATABASE {} WITH (FORCE)", self.0));
    }
}

fn sql(url: &str, statement: &str) -> Vec<i64> {
    let (url, statement) = (url.to_owned(), statement.to_owned());
    scene::wait(async move {
        let (client, connection) = url.parse::<Config>().unwrap().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let rows = client.simple_query(&statement).await.unwrap_or_default();
        let number = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        };
        rows.iter().filter_map(number).collect()
    })
}

fn ids(messages: &[rdkafka::message::OwnedMessage]) -> Vec<i64> {
    let id = |message: &rdkafka::message::OwnedMessage| {
        let value: serde_json::Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
        value["id"].as_i64().unwrap()
    };
    messages.iter().map(id).collect()
}

/// The ids in the messages that a reader sees now.
fn ids_in(scene: &Scene, topic: &str) -> Vec<i64> {
    ids(&scene.messages(topic))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

type Variables<'a> = &'a [(&'a str, String)];

fn hapax(arguments: &[&str], variables: Variables<'_>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
    command.current_dir(root()).args(arguments).stdin(Stdio::null());
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs to the end. What it says.
fn done(arguments: &[&str], variables: Variables<'_>) -> String {
    let output = hapax(arguments, variables).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{}", said(&output));
    said(&output)
}

fn moved(file: &str, variables: Variables<'_>) -> i64 {
    let output = hapax(&["run", file, "--json"], variables).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    document["moved"].as_i64().unwrap()
}

/// A run that is killed if the test fails before its end.
struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    fn is_over(&mut self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }

    fn kill(mut self) {
        let _ = self.child().kill();
        self.child().wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.0.as_ref().unwrap()), signal).unwrap();
    }

    /// Returns once it has stopped itself.
    fn stands_still(&self) {
        let id = Pid::from_child(self.0.as_ref().unwrap());
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        until("it stops itself", || waitid(WaitId::Pid(id), stopped).unwrap().is_some());
    }

    fn end(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn started(arguments: &[&str], variables: Variables<'_>) -> Running {
    Running(Some(hapax(arguments, variables).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
}

/// Writes orders, each to a partition by its number.
fn order(scene: &Scene, topic: &str, partitions: i32, ids: std::ops::Range<i64>) {
    let producer = scene.producer(&[]);
    for id in ids {
        let body = format!(
            "{{\"id\": {id}, \"customer\": \"c{}\", \"amount\": {}.50, \"placed_at\": \"2026-11-28T12:00:00Z\"}}",
            id % 97,
            id % 1000
        );
        let partition = (id % i64::from(partitions)) as i32;
        send(&producer, topic, partition, Some(id.to_string().as_bytes()), Some(body.as_bytes()), &[]);
    }
    producer.flush(PATIENCE).unwrap();
}

const COUNT: &str = "SELECT count(*) FROM orders_from_kafka";

#[test]
fn the_example_runs_killed_and_with_the_broker_restarted() {
    let (broker, database) = (Own::start("kafka"), Database::new("example"));
    let scene = Scene::at(broker.url());
    let topic = "orders";
    scene.make(topic, 3, &[]);
    order(&scene, topic, 3, 0..30_000);
    let file = "examples/kafka-to-postgres.yaml";
    let variables = [("KAFKA_BROKERS", broker.url()), ("TARGET_URL", database.url())];
    done(&["validate", file], &variables);
    let plan = done(&["plan", file], &variables);
    assert!(plan.contains("exactly-once"), "{plan}");
    // Killed as soon as something has arrived, again and again.
    let mut kills = 0;
    for _ in 0..3 {
        let before = database.number(COUNT).unwrap_or(0);
        let mut child = started(&["run", file], &variables);
        until("records arrive", || database.number(COUNT).unwrap_or(0) > before || child.is_over());
        kills += i64::from(!child.is_over());
        child.kill();
    }
    moved(file, &variables);
    assert_eq!(database.number(COUNT), Some(30_000));
    done(&["verify", file], &variables);
    assert_eq!(moved(file, &variables), 0);
    println!("{kills} kills while it ran");

    // The broker goes away in the middle of a run, and comes back.
    order(&scene, topic, 3, 30_000..90_000);
    let child = started(&["run", file], &variables);
    until("records arrive", || database.number(COUNT) > Some(30_000));
    broker.say("stop");
    broker.say("start");
    let ended = child.end();
    assert_eq!(ended.status.code(), Some(0), "{}", said(&ended));
    moved(file, &variables);
    assert_eq!(database.number(COUNT), Some(90_000));
    assert_eq!(database.number("SELECT sum(read)::bigint FROM _hapax_positions"), Some(90_000));
    done(&["verify", file], &variables);
}

/// A pipeline in a file of its own.
fn pipeline(folder: &TempDir, name: &str, source: &str, sink: &str, rest: &str) -> String {
    let path = folder.path().join(format!("{name}.yaml"));
    let text = format!("version: 1\nname: {name}\nsource:\n  {source}\nsink:\n  {sink}\n{rest}");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

const SCHEMA: &str = "{ id: int64, customer: string, amount: \"decimal(12,2)\", placed_at: timestamptz }";

#[test]
fn a_topic_goes_into_another_and_a_stalled_run_that_wakes_up_is_fenced() {
    let scene = Scene::new();
    let (from, to) = (scene.topic("from", 3, &[]), scene.name("to"));
    order(&scene, &from, 3, 0..40_000);
    let folder = tempfile::tempdir().unwrap();
    let name = format!("stalled-{}", std::process::id());
    let state = scene.name("state");
    let brokers = &scene.brokers;
    let file = pipeline(
        &folder,
        &name,
        &format!("kafka: {{ brokers: \"{brokers}\", topic: {from}, schema: {SCHEMA} }}"),
        &format!(
            "kafka: {{ brokers: \"{brokers}\", topic: {to}, state: {state}, key: [id], create: {{ partitions: 3 }} }}"
        ),
        "identity: position\ncommit: { records: 500 }\ndelivery: exactly-once\n",
    );
    let plan = done(&["plan", &file], &[]);
    assert!(plan.contains("read_committed") && plan.contains("KIP-890"), "{plan}");
    // With a transaction open, which is about to be committed.
    let stalled = started(&["run", &file], &[("HAPAX_CRASH", "commit-before:5=stop".to_owned())]);
    stalled.stands_still();
    assert!(scene.messages(&to).len() < 40_000, "nothing was left to move");
    let output = hapax(&["run", &file, "--json"], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    stalled.signal(Signal::CONT);
    let ended = stalled.end();
    assert_eq!(ended.status.code(), Some(5), "{}", said(&ended));
    let mut ids = ids(&scene.settled(&to));
    ids.sort_unstable();
    assert_eq!(ids.len(), 40_000, "records were lost or doubled");
    assert!(ids.iter().copied().eq(0..40_000));
    done(&["verify", &file], &[]);
    let status = done(&["status", &file], &[]);
    assert!(status.contains(&from), "{status}");
}

#[test]
fn dead_letters_name_their_offset_and_a_topic_made_anew_stops() {
    let scene = Scene::new();
    let topic = scene.topic("t", 1, &[]);
    let database = Database::new("letters");
    order(&scene, &topic, 1, 0..5);
    scene.write(&topic, [(0, None, Some(&b"not json"[..]))]);
    let folder = tempfile::tempdir().unwrap();
    let variables = [("TARGET_URL", database.url())];
    let file = pipeline(
        &folder,
        "letters",
        &format!("kafka: {{ brokers: \"{}\", topic: {topic}, schema: {SCHEMA} }}", scene.brokers),
        "postgres: { url: \"${env:TARGET_URL}\", table: t }",
        "",
    );
    let run = hapax(&["run", &file], &variables).output().unwrap();
    assert_eq!(database.number("SELECT count(*) FROM t"), Some(5), "{}", said(&run));
    let listed = hapax(&["dead-letters", "list", &file], &variables).output().unwrap();
    assert!(said(&listed).contains(&format!("{topic}[0] offset 5: ")), "{}", said(&listed));

    scene.delete(&topic);
    scene.make(&topic, 1, &[]);
    order(&scene, &topic, 1, 0..20);
    let refused = hapax(&["run", &file], &variables).output().unwrap();
    assert!(refused.status.code() != Some(0) && said(&refused).contains("HX0608"), "{}", said(&refused));
    assert_eq!(database.number("SELECT count(*) FROM t"), Some(5));
}

#[test]
fn a_wrong_password_is_not_shown() {
    let service = root().join(".cache/services/kafka");
    let read = |name: &str| std::fs::read_to_string(service.join(name)).unwrap().trim().to_owned();
    // The one beside which there is a listener that asks for a password.
    let scene = Scene::at(read("url"));
    let topic = scene.topic("t", 1, &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = pipeline(
        &folder,
        "secret",
        &format!(
            "kafka: {{ brokers: \"{}\", topic: {topic}, format: raw, security: {{ user: hapax, password: \"${{env:SECRET}}\" }} }}",
            read("sasl")
        ),
        &format!("files: {{ path: \"{}\" }}", folder.path().join("out.parquet").display()),
        "",
    );
    let start = Instant::now();
    let output = hapax(&["plan", &file], &[("SECRET", "geheim-7x".to_owned())]).output().unwrap();
    assert!(said(&output).contains("HX0602") && !said(&output).contains("geheim-7x"), "{}", said(&output));
    assert!(start.elapsed() < Duration::from_secs(60), "it was tried again and again");
    done(&["run", &file], &[("SECRET", read("password"))]);
    // Also where it stands in the file itself, or among what is handed to the client: neither is taken.
    for (entry, setting) in [("${env:SECRET}", "geheim-8y"), ("geheim-9z", "${env:SECRET}")] {
        let file = pipeline(
            &folder,
            "plain",
            &format!(
                "kafka: {{ brokers: \"{}\", topic: {topic}, format: raw, security: {{ user: hapax, password: \"{entry}\" }}, options: {{ ssl.key.password: \"{setting}\" }} }}",
                read("sasl"),
            ),
            &format!("files: {{ path: \"{}\" }}", folder.path().join("plain.parquet").display()),
            "",
        );
        let output = hapax(&["plan", &file], &[("SECRET", read("password"))]).output().unwrap();
        assert!(said(&output).contains("HX0014") && !said(&output).contains("geheim"), "{}", said(&output));
    }
}

#[test]
fn offsets_are_published_for_lag_tools_and_never_read() {
    let scene = Scene::new();
    let (topic, group) = (scene.topic("t", 2, &[]), scene.name("tools"));
    let database = Database::new("published");
    order(&scene, &topic, 2, 0..1_000);
    let folder = tempfile::tempdir().unwrap();
    let variables = [("TARGET_URL", database.url())];
    let file = pipeline(
        &folder,
        "published",
        &format!(
            "kafka: {{ brokers: \"{}\", topic: {topic}, schema: {SCHEMA}, group: {group} }}",
            scene.brokers
        ),
        "postgres: { url: \"${env:TARGET_URL}\", table: t }",
        "identity: position\nduplicates: keep\n",
    );
    assert_eq!(moved(&file, &variables), 1_000);
    let published = || [0, 1].map(|partition| scene.published(&group, &topic, partition));
    until("the offsets are published", || published() == [Some(500), Some(500)]);
    // Without the positions at the destination it begins anew, whatever was published.
    database.number("DROP TABLE _hapax_positions, t");
    assert_eq!(moved(&file, &variables), 1_000);
}

#[test]
fn a_redis_stream_goes_into_a_topic_killed_and_each_entry_is_there_once() {
    let scene = Scene::new();
    let (stream, topic) = (scene.name("stream"), scene.name("orders"));
    let url = hapax_conformance::server::redis();
    let mut redis = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    let mut pipe = redis::pipe();
    for id in 0..20_000_i64 {
        let fields = ["id", &id.to_string(), "status", "new", "amount", "12.50"].map(str::to_owned);
        pipe.cmd("XADD").arg(&stream).arg("*").arg(&fields[..]).ignore();
    }
    let () = pipe.query(&mut redis).unwrap();
    // The example's own name would find what an earlier test run left in its state topic.
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join("examples/redis-stream-to-kafka.yaml")).unwrap();
    let file = folder.path().join("example.yaml");
    let name = format!("name: orders-from-redis-{}", std::process::id());
    std::fs::write(&file, text.replace("name: orders-from-redis", &name)).unwrap();
    let file = file.display().to_string();
    let variables = [
        ("REDIS_URL", url.clone()),
        ("ORDERS_STREAM", stream.clone()),
        ("KAFKA_BROKERS", scene.brokers.clone()),
        ("ORDERS_TOPIC", topic.clone()),
    ];
    let plan = done(&["plan", &file], &variables);
    assert!(plan.contains("exactly-once"), "{plan}");
    let there = || if scene.exists(&topic) { scene.messages(&topic).len() } else { 0 };
    for _ in 0..2 {
        let before = there();
        let mut child = started(&["run", &file], &variables);
        until("records arrive", || there() > before || child.is_over());
        child.kill();
    }
    moved(&file, &variables);
    let mut keys: Vec<i64> = scene
        .settled(&topic)
        .iter()
        .map(|message| std::str::from_utf8(message.key().unwrap()).unwrap().parse().unwrap())
        .collect();
    keys.sort_unstable();
    assert!(keys.iter().copied().eq(0..20_000), "{} messages", keys.len());
    let () = redis::cmd("DEL").arg(&stream).query(&mut redis).unwrap();
}
