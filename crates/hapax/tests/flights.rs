//! A real data set, 336,776 flights, from CSV to SQLite to Parquet to SQLite again, compared by value after
//! every step, and at the end by a program of its own.
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

use std::path::{Path, PathBuf};
use std::process::Command;

const ROWS: u64 = 336_776;

fn data() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/nycflights13/flights.csv");
    assert!(path.exists(), "{} is missing: run `services/nycflights13` in the repository", path.display());
    path
}

fn hapax(command: &str, file: &Path) -> serde_json::Value {
    let output =
        Command::new(env!("CARGO_BIN_EXE_hapax")).arg(command).arg(file).arg("--json").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hapax {command} {}: {errors}", file.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.trim().rfind("\n{").map_or(text.trim(), |at| &text.trim()[at + 1..]);
    serde_json::from_str(if text.trim_start().starts_with("{\n") { text.trim() } else { last }).unwrap()
}

#[test]
fn flights_are_equal_after_three_moves() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let steps = [
        (
            "csv-to-sqlite",
            format!("files: {{ path: \"{}\", null_values: [\"\", \"NA\"] }}", data().display()),
            format!("sqlite: {{ path: \"{}\", table: flights, write: upsert }}", at("one.db")),
        ),
        (
            "sqlite-to-parquet",
            format!("sqlite: {{ path: \"{}\", table: flights }}", at("one.db")),
            format!("files: {{ path: \"{}\" }}", at("flights.parquet")),
        ),
        (
            "parquet-to-sqlite",
            format!("files: {{ path: \"{}\" }}", at("flights.parquet")),
            format!("sqlite: {{ path: \"{}\", table: flights }}", at("two.db")),
        ),
    ];
    for (name, source, sink) in steps {
        let file = folder.path().join(format!("{name}.yaml"));
        let text = format!(
            "version: 1\nname: {name}\nsource:\n  {source}\nidentity: {{ key: [time_hour, carrier, flight] }}\nsink:\n  {sink}\ndelivery: exactly-once\n"
        );
        std::fs::write(&file, text).unwrap();
        hapax("run", &file);
        let report = hapax("verify", &file);
        assert_eq!(report["equal"], true, "{name}: {report:#}");
        assert_eq!(report["source_records"], ROWS, "{name}: {report:#}");
        assert_eq!(report["destination_records"], ROWS, "{name}: {report:#}");
    }

    // The two databases, compared by SQLite itself.
    let db = rusqlite::Connection::open(at("one.db")).unwrap();
    db.execute("ATTACH ?1 AS two", [at("two.db")]).unwrap();
    for (one, other) in [("main", "two"), ("two", "main")] {
        let sql = format!(
            "SELECT count(*) FROM (SELECT * FROM {one}.flights EXCEPT SELECT * FROM {other}.flights)"
        );
        let differing: i64 = db.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(differing, 0, "rows of {one} that {other} does not have");
    }
    let rows: i64 = db.query_row("SELECT count(*) FROM two.flights", [], |row| row.get(0)).unwrap();
    assert_eq!(rows.cast_unsigned(), ROWS);
    // A value that is known from the published table: the first flight.
    let first: (i64, String, String) = db
        .query_row(
            "SELECT distance, dest, time_hour FROM main.flights WHERE carrier = 'UA' AND flight = 1545 AND time_hour LIKE '2013-01-01T%'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!((first.0, first.1.as_str()), (1400, "IAH"));
    assert!(first.2.starts_with("2013-01-01T"), "{}", first.2);
}
