use super::*;

fn read(cache: &mut Cache, page: u32) -> bool {
    let mut filled = false;
    let bytes = cache
        .get((SegmentId(1), page), |into| {
            filled = true;
            into.clear();
            into.extend_from_slice(&page.to_le_bytes());
            Ok::<_, ()>(())
        })
        .unwrap();
    assert_eq!(bytes, page.to_le_bytes());
    filled
}

#[test]
fn a_page_is_read_once_while_there_is_room() {
    let mut cache = Cache::new(3);
    assert_eq!(
        [0, 1, 2, 0, 1, 2].map(|page| read(&mut cache, page)),
        [true, true, true, false, false, false]
    );
    assert!(read(&mut cache, 3));
    assert_eq!(cache.slots.len(), 3);
    cache.clear();
    assert!(read(&mut cache, 3));
}

#[test]
fn a_page_that_could_not_be_read_is_not_remembered() {
    let mut cache = Cache::new(1);
    read(&mut cache, 1);
    cache
        .get((SegmentId(1), 2), |into| {
            into.push(9);
            Err(())
        })
        .unwrap_err();
    assert!(read(&mut cache, 2));
    assert!(read(&mut cache, 1));
}
