//! Sixteen writers hold transactions open whose rows are stamped early, while the source polls as fast as it can.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hapax_planted::{Mistake, with};
use serde_json::{Value, json};

use crate::kit::Database;
use crate::reading::{behind, numbers, open, passed};

const WRITERS: i64 = 16;

/// How long they write at least.
const WRITING: Duration = Duration::from_millis(1500);

/// How long they write where that is not enough to show anything.
const WRITING_MAX: Duration = Duration::from_secs(120);

/// How many rows they write at least.
const ROWS: usize = 100;

/// What a poller saw, against what was written.
struct Seen {
    written: usize,
    missed: usize,
    repeated: usize,
    polls: usize,
}

/// Numbers that a seed decides.
fn drawn(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

async fn write(database: &Database, writer: i64, done: Arc<AtomicBool>, written: Arc<AtomicUsize>) {
    let client = database.client().await;
    let mut seed = u64::try_from(writer).unwrap();
    let mut id = writer;
    while !done.load(Ordering::Relaxed) {
        client.batch_execute("BEGIN").await.unwrap();
        client.execute("INSERT INTO t (id) VALUES ($1)", &[&id]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(drawn(&mut seed) % 41)).await;
        client.batch_execute("COMMIT").await.unwrap();
        written.fetch_add(1, Ordering::Relaxed);
        id += WRITERS;
    }
}

/// Polls, at least so often, until the writers are done, and once more when no transaction of another test is in the way; each poll is a run
/// of its own.
async fn race(keys: Value, least: usize) -> Seen {
    let database = Arc::new(Database::new());
    database
        .sql("CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), \
              xid xid8 NOT NULL DEFAULT pg_current_xact_id()); CREATE INDEX ON t (at, id); CREATE INDEX ON t (xid, id)")
        .await;
    let source = open(&database, keys).await;
    let (done, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (database, done, written) = (Arc::clone(&database), Arc::clone(&done), Arc::clone(&written));
            tokio::spawn(async move { write(&database, writer, done, written).await })
        })
        .collect();
    let began = Instant::now();
    let (mut position, mut times, mut polls) = (None, BTreeMap::<i64, usize>::new(), 0);
    loop {
        let enough = polls >= least && written.load(Ordering::Relaxed) >= ROWS;
        let over = began.elapsed() >= if enough { WRITING } else { WRITING_MAX };
        if over && !done.swap(true, Ordering::Relaxed) {
            continue;
        }
        let last = over && writers.iter().all(tokio::task::JoinHandle::is_finished);
        if last {
            passed(&database, "t", 0).await;
        }
        let batches = behind(&source, position.as_ref()).await;
        position = batches.last().map(|batch| batch.through.clone()).or(position);
        for id in numbers(&batches) {
            *times.entry(id).or_default() += 1;
        }
        polls += 1;
        if last {
            break;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let written = written.load(Ordering::Relaxed);
    Seen {
        written,
        missed: written - times.len(),
        repeated: times.values().filter(|times| **times > 1).count(),
        polls,
    }
}

fn raced(mistake: Option<Mistake>, keys: Value, least: usize) -> Seen {
    // The mistake is planted for one thread: so there is only one.
    with(mistake, || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(race(keys, least))
    })
}

fn by_clock() -> Value {
    json!({ "table": "t", "read": "incremental", "cursor": "at", "cursor_set_by": "database" })
}

fn by_transaction() -> Value {
    json!({ "table": "t", "read": "incremental", "cursor": "xid" })
}

#[test]
fn below_the_horizon_nothing_is_missed_and_nothing_comes_twice() {
    for (keys, least) in [(by_clock(), 3), (by_transaction(), 10)] {
        let seen = raced(None, keys.clone(), least);
        println!(
            "{} rows, {} polls, {} missed, {} repeated: {keys}",
            seen.written, seen.polls, seen.missed, seen.repeated
        );
        assert!(seen.written >= ROWS && seen.polls >= least, "{} rows, {} polls", seen.written, seen.polls);
        assert_eq!((seen.missed, seen.repeated), (0, 0), "of {} rows, {keys}", seen.written);
    }
}

#[test]
fn with_the_bare_cursor_rows_are_missed() {
    for keys in [by_clock(), by_transaction()] {
        let seen = raced(Some(Mistake::BareCursor), keys.clone(), 10);
        println!(
            "the bare cursor: {} rows, {} polls, {} missed: {keys}",
            seen.written, seen.polls, seen.missed
        );
        assert!(
            seen.missed > 0,
            "none of {} rows was missed in {} polls: the race tests nothing",
            seen.written,
            seen.polls
        );
    }
}
