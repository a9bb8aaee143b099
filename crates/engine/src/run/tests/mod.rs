// Small numbers of the test itself.
#![allow(clippy::as_conversions)]

mod fakes;
mod follow;
mod kept;
mod repair;

use std::sync::Arc;

use hapax_protocol::identity::{Duplicates, Identity, Place, RecordId};
use hapax_protocol::lease::PipelineName;
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::Position;

use super::*;
use crate::dead_letter::Ending;
use crate::fault::Fault;
use crate::ledger::Statistics;
use crate::source::Arrangement;
use fakes::{Fault as Planned, Table, Tape, lease_of, run_of};

#[tokio::test]
async fn everything_moves_once_and_again_nothing_does() {
    let (tape, table) = (Tape::of(&[("a", 0..250), ("b", 250..300)]), Table::default());
    let summary = run_of(&tape, &table).run().await.unwrap();
    assert_eq!((summary.totals.read, summary.totals.moved, summary.splits), (300, 300, 2));
    assert_eq!(table.values(), (0..300).collect::<Vec<_>>());

    let again = run_of(&tape, &table).run().await.unwrap();
    assert_eq!((again.totals, again.commits), (Totals::default(), 0));
    assert_eq!(table.values(), (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_not_repeated() {
    for fault in [Planned::AnswerLostAfterEffect, Planned::AnswerLostBeforeEffect] {
        for nth in 1..6 {
            let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
            table.plan(nth, fault);
            let summary = run_of(&tape, &table).run().await.unwrap();
            assert_eq!(table.values(), (0..250).collect::<Vec<_>>(), "{fault:?} at {nth}");
            assert_eq!((summary.in_doubt, summary.totals.moved), (1, 250), "{fault:?} at {nth}");
        }
    }
}

#[tokio::test]
async fn a_stop_while_a_lost_commit_is_looked_up_is_no_failure() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    table.plan(1, Planned::AnswerLostBeforeEffect);
    let run = run_of(&tape, &table);
    tape.stop_at(20, run.stop.clone());
    let summary = run.run().await.unwrap();
    assert!(summary.stopped);
    assert!(table.values().is_empty());
    run_of(&tape, &table).run().await.unwrap();
    assert_eq!(table.values(), (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_source_that_goes_away_while_a_run_stops_is_no_failure() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    let run = run_of(&tape, &table);
    tape.away_at(20, run.stop.clone());
    let summary = run.run().await.unwrap();
    assert!(summary.stopped);
    // What was read before is there.
    assert_eq!(table.values(), (0..20).collect::<Vec<_>>());
    // One that nobody asked to stop says what failed.
    let mut run = run_of(&tape, &table);
    run.limits.outage_ms = 200;
    let error = run.run().await.unwrap_err();
    assert!(matches!(error, RunError::Source { .. }), "{error}");
}

#[tokio::test]
async fn a_position_that_came_from_nowhere_stops_the_run() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    table.plan(2, Planned::AnswerLostAndPositionMoved);
    let error = run_of(&tape, &table).run().await.unwrap_err();
    assert!(matches!(error, RunError::Diverged { .. }), "{error}");
}

#[tokio::test]
async fn an_unavailable_sink_is_tried_again_from_the_last_commit() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    for nth in [1, 3, 4] {
        table.plan(nth, Planned::Unavailable);
    }
    run_of(&tape, &table).run().await.unwrap();
    assert_eq!(table.values(), (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_sink_that_stays_away_ends_the_run_and_a_later_run_completes() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    for nth in 2..10 {
        table.plan(nth, Planned::Unavailable);
    }
    let mut run = run_of(&tape, &table);
    run.limits.outage_ms = 500;
    let error = run.run().await.unwrap_err();
    assert!(matches!(error, RunError::Sink { .. }), "{error}");
    table.heal();
    run_of(&tape, &table).run().await.unwrap();
    assert_eq!(table.values(), (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_earlier_of_two_runs_is_fenced() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    table.plan(2, Planned::AnotherRunTakesOver);
    let error = run_of(&tape, &table).run().await.unwrap_err();
    assert!(error.is_fenced(), "{error}");
    run_of(&tape, &table).run().await.unwrap();
    assert_eq!(table.values(), (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_is_acknowledged_before_its_commit() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    tape.watch(&table);
    run_of(&tape, &table).run().await.unwrap();
    assert_eq!(tape.acknowledged("a"), Some(Position::new(250_u64.to_be_bytes().as_slice())));
    assert_eq!(tape.early_acknowledgements(), 0);
}

#[tokio::test]
async fn a_gap_in_the_source_is_found() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    tape.skip_at(100);
    let error = run_of(&tape, &table).run().await.unwrap_err();
    assert!(matches!(error, RunError::Misstep { .. }), "{error}");
    assert!(table.values().len() <= 100);
}

#[tokio::test]
async fn twins_are_suppressed_counted_or_set_aside() {
    for (duplicates, suppressed, set_aside) in [(Duplicates::Drop, 50, 0), (Duplicates::DeadLetter, 0, 50)] {
        let (tape, table) = (Tape::of(&[("a", 0..250), ("b", 200..300)]), Table::default());
        let mut run = run_of(&tape, &table);
        run.duplicates = duplicates;
        run.identity = Identity::Key(vec!["value".to_owned()]);
        let summary = run.run().await.unwrap();
        assert_eq!(table.values(), (0..300).collect::<Vec<_>>());
        assert_eq!((summary.totals.suppressed, summary.totals.set_aside), (suppressed, set_aside));
        assert_eq!(table.letters().len() as u64, set_aside);
    }
}

#[tokio::test]
async fn twins_stay_suppressed_when_commits_are_lost() {
    for nth in 1..8 {
        let (tape, table) = (Tape::of(&[("a", 0..250), ("b", 200..300)]), Table::default());
        table.plan(nth, Planned::AnswerLostBeforeEffect);
        let mut run = run_of(&tape, &table);
        run.duplicates = Duplicates::Drop;
        run.identity = Identity::Key(vec!["value".to_owned()]);
        run.run().await.unwrap();
        assert_eq!(table.values(), (0..300).collect::<Vec<_>>(), "lost at {nth}");
    }
}

#[tokio::test]
async fn a_bad_record_is_set_aside_with_the_position_or_stops_the_run_before_it() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    tape.spoil(120);
    let summary = run_of(&tape, &table).run().await.unwrap();
    assert_eq!((summary.totals.read, summary.totals.moved, summary.totals.set_aside), (250, 249, 1));
    assert_eq!(table.letters()[0].place.ordinal, 120);

    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    tape.spoil(120);
    let mut run = run_of(&tape, &table);
    run.on_error = OnError::Stop;
    let error = run.run().await.unwrap_err();
    assert!(matches!(&error, RunError::Rejected { place, .. } if place.ordinal == 120), "{error}");
    let before = table.values();
    assert!(before.len() <= 120 && before == (0..before.len() as i64).collect::<Vec<_>>());
    assert!(table.letters().is_empty());
}

#[tokio::test]
async fn a_row_the_sink_refuses_is_set_aside_and_can_be_replayed_once() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    table.refuse(77);
    let summary = run_of(&tape, &table).run().await.unwrap();
    assert_eq!((summary.totals.moved, summary.totals.set_aside), (249, 1));
    let letters = table.letters();
    assert_eq!(letters[0].raw, "{\"value\":77}");

    let still = replay_letters(run_of(&tape, &table), &letters).await.unwrap();
    assert_eq!((still.moved.len(), still.remaining.len()), (0, 1));
    table.accept_all();
    let done = replay_letters(run_of(&tape, &table), &letters).await.unwrap();
    assert_eq!((done.moved.len(), done.remaining.len()), (1, 0));
    assert!(table.letters().is_empty());
    let settled = table.settled();
    assert_eq!((settled.len(), settled[0].settlement.ending), (1, Ending::Moved));
    let mut values = table.values();
    values.sort_unstable();
    assert_eq!(values, (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn of_two_replays_that_listed_the_same_letters_one_moves_them() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    table.refuse(77);
    run_of(&tape, &table).run().await.unwrap();
    let listed_by_both = table.letters();
    table.accept_all();
    let first = replay_letters(run_of(&tape, &table), &listed_by_both).await.unwrap();
    let second = replay_letters(run_of(&tape, &table), &listed_by_both).await.unwrap();
    assert_eq!((first.moved.len(), second.moved.len()), (1, 0));
    assert_eq!(table.values().iter().filter(|value| **value == 77).count(), 1);
}

#[tokio::test]
async fn dropped_letters_are_gone() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    tape.spoil(3);
    run_of(&tape, &table).run().await.unwrap();
    let done = drop_letters(run_of(&tape, &table), &table.letters()).await.unwrap();
    assert_eq!(done.dropped.len(), 1);
    assert!(table.letters().is_empty());
    let settled = &table.settled()[0];
    assert_eq!((settled.letter.place.ordinal, settled.settlement.ending), (3, Ending::Dropped));
    let places = [settled.letter.place.clone()];
    let sink = run_of(&tape, &table).sink;
    let pipeline = run_of(&tape, &table).applicant.pipeline;
    let remembered = sink.destination().remembered(&pipeline, &places).await.unwrap();
    let commit = remembered[0].commit.as_ref().unwrap();
    assert_eq!((commit.records.clone(), commit.totals.set_aside), (0..30, 1));
    assert!(settled.settlement.epoch > commit.commit.epoch && commit.made_unix_ms > 0);
}

#[tokio::test]
async fn a_stop_commits_what_was_read_and_the_next_run_goes_on() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    let run = run_of(&tape, &table);
    tape.stop_at(130, run.stop.clone());
    let summary = run.run().await.unwrap();
    assert!(summary.stopped);
    let values = table.values();
    assert!(!values.is_empty() && values.len() < 250, "{}", values.len());
    run_of(&tape, &table).run().await.unwrap();
    assert_eq!(table.values(), (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_identity_over_an_unknown_column_moves_nothing() {
    let (tape, table) = (Tape::of(&[("a", 0..250)]), Table::default());
    let mut run = run_of(&tape, &table);
    run.identity = Identity::Key(vec!["nr".to_owned()]);
    let error = run.run().await.unwrap_err();
    assert_eq!(error.code(), crate::codes::IDENTITY_COLUMN);
    assert!(table.values().is_empty() && lease_of(&table).is_none());
}

#[tokio::test]
async fn the_channel_is_bounded_in_bytes() {
    let (sender, mut receiver) = channel::bounded_in_bytes::<u8>(10);
    sender.send(1, 6).await.unwrap();
    let second = sender.send(2, 6);
    tokio::pin!(second);
    assert!(futures::poll!(&mut second).is_pending());
    let first = receiver.recv().await.unwrap();
    assert!(futures::poll!(&mut second).is_pending(), "the bytes count until the item is dropped");
    drop(first);
    second.await.unwrap();
    drop(receiver.recv().await);
    sender.send(3, 1000).await.unwrap();
    drop(receiver);
    assert!(sender.send(4, 1).await.is_err());
}

#[test]
fn stops_reach_children_and_not_parents() {
    let parent = Stop::default();
    let child = parent.child();
    child.request();
    assert!(child.requested() && !parent.requested());
    let other = parent.child();
    parent.request();
    assert!(other.requested());
}

#[test]
fn order_decides_about_parallel_splits() {
    let (source, table) = (Tape::holding(&[1]), Arc::new(Table::default()));
    let sink = Sink::CoCommit(table);
    assert!(
        !in_order(&source, &sink, None, Duplicates::Keep) && in_order(&source, &sink, None, Duplicates::Drop)
    );
    // A key is in one partition, and claims that are made at once meet in the transactions of the table.
    assert!(!in_order(&Tape::growing(&[("a", 0..1)]), &sink, None, Duplicates::Drop));
}

#[test]
fn splits_beside_each_other_move_at_once_unless_a_key_may_be_overtaken_or_claims_do_not_meet() {
    let decide = |order, effect, duplicates, claims_meet| {
        super::one_by_one(Arrangement::Partitions, order, effect, duplicates, claims_meet)
    };
    for order in [Order::None, Order::PerKey] {
        for duplicates in [Duplicates::Keep, Duplicates::Drop, Duplicates::DeadLetter] {
            assert!(!decide(order, Effect::Insert, duplicates, true), "{order:?} {duplicates:?}");
            assert_eq!(decide(order, Effect::Insert, duplicates, false), duplicates.need_ledger());
            // Two versions of a key in two splits: the later one must stay.
            assert_eq!(decide(order, Effect::ByKey, duplicates, true), order == Order::None);
        }
    }
}

#[tokio::test]
async fn where_places_move_each_twin_is_set_aside_and_a_refused_record_once() {
    let (tape, table) = (Tape::holding(&[1, 1, 2, 1, 7, 7]), Table::default());
    tape.redelivers();
    table.refuse(7);
    let mut run = run_of(&tape, &table);
    run.identity = Identity::Key(vec!["value".to_owned()]);
    run.duplicates = Duplicates::DeadLetter;
    let summary = run.run().await.unwrap();
    // Two twins of 1; of the two that are refused one, since nobody can tell the second from the first come again.
    assert_eq!((summary.totals.set_aside, summary.totals.suppressed), (3, 1));
    assert_eq!((table.letters().len(), table.values()), (3, vec![1, 2]));
}

#[tokio::test]
async fn a_ledger_beside_is_refused_where_places_move_and_twins_where_a_record_is_its_own() {
    struct Beside;
    impl Ledger for Beside {
        fn facts(&self) -> hapax_protocol::guarantee::LedgerFacts {
            unreachable!("nobody derives a level here")
        }
        fn check(&self) -> crate::Fut<'_, Vec<String>, SinkError> {
            unreachable!("refused before it is asked")
        }
        fn open<'a>(&'a self, _: &'a PipelineName, _: bool) -> crate::Fut<'a, (), SinkError> {
            unreachable!("refused before it is opened")
        }
        fn claim<'a>(
            &'a self,
            _: &'a hapax_protocol::lease::Lease,
            _: &'a SplitId,
            _: &'a [crate::sink::Arrival],
        ) -> crate::Fut<'a, Vec<Claim<Place>>, SinkError> {
            unreachable!("refused before anything is claimed")
        }
        fn withdraw<'a>(
            &'a self,
            _: &'a hapax_protocol::lease::Lease,
            _: &'a SplitId,
            _: &'a [crate::sink::Arrival],
        ) -> crate::Fut<'a, (), SinkError> {
            unreachable!("refused before anything is claimed")
        }
        fn claimant<'a>(
            &'a self,
            _: &'a PipelineName,
            _: &'a RecordId,
        ) -> crate::Fut<'a, Option<Place>, SinkError> {
            unreachable!("nobody asks")
        }
        fn statistics<'a>(&'a self, _: &'a PipelineName) -> crate::Fut<'a, Statistics, SinkError> {
            unreachable!("nobody asks")
        }
    }
    let (tape, table) = (Tape::holding(&[1, 2]), Table::default());
    tape.redelivers();
    let mut run = run_of(&tape, &table);
    run.identity = Identity::Key(vec!["value".to_owned()]);
    run.duplicates = Duplicates::Drop;
    run.ledger = Some(Arc::new(Beside));
    let error = run.run().await.unwrap_err();
    assert!(matches!(error, RunError::LedgerBeside), "{error}");

    tape.forgets();
    let mut run = run_of(&tape, &table);
    run.identity = Identity::Key(vec!["value".to_owned()]);
    run.duplicates = Duplicates::DeadLetter;
    let error = run.run().await.unwrap_err();
    assert!(matches!(error, RunError::TwinOfItself), "{error}");
    assert!(table.values().is_empty());

    // Beside the destination claims do not meet: splits that never end may not move at once.
    let growing = Tape::growing(&[("a", 0..1), ("b", 1..2)]);
    let sink = Sink::CoCommit(Arc::new(table.clone()));
    let beside: Arc<dyn Ledger> = Arc::new(Beside);
    assert!(in_order(&growing, &sink, Some(&beside), Duplicates::Drop));
    assert!(!in_order(&growing, &sink, None, Duplicates::Drop));
}

#[tokio::test]
async fn records_that_nothing_identifies_are_set_aside_each() {
    let (tape, table) = (Tape::holding(&[1, 2, 3, 4, 5, 6]), Table::default());
    tape.redelivers();
    [1, 3, 4].into_iter().for_each(|ordinal| tape.spoil(ordinal));
    let mut run = run_of(&tape, &table);
    run.identity = Identity::Key(vec!["value".to_owned()]);
    run.duplicates = Duplicates::Drop;
    let summary = run.run().await.unwrap();
    assert_eq!((summary.totals.set_aside, summary.totals.suppressed), (3, 0));
    assert_eq!((table.letters().len(), table.values()), (3, vec![1, 3, 6]));
}

#[tokio::test]
async fn of_twins_in_one_batch_the_first_that_the_sink_takes_moves() {
    for refusals in 0..=4_u64 {
        for (duplicates, letters) in [(Duplicates::Drop, refusals), (Duplicates::DeadLetter, 4)] {
            let (tape, table) = (Tape::holding(&[1, 7, 7, 2, 7, 3, 7, 7]), Table::default());
            table.refuse_times(7, refusals);
            let mut run = run_of(&tape, &table);
            run.duplicates = duplicates;
            run.identity = Identity::Key(vec!["value".to_owned()]);
            let totals = run.run().await.unwrap().totals;
            let mut values = table.values();
            values.sort_unstable();
            assert_eq!(values, [1, 2, 3, 7], "{duplicates:?} after {refusals}");
            assert_eq!((totals.moved, totals.set_aside), (4, letters), "{duplicates:?} after {refusals}");
            assert_eq!(totals.moved + totals.set_aside + totals.suppressed, 8);
            let taken = [1, 2, 4, 6, 7][refusals as usize];
            let twins = table.letters().into_iter().filter(|letter| letter.code == crate::codes::TWIN);
            for twin in twins {
                assert!(twin.reason.ends_with(&format!("a record {taken}")), "{}", twin.reason);
            }
        }
    }
}

#[tokio::test]
async fn where_the_sink_takes_no_twin_the_identity_is_free_for_a_later_one() {
    for duplicates in [Duplicates::Drop, Duplicates::DeadLetter] {
        // The last seven comes in a batch, and a commit, of its own.
        let mut values: Vec<i64> = [7, 7].into_iter().chain(100..140).collect();
        values.push(7);
        let (tape, table) = (Tape::holding(&values), Table::default());
        table.refuse_times(7, 2);
        let mut run = run_of(&tape, &table);
        run.duplicates = duplicates;
        run.identity = Identity::Key(vec!["value".to_owned()]);
        run.run().await.unwrap();
        assert_eq!(table.values().iter().filter(|value| **value == 7).count(), 1);
        let letters = table.letters();
        assert_eq!(letters.iter().map(|letter| letter.place.ordinal).collect::<Vec<_>>(), [0, 1]);
        // Replayed, they are twins of the one that moved since: they stay where they are.
        let mut run = run_of(&tape, &table);
        run.duplicates = duplicates;
        run.identity = Identity::Key(vec!["value".to_owned()]);
        let done = replay_letters(run, &letters).await.unwrap();
        assert_eq!((done.moved.len(), done.remaining.len()), (0, 2));
        assert!(done.remaining.iter().all(|(_, reason)| reason.contains("a record 42")), "{done:?}");
        assert_eq!(table.values().iter().filter(|value| **value == 7).count(), 1);
    }
}

#[tokio::test]
async fn of_two_letters_of_one_identity_one_is_replayed() {
    let (tape, table) = (Tape::holding(&[7, 8, 7]), Table::default());
    table.refuse_times(7, 3);
    let run = || {
        let mut run = run_of(&tape, &table);
        run.duplicates = Duplicates::Drop;
        run.identity = Identity::Key(vec!["value".to_owned()]);
        run
    };
    run().run().await.unwrap();
    assert_eq!((table.values(), table.letters().len()), (vec![8], 2));
    // The first is refused once more, the second is taken.
    let done = replay_letters(run(), &table.letters()).await.unwrap();
    assert_eq!((done.moved.len(), done.remaining.len()), (1, 1));
    assert_eq!((table.values(), table.letters()[0].place.ordinal), (vec![8, 7], 0));
}
