//! The binary as a person or a script meets it: what it prints, where, and how it ends.
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

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

struct Ended {
    exit: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    fn expect(self, exit: i32) -> Self {
        assert_eq!(self.exit, Some(exit), "{self}");
        self
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {:?}\n--- stdout\n{}\n--- stderr\n{}", self.exit, self.stdout, self.stderr)
    }
}

/// A directory of its own in which commands are typed.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
        command.current_dir(self.0.path()).args(arguments).env_remove("HAPAX_CRASH");
        command
    }

    fn hapax(&self, arguments: &[&str]) -> Ended {
        self.hapax_with(arguments, &[])
    }

    fn hapax_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let output =
            self.command(arguments).envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
        Ended {
            exit: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn rows(&self, database: &str, sql: &str) -> Vec<String> {
        let connection = rusqlite::Connection::open(self.path(database)).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

const ORDERS: &str = "id,name,amount\n1,one,10\n2,two,20\n3,three,30\n2,two,20\n";

const PIPELINE: &str = "source:\n  files:\n    path: orders.csv\nidentity: { key: [id] }\nsink:\n  sqlite:\n    path: shop.db\n    table: orders\ndelivery: exactly-once\n";

fn orders() -> Place {
    let place = Place::new();
    place.write("orders.csv", ORDERS).write("orders.yaml", PIPELINE);
    place
}

#[test]
fn validate_finds_every_mistake_at_once() {
    let place = Place::new();
    place.write(
        "bad.yaml",
        "soruce:\n  files: { path: a.csv }\nidentity: { key: id }\nsink:\n  sqlite: { path: '${env:NOT_SET}', table: t, wirte: upsert }\n",
    );
    let ended = place.hapax(&["validate", "bad.yaml"]).expect(2);
    for what in [
        "HX0003: bad.yaml:1:1: unknown key `soruce`",
        "HX0004: bad.yaml:3:18: `key`: expected a list of column names, found the text \"id\"",
        "HX0008: bad.yaml:5:20: the environment variable `NOT_SET` is not set",
        "unknown key `wirte`",
        "did you mean `write`?",
        "docs/errors/HX0003.md",
        "5 mistakes; nothing was moved.",
    ] {
        assert!(ended.stderr.contains(what), "{what}\n{ended}");
    }
    assert_eq!(ended.stdout, "");
    let document = place.hapax(&["validate", "bad.yaml", "--json"]).expect(2).json();
    assert_eq!(document["valid"], false);
    assert_eq!(document["mistakes"].as_array().unwrap().len(), 5);
    assert_eq!(document["mistakes"][2]["column"], 18);
}

#[test]
fn validate_accepts_what_is_right() {
    let place = orders();
    let ended = place.hapax(&["validate", "orders.yaml"]).expect(0);
    assert!(ended.stdout.contains("valid (pipeline orders)"), "{ended}");
    assert_eq!(place.names(), ["orders.csv", "orders.yaml"]);
}

#[test]
fn a_command_or_file_that_is_not_there_ends_with_2() {
    let place = Place::new();
    place.hapax(&["fly"]).expect(2);
    let ended = place.hapax(&["run", "nowhere.yaml"]).expect(2);
    assert!(ended.stderr.contains("error HX0001:"), "{ended}");
    let ended = place.hapax(&["run", "nowhere.yaml", "--json"]).expect(2);
    let object: Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(object["error"]["code"], "HX0001");
    assert_eq!(object["error"]["exit"], 2);
}

#[test]
fn keys_that_exclude_each_other_end_with_2() {
    let place = Place::new();
    place.write(
        "both.yaml",
        "source:\n  sqlite: { path: a.db, table: t, query: SELECT 1, read: incremental }\nsink:\n  files: { path: a.csv }\n",
    );
    let ended = place.hapax(&["validate", "both.yaml"]).expect(2);
    assert!(
        ended.stderr.contains("both.yaml:2:34: HX0012")
            || ended.stderr.contains("`table` and `query` exclude each other"),
        "{ended}"
    );
    assert!(ended.stderr.contains("`read: incremental` needs `cursor`"), "{ended}");
}

#[test]
fn the_schema_is_json_and_knows_every_system() {
    let schema = Place::new().hapax(&["schema"]).expect(0).json();
    for side in ["source", "sink"] {
        for system in ["files", "sqlite"] {
            let section = &schema["properties"][side]["properties"][system];
            let target = section["$ref"]
                .as_str()
                .map_or(section, |reference| schema.pointer(reference.trim_start_matches('#')).unwrap());
            assert_eq!(target["additionalProperties"], false, "{side} {system} takes any key");
        }
    }
}

#[test]
fn completions_know_the_commands() {
    let ended = Place::new().hapax(&["completions", "bash"]).expect(0);
    assert!(ended.stdout.contains("dead-letters"), "{ended}");
}

#[test]
fn a_run_moves_each_record_once_and_a_second_one_nothing() {
    let place = orders();
    let ended = place.hapax(&["run", "orders.yaml"]).expect(0);
    for what in ["moved 3 records of 4 read", "1 suppressed", "guarantee kept: exactly-once (rule 2)"] {
        assert!(ended.stdout.contains(what), "{what}\n{ended}");
    }
    let sum = "SELECT group_concat(id || name || amount) FROM (SELECT * FROM orders ORDER BY id)";
    assert_eq!(place.rows("shop.db", sum), ["1one10,2two20,3three30"]);

    let ended = place.hapax(&["run", "orders.yaml"]).expect(0);
    assert!(ended.stdout.contains("nothing new: everything up to "), "{ended}");
    assert!(ended.stdout.contains(" had been moved before"), "{ended}");
    assert_eq!(place.rows("shop.db", sum), ["1one10,2two20,3three30"]);
}

#[test]
fn a_run_in_json_is_one_document() {
    let place = orders();
    let document = place.hapax(&["run", "orders.yaml", "--json"]).expect(0).json();
    assert_eq!(document["outcome"], "done");
    assert_eq!(document["moved"], 3);
    assert_eq!(document["suppressed"], 1);
    assert_eq!(document["nothing_new"], false);
    assert_eq!(document["guarantee"]["level"], "exactly-once");
    assert_eq!(document["guarantee"]["met"], true);
    let document = place.hapax(&["--json", "run", "orders.yaml"]).expect(0).json();
    assert_eq!(document["nothing_new"], true);
    assert_eq!(document["read"], 0);
}

#[test]
fn a_dry_run_and_a_plan_change_nothing() {
    let place = orders();
    let ended = place.hapax(&["run", "orders.yaml", "--dry-run"]).expect(0);
    assert!(ended.stdout.contains("4 records read") && ended.stdout.contains("nothing was moved"), "{ended}");
    let ended = place.hapax(&["plan", "orders.yaml"]).expect(0);
    for what in [
        "files: orders.csv",
        "key (id)",
        "exactly-once",
        "rule 2",
        "nothing was moved yet",
        "duplicates: drop",
    ] {
        assert!(ended.stdout.contains(what), "{what}\n{ended}");
    }
    let document = place.hapax(&["plan", "orders.yaml", "--json"]).expect(0).json();
    assert_eq!(document["guarantee"]["rule"]["number"], 2);
    assert_eq!(document["source"]["columns"][0]["name"], "id");
    place.hapax(&["status", "orders.yaml"]).expect(0);
    assert_eq!(place.names(), ["orders.csv", "orders.yaml"]);
}

#[test]
fn a_guarantee_that_cannot_be_given_ends_with_3_and_moves_nothing() {
    let place = Place::new();
    place.write(
        "stream.yaml",
        "source:\n  files: { path: '-', format: csv }\nsink:\n  sqlite: { path: shop.db, table: t }\ndelivery: exactly-once\n",
    );
    let typed = |arguments: &[&str]| {
        let mut child = place
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The run may end before it has read anything: that is what is expected.
        let _ = child.stdin.take().unwrap().write_all(ORDERS.as_bytes());
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (exit, stderr) = typed(&["run", "stream.yaml"]);
    assert_eq!(exit, Some(3), "{stderr}");
    assert!(stderr.contains("error HX0032") && stderr.contains("weakest link"), "{stderr}");
    assert!(stderr.contains("nothing was moved"), "{stderr}");
    assert_eq!(place.names(), ["stream.yaml"]);
    let (exit, _) = typed(&["plan", "stream.yaml"]);
    assert_eq!(exit, Some(3));
}

#[test]
fn an_unknown_column_is_a_mistake_at_its_place() {
    let place = orders();
    place.write("identity.yaml", &PIPELINE.replace("[id]", "[idd]"));
    let ended = place.hapax(&["run", "identity.yaml"]).expect(2);
    assert!(ended.stderr.contains("identity.yaml:4:19: the identity names the column `idd`"), "{ended}");
    assert!(ended.stderr.contains("did you mean `id`?"), "{ended}");

    place.write(
        "transform.yaml",
        &format!("{PIPELINE}transform: |\n  SELECT id,\n    amuont\n  FROM input\n"),
    );
    let ended = place.hapax(&["run", "transform.yaml"]).expect(2);
    assert!(ended.stderr.contains("transform.yaml:12:5: "), "{ended}");

    place.write("left-out.yaml", &format!("{PIPELINE}transform: SELECT name FROM input\n"));
    let ended = place.hapax(&["run", "left-out.yaml"]).expect(2);
    assert!(ended.stderr.contains("which the transform leaves out"), "{ended}");
    assert_eq!(
        place.names(),
        ["identity.yaml", "left-out.yaml", "orders.csv", "orders.yaml", "transform.yaml"]
    );
}

#[test]
fn a_source_that_is_not_there_fails_and_loses_nothing() {
    let place = orders();
    fs::remove_file(place.path("orders.csv")).unwrap();
    let ended = place.hapax(&["run", "orders.yaml"]).expect(1);
    assert!(ended.stderr.starts_with("error HX02") && ended.stderr.contains("orders.csv"), "{ended}");
    assert!(ended.stderr.contains("help: "), "{ended}");
}

#[test]
fn a_secret_is_never_printed() {
    let place = Place::new();
    let secret = "tOp-\"s3cret\"-value";
    place.write(
        "secret.yaml",
        "source:\n  files: { path: '${env:DATA_FILE}', format: csv }\nsink:\n  sqlite: { path: '${env:DATA_FILE}.db', table: t }\n",
    );
    let check = |exit: i32| {
        for command in ["validate", "plan", "run", "status"] {
            for json in [&["--json"][..], &[]] {
                let arguments = [&[command, "secret.yaml"], json].concat();
                let ended = place.hapax_with(&arguments, &[("DATA_FILE", secret), ("NO_COLOR", "1")]);
                let printed = format!("{}{}", ended.stdout, ended.stderr);
                assert!(!printed.contains("s3cret"), "{command}: {printed}");
                if command == "run" {
                    ended.expect(exit);
                }
            }
        }
    };
    check(1);
    place.write(secret, ORDERS);
    check(0);
}

#[test]
fn a_secret_that_is_written_out_is_refused_and_not_shown() {
    let place = Place::new();
    place.write("orders.csv", ORDERS);
    let refused = |section: &str, keys: &[&str]| {
        place.write("out.yaml", &format!("source:\n  files: {{ path: orders.csv }}\nsink:\n  {section}\n"));
        let ended = place.hapax_with(&["run", "out.yaml"], &[("SAID", "abcd-by-reference")]).expect(2);
        let printed = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!printed.contains("t0psecret"), "{printed}");
        assert!(printed.contains("HX0014") && printed.contains("${env:NAME}"), "{printed}");
        for key in keys {
            assert!(printed.contains(&format!("`{key}` is a secret")), "{key}: {printed}");
        }
    };
    let http = "http: { method: PUT, url: \"https://api.example/{id}\", ";
    refused(&format!("{http}auth: {{ bearer: t0psecret }} }}"), &["bearer"]);
    refused(&format!("{http}auth: {{ bearer: \"t0psecret-$${{env:SAID}}\" }} }}"), &["bearer"]);
    refused(&format!("{http}auth: {{ basic: {{ user: me, password: \"t0psecret\" }} }} }}"), &["password"]);
    let oauth2 = "token_url: \"https://auth.example/token\", client_id: me, client_secret: t0psecret";
    refused(&format!("{http}auth: {{ oauth2: {{ {oauth2} }} }} }}"), &["client_secret"]);
    refused(
        &format!("{http}headers: {{ Authorization: Bearer t0psecret, x-api-key: t0psecret }} }}"),
        &["Authorization", "x-api-key"],
    );
    refused("http: { method: PUT, url: \"https://api.example/{id}?api_key=t0psecret\" }", &["api_key"]);
    refused(
        "http: { method: PUT, url: \"https://api.example/{id}\", read: { url: \"https://api.example/?token=t0psecret\", paging: { link: true } } }",
        &["token"],
    );
    // However it is written, all of it.
    for value in [
        "t0p,secret-t0psecret",
        "\"a \\\" t0psecret\"",
        "'it''s t0psecret'",
        "\n        t0psecret",
        ">-\n        t0p\n        t0psecret",
        "[t0psecret]",
        "{ a: t0psecret }",
    ] {
        let section = format!(
            "http:\n    method: PUT\n    url: https://api.example/{{id}}\n    auth:\n      bearer: {value}\n    concurency: 2"
        );
        refused(&section, &["bearer"]);
    }
    // Columns of the record are none.
    let section =
        format!("{http}headers: {{ Authorization: \"Bearer {{amount}}\", X-Api-Key: \"{{name}}\" }} }}");
    place.write(
        "out.yaml",
        &format!("source:\n  files: {{ path: orders.csv }}\nidentity: {{ key: [id] }}\nsink:\n  {section}\n"),
    );
    place.hapax(&["validate", "out.yaml"]).expect(0);
    // Beside another mistake, which shows the line.
    refused(&format!("{http}auth: {{ bearer: t0psecret, berarer: 1 }} }}"), &["bearer"]);
}

#[test]
fn records_that_cannot_be_moved_are_listed_and_dropped() {
    let place = orders();
    place.write("orders.csv", "id,name,amount\n1,one,10\n2,two\n3,three,30\n,four,40\n");
    let ended = place.hapax(&["run", "orders.yaml"]).expect(0);
    assert!(ended.stdout.contains("2 set aside"), "{ended}");
    assert!(ended.stdout.contains("hapax dead-letters list orders.yaml"), "{ended}");

    let listed = place.hapax(&["dead-letters", "list", "orders.yaml", "--json"]).expect(0).json();
    let letters = listed["letters"].as_array().unwrap();
    assert_eq!(letters.len(), 2, "{listed}");
    assert_eq!((&letters[0]["record"], &letters[1]["record"]), (&Value::from(1), &Value::from(3)));
    let ended = place.hapax(&["dead-letters", "list", "orders.yaml"]).expect(0);
    assert!(ended.stdout.contains("2,two") && ended.stdout.contains("2 records"), "{ended}");

    let first = letters[0]["place"].as_str().unwrap();
    place.hapax(&["dead-letters", "drop", "orders.yaml", "--place", "nowhere:9"]).expect(2);
    let ended = place.hapax(&["dead-letters", "drop", "orders.yaml", "--place", first]).expect(0);
    assert!(ended.stdout.contains("1 record dropped"), "{ended}");
    let ended = place.hapax(&["dead-letters", "replay", "orders.yaml", "--all"]).expect(1);
    assert!(ended.stdout.contains("1 record still set aside"), "{ended}");
    place.hapax(&["dead-letters", "drop", "orders.yaml", "--all"]).expect(0);
    let ended = place.hapax(&["dead-letters", "list", "orders.yaml"]).expect(0);
    assert!(ended.stdout.contains("nothing is set aside"), "{ended}");
}

#[test]
fn on_error_stop_stops_before_the_record_and_goes_on_once_it_is_mended() {
    let place = orders();
    place.write("orders.yaml", &format!("{PIPELINE}on_error: stop\n"));
    place.write("orders.csv", "id,name,amount\n1,one,10\n,two,20\n");
    let ended = place.hapax(&["run", "orders.yaml"]).expect(1);
    assert!(ended.stderr.contains("nothing was lost"), "{ended}");
    let ended = place.hapax(&["dead-letters", "list", "orders.yaml"]).expect(0);
    assert!(ended.stdout.contains("nothing is set aside"), "{ended}");
}

#[test]
fn status_says_where_each_split_stands() {
    let place = orders();
    let ended = place.hapax(&["status", "orders.yaml"]).expect(0);
    assert!(ended.stdout.contains("nothing moved yet"), "{ended}");
    place.hapax(&["run", "orders.yaml"]).expect(0);
    let ended = place.hapax(&["status", "orders.yaml"]).expect(0);
    assert!(ended.stdout.contains("3 records moved, 1 suppressed"), "{ended}");
    assert!(ended.stdout.contains("ledger: 3 identities, "), "{ended}");
    let document = place.hapax(&["status", "orders.yaml", "--json"]).expect(0).json();
    assert_eq!(document["totals"]["moved"], 3);
    assert_eq!(document["ledger"]["identities"], 3);
    assert_eq!(document["splits"].as_array().unwrap().len(), 1);
    fs::remove_file(place.path("orders.csv")).unwrap();
    let ended = place.hapax(&["status", "orders.yaml"]).expect(0);
    assert!(ended.stdout.contains("the source does not answer"), "{ended}");
}

#[test]
fn a_ledger_beside_the_destination_remembers_and_is_missed() {
    let place = orders();
    place.write("orders.yaml", &format!("{PIPELINE}ledger: {{ embedded: {{ path: remembered }} }}\n"));
    place.hapax(&["run", "orders.yaml"]).expect(0);
    let ended = place.hapax(&["status", "orders.yaml"]).expect(0);
    assert!(ended.stdout.contains("3 records moved, 1 suppressed"), "{ended}");
    assert!(ended.stdout.contains("ledger: 3 identities"), "{ended}");
    assert!(place.path("remembered").is_dir());
    // A file of more orders, of which one was moved before.
    place.write("orders.csv", &format!("{ORDERS}2,two,20\n9,nine,90\n"));
    place.hapax(&["run", "orders.yaml"]).expect(0);
    let ended = place.hapax(&["status", "orders.yaml"]).expect(0);
    assert!(ended.stdout.contains("4 records moved, 2 suppressed"), "{ended}");
    // Without what was claimed, records of before would pass again.
    fs::remove_dir_all(place.path("remembered")).unwrap();
    let ended = place.hapax(&["run", "orders.yaml"]).expect(1);
    assert!(ended.stderr.contains("HX0683"), "{ended}");
    // And another ledger is another pipeline.
    place.write("orders.yaml", PIPELINE);
    place.hapax(&["run", "orders.yaml"]).expect(1);
}

#[test]
fn a_drill_uses_no_ledger_of_the_real_pipeline() {
    let place = orders();
    place.write("orders.yaml", &format!("{PIPELINE}ledger: {{ embedded: {{ path: remembered }} }}\n"));
    // Its own is in a directory too, which one process has at a time: a second worker may be refused, and loses nothing.
    let drilled = place.hapax(&["drill", "orders.yaml", "--kills", "3", "--json"]).json();
    assert_eq!((&drilled["lost"], &drilled["duplicated"]), (&0.into(), &0.into()), "{drilled}");
    assert!(!place.path("remembered").exists(), "the drill made the real ledger");
}

#[test]
fn verify_ends_with_0_when_equal_and_with_4_when_not() {
    let place = orders();
    place.hapax(&["run", "orders.yaml"]).expect(0);
    let ended = place.hapax(&["verify", "orders.yaml"]).expect(0);
    assert!(ended.stdout.contains("equal: "), "{ended}");
    let connection = rusqlite::Connection::open(place.path("shop.db")).unwrap();
    connection
        .execute_batch("UPDATE orders SET name = 'zwei' WHERE id = 2; DELETE FROM orders WHERE id = 3; INSERT INTO orders VALUES (9, 'nine', 90)")
        .unwrap();
    drop(connection);
    let ended = place.hapax(&["verify", "orders.yaml"]).expect(4);
    for what in ["NOT equal", "1 missing", "1 at the destination only", "1 different", "two became zwei"] {
        assert!(ended.stdout.contains(what), "{what}\n{ended}");
    }
    let document = place.hapax(&["verify", "orders.yaml", "--json"]).expect(4).json();
    assert_eq!(document["equal"], false);
    assert_eq!(document["missing"]["records"], 1);
}

#[test]
fn a_pipeline_that_means_something_else_is_refused() {
    let place = orders();
    place.hapax(&["run", "orders.yaml"]).expect(0);
    place.write("orders.yaml", &PIPELINE.replace("[id]", "[id, name]"));
    let ended = place.hapax(&["run", "orders.yaml"]).expect(1);
    assert!(
        ended.stderr.contains("another definition") && ended.stderr.contains("nothing was lost"),
        "{ended}"
    );
    // What a person mends before replaying means the same.
    place.write("orders.yaml", &PIPELINE.replace("orders.csv\n", "orders.csv\n    record_bytes_max: 1000\n"));
    place.hapax(&["run", "orders.yaml"]).expect(0);
}

#[test]
fn copy_needs_no_file_and_resumes() {
    let place = orders();
    let copy = ["copy", "--from", "orders.csv", "--to", "sqlite:shop.db?table=orders", "--key", "id"];
    let ended = place.hapax(&copy).expect(0);
    assert!(ended.stdout.contains("moved 3 records of 4 read"), "{ended}");
    let ended = place.hapax(&copy).expect(0);
    assert!(ended.stdout.contains("nothing new"), "{ended}");
    let ended = place.hapax(&["copy", "--from", "shop.db?table=orders", "--to", "out.jsonl"]).expect(0);
    assert!(ended.stdout.contains("moved 3 records"), "{ended}");
    let lines = fs::read_to_string(place.path("out.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 3, "{lines}");
    let ended = place.hapax(&["copy", "--from", "orders.txt", "--to", "x.csv"]).expect(2);
    assert!(ended.stderr.contains("error HX0034"), "{ended}");
}

#[test]
fn init_writes_a_file_that_runs_and_overwrites_nothing() {
    let place = orders();
    let ended =
        place.hapax(&["init", "orders.csv", "sqlite:shop.db?table=orders", "--out", "new.yaml"]).expect(0);
    assert!(ended.stdout.contains("hapax run new.yaml"), "{ended}");
    place.hapax(&["validate", "new.yaml"]).expect(0);
    let ended = place.hapax(&["run", "new.yaml"]).expect(0);
    assert!(ended.stdout.contains("moved 4 records"), "{ended}");
    let before = fs::read(place.path("new.yaml")).unwrap();
    let ended = place.hapax(&["init", "--out", "new.yaml"]).expect(2);
    assert!(ended.stderr.contains("error HX0035"), "{ended}");
    assert_eq!(fs::read(place.path("new.yaml")).unwrap(), before);
    assert!(place.hapax(&["init"]).expect(0).stdout.contains("version: 1"));
}

fn wait_until(what: &str, child: &mut Child, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(120), "waited too long: {what}");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn sigterm_finishes_the_batch_and_ends_with_0() {
    let place = Place::new();
    place.write(
        "stream.yaml",
        "source:\n  files: { path: '-', format: csv }\nsink:\n  sqlite: { path: shop.db, table: t }\n",
    );
    let mut child = place
        .command(&["run", "stream.yaml"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than the source samples, so that the run begins while the stream stays open.
    let header = "id,name\n".to_owned();
    let rows: String = (0..400_000).map(|row| format!("{row},name of {row}\n")).collect();
    let feeder = std::thread::spawn(move || {
        let _ = stdin.write_all((header + &rows).as_bytes());
        stdin
    });
    let database = place.path("shop.db");
    wait_until("the table exists", &mut child, || {
        database.exists()
            && rusqlite::Connection::open(&database).is_ok_and(|connection| {
                connection.query_row("SELECT 1 FROM sqlite_master WHERE name = 't'", [], |_| Ok(())).is_ok()
            })
    });
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("stopped as asked"), "{stdout}{stderr}");
    drop(feeder.join().unwrap());
}

#[test]
fn every_example_validates_and_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let place = Place::new();
    std::os::unix::fs::symlink(root.join("examples").canonicalize().unwrap(), place.path("examples"))
        .unwrap();
    fs::create_dir(place.path("target")).unwrap();
    let mut examples: Vec<PathBuf> = fs::read_dir(root.join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        // Those that need a server are run beside it.
        .filter(|path| !fs::read_to_string(path).unwrap().contains("_URL}"))
        .collect();
    // In the order of their names: one reads what another has written.
    examples.sort();
    assert!(examples.len() >= 4, "{examples:?}");
    for example in examples {
        let file = format!("examples/{}", example.file_name().unwrap().to_str().unwrap());
        place.hapax(&["validate", &file]).expect(0);
        let document = place.hapax(&["run", &file, "--json"]).expect(0).json();
        assert!(document["moved"].as_u64().unwrap() > 0, "{file}: {document}");
        let document = place.hapax(&["run", &file, "--json"]).expect(0).json();
        assert_eq!(document["nothing_new"], true, "{file}: {document}");
    }
    assert_eq!(place.rows("target/orders.db", "SELECT cast(count(*) AS text) FROM orders"), ["8"]);
}
