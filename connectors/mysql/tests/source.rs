//! What the source reads, and what it leaves alone until it is settled.
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

mod scene;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, Schema, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::source::Source;
use hapax_mysql::codes;
use hapax_mysql::source::Mysql;
use hapax_protocol::position::{Position, SplitId};
use mysql_async::Value;
use mysql_async::prelude::Queryable;
use scene::{Scene, connect};

async fn open(url: &str, settings: serde_json::Value) -> Mysql {
    let mut config = serde_json::json!({ "url": url });
    config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Mysql::open(serde_json::from_value(config).unwrap()).await.unwrap()
}

/// Everything behind a position.
async fn drain(source: &Mysql, split: &SplitId, after: Option<&Position>) -> Vec<Batch> {
    let mut reader = source.open(split, after).await.unwrap();
    let mut batches = Vec::new();
    let limit = ReadLimit { records_max: 10_000, bytes_max: 1 << 22 };
    while let Some(batch) = reader.read(limit).await.unwrap() {
        batches.push(batch);
    }
    batches
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_read_as_what_it_is() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        "SET time_zone = '+02:00';
         CREATE TABLE t(id INT UNSIGNED PRIMARY KEY, flag TINYINT(1), tiny TINYINT UNSIGNED, big BIGINT UNSIGNED, bits BIT(10),
         bit1 BIT, year YEAR, f FLOAT, d DOUBLE, n DECIMAL(12,2), wide DECIMAL(60,20), fixed CHAR(3) CHARACTER SET latin1,
         word ENUM('x', 'y'), doc JSON, raw VARBINARY(9), day DATE, at DATETIME(6), zoned TIMESTAMP(3) NULL, time TIME(6), u UUID);
         INSERT INTO t VALUES (4294967295, 1, 255, 18446744073709551615, b'1100000001', b'1', 1999, 0.1, 0.1, -12.50,
         -1234567890123456789012345678901234567890.5, 'é', 'y', '{\"a\": [1, 2]}', x'00ff', '0001-02-03',
         '2024-02-29 23:59:59.999999', '2024-01-01 02:00:00.5', '23:59:59.000001', '123e4567-e89b-12d3-a456-426614174000')",
    );
    let source = open(&url, serde_json::json!({ "table": "t" })).await;
    let split = source.splits().await.unwrap().remove(0).id;
    let batches = drain(&source, &split, None).await;
    let records = &batches[0].records;
    let shown: BTreeMap<String, String> = records
        .schema()
        .fields()
        .iter()
        .zip(records.columns())
        .map(|(field, column)| {
            // Arrow prints no named zones here.
            let plain = match field.data_type() {
                arrow::datatypes::DataType::Timestamp(_, Some(_)) => arrow::compute::cast(
                    column,
                    &arrow::datatypes::DataType::Timestamp(TimeUnit::Microsecond, None),
                )
                .unwrap(),
                _ => Arc::clone(column),
            };
            let value =
                ArrayFormatter::try_new(&plain, &FormatOptions::default()).unwrap().value(0).to_string();
            (field.name().clone(), format!("{} {value}", field.data_type()))
        })
        .collect();
    let of = |name: &str| shown[name].as_str();
    for (name, expected) in [
        ("id", "UInt32 4294967295"),
        ("flag", "Boolean true"),
        ("tiny", "UInt8 255"),
        ("big", "UInt64 18446744073709551615"),
        ("bits", "UInt64 769"),
        ("bit1", "Boolean true"),
        ("year", "Int16 1999"),
        ("f", "Float32 0.1"),
        ("d", "Float64 0.1"),
        ("n", "Decimal128(12, 2) -12.50"),
        ("wide", "Decimal256(60, 20) -1234567890123456789012345678901234567890.50000000000000000000"),
        ("fixed", "Utf8 é"),
        ("word", "Utf8 y"),
        ("doc", "Utf8 {\"a\": [1, 2]}"),
        ("raw", "Binary 00ff"),
        ("day", "Date32 0001-02-03"),
        ("at", "Timestamp(µs) 2024-02-29T23:59:59.999999"),
        ("zoned", "Timestamp(µs, \"UTC\") 2024-01-01T00:00:00.500"),
        ("time", "Time64(µs) 23:59:59.000001"),
        ("u", "Utf8 123e4567-e89b-12d3-a456-426614174000"),
    ] {
        assert_eq!(of(name), expected);
    }
    let schema: Arc<Schema> = source.schema();
    let own = |name: &str| schema.field_with_name(name).unwrap().metadata()["hapax:mysql"].clone();
    assert_eq!((own("n").as_str(), own("word").as_str()), ("decimal(12,2)", "enum('x','y')"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_type_can_say_is_rejected_and_read_again_once_it_is_mended() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        "SET sql_mode = ''; CREATE TABLE t(id INT PRIMARY KEY, day DATE, time TIME, flag TINYINT(1));
         INSERT INTO t VALUES (1, '0000-00-00', NULL, 1), (2, '2024-00-01', NULL, 1), (3, NULL, '25:00:00', 0),
         (4, NULL, '-00:00:01', 0), (5, NULL, NULL, 2), (6, '2024-01-01', '00:00:00', NULL)",
    );
    let source = open(&url, serde_json::json!({ "table": "t" })).await;
    let split = source.splits().await.unwrap().remove(0).id;
    let batches = drain(&source, &split, None).await;
    assert_eq!(batches[0].records.num_rows(), 1);
    let rejected = &batches[0].rejected;
    assert_eq!(rejected.iter().map(|row| row.ordinal).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(rejected.iter().all(|row| row.code == codes::VALUE_MISFIT && source.rejects_with(row.code)));
    assert!(
        rejected[0].reason.contains("day") && rejected[0].reason.contains("0000-00-00"),
        "{:?}",
        rejected[0]
    );
    let letter = hapax_engine::dead_letter::DeadLetter {
        place: hapax_protocol::identity::Place { split, ordinal: 0 },
        code: rejected[0].code,
        reason: rejected[0].reason.clone(),
        raw: rejected[0].raw.clone(),
        set_aside_unix_ms: 0,
    };
    assert!(source.reread(&letter).await.is_err());
    scene.run("d", "UPDATE t SET day = '2024-05-06' WHERE id = 1");
    let records = source.reread(&letter).await.unwrap();
    assert_eq!((records.num_rows(), records.column(1).null_count()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_position_is_refused() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run("d", "CREATE TABLE t(id INT PRIMARY KEY); CREATE TABLE s(a INT, b INT, PRIMARY KEY (a, b)); INSERT INTO t VALUES (1); INSERT INTO s VALUES (1, 1)");
    let table = async |name: &str| open(&url, serde_json::json!({ "table": name })).await;
    let (t, s) = (table("t").await, table("s").await);
    let split = t.splits().await.unwrap().remove(0).id;
    let position = drain(&t, &split, None).await[0].through.clone();
    let refused = async |source: &Mysql, split: &SplitId| match source.open(split, Some(&position)).await {
        Ok(_) => panic!("a foreign position was taken"),
        Err(error) => error.fault.code(),
    };
    let own = s.splits().await.unwrap().remove(0).id;
    assert_eq!(refused(&s, &own).await, codes::FOREIGN_POSITION);
    assert_eq!(refused(&s, &split).await, codes::FOREIGN_POSITION);
    assert!(t.describe(&position).contains("id"), "{}", t.describe(&position));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_holds_the_horizon_back() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        "CREATE TABLE t(id INT PRIMARY KEY AUTO_INCREMENT, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6));
         INSERT INTO t (at) VALUES ('2024-01-01')",
    );
    let source = open(&url, tail("t")).await;
    let split = source.splits().await.unwrap().remove(0).id;
    let mut open_one = connect(&url).await;
    open_one.query_drop("BEGIN; INSERT INTO t () VALUES ()").await.unwrap();
    let found = async || {
        drain(&source, &split, None).await.iter().map(|batch| batch.records.num_rows()).sum::<usize>()
    };
    // Rows that are newer than the open one's start stay out, however long ago they were committed.
    scene.run("d", "INSERT INTO t () VALUES ()");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(found().await, 1, "a row was read over the head of an open transaction");
    }
    open_one.query_drop("COMMIT").await.unwrap();
    let begun = Instant::now();
    while found().await < 3 {
        assert!(begun.elapsed() < Duration::from_secs(120), "what is settled is not read");
    }
}

fn tail(table: &str) -> serde_json::Value {
    serde_json::json!({ "table": table, "read": "incremental", "cursor": "at", "cursor_set_by": "database" })
}

/// Writers hold transactions open for 0 to 40 ms after the rows' times are set.
async fn write_late(url: String, writer: i64, stop: Arc<AtomicBool>) -> i64 {
    let mut connection = connect(&url).await;
    let mut written = 0;
    while !stop.load(Ordering::SeqCst) {
        let pause = (written * 7 + writer * 13) % 41;
        connection.query_drop("BEGIN").await.unwrap();
        let id = writer * 1_000_000 + written;
        connection.query_drop(format!("INSERT INTO t (id) VALUES ({id})")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(pause as u64)).await;
        connection.query_drop("COMMIT").await.unwrap();
        written += 1;
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_commit_late_are_not_missed() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        "CREATE TABLE t(id BIGINT PRIMARY KEY, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), INDEX (at, id))",
    );
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (0..16).map(|writer| tokio::spawn(write_late(url.clone(), writer, Arc::clone(&stop)))).collect();
    let source = open(&url, tail("t")).await;
    let split = source.splits().await.unwrap().remove(0).id;
    let mut bare = connect(&url).await;
    let (mut last, mut seen_bare) = ((Value::from("2000-01-01"), Value::from(0)), 0);
    let (mut after, mut seen): (Option<Position>, Vec<i64>) = (None, Vec::new());
    let begun = Instant::now();
    let mut written: Option<i64> = None;
    let mut writers = Some(writers);
    loop {
        for batch in drain(&source, &split, after.as_ref()).await {
            seen.extend(batch.records.column_by_name("id").unwrap().as_primitive::<Int64Type>().values());
            after = Some(batch.through);
        }
        // The same by the cursor alone, with no horizon.
        let sql = "SELECT at, id FROM t WHERE at > ? OR (at = ? AND id > ?) ORDER BY at, id";
        let rows: Vec<(Value, Value)> =
            bare.exec(sql, (last.0.clone(), last.0.clone(), last.1.clone())).await.unwrap();
        seen_bare += rows.len() as i64;
        last = rows.into_iter().next_back().unwrap_or(last);
        if begun.elapsed() > Duration::from_secs(4)
            && let Some(writers) = writers.take()
        {
            stop.store(true, Ordering::SeqCst);
            let mut sum = 0;
            for writer in writers {
                sum += writer.await.unwrap();
            }
            written = Some(sum);
        }
        match written {
            Some(written) if seen.len() as i64 >= written => break,
            Some(_) if begun.elapsed() > Duration::from_secs(120) => break,
            _ => {}
        }
    }
    let written = written.unwrap();
    let arrived = seen.len() as i64;
    seen.sort_unstable();
    seen.dedup();
    println!("written {written}, read {arrived}, missed by the bare cursor {}", written - seen_bare);
    assert_eq!((arrived, seen.len() as i64), (written, written), "missed or duplicated");
    assert!(seen_bare < written, "the bare cursor missed nothing: the test shows nothing");
}
