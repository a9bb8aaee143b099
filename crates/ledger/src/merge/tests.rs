use super::*;
use crate::entry::{Key, Spot};
use crate::memory::MemoryStore;
use crate::store::{SegmentId, SplitNumber};

/// Loads a segment of these pages, each with these keys.
fn load(pages: &[&[u128]], entries: u64) -> Result<(), Error<crate::memory::Absent>> {
    let (mut store, id) = (MemoryStore::default(), SegmentId(1));
    for (number, keys) in (0..).zip(pages) {
        let mut draft = page::Draft::default();
        for key in *keys {
            draft.push(Entry { key: Key(*key), spot: Spot { split: SplitNumber(0), ordinal: 0 } });
        }
        store.write_page(id, number, draft.finish(id, number)).unwrap();
    }
    let info = SegmentInfo { id, level: 0, entries, pages: u32::try_from(pages.len()).unwrap() };
    store.seal(info, &[]).unwrap();
    crate::segment::Segment::load(&mut store, info).map(|_| ())
}

#[test]
fn a_segment_out_of_order_is_damaged_however_whole_its_pages_are() {
    load(&[&[1, 2], &[3]], 3).unwrap();
    for (pages, entries, damage) in [
        (&[&[1, 3], &[2][..]][..], 3, Damage::Order),
        (&[&[1, 3], &[3][..]], 3, Damage::Order),
        (&[&[2, 1], &[3][..]], 3, Damage::Order),
        (&[&[1, 2], &[3][..]], 4, Damage::Count),
    ] {
        let met = load(pages, entries).unwrap_err();
        assert!(matches!(&met, Error::Broken(Broken::Page { what, .. }) if *what == damage), "{met}");
    }
}
