//! Every queue into every destination of streams, and into a stream of NATS by subject, killed at random moments: nothing is lost, and where the plan says
//! exactly-once nothing is doubled.
//!
//! Six kills a pair and number of workers, or as many as `HAPAX_KILLS` says; `HAPAX_SEED` draws other moments.
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
#[path = "../../../connectors/kafka/tests/scene/mod.rs"]
mod scene;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use queue_kit::broker::Broker;
use queue_kit::jetstream::Server;
use queue_kit::{Database, Hapax};
use rdkafka::Message;
use scene::Scene;

/// How many messages are published together.
const BLOCK: u32 = 1_500;

/// Where messages come from.
enum Queue {
    /// Each message once, in its order.
    Sequence(Server, String),
    /// Handed out, and again if nobody acknowledges.
    Consumer(Server, String),
    Rabbit(Broker, String),
}

impl Queue {
    fn new(kind: &str, name: &str) -> Self {
        match kind {
            "rabbitmq" => {
                let broker = Broker::at(&hapax_conformance::server::rabbitmq());
                broker.declare(name, "classic");
                Self::Rabbit(broker, name.to_owned())
            }
            _ => {
                let server = Server::at(&hapax_conformance::server::nats());
                server.make(name, &format!("{name}.>"));
                server.consumer(name);
                match kind {
                    "sequence" => Self::Sequence(server, name.to_owned()),
                    _ => Self::Consumer(server, name.to_owned()),
                }
            }
        }
    }

    fn section(&self, workers: u32) -> String {
        let schema = "schema: { id: int64, amount: \"decimal(12,2)\" }";
        match self {
            Self::Sequence(_, name) => {
                format!("nats: {{ url: \"${{env:NATS_URL}}\", stream: {name}, {schema} }}")
            }
            Self::Consumer(_, name) => format!(
                "nats: {{ url: \"${{env:NATS_URL}}\", stream: {name}, consumer: worker, workers: {workers}, {schema} }}"
            ),
            Self::Rabbit(_, name) => format!(
                "rabbitmq: {{ url: \"${{env:RABBITMQ_URL}}\", queue: {name}, prefetch: 900, workers: {workers}, {schema} }}"
            ),
        }
    }

    /// Publishes the messages of a block; with twins, a third of them again, as somebody does who got no answer.
    fn publish(&self, block: u32, with_twins: bool) {
        let message = |id: u32| format!("{{\"id\":{id},\"amount\":{}}}", amount_of(id.into()));
        let ids = block * BLOCK..(block + 1) * BLOCK;
        let twins = ids.clone().step_by(3).filter(|_| with_twins);
        match self {
            Self::Sequence(server, name) => server.publish(&format!("{name}.a"), ids.map(message)),
            Self::Consumer(server, name) => {
                server.publish(&format!("{name}.a"), ids.chain(twins).map(message))
            }
            Self::Rabbit(broker, name) => {
                broker.publish(name, ids.chain(twins).map(|id| (format!("m-{id}"), message(id))));
            }
        }
    }

    /// How many messages are not acknowledged; 0 where that is nobody's to say.
    fn left(&self) -> u64 {
        match self {
            Self::Sequence(..) => 0,
            Self::Consumer(server, name) => server.open_at(name, "worker"),
            Self::Rabbit(broker, name) => broker.waiting(name).into(),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        match self {
            Self::Sequence(server, name) | Self::Consumer(server, name) => server.delete(name),
            Self::Rabbit(broker, name) => broker.delete(name),
        }
    }
}

/// Where they go.
enum End {
    Postgres(Database),
    Sqlite(tempfile::TempDir),
    Redis(String),
    Kafka(Scene),
    Nats(Box<Server>, String),
}

impl End {
    fn new(kind: &str, name: &str) -> Self {
        match kind {
            "postgres" => Self::Postgres(Database::new(name)),
            "sqlite" => Self::Sqlite(tempfile::tempdir().unwrap()),
            "redis" => Self::Redis(name.to_owned()),
            "nats" => {
                let (server, name) =
                    (Server::at(&hapax_conformance::server::nats()), format!("{name}_moved"));
                server.make(&name, &format!("{name}.>"));
                Self::Nats(Box::new(server), name)
            }
            _ => Self::Kafka(Scene::new()),
        }
    }

    fn section(&self) -> String {
        match self {
            Self::Postgres(_) => "postgres: { url: \"${env:TARGET_URL}\", table: moved }".to_owned(),
            Self::Sqlite(folder) => {
                format!("sqlite: {{ path: {}/moved.db, table: moved }}", folder.path().display())
            }
            Self::Redis(name) => format!(
                "redis: {{ url: \"${{env:REDIS_URL}}\", key: {name}.moved, state: {name}.state, write: stream }}"
            ),
            Self::Nats(_, name) => format!(
                "nats: {{ url: \"${{env:NATS_URL}}\", stream: {name}, subject: \"{name}.{{id}}\", once: subject }}"
            ),
            Self::Kafka(scene) => format!(
                "kafka: {{ brokers: \"{}\", topic: {}, state: {}, create: {{ partitions: 2 }} }}",
                scene.brokers,
                scene.name("moved"),
                scene.name("state")
            ),
        }
    }

    /// Each record that is there: its id, and its amount as text.
    fn records(&self) -> Vec<(i64, String)> {
        match self {
            Self::Postgres(database) => {
                let all =
                    database.ask("SELECT coalesce(string_agg(id || '=' || amount, ' '), '') FROM moved");
                let all = all.unwrap_or_default();
                let pairs = all.split_whitespace().map(|pair| pair.split_once('=').unwrap());
                pairs.map(|(id, amount)| (id.parse().unwrap(), amount.to_owned())).collect()
            }
            Self::Sqlite(folder) => {
                let database = rusqlite::Connection::open(folder.path().join("moved.db")).unwrap();
                database.busy_timeout(Duration::from_secs(20)).unwrap();
                let mut rows = database.prepare("SELECT id, CAST(amount AS TEXT) FROM moved").unwrap();
                rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                    .unwrap()
                    .map(Result::unwrap)
                    .collect()
            }
            Self::Redis(name) => {
                let mut connection = connect();
                let mut ask = redis::cmd("XRANGE");
                ask.arg(format!("{name}.moved")).arg("-").arg("+");
                let entries: Vec<(String, Vec<String>)> = ask.query(&mut connection).unwrap();
                entries.iter().map(|(_, fields)| (fields[1].parse().unwrap(), fields[3].clone())).collect()
            }
            Self::Kafka(scene) => {
                let messages = scene.settled(&scene.name("moved"));
                messages.iter().map(|message| record(message.payload().unwrap())).collect()
            }
            Self::Nats(server, name) => {
                let messages = server.messages(name);
                let records = messages.iter().map(|(subject, body)| (subject, record(body)));
                records
                    .map(|(subject, record)| {
                        assert_eq!(*subject, format!("{name}.{}", record.0));
                        record
                    })
                    .collect()
            }
        }
    }

    /// How often each identity is there. What it holds is what was sent.
    fn ids(&self) -> BTreeMap<i64, u32> {
        let mut times = BTreeMap::new();
        for (id, amount) in self.records() {
            assert_eq!(amount, amount_of(id), "the amount of {id}");
            *times.entry(id).or_insert(0) += 1;
        }
        times
    }
}

fn amount_of(id: i64) -> String {
    format!("{}.25", id % 100)
}

/// A record in a body of JSON.
fn record(body: &[u8]) -> (i64, String) {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap();
    (value["id"].as_i64().unwrap(), value["amount"].to_string().trim_matches('"').to_owned())
}

fn connect() -> redis::Connection {
    redis::Client::open(hapax_conformance::server::redis()).unwrap().get_connection().unwrap()
}

impl Drop for End {
    fn drop(&mut self) {
        match self {
            Self::Redis(name) => {
                let mut connection = connect();
                let keys: Vec<Vec<u8>> =
                    redis::Commands::keys(&mut connection, format!("{name}.*")).unwrap_or_default();
                let _: redis::RedisResult<()> = redis::Commands::unlink(&mut connection, keys);
            }
            Self::Nats(server, name) => server.delete(name),
            Self::Postgres(_) | Self::Sqlite(_) | Self::Kafka(_) => {}
        }
    }
}

/// The moments, drawn from a seed.
struct Moments(u64);

impl Moments {
    fn below(&mut self, ms: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % ms.max(1)
    }
}

fn killed(from: &str, to: &str, workers: u32) {
    let name = format!("hapax_{from}_{to}_{workers}_{}", std::process::id());
    let (queue, end) = (Queue::new(from, &name), End::new(to, &format!("{from}_{to}_{workers}")));
    // A topic keeps no identities: what a queue gives again goes there again, and the plan says so.
    let once = to != "kafka" || from == "sequence";
    let level = if once { "exactly-once" } else { "at-least-once" };
    // Where the subject names the identity there has to be one.
    let bare = from == "sequence" && to != "nats";
    let identity = if bare { "" } else { "identity: { key: [id] }\n" };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    let text = format!(
        "name: killed\nsource:\n  {}\nsink:\n  {}\n{identity}delivery: {level}\ncommit: {{ records: 100 }}\n",
        queue.section(workers),
        end.section(),
    );
    std::fs::write(&file, text).unwrap();
    let mut variables = vec![
        ("RABBITMQ_URL", hapax_conformance::server::rabbitmq()),
        ("NATS_URL", hapax_conformance::server::nats()),
        ("REDIS_URL", hapax_conformance::server::redis()),
    ];
    if let End::Postgres(database) = &end {
        variables.push(("TARGET_URL", database.url()));
    }
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables };
    let (code, said) = hapax.said(&["plan"]);
    assert!(code == 0 && said.contains(&format!("guarantee  {level}")), "{said}");
    queue.publish(0, once);
    hapax.moved();
    // How long a run takes that nobody kills: the shortest that was seen.
    let mut usual = 2_000;
    let wanted: u32 = std::env::var("HAPAX_KILLS").map_or(6, |kills| kills.parse().unwrap());
    let (mut kills, mut blocks) = (0, 1);
    let seed: u64 = std::env::var("HAPAX_SEED").map_or(0x5EED, |seed| seed.parse().unwrap());
    let mut moments = Moments(seed ^ u64::from(workers));
    while kills < wanted {
        queue.publish(blocks, once);
        blocks += 1;
        for _ in 0..8 {
            let started = Instant::now();
            if !hapax.start().kill_after(moments.below(usual)) {
                usual = usual.min(u64::try_from(started.elapsed().as_millis()).unwrap());
                break;
            }
            kills += 1;
        }
    }
    // What a killed run held may come back a little later.
    let until = Instant::now() + Duration::from_secs(120);
    hapax.moved();
    while queue.left() > 0 {
        assert!(Instant::now() < until, "{} messages stay", queue.left());
        hapax.moved();
    }
    let there = end.ids();
    let lost: Vec<i64> = (0..i64::from(blocks * BLOCK)).filter(|id| !there.contains_key(id)).collect();
    let twice: Vec<(&i64, &u32)> = there.iter().filter(|(_, times)| once && **times > 1).collect();
    assert!(lost.is_empty() && twice.is_empty(), "after {kills} kills lost {lost:?}, doubled {twice:?}");
    assert_eq!(there.len(), (blocks * BLOCK) as usize, "something came that was never sent");
    let doubled = there.values().filter(|times| **times > 1).count();
    println!(
        "{from} to {to}, {workers} workers, {level}: {kills} kills, {} messages, 0 lost, {doubled} doubled",
        there.len()
    );
}

#[test]
fn rabbitmq_to_postgres() {
    killed("rabbitmq", "postgres", 1);
    killed("rabbitmq", "postgres", 2);
}

#[test]
fn rabbitmq_to_sqlite() {
    killed("rabbitmq", "sqlite", 1);
    killed("rabbitmq", "sqlite", 2);
}

#[test]
fn rabbitmq_to_redis() {
    killed("rabbitmq", "redis", 1);
    killed("rabbitmq", "redis", 2);
}

#[test]
fn rabbitmq_to_kafka() {
    killed("rabbitmq", "kafka", 1);
    killed("rabbitmq", "kafka", 2);
}

#[test]
fn nats_by_sequence_to_postgres() {
    killed("sequence", "postgres", 1);
}

#[test]
fn nats_by_sequence_to_sqlite() {
    killed("sequence", "sqlite", 1);
}

#[test]
fn nats_by_sequence_to_redis() {
    killed("sequence", "redis", 1);
}

#[test]
fn nats_by_sequence_to_kafka() {
    killed("sequence", "kafka", 1);
}

#[test]
fn nats_by_a_consumer_to_postgres() {
    killed("consumer", "postgres", 1);
    killed("consumer", "postgres", 2);
}

#[test]
fn nats_by_a_consumer_to_sqlite() {
    killed("consumer", "sqlite", 1);
    killed("consumer", "sqlite", 2);
}

#[test]
fn nats_by_a_consumer_to_redis() {
    killed("consumer", "redis", 1);
    killed("consumer", "redis", 2);
}

#[test]
fn nats_by_a_consumer_to_kafka() {
    killed("consumer", "kafka", 1);
    killed("consumer", "kafka", 2);
}

#[test]
fn rabbitmq_to_nats() {
    killed("rabbitmq", "nats", 1);
    killed("rabbitmq", "nats", 2);
}

#[test]
fn nats_by_sequence_to_nats() {
    killed("sequence", "nats", 1);
}

#[test]
fn nats_by_a_consumer_to_nats() {
    killed("consumer", "nats", 1);
    killed("consumer", "nats", 2);
}
