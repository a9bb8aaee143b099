//! What a destination lost, moved again.

use hapax_protocol::identity::Place;
use hapax_protocol::position::{SplitId, Standing};

use super::*;

fn places(split: &str, ordinals: &[u64]) -> Vec<Place> {
    ordinals.iter().map(|&ordinal| Place { split: SplitId::new(split), ordinal }).collect()
}

async fn repair(run: Run, missing: Vec<Place>) -> Result<Repaired, RunError> {
    let repair = Repair::begin(run).await?;
    let repaired = repair.move_missing(missing.into_iter().map(Ok::<_, RunError>)).await?;
    repair.finish().await?;
    Ok(repaired)
}

/// 250 records that were moved, of which the destination lost these.
async fn lost(values: &[i64]) -> (Tape, Table, Standing) {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    run_of(&tape, &table).run().await.unwrap();
    table.lose(values);
    let standing = table.standing("a");
    (tape, table, standing)
}

fn sorted(table: &Table) -> Vec<i64> {
    let mut values = table.values();
    values.sort_unstable();
    values
}

#[tokio::test]
async fn what_is_missing_is_moved_and_the_position_stays() {
    let (tape, table, before) = lost(&[3, 77, 78, 249]).await;
    let repaired = repair(run_of(&tape, &table), places("a", &[3, 77, 78, 249])).await.unwrap();
    assert_eq!(repaired, Repaired { moved: 4, ..Repaired::default() });
    assert_eq!(sorted(&table), (0..250).collect::<Vec<_>>());
    let after = table.standing("a");
    assert_eq!((after.position, after.totals), (before.position, before.totals));
    assert_eq!(after.epoch, before.epoch.next());
    for (ordinal, again) in [(3, 1), (4, 0), (77, 1), (78, 1), (79, 0), (249, 1)] {
        assert_eq!(table.moved_again("a", ordinal), vec![after.epoch; again], "record {ordinal}");
    }
    let summary = run_of(&tape, &table).run().await.unwrap();
    assert_eq!((summary.totals.read, summary.commits), (0, 0));
}

#[tokio::test]
async fn places_without_a_record_and_splits_without_a_position_are_passed_over() {
    let (tape, table, before) = lost(&[249]).await;
    tape.spoil(100);
    let missing = [places("a", &[100, 249, 300]), places("b", &[1])].concat();
    let repaired = repair(run_of(&tape, &table), missing).await.unwrap();
    assert_eq!(repaired.moved, 1);
    assert_eq!(sorted(&table), (0..250).collect::<Vec<_>>());
    assert_eq!(table.standing("a").totals, before.totals);
}

#[tokio::test]
async fn a_lost_answer_of_a_repair_is_looked_up_by_its_epoch() {
    let all: Vec<i64> = (0..120).collect();
    let everywhere = || places("a", &(0..120).collect::<Vec<_>>());
    for nth in 1..4 {
        let (tape, table, _) = lost(&all).await;
        table.plan(table.commits() + nth, Planned::AnswerLostAfterEffect);
        repair(run_of(&tape, &table), everywhere()).await.unwrap();
        assert_eq!(sorted(&table), (0..250).collect::<Vec<_>>(), "after the effect of {nth}");

        let (tape, table, before) = lost(&all).await;
        table.plan(table.commits() + nth, Planned::AnswerLostBeforeEffect);
        let error = repair(run_of(&tape, &table), everywhere()).await.unwrap_err();
        assert!(matches!(error, RunError::NotRepaired { .. }), "{error}");
        assert_eq!(table.standing("a").totals, before.totals, "before the effect of {nth}");
        // Whoever compares again finds what is still missing.
        let there = table.values();
        let still: Vec<u64> = (0..120).filter(|n| !there.contains(&(*n as i64))).collect();
        assert!(!still.is_empty());
        repair(run_of(&tape, &table), places("a", &still)).await.unwrap();
        assert_eq!(sorted(&table), (0..250).collect::<Vec<_>>(), "before the effect of {nth}");
    }
}

#[tokio::test]
async fn a_repair_is_fenced_as_a_run_is() {
    let (tape, table, _) = lost(&[3]).await;
    table.plan(table.commits() + 1, Planned::AnotherRunTakesOver);
    let error = repair(run_of(&tape, &table), places("a", &[3])).await.unwrap_err();
    assert!(error.is_fenced(), "{error}");
    assert_eq!(table.values().len(), 249);
}

#[tokio::test]
async fn of_all_places_of_an_identity_the_one_that_claimed_it_moves() {
    let (tape, table) = (Tape::of(&[("a", 0..10), ("b", 5..15)]), Table::default());
    let keyed = || {
        let mut run = run_of(&tape, &table);
        run.duplicates = Duplicates::Drop;
        run.identity = Identity::Key(vec!["value".to_owned()]);
        run
    };
    keyed().run().await.unwrap();
    table.lose(&[7, 12]);
    let missing = [places("a", &[7]), places("b", &[2, 7])].concat();
    let repaired = repair(keyed(), missing).await.unwrap();
    assert_eq!(repaired, Repaired { moved: 2, suppressed: 1, ..Repaired::default() });
    let again =
        [("a", 7), ("b", 2), ("b", 7)].map(|(split, ordinal)| table.moved_again(split, ordinal).len());
    assert_eq!(again, [1, 0, 1]);
    assert_eq!(sorted(&table), (0..15).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_the_sink_refuses_now_stays_missing_or_stops_the_repair() {
    let (tape, table, before) = lost(&[3, 77]).await;
    table.refuse(77);
    let mut run = run_of(&tape, &table);
    run.on_error = OnError::Stop;
    let error = repair(run, places("a", &[3, 77])).await.unwrap_err();
    assert!(matches!(error, RunError::Rejected { .. }), "{error}");
    assert_eq!(table.standing("a").position, before.position);

    let missing: Vec<u64> = [3, 77].into_iter().filter(|n| !table.values().contains(&(*n as i64))).collect();
    let repaired = repair(run_of(&tape, &table), places("a", &missing)).await.unwrap();
    assert_eq!((repaired.refused, repaired.refusal.as_deref()), (1, Some("refused")));
    assert_eq!(table.moved_again("a", 77), [], "what was refused was not moved");
    assert_eq!((table.values().len(), table.letters().len()), (249, 0));
    assert_eq!(table.standing("a").totals, before.totals);

    // The claim of such a record is its own still: once it is taken, it moves, and no twin before it.
    table.accept_all();
    let repaired = repair(run_of(&tape, &table), places("a", &[77])).await.unwrap();
    assert_eq!(repaired, Repaired { moved: 1, ..Repaired::default() });
    assert_eq!(table.standing("a").totals, before.totals);
}

#[tokio::test]
async fn a_commit_remembers_so_many_ranges_and_no_more() {
    let (tape, table) = (Tape::of(&[("a", 0..50_000)]), Table::default());
    let large = || {
        let mut run = run_of(&tape, &table);
        run.limits.batch_records_max = 1_000;
        run.limits.commit =
            CommitLimit { records_max: Some(1 << 20), bytes_max: Some(1 << 30), ..run.limits.commit };
        run
    };
    large().run().await.unwrap();
    let odd: Vec<u64> = (0..25_000).map(|n| 2 * n + 1).collect();
    table.lose_if(|value| value % 2 == 1);
    let before = table.commits();
    let repaired = repair(large(), places("a", &odd)).await.unwrap();
    assert_eq!(
        (repaired.moved, table.commits() - before),
        (25_000, 2),
        "16,384 ranges and what a batch adds"
    );
    let again = [0, 1, 49_999].map(|ordinal| table.moved_again("a", ordinal).len());
    assert_eq!(again, [0, 1, 1]);
}
