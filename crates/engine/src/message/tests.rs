use arrow::array::{Array, AsArray};
use arrow::datatypes::{Decimal128Type, Int64Type, UInt8Type};

use super::*;
use crate::columns::parse_type;

fn bodies(columns: &[(&str, &str)], unknown: UnknownFields) -> Bodies {
    let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), parse_type(kind).unwrap()));
    Bodies::new(Format::Json, Some(&Columns(columns.collect())), unknown).unwrap()
}

#[test]
fn a_body_becomes_a_record_with_every_digit() {
    let columns = [("id", "int64"), ("n", "uint8"), ("amount", "decimal(20,2)"), ("note", "string")];
    let mut rows = bodies(&columns, UnknownFields::Reject).rows();
    for body in [
        r#"{"id": 9007199254740993, "n": 255, "amount": 123456789012345678.90, "note": "a \"b\" ü"}"#,
        r#" { "note" : {"deep": ["}", {"x": "\\\""}]} , "amount":"1.5","id":-1 } "#,
        r#"{"id":null}"#,
        "{}",
    ] {
        assert_eq!(rows.push(body.as_bytes()), Ok(()), "{body}");
    }
    assert_eq!(rows.len(), 4);
    let arrays = rows.finish();
    let ids = arrays[0].as_primitive::<Int64Type>();
    assert_eq!(ids.iter().collect::<Vec<_>>(), [Some(9_007_199_254_740_993), Some(-1), None, None]);
    assert_eq!(arrays[1].as_primitive::<UInt8Type>().value(0), 255);
    let amounts = arrays[2].as_primitive::<Decimal128Type>();
    assert_eq!((amounts.value(0), amounts.value(1)), (12_345_678_901_234_567_890, 150));
    let notes = arrays[3].as_string::<i32>();
    assert_eq!(notes.value(0), "a \"b\" ü");
    assert_eq!(notes.value(1), r#"{"deep": ["}", {"x": "\\\""}]}"#);
    assert!(notes.is_null(2));
}

#[test]
fn what_does_not_fit_says_why_and_leaves_no_half_a_record() {
    let columns = [("id", "int64"), ("n", "uint8"), ("at", "timestamptz"), ("s", "string")];
    let mut rows = bodies(&columns, UnknownFields::Reject).rows();
    for (body, reason) in [
        (r#"{"id":1.5}"#, "column id: 1.5 is not a int64"),
        (r#"{"id":"1"}"#, "column id: \"1\" is not a int64"),
        (r#"{"id":9223372036854775808}"#, "is not a int64"),
        (r#"{"id":1,"n":256}"#, "column n: 256 is not a uint8"),
        (r#"{"at":"2026-01-01T00:00:00"}"#, "is not a timestamptz"),
        (r#"{"s":5}"#, "column s: 5 is not a string"),
        (r#"{"id":1,"id":2}"#, "the field \"id\" is given twice"),
        (r#"{"i\u0064":1,"id":2}"#, "the field \"id\" is given twice"),
        (r#"{"id":1,"more":2}"#, "the schema has no field \"more\""),
        (r#"{"id":1} {"id":2}"#, "not valid JSON"),
        (r#"[1]"#, "not an object"),
        ("", "not valid JSON"),
        (r#"{"id":01}"#, "not valid JSON"),
    ] {
        let said = rows.push(body.as_bytes()).unwrap_err();
        assert!(said.contains(reason), "{body}: {said}");
    }
    assert!(rows.push(b"{\"s\":\"\xff\"}").unwrap_err().contains("not UTF-8"));
    rows.push(br#"{"id":7}"#).unwrap();
    assert!(rows.finish().iter().all(|column| column.len() == 1));
}

#[test]
fn fields_may_be_left_out_and_bytes_left_alone() {
    let mut rows = bodies(&[("id", "int64")], UnknownFields::Ignore).rows();
    rows.push(br#"{"more":{"id":5},"id":1}"#).unwrap();
    assert_eq!(rows.finish()[0].as_primitive::<Int64Type>().value(0), 1);
    let mut rows = Bodies::new(Format::Raw, None, UnknownFields::Reject).unwrap().rows();
    rows.push(b"\xff\0").unwrap();
    assert_eq!(rows.finish()[0].as_binary::<i32>().value(0), b"\xff\0");
    let none = Bodies::new(Format::Json, None, UnknownFields::Reject).map(|_| ());
    assert_eq!(none, Err(BodiesError::NoSchema));
}

#[test]
fn a_message_that_was_set_aside_is_read_again_by_the_schema_of_today() {
    let code = hapax_protocol::code::Code(1);
    let reject = UnknownFields::Reject;
    let before = Layout::new(bodies(&[("id", "int64")], reject), vec![text("_message_id"), moment("_at")]);
    let beside = vec![Beside::Text(Some("m1".to_owned())), Beside::Moment(Some(5))];
    let mut gathering = before.gather();
    let body = br#"{"id":"7"}"#;
    gathering.push(&Message { ordinal: 3, id: None, body, beside: beside.clone() }, code);
    let body = br#"{"id":8}"#;
    gathering.push(&Message { ordinal: 4, id: None, body, beside }, code);
    let gathered = gathering.finish().unwrap();
    assert_eq!((gathered.records.num_rows(), gathered.ordinals.of(0), gathered.rejected.len()), (1, 4, 1));
    let raw = &gathered.rejected[0].raw;
    assert!(before.reread(raw, true).is_err());
    let today = Layout::new(bodies(&[("id", "string")], reject), vec![text("_message_id"), moment("_at")]);
    let again = today.reread(raw, true).unwrap();
    assert_eq!(again.column(0).as_string::<i32>().value(0), "7");
    assert_eq!(again.column(1).as_string::<i32>().value(0), "m1");
    let columns = r#"{"id":8,"_message_id":"m2","_at":"1970-01-01T00:00:00.000005Z"}"#;
    let again = before.reread(columns, false).unwrap();
    assert_eq!(again.column(1).as_string::<i32>().value(0), "m2");
    assert_eq!(again.column(2), gathered.records.column(2));
}

#[test]
fn what_is_sent_is_read_as_it_was() {
    let columns = [
        ("id", "int64"),
        ("amount", "decimal(20,2)"),
        ("note", "string"),
        ("at", "timestamptz"),
        ("seen", "timestamp"),
        ("day", "date"),
        ("time", "time"),
        ("blob", "binary"),
        ("flag", "boolean"),
        ("share", "float64"),
    ];
    let layout = bodies(&columns, UnknownFields::Reject);
    let text = r#"{"id":-9007199254740993,"amount":"123456789012345678.90","note":"a\nb \u0000 \"ü\"",
        "at":"2026-11-24T08:00:00.000001Z","seen":"1970-01-01T00:00:00","day":"0001-01-01","time":"23:59:59.000001",
        "blob":"00ff0a","flag":true,"share":0.1}"#;
    let mut rows = layout.rows();
    rows.push(text.replace("\n        ", "").as_bytes()).unwrap();
    rows.push(b"{}").unwrap();
    let schema = Arc::new(arrow::datatypes::Schema::new(layout.fields().to_vec()));
    let records = arrow::array::RecordBatch::try_new(Arc::clone(&schema), rows.finish()).unwrap();
    let mut again = layout.rows();
    for body in encode(&records, Format::Json).unwrap() {
        let body = body.unwrap();
        again.push(&body).unwrap_or_else(|reason| panic!("{reason}: {}", String::from_utf8_lossy(&body)));
    }
    assert_eq!(arrow::array::RecordBatch::try_new(schema, again.finish()).unwrap(), records);
    let infinite: arrow::array::ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![1.0, f64::NAN]));
    let infinite = arrow::array::RecordBatch::try_from_iter([("share", infinite)]).unwrap();
    let sent = encode(&infinite, Format::Json).unwrap();
    assert!(sent[0].is_ok() && sent[1].as_ref().unwrap_err().contains("share"));
}

#[test]
fn records_come_back_from_the_objects_that_were_written() {
    let columns = [("id", "int64"), ("at", "timestamptz"), ("note", "string"), ("raw", "binary")];
    let mut rows = bodies(&columns, UnknownFields::Reject).rows();
    rows.push(
        r#"{"id": 1, "at": "2024-02-29T23:59:59.123456Z", "note": "two\nlines \"ü\"", "raw": "00ff"}"#
            .as_bytes(),
    )
    .unwrap();
    rows.push_nothing();
    rows.push(br#"{"id": -9223372036854775808, "note": ""}"#).unwrap();
    let schema = bodies(&columns, UnknownFields::Reject)
        .fields()
        .iter()
        .cloned()
        .collect::<arrow::datatypes::Fields>();
    let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(schema));
    let records = arrow::array::RecordBatch::try_new(schema, rows.finish()).unwrap();
    let objects = as_objects(&records).unwrap();
    assert_eq!((objects.len(), objects.of(3)), (3, &b""[..]));
    assert_eq!(objects.of(1), br#"{"id":null,"at":null,"note":null,"raw":null}"#);
    let mut again = bodies(&columns, UnknownFields::Reject).rows();
    for row in 0..3 {
        again.push(objects.of(row)).unwrap();
    }
    assert_eq!(again.finish(), records.columns());
}
