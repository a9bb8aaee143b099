//! Runs that go on until they are stopped.

use std::ops::Range;
use std::time::Duration;

use super::*;
use crate::run::tests::fakes::{Table, Tape, run_of};

fn following(tape: &Tape, table: &Table) -> Run {
    let mut run = run_of(tape, table);
    run.until = Until::Stopped;
    run.limits.commit.interval_ms = Some(5);
    run
}

async fn until_it_holds(table: &Table, values: Range<i64>) {
    let wanted: Vec<i64> = values.collect();
    let mut found = Vec::new();
    for _ in 0..1_000 {
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
async fn a_source_that_ends_is_not_followed() {
    let (tape, table) = (Tape::of(&[("a", 0..25)]), Table::default());
    let error = following(&tape, &table).run().await.unwrap_err();
    assert!(matches!(error, RunError::Bounded), "{error}");
    assert!(table.values().is_empty());
}
