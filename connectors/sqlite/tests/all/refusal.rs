use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use hapax_engine::sink::Shape;
use hapax_protocol::code::Code;
use hapax_sqlite::codes;
use hapax_sqlite::config::Write;

use crate::scene::{Scene, people, pipeline, ready, shape, step, taken};

/// What a prepare says of a table made by `sql`, which must also be what a check says.
async fn said(sql: &str, write: Write, shape: &Shape) -> (Code, String, String) {
    let scene = Scene::new();
    scene.sql(sql);
    let before = scene.texts("SELECT name FROM sqlite_master");
    let sink = scene.sink(write).await;
    let checked = sink.check(shape).await.unwrap_err();
    let prepared = sink.prepare(shape).await.unwrap_err();
    assert_eq!(checked.fault.code(), prepared.fault.code());
    assert_eq!(scene.texts("SELECT name FROM sqlite_master"), before, "nothing may be left behind");
    (prepared.fault.code(), prepared.to_string(), prepared.fault.help())
}

#[tokio::test]
async fn a_table_that_does_not_fit_is_named_with_the_fix() {
    let append = |sql: &'static str| async move { said(sql, Write::Append, &shape(&[])).await };
    let (code, what, help) = append("CREATE TABLE t (id INTEGER)").await;
    assert_eq!((code, what.as_str()), (codes::COLUMN_MISSING, "table \"t\" has no column \"name\""));
    assert!(help.contains("ALTER TABLE \"t\" ADD COLUMN \"name\" TEXT"), "{help}");
    let (code, what, _) = append("CREATE TABLE t (id INTEGER, name TEXT, more TEXT NOT NULL)").await;
    assert!(code == codes::COLUMN_DEMANDED && what.contains("\"more\""), "{what}");
    for wrong in
        ["id TEXT, name TEXT", "id REAL, name TEXT", "id INTEGER, name DECIMAL(5,2)", "id INTEGER, name INT"]
    {
        let (code, ..) = said(&format!("CREATE TABLE t ({wrong})"), Write::Append, &shape(&[])).await;
        assert_eq!(code, codes::COLUMN_TYPE, "{wrong}");
    }
    let (code, ..) = append("CREATE TABLE t (id INTEGER, name TEXT AS (id || 'x'))").await;
    assert_eq!(code, codes::COLUMN_TYPE);
    let (code, ..) = append("CREATE TABLE u (id INTEGER, name TEXT); CREATE VIEW t AS SELECT * FROM u").await;
    assert_eq!(code, codes::NOT_A_TABLE);
    for fits in [
        "CREATE TABLE t (id, name)",
        "CREATE TABLE t (ID INTEGER PRIMARY KEY, NAME VARCHAR(5), extra TEXT)",
        "CREATE TABLE t (id INT, name TEXT, extra TEXT NOT NULL DEFAULT 'x') STRICT",
    ] {
        let scene = Scene::new();
        scene.sql(fits);
        scene.sink(Write::Append).await.prepare(&shape(&[])).await.unwrap();
    }
}

#[tokio::test]
async fn keys_need_columns_and_a_unique_index() {
    let table = "CREATE TABLE t (id INTEGER, name TEXT)";
    let (code, ..) = said(table, Write::Upsert, &shape(&[])).await;
    assert_eq!(code, codes::NO_KEY);
    let (code, ..) = said(table, Write::Upsert, &shape(&["nope"])).await;
    assert_eq!(code, codes::NO_KEY);
    let (code, _, help) = said(table, Write::Ignore, &shape(&["id", "name"])).await;
    assert_eq!(code, codes::NO_UNIQUE_INDEX);
    let create = help.strip_prefix("Run `").unwrap().strip_suffix("`.").unwrap().to_owned();
    let scene = Scene::new();
    scene.sql(table);
    scene.sql(&create);
    scene.sink(Write::Ignore).await.prepare(&shape(&["id", "name"])).await.unwrap();
    let partial = format!("{table}; CREATE UNIQUE INDEX i ON t (id) WHERE name > 'a'");
    assert_eq!(said(&partial, Write::Upsert, &shape(&["id"])).await.0, codes::NO_UNIQUE_INDEX);
}

#[tokio::test]
async fn columns_that_sqlite_cannot_hold_or_tell_apart() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let of = |fields: Vec<Field>| Shape { schema: Arc::new(Schema::new(fields)), key: Vec::new() };
    let unheld = of(vec![Field::new("d", DataType::Duration(arrow::datatypes::TimeUnit::Second), true)]);
    assert_eq!(sink.check(&unheld).await.unwrap_err().fault.code(), codes::TYPE_UNHELD);
    let same = of(vec![Field::new("a", DataType::Int64, true), Field::new("A", DataType::Int64, true)]);
    assert_eq!(sink.check(&same).await.unwrap_err().fault.code(), codes::SAME_NAME);
    assert!(!scene.path().exists(), "a check creates nothing");
    let words = sink.check(&shape(&["id"])).await.unwrap();
    assert_eq!(words.len(), 3, "{words:?}");
    assert!(
        words[1]
            .contains("CREATE TABLE \"t\" (\"id\" INTEGER NOT NULL, \"name\" TEXT, PRIMARY KEY (\"id\"))")
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_and_a_directory_that_is_missing() {
    let scene = Scene::new();
    std::fs::write(scene.path(), "id,name\n1,a\n".repeat(200)).unwrap();
    let sink = scene.sink(Write::Append).await;
    assert_eq!(sink.check(&shape(&[])).await.unwrap_err().fault.code(), codes::NOT_A_DATABASE);
    assert_eq!(sink.prepare(&shape(&[])).await.unwrap_err().fault.code(), codes::NOT_A_DATABASE);
    let mut config = scene.sink_config(Write::Append);
    config.path = scene.path().with_file_name("missing").join("x.db");
    let sink = hapax_sqlite::sink::open(config).await.unwrap();
    let sink = sink.destination();
    assert_eq!(sink.check(&shape(&[])).await.unwrap_err().fault.code(), codes::NOT_WRITABLE);
    assert_eq!(sink.prepare(&shape(&[])).await.unwrap_err().fault.code(), codes::NOT_WRITABLE);
    assert_eq!(sink.standings(&pipeline()).await.unwrap(), []);
}

#[tokio::test]
async fn refused_rows_do_not_poison_the_others() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (id INTEGER UNIQUE, name TEXT NOT NULL CHECK (name <> 'bad'))");
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    let rows = people(&[
        (Some(1), Some("a")),
        (Some(2), None),
        (Some(1), Some("b")),
        (Some(3), Some("bad")),
        (Some(4), Some("d")),
    ]);
    let refused = writer.write(&rows).await.unwrap();
    let said: Vec<_> = refused.iter().map(|row| (row.row, row.code, row.reason.as_str())).collect();
    assert_eq!(
        said,
        [
            (1, codes::ROW_REFUSED, "table t does not take NULL in name"),
            (2, codes::ROW_REFUSED, "table t already has a row with the same id"),
            (3, codes::ROW_REFUSED, "the CHECK of table t does not hold: name <> 'bad'"),
        ]
    );
    writer.commit(&step(None, 5, 1)).await.unwrap();
    assert_eq!(scene.texts("SELECT id || name FROM t ORDER BY id"), ["1a", "4d"]);
}

#[tokio::test]
async fn a_constraint_that_rolls_back_everything_cannot_half_commit() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (id INTEGER UNIQUE ON CONFLICT ROLLBACK, name TEXT)");
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.write(&people(&[(Some(1), None)])).await.unwrap();
    let error =
        writer.write(&people(&[(Some(2), None), (Some(1), None), (Some(3), None)])).await.unwrap_err();
    assert_eq!(error.fault.code(), codes::TRANSACTION_LOST);
    assert!(writer.commit(&step(None, 5, 1)).await.is_err());
    assert_eq!(scene.count("SELECT count(*) FROM t"), 0);
}

#[tokio::test]
async fn values_that_sqlite_cannot_hold_are_refused() {
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let schema = Arc::new(Schema::new(vec![
        Field::new("u", DataType::UInt64, true),
        Field::new("f", DataType::Float64, true),
    ]));
    let lease = ready(&sink, &Shape { schema: Arc::clone(&schema), key: Vec::new() }).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    let u: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1, 2, i64::MAX as u64]));
    let f: ArrayRef =
        Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), None, Some(f64::INFINITY)]));
    let refused = writer.write(&RecordBatch::try_new(schema, vec![u, f]).unwrap()).await.unwrap();
    assert_eq!(
        refused.iter().map(|row| (row.row, row.code)).collect::<Vec<_>>(),
        [(0, codes::VALUE_UNHELD), (1, codes::VALUE_UNHELD)]
    );
    writer.commit(&step(None, 5, 1)).await.unwrap();
    assert_eq!(scene.count("SELECT count(*) FROM t"), 2);
}

#[tokio::test]
async fn upsert_replaces_ignore_keeps_and_neither_takes_a_null_key() {
    for (write, expected) in [(Write::Upsert, ["1b", "2c"]), (Write::Ignore, ["1a", "2c"])] {
        let scene = Scene::new();
        let sink = scene.sink(write).await;
        let lease = ready(&sink, &shape(&["id"])).await;
        let (mut writer, _) = taken(&sink, &lease).await;
        let rows = [(Some(1), Some("a")), (Some(1), Some("b")), (None, Some("x")), (Some(2), Some("c"))];
        let refused = writer.write(&people(&rows)).await.unwrap();
        assert_eq!(refused.iter().map(|row| (row.row, row.code)).collect::<Vec<_>>(), [(2, codes::KEY_NULL)]);
        writer.commit(&step(None, 5, 1)).await.unwrap();
        assert_eq!(scene.texts("SELECT id || name FROM t ORDER BY id"), expected);
    }
}

#[tokio::test]
async fn a_null_never_becomes_a_row_id() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape(&[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    assert_eq!(writer.write(&people(&[(None, Some("a"))])).await.unwrap()[0].code, codes::KEY_NULL);
}
