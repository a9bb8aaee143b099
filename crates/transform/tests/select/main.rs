//! What a `SELECT` does to batches, seen from outside.
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

mod codes;
mod refusals;
mod rows;
mod selecting;
mod slicing;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hapax_engine::transform::{Transform, Transformed};
use hapax_transform::Select;

/// The columns of the orders that most tests select from.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("Status", DataType::Utf8, true),
        Field::new("amount", DataType::Int32, true),
        Field::new("price", DataType::Float64, true),
        Field::new("raw", DataType::Utf8, true),
        Field::new("day", DataType::Date32, true),
        Field::new("two words", DataType::Utf8, true),
    ]))
}

/// Five orders.
fn orders() -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5])),
        Arc::new(StringArray::from(vec![Some("paid"), Some("open"), None, Some("Paid"), Some("paid")])),
        Arc::new(Int32Array::from(vec![Some(10), Some(-4), Some(0), None, Some(2_147_483_647)])),
        Arc::new(Float64Array::from(vec![Some(1.5), Some(2.0), None, Some(0.0), Some(9.25)])),
        Arc::new(StringArray::from(vec![Some("7"), Some("abc"), Some("12"), None, Some("99999999999")])),
        Arc::new(Date32Array::from(vec![Some(20_000), Some(20_031), None, Some(0), Some(-1)])),
        Arc::new(StringArray::from(vec![Some("  a "), Some("b c"), Some("d,e,f"), None, Some("ü")])),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn select(sql: &str) -> Select {
    Select::plan(sql, schema()).unwrap_or_else(|error| panic!("{sql}: {error} {error:?}"))
}

fn apply(sql: &str) -> Transformed {
    let select = select(sql);
    let transformed = select.apply(&orders());
    assert_eq!(transformed.records.schema(), select.schema());
    transformed
}

/// One column as text, NULL as `-`.
fn column(records: &RecordBatch, index: usize) -> Vec<String> {
    let column = records.column(index);
    let options = FormatOptions::default().with_null("-");
    let formatter = ArrayFormatter::try_new(column, &options).unwrap();
    (0..column.len()).map(|row| formatter.value(row).to_string()).collect()
}

/// The first column that comes out of the five orders, all of which must pass.
fn values(expression: &str) -> Vec<String> {
    let transformed = apply(&format!("SELECT {expression} AS x FROM input"));
    assert_eq!(transformed.refused, [], "{expression}");
    column(&transformed.records, 0)
}

fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}
