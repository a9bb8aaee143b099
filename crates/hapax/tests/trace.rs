//! What is said of one record, whatever happened to it, and however the run ended.
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
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rusqlite::Connection;
use serde_json::Value;

/// Four records a commit. Their numbers are those of the lines, from 0.
const RECORDS: &str = "id,amount\n\
    1,10\n2,20\nx,30\n1,11\n\
    3,-5\n4,0\n5,77\n6,60\n\
    7,70\n8,80\n";

const TRANSFORM: &str = "SELECT id, amount, 100 / amount AS share FROM input WHERE amount <> 77";

const SQLITE: &str = "sqlite: { path: out.db, table: t }";
const PARQUET: &str = "files: { path: out, format: parquet }";
const FILE: &str = "files: { path: out.csv }";

struct Place {
    folder: tempfile::TempDir,
    sink: &'static str,
}

struct Ended {
    exit: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Arrivals as (number, decision, commit), and rows at the destination.
type Traced = (Vec<(u64, String, Option<u64>)>, Option<u64>);

impl Ended {
    fn expect(self, exit: i32) -> Self {
        assert_eq!(self.exit, Some(exit), "{}{}", self.stdout, self.stderr);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

impl Place {
    fn new(sink: &'static str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), sink };
        fs::write(place.path("in.csv"), RECORDS).unwrap();
        place.transform(TRANSFORM);
        if sink == SQLITE {
            place.sql(
                "CREATE TABLE t(id INTEGER, amount INTEGER, share INTEGER);
                 CREATE TRIGGER positive BEFORE INSERT ON t WHEN NEW.amount < 0
                 BEGIN SELECT RAISE(ABORT, 'negative'); END",
            );
        }
        place
    }

    fn transform(&self, transform: &str) {
        let text = format!(
            "source:\n  files: {{ path: in.csv, schema: {{ id: int64, amount: int64 }} }}\n\
             identity: {{ key: [id] }}\nduplicates: drop\ntransform: {transform}\nsink:\n  {}\n\
             commit: {{ records: 4 }}\n",
            self.sink
        );
        fs::write(self.path("p.yaml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sql(&self, sql: &str) {
        Connection::open(self.path("out.db")).unwrap().execute_batch(sql).unwrap();
    }

    fn hapax(&self, arguments: &[&str], crash: Option<&str>) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
        command.current_dir(self.folder.path()).args(arguments).env_remove("HAPAX_CRASH");
        command.envs(crash.map(|point| ("HAPAX_CRASH", point)));
        let output = command.stdin(Stdio::null()).output().unwrap();
        Ended {
            exit: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn run(&self) {
        self.hapax(&["run", "p.yaml"], None).expect(0);
    }

    fn killed(&self, arguments: &[&str], point: &str) {
        let ended = self.hapax(arguments, Some(point));
        assert_eq!(ended.exit, None, "{point} was not passed: {}{}", ended.stdout, ended.stderr);
    }

    fn trace(&self, id: &str, more: &[&str]) -> Value {
        self.hapax(&[&["trace", "p.yaml", id, "--json"], more].concat(), None).expect(0).json()
    }

    /// The arrivals of a record as (number, decision, commit), and how many rows the destination holds of it.
    fn arrivals(&self, id: &str) -> Traced {
        let trace = self.trace(id, &[]);
        let arrivals = trace["arrivals"].as_array().unwrap().iter().map(|arrival| {
            let decision = arrival["decision"].as_str().unwrap().to_owned();
            (arrival["record"].as_u64().unwrap(), decision, arrival["commit"]["number"].as_u64())
        });
        (arrivals.collect(), trace["destination"]["rows"].as_u64())
    }

    fn is(&self, id: &str, arrivals: &[(u64, &str, Option<u64>)], rows: Option<u64>) {
        let expected: Vec<_> =
            arrivals.iter().map(|(record, what, commit)| (*record, (*what).to_owned(), *commit)).collect();
        assert_eq!(self.arrivals(id), (expected, rows), "{id} at {}", self.sink);
    }

    /// Takes away, by other means than Hapax, what the first commit moved: the records 1 and 2.
    fn lose_the_first_commit(&self) {
        if self.sink == SQLITE {
            return self.sql("DELETE FROM t WHERE id <= 2");
        }
        let entries = fs::read_dir(self.path("out")).unwrap().map(|entry| entry.unwrap().path());
        let first = entries.filter(|path| path.to_string_lossy().ends_with("-000001.parquet"));
        first.for_each(|part| fs::remove_file(part).unwrap());
    }

    /// The commits that moved the first arrival of a record again as (commit, token, whether it is complete).
    fn moved_again(&self, id: &str) -> Vec<(u64, u64, bool)> {
        let arrival = self.trace(id, &[])["arrivals"][0].clone();
        let complete = arrival["complete"].as_bool().unwrap();
        let again = arrival["moved_again"].as_array().unwrap().iter().map(|commit| {
            assert!(!commit["holder"].as_str().unwrap().is_empty(), "{commit}");
            assert!(commit["made_unix_ms"].as_u64().unwrap() > 0, "{commit}");
            (commit["number"].as_u64().unwrap(), commit["token"].as_u64().unwrap(), complete)
        });
        again.collect()
    }

    fn letters(&self) -> Vec<u64> {
        let listed = self.hapax(&["dead-letters", "list", "p.yaml", "--json"], None).expect(0).json();
        listed["letters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|letter| letter["record"].as_u64().unwrap())
            .collect()
    }
}

#[test]
fn each_fate_of_a_record_is_said_after_a_clean_run() {
    for sink in [SQLITE, PARQUET] {
        let place = Place::new(sink);
        place.run();
        place.is("1", &[(0, "moved", Some(1)), (3, "suppressed", Some(1))], Some(1));
        place.is("id=2", &[(1, "moved", Some(1))], Some(1));
        place.is("in.csv#0:2", &[(2, "set-aside", Some(1))], None);
        match sink {
            SQLITE => place.is("3", &[(4, "set-aside", Some(2))], Some(0)),
            _ => place.is("3", &[(4, "moved", Some(2))], Some(1)),
        }
        place.is("4", &[(5, "set-aside", Some(2))], Some(0));
        place.is("5", &[(6, "left-out", Some(2))], Some(0));
        place.is("8", &[(9, "moved", Some(3))], Some(1));
        // A place is the way to all arrivals of its record, and so are the digits of the identity.
        place.is("in.csv#0:3", &[(0, "moved", Some(1)), (3, "suppressed", Some(1))], Some(1));
        let trace = place.trace("1", &[]);
        let digits = trace["identities"][0].as_str().unwrap();
        place.is(digits, &[(0, "moved", Some(1)), (3, "suppressed", Some(1))], Some(1));
        assert_eq!(trace["arrivals"][1]["twin_of"], "in.csv#0:0");
        assert_eq!(trace["ledger"]["claimed_by"][0], "in.csv#0:0");
        let commit = &trace["arrivals"][0]["commit"];
        assert_eq!((&commit["first_record"], &commit["records"]), (&Value::from(0), &Value::from(4)));
        assert_eq!(commit["totals"]["suppressed"], 1);
        assert!(
            !commit["holder"].as_str().unwrap().is_empty() && commit["made_unix_ms"].as_u64().unwrap() > 0
        );
        let letter = &place.trace("4", &[])["arrivals"][0]["letter"];
        assert!(letter["reason"].as_str().unwrap().to_lowercase().contains("zero"), "{letter}");

        let words = place.hapax(&["trace", "p.yaml", "1"], None).expect(0).stdout;
        for what in [
            "in.csv#0:0  moved",
            "in.csv#0:3  suppressed: twin of in.csv#0:0",
            "in commit 1 of in.csv#0",
            "records 0 to 3",
            "source: arrives 2 times",
            "ledger: claimed by in.csv#0:0",
            "destination: 1 row with this identity",
        ] {
            assert!(words.contains(what), "{what}\n{words}");
        }
        let ended = place.hapax(&["trace", "p.yaml", "99"], None).expect(1);
        assert!(ended.stderr.contains("HX0451") && ended.stderr.contains("99"), "{}", ended.stderr);
        let ended = place.hapax(&["trace", "p.yaml", "ninety"], None).expect(2);
        assert!(ended.stderr.contains("HX0450") && ended.stderr.contains("Int64"), "{}", ended.stderr);
    }
}

#[test]
fn what_became_of_a_dead_letter_is_remembered() {
    for sink in [SQLITE, PARQUET] {
        let place = Place::new(sink);
        place.run();
        // Mended: nobody divides by zero, and the table takes what it refused.
        place.transform(&TRANSFORM.replace("100 / amount", "100 / (amount + 1)"));
        let mended = ["dead-letters", "replay", "p.yaml", "--place", "in.csv#0:5"];
        place.hapax(&mended, None).expect(0);
        place.is("4", &[(5, "settled", Some(2))], Some(1));
        let arrival = &place.trace("4", &[])["arrivals"][0];
        assert_eq!(
            (&arrival["settled"]["ending"], &arrival["settled"]["commit"]),
            (&"moved".into(), &4.into())
        );
        let settled_in = &arrival["settled_in"];
        assert_eq!((&settled_in["number"], &settled_in["token"]), (&4.into(), &2.into()), "{arrival}");
        assert!(!settled_in["holder"].as_str().unwrap().is_empty(), "{arrival}");
        let words = place.hapax(&["trace", "p.yaml", "4"], None).expect(0).stdout;
        assert!(words.contains("settled in commit 4 of in.csv#0") && words.contains("token #2"), "{words}");
        // The transform leaves a letter out.
        if sink == SQLITE {
            place.transform("SELECT id, amount, 100 / (amount + 1) AS share FROM input WHERE amount > 0");
            place.hapax(&["dead-letters", "replay", "p.yaml", "--place", "in.csv#0:4"], None).expect(0);
            place.is("3", &[(4, "settled", Some(2))], Some(0));
            let arrival = &place.trace("3", &[])["arrivals"][0];
            assert_eq!(arrival["settled"]["ending"], "left-out");
        }
        place.hapax(&["dead-letters", "drop", "p.yaml", "--place", "in.csv#0:2"], None).expect(0);
        place.is("in.csv#0:2", &[(2, "settled", Some(1))], None);
        let words = place.hapax(&["trace", "p.yaml", "in.csv#0:2"], None).expect(0).stdout;
        assert!(words.contains("set aside, then dropped") && words.contains("HX02"), "{words}");
        assert_eq!(place.letters(), [0_u64; 0]);
        let all = place.hapax(&["dead-letters", "list", "p.yaml", "--all"], None).expect(0).stdout;
        for what in ["in.csv#0:2", "dropped", "in.csv#0:5", "replayed", "nothing is set aside"] {
            assert!(all.contains(what), "{what}\n{all}");
        }
        let all = place.hapax(&["dead-letters", "list", "p.yaml", "--all", "--json"], None).expect(0).json();
        let settled = if sink == SQLITE { 3 } else { 2 };
        assert_eq!(all["settled"].as_array().unwrap().len(), settled, "{all}");
    }
}

#[test]
fn the_commit_of_a_repair_is_shown() {
    for sink in [SQLITE, PARQUET] {
        let place = Place::new(sink);
        place.run();
        if sink == SQLITE {
            // As a version left it that did not remember what it moved again.
            place.sql("DROP TABLE _hapax_moved_again");
        }
        place.lose_the_first_commit();
        place.is("1", &[(0, "moved", Some(1)), (3, "suppressed", Some(1))], Some(0));
        assert_eq!(place.moved_again("1"), [], "{sink}");
        place.hapax(&["verify", "p.yaml", "--repair"], None).expect(0);
        place.is("1", &[(0, "moved", Some(1)), (3, "suppressed", Some(1))], Some(1));
        assert_eq!(place.moved_again("1"), [(4, 2, true)], "{sink}");
        assert_eq!(place.moved_again("6"), [], "{sink}: it was not lost");
        let words = place.hapax(&["trace", "p.yaml", "1"], None).expect(0).stdout;
        for what in ["in commit 1 of in.csv#0", "moved again in commit 4 of in.csv#0", "with token #2"] {
            assert!(words.contains(what), "{what}\n{words}");
        }
        let trace = place.trace("1", &["--no-source"]);
        assert_eq!(trace["arrivals"][0]["moved_again"][0]["number"], 4, "{trace}");
    }
}

#[test]
fn a_repair_that_was_killed_is_shown_as_far_as_it_came() {
    for (sink, point) in [
        (SQLITE, "commit-before"),
        (SQLITE, "commit-after"),
        (PARQUET, "commit-before"),
        (PARQUET, "commit-decided"),
        (PARQUET, "commit-after"),
    ] {
        let place = Place::new(sink);
        place.run();
        place.lose_the_first_commit();
        place.killed(&["verify", "p.yaml", "--repair"], point);
        let killed = match point {
            "commit-before" => vec![],
            _ => vec![(4, 2, point == "commit-after")],
        };
        assert_eq!(place.moved_again("1"), killed, "{sink} at {point}");
        place.hapax(&["verify", "p.yaml", "--repair"], None).expect(0);
        let token = if killed.is_empty() { 3 } else { 2 };
        assert_eq!(place.moved_again("1"), [(4, token, true)], "{sink} at {point}");
        place.is("1", &[(0, "moved", Some(1)), (3, "suppressed", Some(1))], Some(1));
    }
}

#[test]
fn a_record_that_was_dropped_is_not_missing() {
    let place = Place::new(SQLITE);
    place.run();
    place.hapax(&["verify", "p.yaml"], None).expect(0);
    place.hapax(&["dead-letters", "drop", "p.yaml", "--all"], None).expect(0);
    // The row that the table refused is in the source and would be expected.
    let report = place.hapax(&["verify", "p.yaml", "--json"], None).expect(0).json();
    assert_eq!(report["missing"]["records"], 0, "{report}");
    place.is("3", &[(4, "settled", Some(2))], Some(0));
}

#[test]
fn a_kill_leaves_everything_to_be_asked() {
    for (sink, point) in
        [(SQLITE, "commit-after:2"), (PARQUET, "commit-decided:2"), (PARQUET, "commit-after:2")]
    {
        let place = Place::new(sink);
        place.killed(&["run", "p.yaml"], point);
        for _ in 0..2 {
            place.is("1", &[(0, "moved", Some(1)), (3, "suppressed", Some(1))], Some(1));
            place.is("4", &[(5, "set-aside", Some(2))], Some(0));
            place.is("7", &[(8, "not-reached", None)], Some(0));
        }
        // Decided, and still under its temporary name: a reader does not see it yet.
        let is_decided = point.starts_with("commit-decided");
        place.is("6", &[(7, "moved", Some(2))], Some(u64::from(!is_decided)));
        assert_eq!(place.trace("6", &[])["arrivals"][0]["complete"], !is_decided);
        let words = place.hapax(&["trace", "p.yaml", "6"], None).expect(0).stdout;
        assert_eq!(words.contains("decided and not all visible yet"), is_decided, "{words}");
        place.run();
        place.is("6", &[(7, "moved", Some(2))], Some(1));
        place.is("7", &[(8, "moved", Some(3))], Some(1));
        place.is("1", &[(0, "moved", Some(1)), (3, "suppressed", Some(1))], Some(1));
        assert_eq!(place.trace("6", &[])["arrivals"][0]["complete"], true);
        let holders = ["6", "7"].map(|id| place.trace(id, &[])["arrivals"][0]["commit"]["token"].clone());
        assert_eq!(holders, [Value::from(1), Value::from(2)], "the commits were two runs'");
    }
}

#[test]
fn a_claim_whose_commit_was_never_made_is_nobodys() {
    for sink in [SQLITE, PARQUET] {
        let place = Place::new(sink);
        place.killed(&["run", "p.yaml"], "commit-before:2");
        place.is("6", &[(7, "not-reached", None)], Some(0));
        assert_eq!(place.trace("6", &[])["ledger"]["claimed_by"], Value::Array(Vec::new()));
        place.run();
        place.is("6", &[(7, "moved", Some(2))], Some(1));
    }
}

#[test]
fn without_the_source_the_destination_says_what_it_knows() {
    for sink in [SQLITE, PARQUET] {
        let place = Place::new(sink);
        place.run();
        let trace = place.trace("1", &["--no-source", "--no-destination"]);
        assert_eq!((&trace["source"]["read"], &trace["destination"]["rows"]), (&false.into(), &Value::Null));
        assert_eq!(trace["arrivals"].as_array().unwrap().len(), 1);
        assert_eq!(
            (&trace["arrivals"][0]["record"], &trace["arrivals"][0]["decision"]),
            (&0.into(), &"moved".into())
        );
        fs::remove_file(place.path("in.csv")).unwrap();
        let trace = place.trace("1", &[]);
        assert!(trace["source"]["why_not"].as_str().unwrap().contains("in.csv"), "{trace}");
        assert_eq!(trace["arrivals"][0]["decision"], "moved", "the type of the key is guessed");
        assert_eq!(trace["arrivals"][0]["place"], "in.csv#0:0");
        let trace = place.trace("in.csv#0:2", &[]);
        assert_eq!(trace["arrivals"][0]["decision"], "set-aside");
        let words = place.hapax(&["trace", "p.yaml", "1"], None).expect(0).stdout;
        assert!(words.contains("source: not read"), "{words}");
        place.hapax(&["trace", "p.yaml", "99"], None).expect(1);
    }
}

#[test]
fn what_was_decided_is_completed_and_nothing_else_moves() {
    let place = Place::new(PARQUET);
    let list = |place: &Place| place.hapax(&["in-doubt", "list", "p.yaml", "--json"], None).expect(0).json();
    place.killed(&["run", "p.yaml"], "commit-decided:2");
    assert_eq!(list(&place)["decided"], serde_json::json!([{"split": "in.csv#0", "commit": 2}]));
    let words = place.hapax(&["in-doubt", "list", "p.yaml"], None).expect(0).stdout;
    assert!(words.contains("commit 2: decided") && words.contains("nothing is in doubt"), "{words}");
    let words = place.hapax(&["in-doubt", "resolve", "p.yaml"], None).expect(0).stdout;
    assert!(words.contains("1 commit completed"), "{words}");
    assert_eq!(list(&place)["decided"], serde_json::json!([]));
    place.is("6", &[(7, "moved", Some(2))], Some(1));
    place.is("7", &[(8, "not-reached", None)], Some(0));
    let words = place.hapax(&["in-doubt", "resolve", "p.yaml"], None).expect(0).stdout;
    assert!(words.contains("nothing to complete"), "{words}");
    place.run();
    place.hapax(&["verify", "p.yaml"], None).expect(0);

    let place = Place::new(SQLITE);
    place.killed(&["run", "p.yaml"], "commit-after:2");
    let document = list(&place);
    assert_eq!((&document["decided"], &document["can_be_asked"]), (&serde_json::json!([]), &true.into()));

    // A single file is decided as a whole, too.
    let place = Place::new(FILE);
    place.killed(&["run", "p.yaml"], "finish-staged:2");
    assert_eq!(list(&place)["decided"], serde_json::json!([{"split": "in.csv#0", "commit": 3}]));
    assert!(!place.path("out.csv").exists());
    place.hapax(&["in-doubt", "resolve", "p.yaml"], None).expect(0);
    assert!(place.path("out.csv").exists());
    place.hapax(&["verify", "p.yaml"], None).expect(0);
}

#[test]
fn an_interrupted_replay_is_completed_by_the_next_one() {
    for sink in [SQLITE, PARQUET, FILE] {
        for point in ["commit-before", "commit-decided", "commit-after"] {
            if (sink, point) == (SQLITE, "commit-decided") {
                // One transaction has no such point.
                continue;
            }
            let place = Place::new(sink);
            place.run();
            let (listed, refused) = (place.letters(), sink == SQLITE);
            assert_eq!(listed, if refused { vec![2, 4, 5] } else { vec![2, 5] });
            place.transform(&TRANSFORM.replace("100 / amount", "100 / (amount + 1)"));
            if refused {
                place.sql("DROP TRIGGER positive");
            }
            let replay = ["dead-letters", "replay", "p.yaml", "--all"];
            place.killed(&replay, point);
            // What cannot be read stays; everything else moved, by this or by the one before.
            place.hapax(&replay, None).expect(1);
            assert_eq!(place.letters(), [2], "{sink} at {point}");
            place.hapax(&replay, None).expect(1);
            for (id, record) in [("4", 5), ("3", 4)] {
                let fate = if refused || id == "4" { "settled" } else { "moved" };
                place.is(id, &[(record, fate, Some(2))], Some(1));
            }
            // The rows moved before the transform was mended differ from what it would make of them now.
            place.is("1", &[(0, "moved", Some(1)), (3, "suppressed", Some(1))], Some(1));
            let report = place.hapax(&["verify", "p.yaml", "--json"], None).json();
            for finding in ["missing", "duplicated", "unexpected"] {
                assert_eq!(report[finding]["records"], 0, "{sink} at {point}: {report}");
            }
            assert_eq!(report["destination_records"], 7, "{sink} at {point}: {report}");
        }
    }
}

#[test]
fn a_destination_that_remembers_nothing_is_said_to() {
    let place = Place::new("sqlite: { path: out.db, table: t, positions: false }");
    let text = fs::read_to_string(place.path("p.yaml")).unwrap();
    fs::write(place.path("p.yaml"), text.replace("duplicates: drop\n", "")).unwrap();
    fs::write(place.path("in.csv"), "id,amount\n1,10\n5,77\n").unwrap();
    place.run();
    place.is("1", &[(0, "unrecorded", None)], Some(1));
    place.is("5", &[(1, "left-out", None)], Some(0));
    let words = place.hapax(&["trace", "p.yaml", "1"], None).expect(0).stdout;
    assert!(words.contains("keeps no positions"), "{words}");
    let words = place.hapax(&["in-doubt", "list", "p.yaml"], None).expect(0).stdout;
    assert!(words.contains("cannot be looked up"), "{words}");
}

#[test]
fn an_interrupted_drop_is_completed_by_the_next_one() {
    for (sink, points) in [
        (SQLITE, ["commit-before", "commit-after"].as_slice()),
        (PARQUET, &["commit-before", "commit-decided", "commit-after"]),
    ] {
        for point in points {
            let place = Place::new(sink);
            place.run();
            let drop_all = ["dead-letters", "drop", "p.yaml", "--all"];
            place.killed(&drop_all, point);
            place.hapax(&drop_all, None).expect(0);
            assert_eq!(place.letters(), [0_u64; 0], "{sink} at {point}");
            place.is("4", &[(5, "settled", Some(2))], Some(0));
            let arrival = &place.trace("4", &[])["arrivals"][0];
            assert_eq!(
                (&arrival["settled"]["ending"], &arrival["complete"]),
                (&"dropped".into(), &true.into())
            );
            place.hapax(&["verify", "p.yaml"], None).expect(0);
        }
    }
}
