//! What is refused, and names that are dangerous.

use hapax_engine::source::Source;
use hapax_protocol::position::{Position, SplitId};
use serde_json::json;

use crate::kit::Database;
use crate::reading::{behind, numbers, open, passed, refused, suite, try_open};

#[tokio::test]
async fn mistakes_have_their_own_error() {
    let database = Database::new();
    database
        .sql("CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz, plain timestamp, n int, state text); \
              CREATE TABLE bare (id bigint, at timestamptz NOT NULL); CREATE TABLE keyed (id bigint PRIMARY KEY, at timestamptz); \
              INSERT INTO keyed VALUES (1, NULL); CREATE TABLE rounded (id bigint PRIMARY KEY, at timestamptz(0)); CREATE TABLE parts (id bigint PRIMARY KEY, at timestamptz) PARTITION BY LIST (id)")
        .await;
    let url = database.url();
    for (keys, code) in [
        (json!({}), "HX0530"),
        (json!({ "table": "t", "query": "SELECT 1" }), "HX0530"),
        (json!({ "table": "t", "cursor": "at" }), "HX0530"),
        (json!({ "table": "t", "read": "incremental" }), "HX0530"),
        (json!({ "table": "t", "read": "incremental", "cursor": "at" }), "HX0530"),
        (
            json!({ "table": "t", "read": "incremental", "cursor": "at", "cursor_set_by": "application" }),
            "HX0530",
        ),
        (
            json!({ "table": "t", "read": "incremental", "cursor": "at", "cursor_set_by": "application", "lateness": "5" }),
            "HX0530",
        ),
        (json!({ "table": "t", "read": "marked" }), "HX0530"),
        (json!({ "table": "parts", "read": "marked", "mark": "at" }), "HX0530"),
        (json!({ "table": "T" }), "HX0525"),
        (json!({ "table": "elsewhere.t" }), "HX0525"),
        (json!({ "table": "keyed_pkey" }), "HX0525"),
        (
            json!({ "table": "t", "read": "incremental", "cursor": "att", "cursor_set_by": "database" }),
            "HX0531",
        ),
        (json!({ "query": "SELECT 1 AS a", "key": ["b"] }), "HX0531"),
        (json!({ "table": "t", "read": "marked", "mark": "done" }), "HX0531"),
        (
            json!({ "table": "keyed", "read": "incremental", "cursor": "at", "cursor_set_by": "database" }),
            "HX0532",
        ),
        (json!({ "query": "SELEC 1" }), "HX0536"),
        (json!({ "query": "SELECT 1 AS a, 2 AS a" }), "HX0536"),
        (json!({ "query": "SELECT 1; DROP TABLE t" }), "HX0536"),
        (json!({ "query": "SELECT * FROM t WHERE id = $1" }), "HX0536"),
        (json!({ "query": "DELETE FROM t RETURNING *" }), "HX0536"),
        (
            json!({ "table": "bare", "read": "incremental", "cursor": "at", "cursor_set_by": "database" }),
            "HX0539",
        ),
        (json!({ "table": "bare", "read": "marked", "mark": "at" }), "HX0539"),
        (
            json!({ "table": "t", "read": "incremental", "cursor": "plain", "cursor_set_by": "database" }),
            "HX0540",
        ),
        (
            json!({ "table": "rounded", "read": "incremental", "cursor": "at", "cursor_set_by": "database" }),
            "HX0540",
        ),
        (json!({ "table": "t", "read": "incremental", "cursor": "id" }), "HX0540"),
        (json!({ "table": "t", "read": "marked", "mark": "state" }), "HX0540"),
        (json!({ "table": "t", "read": "marked", "mark": "n" }), "HX0540"),
    ] {
        assert_eq!(refused(&url, keys.clone()).await, code, "{keys}");
    }
    assert!(database.count("SELECT count(*) FROM t").await == 0);
}

#[tokio::test]
async fn a_position_of_another_reading_is_refused() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let source = open(&database, json!({ "table": "t" })).await;
    let through = behind(&source, None).await.pop().unwrap().through;
    let query = open(&database, json!({ "query": "SELECT id FROM t", "key": ["id"] })).await;
    let split = source.splits().await.unwrap().remove(0).id;
    let code =
        async |source: &hapax_postgres::source::Postgres, split: &SplitId, after: Option<&Position>| {
            source.open(split, after).await.err().unwrap().fault.code().to_string()
        };
    assert_eq!(code(&query, &SplitId::new("query"), Some(&through)).await, "HX0533");
    assert_eq!(code(&source, &split, Some(&Position::new([7].as_slice()))).await, "HX0533");
    assert_eq!(code(&source, &SplitId::new("public.u#0"), None).await, "HX0533");
}

#[tokio::test]
async fn bytes_of_one_type_are_not_taken_for_another() {
    let database = Database::new();
    database.sql("CREATE TABLE t (id bigint PRIMARY KEY, n bigint, at timestamptz NOT NULL DEFAULT now(), done timestamptz)").await;
    database.sql("INSERT INTO t VALUES (1, 5)").await;
    let sources = [
        open(&database, json!({ "table": "t" })).await,
        open(
            &database,
            json!({ "table": "t", "read": "incremental", "cursor": "at", "cursor_set_by": "database" }),
        )
        .await,
        open(&database, json!({ "table": "t", "read": "marked", "mark": "done" })).await,
    ];
    database.sql("ALTER TABLE t ALTER n TYPE timestamptz USING to_timestamp(n)").await;
    for source in sources {
        let split = source.splits().await.unwrap().remove(0).id;
        let error = match source.open(&split, None).await {
            Err(error) => error,
            Ok(mut reader) => reader.read(crate::reading::WIDE).await.unwrap_err(),
        };
        assert_eq!(error.fault.code().to_string(), "HX0547");
    }
}

#[tokio::test]
async fn a_table_with_a_dangerous_name_is_only_a_table() {
    let database = Database::new();
    database
        .sql(r#"CREATE TABLE x (id int); CREATE SCHEMA "s'.""; --";
                CREATE TABLE "s'.""; --"."""; DROP TABLE x; --" ("id"";'" bigint PRIMARY KEY, "a'\ b" text, "at""" timestamptz NOT NULL DEFAULT now());
                INSERT INTO "s'.""; --"."""; DROP TABLE x; --" VALUES (1, 'a\'' ''"'), (2, NULL)"#)
        .await;
    let table = r#""s'.""; --"."""; DROP TABLE x; --""#;
    suite(&database, 2, json!({ "table": table })).await;
    let keys =
        json!({ "table": table, "read": "incremental", "cursor": "at\"", "cursor_set_by": "database" });
    assert_eq!(numbers(&behind(&open(&database, keys).await, None).await), [1, 2]);
    let keys = json!({ "query": format!("SELECT * FROM {table}"), "key": ["a'\\ b", "id\";'"] });
    let source = open(&database, keys).await;
    let error = source.open(&SplitId::new("query"), None).await.unwrap().read(crate::reading::WIDE).await;
    assert_eq!(error.unwrap_err().fault.code().to_string(), "HX0532", "a key that is NULL");
    assert_eq!(database.count("SELECT count(*) FROM x").await, 0, "x is still there");
}

#[tokio::test]
async fn a_role_that_may_only_read_is_enough() {
    let database = Database::new();
    let role = format!("{}_reader", database.name());
    database
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'reads'; CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO {role}; \
             CREATE TABLE shop.t (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), xid xid8 NOT NULL DEFAULT pg_current_xact_id()); \
             INSERT INTO shop.t SELECT generate_series(1, 5); CREATE TABLE shop.hidden (id bigint)"
        ))
        .await;
    let url = database.url_as(&role, "reads");
    let denied = async |keys| {
        let source = match try_open(&url, keys).await {
            Err(error) => return error.fault.code().to_string(),
            Ok(source) => source,
        };
        source.splits().await.unwrap_err().fault.code().to_string()
    };
    assert_eq!(denied(json!({ "table": "shop.hidden" })).await, "HX0507");
    assert_eq!(denied(json!({ "query": "SELECT * FROM shop.hidden" })).await, "HX0507");
    database.sql(&format!("GRANT SELECT ON shop.t TO {role}")).await;
    passed(&database, "shop.t", 0).await;
    let by_xid = json!({ "table": "shop.t", "read": "incremental", "cursor": "xid" });
    for keys in [json!({ "table": "shop.t" }), by_xid] {
        let source = try_open(&url, keys).await.unwrap();
        assert_eq!(numbers(&behind(&source, None).await), [1, 2, 3, 4, 5]);
    }
    let by_clock =
        json!({ "table": "shop.t", "read": "incremental", "cursor": "at", "cursor_set_by": "database" });
    let error = try_open(&url, by_clock.clone()).await.err().unwrap();
    assert_eq!(error.fault.code().to_string(), "HX0542");
    let grant = error.fault.help();
    let grant = grant.strip_prefix("Run `").unwrap().strip_suffix("`.").unwrap();
    database.sql(grant).await;
    let source = try_open(&url, by_clock).await.unwrap();
    assert_eq!(numbers(&behind(&source, None).await), [1, 2, 3, 4, 5]);
    drop(source);
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
