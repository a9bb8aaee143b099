use std::sync::Arc;

use arrow::array::{
    BinaryArray, Date32Array, Decimal128Array, Float32Array, Int16Array, Int64Array, LargeStringArray,
    StringArray, TimestampMicrosecondArray, TimestampSecondArray, UInt8Array, UInt64Array,
};
use hapax_engine::canonical::Rows;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
    RecordBatch::try_from_iter(names.iter().zip(columns)).unwrap()
}

/// One value in every type that could hold it, and others beside it.
fn columns() -> Vec<ArrayRef> {
    vec![
        Arc::new(Int16Array::from(vec![Some(7), None, Some(-1), Some(0)])),
        Arc::new(Int64Array::from(vec![Some(7), None, Some(-1), Some(0)])),
        Arc::new(UInt8Array::from(vec![7, 0, 255, 1])),
        Arc::new(UInt64Array::from(vec![7, u64::MAX, 255, 1])),
        Arc::new(Float32Array::from(vec![7.0, f32::NAN, -0.0, 0.0])),
        Arc::new(Float64Array::from(vec![7.0, f64::NAN, -0.0, 0.0])),
        Arc::new(StringArray::from(vec!["7", "", "sixteen bytes ok", "sixteen bytes ok and more"])),
        Arc::new(LargeStringArray::from(vec!["7", "", "sixteen bytes ok", "\0"])),
        Arc::new(BinaryArray::from_vec(vec![b"7", b"", b"sixteen bytes ok", b"\0\0"])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)])),
        Arc::new(Date32Array::from(vec![7, 0, -1, 1])),
        Arc::new(TimestampSecondArray::from(vec![7, 0, -1, 86_400])),
        Arc::new(TimestampMicrosecondArray::from(vec![7_000_000, 0, -1_000_000, 1])),
        Arc::new(Decimal128Array::from(vec![7, 0, -1, 1]).with_precision_and_scale(10, 2).unwrap()),
    ]
}

#[test]
fn prints_are_equal_exactly_where_canonical_bytes_are() {
    let keys = Keys::drawn();
    let mut all: Vec<(Vec<u8>, Print)> = Vec::new();
    for column in columns() {
        let records = batch(vec![column]);
        let rows = Rows::new(&records, &[0]).unwrap();
        for (row, print) in keys.rows(&records, &[0]).unwrap().into_iter().enumerate() {
            let mut bytes = Vec::new();
            rows.encode(row, &mut bytes).unwrap();
            all.push((bytes, print));
        }
    }
    for (one_bytes, one) in &all {
        for (other_bytes, other) in &all {
            assert_eq!(one == other, one_bytes == other_bytes, "{one_bytes:?} and {other_bytes:?}");
        }
    }
}

#[test]
fn keys_are_drawn_anew() {
    let records = batch(vec![Arc::new(Int64Array::from(vec![1, 2]))]);
    assert_ne!(Keys::drawn().rows(&records, &[0]).unwrap(), Keys::drawn().rows(&records, &[0]).unwrap());
}

#[test]
fn many_records_that_are_much_alike_have_prints_that_are_not() {
    let keys = Keys::drawn();
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000_000));
    let same: ArrayRef = Arc::new(Int64Array::from_iter_values((0..1_000_000).map(|n| n / 2)));
    let mut prints = keys.rows(&batch(vec![same, numbers]), &[0, 1]).unwrap();
    // Each half by itself tells a million records apart, and uses all of its bits.
    let (mut ones, mut halves) = (vec![0_u32; 128], [Vec::new(), Vec::new()]);
    for print in &prints {
        for (bit, ones) in ones.iter_mut().enumerate() {
            *ones += u32::from(print >> bit & 1 == 1);
        }
        halves[0].push(u64::try_from(print >> 64).unwrap());
        halves[1].push(u64::try_from(print & u128::from(u64::MAX)).unwrap());
    }
    assert!(ones.iter().all(|ones| (497_000..503_000).contains(ones)), "{ones:?}");
    for half in &mut halves {
        half.sort_unstable();
        half.dedup();
        assert_eq!(half.len(), 1_000_000);
    }
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), 1_000_000);
}

proptest! {
    /// Where one text ends and the next begins is part of the print.
    #[test]
    fn texts_do_not_run_into_each_other(rows in vec(("[ab]{0,20}", "[ab]{0,20}"), 1..60)) {
        let keys = Keys::drawn();
        let text = |values: Vec<&String>| -> ArrayRef { Arc::new(StringArray::from_iter_values(values)) };
        let records = batch(vec![
            text(rows.iter().map(|row| &row.0).collect()),
            text(rows.iter().map(|row| &row.1).collect()),
        ]);
        let prints = keys.rows(&records, &[0, 1]).unwrap();
        for (one, print) in rows.iter().zip(&prints) {
            for (other, beside) in rows.iter().zip(&prints) {
                prop_assert_eq!(one == other, print == beside);
            }
        }
    }
}
