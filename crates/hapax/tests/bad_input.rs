//! What bad input gets: its own error with a code, exit status and place, nothing half-visible, and a rerun
//! that completes once the cause is gone.
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
use std::process::{Command, Stdio};

use rusqlite::Connection;
use tempfile::TempDir;

/// A folder with a pipeline in it.
struct Case {
    folder: TempDir,
    pipeline: String,
}

struct Outcome {
    code: i32,
    said: String,
}

impl Case {
    /// `SOURCE` and `SINK` are written with `@` for the folder.
    fn new(source: &str, sink: &str, rest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |text: &str| text.replace('@', &folder.path().display().to_string());
        let pipeline = format!(
            "version: 1\nname: bad-input\nsource:\n  {}\nsink:\n  {}\n{}",
            at(source),
            at(sink),
            at(rest)
        );
        Self { folder, pipeline }
    }

    fn csv_to_sqlite(rest: &str) -> Self {
        Self::new("files: { path: \"@/in.csv\" }", "sqlite: { path: \"@/out.db\", table: t }", rest)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        fs::write(self.path(name), bytes).unwrap();
        self
    }

    fn run(&self) -> Outcome {
        self.hapax(&["run"])
    }

    fn hapax(&self, arguments: &[&str]) -> Outcome {
        fs::write(self.path("pipeline.yaml"), &self.pipeline).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_hapax"))
            .args(arguments)
            .arg(self.path("pipeline.yaml"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Outcome { code: output.status.code().unwrap(), said }
    }

    fn rows(&self) -> i64 {
        count(&self.path("out.db"), "t")
    }

    /// The reasons of all dead letters, in the order of their places.
    fn reasons(&self) -> Vec<String> {
        let db = Connection::open(self.path("out.db")).unwrap();
        let mut letters =
            db.prepare("SELECT reason FROM _hapax_dead_letters ORDER BY split, ordinal").unwrap();
        letters.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }
}

fn count(db: &Path, table: &str) -> i64 {
    let Ok(db) = Connection::open(db) else { return 0 };
    db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap_or(0)
}

impl Outcome {
    fn is(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{}", self.said);
        for word in words {
            assert!(self.said.contains(word), "`{word}` is missing in:\n{}", self.said);
        }
        self
    }
}

#[test]
fn malformed_records_become_dead_letters_with_their_reasons() {
    let case = Case::new(
        "files: { path: \"@/in.csv\", schema: { id: int64, amount: int32, text: string } }",
        "sqlite: { path: \"@/out.db\", table: t }",
        "",
    );
    let mut text = b"id,amount,text\n1,10,good\n2,ten,bad number\n3,30\n4,99999999999,too large\n".to_vec();
    text.extend(b"5,50,\xff\xfe\n6,60,\"quoted\nnewline\"\n7,70,good");
    case.put("in.csv", text);
    case.run().is(0, &["dead-letters list"]);
    assert_eq!(case.rows(), 3);
    let reasons = case.reasons();
    assert_eq!(reasons.len(), 4, "{reasons:#?}");
    for (reason, words) in
        reasons.iter().zip([["amount", "ten"], ["2", "3"], ["amount", "99999999999"], ["UTF-8", ""]])
    {
        assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
    }
    case.hapax(&["dead-letters", "list"]).is(0, &["ten", "99999999999"]);
    case.run().is(0, &["nothing new"]);
    assert_eq!((case.rows(), case.reasons().len()), (3, 4));
}

#[test]
fn on_error_stop_stops_before_the_record() {
    let case = Case::new(
        "files: { path: \"@/in.csv\", schema: { id: int64 } }",
        "sqlite: { path: \"@/out.db\", table: t }",
        "on_error: stop\ncommit: { records: 2 }\n",
    );
    case.put("in.csv", "id\n1\n2\n3\n4\nfive\n6\n");
    case.run().is(1, &["HX0102", "five", "nothing was lost"]);
    assert!(case.rows() <= 4);
    assert!(case.reasons().is_empty());
    case.put("in.csv", "id\n1\n2\n3\n4\n5555\n6\n");
    // The record was mended in place, behind the position: what was read before it is as it was.
    let again = case.run();
    assert!(again.code == 0 || again.said.contains("replaced"), "{}", again.said);
}

#[test]
fn a_line_of_fifty_megabytes_is_set_aside_in_little_memory() {
    let case = Case::csv_to_sqlite("");
    let mut file = fs::File::create(case.path("in.csv")).unwrap();
    file.write_all(b"id,text\n1,a\n2,").unwrap();
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..50 {
        file.write_all(&chunk).unwrap();
    }
    file.write_all(b"\n3,c\n").unwrap();
    drop(file);
    let outcome = case.hapax(&["run", "--json"]);
    outcome.is(0, &["\"set_aside\""]);
    assert_eq!(case.rows(), 2);
    let reasons = case.reasons();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    let raw: i64 = Connection::open(case.path("out.db"))
        .unwrap()
        .query_row("SELECT length(raw) FROM _hapax_dead_letters", [], |row| row.get(0))
        .unwrap();
    assert!(raw <= 64 * 1024, "{raw} bytes of it were kept");
    let peak = outcome.said.split("\"peak_memory_bytes\":").nth(1).unwrap();
    let peak: u64 = peak.trim().chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
    assert!(peak < 200 << 20, "{peak} bytes");
}

#[test]
fn a_truncated_gzip_stops_and_a_whole_one_completes() {
    let case = Case::new("files: { path: \"@/in.csv.gz\" }", "sqlite: { path: \"@/out.db\", table: t }", "");
    let text: String =
        (0..50_000).fold("id,text\n".to_owned(), |text, n| text + &format!("{n},text of {n}\n"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let whole = gzip.finish().unwrap();
    case.put("in.csv.gz", &whole[..whole.len() * 2 / 3]);
    case.run().is(1, &["HX02", "in.csv.gz", "nothing was lost"]);
    assert!(case.rows() < 50_000);
    case.put("in.csv.gz", &whole);
    case.run().is(0, &[]);
    assert_eq!(case.rows(), 50_000);
}

#[test]
fn a_corrupt_parquet_footer_moves_nothing() {
    let case = Case::new("files: { path: \"@/in.parquet\" }", "sqlite: { path: \"@/out.db\", table: t }", "");
    case.put("in.parquet", b"PAR1 this is no parquet file at all PAR1");
    let outcome = case.run();
    assert!(outcome.code == 1 || outcome.code == 2, "{}", outcome.said);
    outcome.is(outcome.code, &["HX02", "in.parquet"]);
    assert!(!case.path("out.db").exists() || case.rows() == 0);
}

#[test]
fn a_replaced_and_a_truncated_file_stop_and_a_grown_one_goes_on() {
    let case = Case::csv_to_sqlite("");
    let text =
        |rows: std::ops::Range<u32>| rows.fold("id,text\n".to_owned(), |t, n| t + &format!("{n},text {n}\n"));
    case.put("in.csv", text(0..100));
    case.run().is(0, &[]);
    assert_eq!(case.rows(), 100);

    case.put("in.csv", text(500..700));
    case.run().is(1, &["HX02", "replaced", "nothing was lost"]);
    case.put("in.csv", text(0..50));
    case.run().is(1, &["HX02", "truncated", "nothing was lost"]);
    assert_eq!(case.rows(), 100);

    case.put("in.csv", text(0..150));
    case.run().is(0, &[]);
    assert_eq!(case.rows(), 150);
    case.put("in.csv", text(0..150));
    case.run().is(0, &["nothing new"]);
    assert_eq!(case.rows(), 150);
}

/// A small file system of its own.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status().unwrap();
        assert!(
            status.success(),
            "cannot mount a tmpfs: run the tests as root, where `mount -t tmpfs` works"
        );
        Self(at.to_owned())
    }

    fn remount(&self, options: &str) {
        let status =
            Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_visible_and_a_rerun_completes() {
    let text: String =
        (0..40_000).fold("id,text\n".to_owned(), |t, n| t + &format!("{n},some longer text of {n}\n"));
    for sink in [
        "sqlite: { path: \"@/disk/out.db\", table: t }",
        "files: { path: \"@/disk/out.jsonl\" }",
        "files: { path: \"@/disk/parts/\", format: csv }",
    ] {
        let case = Case::new("files: { path: \"@/in.csv\" }", sink, "commit: { records: 5000 }\n");
        case.put("in.csv", &text);
        let disk = Disk::mount(&case.path("disk"), "size=600k");
        case.run().is(1, &["HX0", "nothing was lost"]);
        let visible = match sink {
            s if s.contains("jsonl") => usize::from(case.path("disk/out.jsonl").exists()) * 7,
            s if s.contains("parts") => {
                let parts = fs::read_dir(case.path("disk/parts")).unwrap().map(|entry| entry.unwrap().path());
                let parts: Vec<PathBuf> =
                    parts.filter(|path| path.extension().is_some_and(|e| e == "csv")).collect();
                parts.iter().map(|part| fs::read_to_string(part).unwrap().lines().count() - 1).sum::<usize>()
                    % 5000
            }
            _ => usize::try_from(count(&case.path("disk/out.db"), "t")).unwrap() % 5000,
        };
        assert_eq!(visible, 0, "{sink}: part of a commit is visible");
        disk.remount("size=64m");
        case.run().is(0, &[]);
        let rows = match sink {
            s if s.contains("jsonl") => {
                fs::read_to_string(case.path("disk/out.jsonl")).unwrap().lines().count()
            }
            s if s.contains("parts") => {
                let parts = fs::read_dir(case.path("disk/parts")).unwrap().map(|entry| entry.unwrap().path());
                let parts = parts.filter(|path| path.extension().is_some_and(|e| e == "csv"));
                parts.map(|part| fs::read_to_string(part).unwrap().lines().count() - 1).sum()
            }
            _ => usize::try_from(count(&case.path("disk/out.db"), "t")).unwrap(),
        };
        assert_eq!(rows, 40_000, "{sink}");
        drop(disk);
    }
}

#[test]
fn a_directory_that_cannot_be_written_has_its_own_error() {
    for sink in [
        "files: { path: \"@/disk/out.jsonl\" }",
        "files: { path: \"@/disk/parts/\", format: csv }",
        "sqlite: { path: \"@/disk/out.db\", table: t }",
    ] {
        let case = Case::new("files: { path: \"@/in.csv\" }", sink, "");
        case.put("in.csv", "id\n1\n");
        let disk = Disk::mount(&case.path("disk"), "size=4m,ro");
        let outcome = case.run();
        assert!(outcome.code == 1 || outcome.code == 2, "{}", outcome.said);
        outcome.is(outcome.code, &["HX0", "disk"]);
        disk.remount("rw");
        case.run().is(0, &[]);
        drop(disk);
    }
}

#[test]
fn a_locked_database_is_named_and_a_rerun_completes() {
    let case = Case::csv_to_sqlite("");
    case.put("in.csv", "id\n1\n2\n");
    let other = Connection::open(case.path("out.db")).unwrap();
    other
        .execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE x(a); BEGIN IMMEDIATE; INSERT INTO x VALUES (1)",
        )
        .unwrap();
    case.run().is(1, &["HX03", "locked"]);
    other.execute_batch("COMMIT").unwrap();
    case.run().is(0, &[]);
    assert_eq!(case.rows(), 2);
}

#[test]
fn a_table_with_other_columns_is_refused_before_anything_moves() {
    for (table, word) in [
        ("CREATE TABLE t(id INTEGER)", "text"),
        ("CREATE TABLE t(id INTEGER, text TEXT, extra TEXT NOT NULL)", "extra"),
        ("CREATE TABLE t(id INTEGER, text INTEGER)", "text"),
    ] {
        let case = Case::csv_to_sqlite("");
        case.put("in.csv", "id,text\n1,a\n");
        Connection::open(case.path("out.db")).unwrap().execute_batch(table).unwrap();
        let outcome = case.run();
        assert!(outcome.code == 1 || outcome.code == 2, "{}", outcome.said);
        outcome.is(outcome.code, &["HX03", word]);
        assert_eq!(case.rows(), 0);
    }
}

#[test]
fn a_file_that_is_not_ours_is_never_overwritten() {
    let case = Case::new("files: { path: \"@/in.csv\" }", "files: { path: \"@/out.jsonl\" }", "");
    case.put("in.csv", "id\n1\n").put("out.jsonl", "precious\n");
    let outcome = case.run();
    assert!(outcome.code == 1 || outcome.code == 2, "{}", outcome.said);
    assert_eq!(fs::read_to_string(case.path("out.jsonl")).unwrap(), "precious\n");
}

#[test]
fn a_pair_that_cannot_give_the_guarantee_does_not_start() {
    let case = Case::new(
        "files: { path: \"@/in.csv\" }",
        "files: { path: \"-\", format: jsonl }",
        "delivery: exactly-once\n",
    );
    case.put("in.csv", "id\n1\n");
    case.run().is(3, &["weakest link", "append", "nothing was moved"]);
    let weaker =
        Case { pipeline: case.pipeline.replace("exactly-once", "at-least-once"), folder: case.folder };
    weaker.run().is(0, &["{\"id\":1}"]);
}

#[test]
fn mistakes_of_the_file_are_found_before_anything_moves() {
    for (rest, words) in [
        ("identity: { key: [nr] }\n", ["nr"].as_slice()),
        ("transform: SELECT id, nope FROM input\n", &["nope"]),
        ("transform: SELECT count(*) FROM input\n", &["HX04"]),
        ("transform: SELECT id, now() AS t FROM input\n", &["now"]),
        ("identty: hash\n", &["identity"]),
        ("parallel: many\n", &["parallel"]),
        ("name: ${env:HAPAX_TEST_MISSING}\n", &["HAPAX_TEST_MISSING"]),
    ] {
        let mut case = Case::csv_to_sqlite(rest);
        if rest.starts_with("name") {
            case.pipeline = case.pipeline.replace("name: bad-input\n", "");
        }
        case.put("in.csv", "id,text\n1,a\n");
        case.run().is(2, words).is(2, &["pipeline.yaml:"]);
        assert!(!case.path("out.db").exists(), "{rest}");
    }
}

#[test]
fn a_pipeline_does_not_move_a_table_onto_itself() {
    let case = Case::new(
        "sqlite: { path: \"@/out.db\", table: t }",
        "sqlite: { path: \"@/./out.db\", table: t }",
        "",
    );
    Connection::open(case.path("out.db"))
        .unwrap()
        .execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
        .unwrap();
    case.run().is(2, &["the destination is the source itself", "pipeline.yaml:"]);
    assert_eq!(case.rows(), 1);
}

#[test]
fn what_a_table_cannot_promise_is_said_and_found_afterwards() {
    let case = Case::new(
        "sqlite: { path: \"@/in.db\", table: t }",
        "sqlite: { path: \"@/out.db\", table: t, write: upsert }",
        "identity: { key: [id] }\n",
    );
    let source = Connection::open(case.path("in.db")).unwrap();
    source
        .execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'a'), (3, 'c')",
        )
        .unwrap();
    case.hapax(&["plan"]).is(0, &["provided that", "greater keys"]);
    case.run().is(0, &[]);
    source.execute_batch("INSERT INTO t VALUES (2, 'late'), (4, 'd')").unwrap();
    case.run().is(0, &["moved 1 record"]);
    case.hapax(&["verify"]).is(4, &["id=2"]);
}

#[test]
fn a_number_that_json_cannot_say_is_not_replayed_as_null() {
    let case = Case::new(
        "files: { path: \"@/in.csv\", schema: { id: int64, x: float64 } }",
        "sqlite: { path: \"@/out.db\", table: t }",
        "",
    );
    case.put("in.csv", "id,x\n1,0.5\n2,NaN\n");
    case.run().is(0, &[]);
    assert_eq!((case.rows(), case.reasons().len()), (1, 1), "{:?}", case.reasons());
    case.hapax(&["dead-letters", "replay", "--all"]);
    assert_eq!((case.rows(), case.reasons().len()), (1, 1), "{:?}", case.reasons());
}

#[test]
fn a_row_that_a_trigger_skips_is_set_aside() {
    let case = Case::csv_to_sqlite("");
    case.put("in.csv", "id\n1\n2\n3\n");
    let db = Connection::open(case.path("out.db")).unwrap();
    db.execute_batch(
        "CREATE TABLE t(id INTEGER); CREATE TRIGGER no BEFORE INSERT ON t WHEN new.id = 2 BEGIN SELECT RAISE(IGNORE); END",
    )
    .unwrap();
    case.run().is(0, &[]);
    assert_eq!((case.rows(), case.reasons().len()), (2, 1));
}

#[test]
fn standard_input_moves_through_a_pipe_and_again_without_twins() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("out.db");
    let feed = |text: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hapax"))
            .args(["copy", "--from", "-", "--from-format", "csv", "--key", "id", "--to"])
            .arg(format!("sqlite:{}?table=t", db.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        count(&db, "t")
    };
    assert_eq!(feed("id,v\n1,a\n2,b\n"), 2);
    // Fed again from its start, and on: what had taken effect is suppressed.
    assert_eq!(feed("id,v\n1,a\n2,b\n3,c\n"), 3);
}

#[test]
fn a_twin_of_a_record_that_the_table_refuses_moves_in_its_place() {
    for (duplicates, letters) in [("drop", 1), ("dead-letter", 2)] {
        let case = Case::csv_to_sqlite(&format!(
            "identity: {{ key: [id] }}\nduplicates: {duplicates}\non_error: set-aside\n"
        ));
        let db = Connection::open(case.path("out.db")).unwrap();
        db.execute_batch("CREATE TABLE t(id INTEGER, amount INTEGER CHECK (amount > 0))").unwrap();
        case.put("in.csv", "id,amount\n1,10\n7,-1\n7,70\n7,71\n");
        case.run().is(0, &["moved 2 records"]);
        let amounts = || {
            let mut rows = db.prepare("SELECT amount FROM t ORDER BY amount").unwrap();
            rows.query_map([], |row| row.get::<_, i64>(0)).unwrap().map(Result::unwrap).collect::<Vec<_>>()
        };
        assert_eq!((amounts(), case.reasons().len()), (vec![10, 70], letters), "{duplicates}");
        // Neither dropped nor replayed does the refused one come beside its twin.
        case.hapax(&["dead-letters", "replay", "--all"])
            .is(1, &["twin: its identity was claimed by", "record 2"]);
        case.hapax(&["dead-letters", "drop", "--all"]).is(0, &["dropped"]);
        assert_eq!((amounts(), case.reasons().len()), (vec![10, 70], 0), "{duplicates}");
    }
}

#[test]
fn a_replay_puts_no_older_value_over_a_newer_one() {
    let case = Case::new(
        "files: { path: \"@/in.csv\", schema: { id: int64, amount: int64 } }",
        "sqlite: { path: \"@/out.db\", table: t, write: upsert }",
        "identity: { key: [id] }\nduplicates: keep\n",
    );
    let db = Connection::open(case.path("out.db")).unwrap();
    let table = |check: &str| {
        format!("CREATE TABLE t(id INTEGER PRIMARY KEY, amount INTEGER {check}, note TEXT DEFAULT 'new')")
    };
    db.execute_batch(&table("CHECK (amount > 9)")).unwrap();
    // Of the last key both are refused; one record the source itself refuses.
    case.put("in.csv", "id,amount\n1,5\n1,20\n2,x\n2,30\n3,6\n3,7\n");
    case.run().is(0, &["moved 2 records"]);
    db.execute_batch(&format!(
        "ALTER TABLE t RENAME TO old; {}; INSERT INTO t SELECT * FROM old; DROP TABLE old",
        table("")
    ))
    .unwrap();
    let rows = || {
        let mut rows = db.prepare("SELECT id, amount FROM t ORDER BY id").unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect::<Vec<(i64, i64)>>()
    };
    let replay = ["dead-letters", "replay", "--all"];
    for said in [&["1 record moved", "HX0452"][..], &["HX0452"]] {
        case.hapax(&replay).is(1, said);
        assert_eq!((rows(), case.reasons().len()), (vec![(1, 20), (2, 30), (3, 7)], 3));
    }
    // What is readable now is as old as before.
    // Where the row is gone, nothing newer is there.
    db.execute_batch("DELETE FROM t WHERE id = 1").unwrap();
    case.hapax(&replay).is(1, &["1 record moved", "HX0452"]);
    assert_eq!(rows(), [(1, 5), (2, 30), (3, 7)]);
}

#[test]
fn all_dead_letters_are_all_of_them() {
    const BAD: usize = 100_001;
    let case = Case::new(
        "files: { path: \"@/in.csv\", schema: { id: int64 } }",
        "sqlite: { path: \"@/out.db\", table: t }",
        "",
    );
    case.put("in.csv", format!("id\n1\n{}", "x\n".repeat(BAD)));
    case.run().is(0, &[]);
    assert_eq!(case.reasons().len(), BAD);
    let db = Connection::open(case.path("out.db")).unwrap();
    let last = "SELECT split || ':' || max(ordinal) FROM _hapax_dead_letters GROUP BY split";
    let last: String = db.query_row(last, [], |row| row.get(0)).unwrap();
    case.hapax(&["dead-letters", "drop", "--place", &last]).is(0, &["1 record dropped"]);
    case.hapax(&["dead-letters", "drop", "--all"]).is(0, &["100,000 records dropped"]);
    assert_eq!(case.reasons().len(), 0);
}
