use arrow::array::{Date32Array, Int32Array};

use super::*;

fn key(columns: &[&str]) -> Identity {
    Identity::Key(columns.iter().map(|column| (*column).to_owned()).collect())
}

fn ids(text: &str, identity: &Identity, schema: Option<&Schema>) -> Result<Vec<RecordId>, Unnamed> {
    Subject::parse(text, identity, schema, |split| split.as_str() == "in.csv#0").map(|subject| subject.ids)
}

fn as_a_run_has_it(identity: &Identity, columns: Vec<(&str, ArrayRef)>) -> RecordId {
    let records = RecordBatch::try_from_iter(columns).unwrap();
    let identifier = Identifier::new(identity, &records.schema()).unwrap();
    identifier.identify(&records, &SplitId::new("s"), &Ordinals::From(0)).unwrap().ids[0]
}

#[test]
fn a_key_is_read_by_the_types_of_its_columns() {
    let one = key(&["id"]);
    let number = as_a_run_has_it(&one, vec![("id", Arc::new(Int32Array::from(vec![7])))]);
    let schema = Schema::new(vec![Field::new("id", DataType::Int32, true)]);
    for text in ["7", "id=7"] {
        assert_eq!(ids(text, &one, Some(&schema)).unwrap(), [number]);
        assert!(ids(text, &one, None).unwrap().contains(&number), "guessed");
    }
    assert!(ids("seven", &one, Some(&schema)).unwrap_err().0.contains("column `id` is Int32"));
    let text = as_a_run_has_it(&one, vec![("id", Arc::new(StringArray::from(vec!["7"])))]);
    let schema = Schema::new(vec![Field::new("id", DataType::Utf8, true)]);
    assert_eq!(ids("7", &one, Some(&schema)).unwrap(), [text]);
    assert!(ids("7", &one, None).unwrap().contains(&text), "guessed");
}

#[test]
fn a_key_of_several_columns_names_them_in_any_order() {
    let two = key(&["day", "name"]);
    let schema = Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("day", DataType::Date32, true),
    ]);
    let days: ArrayRef = Arc::new(Date32Array::from(vec![20_000]));
    let expected =
        as_a_run_has_it(&two, vec![("day", days), ("name", Arc::new(StringArray::from(vec!["a, b=c"])))]);
    for text in ["day=2024-10-04,name=a, b=c", "name=a, b=c,day=2024-10-04"] {
        assert_eq!(ids(text, &two, Some(&schema)).unwrap(), [expected], "{text}");
        assert!(ids(text, &two, None).unwrap().contains(&expected), "{text} guessed");
    }
    for text in ["2024-10-04", "day=2024-10-04", "x day=2024-10-04,name=a"] {
        assert!(ids(text, &two, Some(&schema)).unwrap_err().0.contains("day=…,name=…"), "{text}");
    }
}

#[test]
fn places_and_digits_are_read_whatever_the_identity() {
    let subject = Subject::parse("in.csv#0:12", &key(&["id"]), None, |split| split.as_str() == "in.csv#0");
    let place = Place { split: SplitId::new("in.csv#0"), ordinal: 12 };
    assert_eq!(subject.unwrap(), Subject { ids: Vec::new(), place: Some(place.clone()) });
    let subject = Subject::parse("in.csv#0:12", &Identity::Position, None, |_| false).unwrap();
    let column: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let records = RecordBatch::try_from_iter([("v", column)]).unwrap();
    let identifier = Identifier::new(&Identity::Position, &records.schema()).unwrap();
    let expected = identifier.identify(&records, &place.split, &Ordinals::From(12)).unwrap().ids;
    assert_eq!((subject.ids, subject.place), (expected, Some(place)));

    let digits = "67e5504410b1426f9247bb680e5fe0c8";
    let id = uuid(digits.as_bytes()).unwrap();
    for identity in [Identity::Hash, Identity::Position, Identity::Uuid("u".into())] {
        assert_eq!(ids(digits, &identity, None).unwrap(), [id]);
    }
    let hyphens = "67E55044-10b1-426f-9247-bb680e5fe0c8";
    assert_eq!(ids(hyphens, &Identity::Uuid("u".into()), None).unwrap(), [id]);
    assert!(ids(hyphens, &Identity::Hash, None).is_err());
    // A key of 32 digits is meant as a key as well.
    let text = Schema::new(vec![Field::new("id", DataType::Utf8, true)]);
    let both = ids(digits, &key(&["id"]), Some(&text)).unwrap();
    assert_eq!((both.len(), both.contains(&id)), (2, true));
    assert!(ids("7", &Identity::Uuid("u".into()), None).is_err());
}
