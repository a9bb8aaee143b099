//! Ends that move while they are compared.

use super::*;

/// Says that the pipeline stands somewhere else by now.
struct Now(Stand);

impl Again for Now {
    fn stand(&self) -> Fut<'_, Stand, SinkError> {
        let stand = self.0.clone();
        Box::pin(async move { Ok(stand) })
    }
}

const SOURCE: [(i64, &str); 6] = [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (1, "e"), (5, "f")];

/// What is found if the comparison began when two records were moved and now `now` are.
async fn found(destination: &[(i64, &'static str)], winner: Winner, now: usize) -> Report {
    let (source, destination) = (Rows(vec![SOURCE.to_vec()]), Rows(vec![destination.to_vec()]));
    let stand = Stand { moved: vec![(split(0), moved(now))], set_aside: HashSet::new() };
    compare(Comparison {
        moved: vec![(split(0), moved(2))],
        again: Some(Arc::new(Now(stand))),
        ..comparison(&source, &destination, by_id(), winner)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn what_was_committed_meanwhile_may_be_there_or_not() {
    for winner in [Winner::All, Winner::First] {
        for until in 2..=4 {
            let report = found(&SOURCE[..until], winner, 4).await;
            assert!(report.equal, "{winner:?} {until}: {report:#?}");
            assert_eq!((report.source_records, report.moved_meanwhile), (2, until > 2));
        }
        // Behind what is committed by now nothing may be there.
        let report = found(&[(1, "a"), (2, "b"), (3, "c"), (5, "f")], winner, 4).await;
        assert_eq!(counts(&report), [0, 0, 1, 0], "{winner:?}");
        // What was committed before must be there.
        let report = found(&[(1, "a"), (3, "c")], winner, 4).await;
        assert_eq!(counts(&report), [1, 0, 0, 0], "{winner:?}");
        // A record that may be there may be there once, and as it is.
        let report = found(&[(1, "a"), (2, "b"), (3, "c"), (3, "c")], winner, 4).await;
        assert_eq!(counts(&report), [0, 1, 0, 0], "{winner:?}");
    }
    let report = found(&[(1, "a"), (2, "b"), (3, "x")], Winner::First, 4).await;
    assert_eq!(counts(&report), [0, 0, 0, 1]);
}

#[tokio::test]
async fn a_later_version_that_was_committed_meanwhile_is_no_difference() {
    let both = [(2, "b"), (3, "c"), (4, "d")];
    for text in ["a", "e"] {
        let report = found(&[&both[..], &[(1, text)]].concat(), Winner::Last, 5).await;
        assert!(report.equal, "{text}: {report:#?}");
    }
    let report = found(&[&both[..], &[(1, "x")]].concat(), Winner::Last, 5).await;
    assert_eq!(counts(&report), [0, 0, 0, 1]);
    // Of records that are moved once the first stays, whatever came later.
    let report = found(&[&both[..], &[(1, "e")]].concat(), Winner::First, 5).await;
    assert_eq!(counts(&report), [0, 0, 0, 1]);
}

#[tokio::test]
async fn a_dead_letter_that_was_replayed_meanwhile_may_be_there() {
    let letter = |ordinal| Place { split: split(0), ordinal };
    let source = Rows(vec![SOURCE[..4].to_vec()]);
    let look = async |destination: &[(i64, &'static str)], still: &[u64]| {
        let still = still.iter().copied().map(letter).collect();
        let stand = Stand { moved: vec![(split(0), moved(4))], set_aside: still };
        let destination = Rows(vec![destination.to_vec()]);
        compare(Comparison {
            set_aside: [1, 2].map(letter).into(),
            again: Some(Arc::new(Now(stand))),
            ..comparison(&source, &destination, by_id(), Winner::First)
        })
        .await
        .unwrap()
    };
    assert!(look(&[(1, "a"), (2, "b"), (4, "d")], &[2]).await.equal);
    assert!(look(&[(1, "a"), (4, "d")], &[2]).await.equal);
    let report = look(&[(1, "a"), (3, "c"), (4, "d")], &[2]).await;
    assert_eq!(counts(&report), [0, 0, 1, 0], "{report:#?}");
}

#[tokio::test]
async fn a_split_that_was_begun_meanwhile_may_be_there() {
    let source = Rows(vec![vec![(1, "a"), (2, "b")], vec![(3, "c"), (4, "d")]]);
    let destination = Rows(vec![vec![(1, "a"), (2, "b"), (3, "c")]]);
    let stand = Stand { moved: vec![(split(0), moved(2)), (split(1), moved(1))], set_aside: HashSet::new() };
    let report = compare(Comparison {
        moved: vec![(split(0), moved(2))],
        again: Some(Arc::new(Now(stand))),
        ..comparison(&source, &destination, by_id(), Winner::All)
    })
    .await
    .unwrap();
    assert!(report.equal, "{report:#?}");
    assert_eq!((report.splits_not_moved, report.source_records), (1, 2));
}
