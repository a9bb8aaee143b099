use hapax_engine::source::Source;
use hapax_protocol::position::SplitId;
use hapax_sqlite::source::Sqlite;

use crate::scene::{Scene, drain, int_column, limit, records};

#[tokio::test]
async fn equal_cursors_are_told_apart_by_their_rows() {
    let scene = Scene::new();
    scene.sql(
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, at TIMESTAMP NOT NULL); CREATE INDEX i ON t (at); \
         INSERT INTO t (at) VALUES ('2020-01-01 00:00:01'), ('2020-01-01 00:00:01'), ('2020-01-01 00:00:01'), \
         ('2020-01-01 00:00:02'), ('2020-01-01 00:00:01')",
    );
    let source = Sqlite::open(scene.tail("t", "at")).await.unwrap();
    let split = SplitId::new("t");
    let small = drain(&source, &split, None, 2).await;
    assert_eq!(int_column(&small, "id"), [1, 2, 3, 5, 4]);
    let last = small.last().unwrap().through.clone();
    // The same tick again, written later: its row id lies behind.
    scene.sql("INSERT INTO t (at) VALUES ('2020-01-01 00:00:02'), ('2020-01-01 00:00:03')");
    let more = drain(&source, &split, Some(&last), 1).await;
    assert_eq!(int_column(&more, "id"), [6, 7]);
    assert_eq!(records(&more).iter().map(|record| record.0).collect::<Vec<_>>(), [5, 6]);
    assert!(drain(&source, &split, Some(&more.last().unwrap().through), 1).await.is_empty());
}

#[tokio::test]
async fn updated_rows_arrive_again() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (k TEXT PRIMARY KEY, v INTEGER NOT NULL) WITHOUT ROWID; INSERT INTO t VALUES ('a', 1), ('b', 2)");
    let source = Sqlite::open(scene.tail("t", "v")).await.unwrap();
    let split = SplitId::new("t");
    let first = drain(&source, &split, None, 9).await;
    assert_eq!(int_column(&first, "v"), [1, 2]);
    scene.sql("UPDATE t SET v = 3 WHERE k = 'a'");
    let second = drain(&source, &split, Some(&first[0].through), 9).await;
    assert_eq!(records(&second), [(2, vec!["a".to_owned(), "3".to_owned()])]);
}

#[tokio::test]
async fn a_concurrent_writer_loses_nothing() {
    let scene = Scene::new();
    scene.sql(
        "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, tick INTEGER NOT NULL); \
         CREATE INDEX i ON t (tick)",
    );
    let total = 3_000_i64;
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let db = scene.db();
            std::thread::spawn(move || {
                for _ in 0..total / 30 {
                    // The tick is read after the lock is taken: it grows with the commits.
                    db.execute_batch("BEGIN IMMEDIATE").unwrap();
                    let tick: i64 =
                        db.query_row("SELECT coalesce(max(id), 0) / 7 FROM t", [], |row| row.get(0)).unwrap();
                    for _ in 0..10 {
                        db.execute("INSERT INTO t (tick) VALUES (?1)", [tick]).unwrap();
                    }
                    db.execute_batch("COMMIT").unwrap();
                }
            })
        })
        .collect();
    let source = Sqlite::open(scene.tail("t", "tick")).await.unwrap();
    let split = SplitId::new("t");
    let mut seen = Vec::new();
    let mut position = None;
    loop {
        let done = writers.iter().all(std::thread::JoinHandle::is_finished);
        let mut reader = source.open(&split, position.as_ref()).await.unwrap();
        while let Some(batch) = reader.read(limit(17)).await.unwrap() {
            position = Some(batch.through.clone());
            seen.extend(int_column(&[batch], "id"));
        }
        if done {
            break;
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=total).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_row_id_can_be_the_cursor() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (5, 'a'), (9, 'b')");
    let source = Sqlite::open(scene.tail("t", "ID")).await.unwrap();
    let batches = drain(&source, &SplitId::new("t"), None, 1).await;
    assert_eq!(int_column(&batches, "id"), [5, 9]);
    assert_eq!(source.describe(&batches[1].through), "behind record 2, \"id\" 9");
}
