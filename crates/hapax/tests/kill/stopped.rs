//! A holder that is stopped, overtaken, and wakes up.

use std::time::{Duration, Instant};

use crate::checker::Verdict;
use crate::data::{Data, SILENCE};
use crate::process::{Ended, Pipeline, Running};
use hapax_planted::Mistake;

const LIMIT: Duration = Duration::from_secs(60);

/// How many runs are begun until one is stopped in the middle.
const ATTEMPTS_MAX: usize = 50;

/// Stops a run once it has made progress, lets a second one move everything, and wakes the first. Returns how
/// the first ended, and what there is then.
///
/// The second run makes smaller commits, so that what the first would still commit is nothing that the second
/// has committed likewise.
pub fn overtaken(pair: &str, planted: Option<Mistake>) -> (Ended, Verdict) {
    let data = Data::generate_with(20_000, 17, SILENCE);
    for _ in 0..ATTEMPTS_MAX {
        let pipeline = Pipeline::with(pair, &data, planted);
        pipeline.commit_every(200);
        let mut first = pipeline.start(&[]);
        pipeline.wait_for_progress();
        stop(&mut first, &pipeline);
        if pipeline.check().lost < data.records.len() / 4 {
            // Stopped so late that it may have nothing left to commit.
            continue;
        }
        pipeline.commit_every(130);
        pipeline.complete();
        first.go_on();
        let ended = first.wait();
        return (ended, pipeline.check());
    }
    panic!("{pair}: it was never stopped in the middle")
}

/// Stops a run between two of its transactions: within one it would keep everybody out who wants to write.
fn stop(run: &mut Running, pipeline: &Pipeline<'_>) {
    let until = Instant::now() + LIMIT;
    loop {
        if !run.stop() || !pipeline.is_locked() {
            return;
        }
        run.go_on();
        assert!(Instant::now() < until, "it was always in a transaction");
        std::thread::sleep(Duration::from_micros(300));
    }
}

#[test]
fn a_run_that_was_stopped_and_overtaken_is_fenced() {
    for pair in ["csv-to-sqlite", "csv-to-parquet", "sqlite-to-parquet"] {
        assert_eq!(overtaken(pair, None), (Ended::Code(5), Verdict::default()), "{pair}");
    }
}
