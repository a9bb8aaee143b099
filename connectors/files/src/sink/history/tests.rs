use super::*;

fn line(number: u64, first: u64, read: u64) -> Line {
    Line {
        number,
        epoch: Epoch::new(number),
        token: FencingToken::new(1),
        holder: "host:1".to_owned(),
        first,
        totals: Totals { read, moved: read, ..Totals::default() },
        through: "0a".to_owned(),
        made_unix_ms: 5,
        again: Vec::new(),
    }
}

fn all(ordinals: &[u64]) -> Wanted {
    ordinals.iter().map(|ordinal| (*ordinal, None)).collect()
}

#[test]
fn commits_that_came_back_are_found_in_the_file_and_in_the_chain() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.jsonl");
    let again = |number, again: &[Range<u64>]| Line { again: again.to_vec(), ..line(number, 10, 0) };
    // Twice in the file, and in the chain as well. What no version writes is passed over.
    let (second, third) = (again(2, &[2..4, 7..8]), again(3, &[3..5, Range { start: 9, end: 1 }]));
    append(&path, &[line(1, 0, 10), second.clone(), second.clone()]).unwrap();
    let wanted: Wanted = [(1, Some(Epoch::new(3))), (3, None), (7, None)].into();
    let found = find(&path, vec![second, third], &SplitId::new("s"), &wanted).unwrap();
    let epochs = |ordinal: u64| found[&ordinal].again.keys().map(|epoch| epoch.get()).collect::<Vec<_>>();
    assert_eq!((epochs(1), epochs(3), epochs(7)), (vec![], vec![2, 3], vec![2]));
    assert_eq!(found[&1].settled.as_ref().unwrap().commit.epoch, Epoch::new(3));
    assert!(found.values().all(|commits| commits.passed.as_ref().unwrap().commit.epoch == Epoch::new(1)));
    // A line of a version that did not say.
    let old = serde_json::to_string(&line(1, 0, 10)).unwrap();
    assert!(!old.contains("again"), "{old}");
    assert_eq!(serde_json::from_str::<Line>(&old).unwrap(), line(1, 0, 10));
}

#[test]
fn a_line_that_a_crash_cut_off_is_written_again_and_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history").join("s.jsonl");
    append(&path, &[line(1, 0, 10)]).unwrap();
    let torn = serde_json::to_vec(&line(2, 10, 10)).unwrap();
    File::options().append(true).open(&path).unwrap().write_all(&torn[..torn.len() / 2]).unwrap();
    append(&path, &[line(2, 10, 10), line(3, 20, 0)]).unwrap();
    append(&path, &[line(2, 10, 10)]).unwrap();
    let split = SplitId::new("s");
    let found = find(&path, vec![line(4, 20, 5)], &split, &all(&[24, 3, 10, 25, 19])).unwrap();
    let epochs: Vec<(u64, u64)> = found
        .iter()
        .map(|(ordinal, commit)| (*ordinal, commit.passed.as_ref().unwrap().commit.epoch.get()))
        .collect();
    assert_eq!(epochs, [(3, 1), (10, 2), (19, 2), (24, 4)]);
    assert_eq!(found[&10].passed.as_ref().unwrap().records, 10..20);
    assert!(find(&directory.path().join("none"), Vec::new(), &split, &all(&[1])).unwrap().is_empty());
}
