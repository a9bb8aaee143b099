use super::*;

#[test]
fn scrambling_loses_nothing_and_stays_as_it_is() {
    for n in (0..128).map(|bit| 1_u128 << bit).chain(0..1000) {
        let id = RecordId(n.to_be_bytes());
        assert_eq!(Key::of(&id).id(), id);
    }
    // Stored keys depend on it: a change makes every ledger unreadable without an error.
    assert_eq!(
        Key::of(&RecordId(*b"0123456789abcdef")).0,
        251_479_028_194_927_863_763_187_720_771_809_434_488
    );
}

#[test]
fn an_entry_survives_its_bytes() {
    let spot = Spot { split: SplitNumber(0x0102_0304), ordinal: 0x0506_0708_090a_0b0c };
    let entry = Entry { key: Key(0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00), spot };
    let bytes = entry.to_bytes();
    assert_eq!(Entry::from_bytes(&bytes), entry);
    assert_eq!((bytes[0], bytes[16], bytes[27]), (0x11, 1, 0x0c));
}
