use super::*;

#[test]
fn of_two_writers_at_one_end_one_wins_and_the_other_learns_it() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Chain::new(directory.path().join("chain"));
    let temp = directory.path().join("temp");
    assert!(chain.last::<u32>().unwrap().is_none());
    assert!(matches!(chain.append(1, &10, &temp).unwrap(), Appended::Done));
    assert!(matches!(chain.append(1, &11, &temp).unwrap(), Appended::Taken));
    assert_eq!(chain.last::<u32>().unwrap(), Some((1, 10)));
    assert!(!temp.exists());
}

#[test]
fn an_appender_whose_number_was_pruned_learns_that_it_was_overtaken() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Chain::new(directory.path().join("chain"));
    let temp = directory.path().join("temp");
    for number in 1..=48 {
        assert!(matches!(chain.append(number, &number, &temp).unwrap(), Appended::Done));
        chain.prune();
    }
    assert_eq!(chain.numbers().unwrap().len(), KEPT, "pruned as soon as there are twice as many");
    assert!(matches!(chain.append(2, &99, &temp).unwrap(), Appended::Overtaken));
    assert_eq!(chain.last::<u64>().unwrap(), Some((48, 48)));
}

#[test]
fn a_torn_entry_is_named_not_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Chain::new(directory.path().to_owned());
    fs::write(chain.path(1), b"{\"half").unwrap();
    assert!(matches!(chain.last::<u32>(), Err(Failure::StateDamaged { .. })));
}
