use hapax_engine::batch::ReadLimit;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::source::Source;
use hapax_protocol::guarantee::Replay;
use hapax_protocol::identity::Place;
use hapax_protocol::position::SplitId;
use hapax_sqlite::codes;
use hapax_sqlite::config::SourceConfig;
use hapax_sqlite::source::Sqlite;

use crate::scene::{Scene, drain, int_column, records};

async fn names(source: &Sqlite) -> Vec<String> {
    source.splits().await.unwrap().into_iter().map(|split| split.id.to_string()).collect()
}

async fn code(config: SourceConfig) -> hapax_protocol::code::Code {
    match Sqlite::open(config).await {
        Ok(_) => panic!("it should not open"),
        Err(error) => error.fault.code(),
    }
}

#[tokio::test]
async fn row_ids_are_read_in_ranges_that_stay() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (-9223372036854775808), (-1), (0), (1), \
               (1048575), (1048576), (5000000), (1072693248), (9223372036854775807)");
    let source = Sqlite::open(scene.table("t")).await.unwrap();
    assert_eq!(names(&source).await, ["t#-1", "t#0", "t#1", "t#4", "t#1023"]);
    let mut all = Vec::new();
    for split in source.splits().await.unwrap() {
        all.extend(int_column(&drain(&source, &split.id, None, 2).await, "id"));
    }
    assert_eq!(all, [i64::MIN, -1, 0, 1, 1_048_575, 1_048_576, 5_000_000, 1_072_693_248, i64::MAX]);
    assert_eq!(source.facts().replay, Replay::Exact);
    scene.sql("DELETE FROM t");
    assert!(names(&source).await.is_empty());
}

#[tokio::test]
async fn every_position_resumes_to_the_same_records() {
    let scene = Scene::new();
    scene.sql(
        "CREATE TABLE a (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE b (v TEXT); \
         CREATE TABLE c (x TEXT COLLATE NOCASE, y INTEGER, v TEXT, PRIMARY KEY (x, y)) WITHOUT ROWID; \
         CREATE VIEW d AS SELECT * FROM a WHERE id > 7; CREATE TABLE rowid (rowid TEXT, v TEXT); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) \
         INSERT INTO a SELECT i * 3, 'v' || i FROM n; \
         INSERT INTO b SELECT v FROM a; INSERT INTO rowid SELECT v, v FROM a; \
         INSERT INTO c SELECT CASE id % 3 WHEN 0 THEN 'K' || (id % 5) ELSE 'k' || (id % 7) END, id, v FROM a",
    );
    for table in ["a", "b", "c", "d", "rowid"] {
        let source = Sqlite::open(scene.table(table)).await.unwrap();
        let split = source.splits().await.unwrap().remove(0).id;
        let whole = drain(&source, &split, None, 1_000).await;
        assert_eq!(whole.len(), 1);
        let expected = records(&whole);
        assert_eq!(
            expected.iter().map(|record| record.0).collect::<Vec<_>>(),
            (0..expected.len() as u64).collect::<Vec<_>>()
        );
        let small = drain(&source, &split, None, 7).await;
        assert_eq!(records(&small), expected, "{table}");
        for (index, batch) in small.iter().enumerate() {
            let rest = drain(&source, &split, Some(&batch.through), 11).await;
            let before = (index + 1) * 7;
            assert_eq!(records(&rest), expected.get(before..).unwrap_or_default(), "{table}");
            assert!(
                source
                    .describe(&batch.through)
                    .contains(&format!("behind record {}", before.min(expected.len())))
            );
        }
    }
}

#[tokio::test]
async fn a_batch_ends_at_its_bytes_but_always_has_a_record() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB); INSERT INTO t VALUES (1, zeroblob(1000)), (2, zeroblob(1000)), (3, zeroblob(1000))");
    let source = Sqlite::open(scene.table("t")).await.unwrap();
    let mut reader = source.open(&SplitId::new("t#0"), None).await.unwrap();
    let mut sizes = Vec::new();
    while let Some(batch) = reader.read(ReadLimit { records_max: 10, bytes_max: 1_500 }).await.unwrap() {
        sizes.push(batch.records.num_rows());
    }
    assert_eq!(sizes, [2, 1]);
}

#[tokio::test]
async fn a_vacuum_that_renumbers_rows_is_noticed() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (v TEXT); INSERT INTO t VALUES ('a'), ('b'), ('c'), ('d'), ('e'), ('f')");
    let source = Sqlite::open(scene.table("t")).await.unwrap();
    let split = SplitId::new("t#0");
    let batches = drain(&source, &split, None, 3).await;
    let position = &batches[0].through;
    scene.sql("DELETE FROM t WHERE v = 'f'; VACUUM");
    assert_eq!(records(&drain(&source, &split, Some(position), 9).await).len(), 2);
    scene.sql("DELETE FROM t WHERE v = 'a'; VACUUM");
    let Err(error) = source.open(&split, Some(position)).await else { panic!("the rows moved") };
    assert_eq!(error.fault.code(), codes::ROWS_MOVED);
}

#[tokio::test]
async fn a_live_writer_does_not_disturb() {
    let scene = Scene::new();
    let writer = scene.db();
    writer.pragma_update(None, "journal_mode", "WAL").unwrap();
    writer
        .execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)")
        .unwrap();
    writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (4)").unwrap();
    let source = Sqlite::open(scene.table("t")).await.unwrap();
    let mut reader = source.open(&SplitId::new("t#0"), None).await.unwrap();
    let first = reader.read(crate::scene::limit(2)).await.unwrap().unwrap();
    writer.execute_batch("COMMIT").unwrap();
    let second = reader.read(crate::scene::limit(5)).await.unwrap().unwrap();
    assert_eq!(int_column(&[first, second], "id"), [1, 2, 3, 4]);
}

#[tokio::test]
async fn queries() {
    let scene = Scene::new();
    scene.sql(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'a')",
    );
    let query = |query: &str, cursor: Option<&str>| SourceConfig {
        table: None,
        query: Some(query.into()),
        cursor: cursor.map(Into::into),
        ..scene.table("t")
    };
    let source =
        Sqlite::open(query("SELECT v, count(*) AS n FROM t GROUP BY v ORDER BY v;", None)).await.unwrap();
    assert_eq!(source.facts().replay, Replay::Unidentified);
    let batches = drain(&source, &SplitId::new("query"), None, 1).await;
    assert_eq!(int_column(&batches, "n"), [2, 1]);
    let rest = drain(&source, &SplitId::new("query"), Some(&batches[0].through), 1).await;
    assert_eq!(int_column(&rest, "n"), [1]);
    let source = Sqlite::open(query("SELECT id, v FROM t WHERE id <> 2", Some("id"))).await.unwrap();
    assert_eq!(source.facts().replay, Replay::Exact);
    assert_eq!(int_column(&drain(&source, &SplitId::new("query"), None, 1).await, "id"), [1, 3]);
    let source = Sqlite::open(query("SELECT id, v FROM t", Some("v"))).await.unwrap();
    let mut reader = source.open(&SplitId::new("query"), None).await.unwrap();
    let error = reader.read(crate::scene::limit(1)).await.unwrap_err();
    assert_eq!(error.fault.code(), codes::CURSOR_TIED);
    for bad in [
        "DELETE FROM t",
        "SELECT 1 AS a, 2 AS a",
        "SELECT nope FROM t",
        "SELECT ?1",
        "PRAGMA user_version",
        "",
    ] {
        assert_eq!(code(query(bad, None)).await, codes::BAD_QUERY, "{bad}");
    }
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let scene = Scene::new();
    assert_eq!(code(scene.table("t")).await, codes::NO_FILE);
    assert!(!scene.path().exists());
    std::fs::write(scene.path(), "not a database ".repeat(100)).unwrap();
    assert_eq!(code(scene.table("t")).await, codes::NOT_A_DATABASE);
    std::fs::remove_file(scene.path()).unwrap();
    scene.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, c INTEGER); INSERT INTO t VALUES (1, NULL), (2, 5)");
    assert_eq!(code(scene.table("nope")).await, codes::NO_TABLE);
    assert_eq!(code(scene.tail("t", "nope")).await, codes::NO_COLUMN);
    assert_eq!(code(scene.tail("t", "c")).await, codes::NULL_CURSOR);
    assert_eq!(code(SourceConfig { cursor: None, ..scene.tail("t", "c") }).await, codes::CONFIG);
    assert_eq!(
        code(SourceConfig { query: Some("SELECT 1".into()), ..scene.table("t") }).await,
        codes::CONFIG
    );
    let typed = |column: &str, name: &str| SourceConfig {
        schema: Some([(column.to_owned(), name.to_owned())].into()),
        ..scene.table("t")
    };
    assert_eq!(code(typed("c", "varchar")).await, codes::NO_TYPE);
    assert_eq!(code(typed("d", "string")).await, codes::NO_COLUMN);
    let source = Sqlite::open(scene.table("t")).await.unwrap();
    let foreign = hapax_protocol::position::Position::new([7].as_slice());
    for (split, after) in [("t#0", Some(&foreign)), ("u#0", None), ("t#99999", None)] {
        let Err(error) = source.open(&SplitId::new(split), after).await else { panic!("{split}") };
        assert_eq!(error.fault.code(), codes::FOREIGN_POSITION);
    }
}

#[tokio::test]
async fn values_that_do_not_fit_are_rejected_and_can_be_read_again() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, d DATE); \
               INSERT INTO t VALUES (1, 1, '2020-01-01'), (2, 'two', '2020-01-02'), (3, 3, '2020-13-01'), (4, 4, NULL)");
    let source = Sqlite::open(scene.table("t")).await.unwrap();
    let split = SplitId::new("t#0");
    let batches = drain(&source, &split, None, 10).await;
    assert_eq!(records(&batches).iter().map(|record| record.0).collect::<Vec<_>>(), [0, 3]);
    let rejected = &batches[0].rejected;
    assert_eq!(
        rejected.iter().map(|one| (one.ordinal, one.code)).collect::<Vec<_>>(),
        [(1, codes::VALUE_MISFIT), (2, codes::VALUE_MISFIT)]
    );
    assert_eq!(rejected[0].reason, "n holds \"two\", which is not an integer");
    assert!(rejected[0].raw.contains("\"n\":\"two\""), "{}", rejected[0].raw);
    let letter = DeadLetter {
        place: Place { split: split.clone(), ordinal: 1 },
        code: rejected[0].code,
        reason: rejected[0].reason.clone(),
        raw: rejected[0].raw.clone(),
        set_aside_unix_ms: 0,
    };
    assert_eq!(source.reread(&letter).await.unwrap_err().fault.code(), codes::LETTER_UNREADABLE);
    scene.sql("UPDATE t SET n = 2 WHERE id = 2");
    let again = source.reread(&letter).await.unwrap();
    assert_eq!(
        (again.num_rows(), again.column(1).as_ref()),
        (1, &arrow::array::Int64Array::from(vec![2]) as &dyn arrow::array::Array)
    );
    // A letter that another part of the run wrote has no row id.
    let letter = DeadLetter { raw: r#"{"id":9,"n":8,"d":"2020-01-09"}"#.into(), ..letter };
    assert_eq!(source.reread(&letter).await.unwrap().num_rows(), 1);
}
