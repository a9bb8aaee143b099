//! Pipelines into and out of real servers that speak TLS, want a certificate of their clients, and are signed by an
//! authority that nobody else knows.
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
use std::process::Command;

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use hapax_conformance::tls::Authority;
use queue_kit::broker::Broker;
use queue_kit::{Hapax, root};

/// A server of the test's own, and who signed its certificate.
struct Own {
    service: &'static str,
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Own {
    fn new(service: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificates = folder.path().join("certificates");
        std::fs::create_dir(&certificates).unwrap();
        let own = Self { service, authority: Authority::new(&certificates), folder };
        own.tell("start");
        own
    }

    fn tell(&self, what: &str) {
        let mut command = Command::new(root().join("services").join(self.service));
        command.arg(what).arg(self.folder.path()).env("HAPAX_TLS", self.folder.path().join("certificates"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn says(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap().trim().to_owned()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.tell("stop");
    }
}

/// What a pipeline file says of a system.
struct Ends<'a> {
    source: &'a str,
    sink: &'a str,
    /// The code of a connection that cannot be encrypted.
    code: &'a str,
    /// Where the files of certificates are named.
    section: &'a str,
    /// What stands beside them there.
    beside: &'a str,
}

/// Moves records into a system and out of it again, and tries it with what does not fit.
fn there_and_back(own: &Own, address: &str, ends: &Ends<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..100).map(|id| format!("{id},name {id}\n")).collect();
    std::fs::write(folder.path().join("in.csv"), format!("id,name\n{rows}")).unwrap();
    let files = [("ca", "ca.pem"), ("certificate", "client.pem"), ("key", "client.key")];
    let named = |without: &str| -> String {
        let kept = files.iter().filter(|(key, _)| !without.contains(key));
        let each: Vec<String> =
            kept.map(|(key, file)| format!("{key}: {}", own.authority.file(file))).collect();
        format!("{}: {{ {}{} }}", ends.section, ends.beside, each.join(", "))
    };
    let hapax = |name: &str, tls: &str, text: &str| {
        let file = folder.path().join(format!("{name}.yaml"));
        let text = format!("name: {name}\nidentity: {{ key: [id] }}\n{text}\n").replace("TLS", tls);
        std::fs::write(&file, text).unwrap();
        // Where there is no URL there is no password in it.
        let url = Some(address).filter(|address| address.contains("://")).unwrap_or_default();
        let variables = vec![("ADDRESS", url.to_owned())];
        Hapax { folder: folder.path().to_owned(), file, variables }
    };
    let into = format!(
        "source:\n  files: {{ path: in.csv, schema: {{ id: int64, name: string }} }}\nsink:\n  {}\n",
        ends.sink
    );
    assert_eq!(hapax("into", &named(""), &into).moved(), 100);
    let from = format!("source:\n  {}\nsink:\n  sqlite: {{ path: out.db, table: moved }}\n", ends.source);
    assert_eq!(hapax("from", &named(""), &from).moved(), 100);
    let database = rusqlite::Connection::open(folder.path().join("out.db")).unwrap();
    let sql = "SELECT count(*) FROM moved WHERE name = 'name ' || id";
    assert_eq!(database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 100);

    // An authority that did not sign it, one that nobody named, no certificate of the client, and a file that is not there.
    let place = address.rsplit('@').next().unwrap().trim_end_matches('/').to_owned();
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let other = Authority::new(&other);
    let wrong = named("").replace(&own.authority.file("ca.pem"), &other.file("ca.pem"));
    let (there, back) = (into.as_str(), from.as_str());
    for (text, tls, words) in [
        (there, wrong.clone(), place.as_str()),
        (back, wrong, place.as_str()),
        (there, named("ca"), place.as_str()),
        (back, named("certificate key"), place.as_str()),
        (there, named("key"), "need each other"),
        (back, named("").replace("ca.pem", "no.pem"), "no.pem"),
    ] {
        let (code, said) = hapax("wrong", &tls, text).said(&["plan"]);
        assert!(code != 0 && said.contains(words), "{tls}: {said}");
        let is_own = said.contains(ends.code) || (words != place && said.contains("HX0600"));
        assert!(is_own, "{tls}: {said}");
    }
}

#[test]
fn nats_is_entered_by_certificate() {
    let own = Own::new("nats");
    let url = own.says("url").replace("nats://", "tls://");
    let (user, place) = url.trim_start_matches("tls://").split_once('@').unwrap();
    let (user, password) = user.split_once(':').unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let options = ConnectOptions::new()
            .user_and_password(user.to_owned(), password.to_owned())
            .add_root_certificates(own.authority.file("ca.pem").into())
            .add_client_certificate(
                own.authority.file("client.pem").into(),
                own.authority.file("client.key").into(),
            );
        let context = jetstream::new(options.connect(format!("tls://{place}")).await.unwrap());
        let config = stream::Config {
            name: "S".to_owned(),
            subjects: vec!["s.>".to_owned()],
            ..stream::Config::default()
        };
        context.create_stream(config).await.unwrap();
    });
    let ends = Ends {
        source: "nats: { url: \"${env:ADDRESS}\", TLS, stream: S, schema: { id: int64, name: string } }",
        sink: "nats: { url: \"${env:ADDRESS}\", TLS, stream: S, subject: \"s.{id}\", once: subject }",
        code: "HX0744",
        section: "tls",
        beside: "",
    };
    there_and_back(&own, &url, &ends);
}

#[test]
fn redis_is_entered_by_certificate() {
    let own = Own::new("redis");
    let ends = Ends {
        source: "redis: { url: \"${env:ADDRESS}\", TLS, stream: s, schema: { id: int64, name: string } }",
        sink: "redis: { url: \"${env:ADDRESS}\", TLS, key: s, write: stream }",
        code: "HX0685",
        section: "tls",
        beside: "",
    };
    let address = own.says("tls");
    there_and_back(&own, &address, &ends);
    // A ledger beside a destination, on the same server.
    ledger(&own, &address);
}

fn ledger(own: &Own, address: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.csv"), "id\n1\n2\n1\n").unwrap();
    let moved = |tls: &str| {
        let file = folder.path().join("p.yaml");
        let text = format!(
            "name: beside\nsource:\n  files: {{ path: in.csv, schema: {{ id: int64 }} }}\nidentity: {{ key: [id] }}\nsink:\n  sqlite: {{ path: out.db, table: moved }}\n\
             ledger:\n  redis: {{ url: \"${{env:ADDRESS}}\"{tls} }}\n"
        );
        std::fs::write(&file, text).unwrap();
        let variables = vec![("ADDRESS", address.to_owned())];
        Hapax { folder: folder.path().to_owned(), file, variables }.said(&["run"])
    };
    let (code, said) = moved("");
    assert!(code != 0 && said.contains("HX0685"), "{said}");
    let file = |name: &str| own.authority.file(name);
    let tls = format!(
        ", tls: {{ ca: {}, certificate: {}, key: {} }}",
        file("ca.pem"),
        file("client.pem"),
        file("client.key")
    );
    let (code, said) = moved(&tls);
    assert_eq!(code, 0, "{said}");
    let database = rusqlite::Connection::open(folder.path().join("out.db")).unwrap();
    let count = database.query_row("SELECT count(*) FROM moved", [], |row| row.get::<_, i64>(0));
    assert_eq!(count.unwrap(), 2);
}

#[test]
fn kafka_is_entered_by_certificate() {
    let own = Own::new("kafka");
    let address = own.says("tls");
    let source =
        format!("kafka: {{ brokers: \"{address}\", TLS, topic: t, schema: {{ id: int64, name: string }} }}");
    let sink = format!("kafka: {{ brokers: \"{address}\", TLS, topic: t, create: {{ partitions: 1 }} }}");
    let ends =
        Ends { source: &source, sink: &sink, code: "HX0603", section: "security", beside: "tls: true, " };
    there_and_back(&own, &address, &ends);
}

#[test]
fn rabbitmq_is_entered_by_certificate() {
    let own = Own::new("rabbitmq");
    Broker::at(&own.says("url")).declare("q", "classic");
    let ends = Ends {
        source: "rabbitmq: { url: \"${env:ADDRESS}\", TLS, queue: q, schema: { id: int64, name: string } }",
        sink: "rabbitmq: { url: \"${env:ADDRESS}\", TLS, exchange: \"\", routing_key: q }",
        code: "HX0707",
        section: "tls",
        beside: "",
    };
    there_and_back(&own, &own.says("tls"), &ends);
}

#[test]
fn a_server_that_speaks_plain_text_is_no_encrypted_one() {
    // A plain Redis waits for the end of a line, and says nothing.
    for (service, code, plain, encrypted, rest) in [
        ("nats", "HX0744", "nats://", "tls://", "stream: S, schema: { id: int64 }"),
        ("rabbitmq", "HX0707", "amqp://", "amqps://", "queue: q, schema: { id: int64 }"),
    ] {
        let url = match service {
            "nats" => hapax_conformance::server::nats(),
            _ => hapax_conformance::server::rabbitmq(),
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        let text = format!(
            "name: plain\nsource:\n  {service}: {{ url: \"${{env:ADDRESS}}\", {rest} }}\nidentity: {{ key: [id] }}\nsink:\n  sqlite: {{ path: out.db, table: t }}\n"
        );
        std::fs::write(&file, text).unwrap();
        let variables = vec![("ADDRESS", url.replace(plain, encrypted))];
        let said = Hapax { folder: Path::new(folder.path()).to_owned(), file, variables }.said(&["plan"]);
        assert!(said.0 != 0 && said.1.contains(code), "{service}: {said:?}");
    }
}
