use std::sync::Arc;

use arrow::array::{
    BinaryArray, Date32Array, Decimal128Array, DictionaryArray, DurationSecondArray, Float32Array, Int8Array,
    Int16Array, Int32Array, Int64Array, LargeStringArray, ListArray, ListBuilder, MapBuilder, NullArray,
    RunArray, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray, TimestampSecondArray,
    UInt8Array, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Field, Fields};
use hapax_engine::canonical::Rows;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
    RecordBatch::try_from_iter(names.iter().zip(columns)).unwrap()
}

/// Texts, in a list that may be none: a value of one level of nesting.
type Texts = Option<Vec<Option<String>>>;

type Pairs = Option<Vec<(String, Option<String>)>>;

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

/// Lists that are printed alike, and the same list twice.
fn alike() -> Vec<Texts> {
    vec![
        Some(vec![text("a, b")]),
        Some(vec![text("a"), text("b")]),
        Some(vec![text(""), None]),
        Some(vec![None, text("")]),
        Some(vec![None, None]),
        Some(vec![None]),
        Some(vec![]),
        None,
        Some(vec![text("]"), text("[")]),
        Some(vec![text("a"), text("b")]),
    ]
}

fn lists(rows: &[Texts]) -> ListArray {
    let mut list = ListBuilder::new(StringBuilder::new());
    for row in rows {
        list.append_option(row.clone());
    }
    list.finish()
}

fn lists_of_lists(rows: &[Option<Vec<Texts>>]) -> ArrayRef {
    let mut list = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    for row in rows {
        for inner in row.iter().flatten() {
            list.values().append_option(inner.clone());
        }
        list.append(row.is_some());
    }
    Arc::new(list.finish())
}

/// Structs of a text and a list, of which `None` is a null with something beneath it.
fn structs(rows: &[Option<(Option<String>, Texts)>], names: [&str; 2]) -> ArrayRef {
    let hidden = (text("hidden"), Some(vec![text("hidden")]));
    let values: Vec<_> = rows.iter().map(|row| row.clone().unwrap_or(hidden.clone())).collect();
    let texts: StringArray = values.iter().map(|value| value.0.clone()).collect();
    let lists = lists(&values.into_iter().map(|value| value.1).collect::<Vec<_>>());
    let fields: Fields = vec![
        Field::new(names[0], DataType::Utf8, true),
        Field::new(names[1], lists.data_type().clone(), true),
    ]
    .into();
    let nulls: NullBuffer = rows.iter().map(Option::is_some).collect();
    Arc::new(StructArray::new(fields, vec![Arc::new(texts), Arc::new(lists)], Some(nulls)))
}

fn maps(rows: &[Pairs]) -> ArrayRef {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in rows {
        for (key, value) in row.iter().flatten() {
            map.keys().append_value(key);
            map.values().append_option(value.as_ref());
        }
        map.append(row.is_some()).unwrap();
    }
    Arc::new(map.finish())
}

/// The canonical bytes and the prints of a column, checked to be equal in the same places.
fn encoded(keys: &Keys, column: ArrayRef) -> Vec<(Vec<u8>, Print)> {
    let records = batch(vec![column]);
    let rows = Rows::new(&records, &[0]).unwrap();
    let prints = keys.rows(&records, &[0]).unwrap().into_iter().enumerate();
    let both = prints.map(|(row, print)| {
        let mut bytes = Vec::new();
        rows.encode(row, &mut bytes).unwrap();
        (bytes, print)
    });
    both.collect()
}

/// Holds that both encodings of two rows are equal exactly if the values are.
fn told_apart<T: PartialEq + std::fmt::Debug>(values: &[T], column: ArrayRef) -> Result<(), TestCaseError> {
    let encoded = encoded(&Keys::drawn(), column);
    for (one, (bytes, print)) in values.iter().zip(&encoded) {
        for (other, (other_bytes, other_print)) in values.iter().zip(&encoded) {
            prop_assert_eq!(one == other, bytes == other_bytes, "{:?} and {:?}", one, other);
            prop_assert_eq!(one == other, print == other_print, "{:?} and {:?}", one, other);
        }
    }
    Ok(())
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
        Arc::new(NullArray::new(2)),
        Arc::new(DurationSecondArray::from(vec![7, i64::MAX, i64::MAX - 1, i64::MIN])),
        Arc::new(
            RunArray::try_new(&Int32Array::from(vec![2, 3]), &StringArray::from(vec![None, Some("")]))
                .unwrap(),
        ),
        Arc::new(lists(&alike())),
        Arc::new(lists(&alike()).slice(1, 5)),
        lists_of_lists(&[Some(alike()), Some(vec![]), Some(vec![None]), None]),
        structs(&alike().into_iter().map(|list| Some((None, list))).collect::<Vec<_>>(), ["p", "q"]),
        structs(&[Some((text("1, q: []"), None)), Some((text(""), None)), None], ["p", "q"]),
        structs(&[Some((text(""), None))], ["p", "r"]),
        maps(&[Some(vec![("a".into(), text("1, b: 2"))]), Some(vec![]), None]),
        maps(&[Some(vec![("a".into(), text("1")), ("b".into(), text("2"))]), Some(vec![("a".into(), None)])]),
    ]
}

#[test]
fn prints_are_equal_exactly_where_canonical_bytes_are() {
    let keys = Keys::drawn();
    let all: Vec<_> = columns().into_iter().flat_map(|column| encoded(&keys, column)).collect();
    for (one_bytes, one) in &all {
        for (other_bytes, other) in &all {
            assert_eq!(one == other, one_bytes == other_bytes, "{one_bytes:?} and {other_bytes:?}");
        }
    }
}

#[test]
fn nested_values_do_not_depend_on_their_layout() {
    let keys = Keys::drawn();
    let pairs = vec![Some(vec![text("a, b"), None]), None, Some(vec![text("a"), text("b")])];
    let list: ArrayRef = Arc::new(lists(&pairs));
    let expected = encoded(&keys, list.clone());
    let item = |kind: DataType| Arc::new(Field::new_list_field(kind, true));
    for kind in [
        DataType::LargeList(item(DataType::Utf8)),
        DataType::FixedSizeList(item(DataType::LargeUtf8), 2),
        DataType::ListView(item(DataType::Utf8)),
        DataType::LargeListView(item(DataType::Utf8)),
        DataType::List(item(DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::LargeUtf8)))),
    ] {
        let array = cast(&list, &kind).unwrap();
        assert_eq!(encoded(&keys, array.clone()), expected, "{kind}");
        assert_eq!(encoded(&keys, array.slice(1, 2)), expected[1..], "{kind}");
    }
    let shared = DictionaryArray::new(Int8Array::from(vec![2, 1, 0]), list.clone());
    assert_eq!(encoded(&keys, Arc::new(shared)), expected.iter().rev().cloned().collect::<Vec<_>>());
    let repeated = RunArray::try_new(&Int32Array::from(vec![1, 3, 4]), list.as_ref()).unwrap();
    let [one, two, three] = expected.as_slice() else { panic!("{expected:?}") };
    assert_eq!(encoded(&keys, Arc::new(repeated)), [one, two, two, three].map(Clone::clone));
    let nulls =
        |kind: &DataType| cast(&lists(&[Some(vec![None])]), &DataType::List(item(kind.clone()))).unwrap();
    let untyped = ListArray::new(
        item(DataType::Null),
        arrow::buffer::OffsetBuffer::from_lengths([1]),
        Arc::new(NullArray::new(1)),
        None,
    );
    assert_eq!(encoded(&keys, Arc::new(untyped)), encoded(&keys, nulls(&DataType::Int64)));
}

#[test]
fn the_encoding_of_nested_values_is_what_ledgers_hold() {
    let bytes = |column: ArrayRef| encoded(&Keys::drawn(), column).remove(0).0;
    let one = 1_u64.to_le_bytes();
    let two = 2_u64.to_le_bytes();
    let list = [b"l", &two[..], b"s", &one, b"a", b"0"].concat();
    let row = Some(vec![text("a"), None]);
    assert_eq!(bytes(Arc::new(lists(std::slice::from_ref(&row)))), list);
    let fields = [b"r", &two[..], b"s", &one, b"p", b"0", b"s", &one, b"q", &list].concat();
    assert_eq!(bytes(structs(&[Some((None, row))], ["p", "q"])), fields);
    let map = [b"m", &one[..], b"s", &one, b"k", b"0"].concat();
    assert_eq!(bytes(maps(&[Some(vec![("k".into(), None)])])), map);
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

/// Short texts of what a printer puts between values.
fn any_text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[a, \\[\\]{}:]{0,3}")
}

fn any_texts() -> impl Strategy<Value = Texts> {
    proptest::option::of(vec(any_text(), 0..4))
}

proptest! {
    #[test]
    fn nested_values_are_told_apart_exactly_if_they_differ(
        texts in vec(any_texts(), 1..40),
        nested in vec(proptest::option::of(vec(any_texts(), 0..3)), 1..40),
        fields in vec(proptest::option::of((any_text(), any_texts())), 1..40),
        pairs in vec(proptest::option::of(vec(("[a, :]{0,2}", any_text()), 0..3)), 1..40),
    ) {
        told_apart(&texts, Arc::new(lists(&texts)))?;
        told_apart(&nested, lists_of_lists(&nested))?;
        told_apart(&fields, structs(&fields, ["p", "q"]))?;
        told_apart(&pairs, maps(&pairs))?;
        let from = texts.len() / 3;
        told_apart(&texts[from..], Arc::new(lists(&texts).slice(from, texts.len() - from)))?;
    }

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
