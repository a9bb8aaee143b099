use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, LargeStringArray, StringArray};

use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

fn ids(identity: &Identity, records: &RecordBatch) -> Identified {
    let identifier = Identifier::new(identity, &records.schema()).unwrap();
    identifier.identify(records, &SplitId::new("s"), &Ordinals::From(0)).unwrap()
}

fn key(columns: &[&str]) -> Identity {
    Identity::Key(columns.iter().map(|c| (*c).to_owned()).collect())
}

#[test]
fn the_same_value_has_one_identity_whatever_its_layout() {
    let narrow = batch(vec![
        ("id", Arc::new(Int32Array::from(vec![1, 2]))),
        ("t", Arc::new(StringArray::from(vec!["a", "b"]))),
    ]);
    let wide = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2]))),
        ("t", Arc::new(LargeStringArray::from(vec!["a", "b"]))),
    ]);
    assert_eq!(ids(&key(&["id", "t"]), &narrow), ids(&key(&["id", "t"]), &wide));
}

#[test]
fn neighbouring_columns_do_not_run_together() {
    let a = batch(vec![
        ("x", Arc::new(StringArray::from(vec!["ab"]))),
        ("y", Arc::new(StringArray::from(vec!["c"]))),
    ]);
    let b = batch(vec![
        ("x", Arc::new(StringArray::from(vec!["a"]))),
        ("y", Arc::new(StringArray::from(vec!["bc"]))),
    ]);
    assert_ne!(ids(&key(&["x", "y"]), &a).ids, ids(&key(&["x", "y"]), &b).ids);
    let text = batch(vec![("x", Arc::new(StringArray::from(vec!["1"])))]);
    let number = batch(vec![("x", Arc::new(Int64Array::from(vec![1])))]);
    assert_ne!(ids(&key(&["x"]), &text).ids, ids(&key(&["x"]), &number).ids);
}

#[test]
fn a_null_key_is_refused_and_a_null_value_is_not() {
    let records = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("v", Arc::new(Int64Array::from(vec![None, Some(1)]))),
    ]);
    let by_key = ids(&key(&["id"]), &records);
    assert_eq!(by_key.refused.iter().map(|r| (r.row, r.code)).collect::<Vec<_>>(), [(1, codes::KEY_NULL)]);
    let by_hash = ids(&Identity::Hash, &records);
    assert!(by_hash.refused.is_empty());
    assert_ne!(by_hash.ids[0], by_hash.ids[1]);
}

#[test]
fn a_uuid_is_its_bytes() {
    let texts = vec![
        Some("67e55044-10b1-426f-9247-bb680e5fe0c8"),
        Some("{67E55044-10B1-426F-9247-BB680E5FE0C8}"),
        Some("67e5504410b1426f9247bb680e5fe0c8"),
        Some("67e55044-10b1-426f-9247-bb680e5fe0cX"),
        None,
    ];
    let records = batch(vec![("u", Arc::new(StringArray::from(texts)))]);
    let found = ids(&Identity::Uuid("u".to_owned()), &records);
    assert_eq!(found.ids[0].to_string(), "67e5504410b1426f9247bb680e5fe0c8");
    assert_eq!(found.ids[0], found.ids[1]);
    assert_eq!(found.ids[0], found.ids[2]);
    assert_eq!(found.refused.iter().map(|r| r.row).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn an_unknown_column_is_named() {
    let records = batch(vec![("id", Arc::new(Int64Array::from(vec![1])))]);
    let error = Identifier::new(&key(&["nr"]), &records.schema()).unwrap_err();
    assert!(error.to_string().contains("`nr`") && error.to_string().contains("id"));
}

#[test]
fn positions_differ_by_split_and_ordinal() {
    let records = batch(vec![("id", Arc::new(Int64Array::from(vec![1, 1])))]);
    let identifier = Identifier::new(&Identity::Position, &records.schema()).unwrap();
    let of = |split: &str, first| {
        identifier.identify(&records, &SplitId::new(split), &Ordinals::From(first)).unwrap().ids
    };
    assert_eq!(of("a", 0)[1], of("a", 1)[0]);
    assert_ne!(of("a", 0), of("b", 0));
}
