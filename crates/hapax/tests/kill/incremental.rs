//! A table that grows while it is read: runs are killed, rows are added between them, many with one cursor.

use std::time::Instant;

use hapax_planted::Mistake;
use rusqlite::Connection;

use crate::checker::Verdict;
use crate::data::{Data, Random, SILENCE};
use crate::process::{Ended, Pipeline};
use crate::{POINTS, has_no};

const PAIR: &str = "growing-to-sqlite";

/// How many rows are written with one value of the cursor: more than a commit holds.
const TIED: usize = 150;

/// A table of which the first `rows` of the data are there.
pub struct Growing<'a> {
    pub pipeline: Pipeline<'a>,
    data: &'a Data,
    table: Connection,
    rows: usize,
}

impl<'a> Growing<'a> {
    pub fn new(data: &'a Data, planted: Option<Mistake>) -> Self {
        let pipeline = Pipeline::with(PAIR, data, planted);
        let sources = pipeline.beside("in");
        std::fs::create_dir(&sources).unwrap();
        pipeline.read_from(&sources, 100);
        let table = Connection::open(sources.join("growing.db")).unwrap();
        table
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 CREATE TABLE events(writer INTEGER, sequence INTEGER, amount REAL, text TEXT, hash TEXT, at INTEGER)",
            )
            .unwrap();
        Self { pipeline, data, table, rows: 0 }
    }

    /// Adds rows, at most as many as there are.
    pub fn grow(&mut self, rows: usize) {
        let end = self.data.records.len().min(self.rows + rows);
        let tx = self.table.transaction().unwrap();
        for (n, r) in self.data.records.iter().enumerate().take(end).skip(self.rows) {
            let row = (r.writer, r.sequence, r.amount, &r.text, &r.hash, (n / TIED) as i64);
            tx.execute("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6)", row).unwrap();
        }
        tx.commit().unwrap();
        self.rows = end;
    }

    /// Adds what is missing and runs to the end.
    pub fn finish(mut self) -> Verdict {
        self.grow(self.data.records.len());
        self.pipeline.complete();
        self.pipeline.check()
    }
}

/// Kills a run in the middle of rows with one cursor, adds rows, and goes on.
pub fn killed_among_ties(planted: Option<Mistake>) -> Verdict {
    let data = Data::generate_with(1_500, 31, SILENCE);
    let mut growing = Growing::new(&data, planted);
    for nth in [2, 3, 1] {
        growing.grow(500);
        let ended = growing.pipeline.start(&[("HAPAX_CRASH", &format!("commit-after:{nth}"))]).wait();
        // With rows left out a run may come to its end before it is killed.
        assert!(ended == Ended::Signal(9) || planted.is_some(), "{ended:?}");
    }
    growing.finish()
}

#[test]
fn a_growing_table_survives_every_crash_point() {
    let data = Data::generate_with(1_200, 37, SILENCE);
    for point in POINTS.into_iter().filter(|point| !has_no(PAIR, point)) {
        let mut growing = Growing::new(&data, None);
        let mut kills = 0;
        for nth in [1, 3, 2] {
            growing.grow(350);
            match growing.pipeline.start(&[("HAPAX_CRASH", &format!("{point}:{nth}"))]).wait() {
                Ended::Signal(9) => kills += 1,
                Ended::Code(0) => {}
                other => panic!("at {point}:{nth} it ended as {other:?}"),
            }
        }
        assert!(kills > 0, "{point} was never passed");
        assert_eq!(growing.finish(), Verdict::default(), "killed at {point}");
    }
}

#[test]
fn a_growing_table_survives_random_kills() {
    let data = Data::generate_with(6_000, 41, SILENCE);
    let mut calm = Growing::new(&data, None);
    calm.grow(data.records.len());
    let started = Instant::now();
    calm.pipeline.run();
    let usual = started.elapsed();
    let mut random = Random::new(0x5EED);
    let mut kills = 0;
    while kills < 20 {
        let mut growing = Growing::new(&data, None);
        for _ in 0..10 {
            growing.grow(600);
            let moment = usual.mul_f64(random.unit());
            kills += usize::from(growing.pipeline.start(&[]).kill_after(moment) == Ended::Signal(9));
        }
        assert_eq!(growing.finish(), Verdict::default(), "after {kills} kills in all");
    }
}
