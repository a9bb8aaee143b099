//! A holder that is stopped, overtaken, and wakes up.

use crate::checker::Verdict;
use crate::data::{Data, SILENCE};
use crate::process::{Ended, Pipeline};
use hapax_planted::Mistake;

/// Stops a run behind its second commit, lets another one move everything, and wakes the first. Returns how the
/// first ended, and what there is then.
///
/// The second run makes smaller commits, so that what the first would still commit is nothing that the second
/// has committed likewise.
pub fn overtaken(pair: &str, planted: Option<Mistake>) -> (Ended, Verdict) {
    let data = Data::generate_with(20_000, 17, SILENCE);
    let pipeline = Pipeline::with(pair, &data, planted);
    // Behind a commit no transaction is open: one would keep everybody out who wants to write.
    let mut first = pipeline.start(&[("HAPAX_CRASH", "commit-after:2=stop")]);
    first.stopped();
    pipeline.commit_every(450);
    pipeline.complete();
    first.go_on();
    let ended = first.wait();
    (ended, pipeline.check())
}

#[test]
fn a_run_that_was_stopped_and_overtaken_is_fenced() {
    for pair in [
        "csv-to-sqlite",
        "csv-to-parquet",
        "sqlite-to-parquet",
        "csv-to-mysql",
        "csv-to-kafka",
        "kafka-to-kafka",
        "kafka-to-postgres",
        "sqlite-to-mysql",
        "sqlite-to-redis",
    ] {
        assert_eq!(overtaken(pair, None), (Ended::Code(5), Verdict::default()), "{pair}");
    }
}
