use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, Decimal256Array,
    DictionaryArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, IntervalMonthDayNanoArray, LargeStringArray, ListArray, NullArray, RecordBatch, StringArray,
    StringViewArray, StructArray, Time32SecondArray, Time64MicrosecondArray, Time64NanosecondArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array, UInt16Array,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, IntervalMonthDayNano, Schema, UInt16Type, i256};
use hapax_postgres::config::Write;

use crate::scene::{Scene, ready, shape_of, step, taken};

/// One column: its name, its values, the type of it in PostgreSQL, and the values as PostgreSQL prints them.
type Case = (&'static str, ArrayRef, &'static str, [&'static str; 2]);

fn interval(months: i32, days: i32, nanoseconds: i64) -> IntervalMonthDayNano {
    IntervalMonthDayNano { months, days, nanoseconds }
}

fn cases() -> Vec<Case> {
    let decimal = |values: Vec<i128>, precision, scale| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap())
    };
    let long = i256::from_string("-123456789012345678901234567890123456789012345678901234567890").unwrap();
    let long = Decimal256Array::from(vec![long, i256::ZERO]).with_precision_and_scale(60, 4).unwrap();
    let part =
        StructArray::try_from(vec![("a", Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef)])
            .unwrap();
    let dictionary: DictionaryArray<UInt16Type> = vec![Some("one"), None].into_iter().collect();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None, Some(-3)]),
        Some(vec![]),
    ]);
    vec![
        ("bool", Arc::new(BooleanArray::from(vec![true, false])), "boolean", ["t", "f"]),
        ("i8", Arc::new(Int8Array::from(vec![i8::MIN, i8::MAX])), "smallint", ["-128", "127"]),
        ("i16", Arc::new(Int16Array::from(vec![i16::MIN, i16::MAX])), "smallint", ["-32768", "32767"]),
        (
            "i32",
            Arc::new(Int32Array::from(vec![i32::MIN, i32::MAX])),
            "integer",
            ["-2147483648", "2147483647"],
        ),
        (
            "i64",
            Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX])),
            "bigint",
            ["-9223372036854775808", "9223372036854775807"],
        ),
        ("u8", Arc::new(UInt8Array::from(vec![0, u8::MAX])), "smallint", ["0", "255"]),
        ("u16", Arc::new(UInt16Array::from(vec![0, u16::MAX])), "integer", ["0", "65535"]),
        ("u32", Arc::new(UInt32Array::from(vec![0, u32::MAX])), "bigint", ["0", "4294967295"]),
        (
            "u64",
            Arc::new(UInt64Array::from(vec![0, u64::MAX])),
            "numeric(20,0)",
            ["0", "18446744073709551615"],
        ),
        ("f32", Arc::new(Float32Array::from(vec![0.1, f32::NAN])), "real", ["0.1", "NaN"]),
        (
            "f64",
            Arc::new(Float64Array::from(vec![f64::NEG_INFINITY, 5e-324])),
            "double precision",
            ["-Infinity", "5e-324"],
        ),
        ("decimal", decimal(vec![110, -5], 14, 2), "numeric(14,2)", ["1.10", "-0.05"]),
        ("thousands", decimal(vec![12, 0], 4, -3), "numeric(7,0)", ["12000", "0"]),
        ("tiny", decimal(vec![12, -1], 9, 9), "numeric(9,9)", ["0.000000012", "-0.000000001"]),
        (
            "long",
            Arc::new(long),
            "numeric(60,4)",
            ["-12345678901234567890123456789012345678901234567890123456.7890", "0.0000"],
        ),
        (
            "text",
            Arc::new(StringArray::from(vec!["", "\\N,\t\"é\u{1F980}"])),
            "text",
            ["", "\\N,\t\"é\u{1F980}"],
        ),
        ("large", Arc::new(LargeStringArray::from(vec!["a", "b"])), "text", ["a", "b"]),
        (
            "view",
            Arc::new(StringViewArray::from(vec!["a view longer than twelve bytes", "b"])),
            "text",
            ["a view longer than twelve bytes", "b"],
        ),
        ("shared", Arc::new(dictionary), "text", ["one", "null"]),
        ("bytes", Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..], b""])), "bytea", ["\\x00ff", "\\x"]),
        (
            "fixed",
            Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8, 2], [3, 4]].into_iter()).unwrap()),
            "bytea",
            ["\\x0102", "\\x0304"],
        ),
        (
            "date",
            Arc::new(Date32Array::from(vec![-719_528, 2_932_897])),
            "date",
            ["0001-01-01 BC", "10000-01-01"],
        ),
        (
            "date64",
            Arc::new(Date64Array::from(vec![-1, 86_400_000])),
            "timestamp without time zone",
            ["1969-12-31 23:59:59.999", "1970-01-02 00:00:00"],
        ),
        (
            "time",
            Arc::new(Time64MicrosecondArray::from(vec![1, 86_399_999_999])),
            "time without time zone",
            ["00:00:00.000001", "23:59:59.999999"],
        ),
        (
            "time32",
            Arc::new(Time32SecondArray::from(vec![0, 61])),
            "time without time zone",
            ["00:00:00", "00:01:01"],
        ),
        (
            "timens",
            Arc::new(Time64NanosecondArray::from(vec![1_000, 0])),
            "time without time zone",
            ["00:00:00.000001", "00:00:00"],
        ),
        (
            "moment",
            Arc::new(TimestampMicrosecondArray::from(vec![-1, 253_402_300_800_000_000])),
            "timestamp without time zone",
            ["1969-12-31 23:59:59.999999", "10000-01-01 00:00:00"],
        ),
        (
            "zoned",
            Arc::new(TimestampNanosecondArray::from(vec![1_000, 0]).with_timezone("+02:00")),
            "timestamp with time zone",
            ["1970-01-01 00:00:00.000001+00", "1970-01-01 00:00:00+00"],
        ),
        (
            "seconds",
            Arc::new(TimestampSecondArray::from(vec![-62_135_596_801, 0])),
            "timestamp without time zone",
            ["0001-12-31 23:59:59 BC", "1970-01-01 00:00:00"],
        ),
        (
            "interval",
            Arc::new(IntervalMonthDayNanoArray::from(vec![
                interval(14, -3, 1_000),
                interval(0, 0, -1_000_000_000),
            ])),
            "interval",
            ["1 year 2 mons -3 days +00:00:00.000001", "-00:00:01"],
        ),
        ("list", Arc::new(lists), "integer[]", ["{1,NULL,-3}", "{}"]),
        ("part", Arc::new(part), "jsonb", ["{\"a\": 1}", "{\"a\": null}"]),
        ("nothing", Arc::new(NullArray::new(2)), "text", ["null", "null"]),
    ]
}

const TYPES: &str = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass \
                     AND attnum > 0 ORDER BY attnum";

async fn moved(scene: &Scene, records: &RecordBatch, write: Write) {
    let sink = scene.sink(write).await;
    let lease = ready(&sink, &shape_of(records.schema(), &["row"])).await;
    let (mut writer, standing) = taken(&sink, &lease).await;
    assert_eq!(writer.write(records).await.unwrap(), []);
    let after = standing.position.map(|position| position.as_bytes()[0]);
    writer.commit(&step(after, after.unwrap_or(0) + 1, standing.epoch.get() + 1)).await.unwrap();
}

/// The batch of some columns, with a number for each row before them.
fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let row: ArrayRef = Arc::new(Int32Array::from(vec![0, 1]));
    let mut columns = columns;
    columns.insert(0, (Field::new("row", DataType::Int32, false), row));
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

async fn printed(scene: &Scene, name: &str) -> Vec<String> {
    scene
        .texts(&format!(
            "SELECT CASE WHEN {name} IS NULL THEN 'null' ELSE format('%s', {name}) END FROM t ORDER BY row"
        ))
        .await
}

#[tokio::test]
async fn every_arrow_type_has_a_column_that_keeps_it() {
    let scene = Scene::new();
    let cases = cases();
    let columns = cases
        .iter()
        .map(|(name, array, _, _)| (Field::new(*name, array.data_type().clone(), true), Arc::clone(array)));
    let records = batch(columns.collect());
    for write in [Write::Append, Write::Upsert] {
        moved(&scene, &records, write).await;
        let declared: Vec<&str> = cases.iter().map(|case| case.2).collect();
        assert_eq!(scene.texts(TYPES).await[1..], declared);
        for (name, _, _, expected) in &cases {
            assert_eq!(printed(&scene, &format!("\"{name}\"")).await, expected, "{name}");
        }
        scene.sql("TRUNCATE t").await;
    }
}

/// The types as a PostgreSQL source names them.
#[tokio::test]
async fn columns_of_another_postgres_are_made_as_they_were_there() {
    let scene = Scene::new();
    scene
        .sql("CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE DOMAIN small AS int CHECK (value < 10)")
        .await;
    let text = |values: [&str; 2]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let texts = |values: [&str; 2]| -> ArrayRef {
        let mut lists = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
        for value in values {
            value.split(' ').for_each(|part| lists.values().append_value(part));
            lists.append(true);
        }
        Arc::new(lists.finish())
    };
    let cases: Vec<(&str, ArrayRef, &str, [&str; 2])> = vec![
        ("character varying(5)", text(["a", "abcde"]), "character varying(5)", ["a", "abcde"]),
        ("character(3)", text(["a  ", "abc"]), "character(3)", ["a  ", "abc"]),
        ("numeric", text(["1.500", "NaN"]), "numeric", ["1.500", "NaN"]),
        ("jsonb", text(["{\"b\":1,\"a\":[]}", "null"]), "jsonb", ["{\"a\": [], \"b\": 1}", "null"]),
        ("json", text(["{ }", "1"]), "json", ["{ }", "1"]),
        (
            "uuid",
            text(["01234567-89ab-cdef-0123-456789abcdef", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
            "uuid",
            ["01234567-89ab-cdef-0123-456789abcdef", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
        ),
        ("mood", text(["sad", "glad"]), "mood", ["sad", "glad"]),
        ("mood[]", texts(["sad", "glad sad"]), "mood[]", ["{sad}", "{glad,sad}"]),
        (
            "uuid[]",
            texts(["01234567-89ab-cdef-0123-456789abcdef", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
            "uuid[]",
            ["{01234567-89ab-cdef-0123-456789abcdef}", "{ffffffff-ffff-ffff-ffff-ffffffffffff}"],
        ),
        ("inet", text(["10.0.0.1", "::1/64"]), "inet", ["10.0.0.1", "::1/64"]),
        ("inet[]", text(["{10.0.0.1,::1}", "{}"]), "inet[]", ["{10.0.0.1,::1}", "{}"]),
        ("bit(4)", text(["1010", "0000"]), "bit(4)", ["1010", "0000"]),
        (
            "tstzrange",
            text(["empty", "[\"2024-01-01 00:00:00+00\",)"]),
            "tstzrange",
            ["empty", "[\"2024-01-01 00:00:00+00\",)"],
        ),
        (
            "time(0) without time zone",
            Arc::new(Time64MicrosecondArray::from(vec![0, 1_000_000])),
            "time(0) without time zone",
            ["00:00:00", "00:00:01"],
        ),
        ("integer[]", text(["{{1,2},{3,4}}", "{}"]), "text", ["{{1,2},{3,4}}", "{}"]),
        ("gone_type", text(["a", "b"]), "text", ["a", "b"]),
        ("small", Arc::new(Int32Array::from(vec![1, 9])), "integer", ["1", "9"]),
        ("text", Arc::new(Int64Array::from(vec![1, 9])), "bigint", ["1", "9"]),
    ];
    let columns = cases.iter().enumerate().map(|(index, (named, array, _, _))| {
        let metadata = HashMap::from([("hapax:postgres".to_owned(), (*named).to_owned())]);
        (
            Field::new(format!("c{index}"), array.data_type().clone(), true).with_metadata(metadata),
            Arc::clone(array),
        )
    });
    let records = batch(columns.collect());
    for write in [Write::Append, Write::Upsert] {
        moved(&scene, &records, write).await;
        let declared: Vec<&str> = cases.iter().map(|case| case.2).collect();
        assert_eq!(scene.texts(TYPES).await[1..], declared);
        for (index, (named, _, _, expected)) in cases.iter().enumerate() {
            assert_eq!(printed(&scene, &format!("c{index}")).await, expected, "{named}");
        }
        scene.sql("TRUNCATE t").await;
    }
}

#[tokio::test]
async fn a_table_that_is_there_keeps_its_types() {
    let scene = Scene::new();
    scene
        .sql(
            "CREATE DOMAIN small AS numeric(3,1) CHECK (value < 10);
             CREATE TABLE t (row int, n small, v bit varying(4), b bigint, f double precision, d timestamptz(0))",
        )
        .await;
    let row: ArrayRef = Arc::new(Int32Array::from(vec![0, 1, 2, 3]));
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![9.5, 10.5, 1.0, 2.25]));
    let bits: ArrayRef = Arc::new(StringArray::from(vec!["1", "1", "10101", "1"]));
    let narrow: ArrayRef = Arc::new(UInt8Array::from(vec![1, 2, 3, 4]));
    let float: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 0.5, 0.5, 0.5]));
    let moment: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1, 2, 3, 4]).with_timezone("UTC"));
    let columns = [("row", row), ("n", numbers), ("v", bits), ("b", narrow), ("f", float), ("d", moment)];
    let records = RecordBatch::try_from_iter(columns).unwrap();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape_of(records.schema(), &[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    let refused = writer.write(&records).await.unwrap();
    // Above the domain's check, longer than the column, more digits than the column keeps.
    assert_eq!(refused.iter().map(|refused| refused.row).collect::<Vec<_>>(), [1, 2, 3], "{refused:?}");
    writer.commit(&step(None, 1, 1)).await.unwrap();
    let rows = "SELECT concat_ws(' ', n, v, b, f, d at time zone 'UTC') FROM t";
    assert_eq!(scene.texts(rows).await, ["9.5 1 1 0.5 1970-01-01 00:00:01"]);
}

#[tokio::test]
async fn values_that_postgres_does_not_have_are_refused() {
    let scene = Scene::new();
    let moment: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_000, 1, 0, 0]));
    let far: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, 0, i64::MIN, i64::MAX]));
    let records = RecordBatch::try_from_iter([("moment", moment), ("far", far)]).unwrap();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &shape_of(records.schema(), &[])).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    let refused = writer.write(&records).await.unwrap();
    assert_eq!(refused.iter().map(|refused| refused.row).collect::<Vec<_>>(), [1, 2], "{refused:?}");
    writer.commit(&step(None, 1, 1)).await.unwrap();
    assert_eq!(scene.count("SELECT count(*) FROM t").await, 2);
}
