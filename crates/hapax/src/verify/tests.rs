// Small numbers of the test itself.
#![allow(clippy::as_conversions)]

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use hapax_engine::Fut;
use hapax_engine::batch::{Batch, Ordinals, ReadLimit};
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::durable::Durable;
use hapax_engine::source::{Split, SplitReader};
use hapax_protocol::guarantee::{Completeness, Order, Replay, Retention, Settle, SourceFacts};

use super::*;

mod moving;
mod oracle;

/// Rows of (id, text), split by split.
#[derive(Clone)]
struct Rows(Vec<Vec<(i64, &'static str)>>);

fn batch(rows: &[(i64, &str)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
    RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap()
}

impl Source for Rows {
    fn facts(&self) -> SourceFacts {
        SourceFacts {
            completeness: Completeness::Complete,
            replay: Replay::Exact,
            retention: Retention::Unbounded,
            order: Order::PerKey,
            settle: Settle::Seek,
            condition: None,
        }
    }

    fn schema(&self) -> arrow::datatypes::SchemaRef {
        batch(&[]).schema()
    }

    fn splits(&self) -> Fut<'_, Vec<Split>, SourceError> {
        let splits = (0..self.0.len()).map(|n| Split { id: split(n), source_bytes: None }).collect();
        Box::pin(async { Ok(splits) })
    }

    fn open(&self, id: &SplitId, after: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        let at = after.map_or(0, |at| u64::from_be_bytes(at.as_bytes().try_into().unwrap()) as usize);
        let n: usize = id.as_str()[1..].parse().unwrap();
        let head = Head { split: id.clone(), rows: self.0[n].clone(), at };
        Box::pin(async move { Ok(Box::new(head) as Box<dyn SplitReader>) })
    }

    fn describe(&self, _: &Position) -> String {
        String::new()
    }

    fn rejects_with(&self, _: Code) -> bool {
        false
    }

    fn reread(&self, _: &DeadLetter) -> Fut<'_, RecordBatch, SourceError> {
        Box::pin(async { Err(SourceError::stop(VerifyError::Defect)) })
    }
}

struct Head {
    split: SplitId,
    rows: Vec<(i64, &'static str)>,
    at: usize,
}

fn split(n: usize) -> SplitId {
    SplitId::new(format!("s{n}"))
}

fn position(at: usize) -> Position {
    Position::new((at as u64).to_be_bytes().as_slice())
}

impl SplitReader for Head {
    fn read(&mut self, _: ReadLimit) -> Fut<'_, Option<Batch>, SourceError> {
        let from = self.at;
        let to = (from + 3).min(self.rows.len());
        self.at = to;
        let records = batch(&self.rows[from..to]);
        let split = self.split.clone();
        Box::pin(async move {
            Ok((from < to).then(|| Batch {
                split,
                after: (from > 0).then(|| position(from)),
                through: position(to),
                records,
                ordinals: Ordinals::From(from as u64),
                rejected: Vec::new(),
                source_bytes: 0,
            }))
        })
    }

    fn acknowledge(&mut self, _: Durable<Position>) -> Fut<'_, (), SourceError> {
        Box::pin(async { Ok(()) })
    }
}

fn moved(records: usize) -> Moved {
    Moved { through: position(records), records: records as u64 }
}

/// A comparison of what was moved wholly.
fn comparison(source: &Rows, destination: &Rows, identity: Identity, winner: Winner) -> Comparison {
    let moved = source.0.iter().enumerate().map(|(n, rows)| (split(n), moved(rows.len())));
    Comparison {
        transform: None,
        identity,
        winner,
        deletes: None,
        set_aside: HashSet::new(),
        moved: moved.collect(),
        source: Arc::new(source.clone()),
        destination: Arc::new(destination.clone()),
        has_twins: false,
        again: None,
        progress: Progress::default(),
    }
}

async fn compared(
    source: &[(i64, &'static str)],
    destination: &[(i64, &'static str)],
    identity: Identity,
    winner: Winner,
) -> Report {
    let (source, destination) = (Rows(vec![source.to_vec()]), Rows(vec![destination.to_vec()]));
    compare(comparison(&source, &destination, identity, winner)).await.unwrap()
}

fn by_id() -> Identity {
    Identity::Key(vec!["id".to_owned()])
}

fn counts(report: &Report) -> [u64; 4] {
    [&report.missing, &report.duplicated, &report.unexpected, &report.different]
        .map(|finding| finding.records)
}

#[tokio::test]
async fn equal_ends_are_equal_in_any_order() {
    let report = compared(
        &[(1, "a"), (2, "b"), (3, "c"), (4, "d")],
        &[(4, "d"), (2, "b"), (1, "a"), (3, "c")],
        by_id(),
        Winner::All,
    )
    .await;
    assert!(report.equal, "{report:?}");
    assert_eq!((report.source_records, report.destination_records), (4, 4));
}

#[tokio::test]
async fn every_kind_of_difference_is_named() {
    let report = compared(
        &[(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")],
        &[(1, "a"), (2, "x"), (4, "d"), (4, "d"), (5, "e"), (9, "z")],
        by_id(),
        Winner::All,
    )
    .await;
    assert!(!report.equal);
    assert_eq!(counts(&report), [1, 1, 1, 1], "{report:#?}");
    assert_eq!(report.missing.examples[0].identity, "id=3");
    assert_eq!(report.duplicated.examples[0].identity, "id=4");
    assert_eq!(report.unexpected.examples[0].identity, "id=9");
    let column = &report.different.examples[0].columns[0];
    assert_eq!(
        (column.column.as_str(), column.source.as_str(), column.destination.as_str()),
        ("text", "b", "x")
    );
}

#[tokio::test]
async fn of_twins_the_first_or_the_last_is_expected() {
    let source = [(1, "old"), (2, "b"), (1, "new")];
    assert!(compared(&source, &[(1, "old"), (2, "b")], by_id(), Winner::First).await.equal);
    assert!(compared(&source, &[(1, "new"), (2, "b")], by_id(), Winner::Last).await.equal);
    let wrong = compared(&source, &[(1, "new"), (2, "b")], by_id(), Winner::First).await;
    assert_eq!((wrong.twins, counts(&wrong)), (1, [0, 0, 0, 1]));
    let both = compared(&source, &source, by_id(), Winner::First).await;
    assert_eq!(counts(&both), [0, 1, 0, 0]);
    assert!(compared(&source, &source, by_id(), Winner::All).await.equal);
}

#[tokio::test]
async fn records_without_identity_are_compared_by_content_and_count() {
    let source = [(1, "a"), (1, "a"), (2, "b")];
    assert!(compared(&source, &source, Identity::Position, Winner::All).await.equal);
    let once = compared(&source, &[(1, "a"), (2, "b")], Identity::Position, Winner::All).await;
    assert_eq!(counts(&once), [1, 0, 0, 0]);
    let thrice = compared(&[(1, "a"), (2, "b")], &source, Identity::Position, Winner::All).await;
    assert_eq!(counts(&thrice), [0, 1, 0, 0]);
}

#[tokio::test]
async fn two_ends_that_both_hold_every_twin_are_not_equal() {
    let source = [(1, "a"), (1, "b"), (2, "c")];
    let report = compared(&source, &source, by_id(), Winner::First).await;
    assert!(!report.equal);
}

#[tokio::test]
async fn what_was_set_aside_or_not_moved_yet_is_not_missing() {
    let source: Vec<(i64, &'static str)> = vec![(1, "a"), (2, "b"), (3, "c"), (4, "d")];
    let (source, destination) = (Rows(vec![source]), Rows(vec![vec![(1, "a"), (3, "c")]]));
    let report = compare(Comparison {
        set_aside: HashSet::from([Place { split: split(0), ordinal: 1 }]),
        moved: vec![(split(0), moved(3))],
        ..comparison(&source, &destination, by_id(), Winner::All)
    })
    .await
    .unwrap();
    assert!(report.equal, "{report:#?}");
    assert_eq!((report.set_aside, report.source_records), (1, 2));
}

#[tokio::test]
async fn a_position_inside_a_batch_ends_the_comparison_there() {
    let rows = vec![(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")];
    let (source, destination) = (Rows(vec![rows.clone()]), Rows(vec![rows[..4].to_vec()]));
    let report = compare(Comparison {
        moved: vec![(split(0), moved(4))],
        ..comparison(&source, &destination, by_id(), Winner::All)
    })
    .await
    .unwrap();
    assert!(report.equal, "{report:#?}");
}

#[tokio::test]
async fn what_tells_records_apart_is_said() {
    let rows = [(1, "a")];
    let by = |identity| compared(&rows, &rows, identity, Winner::All);
    assert_eq!(by(by_id()).await.compared_by, ComparedBy::Key);
    assert_eq!(by(Identity::Position).await.compared_by, ComparedBy::Content);
    assert_eq!(by(Identity::Hash).await.compared_by, ComparedBy::Content);
}

#[tokio::test]
async fn only_what_differs_is_compared_record_by_record() {
    let source: Vec<(i64, &'static str)> = (0..10_000).map(|id| (id, "x")).collect();
    let mut destination = source.clone();
    for winner in [Winner::All, Winner::First, Winner::Last] {
        let report = compared(&source, &source, by_id(), winner).await;
        assert_eq!((report.equal, report.ranges_compared_by_record), (true, 0), "{winner:?}");
    }
    destination[5_000].1 = "y";
    let report = compared(&source, &destination, by_id(), Winner::First).await;
    assert_eq!((counts(&report), report.ranges_compared_by_record), ([0, 0, 0, 1], 1));
    assert_eq!(report.different.examples[0].identity, "id=5000");
}

#[tokio::test]
async fn places_of_missing_records_come_in_order() {
    let source = Rows(vec![vec![(1, "a"), (2, "b"), (3, "c")], vec![(4, "d"), (2, "e"), (5, "f")]]);
    let destination = Rows(vec![vec![(1, "a"), (4, "d")]]);
    let places = async |winner| {
        let comparison = Arc::new(comparison(&source, &destination, by_id(), winner));
        let seen = look(comparison, Wanted { within: None, missing: true }).await.unwrap();
        let places: Vec<Place> = seen.missing.unwrap().map(Result::unwrap).collect();
        (seen.report.missing.records, places.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let all = ["s0 record 1", "s0 record 2", "s1 record 1", "s1 record 2"].map(str::to_owned).to_vec();
    assert_eq!(places(Winner::All).await, (4, all.clone()));
    // Of two twins only the ledger knows which one took effect: both places are given.
    assert_eq!(places(Winner::Claimed).await, (3, all));
    // Without one nobody knows, across splits.
    let decided = ["s0 record 2", "s1 record 2"].map(str::to_owned).to_vec();
    assert_eq!(places(Winner::First).await, (3, decided.clone()));
    assert_eq!(places(Winner::Last).await, (3, decided));
}

#[tokio::test]
async fn across_splits_any_version_is_right_and_in_a_split_only_the_last() {
    let source = Rows(vec![vec![(1, "old"), (1, "a")], vec![(1, "b")]]);
    let look = async |text, winner| {
        let destination = Rows(vec![vec![(1, text)]]);
        compare(comparison(&source, &destination, by_id(), winner)).await.unwrap()
    };
    for text in ["a", "b"] {
        let report = look(text, Winner::Last).await;
        assert_eq!((report.equal, report.undecided), (true, 1), "{text}: {report:#?}");
    }
    for (text, winner) in [("old", Winner::Last), ("x", Winner::Last), ("a", Winner::Claimed)] {
        assert_eq!(counts(&look(text, winner).await), [0, 0, 0, 1], "{text} {winner:?}");
    }
    assert!(look("old", Winner::First).await.equal);
    // The same contents leave nothing to decide.
    let source = Rows(vec![vec![(1, "a"), (1, "b")], vec![(1, "b")]]);
    let none = Arc::new(comparison(&source, &Rows(vec![Vec::new()]), by_id(), Winner::Last));
    let seen = super::look(none, Wanted { within: None, missing: true }).await.unwrap();
    assert_eq!((seen.report.undecided, seen.report.repairable()), (0, 1));
    assert_eq!(seen.missing.unwrap().count(), 1);
}

#[tokio::test]
async fn an_undecided_record_that_is_missing_is_not_for_a_repair() {
    let source = Rows(vec![vec![(1, "a")], vec![(1, "b")]]);
    for (winner, repairable) in [(Winner::Claimed, 1), (Winner::First, 0), (Winner::Last, 0)] {
        let comparison = comparison(&source, &Rows(vec![Vec::new()]), by_id(), winner);
        let report = compare(comparison).await.unwrap();
        assert_eq!((counts(&report), report.repairable()), ([1, 0, 0, 0], repairable), "{winner:?}");
    }
}

#[tokio::test]
async fn a_moved_split_that_the_source_has_no_more_is_said() {
    let rows = Rows(vec![vec![(1, "a")]]);
    let comparison = Comparison {
        moved: vec![(split(0), moved(1)), (split(1), moved(4))],
        ..comparison(&rows, &rows, by_id(), Winner::All)
    };
    let report = compare(comparison).await.unwrap();
    assert_eq!((report.equal, report.splits_gone, report.splits_not_moved), (true, 1, 0));
}

#[tokio::test]
async fn a_uuid_is_the_same_however_it_is_written() {
    let source = [(1, "6ba7b810-9dad-11d1-80b4-00c04fd430c8"), (2, "6ba7b811-9dad-11d1-80b4-00c04fd430c8")];
    let destination = [(1, "{6BA7B810-9DAD-11D1-80B4-00C04FD430C8}"), (2, source[1].1), (3, "none")];
    let report = compared(&source, &destination, Identity::Uuid("text".to_owned()), Winner::First).await;
    assert_eq!((counts(&report), report.unreadable), ([0, 0, 0, 1], 1));
}
