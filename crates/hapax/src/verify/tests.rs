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

/// Rows of (id, text), in one split.
struct Rows(Vec<(i64, &'static str)>);

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
        Box::pin(async { Ok(vec![Split { id: SplitId::new("s"), source_bytes: None }]) })
    }

    fn open(&self, _: &SplitId, _: Option<&Position>) -> Fut<'_, Box<dyn SplitReader>, SourceError> {
        let head = Head { rows: self.0.clone(), at: 0 };
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
    rows: Vec<(i64, &'static str)>,
    at: usize,
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
        Box::pin(async move {
            Ok((from < to).then(|| Batch {
                split: SplitId::new("s"),
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

async fn compared(
    source: &[(i64, &'static str)],
    destination: &[(i64, &'static str)],
    identity: Identity,
    winner: Winner,
) -> Report {
    compare(Comparison {
        source: Arc::new(Rows(source.to_vec())),
        transform: None,
        identity,
        winner,
        set_aside: HashSet::new(),
        moved: vec![(SplitId::new("s"), moved(source.len()))],
        destination: Arc::new(Rows(destination.to_vec())),
    })
    .await
    .unwrap()
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
    let place = Place { split: SplitId::new("s"), ordinal: 1 };
    let report = compare(Comparison {
        source: Arc::new(Rows(source)),
        transform: None,
        identity: by_id(),
        winner: Winner::All,
        set_aside: HashSet::from([place]),
        moved: vec![(SplitId::new("s"), moved(3))],
        destination: Arc::new(Rows(vec![(1, "a"), (3, "c")])),
    })
    .await
    .unwrap();
    assert!(report.equal, "{report:#?}");
    assert_eq!((report.set_aside, report.source_records), (1, 2));
}

#[tokio::test]
async fn a_position_inside_a_batch_ends_the_comparison_there() {
    let source: Vec<(i64, &'static str)> = vec![(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")];
    let report = compare(Comparison {
        source: Arc::new(Rows(source)),
        transform: None,
        identity: by_id(),
        winner: Winner::All,
        set_aside: HashSet::new(),
        moved: vec![(SplitId::new("s"), moved(4))],
        destination: Arc::new(Rows(vec![(1, "a"), (2, "b"), (3, "c"), (4, "d")])),
    })
    .await
    .unwrap();
    assert!(report.equal, "{report:#?}");
}
