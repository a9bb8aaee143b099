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
    }
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
    let found = find(&path, vec![line(4, 20, 5)], &split, &[24, 3, 10, 25, 19]).unwrap();
    let epochs: Vec<(u64, u64)> =
        found.iter().map(|(ordinal, commit)| (*ordinal, commit.commit.epoch.get())).collect();
    assert_eq!(epochs, [(3, 1), (10, 2), (19, 2), (24, 4)]);
    assert_eq!(found[&10].records, 10..20);
    assert!(find(&directory.path().join("none"), Vec::new(), &split, &[1]).unwrap().is_empty());
}
