//! What is refused, and how it is said: each mistake its own code, and nothing moved.
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

use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit};
use hapax_conformance::proxy::{Failure, Proxy};
use hapax_conformance::server;
use hapax_engine::batch::ReadLimit;
use hapax_engine::fault::SinkErrorKind;
use hapax_engine::source::Source;
use hapax_mysql::codes;
use hapax_mysql::source::Mysql;
use hapax_protocol::code::Code;
use scene::Scene;
use scene::pen::{self, numbered, ready, shape};

async fn opened(url: &str, settings: serde_json::Value) -> Result<Mysql, Code> {
    let mut config = serde_json::json!({ "url": url });
    config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let opened = Mysql::open(serde_json::from_value(config).unwrap()).await;
    opened.map_err(|error| {
        assert!(!error.to_string().contains("secret"), "{error}");
        error.fault.code()
    })
}

async fn prepared(url: &str, table: &str, write: &str, schema: Schema, key: &[&str]) -> Result<(), Code> {
    let of = |error: hapax_engine::fault::SinkError| error.fault.code();
    let sink = pen::open(url, table, write).await.map_err(of)?;
    let shape = shape(schema.into(), key);
    let checked = sink.check(&shape).await.map(|_| ()).map_err(of);
    let prepared = sink.prepare(&shape).await.map_err(of);
    assert_eq!(checked, prepared, "{table}: what is refused is not what would be refused");
    prepared
}

fn people() -> Schema {
    pen::schema().as_ref().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_cannot_be_made_says_why() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run("d", "CREATE TABLE t(id BIGINT PRIMARY KEY)");
    let table = serde_json::json!({ "table": "t" });
    let code = async |url: String| opened(&url, table.clone()).await.map(|_| ());
    let user = format!("{}_u", scene.name("d").replace("hapax_", "h"));
    scene.run("d", &format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secret/1'"));
    let place = server::mysql().trim_end_matches('/').rsplit('@').next().unwrap().to_owned();
    let database = scene.name("d");
    let as_user = |password: &str, database: &str| format!("mysql://{user}:{password}@{place}/{database}");
    assert_eq!(code("mysql://h".to_owned()).await, Err(codes::BAD_URL));
    assert_eq!(code(as_user("secret-wrong", &database)).await, Err(codes::WRONG_PASSWORD));
    assert_eq!(code(url.replace(&database, "hapax_none_such")).await, Err(codes::NO_DATABASE));
    // Of a database that it may not know, a user is not told whether it is there.
    assert_eq!(code(as_user("secret%2F1", &database)).await, Err(codes::DENIED));
    assert_eq!(code("mysql://u:secret@127.0.0.1:1/d".to_owned()).await, Err(codes::GONE));
    assert_eq!(code(format!("{url}?ssl-mode=disabled")).await, Ok(()));
    scene.run("d", &format!("GRANT SELECT ON {database}.* TO '{user}'@'%'"));
    assert_eq!(code(as_user("secret%2F1", &database)).await, Ok(()));
    let sink = pen::open(&as_user("secret%2F1", &database), "new", "append").await.unwrap();
    let denied = sink.prepare(&shape(pen::schema(), &[])).await.unwrap_err();
    assert_eq!(denied.fault.code(), codes::DENIED, "{denied}");
    scene.run("d", &format!("DROP USER '{user}'@'%'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_may_come_back() {
    let scene = Scene::new();
    let url = scene.database("d");
    let place = server::mysql().trim_end_matches('/').rsplit('@').next().unwrap().to_owned();
    let proxy = Proxy::before(place.clone()).await;
    let through = url.replace(&place, &format!("127.0.0.1:{}", proxy.port()));
    let (_, lease, mut writer, stood) = ready(&through, "t", "append", &shape(pen::schema(), &[])).await;
    writer.write(&numbered(0..10)).await.unwrap();
    proxy.fail(Failure::Gone);
    let error = writer.write(&numbered(10..20)).await.map(|_| ()).unwrap_err();
    assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Unavailable, codes::GONE), "{error}");
    // Whoever tries again waits between two attempts, for as long as the file says.
    let error = writer.take_over(&lease).await.unwrap_err();
    assert_eq!((error.kind, error.fault.code()), (SinkErrorKind::Unavailable, codes::GONE), "{error}");
    proxy.heal();
    assert_eq!(writer.take_over(&lease).await.unwrap(), stood);
    assert_eq!(scene.numbers("d", "SELECT count(*) FROM t"), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_does_not_fit_is_refused_before_anything_moves() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        "CREATE TABLE base(id BIGINT PRIMARY KEY, name VARCHAR(9)); CREATE VIEW v AS SELECT * FROM base;
         CREATE TABLE isam(id BIGINT, name VARCHAR(9)) ENGINE = MyISAM;
         CREATE TABLE narrow(id BIGINT PRIMARY KEY);
         CREATE TABLE demands(id BIGINT, name VARCHAR(9), more INT NOT NULL);
         CREATE TABLE typed(id BIGINT, name INT);
         CREATE TABLE makes(id BIGINT, name VARCHAR(9) AS ('x'));
         CREATE TABLE loose(id BIGINT, name VARCHAR(9));
         CREATE TABLE twice(id BIGINT PRIMARY KEY, name VARCHAR(9) UNIQUE);
         CREATE TABLE counted(number INT PRIMARY KEY AUTO_INCREMENT, id BIGINT UNIQUE, name VARCHAR(9))",
    );
    let id = ["id"];
    for (table, write, key, expected) in [
        ("base", "upsert", &id[..], Ok(())),
        ("counted", "upsert", &id, Ok(())),
        ("v", "append", &[], Err(codes::NOT_A_TABLE)),
        ("isam", "append", &[], Err(codes::ENGINE)),
        ("narrow", "append", &[], Err(codes::COLUMN_MISSING)),
        ("demands", "append", &[], Err(codes::COLUMN_DEMANDED)),
        ("typed", "append", &[], Err(codes::COLUMN_TYPE)),
        ("makes", "append", &[], Err(codes::COLUMN_TYPE)),
        ("loose", "upsert", &id, Err(codes::NO_UNIQUE_INDEX)),
        ("twice", "upsert", &id, Err(codes::SEVERAL_KEYS)),
        ("twice", "ignore", &id, Err(codes::SEVERAL_KEYS)),
        ("twice", "append", &id, Ok(())),
        ("base", "upsert", &[], Err(codes::NO_KEY)),
        ("base", "upsert", &["nobody"], Err(codes::NO_KEY)),
    ] {
        assert_eq!(prepared(&url, table, write, people(), key).await, expected, "{table} {write}");
    }
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let interval = Schema::new(vec![field("i", DataType::Interval(IntervalUnit::MonthDayNano))]);
    assert_eq!(prepared(&url, "new", "append", interval, &[]).await, Err(codes::TYPE_UNHELD));
    let same = Schema::new(vec![field("a", DataType::Int64), field("A", DataType::Int64)]);
    assert_eq!(prepared(&url, "new", "append", same, &[]).await, Err(codes::NAME));
    let naive = Schema::new(vec![field("at", DataType::Timestamp(TimeUnit::Microsecond, None))]);
    scene.run("d", "CREATE TABLE zoned(at TIMESTAMP(6) NULL)");
    assert_eq!(prepared(&url, "zoned", "append", naive, &[]).await, Err(codes::COLUMN_TYPE));
    scene.run("d", "ALTER TABLE _hapax_ledger ENGINE = MyISAM");
    assert_eq!(prepared(&url, "base", "append", people(), &[]).await, Err(codes::ENGINE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_read_as_asked_is_refused() {
    let scene = Scene::new();
    let url = scene.database("d");
    scene.run(
        "d",
        "CREATE TABLE t(id INT PRIMARY KEY, at TIMESTAMP NULL, local DATETIME, n INT); INSERT INTO t VALUES (1, NULL, NULL, 1)",
    );
    let incremental = |cursor: &str, more: serde_json::Value| {
        let mut settings = serde_json::json!({ "table": "t", "read": "incremental", "cursor": cursor });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    };
    let by = |who: &str| serde_json::json!({ "cursor_set_by": who });
    for (settings, expected) in [
        (serde_json::json!({ "table": "none" }), codes::NO_TABLE),
        (serde_json::json!({}), codes::CONFIG),
        (serde_json::json!({ "query": "SELECT 1 AS a, 2 AS a" }), codes::BAD_QUERY),
        (serde_json::json!({ "query": "DELETE FROM t" }), codes::BAD_QUERY),
        (serde_json::json!({ "query": "SELECT ? AS a" }), codes::BAD_QUERY),
        (serde_json::json!({ "table": "t", "schema": { "id": "number" } }), codes::NO_TYPE),
        (serde_json::json!({ "table": "t", "schema": { "none": "int64" } }), codes::NO_COLUMN),
        (incremental("none", by("database")), codes::NO_COLUMN),
        (incremental("at", by("database")), codes::NULL_CURSOR),
        (incremental("n", by("database")), codes::NO_HORIZON),
        (incremental("n", serde_json::json!({})), codes::NO_HORIZON),
        (serde_json::json!({ "table": "t", "read": "incremental" }), codes::CONFIG),
    ] {
        assert_eq!(opened(&url, settings.clone()).await.map(|_| ()), Err(expected), "{settings}");
    }
    scene.run("d", "UPDATE t SET at = '2024-01-01', local = '2024-01-01'");
    for (settings, expected) in [
        (incremental("at", serde_json::json!({})), Err(codes::CONFIG)),
        (incremental("at", by("application")), Err(codes::CONFIG)),
        (incremental("local", by("database")), Err(codes::NO_HORIZON)),
        (incremental("at", by("database")), Ok(())),
        (
            incremental("local", serde_json::json!({ "cursor_set_by": "application", "lateness": "5m" })),
            Ok(()),
        ),
    ] {
        assert_eq!(opened(&url, settings.clone()).await.map(|_| ()), expected, "{settings}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_the_documented_privileges_is_enough() {
    let scene = Scene::new();
    scene.database("d");
    let database = scene.name("d");
    let user = format!("{}_r", database.replace("hapax_", "h"));
    let place = server::mysql().trim_end_matches('/').rsplit('@').next().unwrap().to_owned();
    let url = format!("mysql://{user}:secret@{place}/{database}");
    scene.run("d", &format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secret'"));
    scene.run("d", &format!("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON {database}.* TO '{user}'@'%'"));
    // A name that tries to end its quotes.
    let table = "a`; DROP TABLE x; --";
    let (_, _, mut writer, stood) = ready(&url, table, "upsert", &shape(pen::schema(), &["id"])).await;
    assert_eq!(writer.write(&numbered(0..10)).await.unwrap(), []);
    writer.commit(&pen::next(&stood, 1)).await.unwrap();
    // Once the tables are there.
    scene.run("d", &format!("REVOKE CREATE ON {database}.* FROM '{user}'@'%'"));
    let (_, _, mut writer, stood) = ready(&url, table, "upsert", &shape(pen::schema(), &["id"])).await;
    writer.commit(&pen::next(&stood, 2)).await.unwrap();
    // A stalled holder of the same user can be ended, too.
    writer.write(&numbered(10..20)).await.unwrap();
    let (_, _, _next, _) = ready(&url, table, "upsert", &shape(pen::schema(), &["id"])).await;
    let source = opened(&url, serde_json::json!({ "table": table })).await.unwrap();
    let split = source.splits().await.unwrap().remove(0).id;
    let mut reader = source.open(&split, None).await.unwrap();
    let limit = ReadLimit { records_max: 100, bytes_max: 1 << 20 };
    assert_eq!(reader.read(limit).await.unwrap().unwrap().records.num_rows(), 10);
    // What others have open can be seen only with a privilege of its own.
    scene.run("d", "CREATE TABLE s(id INT PRIMARY KEY, at TIMESTAMP(6) NOT NULL)");
    let tail = serde_json::json!({
        "table": "s", "read": "incremental", "cursor": "at", "cursor_set_by": "database",
    });
    assert_eq!(opened(&url, tail.clone()).await.map(|_| ()), Err(codes::NO_HORIZON));
    scene.run("d", &format!("GRANT PROCESS ON *.* TO '{user}'@'%'"));
    assert_eq!(opened(&url, tail).await.map(|_| ()), Ok(()));
    scene.run("d", &format!("DROP USER '{user}'@'%'"));
}
