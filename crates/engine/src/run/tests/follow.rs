//! Runs that go on until they are stopped.

use std::ops::Range;
use std::time::Duration;

use super::*;
use crate::run::tests::fakes::{Table, Tape, run_of};
use crate::source::Shift;

fn following(tape: &Tape, table: &Table) -> Run {
    let mut run = run_of(tape, table);
    run.until = Until::Stopped;
    run.limits.commit.interval_ms = Some(5);
    run
}

async fn until_it_holds(table: &Table, values: Range<i64>) {
    until_it_is(table, &values.collect::<Vec<_>>()).await;
}

async fn until_it_is(table: &Table, wanted: &[i64]) {
    let mut found = Vec::new();
    for _ in 0..30_000 {
        found = table.values();
        found.sort_unstable();
        if found == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("it holds {found:?}");
}

#[tokio::test]
async fn what_comes_is_moved_as_it_comes_in_all_splits_at_once() {
    let (tape, table) = (Tape::growing(&[("a", 0..25), ("b", 25..30), ("c", 0..0)]), Table::default());
    let run = following(&tape, &table);
    let stop = run.stop.clone();
    let running = tokio::spawn(run.run());
    until_it_holds(&table, 0..30).await;
    tape.grow("c", 30..41);
    until_it_holds(&table, 0..41).await;
    tape.grow("a", 41..42);
    tape.grow("b", 42..77);
    until_it_holds(&table, 0..77).await;
    assert_eq!(tape.acknowledged("c"), Some(Position::new(11_u64.to_be_bytes().as_slice())));
    stop.request();
    let summary = running.await.unwrap().unwrap();
    assert!(summary.stopped);
    assert_eq!(summary.totals.moved, 77);

    tape.grow("b", 77..80);
    let summary = run_of(&tape, &table).run().await.unwrap();
    assert_eq!((summary.totals.moved, summary.stopped), (3, false));
    until_it_holds(&table, 0..80).await;
}

#[tokio::test]
async fn a_lost_answer_while_following_is_looked_up_and_the_run_goes_on() {
    for fault in [Planned::AnswerLostAfterEffect, Planned::AnswerLostBeforeEffect, Planned::Unavailable] {
        let (tape, table) = (Tape::growing(&[("a", 0..10)]), Table::default());
        table.plan(2, fault);
        let run = following(&tape, &table);
        let stop = run.stop.clone();
        let running = tokio::spawn(run.run());
        until_it_holds(&table, 0..10).await;
        tape.grow("a", 10..20);
        until_it_holds(&table, 0..20).await;
        tape.grow("a", 20..30);
        until_it_holds(&table, 0..30).await;
        stop.request();
        running.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn records_that_come_all_the_time_do_not_put_a_commit_off() {
    let (tape, table) = (Tape::of(&[("a", 0..1_000)]), Table::default());
    // A hundred batches wait, each written in a quarter of the interval, and no commit is full before the end.
    table.takes(Duration::from_millis(2));
    let mut run = run_of(&tape, &table);
    run.limits.commit.interval_ms = Some(8);
    run.limits.commit.records_max = Some(u64::MAX);
    let summary = run.run().await.unwrap();
    assert_eq!(summary.totals.moved, 1_000);
    assert!(summary.commits >= 10, "{} commits", summary.commits);
}

#[tokio::test]
async fn a_source_that_ends_is_not_followed() {
    let (tape, table) = (Tape::of(&[("a", 0..25)]), Table::default());
    let error = following(&tape, &table).run().await.unwrap_err();
    assert!(matches!(error, RunError::Bounded), "{error}");
    assert!(table.values().is_empty());
}

fn given(splits: &[&str]) -> Shift {
    let split = |name: &&str| Split { id: SplitId::new(*name), source_bytes: None };
    Shift::Given(splits.iter().map(split).collect())
}

#[tokio::test]
async fn the_members_of_a_group_share_the_splits_and_nothing_moves_twice() {
    let (tape, table) = (Tape::growing(&[("a", 0..20), ("b", 100..120)]), Table::default());
    let (first, tell_first, mut released) = tape.member();
    let (second, tell_second, _) = tape.member();
    let (one, two) = (following(&first, &table), following(&second, &table));
    let (stop_one, stop_two) = (one.stop.clone(), two.stop.clone());
    tell_first.send(given(&["a", "b"])).unwrap();
    let (one, two) = (tokio::spawn(one.run()), tokio::spawn(two.run()));
    let held = |all: &[Range<i64>]| all.iter().cloned().flatten().collect::<Vec<_>>();
    until_it_is(&table, &held(&[0..20, 100..120])).await;

    tell_first.send(Shift::AskedBack(vec![SplitId::new("b")])).unwrap();
    assert_eq!(released.recv().await, Some(SplitId::new("b")));
    tell_second.send(given(&["b"])).unwrap();
    tape.grow("a", 20..30);
    tape.grow("b", 120..130);
    until_it_is(&table, &held(&[0..30, 100..130])).await;

    // The first is not told that the second has `a` now: both write it, and the position decides.
    tell_second.send(given(&["a"])).unwrap();
    for n in 3..13 {
        tape.grow("a", n * 10..n * 10 + 10);
        until_it_is(&table, &held(&[0..n * 10 + 10, 100..130])).await;
        if n == 9 {
            tell_first.send(Shift::Lost(vec![SplitId::new("a")])).unwrap();
            break;
        }
    }
    tape.grow("b", 130..140);
    until_it_is(&table, &held(&[0..100, 100..140])).await;
    stop_one.request();
    stop_two.request();
    one.await.unwrap().unwrap();
    two.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_run_of_its_own_takes_the_lease_from_a_group() {
    let (tape, table) = (Tape::growing(&[("a", 0..20)]), Table::default());
    let (member, tell, _) = tape.member();
    tell.send(given(&["a"])).unwrap();
    let running = tokio::spawn(following(&member, &table).run());
    until_it_holds(&table, 0..20).await;
    tape.grow("a", 20..25);
    run_of(&tape, &table).run().await.unwrap();
    until_it_holds(&table, 0..25).await;
    tape.grow("a", 25..30);
    let error = running.await.unwrap().unwrap_err();
    assert!(error.is_fenced(), "{error}");
    run_of(&tape, &table).run().await.unwrap();
    until_it_holds(&table, 0..30).await;
}
