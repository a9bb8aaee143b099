use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, DictionaryArray,
    Float32Array, Float64Array, Int8Array, Int64Array, ListArray, RecordBatch, StringArray, StringViewArray,
    StructArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use hapax_engine::sink::Shape;
use hapax_engine::source::Source;
use hapax_sqlite::config::Write;
use hapax_sqlite::source::Sqlite;

use crate::scene::{Scene, drain, ready, step, taken};

/// Writes the columns, reads them back by their own schema, and by what the table declares.
async fn there_and_back(columns: Vec<(&str, ArrayRef)>) -> (Scene, RecordBatch, RecordBatch) {
    let fields: Vec<_> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let written = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    let scene = Scene::new();
    let sink = scene.sink(Write::Append).await;
    let lease = ready(&sink, &Shape { schema: Arc::clone(&schema), key: Vec::new() }).await;
    let (mut writer, _) = taken(&sink, &lease).await;
    assert_eq!(writer.write(&written).await.unwrap(), []);
    writer.commit(&step(None, 1, 1)).await.unwrap();
    let back = sink.read_back(schema).await.unwrap();
    let split = back.splits().await.unwrap().remove(0).id;
    let mut reader = back.open(&split, None).await.unwrap();
    let batch = reader.read(crate::scene::limit(100)).await.unwrap().unwrap();
    assert_eq!(batch.rejected, []);
    assert_eq!(batch.records, written);
    let declared = Sqlite::open(scene.table("t")).await.unwrap();
    let own = drain(&declared, &split, None, 100).await.remove(0);
    assert_eq!(own.rejected, []);
    (scene, written, own.records)
}

fn arc(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

#[tokio::test]
async fn the_table_declares_the_types_that_are_read_back() {
    let decimals =
        Decimal128Array::from(vec![Some(110), Some(-5), None, Some(0)]).with_precision_and_scale(12, 2);
    let (scene, written, own) = there_and_back(vec![
        ("i", arc(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None, Some(0)]))),
        (
            "f",
            arc(Float64Array::from(vec![Some(0.1), Some(f64::MIN_POSITIVE), None, Some(f64::NEG_INFINITY)])),
        ),
        ("b", arc(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]))),
        ("s", arc(StringArray::from(vec![Some(""), Some("007"), None, Some("née 🦀 \0 \"quoted\"\n")]))),
        ("x", arc(BinaryArray::from(vec![Some(&b""[..]), Some(&[0, 255][..]), None, Some(b"text")]))),
        ("d", arc(Date32Array::from(vec![Some(-719_528), Some(0), None, Some(2_932_896)]))),
        (
            "t",
            arc(TimestampMicrosecondArray::from(vec![Some(-1), Some(1_357_016_400_123_456), None, Some(0)])),
        ),
        (
            "z",
            arc(TimestampMicrosecondArray::from(vec![Some(1), None, Some(-1), Some(500_000)])
                .with_timezone("UTC")),
        ),
        ("m", arc(decimals.unwrap())),
    ])
    .await;
    assert_eq!(own, written);
    assert_eq!(
        scene.texts("SELECT s || '|' || m || '|' || t || '|' || d || '|' || z FROM t WHERE i IS NOT NULL AND z IS NOT NULL"),
        [
            "|1.10|1969-12-31T23:59:59.999999|0000-01-01|1970-01-01T00:00:00.000001Z",
            "née 🦀 \0 \"quoted\"\n|0.00|1970-01-01T00:00:00|9999-12-31|1970-01-01T00:00:00.5Z"
        ]
    );
    assert_eq!(scene.count("SELECT count(*) FROM t WHERE typeof(m) NOT IN ('text', 'null')"), 0);
    assert_eq!(scene.count("SELECT count(*) FROM t WHERE s IS NULL"), 1);
}

#[tokio::test]
async fn rarer_types_come_back_by_their_schema() {
    let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]);
    let nested = StructArray::from(vec![
        (
            Arc::new(Field::new("x", DataType::Int64, true)),
            arc(Int64Array::from(vec![Some(1), None, Some(3)])),
        ),
        (
            Arc::new(Field::new("y", DataType::Utf8, true)),
            arc(StringArray::from(vec![Some("\n}"), Some("b"), None])),
        ),
    ]);
    let (scene, ..) = there_and_back(vec![
        ("i8", arc(Int8Array::from(vec![Some(-128), None, Some(127)]))),
        ("u32", arc(UInt32Array::from(vec![Some(u32::MAX), None, Some(0)]))),
        ("f32", arc(Float32Array::from(vec![Some(0.1), None, Some(-2.5)]))),
        (
            "view",
            arc(StringViewArray::from(vec![Some("a long enough text to be out of line"), None, Some("")])),
        ),
        ("date64", arc(Date64Array::from(vec![Some(86_400_000), None, Some(-86_400_000)]))),
        ("ns", arc(TimestampNanosecondArray::from(vec![Some(1), None, Some(-1)]))),
        ("sec", arc(TimestampSecondArray::from(vec![Some(1), None, Some(-1)]).with_timezone("+02:00"))),
        ("time", arc(Time64MicrosecondArray::from(vec![Some(1), None, Some(86_399_999_999)]))),
        ("dictionary", arc(dictionary)),
        ("list", arc(list)),
        ("struct", arc(nested)),
    ])
    .await;
    let json = scene.texts("SELECT struct FROM t WHERE i8 = -128");
    assert_eq!(json, [r#"{"x":1,"y":"\n}"}"#]);
}

#[tokio::test]
async fn types_of_tables_that_others_made() {
    let scene = Scene::new();
    scene.sql(
        "CREATE TABLE t (a VARCHAR(10), b DATETIME, c DATETIME, d, e NUMERIC(6,2), f TINYINT, g, h BOOL, i NUMERIC, j, k TIMESTAMP); \
         INSERT INTO t VALUES ('x', 1357016400, '2013-01-01 05:00:00', 1, '1.10', 3, x'00', 1, 1.5, 'a', '2013-01-01T06:00:00+01:00'), \
         (NULL, NULL, NULL, 2.5, 7, NULL, NULL, 0, 2, 3, NULL)",
    );
    let source = Sqlite::open(scene.table("t")).await.unwrap();
    let types: Vec<_> = source.schema().fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(
        types,
        [
            "Utf8",
            "Int64",
            "Timestamp(µs)",
            "Float64",
            "Decimal128(6, 2)",
            "Int64",
            "Binary",
            "Boolean",
            "Float64",
            "Utf8",
            "Timestamp(µs, \"UTC\")"
        ]
    );
    let split = source.splits().await.unwrap().remove(0).id;
    let batches = drain(&source, &split, None, 10).await;
    assert_eq!(batches[0].rejected, []);
    let values = crate::scene::records(&batches);
    assert_eq!(
        values[0].1,
        [
            "x",
            "1357016400",
            "2013-01-01T05:00:00",
            "1.0",
            "1.10",
            "3",
            "00",
            "true",
            "1.5",
            "a",
            "2013-01-01T05:00:00Z"
        ]
    );
    assert_eq!(values[1].1, ["", "", "", "2.5", "7.00", "", "", "false", "2.0", "3", ""]);
}
