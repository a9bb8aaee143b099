//! What a command says is so: where it fails, and where there is nothing.
// A test fails by panicking.
#![allow(
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

use serde_json::Value;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path("in.csv"), "id,day\n1,2026-01-31\n2,2026-02-01\n").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pipeline(&self, source: &str, sink: &str) {
        let text = format!("name: p\nsource:\n  files: {source}\nsink:\n  {sink}\n");
        fs::write(self.path("p.yaml"), text).unwrap();
    }

    /// What a command says on either stream.
    fn says(&self, arguments: &[&str], exit: i32) -> String {
        self.says_in(".", arguments, exit)
    }

    fn says_in(&self, directory: &str, arguments: &[&str], exit: i32) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
        command.current_dir(self.path(directory)).args(arguments).env_remove("HAPAX_CRASH");
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|stream| String::from_utf8(stream).unwrap()).concat();
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {said}");
        said
    }
}

const TABLE: &str = "sqlite: { path: out.db, table: t }";

#[test]
fn a_destination_without_positions_does_not_say_that_nothing_was_moved() {
    let place = Place::new();
    // The third record cannot be read, and standard output has no place for it.
    fs::write(place.path("in.csv"), "id\n1\n2\nx\n").unwrap();
    place.pipeline("{ path: in.csv, schema: { id: int64 } }", "files: { path: '-', format: csv }");
    let said = place.says(&["run", "p.yaml"], 1);
    assert!(said.starts_with("id\n1\n2\n") && said.contains("error HX0264"), "{said}");
    assert!(said.contains("keeps no positions: what was written before this stays"), "{said}");
    assert!(!said.contains("nothing was moved"), "{said}");
}

#[test]
fn a_misspelt_column_of_the_schema_is_a_mistake_at_its_place() {
    let place = Place::new();
    place.pipeline("{ path: in.csv, schema: { dya: string } }", TABLE);
    for command in ["plan", "run"] {
        let said = place.says(&[command, "p.yaml"], 2);
        assert!(said.contains("p.yaml:3:34: ") && said.contains("HX0205") && said.contains("dya"), "{said}");
    }
    assert!(!place.path("out.db").exists());
}

#[test]
fn init_says_its_file_as_it_is_asked_to() {
    let place = Place::new();
    let said: Value = serde_json::from_str(&place.says(&["init", "--json"], 0)).unwrap();
    assert_eq!(said["text"].as_str().unwrap().trim_end(), place.says(&["init"], 0).trim_end());

    let said = place.says(&["init", "-", "out/"], 2);
    assert!(said.contains("--from-format"), "{said}");
    let formats = ["--from-format", "csv", "--to-format", "parquet"];
    place.says(&[&["init", "in.csv", "out/", "--out", "d.yaml"], &formats[2..]].concat(), 0);
    place.says(&["run", "d.yaml"], 0);
    assert!(fs::read_dir(place.path("out")).unwrap().count() > 0);
    place.says(&[&["init", "-", "out/", "--out", "s.yaml"], formats.as_slice()].concat(), 0);
    place.says(&["validate", "s.yaml"], 0);
}

#[test]
fn state_that_is_not_there_is_said_to_be_elsewhere() {
    let place = Place::new();
    fs::create_dir(place.path("other")).unwrap();
    for sink in [TABLE, "files: { path: out/, format: csv }"] {
        place.pipeline("{ path: in.csv }", sink);
        place.says(&["run", "p.yaml"], 0);
        for command in [["status"].as_slice(), &["dead-letters", "list"]] {
            let here = place.says(&[command, &["p.yaml"]].concat(), 0);
            assert!(!here.contains("no state"), "{here}");
            let said = place.says_in("other", &[command, &["../p.yaml"]].concat(), 0);
            let meant = place.path("other").join("out");
            assert!(said.contains("no state of the pipeline p at "), "{said}");
            assert!(said.contains(meant.to_str().unwrap()), "{said}");
        }
        let said = place.says_in("other", &["status", "../p.yaml", "--json"], 0);
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["state_is_there"], false);
    }
}

#[test]
fn a_letter_whose_schema_was_mended_moves_as_the_page_says() {
    let place = Place::new();
    fs::write(place.path("in.csv"), "id,day\n1,2026-01-31\n2,unknown\n").unwrap();
    let replay = ["dead-letters", "replay", "p.yaml", "--all"];
    place.pipeline("{ path: in.csv, schema: { id: int64, day: date } }", TABLE);
    place.says(&["run", "p.yaml"], 0);
    place.pipeline("{ path: in.csv, schema: { id: int64, day: string } }", TABLE);
    let said = place.says(&replay, 1);
    assert!(said.contains("HX0325") && said.contains("`transform`"), "{said}");
    // The transform of the page.
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors/HX0325.md");
    let page = fs::read_to_string(page).unwrap();
    let transform = page.lines().find(|line| line.starts_with("transform: ")).unwrap();
    let text = fs::read_to_string(place.path("p.yaml")).unwrap();
    fs::write(place.path("p.yaml"), format!("{text}{transform}\n")).unwrap();
    assert!(place.says(&replay, 0).contains("1 record moved"));
    place.says(&["verify", "p.yaml"], 0);
}
