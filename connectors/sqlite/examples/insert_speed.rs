//! Measures how fast records are inserted, against `sqlite3 .import` of the same records as CSV.
//!
//! `cargo run --release -p hapax-sqlite --example insert_speed -- [ROWS]`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use hapax_engine::sink::{Shape, Sink};
use hapax_protocol::lease::{Applicant, PipelineName};
use hapax_protocol::position::{Checkpoint, Epoch, Position, SplitId, Totals};
use hapax_sqlite::config::{SinkConfig, Write};
use rusqlite::Connection;

const BATCH_ROWS: usize = 8_192;
const TABLE: &str = "CREATE TABLE t (id INTEGER, name TEXT, city TEXT, amount REAL, price DECIMAL_TEXT(12,2), \
                     active BOOLEAN, day DATE, at TIMESTAMP)";

fn batch(from: usize, rows: usize) -> RecordBatch {
    let each = || (from..from + rows).map(|row| row as i64);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(each())),
        Arc::new(StringArray::from_iter_values(each().map(|row| format!("customer number {row}")))),
        Arc::new(StringArray::from_iter(each().map(|row| (row % 10 != 0).then_some("Springfield")))),
        Arc::new(Float64Array::from_iter_values(each().map(|row| (row % 100_000) as f64 * 0.37))),
        Arc::new(
            Decimal128Array::from_iter_values(each().map(|row| i128::from(row % 1_000_000)))
                .with_precision_and_scale(12, 2)
                .unwrap(),
        ),
        Arc::new(BooleanArray::from_iter(each().map(|row| Some(row % 3 == 0)))),
        Arc::new(Date32Array::from_iter_values(each().map(|row| (row % 20_000) as i32))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(each().map(|row| row * 1_234_567))),
    ];
    let types = [
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("city", DataType::Utf8),
        ("amount", DataType::Float64),
        ("price", DataType::Decimal128(12, 2)),
        ("active", DataType::Boolean),
        ("day", DataType::Date32),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ];
    let fields: Vec<_> =
        types.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn fresh(path: &Path, table: bool) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    if table {
        Connection::open(path).unwrap().execute_batch(TABLE).unwrap();
    }
}

fn say(what: &str, rows: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what:<58} {seconds:7.2} s  {:9.0} rows/s", rows as f64 / seconds);
}

async fn through_the_sink(path: &Path, batches: &[RecordBatch], commit_rows: usize, positions: bool) {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    fresh(path, false);
    let started = Instant::now();
    let config = SinkConfig {
        path: path.to_owned(),
        table: "t".into(),
        write: Write::Append,
        positions: Some(positions),
    };
    let sink = hapax_sqlite::sink::open(config).await.unwrap();
    let destination = sink.destination();
    destination.prepare(&Shape { schema: batches[0].schema(), key: Vec::new() }).await.unwrap();
    let pipeline = PipelineName::new("speed").unwrap();
    let applicant = Applicant { pipeline, holder: "example".into(), definition: "d".into() };
    let lease = destination.acquire(&applicant).await.unwrap();
    let split = SplitId::new("s");
    match &sink {
        Sink::CoCommit(sink) => {
            let mut writer = sink.writer(&split).await.unwrap();
            let mut standing = writer.take_over(&lease).await.unwrap();
            let mut open = 0;
            for (index, batch) in batches.iter().enumerate() {
                assert_eq!(writer.write(batch).await.unwrap(), []);
                open += batch.num_rows();
                if open >= commit_rows || index + 1 == batches.len() {
                    let checkpoint = Checkpoint {
                        after: standing.position.clone(),
                        through: Position::new(index.to_be_bytes().to_vec()),
                        epoch: Epoch::new(standing.epoch.get() + 1),
                        totals: Totals::default(),
                        again: Vec::new(),
                        made_unix_ms: 0,
                    };
                    writer.commit(&checkpoint).await.unwrap();
                    standing = checkpoint.standing();
                    open = 0;
                }
            }
        }
        Sink::Append(sink) => {
            let mut writer = sink.writer(&split).await.unwrap();
            writer.take_over(&lease).await.unwrap();
            let mut open = 0;
            for batch in batches {
                assert_eq!(writer.write(batch).await.unwrap(), []);
                open += batch.num_rows();
                if open >= commit_rows {
                    writer.flush().await.unwrap();
                    open = 0;
                }
            }
            writer.flush().await.unwrap();
        }
        Sink::Staged(_) | Sink::Kept(_) => panic!("SQLite stages nothing"),
    }
    destination.finish(&lease).await.unwrap();
    say(&format!("hapax sink, commits of {commit_rows}, positions {positions}"), rows, started);
}

/// Bare inserts of three columns: how WAL settings and rows per statement weigh.
fn bare(path: &Path, rows: usize, what: &str, pragmas: &str, per_statement: usize, commit_rows: usize) {
    fresh(path, false);
    let started = Instant::now();
    let mut connection = Connection::open(path).unwrap();
    connection.execute_batch(pragmas).unwrap();
    connection.execute_batch("CREATE TABLE t (id INTEGER, name TEXT, amount REAL)").unwrap();
    let sql = format!("INSERT INTO t VALUES {}", vec!["(?, ?, ?)"; per_statement].join(", "));
    let mut row = 0;
    while row < rows {
        let transaction = connection.transaction().unwrap();
        {
            let mut statement = transaction.prepare_cached(&sql).unwrap();
            for _ in 0..commit_rows / per_statement {
                for slot in 0..per_statement {
                    statement.raw_bind_parameter(slot * 3 + 1, row as i64).unwrap();
                    statement.raw_bind_parameter(slot * 3 + 2, "customer number and more").unwrap();
                    statement.raw_bind_parameter(slot * 3 + 3, 0.37).unwrap();
                    row += 1;
                }
                statement.raw_execute().unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    drop(connection);
    say(what, row, started);
}

fn import(path: &Path, csv: &Path, rows: usize) {
    fresh(path, true);
    let started = Instant::now();
    let status = Command::new("sqlite3")
        .arg(path)
        .arg(".mode csv")
        .arg(format!(".import --skip 1 {} t", csv.display()))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    say("sqlite3 .import", rows, started);
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rows: usize = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(2_000_000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("speed.db");
    let csv = dir.path().join("rows.csv");
    let batches: Vec<_> =
        (0..rows).step_by(BATCH_ROWS).map(|from| batch(from, BATCH_ROWS.min(rows - from))).collect();
    let mut text = Vec::new();
    let mut writer = arrow::csv::Writer::new(&mut text);
    for batch in &batches {
        writer.write(batch).unwrap();
    }
    drop(writer);
    std::fs::write(&csv, text).unwrap();

    for _ in 0..3 {
        import(&path, &csv, rows);
        through_the_sink(&path, &batches, 500_000, true).await;
        through_the_sink(&path, &batches, 500_000, false).await;
    }
    for commit_rows in [10_000, 50_000, 100_000, 200_000, 2_000_000] {
        through_the_sink(&path, &batches, commit_rows, true).await;
    }
    let mut wal = String::new();
    for pages in [1_000, 4_000, 16_000, 64_000] {
        wal.clear();
        write!(wal, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = {pages}").unwrap();
        for commit_rows in [50_000, 500_000] {
            bare(
                &path,
                rows,
                &format!("bare, autocheckpoint {pages}, commits of {commit_rows}"),
                &wal,
                1,
                commit_rows,
            );
        }
    }
    for page_size in [4_096, 8_192, 16_384] {
        let pragmas = format!("PRAGMA page_size = {page_size}; {wal}");
        bare(&path, rows, &format!("bare, pages of {page_size}"), &pragmas, 1, 500_000);
    }
    for per_statement in [1, 4, 20, 100] {
        bare(&path, rows, &format!("bare, {per_statement} rows per statement"), &wal, per_statement, 500_000);
    }
    bare(&path, rows, "bare, rollback journal", "PRAGMA journal_mode = DELETE", 1, 2_000_000);
}
