//! Pipelines into and out of an HTTP API, as a person runs them, and as they are killed.
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

mod bare;
mod drill;
mod faults;
#[path = "../../../../connectors/kafka/tests/scene/mod.rs"]
mod kafka_scene;
mod listed;
#[path = "../queue_kit/mod.rs"]
mod queue_kit;
mod window;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hapax_conformance::http::{Api, Secure};
use hapax_conformance::tls::Authority;
use queue_kit::{Database, Hapax, root};
use serde_json::{Value, json};

/// How often runs are killed: `HAPAX_KILLS`, or a few times.
fn kills() -> usize {
    std::env::var("HAPAX_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// After how many requests of its own a run is killed: before its first commit, and behind some.
fn step(round: usize) -> usize {
    20 + round * 37 % 200
}

/// Kills runs into an API that fails three requests of a hundred. Returns how many were killed, which is most of them.
fn killed_again_and_again(hapax: &Hapax, api: &Api, mut behind: impl FnMut(usize)) -> usize {
    api.fail_often(30);
    let (rounds, mut killed) = (kills(), 0);
    for round in 1..=rounds {
        let enough = api.state().requests.len() + step(round);
        killed += usize::from(hapax.start().kill_once(|| api.state().requests.len() >= enough));
        behind(round);
    }
    assert!(killed * 4 >= rounds * 3, "only {killed} of {rounds} runs were killed");
    killed
}

/// How many records there are, so that no run comes to its end before it is killed.
fn plenty(rounds: usize) -> usize {
    rounds * 220 + 1_240
}

/// A table with rows to move, in which each write leaves its transaction.
fn shop(name: &str, rows: usize) -> Database {
    let database = Database::new(name);
    database.ask(
        "CREATE TABLE orders (id bigint PRIMARY KEY, status text NOT NULL, amount numeric(12,2) NOT NULL, \
         changed_by xid8 NOT NULL DEFAULT pg_current_xact_id())",
    );
    database.ask(&format!(
        "INSERT INTO orders SELECT n, 'status ' || n, n / 4.0 FROM generate_series(0, {}) n",
        rows - 1
    ));
    database
}

fn pipeline(folder: &Path, source: &str, sink: &str, more: &str) -> std::path::PathBuf {
    let file = folder.join("p.yaml");
    let text = format!(
        "version: 1\nname: killed\nsource:\n  {source}\nidentity: {{ key: [id] }}\nsink:\n  http: {{ {sink}, allow_private: true, timeout: 2s }}\n{more}"
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// What is put below `/orders/`, by id: status and amount.
fn put(api: &Api) -> BTreeMap<i64, (String, String)> {
    let state = api.state();
    let one = |(path, value): (&String, &Value)| {
        let id = value["id"].as_i64().unwrap();
        assert_eq!(*path, format!("/orders/{id}"));
        let amount: f64 = value["amount"].to_string().trim_matches('"').parse().unwrap();
        (id, (value["status"].as_str().unwrap().to_owned(), format!("{amount:.2}")))
    };
    state.resources.iter().map(one).collect()
}

/// The rows of the table, by id.
fn rows(database: &Database) -> BTreeMap<i64, (String, String)> {
    let all = database
        .ask("SELECT coalesce(string_agg(id || '|' || status || '|' || amount, ','), '') FROM orders");
    let all = all.unwrap();
    let row = |text: &str| {
        let parts: Vec<&str> = text.split('|').collect();
        (parts[0].parse().unwrap(), (parts[1].to_owned(), parts[2].to_owned()))
    };
    all.split(',').map(row).collect()
}

#[test]
fn the_example_moves_a_table_and_what_changes_in_it() {
    let api = Api::start();
    api.state().authorization = Some("Bearer s3cret-token".to_owned());
    let database = Database::new("http_example");
    let shop = std::fs::read_to_string(root().join("examples/data/shop.sql")).unwrap();
    database.ask(&shop);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("example.yaml");
    std::fs::copy(root().join("examples/postgres-to-http.yaml"), &file).unwrap();
    let hapax = Hapax {
        folder: folder.path().to_owned(),
        file,
        variables: vec![
            ("SOURCE_URL", database.url()),
            ("API_URL", api.url()),
            ("API_TOKEN", "s3cret-token".to_owned()),
        ],
    };
    let (code, said) = hapax.said(&["plan"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("effectively-once") && said.contains("PUT to 127.0.0.1"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    let count = database.count("SELECT count(*) FROM orders");
    assert!(count > 0);
    let arrived = || api.state().resources.len() as i64;
    let until = std::time::Instant::now() + Duration::from_secs(120);
    // Transactions of other tests hold the horizon back, for a while.
    while hapax.moved() > 0 || (arrived() < count && std::time::Instant::now() < until) {}
    assert_eq!(arrived(), count);
    let (code, said) = hapax.said(&["verify"]);
    assert_eq!(code, 0, "{said}");
    // What is lost at the API is found.
    let lost = api.state().resources.pop_first().unwrap();
    let (code, said) = hapax.said(&["verify"]);
    assert_ne!(code, 0, "{said}");
    api.state().resources.insert(lost.0, lost.1);
    database.ask("UPDATE orders SET customer = 'changed' WHERE id = 7");
    let changed = || api.state().resources.values().any(|one| one["customer"] == "changed");
    while hapax.moved() > 0 || (!changed() && std::time::Instant::now() < until) {}
    assert!(changed());
    let written = [folder.path().join("orders-to-api.hapax.db"), folder.path().join("example.hapax.db")];
    let kept: Vec<u8> = written.iter().filter_map(|path| std::fs::read(path).ok()).flatten().collect();
    assert!(!kept.is_empty());
    assert!(!String::from_utf8_lossy(&kept).contains("s3cret"), "a secret is in the state");
}

#[test]
fn puts_that_are_killed_leave_what_the_table_holds() {
    let rows_of_table = plenty(kills());
    let (api, database) = (Api::start(), shop("http_put", rows_of_table));
    let folder = tempfile::tempdir().unwrap();
    let source =
        "postgres: { url: \"${env:DATABASE_URL}\", table: orders, read: incremental, cursor: changed_by }";
    let sink = format!("url: \"{}/orders/{{id}}\", method: PUT", api.url());
    let file = pipeline(folder.path(), source, &sink, "commit: { records: 100 }\n");
    let variables = vec![("DATABASE_URL", database.url())];
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables };
    let (code, said) = hapax.said(&["plan"]);
    assert!(code == 0 && said.contains("effectively-once"), "{said}");
    let killed = killed_again_and_again(&hapax, &api, |round| {
        database.ask(&format!(
            "UPDATE orders SET status = 'round {round}', changed_by = pg_current_xact_id() WHERE id % 101 = {}",
            round % 101
        ));
    });
    // Transactions of other tests hold the horizon back, for a while.
    let until = std::time::Instant::now() + Duration::from_secs(120);
    while hapax.moved() > 0 || (put(&api) != rows(&database) && std::time::Instant::now() < until) {}
    assert_eq!(put(&api), rows(&database), "after {killed} kills");
    let requests = api.state().requests.len();
    println!(
        "postgres to http PUT: {killed} kills, {rows_of_table} rows, {requests} requests, equal by value"
    );
}

#[test]
fn posts_with_a_token_that_are_killed_take_effect_once() {
    let rows_of_table = plenty(kills());
    let (api, database) = (Api::start(), shop("http_post", rows_of_table));
    api.state().window = Some(Duration::from_secs(3600));
    let folder = tempfile::tempdir().unwrap();
    let source = "postgres: { url: \"${env:DATABASE_URL}\", table: orders }";
    let sink = format!("url: \"{}/orders\", method: POST, idempotency: {{ window: 1h }}", api.url());
    let file = pipeline(folder.path(), source, &sink, "commit: { records: 100 }\n");
    let variables = vec![("DATABASE_URL", database.url())];
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables };
    let (code, said) = hapax.said(&["plan"]);
    assert!(code == 0 && said.contains("exactly-once within 1h"), "{said}");
    let killed = killed_again_and_again(&hapax, &api, |_| {});
    hapax.moved();
    assert_eq!(hapax.moved(), 0);
    let state = api.state();
    let mut effects: BTreeMap<i64, usize> = BTreeMap::new();
    for (_, one) in &state.posted {
        *effects.entry(one["id"].as_i64().unwrap()).or_default() += 1;
    }
    let twice = effects.values().filter(|times| **times > 1).count();
    assert_eq!((effects.len(), twice), (rows_of_table, 0), "after {killed} kills");
    assert!(state.requests.len() > rows_of_table, "nothing was ever sent again");
    println!(
        "postgres to http POST by token: {killed} kills, {rows_of_table} rows, {} requests, 0 lost, 0 twice",
        state.requests.len()
    );
}

#[test]
fn kafka_into_puts_that_are_killed_leaves_the_last_version_of_each_key() {
    let api = Api::start();
    let scene = kafka_scene::Scene::new();
    let topic = scene.topic("orders", 2, &[]);
    let records = plenty(kills()) as i64;
    let messages: Vec<(i32, String, String)> = (0..records)
        .map(|n| {
            let value = json!({ "id": n % 500, "status": format!("version {n}"), "amount": n });
            ((n % 2) as i32, (n % 500).to_string(), value.to_string())
        })
        .collect();
    scene.write(
        &topic,
        messages.iter().map(|(p, key, value)| (*p, Some(key.as_bytes()), Some(value.as_bytes()))),
    );
    let folder = tempfile::tempdir().unwrap();
    let source = format!(
        "kafka: {{ brokers: \"{}\", topic: {topic}, schema: {{ id: int64, status: string, amount: int64 }} }}",
        hapax_conformance::server::kafka()
    );
    let sink = format!("url: \"{}/orders/{{id}}\", method: PUT", api.url());
    let file = pipeline(folder.path(), &source, &sink, "commit: { records: 100 }\n");
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables: Vec::new() };
    let (code, said) = hapax.said(&["plan"]);
    assert!(code == 0 && said.contains("effectively-once"), "{said}");
    let killed = killed_again_and_again(&hapax, &api, |_| {});
    hapax.moved();
    assert_eq!(hapax.moved(), 0);
    let expected: BTreeMap<i64, (String, String)> = (0..500)
        .map(|id| {
            let last = records - 500 + (id - records).rem_euclid(500);
            (id, (format!("version {last}"), format!("{:.2}", last as f64)))
        })
        .collect();
    assert_eq!(put(&api), expected, "after {killed} kills");
    let requests = api.state().requests.len();
    println!("kafka to http PUT: {killed} kills, {records} messages, {requests} requests, equal by value");
}

#[test]
fn mistakes_of_the_file_are_shown_where_they_stand() {
    let database = shop("http_mistakes", 3);
    let api = Api::start();
    let folder = tempfile::tempdir().unwrap();
    let source = "postgres: { url: \"${env:DATABASE_URL}\", table: orders }";
    for (sink, code, exit) in [
        ("url: \"API/orders/{none}\", method: PUT", "HX0757", 2),
        ("url: \"API/orders\", method: PUT", "HX0757", 2),
        ("url: \"ftp://x/{id}\", method: PUT", "HX0750", 2),
        ("url: \"API/orders\", method: POST, idempotency: { window: 1s }", "HX0763", 2),
        (
            "url: \"API/orders\", method: POST, batch: { records: 10 }, idempotency: { window: 1h }",
            "HX0756",
            2,
        ),
        ("url: \"API/orders/{id}\", method: FETCH", "HX", 2),
    ] {
        let file = pipeline(folder.path(), source, &sink.replace("API", &api.url()), "");
        let hapax = Hapax {
            folder: folder.path().to_owned(),
            file,
            variables: vec![("DATABASE_URL", database.url())],
        };
        for command in ["plan", "run"] {
            let (found, said) = hapax.said(&[command]);
            assert_eq!(found, exit, "{sink}: {said}");
            assert!(said.contains(code) && said.contains("p.yaml:"), "{sink}: {said}");
        }
    }
    // A bare POST promises no more than it can.
    let sink = format!("url: \"{}/orders\", method: POST", api.url());
    let file = pipeline(folder.path(), source, &sink, "delivery: exactly-once\n");
    let variables = vec![("DATABASE_URL", database.url())];
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables };
    let (code, said) = hapax.said(&["plan"]);
    assert!(code != 0 && said.contains("at-least-once"), "{said}");
    let sink = format!("url: \"{}/orders\", method: POST, in_doubt: hold", api.url());
    pipeline(folder.path(), source, &sink, "delivery: at-most-once\n");
    let (code, said) = hapax.said(&["plan"]);
    assert!(code == 0 && said.contains("at-most-once"), "{said}");
    assert_eq!(api.state().requests.len(), 0, "a plan sends nothing");
}

#[test]
fn what_the_api_refuses_is_set_aside_with_its_answer() {
    let (api, database) = (Api::start(), shop("http_refused", 20));
    let answer: String = (0..1_000).map(|n| format!("{n:04}")).collect();
    let answer = format!("this does not fit, and never will: {answer}");
    api.state().refuses.push((400, "status 7".to_owned()));
    api.state().refusal = Some(answer.clone());
    let folder = tempfile::tempdir().unwrap();
    let source = "postgres: { url: \"${env:DATABASE_URL}\", table: orders }";
    let sink = format!("url: \"{}/orders/{{id}}\", method: PUT", api.url());
    let file = pipeline(folder.path(), source, &sink, "");
    let variables = vec![("DATABASE_URL", database.url())];
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables };
    assert_eq!(hapax.said(&["run"]).0, 0);
    assert_eq!(api.state().resources.len(), 19);
    let (_, said) = hapax.said(&["dead-letters", "list"]);
    assert!(said.contains("HX0758") && said.contains("this does not fit, and never will"), "{said}");
    // Of a long answer the first kilobyte is kept.
    let (_, said) = hapax.said(&["dead-letters", "list", "--json"]);
    assert!(said.contains(&answer[..1_024]) && !said.contains(&answer[..1_025]), "{said}");
}

#[test]
fn a_listing_by_time_that_is_killed_brings_everything_into_a_database() {
    let api = Api::start();
    let since_1970 = |second: u64| 1_700_000_000_000 + second * 1_000;
    let record =
        |n: u64, status: &str| format!("{{\"id\": {n}, \"status\": \"{status}\", \"amount\": {n}.50}}");
    let list = (0..2_000).map(|n| (since_1970(n), record(n, "new"))).collect();
    api.state().lists.insert("/orders".to_owned(), list);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    let text = format!(
        "version: 1\nname: listed\nsource:\n  http:\n    url: \"{}/orders?per=50\"\n    records: /data\n    paging: {{ cursor: {{ param: cursor, from: /meta/next }} }}\n    \
         updated_since: {{ param: since, lateness: 5m }}\n    schema: {{ id: int64, status: string, amount: \"decimal(12,2)\" }}\n    allow_private: true\n\
         identity: {{ key: [id] }}\nduplicates: keep\nsink:\n  sqlite: {{ path: out.db, table: orders, write: upsert }}\ncommit: {{ records: 50 }}\ndelivery: effectively-once\n",
        api.url()
    );
    std::fs::write(&file, text).unwrap();
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables: Vec::new() };
    let (code, said) = hapax.said(&["plan"]);
    assert!(code == 0 && said.contains("effectively-once") && said.contains("5m"), "{said}");
    let mut killed = 0;
    for _ in 0..kills() {
        let before = api.state().requests.len();
        killed += usize::from(hapax.start().kill_once(|| api.state().requests.len() >= before + 5));
    }
    hapax.moved();
    let db = folder.path().join("out.db");
    let ask = |sql: &str| -> i64 {
        let db = rusqlite::Connection::open(&db).unwrap();
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(ask("SELECT count(*) FROM orders"), 2_000, "after {killed} kills");
    // What changes is listed since the last pass began, and less the lateness.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let mut changed: Vec<(u64, String)> = (0..30).map(|n| (now - 200_000, record(n, "changed"))).collect();
    changed.push((now, record(9_999, "new")));
    api.state().lists.get_mut("/orders").unwrap().extend(changed);
    assert_eq!(hapax.moved(), 31);
    assert_eq!(ask("SELECT count(*) FROM orders"), 2_001);
    assert_eq!(ask("SELECT count(*) FROM orders WHERE status = 'changed'"), 30);
    println!("http to sqlite by updated_since: {killed} kills, 0 lost, equal by value");
}

#[test]
fn a_list_that_says_nothing_of_its_changes_is_lossy_and_not_moved() {
    let api = Api::start();
    api.state().gzips = true;
    let list = (0..120).map(|n| (0, format!("{{\"id\": {n}}}"))).collect();
    api.state().lists.insert("/orders".to_owned(), list);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    let write = |declared: &str, more: &str| {
        let text = format!(
            "version: 1\nname: listed\nsource:\n  http: {{ url: \"{}/orders?per=50\", records: /data, paging: {{ page: {{ param: page }} }}, \
             schema: {{ id: int64 }}, allow_private: true{declared} }}\nidentity: {{ key: [id] }}\n\
             sink:\n  sqlite: {{ path: out.db, table: orders }}\n{more}",
            api.url()
        );
        std::fs::write(&file, text).unwrap();
    };
    let hapax = Hapax { folder: folder.path().to_owned(), file: file.clone(), variables: Vec::new() };
    // No run starts with that, whatever it asks for.
    for level in ["", "delivery: at-most-once\n", "delivery: exactly-once\n"] {
        write("", level);
        for command in ["plan", "run"] {
            let (code, said) = hapax.said(&[command]);
            assert!(code != 0 && said.contains("lossy"), "{level}: {said}");
        }
    }
    let (_, said) = hapax.said(&["plan"]);
    assert!(said.contains("no record moves from one page to another while they are read"), "{said}");
    assert_eq!(api.state().requests.len(), 0, "something was asked for");
    write(", immutable: true", "");
    assert_eq!(hapax.moved(), 120);
}

#[test]
fn an_authority_of_the_file_is_believed_and_no_other() {
    let (mine, systems) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mine, systems) = (Authority::new(mine.path()), Authority::new(systems.path()));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.jsonl"), "{\"id\": 1}\n").unwrap();
    for (signed, named, is_believed) in [
        (&systems, None, true),
        (&mine, None, false),
        (&mine, Some(&mine), true),
        (&systems, Some(&mine), false),
    ] {
        let secure = Secure { authority: signed, protocols: &["h2"], asks_clients: false, streams_max: None };
        let api = Api::start_secure(&secure);
        let tls = named.map_or(String::new(), |ca| format!(", tls: {{ ca: \"{}\" }}", ca.file("ca.pem")));
        let sink = format!("url: \"{}/orders/{{id}}\", method: PUT{tls}", api.url());
        let source = "files: { path: in.jsonl, schema: { id: int64 } }";
        let file = pipeline(folder.path(), source, &sink, "outage_max: 1s\n");
        let variables = vec![("SSL_CERT_FILE", systems.file("ca.pem"))];
        let hapax = Hapax { folder: folder.path().to_owned(), file, variables };
        let (code, said) = hapax.said(&["run"]);
        let said = format!("named: {}, {said}", named.is_some());
        assert_eq!((code == 0, api.state().count("PUT")), (is_believed, usize::from(is_believed)), "{said}");
        assert!(is_believed || said.contains("HX0753"), "{said}");
        let _ = std::fs::remove_file(folder.path().join("killed.hapax.db"));
    }
}

#[test]
fn what_came_through_a_reference_is_shown_nowhere_in_no_form() {
    let secrets =
        [("API_KEY", "k3y%2Fof%20mine"), ("REGION_KEY", "hidden+in=header"), ("PLACE", "place-of-mine")];
    let api = Api::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.jsonl"), "{\"id\": 1}\n{\"id\": 2}\n").unwrap();
    let file = folder.path().join("p.yaml");
    let sink = |method: &str| {
        format!(
            "version: 1\nname: quiet\nsource:\n  files: {{ path: in.jsonl, schema: {{ id: int64 }} }}\nidentity: {{ key: [id] }}\n\
             sink:\n  http: {{ url: \"{}/${{env:PLACE}}/{{id}}?api_key=${{env:API_KEY}}\", method: {method}, \
             headers: {{ X-Region: \"eu ${{env:REGION_KEY}}\" }}, allow_private: true, timeout: 2s }}\n",
            api.url()
        )
    };
    let variables: Vec<(&'static str, String)> =
        secrets.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let mut hapax = Hapax { folder: folder.path().to_owned(), file: file.clone(), variables };
    let mut all = String::new();
    // One that sends back what it was sent, with each record; two that stop the run with it.
    for (method, echoes) in [("PUT", 400), ("PUT", 405), ("PUT", 302)] {
        let text = sink(method);
        std::fs::write(&file, text).unwrap();
        api.state().echoes = Some(echoes);
        for command in [&["plan"][..], &["run"], &["run", "--json"], &["dead-letters", "list"], &["status"]] {
            all.push_str(&hapax.said(command).1);
        }
    }
    // A URL that is none.
    hapax.variables[0].1 = "k3y of mine".to_owned();
    let (code, said) = hapax.said(&["plan"]);
    assert!(code != 0 && said.contains("HX0750"), "{said}");
    all.push_str(&said);
    assert!(all.contains("***") || all.contains("${env:"), "nothing was said of what came back: {all}");
    assert!(
        api.state().requests.iter().any(|request| request.path.contains("k3y")),
        "nothing was sent: {all}"
    );
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            all.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
        }
    }
    for part in ["k3y", "of mine", "/of mine", "of+mine", "of%20mine", "hidden", "in=header", "place-of"] {
        assert!(!all.contains(part), "{part} is shown: {all}");
    }
}
