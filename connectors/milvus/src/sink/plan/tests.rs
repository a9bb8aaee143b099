use std::sync::Arc;

use arrow::datatypes::{Field as Column, Schema};
use serde_json::json;

use super::*;
use crate::codes;
use hapax_engine::fault::Fault;

fn field(name: &str, kind: Kind) -> Field {
    Field { name: name.to_owned(), kind, is_optional: false, is_computed: false }
}

fn collection(key: Kind, is_dynamic: bool) -> Collection {
    Collection {
        name: "c".to_owned(),
        key: field("id", key),
        auto_id: false,
        fields: vec![field("vec", Kind::Vector { dimension: 2 }), field("n", Kind::Int8)],
        is_dynamic,
    }
}

fn shape(key: &[&str], columns: &[(&str, DataType)]) -> Shape {
    let columns = columns.iter().map(|(name, data_type)| Column::new(*name, data_type.clone(), true));
    Shape {
        schema: Arc::new(Schema::new(columns.collect::<Vec<_>>())),
        key: key.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn config(delete: Option<&str>) -> SinkConfig {
    serde_json::from_value(json!({ "url": "http://h", "collection": "c", "delete": delete })).unwrap()
}

fn vectors(size: i32) -> DataType {
    DataType::FixedSizeList(Arc::new(Column::new("item", DataType::Float32, true)), size)
}

#[test]
fn columns_go_to_fields_and_the_rest_where_it_may() {
    let columns = [
        ("id", DataType::Int32),
        ("vec", vectors(2)),
        ("n", DataType::Int64),
        ("gone", DataType::Boolean),
        ("more", DataType::Date32),
    ];
    let shape = shape(&["id"], &columns);
    let plan = Plan::make(collection(Kind::Int64, true), &shape, &config(Some("gone"))).unwrap();
    assert!(matches!(plan.key, KeyRule::Int(0)));
    assert_eq!(plan.fields.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((plan.dynamic, plan.delete), (Dynamic::Columns(vec![4]), Some(3)));
    let refused = Plan::make(collection(Kind::Int64, false), &shape, &config(Some("gone"))).unwrap_err();
    assert!(refused.code() == codes::COLUMN_UNFIT && refused.to_string().contains("`more`"), "{refused}");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_moves() {
    let text = Kind::Text { bytes_max: 64 };
    let good = [("id", DataType::Int64), ("vec", vectors(2)), ("n", DataType::Int64)];
    let with = |more: &[(&'static str, DataType)]| [good.as_slice(), more].concat();
    let cases = [
        (
            Kind::Int64,
            vec!["id"],
            vec![good[0].clone(), ("vec", vectors(3)), good[2].clone()],
            codes::DIMENSION,
        ),
        (Kind::Int64, vec!["id"], vec![good[0].clone(), good[2].clone()], codes::COLUMN_UNFIT),
        (Kind::Int64, vec![], good.to_vec(), codes::KEY_UNFIT),
        (Kind::Int64, vec!["id", "n"], good.to_vec(), codes::KEY_UNFIT),
        (Kind::Int64, vec!["n"], good[1..].to_vec(), codes::KEY_UNFIT),
        (text, vec!["n"], good.to_vec(), codes::KEY_UNFIT),
        (
            Kind::Int64,
            vec!["id"],
            with(&[(META, DataType::Utf8), ("x", DataType::Utf8)]),
            codes::COLUMN_UNFIT,
        ),
        (Kind::Int64, vec!["id"], with(&[(META, DataType::Int8)]), codes::COLUMN_UNFIT),
        (
            Kind::Int64,
            vec!["id"],
            vec![("id", DataType::Utf8), good[1].clone(), good[2].clone()],
            codes::KEY_UNFIT,
        ),
        (
            Kind::Int64,
            vec!["id"],
            vec![good[0].clone(), good[1].clone(), ("n", DataType::Utf8)],
            codes::COLUMN_UNFIT,
        ),
    ];
    for (key, identity, columns, code) in cases {
        let refused = Plan::make(collection(key, true), &shape(&identity, &columns), &config(None));
        assert_eq!(refused.unwrap_err().code(), code, "{identity:?} {columns:?}");
    }
    let own = Collection { auto_id: true, ..collection(Kind::Int64, true) };
    let refused = Plan::make(own, &shape(&["id"], &good), &config(None)).unwrap_err();
    assert_eq!(refused.code(), codes::AUTO_ID);
    for delete in ["n", "nothing", "id"] {
        let refused =
            Plan::make(collection(Kind::Int64, true), &shape(&["id"], &good), &config(Some(delete)));
        assert_eq!(refused.unwrap_err().code(), codes::CONFIG, "{delete}");
    }
    let made = Plan::make(
        collection(text, true),
        &shape(&["n", "x"], &with(&[("x", DataType::Utf8)])[1..]),
        &config(None),
    );
    assert!(matches!(made.unwrap().key, KeyRule::Made { .. }));
}
