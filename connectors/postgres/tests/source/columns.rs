//! Every type: what is read of it, and what cannot be.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hapax_engine::batch::ReadLimit;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::source::Source;
use hapax_protocol::identity::Place;
use serde_json::json;

use crate::kit::Database;
use crate::reading::{behind, open, suite};

/// Type, a value in SQL, and how the value reads in Arrow.
const VALUES: &[(&str, &str, &str)] = &[
    ("bool", "true", "true"),
    ("int2", "-32768", "-32768"),
    ("int4", "2147483647", "2147483647"),
    ("int8", "-9223372036854775808", "-9223372036854775808"),
    ("float4", "0.1", "0.1"),
    ("float8", "'NaN'", "NaN"),
    ("float8", "'-Infinity'", "-inf"),
    ("numeric(12,2)", "-0.10", "-0.10"),
    (
        "numeric(38,10)",
        "'-9999999999999999999999999999.9999999999'",
        "-9999999999999999999999999999.9999999999",
    ),
    (
        "numeric(50,1)",
        "'1234567890123456789012345678901234567890.5'",
        "1234567890123456789012345678901234567890.5",
    ),
    ("numeric(3,-2)", "12345", "12300"),
    ("numeric(3,5)", "0.00123", "0.00123"),
    (
        "numeric",
        "'123456789012345678901234567890123456789012345678901234567890.0001000'",
        "123456789012345678901234567890123456789012345678901234567890.0001000",
    ),
    ("numeric", "'NaN'", "NaN"),
    ("text", "E'ünïcödé \\U0001F980\\nnext'", "ünïcödé \u{1F980}\nnext"),
    ("varchar(10)", "'abc'", "abc"),
    ("char(5)", "'abc'", "abc  "),
    ("name", "'abc'", "abc"),
    ("bytea", "'\\x00ff10'", "00ff10"),
    ("date", "'0044-03-15 BC'", "-0043-03-15"),
    ("date", "'2024-02-29'", "2024-02-29"),
    ("time", "'23:59:59.999999'", "23:59:59.999999"),
    ("timetz", "'12:00:00+02'", "12:00:00+02"),
    ("timestamp", "'2013-01-01 05:00:00.000001'", "2013-01-01T05:00:00.000001"),
    ("timestamptz", "'2013-01-01 05:00:00+02'", "2013-01-01T03:00:00Z"),
    ("timestamptz", "'1900-01-01 00:00:00+00'", "1900-01-01T00:00:00Z"),
    (
        "interval",
        "'1 year 2 mons -3 days 04:05:06.000007'",
        "14 mons -3 days 4 hours 5 mins 6.000007000 secs",
    ),
    ("json", "'{\"b\": 1,  \"a\": null}'", "{\"b\": 1,  \"a\": null}"),
    ("jsonb", "'{\"b\": 1, \"a\": [1.10]}'", "{\"a\": [1.10], \"b\": 1}"),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("mood", "'so so'", "so so"),
    ("inet", "'10.1.2.3/8'", "10.1.2.3/8"),
    ("point", "'(1,2.5)'", "(1,2.5)"),
    ("int4range", "'[1,5)'", "[1,5)"),
    ("bit(4)", "B'1010'", "1010"),
    ("xid8", "'12345678901'", "12345678901"),
    ("pair", "ROW(1,'x y')", "(1,\"x y\")"),
    ("amount", "1.10", "1.10"),
    ("int4[]", "'{1,NULL,3}'", "[1, , 3]"),
    ("text[]", "'{}'", "[]"),
    ("text[]", "'{\"a,b\",\"\"}'", "[a,b, ]"),
    ("numeric(5,2)[]", "'{1.1,-2}'", "[1.10, -2.00]"),
    ("timestamptz[]", "'{2013-01-01 05:00:00+02}'", "[2013-01-01T03:00:00Z]"),
    ("inet[]", "'{10.1.2.3,::1}'", "{10.1.2.3,::1}"),
    ("tsvector", "'a:1 b:2'", "'a':1 'b':2"),
];

const TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'so so'); CREATE TYPE pair AS (a int, b text); \
                     CREATE DOMAIN amount AS numeric(6,2) CHECK (VALUE > 0)";

#[tokio::test]
async fn every_type_is_read_as_it_is() {
    let database = Database::new();
    database.sql(TYPES).await;
    let columns: Vec<_> = VALUES.iter().enumerate().map(|(n, (of, ..))| format!("c{n} {of}")).collect();
    let values: Vec<_> = VALUES.iter().map(|(of, value, _)| format!("CAST({value} AS {of})")).collect();
    database
        .sql(&format!(
            "CREATE TABLE every (id bigint PRIMARY KEY, {}); INSERT INTO every VALUES (1, {}); INSERT INTO every VALUES (2)",
            columns.join(", "),
            values.join(", ")
        ))
        .await;
    for keys in [json!({ "table": "every" }), json!({ "query": "SELECT * FROM every ORDER BY id" })] {
        let source = open(&database, keys.clone()).await;
        let batches = behind(&source, None).await;
        assert_eq!(batches.len(), 1);
        let records = &batches[0].records;
        assert_eq!((records.num_rows(), batches[0].rejected.len()), (2, 0));
        assert_eq!(records.schema(), source.schema());
        for (n, (of, value, wanted)) in VALUES.iter().enumerate() {
            let array = records.column(n + 1);
            let found =
                ArrayFormatter::try_new(array, &FormatOptions::default()).unwrap().value(0).to_string();
            assert_eq!(found, *wanted, "{value}::{of} in {keys}");
            assert!(array.is_null(1), "NULL::{of}");
        }
        suite(&database, 2, keys).await;
    }
}

#[tokio::test]
async fn the_columns_say_what_they_are() {
    let database = Database::new();
    database.sql(TYPES).await;
    let of = "a numeric(12,2), b timestamptz, c interval, d amount, e numeric(5,2)[] NOT NULL, f numeric(60,3), g mood";
    database.sql(&format!("CREATE TABLE kinds ({of})")).await;
    let schema = open(&database, json!({ "table": "public.kinds" })).await.schema();
    let names: Vec<_> =
        schema.fields().iter().map(|field| field.metadata()["hapax:postgres"].as_str()).collect();
    let wanted = [
        "numeric(12,2)",
        "timestamp with time zone",
        "interval",
        "amount",
        "numeric(5,2)[]",
        "numeric(60,3)",
        "mood",
    ];
    assert_eq!(names, wanted);
    let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(
        types[..4],
        [
            DataType::Decimal128(12, 2),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Interval(IntervalUnit::MonthDayNano),
            DataType::Decimal128(6, 2),
        ]
    );
    assert_eq!(types[5], DataType::Decimal256(60, 3));
    assert!(!schema.field(4).is_nullable() && schema.field(0).is_nullable());
}

#[tokio::test]
async fn what_arrow_cannot_say_is_set_aside_and_read_again() {
    let database = Database::new();
    database
        .sql("CREATE TABLE odd (id bigint PRIMARY KEY, day date NOT NULL, at timestamptz, amount numeric(8,2), raw bytea, \
              grid int[], flags bool[], doc jsonb, wide int8)")
        .await;
    database
        .sql("INSERT INTO odd VALUES (1, '2024-01-01'), (2, 'infinity'), (3, '2024-01-03'); \
              INSERT INTO odd VALUES (4, '2024-01-04', '-infinity', -1.50, '\\x00ff', '{1,2}', '{t,NULL,f}', '{\"a\":[1]}', 9007199254740993); \
              INSERT INTO odd VALUES (5, '2024-01-05', NULL, 'NaN', NULL, NULL), (6, '2024-01-06', NULL, NULL, NULL, '{{1,2},{3,4}}'), \
              (7, '2024-01-07', NULL, NULL, NULL, '[0:1]={1,2}')")
        .await;
    let keys = json!({ "table": "odd" });
    suite(&database, 7, keys.clone()).await;
    let source = open(&database, keys).await;
    let batches = behind(&source, None).await;
    let batch = &batches[0];
    assert_eq!((0..batch.records.num_rows()).map(|row| batch.ordinals.of(row)).collect::<Vec<_>>(), [0, 2]);
    let ordinals: Vec<_> = batch.rejected.iter().map(|rejected| rejected.ordinal).collect();
    assert_eq!(ordinals, [1, 3, 4, 5, 6]);
    for (rejected, words) in
        batch.rejected.iter().zip(["infinity", "-infinity", "NaN", "dimension", "count from 1"])
    {
        assert!(rejected.reason.contains(words), "{}", rejected.reason);
        assert!(source.rejects_with(rejected.code));
    }
    let letter = |index: usize| DeadLetter {
        place: Place { split: batch.split.clone(), ordinal: batch.rejected[index].ordinal },
        code: batch.rejected[index].code,
        reason: String::new(),
        raw: batch.rejected[index].raw.clone(),
        set_aside_unix_ms: 0,
    };
    // As long as nobody mends it, it stays what it is.
    assert!(source.reread(&letter(0)).await.unwrap_err().to_string().contains("infinity"));
    database.sql("UPDATE odd SET day = '2024-01-02' WHERE id = 2").await;
    assert_eq!(source.reread(&letter(0)).await.unwrap().num_rows(), 1);
    // A row that is gone is read as it was set aside: here by another value of the letter's own.
    database.sql("DELETE FROM odd WHERE id = 4").await;
    let mut gone = letter(1);
    gone.raw = gone.raw.replace("-infinity", "2024-01-04 00:00:00+00");
    let read = source.reread(&gone).await.unwrap();
    let shown: Vec<_> = (0..read.num_columns())
        .map(|n| {
            ArrayFormatter::try_new(read.column(n), &FormatOptions::default()).unwrap().value(0).to_string()
        })
        .collect();
    let wanted = [
        "4",
        "2024-01-04",
        "2024-01-04T00:00:00Z",
        "-1.50",
        "00ff",
        "[1, 2]",
        "[true, , false]",
        "{\"a\": [1]}",
        "9007199254740993",
    ];
    assert_eq!(shown, wanted);
    gone.raw = "[1]".to_owned();
    assert_eq!(source.reread(&gone).await.unwrap_err().fault.code().to_string(), "HX0538");
}

/// Values as the server writes them, for what is written by Hapax itself: positions, dead letters, numbers as text.
const WRITTEN: &str = "\
    SELECT setseed(0.5); \
    CREATE TABLE written AS SELECT g AS id, \
      trunc((random() - 0.5)::numeric * 10::numeric ^ (g % 40 - 20), g % 25) AS n, \
      (random() - 0.5) * 10::float8 ^ (g % 300 - 150) AS f, ((random() - 0.5) * 10::float8 ^ (g % 30 - 15))::float4 AS r, \
      date '4713-01-01 BC' + (g * 9973) % 3000000 AS d, \
      timestamptz '4713-01-02 BC' + (g * 7919) % 5000 * interval '1 year 3 hours 0.000001 seconds' AS z, \
      timestamp '0001-01-01' + (g - 200) * interval '1 day 1.5 seconds' AS p, \
      time '00:00' + g * interval '61.000001 seconds' AS t, gen_random_uuid() AS u, g % 2 = 0 AS b, \
      decode(md5(g::text), 'hex') AS h FROM generate_series(1, 400) g";

#[tokio::test]
async fn what_is_written_here_is_what_the_server_writes() {
    let database = Database::new();
    database.sql(WRITTEN).await;
    let query = "SELECT n, n::text AS m, u, u::text AS v FROM written";
    let batches = behind(&open(&database, json!({ "query": query })).await, None).await;
    let text = |column: usize| batches[0].records.column(column).to_data();
    assert_eq!((text(0), text(2)), (text(1), text(3)));
    for column in ["n", "f", "r", "d", "z", "p", "t", "u", "b", "h"] {
        let query = format!("SELECT {column}, id, {column}::text AS text FROM written");
        let source = open(&database, json!({ "query": query, "key": [column, "id"] })).await;
        let split = source.splits().await.unwrap().remove(0).id;
        let mut reader = source.open(&split, None).await.unwrap();
        let one = ReadLimit { records_max: 1, bytes_max: 1 << 20 };
        while let Some(batch) = reader.read(one).await.unwrap() {
            let written = batch.records.column(2).as_string::<i32>().value(0);
            let said = source.describe(&batch.through);
            let value = said.split_once(&format!(", {column} ")).unwrap().1.rsplit_once(", id ").unwrap().0;
            let same = match column {
                // The shortest digits have several forms.
                "f" => value.parse::<f64>() == written.parse::<f64>(),
                "r" => value.parse::<f32>() == written.parse::<f32>(),
                _ => value == written,
            };
            assert!(same, "{column}: {value} here, {written} there");
        }
        if matches!(column, "n" | "f" | "z") {
            suite(&database, 400, json!({ "query": query, "key": [column, "id"] })).await;
        }
    }
}
