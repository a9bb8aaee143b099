//! Records with a value of every type, and the values that are known to go wrong.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};

/// A batch whose columns hold extremes, nulls, empty values and unicode. `id` is unique.
pub fn difficult() -> RecordBatch {
    let blob: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5]))),
        ("whole", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), Some(0), None, Some(-1)]))),
        (
            "float",
            Arc::new(Float64Array::from(vec![
                Some(f64::MIN_POSITIVE),
                Some(f64::MAX),
                Some(0.1),
                None,
                Some(-1.5e300),
            ])),
        ),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true), Some(false)]))),
        (
            "text",
            Arc::new(StringArray::from(vec![
                Some("plain"),
                Some("00123"),
                Some("comma, \"quote\" and\nnewline"),
                None,
                Some("ünïcödé \u{1F980} \u{0301}"),
            ])),
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from_opt_vec(vec![
                Some(&b"\x00\xff\x00"[..]),
                Some(&blob[..]),
                Some(&b"1"[..]),
                None,
                Some(&b"'"[..]),
            ])),
        ),
        (
            "day",
            Arc::new(Date32Array::from(vec![Some(0), Some(-719_162), Some(2_932_896), None, Some(20_000)])),
        ),
        (
            "moment",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(0),
                Some(-62_135_596_800_000_000),
                Some(1_356_998_400_000_001),
                None,
                Some(1_700_000_000_123_450),
            ])),
        ),
        (
            "moment_utc",
            Arc::new(
                TimestampMicrosecondArray::from(vec![
                    Some(0),
                    Some(-1),
                    Some(1_356_998_400_500_000),
                    None,
                    Some(1),
                ])
                .with_timezone("UTC"),
            ),
        ),
        (
            "money",
            Arc::new(
                Decimal128Array::from(vec![Some(110), Some(-1), Some(99_999_999_999_999), None, Some(0)])
                    .with_precision_and_scale(14, 2)
                    .unwrap(),
            ),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}
