//! The embedded store: what is in the directory survives, what is half there does not.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use std::fs;
use std::path::Path;

use hapax_ledger::directory::{DirectoryStore, Look, StoreError};
use hapax_ledger::store::{SegmentId, SegmentInfo, SegmentStore, Segments, SplitNumber};
use hapax_ledger::{Error, Ledger, Settings};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::SplitId;

const SMALL: Settings =
    Settings { page_bytes: 200, fan_in: 3, merge_entries_max: 1 << 24, cached_pages_max: 4 };

fn open(path: &Path) -> Ledger<DirectoryStore> {
    Ledger::with_settings(DirectoryStore::open(path).unwrap(), SMALL).unwrap()
}

fn arrivals(numbers: std::ops::Range<u64>) -> Vec<(RecordId, u64)> {
    numbers.map(|n| (RecordId((u128::from(n) * 0x1234_5678_9abc_def1).to_be_bytes()), n)).collect()
}

fn commit(ledger: &mut Ledger<DirectoryStore>, split: &str, numbers: std::ops::Range<u64>) {
    let answers = ledger.claim(&SplitId::new(split), &arrivals(numbers)).unwrap();
    assert!(answers.iter().all(|answer| *answer == Claim::New));
    ledger.flush().unwrap();
    ledger.committed();
}

fn files(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_ledger_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("not/there/yet");
    for round in 0..20 {
        let mut ledger = open(&path);
        assert_eq!(ledger.stats().identities, round * 50);
        let known = ledger.claim(&SplitId::new("other"), &arrivals(0..round * 50)).unwrap();
        for (n, answer) in known.iter().enumerate() {
            let Claim::Twin { of } = answer else { panic!("{n}: {answer:?}") };
            assert_eq!((of.split.as_str(), of.ordinal), (&*format!("split {}", n / 50), n as u64));
        }
        commit(&mut ledger, &format!("split {round}"), round * 50..round * 50 + 50);
    }
    assert!(files(&path).len() <= 8, "{:?}", files(&path));
}

#[test]
fn what_a_crash_leaves_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut ledger = open(path);
    for n in 0..2 {
        commit(&mut ledger, "a", n * 50..n * 50 + 50);
    }
    let kept: Vec<_> =
        ["seg-1-l0.led", "seg-2-l0.led"].map(|name| (name, fs::read(path.join(name)).unwrap())).into();
    commit(&mut ledger, "a", 100..150);
    ledger.store_mut().forget_replaced();
    drop(ledger);
    let whole = files(path);
    assert_eq!(whole, ["seg-3-l1.led", "splits.led"]);
    // Replaced segments that were not removed, a draft, a reserved name, a name of a split cut off.
    for (name, bytes) in kept {
        fs::write(path.join(name), bytes).unwrap();
    }
    fs::write(path.join("tmp-4-1-0.led"), b"half").unwrap();
    fs::write(path.join("seg-4-l0.led"), b"").unwrap();
    let splits = fs::read(path.join("splits.led")).unwrap();
    for tail in [&splits[8..splits.len() - 1], &[0; 100]] {
        fs::write(path.join("splits.led"), [&splits, tail].concat()).unwrap();
        let mut ledger = open(path);
        assert_eq!(files(path), whole);
        assert_eq!(fs::read(path.join("splits.led")).unwrap(), splits);
        assert_eq!(ledger.stats().identities, 150);
        let again = ledger.claim(&SplitId::new("a"), &arrivals(0..150)).unwrap();
        assert!(again.iter().all(|answer| *answer == Claim::Replay));
    }
}

#[test]
fn what_no_commit_names_never_happened_merged_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut ledger = open(path);
    for n in 0..2 {
        commit(&mut ledger, "a", n * 50..n * 50 + 50);
    }
    let named = ledger.last_segment();
    // Merges the two before it away; then the process dies without a commit that names the result.
    commit(&mut ledger, "a", 100..150);
    assert_eq!(ledger.stats().segments, 1);
    drop(ledger);
    let store = DirectoryStore::open_through(path, named).unwrap();
    let mut ledger = Ledger::with_settings(store, SMALL).unwrap();
    assert_eq!((ledger.last_segment(), ledger.stats().identities), (named, 100));
    let again = ledger.claim(&SplitId::new("a"), &arrivals(0..100)).unwrap();
    assert!(again.iter().all(|answer| *answer == Claim::Replay));
    commit(&mut ledger, "b", 100..150);
    ledger.store_mut().forget_replaced();
    drop(ledger);
    assert_eq!(files(path), ["seg-3-l1.led", "splits.led"]);
    assert_eq!(open(path).stats().identities, 150);
}

#[test]
fn a_ledger_without_the_segment_that_a_commit_names_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut ledger = open(path);
    commit(&mut ledger, "a", 0..50);
    let named = ledger.last_segment();
    drop(ledger);
    assert!(DirectoryStore::open_through(path, named).is_ok());
    fs::remove_file(path.join("seg-1-l0.led")).unwrap();
    assert!(matches!(DirectoryStore::open_through(path, named), Err(StoreError::Damaged { .. })));
    assert!(DirectoryStore::open_through(path, SegmentId(0)).is_ok(), "no commit names anything");
}

#[test]
fn names_of_splits_that_end_in_zeros_were_never_given_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let splits = path.join("splits.led");
    // The file was made, and nothing of it written.
    fs::write(&splits, [0; 8]).unwrap();
    commit(&mut open(path), "a", 0..10);
    let durable = fs::read(&splits).unwrap();
    commit(&mut open(path), "a split with a long name", 10..20);
    let whole = fs::read(&splits).unwrap();
    fs::remove_file(path.join("seg-2-l0.led")).unwrap();
    for kept in durable.len()..whole.len() {
        let mut torn = whole[..kept].to_vec();
        torn.resize(whole.len(), 0);
        fs::write(&splits, torn).unwrap();
        assert_eq!(open(path).stats().identities, 10, "{kept} bytes");
        assert_eq!(fs::read(&splits).unwrap(), durable, "{kept} bytes");
    }
}

#[test]
fn a_damaged_file_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    commit(&mut open(path), "a", 0..10);
    for name in ["seg-1-l0.led", "splits.led"] {
        let whole = fs::read(path.join(name)).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            fs::write(path.join(name), &bytes).unwrap();
            let opened = DirectoryStore::open(path).map_err(Error::Store).and_then(Ledger::open);
            assert!(opened.is_err(), "{name} byte {at}");
        }
        fs::write(path.join(name), &whole).unwrap();
    }
    let whole = fs::read(path.join("seg-1-l0.led")).unwrap();
    fs::write(path.join("seg-1-l0.led"), &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(DirectoryStore::open(path), Err(StoreError::Damaged { .. })));
    assert!(path.join("seg-1-l0.led").exists(), "a damaged segment is kept for whoever looks into it");
}

#[test]
fn a_second_writer_never_overwrites_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut one, mut two) = (open(path), open(path));
    commit(&mut one, "a", 0..50);
    let before = fs::read(path.join("seg-1-l0.led")).unwrap();
    two.claim(&SplitId::new("a"), &arrivals(100..150)).unwrap();
    let met = two.flush().unwrap_err();
    assert!(matches!(&met, Error::Store(StoreError::OtherWriter { .. })), "{met}");
    drop(two);
    assert_eq!(fs::read(path.join("seg-1-l0.led")).unwrap(), before);
    assert_eq!(files(path), ["seg-1-l0.led", "splits.led"]);
}

#[test]
fn a_segment_is_not_there_before_it_is_sealed() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(directory.path()).unwrap();
    store.write_page(SegmentId(1), 0, b"page").unwrap();
    assert_eq!(store.segments().unwrap(), []);
    let mut bytes = Vec::new();
    assert!(store.read_page(SegmentId(1), 0, &mut bytes).is_err());
    let info = SegmentInfo { id: SegmentId(1), level: 0, entries: 1, pages: 1 };
    store.seal(info, &[]).unwrap();
    store.read_page(SegmentId(1), 0, &mut bytes).unwrap();
    assert_eq!((store.segments().unwrap(), &*bytes), (vec![info], &b"page"[..]));
    assert!(matches!(store.split(SplitNumber(3)), Err(StoreError::NoSuchSplit(SplitNumber(3)))));
}

#[test]
fn a_look_finds_what_commits_name_and_leaves_everything_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    assert!(Look::through(&path, SegmentId(9)).is_err(), "looking made a directory");
    let mut ledger = open(&path);
    for round in 0..7 {
        commit(&mut ledger, &format!("split {round}"), round * 50..round * 50 + 50);
        ledger.store_mut().forget_replaced();
    }
    let named = ledger.last_segment();
    // Sealed, and no commit names it.
    ledger.claim(&SplitId::new("late"), &arrivals(1000..1010)).unwrap();
    ledger.flush().unwrap();
    fs::write(path.join("tmp-99-1-1.led"), "a draft").unwrap();
    let before = files(&path);
    let mut look = Look::through(&path, named).unwrap();
    for (id, n) in arrivals(0..350) {
        let place = Place { split: SplitId::new(format!("split {}", n / 50)), ordinal: n };
        assert_eq!(hapax_ledger::find(&mut look, &id).unwrap(), Some(place));
    }
    for (id, _) in arrivals(350..1010) {
        assert_eq!(hapax_ledger::find(&mut look, &id).unwrap(), None);
    }
    assert_eq!(files(&path), before);
    // What was opened stays readable when whoever writes removes it.
    fs::remove_dir_all(&path).unwrap();
    assert!(hapax_ledger::find(&mut look, &arrivals(3..4)[0].0).unwrap().is_some());
}
