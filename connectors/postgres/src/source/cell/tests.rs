use arrow::array::AsArray;

use super::*;

fn of(base: Base, element: bool) -> Type {
    Type { base, element: element.then_some(23), name: String::new(), plain: String::new() }
}

fn array(count: i32, first: i32, elements: &[Option<&[u8]>]) -> Vec<u8> {
    let mut bytes: Vec<u8> = [1, 1, 23, count, first].iter().flat_map(|n: &i32| n.to_be_bytes()).collect();
    for element in elements {
        match element {
            None => bytes.extend((-1_i32).to_be_bytes()),
            Some(element) => {
                bytes.extend(i32::try_from(element.len()).unwrap().to_be_bytes());
                bytes.extend(*element);
            }
        }
    }
    bytes
}

#[test]
fn a_list_that_is_refused_leaves_the_next_one_whole() {
    let mut cells = Cells::new(&of(Base::Date, true));
    let (day, never) = (0_i32.to_be_bytes(), i32::MAX.to_be_bytes());
    cells.push(&array(2, 1, &[Some(&day), None])).unwrap();
    let refused = cells.push(&array(2, 1, &[Some(&day), Some(&never)])).unwrap_err();
    assert!(refused.contains("infinity"), "{refused}");
    cells.push_null();
    assert!(cells.push(&array(1, 0, &[Some(&day)])).is_err(), "an array that counts from 0 is another value");
    cells.push_null();
    cells.push(&array(1, 1, &[Some(&day)])).unwrap();
    cells.push(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 58]).unwrap();
    let field = Field::new("days", of(Base::Date, true).arrow(), true);
    let lists = cells.finish(&field).unwrap();
    let lists = lists.as_list::<i32>();
    let sizes: Vec<_> =
        (0..lists.len()).map(|row| lists.is_valid(row).then(|| lists.value(row).len())).collect();
    assert_eq!(sizes, [Some(2), None, None, Some(1), Some(0)]);
    // It begins anew.
    cells.push(&array(1, 1, &[Some(&day)])).unwrap();
    assert_eq!(cells.finish(&field).unwrap().len(), 1);
}

#[test]
fn what_arrow_cannot_say_is_refused() {
    let refused = |base: Base, bytes: &[u8]| Cells::new(&of(base, false)).push(bytes).unwrap_err();
    assert!(refused(Base::Timestamptz, &i64::MAX.to_be_bytes()).contains("infinity"));
    assert!(refused(Base::Date, &i32::MIN.to_be_bytes()).contains("-infinity"));
    assert!(refused(Base::Numeric(Some((5, 2))), &[0, 0, 0, 0, 0xC0, 0, 0, 0]).contains("NaN"));
    assert!(refused(Base::Text, b"\xff").contains("UTF-8"));
    assert!(refused(Base::Int4, b"\0").contains("no value"));
    let long = [i64::MAX.to_be_bytes().as_slice(), &[0; 8]].concat();
    assert!(refused(Base::Interval, &long).contains("hours"));
}
