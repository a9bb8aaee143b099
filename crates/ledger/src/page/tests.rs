use super::*;
use crate::store::SplitNumber;

fn page() -> Vec<u8> {
    let mut draft = Draft::default();
    for n in 0..10_u64 {
        draft.push(Entry { key: Key(u128::from(n) * 3), spot: Spot { split: SplitNumber(7), ordinal: n } });
    }
    draft.finish(SegmentId(4), 2).to_vec()
}

#[test]
fn a_page_gives_back_what_was_put_in() {
    let bytes = page();
    let entries = entries(SegmentId(4), 2, &bytes).unwrap();
    for n in 0..10_u64 {
        let spot = Spot { split: SplitNumber(7), ordinal: n };
        assert_eq!(find(entries, Key(u128::from(n) * 3)), Some(spot));
        assert_eq!(find(entries, Key(u128::from(n) * 3 + 1)), None);
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    for at in 0..page().len() {
        let mut bytes = page();
        bytes[at] ^= 1;
        assert!(entries(SegmentId(4), 2, &bytes).is_err(), "byte {at}");
    }
}

#[test]
fn a_page_is_whole_only_where_it_belongs() {
    let bytes = page();
    for (segment, page) in [(5, 2), (4, 3)] {
        let broken = entries(SegmentId(segment), page, &bytes).unwrap_err();
        assert!(matches!(broken, Broken::Page { what: Damage::Checksum, .. }), "{broken}");
    }
    for length in 0..bytes.len() {
        assert!(entries(SegmentId(4), 2, &bytes[..length]).is_err(), "cut to {length}");
    }
}
