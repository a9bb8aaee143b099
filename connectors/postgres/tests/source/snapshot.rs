//! Tables by their pages, and views and queries.

use hapax_engine::batch::ReadLimit;
use hapax_engine::source::Source;
use hapax_protocol::guarantee::Replay;
use serde_json::json;

use crate::kit::Database;
use crate::reading::{behind, numbers, open, rest, suite, whole};

/// Rows on a dozen pages, with holes between them.
const HOLES: &str = "CREATE TABLE t (id bigint, pad text DEFAULT repeat('x', 200)); \
                     INSERT INTO t SELECT g FROM generate_series(1, 400) g; DELETE FROM t WHERE id % 7 = 0; \
                     UPDATE t SET pad = pad || 'y' WHERE id % 5 = 0";

#[tokio::test]
async fn a_table_is_read_by_its_pages() {
    let database = Database::new();
    database.sql(HOLES).await;
    suite(&database, 343, json!({ "table": "t" })).await;
    database
        .sql(
            "CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES",
        )
        .await;
    suite(&database, 2, json!({ "table": "nothing" })).await;
    database.sql("CREATE TABLE empty (id bigint)").await;
    suite(&database, 0, json!({ "table": "empty" })).await;
    database.sql("CREATE MATERIALIZED VIEW m AS SELECT * FROM t").await;
    suite(&database, 343, json!({ "table": "m" })).await;
}

#[tokio::test]
async fn a_partitioned_table_is_read_partition_by_partition() {
    let database = Database::new();
    database
        .sql("CREATE TABLE p (id bigint, at int) PARTITION BY RANGE (at); \
              CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); \
              CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) PARTITION BY LIST (at); \
              CREATE TABLE p2a (at int, gone text, id bigint); ALTER TABLE p2a DROP COLUMN gone; \
              ALTER TABLE p2 ATTACH PARTITION p2a FOR VALUES IN (10, 11, 12); CREATE TABLE p2b PARTITION OF p2 DEFAULT; \
              INSERT INTO p SELECT g, g % 20 FROM generate_series(1, 100) g; \
              CREATE TABLE parent (id bigint); CREATE TABLE child (more text) INHERITS (parent); \
              INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 'x')")
        .await;
    suite(&database, 100, json!({ "table": "p" })).await;
    let source = open(&database, json!({ "table": "p" })).await;
    let names: Vec<_> = source.splits().await.unwrap().iter().map(|split| split.id.to_string()).collect();
    assert_eq!(names, ["public.p1#0", "public.p2a#0", "public.p2b#0"]);
    let all = whole(&open(&database, json!({ "table": "parent" })).await).await;
    assert_eq!(all.iter().map(|(_, batches)| numbers(batches)).collect::<Vec<_>>(), [vec![1], vec![2]]);
}

#[tokio::test]
async fn a_large_table_is_several_ranges_and_all_see_one_state() {
    let database = Database::new();
    // One row a page.
    database
        .sql(
            "CREATE TABLE large (id bigint, pad text); ALTER TABLE large ALTER pad SET STORAGE PLAIN; \
              INSERT INTO large SELECT g, repeat('x', 4200) FROM generate_series(1, 8200) g",
        )
        .await;
    let source = open(&database, json!({ "table": "large" })).await;
    let splits = source.splits().await.unwrap();
    let sizes: Vec<_> =
        splits.iter().map(|split| (split.id.to_string(), split.source_bytes.unwrap() / 8192)).collect();
    assert_eq!(sizes, [("public.large#0".to_owned(), 8192), ("public.large#1".to_owned(), 8)]);
    database.sql("INSERT INTO large VALUES (0, ''); DELETE FROM large WHERE id = 8199; UPDATE large SET id = -1 WHERE id = 1").await;
    let mut found = Vec::new();
    let mut bytes = 0;
    for split in splits.iter().rev() {
        let mut reader = source.open(&split.id, None).await.unwrap();
        let batches = rest(reader.as_mut(), ReadLimit { records_max: 1000, bytes_max: 1 << 26 }).await;
        assert!(batches.iter().all(|batch| batch.records.num_rows() <= 1000));
        bytes += batches.iter().map(|batch| batch.source_bytes).sum::<u64>();
        found.extend(numbers(&batches));
    }
    found.sort_unstable();
    assert_eq!(
        found,
        (1..=8200).collect::<Vec<i64>>(),
        "what changed after the splits were listed is not seen"
    );
    assert!(bytes.abs_diff(8200 * 8192) <= 2 * 8192, "{bytes}");
    // The next run reads on behind the last row of each range, as things stand then.
    let source = open(&database, json!({ "table": "large" })).await;
    let split = &source.splits().await.unwrap()[1];
    assert_eq!(split.id, splits[1].id);
}

#[tokio::test]
async fn a_later_run_reads_what_was_added() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 10)").await;
    let source = open(&database, json!({ "table": "t" })).await;
    let last = behind(&source, None).await.pop().unwrap().through;
    assert_eq!(source.describe(&last), "behind record 10, page 0 row 10");
    database.sql("INSERT INTO t SELECT generate_series(11, 13)").await;
    let more = behind(&open(&database, json!({ "table": "t" })).await, Some(&last)).await;
    assert_eq!((numbers(&more), more[0].ordinals.of(0)), (vec![11, 12, 13], 10));
}

#[tokio::test]
async fn a_table_that_was_written_anew_stops_the_run() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 10)").await;
    let source = open(&database, json!({ "table": "t" })).await;
    let last = behind(&source, None).await.pop().unwrap().through;
    let split = source.splits().await.unwrap().remove(0).id;
    drop(source);
    for rewrite in ["VACUUM FULL t", "TRUNCATE t"] {
        database.sql(rewrite).await;
        let source = open(&database, json!({ "table": "t" })).await;
        let error = source.open(&split, Some(&last)).await.err().expect(rewrite);
        assert_eq!(error.fault.code().to_string(), "HX0534", "{rewrite}");
    }
}

#[tokio::test]
async fn while_a_run_lives_its_table_is_not_written_anew() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id bigint); INSERT INTO t VALUES (1)").await;
    let source = open(&database, json!({ "table": "t" })).await;
    source.splits().await.unwrap();
    let client = database.client().await;
    client.batch_execute("SET lock_timeout = 100").await.unwrap();
    assert!(client.batch_execute("TRUNCATE t").await.is_err());
    drop(source);
    client.batch_execute("SET lock_timeout = 60000; TRUNCATE t").await.unwrap();
}

#[tokio::test]
async fn nobody_waits_in_a_circle_with_whoever_alters_the_table() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id bigint); INSERT INTO t VALUES (1)").await;
    let source = open(&database, json!({ "table": "t" })).await;
    let split = source.splits().await.unwrap().remove(0).id;
    let client = database.client().await;
    let altering = tokio::spawn(async move { client.batch_execute("ALTER TABLE t ADD more int").await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER%' \
                   AND datname = current_database()";
    while database.count(waiting).await == 0 {}
    let error = source.open(&split, None).await.err().expect("a reader overtook who waited before it");
    assert_eq!(error.kind, hapax_engine::fault::SourceErrorKind::Unavailable, "{error}");
    drop(source);
    altering.await.unwrap().unwrap();
}

#[tokio::test]
async fn views_and_queries_are_read_by_a_key_or_by_number() {
    let database = Database::new();
    database.sql(HOLES).await;
    database.sql("CREATE VIEW v AS SELECT id, pad, id / 10 AS ten FROM t").await;
    let by_key = [
        json!({ "table": "v", "key": ["id"] }),
        json!({ "query": "SELECT id, pad, (id / 10)::text AS ten FROM t -- all\n;", "key": ["ten", "id"] }),
    ];
    for keys in by_key {
        suite(&database, 343, keys.clone()).await;
        assert_eq!(open(&database, keys).await.facts().replay, Replay::Exact);
    }
    for keys in [json!({ "table": "v" }), json!({ "query": "SELECT id FROM t ORDER BY id DESC" })] {
        suite(&database, 343, keys.clone()).await;
        assert_eq!(open(&database, keys).await.facts().replay, Replay::Unidentified);
    }
    let source = open(&database, json!({ "table": "v", "key": ["ten"] })).await;
    let split = source.splits().await.unwrap().remove(0).id;
    // Whatever the size of a batch: none may end between two rows of one key.
    for records_max in [1, 2, 3, 1000] {
        let mut reader = source.open(&split, None).await.unwrap();
        let error = reader.read(ReadLimit { records_max, bytes_max: 1 << 20 }).await.unwrap_err();
        assert_eq!(error.fault.code().to_string(), "HX0537", "{records_max}");
    }
}
