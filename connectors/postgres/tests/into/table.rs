use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use hapax_postgres::codes;
use hapax_postgres::config::{SchemaChanges, SinkConfig, Write};

use crate::scene::{Scene, opened, people, people_schema, ready, refused, shape, shape_of, step, taken};

#[tokio::test]
async fn a_name_is_never_more_than_a_name() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE x (n bigint); CREATE SCHEMA \"a.b\"\"; DROP TABLE x; --\"").await;
    let column = "c\"); DROP TABLE x; --";
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["'; DROP TABLE x; --", "\\'"]));
    let schema = Schema::new(vec![
        Field::new(column, DataType::Int64, true),
        // What a file says of its types is only looked up.
        Field::new("m", DataType::Utf8, true).with_metadata(HashMap::from([(
            "hapax:postgres".to_owned(),
            "text); DROP TABLE x; --".to_owned(),
        )])),
    ]);
    let records = RecordBatch::try_new(Arc::new(schema), vec![id, text]).unwrap();
    for (write, table) in
        [(Write::Append, r#""""; DROP TABLE x; --""#), (Write::Upsert, r#""a.b""; DROP TABLE x; --"."'t'""#)]
    {
        let config = SinkConfig { table: table.into(), ..scene.config(write) };
        let sink = opened(config).await;
        let lease = ready(&sink, &shape_of(records.schema(), &[column])).await;
        let (mut writer, _) = taken(&sink, &lease).await;
        assert_eq!(writer.write(&records).await.unwrap(), []);
        writer.commit(&step(None, 1, 1)).await.unwrap();
    }
    assert_eq!(scene.count("SELECT count(*) FROM \"\"\"; DROP TABLE x; --\"").await, 2);
    assert_eq!(scene.count("SELECT count(*) FROM \"a.b\"\"; DROP TABLE x; --\".\"'t'\"").await, 2);
    assert_eq!(scene.count("SELECT count(*) FROM x").await, 0);
}

#[tokio::test]
async fn what_cannot_be_written_to_is_refused_before_anything_is_made() {
    let scene = Scene::new();
    scene
        .sql(
            "CREATE TABLE base (id bigint, name text); CREATE VIEW v AS SELECT * FROM base;
             CREATE UNLOGGED TABLE u (id bigint, name text); CREATE SEQUENCE s;
             CREATE TABLE part (id bigint, name text);
             CREATE UNIQUE INDEX ON part (id) WHERE name IS NULL; CREATE UNIQUE INDEX ON part ((id + 1));
             CREATE TABLE demands (id bigint, name text, more text NOT NULL);
             CREATE TABLE computes (id bigint, name text GENERATED ALWAYS AS (id::text) STORED);
             CREATE TABLE numbers (id bigint GENERATED ALWAYS AS IDENTITY, name text PRIMARY KEY);
             CREATE TABLE other (id text, name text);
             CREATE TABLE lacks (id bigint)",
        )
        .await;
    let refuse = async |table: &str, write: Write, key: &[&str]| {
        let config = SinkConfig { table: table.into(), ..scene.config(write) };
        refused(&scene, config, &shape(key)).await
    };
    for (table, write, key, code, words) in [
        ("v", Write::Append, [].as_slice(), codes::NOT_A_TABLE, "is a view"),
        ("u", Write::Append, &[], codes::NOT_A_TABLE, "unlogged"),
        ("s", Write::Append, &[], codes::NOT_A_TABLE, "sequence"),
        ("nowhere.t", Write::Append, &[], codes::NO_TABLE, "CREATE SCHEMA \"nowhere\""),
        (
            "part",
            Write::Upsert,
            &["id"],
            codes::NO_UNIQUE_INDEX,
            "CREATE UNIQUE INDEX ON \"public\".\"part\" (\"id\")",
        ),
        ("base", Write::Ignore, &["id"], codes::NO_UNIQUE_INDEX, "no unique index on (id)"),
        ("base", Write::Upsert, &[], codes::NO_KEY, "`write: upsert`"),
        ("base", Write::Upsert, &["nothing"], codes::NO_KEY, "nothing"),
        ("demands", Write::Append, &[], codes::COLUMN_DEMANDED, "\"more\""),
        ("computes", Write::Append, &[], codes::COLUMN_TYPE, "generated"),
        ("numbers", Write::Upsert, &["name"], codes::COLUMN_TYPE, "\"id\""),
        ("other", Write::Append, &[], codes::COLUMN_TYPE, "is text, which would not keep Int64"),
        ("lacks", Write::Append, &[], codes::COLUMN_MISSING, "ADD COLUMN \"name\" text"),
    ] {
        let (found, said) = refuse(table, write, key).await;
        assert!(found == code && said.contains(words), "{table}: {found} {said}");
    }
    let config = SinkConfig { table: "n".repeat(64), ..scene.config(Write::Append) };
    assert_eq!(hapax_postgres::sink::open(config).await.err().unwrap().fault.code(), codes::CONFIG);
    let config = SinkConfig { create: false, ..scene.config(Write::Append) };
    let (code, said) = refused(&scene, config, &shape(&[])).await;
    assert!(code == codes::NO_TABLE && said.contains("`create` is false"), "{said}");
}

#[tokio::test]
async fn a_new_column_is_added_if_that_is_asked_for() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let config = SinkConfig { schema_changes: SchemaChanges::Add, ..scene.config(Write::Upsert) };
    let sink = opened(config).await;
    let words = sink.check(&shape(&["id"])).await.unwrap();
    assert!(
        words.iter().any(|line| line.contains("ALTER TABLE \"public\".\"t\" ADD COLUMN \"name\" text")),
        "{words:?}"
    );
    let lease = ready(&sink, &shape(&["id"])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    writer.write(&people(&[(Some(2), Some("two"))])).await.unwrap();
    writer.commit(&step(None, 1, 1)).await.unwrap();
    assert_eq!(scene.texts("SELECT coalesce(name, 'null') FROM t ORDER BY id").await, ["null", "two"]);
}

#[tokio::test]
async fn a_column_that_numbers_itself_takes_the_numbers_of_the_records() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)").await;
    for (round, write) in [Write::Append, Write::Upsert, Write::Ignore].into_iter().enumerate() {
        let sink = scene.sink(write).await;
        let lease = ready(&sink, &shape(&["id"])).await;
        let (mut writer, standing) = taken(&sink, &lease).await;
        let id = i64::try_from(round).unwrap() * 10;
        assert_eq!(
            writer.write(&people(&[(Some(id), Some("a")), (Some(5), None)])).await.unwrap().len(),
            usize::from(write == Write::Append && round > 0)
        );
        let after = standing.position.map(|position| position.as_bytes()[0]);
        writer.commit(&step(after, after.unwrap_or(0) + 1, standing.epoch.get() + 1)).await.unwrap();
    }
    assert_eq!(scene.count("SELECT sum(id)::bigint FROM t").await, 35);
}

#[tokio::test]
async fn a_partitioned_table_is_a_table() {
    let scene = Scene::new();
    scene
        .sql(
            "CREATE TABLE t (id bigint PRIMARY KEY, name text) PARTITION BY RANGE (id);
             CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10);
             CREATE TABLE high PARTITION OF t FOR VALUES FROM (10) TO (20)",
        )
        .await;
    let sink = scene.sink(Write::Upsert).await;
    let lease = ready(&sink, &shape(&["id"])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    let refused =
        writer.write(&people(&[(Some(1), None), (Some(11), None), (Some(21), None)])).await.unwrap();
    assert_eq!(refused.iter().map(|refused| refused.row).collect::<Vec<_>>(), [2]);
    writer.commit(&step(None, 1, 1)).await.unwrap();
    assert_eq!(scene.count("SELECT count(*) FROM high").await, 1);
}

#[tokio::test]
async fn many_that_make_the_same_table_at_once_make_one() {
    let scene = Scene::new();
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let sink = scene.sink(Write::Append).await;
        tasks
            .push(tokio::spawn(async move { ready(&sink, &shape_of(people_schema(), &["id"])).await.token }));
    }
    let mut tokens = Vec::new();
    for task in tasks {
        tokens.push(task.await.unwrap().get());
    }
    tokens.sort_unstable();
    assert_eq!(tokens, (1..=8).collect::<Vec<u64>>());
}

/// Whether a key is NULL is seen only where it is decoded.
#[tokio::test]
async fn bytes_pass_by_key_only_where_no_key_is_null() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (id bigint UNIQUE, name text)").await;
    let (append, upsert) = (scene.sink(Write::Append).await, scene.sink(Write::Upsert).await);
    let key = shape(&["id"]);
    let format = append.wire(&key).await.unwrap();
    assert!(format.is_some());
    assert_eq!(upsert.wire(&key).await.unwrap(), None);
    scene.sql("ALTER TABLE t ALTER id SET NOT NULL").await;
    assert_eq!(upsert.wire(&key).await.unwrap(), format);
}
