//! What the sink does with rows that are refused, holders that stall, and answers that get lost.
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

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use hapax_conformance::proxy::{Failure, Proxy};
use hapax_conformance::{server, types};
use hapax_engine::fault::{CommitError, SinkErrorKind};
use hapax_engine::transform::RefusedRow;
use hapax_mysql::codes;
use mysql_async::prelude::Queryable;
use scene::pen::{self, next, numbered, people, ready, shape, taken};
use scene::{Scene, connect};

fn rows(refused: &[RefusedRow]) -> Vec<usize> {
    refused.iter().map(|refused| refused.row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_table_refuses_stand_alone() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        "CREATE TABLE t(id BIGINT PRIMARY KEY, name VARCHAR(5) NOT NULL, CHECK (id <> 700)) ENGINE = InnoDB;
         INSERT INTO t VALUES (300, 'old')",
    );
    let mut all: Vec<(i64, Option<&str>)> = (0..2000).map(|id| (id, Some("name"))).collect();
    all[5].1 = None;
    all[6].1 = Some("too long");
    // What is only a trailing space too long would be cut off with no more than a note.
    all[7].1 = Some("12345 ");
    all.push((1000, Some("twin")));
    for write in ["append", "upsert", "ignore"] {
        let (_, _, mut writer, stood) = ready(&url, "t", write, &shape(pen::schema(), &["id"])).await;
        let refused = writer.write(&people(&all)).await.unwrap();
        // By key, a row that is there is no conflict.
        let expected: &[usize] = if write == "append" { &[5, 6, 7, 300, 700, 2000] } else { &[5, 6, 7, 700] };
        assert_eq!(rows(&refused), expected, "{write}: {refused:?}");
        assert!(refused.iter().all(|row| row.code == codes::ROW_REFUSED));
        assert!(refused[1].reason.contains("name"), "{:?}", refused[1]);
        let through = if write == "append" { 1 } else { 2 };
        let commit = next(&stood, through);
        writer.commit(&commit).await.unwrap();
        assert_eq!(scene.numbers("d", "SELECT count(*) FROM t"), [1996], "{write}");
        let twin = scene.rows("d", "SELECT name FROM t WHERE id = 1000");
        assert_eq!(twin, [[if write == "upsert" { "twin" } else { "name" }]]);
        let old = scene.rows("d", "SELECT name FROM t WHERE id = 300");
        assert_eq!(old, [[if write == "append" { "old" } else { "name" }]]);
        if write == "append" {
            scene.run("d", "DELETE FROM t WHERE id <> 300");
        } else {
            scene.run("d", "DELETE FROM t");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_a_column_would_change_are_refused() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        "CREATE TABLE t(id BIGINT, padded CHAR(5), word ENUM('a', '1'), words SET('a', 'b'), latin VARCHAR(9) CHARACTER SET latin1,
         fixed BINARY(3), at DATETIME, day DATE, single DOUBLE, year YEAR) ENGINE = InnoDB",
    );
    let good = || -> Vec<ArrayRef> {
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; 10])) };
        vec![
            Arc::new(Int64Array::from_iter_values(0..10)),
            text("a b"),
            text("1"),
            text("a,b"),
            text("é"),
            Arc::new(BinaryArray::from_iter_values(vec![b"abc"; 10])),
            Arc::new(TimestampMicrosecondArray::from(vec![1_000_000; 10])),
            Arc::new(Date32Array::from(vec![0; 10])),
            Arc::new(Float64Array::from(vec![0.1; 10])),
            Arc::new(Int64Array::from(vec![1999; 10])),
        ]
    };
    let names = ["id", "padded", "word", "words", "latin", "fixed", "at", "day", "single", "year"];
    let batch = |columns: Vec<ArrayRef>| RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap();
    // In row n, column n is bad.
    let bad = |column: usize| -> ArrayRef {
        let texts = |good: &'static str, bad: &'static str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..10).map(|row| if row == column { bad } else { good })))
        };
        let pick = |good: i64, bad: i64| (0..10).map(move |row| if row == column { bad } else { good });
        match column {
            1 => texts("a b", "a "),
            2 => texts("1", "2"),
            3 => texts("a,b", "a,c"),
            4 => texts("é", "\u{1F980}"),
            5 => Arc::new(BinaryArray::from_iter_values(
                (0..10).map(|row| if row == 5 { &b"ab"[..] } else { b"abc" }),
            )),
            6 => Arc::new(TimestampMicrosecondArray::from_iter_values(pick(1_000_000, 1_000_001))),
            7 => Arc::new(Date32Array::from_iter_values(pick(0, 4_000_000).map(|day| day as i32))),
            8 => Arc::new(Float64Array::from_iter_values(
                (0..10).map(|row| if row == 8 { f64::NAN } else { 0.1 }),
            )),
            9 => Arc::new(Int64Array::from_iter_values(pick(1999, 70))),
            _ => Arc::new(Int64Array::from_iter_values(0..10)),
        }
    };
    let schema = batch(good()).schema();
    let (_, _, mut writer, stood) = ready(&url, "t", "append", &shape(schema, &[])).await;
    assert_eq!(writer.write(&batch(good())).await.unwrap(), []);
    let refused = writer.write(&batch((0..10).map(bad).collect())).await.unwrap();
    assert_eq!(rows(&refused), (1..10).collect::<Vec<_>>(), "{refused:?}");
    let by_server: Vec<usize> =
        refused.iter().filter(|row| row.code == codes::ROW_REFUSED).map(|row| row.row).collect();
    assert_eq!(by_server, [4], "{refused:?}");
    writer.commit(&next(&stood, 1)).await.unwrap();
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM t"), [11]);
    let first = "SELECT concat_ws('|', padded, word, words, latin, CONVERT(fixed USING utf8mb4), at, day, single, year) FROM t WHERE id = 0";
    let row = "a b|1|a,b|é|abc|1970-01-01 00:00:01|1970-01-01|0.1|1999";
    assert_eq!(scene.rows("d", first), [[row], [row]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_the_same_by_file_and_by_insert() {
    let scene = Scene::new();
    let url = scene.database("d");
    let difficult = types::difficult();
    let texts = async |write: &str, table: &str| {
        let (_, _, mut writer, stood) = ready(&url, table, write, &shape(difficult.schema(), &["id"])).await;
        assert_eq!(writer.write(&difficult).await.unwrap(), []);
        writer.commit(&next(&stood, if write == "append" { 1 } else { 2 })).await.unwrap();
        scene.rows("d", &format!("SELECT *, hex(bytes) FROM {table} ORDER BY id"))
    };
    let by_file = texts("append", "a").await;
    assert_eq!(by_file.len(), 5);
    assert_eq!(texts("upsert", "b").await, by_file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_holder_does_not_hold_up_the_next_run() {
    let scene = Scene::new();
    let url = scene.database("d");
    let shape = shape(pen::schema(), &["id"]);
    let (_old, _, mut stalled, stood) = ready(&url, "t", "append", &shape).await;
    stalled.write(&numbered(0..100)).await.unwrap();
    let (_, _, mut writer, found) = ready(&url, "t", "append", &shape).await;
    // Whoever waited for its locks would have been refused them.
    assert_eq!(found, stood, "an open commit counts");
    writer.write(&numbered(0..10)).await.unwrap();
    writer.commit(&next(&found, 1)).await.unwrap();
    // It wakes up. Its connection is gone, and its lease too.
    let woke = stalled.write(&numbered(100..200)).await.map(|_| ()).unwrap_err();
    assert_eq!(woke.kind, SinkErrorKind::Unavailable, "{woke}");
    stalled.abort().await.unwrap();
    let woke = stalled.write(&numbered(100..200)).await.map(|_| ()).unwrap_err();
    assert_eq!(woke.kind, SinkErrorKind::Fenced, "{woke}");
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM t"), [10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_looked_up() {
    let scene = Scene::new();
    let url = scene.database("d");
    let direct = server::mysql();
    let place = direct.trim_end_matches('/').rsplit('@').next().unwrap().to_owned();
    let proxy = Proxy::before(place.clone()).await;
    let through =
        format!("{}?ssl-mode=disabled", url.replace(&place, &format!("127.0.0.1:{}", proxy.port())));
    let (sink, lease, mut writer, mut stood) =
        ready(&through, "t", "append", &shape(pen::schema(), &["id"])).await;
    let mut expected = 0;
    for (n, arrives) in [(1, true), (2, false), (3, true)] {
        writer.write(&numbered(n * 100..n * 100 + 10)).await.unwrap();
        let commit = next(&stood, n as u8);
        let pattern = b"COMMIT".to_vec();
        proxy.fail(if arrives { Failure::Unanswered(pattern) } else { Failure::Unsent(pattern) });
        match writer.commit(&commit).await {
            Err(CommitError::Unknown(error)) => assert_eq!(error.kind, SinkErrorKind::Unavailable),
            other => panic!("a commit without an answer ended as {other:?}"),
        }
        let (again, found) = taken(&sink, &lease).await;
        assert_eq!(found, if arrives { commit.standing() } else { stood.clone() });
        expected += if arrives { 10 } else { 0 };
        assert_eq!(scene.numbers("d", "SELECT count(*) FROM t"), [expected]);
        (writer, stood) = (again, found);
    }
    assert_eq!(proxy.happened(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_takes_back_the_whole_commit() {
    let scene = Scene::new();
    let url = scene.database("d");
    let (sink, lease, mut writer, stood) = ready(&url, "t", "upsert", &shape(pen::schema(), &["id"])).await;
    let mut other = connect(&url).await;
    other.query_drop("INSERT INTO t VALUES (1, 'x'), (2, 'x')").await.unwrap();
    // The server takes back the transaction that changed fewer rows.
    other
        .query_drop(
            "BEGIN; UPDATE t SET name = 'other' WHERE id = 1;
                      INSERT INTO t SELECT seq, 'other' FROM seq_1000_to_2000;",
        )
        .await
        .unwrap();
    writer.write(&people(&[(2, Some("ours"))])).await.unwrap();
    let waiting = tokio::spawn(async move {
        let wrote = writer.write(&people(&[(1, Some("ours"))])).await.map(|_| ());
        (writer, wrote)
    });
    let waits = format!(
        "SELECT id FROM information_schema.PROCESSLIST WHERE DB = '{}' AND INFO LIKE 'INSERT%'",
        scene.name("d")
    );
    while scene.rows("d", &waits).is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    other.query_drop("UPDATE t SET name = 'other' WHERE id = 2; COMMIT").await.unwrap();
    let (mut writer, wrote) = waiting.await.unwrap();
    let error = wrote.unwrap_err();
    assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Unavailable, codes::LOCKED), "{error}");
    assert!(writer.write(&numbered(5..6)).await.is_err(), "half a commit could go on");
    assert_eq!(writer.take_over(&lease).await.unwrap(), stood);
    writer.write(&people(&[(1, Some("ours")), (2, Some("ours"))])).await.unwrap();
    writer.commit(&next(&stood, 1)).await.unwrap();
    assert_eq!(scene.rows("d", "SELECT name FROM t WHERE id < 5"), [["ours"], ["ours"]]);
    drop(sink);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_does_not_put_an_old_value_over_a_newer_one() {
    let scene = Scene::new();
    let url = scene.database("d");
    let (_, _, mut writer, stood) = ready(&url, "t", "upsert", &shape(pen::schema(), &["id"])).await;
    writer.write(&people(&[(1, Some("new"))])).await.unwrap();
    let refused =
        writer.write_absent(&people(&[(1, Some("old")), (2, Some("two")), (2, Some("again"))])).await;
    let refused = refused.unwrap();
    assert_eq!(refused, [RefusedRow::key_is_there(0), RefusedRow::key_is_there(2)]);
    writer.commit(&next(&stood, 1)).await.unwrap();
    assert_eq!(scene.rows("d", "SELECT name FROM t ORDER BY id"), [["new"], ["two"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_future_leaves_nothing() {
    use futures::FutureExt;
    let scene = Scene::new();
    let url = scene.database("d");
    let (_, lease, mut writer, stood) = ready(&url, "t", "append", &shape(pen::schema(), &["id"])).await;
    writer.write(&numbered(0..10)).await.unwrap();
    assert!(writer.write(&numbered(10..20)).now_or_never().is_none());
    assert!(
        writer.write(&numbered(20..30)).await.is_err(),
        "a writer went on after a future of it was dropped"
    );
    assert_eq!(writer.take_over(&lease).await.unwrap(), stood);
    writer.commit(&next(&stood, 1)).await.unwrap();
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM t"), [0]);
}
