use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, TimestampMicrosecondArray,
};
use arrow::datatypes::Field;

use super::*;

fn encoded(columns: Vec<(&str, ArrayRef)>) -> String {
    let mut out = String::new();
    encode(
        &RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap(),
        &mut out,
    )
    .unwrap();
    out
}

#[test]
fn null_and_the_empty_string_stay_apart() {
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None, Some("a"), Some("x\"y,\n")]));
    let number: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(-3), Some(4)]));
    assert_eq!(encoded(vec![("t", text), ("n", number)]), "\"\",1\n,\na,-3\n\"x\"\"y,\n\",4\n");
}

#[test]
fn one_column_has_no_empty_line() {
    let text: ArrayRef = Arc::new(StringArray::from(vec![None, Some("a")]));
    assert_eq!(encoded(vec![("t", text)]), "\"\"\na\n");
}

#[test]
fn values_of_every_kind_are_written_whole() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("b", Arc::new(BooleanArray::from(vec![true]))),
        ("f", Arc::new(Float64Array::from(vec![0.1]))),
        ("d", Arc::new(Decimal128Array::from(vec![12345]).with_precision_and_scale(10, 2).unwrap())),
        ("t", Arc::new(TimestampMicrosecondArray::from(vec![1_000_000]).with_timezone("+00:00"))),
        ("x", Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice()]))),
    ];
    assert_eq!(encoded(columns), "true,0.1,123.45,1970-01-01T00:00:01Z,00ff\n");
}

#[test]
fn the_header_is_quoted_where_it_must() {
    let schema =
        Schema::new(vec![Field::new("a,b", DataType::Int8, true), Field::new("c", DataType::Int8, true)]);
    assert_eq!(header(&schema), "\"a,b\",c\n");
    let nested = Schema::new(vec![Field::new_list("l", Field::new_list_field(DataType::Int8, true), true)]);
    assert!(matches!(check(&nested), Err(Failure::CsvNested { column, .. }) if column == "l"));
}
