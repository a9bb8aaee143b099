//! `hapax verify` as a process: against ends that move, and with `--repair`, killed wherever it may be.
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
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A directory with a pipeline in it.
struct Place(tempfile::TempDir);

const LIMIT: Duration = Duration::from_secs(120);

impl Place {
    /// Records with the ids 0 up to `count` in a CSV file, and a pipeline from there.
    fn new(count: usize, sink: &str, more: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let lines: String = (0..count).map(|id| format!("{id},name {id},{}\n", id % 97)).collect();
        fs::write(place.path("orders.csv"), format!("id,name,amount\n{lines}")).unwrap();
        let sink = match sink {
            "sqlite" => "sqlite: { path: shop.db, table: orders }",
            "parquet" => "files: { path: out/, format: parquet }",
            other => other,
        };
        let file = format!(
            "name: orders\nsource: {{ files: {{ path: orders.csv }} }}\nsink: {{ {sink} }}\n{more}\n"
        );
        fs::write(place.path("orders.yaml"), file).unwrap();
        place
    }

    fn keyed(count: usize, sink: &str) -> Self {
        Self::new(count, sink, "identity: { key: [id] }\ndelivery: exactly-once\ncommit: { records: 500 }")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
        command.current_dir(self.0.path()).args(arguments).env_remove("HAPAX_CRASH").stdin(Stdio::null());
        command
    }

    fn hapax(&self, arguments: &[&str], exit: i32) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {output:?}");
        output
    }

    fn run(&self) {
        self.hapax(&["run", "orders.yaml"], 0);
    }

    fn verify(&self, arguments: &[&str], exit: i32) -> Value {
        let arguments = [&["verify", "orders.yaml", "--json"], arguments].concat();
        serde_json::from_slice(&self.hapax(&arguments, exit).stdout).unwrap()
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let errors = fs::File::create(self.path("stderr.log")).unwrap();
        Running(self.command(arguments).stdout(Stdio::null()).stderr(errors).spawn().unwrap())
    }

    /// Starts a run that stops itself at a crash point, and returns once it did.
    fn stopped_at(&self, point: &str) -> Running {
        let errors = fs::File::create(self.path("stderr.log")).unwrap();
        let mut command = self.command(&["run", "orders.yaml"]);
        command.env("HAPAX_CRASH", format!("{point}=stop")).stdout(Stdio::null()).stderr(errors);
        let run = Running(command.spawn().unwrap());
        let stat = format!("/proc/{}/stat", run.0.id());
        wait_until("the stop", || fs::read_to_string(&stat).unwrap().contains(") T "));
        run
    }

    fn sql(&self, sql: &str) {
        let db = rusqlite::Connection::open(self.path("shop.db")).unwrap();
        db.busy_timeout(LIMIT).unwrap();
        db.execute_batch(sql).unwrap();
    }

    fn number(&self, sql: &str) -> i64 {
        let Ok(db) = rusqlite::Connection::open(self.path("shop.db")) else { return 0 };
        db.query_row(sql, [], |row| row.get(0)).unwrap_or(0)
    }

    /// Takes records away at the destination.
    fn lose(&self, sink: &str) {
        if sink == "sqlite" {
            self.sql("DELETE FROM orders WHERE id % 3 = 0");
        } else {
            let mut parts = parts(&self.path("out"));
            parts.sort();
            parts.iter().step_by(2).for_each(|part| fs::remove_file(part).unwrap());
        }
    }
}

/// What a reader who globs for `*.parquet` finds.
fn parts(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect()
}

fn files_below(folder: &Path, name: &str) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let of = |path: PathBuf| match (path.is_dir(), path.file_name().is_some_and(|last| last == name)) {
        (true, true) => fs::read_dir(path).unwrap().count(),
        (true, false) => files_below(&path, name),
        _ => 0,
    };
    entries.map(|entry| of(entry.unwrap().path())).sum()
}

/// A process that is killed if a test fails.
struct Running(Child);

impl Running {
    fn go_on(&self) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, rustix::process::Signal::CONT).unwrap();
    }

    fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// The exit code, or the signal as a negative number.
    fn wait(mut self) -> i32 {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code().unwrap_or_else(|| -status.signal().unwrap());
            }
            assert!(Instant::now() < until, "a process did not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_is_missing_is_moved_and_nothing_else() {
    for sink in ["sqlite", "parquet"] {
        let place = Place::keyed(3_000, sink);
        place.run();
        let equal = place.verify(&["--repair"], 0);
        assert_eq!((&equal["equal"], &equal["compared_by"]), (&true.into(), &"key".into()));
        place.lose(sink);
        let lost = place.verify(&["--repair", "--dry-run"], 4)["missing"]["records"].clone();
        assert!(lost.as_u64().unwrap() > 0);
        assert_eq!(place.verify(&[], 4)["missing"]["records"], lost, "{sink}: a dry run moves nothing");
        let repaired = place.verify(&["--repair"], 0);
        assert_eq!(repaired["found"]["missing"]["records"], lost, "{repaired:#}");
        assert_eq!(repaired["repaired"]["moved"], lost, "{repaired:#}");
        assert_eq!(repaired["after"]["destination_records"], 3_000, "{repaired:#}");
        assert_eq!(place.verify(&[], 0)["destination_records"], 3_000);
        let again = place.hapax(&["run", "orders.yaml"], 0);
        assert!(String::from_utf8_lossy(&again.stdout).contains("nothing new"), "{sink}: {again:?}");
        assert_eq!(place.verify(&[], 0)["destination_records"], 3_000);
    }
}

#[test]
fn a_repair_killed_anywhere_is_completed_by_the_next_one() {
    for sink in ["sqlite", "parquet"] {
        let place = Place::keyed(4_000, sink);
        place.run();
        for point in ["lease-acquired", "mid-write", "commit-before", "commit-decided", "commit-after:2"] {
            place.lose(sink);
            let killed = place
                .command(&["verify", "orders.yaml", "--repair"])
                .env("HAPAX_CRASH", point)
                .output()
                .unwrap();
            if (sink, point) == ("sqlite", "commit-decided") {
                // One transaction has no such moment.
                assert_eq!(killed.status.code(), Some(0), "{killed:?}");
            } else {
                assert_eq!(killed.status.signal(), Some(9), "{sink} at {point}: {killed:?}");
                place.hapax(&["verify", "orders.yaml", "--repair"], 0);
            }
            let report = place.verify(&[], 0);
            assert_eq!(report["destination_records"], 4_000, "{sink} killed at {point}");
            assert_eq!(files_below(&place.path("out"), "tmp"), 0, "{sink} killed at {point}");
        }
        place.hapax(&["run", "orders.yaml"], 0);
        assert_eq!(place.verify(&[], 0)["destination_records"], 4_000);
    }
}

#[test]
fn a_verification_beside_a_run_finds_no_difference() {
    for sink in ["sqlite", "parquet"] {
        let (mut beside, mut overtaken) = (0, 0);
        // A directory is listed in a moment; a table is read while the run writes it, unless it is done before.
        for _ in 0..10 {
            let place = Place::keyed(30_000, sink);
            let mut run = place.stopped_at("commit-after:2");
            run.go_on();
            while !run.is_over() {
                let report = place.verify(&[], 0);
                beside += 1;
                overtaken += usize::from(report["moved_meanwhile"] == true);
            }
            assert_eq!(run.wait(), 0);
            assert_eq!(place.verify(&[], 0)["destination_records"], 30_000, "{sink}");
            if beside > 0 && (overtaken > 0 || sink == "parquet") {
                break;
            }
        }
        assert!(beside > 0 && (overtaken > 0 || sink == "parquet"), "{sink}: {overtaken} of {beside}");
    }
}

#[test]
fn a_commit_that_is_decided_and_about_to_be_visible_is_waited_for() {
    let place = Place::keyed(3_000, "parquet");
    let run = place.stopped_at("commit-decided:2");
    let (mut verify, begun) = (place.start(&["verify", "orders.yaml"]), Instant::now());
    wait_until("the look", || verify.is_over() || begun.elapsed() > Duration::from_millis(700));
    run.go_on();
    assert_eq!((verify.wait(), run.wait()), (0, 0));
}

#[test]
fn a_repair_fences_a_run_that_wakes_up_late() {
    let place = Place::keyed(30_000, "parquet");
    let run = place.stopped_at("commit-after:2");
    fs::remove_file(&parts(&place.path("out"))[0]).unwrap();
    let repaired = place.verify(&["--repair"], 0);
    assert_eq!(repaired["repaired"]["moved"], 500, "{repaired:#}");
    run.go_on();
    assert_eq!(run.wait(), 5, "{}", fs::read_to_string(place.path("stderr.log")).unwrap());
    place.run();
    assert_eq!(place.verify(&[], 0)["destination_records"], 30_000);
}

#[test]
fn of_two_repairs_at_once_each_record_is_moved_once() {
    for sink in ["sqlite", "parquet"] {
        let place = Place::keyed(4_000, sink);
        place.run();
        place.lose(sink);
        let repairs = [0, 1].map(|_| place.start(&["verify", "orders.yaml", "--repair"]));
        let codes = repairs.map(Running::wait);
        // The later one takes over; the earlier one may have been done before.
        assert!(codes.iter().all(|code| [0, 5].contains(code)) && codes.contains(&0), "{sink}: {codes:?}");
        assert_eq!(place.verify(&[], 0)["destination_records"], 4_000, "{sink}");
    }
}

#[test]
fn what_is_there_too_often_or_different_is_named_and_left_alone() {
    let place = Place::keyed(100, "sqlite");
    place.run();
    place.sql(
        "CREATE TABLE plain AS SELECT * FROM orders; DROP TABLE orders; ALTER TABLE plain RENAME TO orders;
         INSERT INTO orders SELECT * FROM orders WHERE id = 5;
         INSERT INTO orders VALUES (1000, 'new', 1);
         UPDATE orders SET name = 'other' WHERE id = 6;
         DELETE FROM orders WHERE id = 7;",
    );
    let repaired = place.verify(&["--repair"], 4);
    for (finding, before, after) in
        [("missing", 1, 0), ("duplicated", 1, 1), ("unexpected", 1, 1), ("different", 1, 1)]
    {
        assert_eq!(repaired["found"][finding]["records"], before, "{finding}: {repaired:#}");
        assert_eq!(repaired["after"][finding]["records"], after, "{finding}: {repaired:#}");
    }
    assert_eq!(repaired["after"]["different"]["examples"][0]["columns"][0]["destination"], "other");
    let words = place.hapax(&["verify", "orders.yaml"], 4);
    assert!(String::from_utf8_lossy(&words.stdout).contains("is not repaired"), "{words:?}");
}

#[test]
fn an_upserting_destination_gets_the_last_version_and_an_ignoring_one_the_first() {
    for (write, name) in [("upsert", "new"), ("ignore", "name 2")] {
        let sink = format!("sqlite: {{ path: shop.db, table: orders, write: {write} }}");
        let place = Place::new(10, &sink, "identity: { key: [id] }");
        let csv = fs::read_to_string(place.path("orders.csv")).unwrap();
        fs::write(place.path("orders.csv"), format!("{csv}2,new,5\n")).unwrap();
        place.run();
        place.sql("DELETE FROM orders WHERE id IN (2, 3)");
        let repaired = place.verify(&["--repair"], 0);
        assert_eq!(repaired["found"]["missing"]["records"], 2, "{write}: {repaired:#}");
        let sql = format!("SELECT count(*) FROM orders WHERE id = 2 AND name = '{name}'");
        assert_eq!((place.number(&sql), place.number("SELECT count(*) FROM orders")), (1, 10), "{write}");
    }
}

#[test]
fn a_killed_repair_of_an_upsert_leaves_no_older_version() {
    let sink = "sqlite: { path: shop.db, table: orders, write: upsert }";
    let place = Place::new(200, sink, "identity: { key: [id] }\ncommit: { records: 10 }");
    let csv = fs::read_to_string(place.path("orders.csv")).unwrap();
    fs::write(place.path("orders.csv"), format!("{csv}2,new,5\n")).unwrap();
    place.run();
    place.sql("DELETE FROM orders WHERE id < 50");
    let mut killed = place.command(&["verify", "orders.yaml", "--repair"]);
    let killed = killed.env("HAPAX_CRASH", "commit-after:1").output().unwrap();
    assert_eq!(killed.status.signal(), Some(9), "{killed:?}");
    place.verify(&["--repair"], 0);
    assert_eq!(place.number("SELECT count(*) FROM orders WHERE id = 2 AND name = 'new'"), 1);
    assert_eq!(place.number("SELECT count(*) FROM orders"), 200);
}

/// Files arrive in another order than they are listed in, and one of them vanishes.
#[test]
fn the_order_of_todays_listing_decides_nothing() {
    for (write, name) in [("append, duplicates: drop", "c"), ("upsert", "b")] {
        let (write, more) = write.split_once(", ").unwrap_or((write, ""));
        let sink = format!("sqlite: {{ path: shop.db, table: orders, write: {write} }}");
        let place = Place::new(0, &sink, &format!("identity: {{ key: [id] }}\n{more}"));
        let file = fs::read_to_string(place.path("orders.yaml")).unwrap();
        fs::write(place.path("orders.yaml"), file.replace("orders.csv", "in/*.csv")).unwrap();
        fs::create_dir(place.path("in")).unwrap();
        let put = |file: &str, rows: &str| {
            fs::write(place.path("in").join(file), format!("id,name\n{rows}")).unwrap();
        };
        put("a.csv", "1,a\n");
        put("c.csv", "2,c\n");
        place.run();
        put("b.csv", "2,b\n");
        place.run();
        let sql = format!("SELECT count(*) FROM orders WHERE id = 2 AND name = '{name}'");
        assert_eq!(place.number(&sql), 1, "{write}");
        assert_eq!(place.verify(&[], 0)["undecided"], 1, "{write}");
        let words = place.hapax(&["verify", "orders.yaml"], 0);
        assert!(String::from_utf8_lossy(&words.stdout).contains("across splits is not known"), "{words:?}");
        place.sql("DELETE FROM orders");
        if write == "append" {
            // The ledger knows which one took effect.
            assert_eq!(place.verify(&["--repair"], 0)["repaired"]["moved"], 2);
            assert_eq!(place.number(&sql), 1);
        } else {
            let after = place.verify(&["--repair"], 4)["after"].clone();
            assert_eq!((&after["missing"]["records"], &after["missing_undecided"]), (&1.into(), &1.into()));
            let words = place.hapax(&["verify", "orders.yaml", "--repair"], 4);
            assert!(String::from_utf8_lossy(&words.stdout).contains("not repaired"), "{words:?}");
            assert_eq!(place.number("SELECT count(*) FROM orders"), 1);
        }
        fs::remove_file(place.path("in").join("a.csv")).unwrap();
        let gone = place.verify(&[], 4);
        assert_eq!((&gone["splits_gone"], &gone["unexpected"]["records"]), (&1.into(), &1.into()), "{write}");
    }
}

#[test]
fn without_a_key_records_are_compared_by_content_and_number() {
    let place = Place::new(50, "sqlite", "");
    let csv = fs::read_to_string(place.path("orders.csv")).unwrap();
    fs::write(place.path("orders.csv"), format!("{csv}1,name 1,1\n1,name 1,1\n")).unwrap();
    place.run();
    assert_eq!(place.verify(&[], 0)["compared_by"], "content");
    place.sql("DELETE FROM orders WHERE rowid IN (SELECT rowid FROM orders WHERE id = 1 LIMIT 2)");
    let words = place.hapax(&["verify", "orders.yaml"], 4);
    assert!(String::from_utf8_lossy(&words.stdout).contains("compared by content"), "{words:?}");
    let repaired = place.verify(&["--repair"], 0);
    assert_eq!(repaired["repaired"]["moved"], 2, "{repaired:#}");
    assert_eq!(place.number("SELECT count(*) FROM orders WHERE id = 1"), 3);
}

#[test]
fn nested_values_that_are_printed_alike_are_not_the_same() {
    for format in ["jsonl", "parquet"] {
        let place = Place::keyed(0, "");
        let lines = [
            r#"{"id":1,"a":["a, b"],"o":{"p":"1"}}"#,
            r#"{"id":1,"a":["a","b"],"o":{"p":"1"}}"#,
            r#"{"id":1,"a":["",null],"o":{"p":"1"}}"#,
            r#"{"id":1,"a":[null,""],"o":{"p":"1"}}"#,
            r#"{"id":1,"a":["a","b"],"o":{"p":""}}"#,
            r#"{"id":1,"a":["a","b"],"o":{"p":null}}"#,
            r#"{"id":1,"a":["a","b"],"o":{"p":"1"}}"#,
        ];
        fs::write(place.path("orders.jsonl"), lines.join("\n") + "\n").unwrap();
        let file = format!(
            "name: orders\nsource: {{ files: {{ path: orders.jsonl }} }}\nidentity: hash\nduplicates: drop\n\
             sink: {{ files: {{ path: out/, format: {format} }} }}\n"
        );
        fs::write(place.path("orders.yaml"), file).unwrap();
        place.run();
        // The last is the second once more.
        let report = place.verify(&[], 0);
        let counts = (&report["destination_records"], &report["twins"]);
        assert_eq!(counts, (&6.into(), &1.into()), "{format}: {report:#}");
        if format == "jsonl" {
            let entries = fs::read_dir(place.path("out")).unwrap().map(|entry| entry.unwrap().path());
            let part = entries.into_iter().find(|path| path.is_file()).unwrap();
            let moved = fs::read_to_string(&part).unwrap();
            let changed = moved.replacen(r#"["a, b"]"#, r#"["a","b"]"#, 1);
            assert_ne!(changed, moved);
            fs::write(&part, changed).unwrap();
            let report = place.verify(&[], 4);
            assert_eq!(report["missing"]["records"], 1, "{report:#}");
        }
    }
}

#[test]
fn twins_and_dead_letters_stay_what_they_are() {
    let place = Place::keyed(200, "sqlite");
    let csv = fs::read_to_string(place.path("orders.csv")).unwrap();
    fs::write(place.path("orders.csv"), format!("{csv}3,twin,1\nbad,line,x\n,no key,1\n4,twin,1\n")).unwrap();
    let file = fs::read_to_string(place.path("orders.yaml")).unwrap();
    let schema = "orders.csv, schema: { id: int64, name: string, amount: int64 }";
    fs::write(place.path("orders.yaml"), file.replace("orders.csv", schema)).unwrap();
    place.run();
    place.sql("DELETE FROM orders WHERE id IN (3, 9)");
    let repaired = place.verify(&["--repair"], 0);
    assert_eq!(repaired["repaired"]["moved"], 2, "{repaired:#}");
    assert_eq!((&repaired["after"]["twins"], &repaired["after"]["set_aside"]), (&2.into(), &2.into()));
    assert_eq!(place.number("SELECT count(*) FROM orders WHERE name = 'twin'"), 0);
    assert_eq!(place.number("SELECT count(*) FROM _hapax_dead_letters"), 2);
    // At the destination such a record is none that Hapax moved.
    place.sql(
        "CREATE TABLE plain AS SELECT * FROM orders; DROP TABLE orders; ALTER TABLE plain RENAME TO orders",
    );
    place.sql("INSERT INTO orders VALUES (NULL, 'no key', 1)");
    assert_eq!(place.verify(&[], 4)["unreadable"], 1);
}

#[test]
fn what_the_destination_refuses_now_stays_missing() {
    let place = Place::keyed(20, "sqlite");
    place.run();
    place.sql(
        "CREATE TABLE checked (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'name 4'), amount INTEGER);
         INSERT INTO checked SELECT * FROM orders WHERE id NOT IN (4, 5);
         DROP TABLE orders; ALTER TABLE checked RENAME TO orders;",
    );
    let repaired = place.verify(&["--repair"], 4);
    assert_eq!((&repaired["repaired"]["moved"], &repaired["repaired"]["refused"]), (&1.into(), &1.into()));
    // No letter may hold its claim, which was committed with the effect that is gone.
    assert_eq!(place.number("SELECT count(*) FROM _hapax_dead_letters"), 0);
    place.sql(
        "CREATE TABLE open (id INTEGER PRIMARY KEY, name TEXT, amount INTEGER);
         INSERT INTO open SELECT * FROM orders; DROP TABLE orders; ALTER TABLE open RENAME TO orders;",
    );
    place.verify(&["--repair"], 0);
}

#[test]
fn a_destination_without_positions_cannot_be_compared() {
    let place = Place::new(5, "sqlite: { path: shop.db, table: orders, positions: false }", "");
    place.run();
    for arguments in [["verify", "orders.yaml"].as_slice(), &["verify", "orders.yaml", "--repair"]] {
        let failed = place.command(arguments).output().unwrap();
        assert_eq!(failed.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&failed.stderr).contains("HX0434"));
    }
    assert_eq!(place.number("SELECT count(*) FROM orders"), 5);
}

#[test]
fn a_destination_that_is_gone_is_made_anew() {
    for sink in ["sqlite", "parquet"] {
        let place = Place::keyed(2_000, sink);
        // Before the first run nothing is there, and nothing should be.
        assert_eq!(place.verify(&[], 0)["splits_not_moved"], 1);
        place.run();
        match sink {
            "sqlite" => place.sql("DROP TABLE orders"),
            _ => parts(&place.path("out")).iter().for_each(|part| fs::remove_file(part).unwrap()),
        }
        assert_eq!(place.verify(&[], 4)["missing"]["records"], 2_000, "{sink}");
        assert_eq!(place.verify(&["--repair"], 0)["repaired"]["moved"], 2_000, "{sink}");
        assert_eq!(place.verify(&[], 0)["destination_records"], 2_000, "{sink}");
    }
}

#[test]
fn one_file_is_repaired_once_it_is_published() {
    let place = Place::keyed(3_000, "files: { path: out.jsonl }");
    let killed =
        place.command(&["run", "orders.yaml"]).env("HAPAX_CRASH", "commit-after:3").output().unwrap();
    assert_eq!(killed.status.signal(), Some(9));
    // What was committed is not in a file yet.
    let report = place.verify(&[], 4);
    assert_eq!((&report["unpublished"], &report["missing"]["records"]), (&true.into(), &1_500.into()));
    let failed = place.command(&["verify", "orders.yaml", "--repair"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    place.run();
    assert_eq!(place.verify(&["--repair"], 0)["destination_records"], 3_000);
}
