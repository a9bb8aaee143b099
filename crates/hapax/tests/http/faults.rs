//! Each thing that an API does to a request, by its name, met by runs that are killed.

use std::collections::BTreeMap;
use std::time::Duration;

use hapax_conformance::http::{Api, Failure};
use serde_json::{Value, json};

use super::kafka_scene;
use super::queue_kit::{Database, Hapax};
use super::{pipeline, put, rows};

/// How many records are in a commit, and how many runs a failure meets.
const COMMIT: usize = 10;
const ROUNDS: usize = 2;

/// What happens to one request and harms nobody.
fn passing() -> Vec<(&'static str, Failure)> {
    let status = |status, after: Option<&str>| Failure::Status(status, after.map(str::to_owned));
    vec![
        ("the answer is lost after the effect", Failure::AnswerLost),
        ("429 with Retry-After", status(429, Some("1"))),
        ("500 without the effect", status(500, None)),
        ("500 after the effect", Failure::StatusAfter(500)),
        ("503", status(503, None)),
        ("503 with Retry-After", status(503, Some("1"))),
        ("reset", Failure::Reset),
        ("slow body", Failure::SlowBody),
        ("delivered twice", Failure::Twice),
    ]
}

/// Makes each failure meet runs: one that dies with a commit sent and not made, one that dies once it happened, and one
/// that goes to its end. After each run everything that came is delivered again. Returns how many runs were killed.
fn met(hapax: &Hapax, api: &Api, failures: &[(&'static str, Failure)], holds: impl Fn(&str)) -> usize {
    let mut killed = 0;
    for (name, failure) in failures {
        for round in 0..ROUNDS {
            let before = api.state().requests.len();
            api.fail([failure.clone()]);
            match round {
                0 => assert!(hapax.crash("commit-before:2"), "{name}: nothing was left to send"),
                // As soon as it happened, and with two more commits made at the latest.
                _ => {
                    hapax.start_until("commit-after:2").kill_once(|| api.planned() == 0);
                }
            }
            killed += 1;
            assert_eq!(api.planned(), 0, "{name}: it met no request");
            if round == 0 && matches!(failure, Failure::Status(_, Some(_))) {
                waited(api, before, name);
            }
            api.deliver_again();
            holds(name);
        }
    }
    let (_, last) = failures[0].clone();
    api.fail([last]);
    hapax.moved();
    assert_eq!((hapax.moved(), api.planned()), (0, 0));
    api.deliver_again();
    killed
}

/// The request that was asked to wait came again, and not before its time.
fn waited(api: &Api, first: usize, name: &str) {
    let state = api.state();
    let asked = &state.requests[first];
    let again = state.requests[first + 1..]
        .iter()
        .find(|one| (&one.path, &one.body) == (&asked.path, &asked.body))
        .unwrap_or_else(|| panic!("{name}: it never came again"));
    let after = again.at.duration_since(asked.at);
    assert!(after >= Duration::from_secs(1), "{name}: it came again after {after:?}");
}

/// The dead letters: what the reason says, by the record.
fn letters(hapax: &Hapax) -> Vec<(String, String)> {
    let (code, said) = hapax.said(&["dead-letters", "list", "--json", "--limit", "1000"]);
    assert_eq!(code, 0, "{said}");
    let document: Value = serde_json::from_str(&said).unwrap();
    let letters = document["letters"].as_array().unwrap().iter();
    let text = |letter: &Value, key: &str| letter[key].as_str().unwrap().to_owned();
    let read = |letter: &Value| {
        assert_eq!(text(letter, "code"), "HX0758");
        (text(letter, "raw"), text(letter, "reason"))
    };
    letters.map(read).collect()
}

/// Records whose status says so are refused with that HTTP status, in each run: nothing of them is there, and each is a
/// dead letter with what the API said.
fn refused(hapax: &Hapax, statuses: &[u16], each: usize) {
    let letters = letters(hapax);
    assert_eq!(letters.len(), statuses.len() * each, "{letters:?}");
    for status in statuses {
        let of_status = letters.iter().filter(|(raw, _)| raw.contains(&format!("refused {status}")));
        let expected = format!("HTTP status {status}: this does not fit, and never will");
        let reasons: Vec<&String> = of_status.map(|(_, reason)| reason).collect();
        assert_eq!(reasons.len(), each, "{letters:?}");
        assert!(reasons.iter().all(|reason| reason.contains(&expected)), "{reasons:?}");
    }
}

fn refuses(api: &Api, statuses: &[u16]) {
    api.state().refuses = statuses.iter().map(|status| (*status, format!("refused {status}"))).collect();
}

/// A table of so many rows, and of each status some that are refused.
fn shop(name: &str, failures: usize, statuses: &[u16], each: usize) -> Database {
    let database = super::shop(name, (failures * ROUNDS + 2) * COMMIT * 2);
    for (number, status) in statuses.iter().enumerate() {
        let set = format!(
            "UPDATE orders SET status = 'refused {status}' WHERE id % 37 = {number} AND id < 37 * {each}"
        );
        database.ask(&set);
    }
    database
}

#[test]
fn each_failure_by_name_leaves_what_puts_of_a_table_are_to_leave() {
    let (failures, statuses, each) = (passing(), [409, 412, 422], 4);
    let (api, database) = (Api::start(), shop("http_named_put", failures.len(), &statuses, each));
    refuses(&api, &statuses);
    let folder = tempfile::tempdir().unwrap();
    let source = "postgres: { url: \"${env:DATABASE_URL}\", table: orders }";
    let sink = format!("url: \"{}/orders/{{id}}\", method: PUT", api.url());
    let file = pipeline(folder.path(), source, &sink, &format!("commit: {{ records: {COMMIT} }}\n"));
    let variables = vec![("DATABASE_URL", database.url())];
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables };
    let mut wanted = rows(&database);
    wanted.retain(|_, (status, _)| !status.starts_with("refused"));
    let holds = |name: &str| {
        let there = put(&api);
        assert!(there.iter().all(|(id, row)| wanted.get(id) == Some(row)), "{name}: something else is there");
    };
    let killed = met(&hapax, &api, &failures, holds);
    assert_eq!(put(&api), wanted, "after {killed} kills");
    refused(&hapax, &statuses, each);
}

/// How often each record took effect.
pub fn effects(api: &Api) -> BTreeMap<i64, usize> {
    let mut effects = BTreeMap::new();
    for (_, one) in &api.state().posted {
        *effects.entry(one["id"].as_i64().unwrap()).or_default() += 1;
    }
    effects
}

#[test]
fn each_failure_by_name_leaves_one_effect_of_each_post_by_token() {
    let mut failures = passing();
    // The first request of the token has not ended, says the API.
    failures.push(("409", Failure::Status(409, None)));
    let (statuses, each) = ([412, 400], 4);
    let (api, database) = (Api::start(), shop("http_named_post", failures.len() + 1, &statuses, each));
    refuses(&api, &statuses);
    api.state().window = Some(Duration::from_secs(3600));
    let folder = tempfile::tempdir().unwrap();
    let source = "postgres: { url: \"${env:DATABASE_URL}\", table: orders }";
    let sink = format!("url: \"{}/orders\", method: POST, idempotency: {{ window: 1h }}", api.url());
    let file = pipeline(folder.path(), source, &sink, &format!("commit: {{ records: {COMMIT} }}\n"));
    let variables = vec![("DATABASE_URL", database.url())];
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables };
    let once =
        |name: &str| assert!(effects(&api).values().all(|times| *times == 1), "{name}: an effect twice");
    // 422 says that the token was used for something else: nothing may go on as if that were an accident.
    api.fail([Failure::Status(422, None)]);
    let (code, said) = hapax.said(&["run"]);
    assert!(code != 0 && said.contains("HX0760") && said.contains("as the test asked"), "{said}");
    once("422");
    let killed = met(&hapax, &api, &failures, once);
    let mut wanted = rows(&database);
    wanted.retain(|_, (status, _)| !status.starts_with("refused"));
    once("the end");
    assert!(effects(&api).keys().eq(wanted.keys()), "after {killed} kills something is lost, or more");
    for (_, one) in &api.state().posted {
        assert_eq!(one["status"], wanted[&one["id"].as_i64().unwrap()].0);
    }
    refused(&hapax, &statuses, each);
}

#[test]
fn each_failure_by_name_leaves_the_newest_version_of_what_kafka_has() {
    let (failures, statuses) = (passing(), [412, 422]);
    let (keys, versions) = (60, failures.len() * ROUNDS * COMMIT * 2 / 60 + 2);
    let api = Api::start();
    refuses(&api, &statuses);
    // An old request that comes once more is refused by the API: it compares.
    api.state().guarded = true;
    let scene = kafka_scene::Scene::new();
    let topic = scene.topic("named", 2, &[]);
    let status = |version: usize, key: usize| match (key, version + 1 == versions) {
        (7, true) => "refused 412".to_owned(),
        (8, true) => "refused 422".to_owned(),
        _ => format!("version {version} of {key}"),
    };
    let all = (0..versions).flat_map(|version| (0..keys).map(move |key| (version, key)));
    let messages: Vec<(i32, String, String)> = all
        .map(|(version, key)| {
            let status = status(version, key);
            let value = json!({ "id": key, "status": status, "amount": version, "version": version + 1 });
            ((key % 2) as i32, key.to_string(), value.to_string())
        })
        .collect();
    scene.write(
        &topic,
        messages.iter().map(|(p, key, value)| (*p, Some(key.as_bytes()), Some(value.as_bytes()))),
    );
    let folder = tempfile::tempdir().unwrap();
    let schema = "{ id: int64, status: string, amount: int64, version: int64 }";
    let source = format!(
        "kafka: {{ brokers: \"{}\", topic: {topic}, schema: {schema} }}",
        hapax_conformance::server::kafka()
    );
    let version = "version: { column: version, refused_with: [409] }";
    let sink = format!("url: \"{}/orders/{{id}}\", method: PUT, {version}", api.url());
    let file = pipeline(folder.path(), &source, &sink, &format!("commit: {{ records: {COMMIT} }}\n"));
    let hapax = Hapax { folder: folder.path().to_owned(), file, variables: Vec::new() };
    // What is there never goes back.
    let seen = std::cell::RefCell::new(BTreeMap::<i64, i64>::new());
    let holds = |name: &str| {
        for one in api.state().resources.values() {
            let (id, version) = (one["id"].as_i64().unwrap(), one["version"].as_i64().unwrap());
            let before = seen.borrow_mut().insert(id, version);
            assert!(before.is_none_or(|before| before <= version), "{name}: {id} went back");
        }
    };
    let killed = met(&hapax, &api, &failures, holds);
    let newest = |key: usize| if key == 7 || key == 8 { versions - 2 } else { versions - 1 };
    let expected: BTreeMap<i64, (String, String)> = (0..keys)
        .map(|key| (key as i64, (status(newest(key), key), format!("{:.2}", newest(key) as f64))))
        .collect();
    assert_eq!(put(&api), expected, "after {killed} kills");
    refused(&hapax, &statuses, 1);
}
