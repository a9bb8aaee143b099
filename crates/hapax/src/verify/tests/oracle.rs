//! Random multisets at both ends, against an oracle that holds everything in memory.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::join::{Findings, join};
use super::super::line::{Line, Spot};
use super::super::prints::GONE;
use super::super::scratch::{Sorter, merge};
use super::*;

type Row = (i64, &'static str);

/// The text of a record that removes the one of its key.
const REMOVES: &str = "-";

/// Missing, duplicated, unexpected, different, as the words of the report mean them, and how many are undecided.
fn oracle(splits: &[&[Row]], destination: &[Row], by_key: bool, winner: Winner) -> ([u64; 4], u64) {
    let key = |row: &Row| (row.0, if by_key { "" } else { row.1 });
    let mut there: HashMap<(i64, &str), Vec<&'static str>> = HashMap::new();
    for row in destination {
        there.entry(key(row)).or_default().push(row.1);
    }
    let (mut found, mut undecided) = ([0; 4], 0);
    let ids: HashSet<_> = splits.iter().copied().flatten().map(key).collect();
    for id in ids {
        let mut left = there.remove(&id).unwrap_or_default();
        let of = |split: &&[Row]| -> Vec<&'static str> {
            split.iter().filter(|row| key(row) == id).map(|row| row.1).collect()
        };
        let arrivals: Vec<Vec<&'static str>> =
            splits.iter().map(of).filter(|texts| !texts.is_empty()).collect();
        if winner == Winner::All {
            let mut wanted = arrivals.concat();
            left.retain(|text| match wanted.iter().position(|wanted| wanted == text) {
                Some(at) => {
                    wanted.swap_remove(at);
                    false
                }
                None => true,
            });
            let different = wanted.len().min(left.len());
            found[0] += (wanted.len() - different) as u64;
            found[1] += (left.len() - different) as u64;
            found[3] += different as u64;
            continue;
        }
        let one = |texts: &Vec<&'static str>| texts[if winner == Winner::Last { texts.len() - 1 } else { 0 }];
        let right: HashSet<&str> = arrivals.iter().map(one).collect();
        undecided += u64::from(right.len() > 1);
        if right == HashSet::from([REMOVES]) {
            found[2] += left.len() as u64;
            continue;
        }
        found[0] += u64::from(left.is_empty() && !right.contains(REMOVES));
        found[1] += left.len().saturating_sub(1) as u64;
        found[3] += u64::from(!left.is_empty() && !left.iter().any(|text| right.contains(text)));
    }
    found[2] += there.values().map(|rows| rows.len() as u64).sum::<u64>();
    (found, undecided)
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    vec((0_i64..12, prop::sample::select(vec!["a", "b", "c"])), 0..40)
}

fn winners() -> impl Strategy<Value = Winner> {
    prop::sample::select(vec![Winner::All, Winner::Claimed, Winner::First, Winner::Last])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_comparison_finds_what_the_oracle_finds(
        source in rows(),
        changes in vec((0_usize..40, 0_u8..3, 0_i64..14), 0..4),
        cut in 0_usize..40,
        by_key: bool,
        has_twins: bool,
        winner in winners(),
    ) {
        // The destination is the source, put in another order and changed in a few places.
        let mut destination = source.clone();
        destination.reverse();
        for (at, what, id) in changes {
            let at = at % (destination.len() + 1);
            match what {
                0 => destination.insert(at, (id, "a")),
                _ if at == destination.len() => {}
                1 => drop(destination.remove(at)),
                _ => destination[at].1 = "c",
            }
        }
        let (one, two) = source.split_at(cut.min(source.len()));
        let ends = (Rows(vec![one.to_vec(), two.to_vec()]), Rows(vec![destination.clone(), Vec::new()]));
        let identity = if by_key { by_id() } else { Identity::Position };
        let comparison = Comparison { has_twins, ..comparison(&ends.0, &ends.1, identity, winner) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let report = runtime.block_on(compare(comparison)).unwrap();
        let (expected, undecided) = oracle(&[one, two], &destination, by_key, winner);
        prop_assert_eq!(counts(&report), expected, "{:#?}", report);
        prop_assert_eq!(report.undecided, undecided, "{:#?}", report);
        prop_assert_eq!(report.equal, expected == [0; 4]);
    }

    #[test]
    fn what_the_source_removes_is_expected_to_be_gone(
        one in vec((0_i64..12, prop::sample::select(vec!["a", "b", REMOVES])), 0..40),
        two in vec((0_i64..12, prop::sample::select(vec!["a", "b", REMOVES])), 0..40),
        destination in rows(),
        winner in prop::sample::select(vec![Winner::First, Winner::Last]),
    ) {
        let (found, missing) = joined(&[&one, &two], &destination, winner, 1 << 20);
        let (expected, undecided) = oracle(&[&one, &two], &destination, true, winner);
        prop_assert_eq!(records(&found), expected);
        prop_assert_eq!(found.undecided, undecided);
        // A repair moves what is missing, and removes nothing.
        prop_assert_eq!(missing.len() as u64, found.missing.records - found.missing_undecided);
        for spot in missing {
            prop_assert!([&one, &two][spot.split as usize][spot.ordinal as usize].1 != REMOVES);
        }
    }

    /// With next to no memory, so that everything goes through files, and runs are merged into longer ones.
    #[test]
    fn scratch_files_change_nothing(source in rows(), destination in rows(), winner in winners()) {
        let (found, missing) = joined(&[&source], &destination, winner, 1);
        prop_assert_eq!(records(&found), oracle(&[&source], &destination, true, winner).0);
        let (_, in_memory) = joined(&[&source], &destination, winner, 1 << 20);
        prop_assert_eq!(&missing, &in_memory);
        // Each missing record once, and nothing that is there.
        let of = |spot: &Spot| source[spot.ordinal as usize].0;
        match winner {
            Winner::All => prop_assert_eq!(missing.len() as u64, found.missing.records),
            Winner::Claimed | Winner::First | Winner::Last => {
                let lost: HashSet<i64> = missing.iter().map(of).collect();
                prop_assert_eq!(lost.len() as u64, found.missing.records);
                prop_assert!(destination.iter().all(|(id, _)| !lost.contains(id)));
                // Where no ledger decides, only the one that is expected: an earlier version written alone stays.
                let places: usize = match winner {
                    Winner::Claimed => {
                        lost.iter().map(|id| source.iter().filter(|row| row.0 == *id).count()).sum()
                    }
                    _ => lost.len(),
                };
                prop_assert_eq!(missing.len(), places);
                if winner == Winner::Last {
                    for spot in &missing {
                        let mut later = source.iter().skip(spot.ordinal as usize + 1);
                        prop_assert!(later.all(|row| row.0 != of(spot)));
                    }
                }
            }
        }
    }
}

fn records(found: &Findings) -> [u64; 4] {
    [&found.missing, &found.duplicated, &found.unexpected, &found.different].map(|finds| finds.records)
}

fn joined(source: &[&[Row]], destination: &[Row], winner: Winner, bytes_max: usize) -> (Findings, Vec<Spot>) {
    let lines = |splits: &[&[Row]]| {
        let mut sorter = Sorter::new(bytes_max);
        for (split, rows) in (0..).zip(splits) {
            for (ordinal, (id, text)) in rows.iter().enumerate() {
                let id = *id as u128;
                let content = if *text == REMOVES { GONE } else { u128::from(text.as_bytes()[0]) << 64 | id };
                let spot = Spot { split, ordinal: ordinal as u64 };
                sorter.push(Line { id, content, optional: false, spot }).unwrap();
            }
        }
        merge(vec![sorter]).unwrap()
    };
    let mut places = Sorter::new(bytes_max);
    let found = join(lines(source), lines(&[destination]), winner, Some(&mut places)).unwrap();
    (found, merge(vec![places]).unwrap().map(Result::unwrap).collect())
}

#[test]
fn as_many_records_of_one_identity_as_one_likes_need_no_more_memory() {
    // 200,000 records of one key at each end, of which one differs, with room for 700.
    let source: Vec<Row> = (0..200_000).map(|_| (7, "a")).collect();
    let mut destination = source.clone();
    destination[77_777].1 = "b";
    destination.pop();
    let (found, missing) = joined(&[&source], &destination, Winner::All, 32 * 1024);
    assert_eq!((found.different.records, found.missing.records, missing.len()), (1, 1, 1));
}

#[test]
fn what_was_removed_meanwhile_may_be_there_or_not() {
    let content = |text: &str| if text == REMOVES { GONE } else { u128::from(text.as_bytes()[0]) };
    let found = |source: &[(&str, bool)], destination: &[&str]| {
        let (mut there, mut held) = (Sorter::new(1 << 20), Sorter::new(1 << 20));
        for (ordinal, (text, optional)) in (0..).zip(source) {
            let spot = Spot { split: 0, ordinal };
            there.push(Line { id: 7, content: content(text), optional: *optional, spot }).unwrap();
        }
        for text in destination {
            let spot = Spot { split: 0, ordinal: 0 };
            held.push(Line { id: 7, content: content(text), optional: false, spot }).unwrap();
        }
        let (there, held) = (merge(vec![there]).unwrap(), merge(vec![held]).unwrap());
        records(&join(there, held, Winner::Last, None).unwrap())
    };
    let moved: &[(&str, bool)] = &[("a", false), (REMOVES, true)];
    assert_eq!(found(moved, &[]), [0; 4]);
    assert_eq!(found(moved, &["a"]), [0; 4]);
    assert_eq!(found(moved, &["b"]), [0, 0, 0, 1]);
    assert_eq!(found(&[(REMOVES, true)], &[]), [0; 4]);
    assert_eq!(found(&[(REMOVES, true)], &["a"]), [0, 0, 1, 0]);
    // Removed, and put there again meanwhile.
    let again: &[(&str, bool)] = &[(REMOVES, false), ("b", true)];
    assert_eq!(found(again, &[]), [0; 4]);
    assert_eq!(found(again, &["b"]), [0; 4]);
    assert_eq!(found(again, &["a"])[0..2], [0, 0]);
    assert_ne!(found(again, &["a"]), [0; 4]);
}
