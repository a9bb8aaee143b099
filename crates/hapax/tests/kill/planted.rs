//! Mistakes planted in the real binary. Each has to be caught, and the same scene without it has to be clean.

use hapax_planted::Mistake;

use crate::checker::Verdict;
use crate::data::{Data, SILENCE};
use crate::incremental::killed_among_ties;
use crate::power::{Before, Scene, small_data};
use crate::process::{Ended, Pipeline};
use crate::stopped::overtaken;

/// Plays a scene without a mistake and with it.
fn caught(mistake: Mistake, scene: &str, play: impl Fn(Option<Mistake>) -> Verdict) {
    assert_eq!(play(None), Verdict::default(), "{scene}, without a mistake");
    let words = play(Some(mistake)).words();
    assert!(!words.is_empty(), "NOT caught: {} in {scene}", mistake.name());
    println!("caught {} in {scene} by: {words}", mistake.name());
}

#[test]
fn a_bare_cursor_is_caught() {
    caught(Mistake::BareCursor, "a growing table that is killed", killed_among_ties);
}

#[test]
fn a_missing_fence_is_caught() {
    for pair in ["sqlite-to-sqlite", "sqlite-to-parquet", "sqlite-to-mysql", "sqlite-to-redis"] {
        let scene = format!("{pair} stopped, overtaken and woken");
        caught(Mistake::NoFence, &scene, |planted| overtaken(pair, planted).1);
    }
}

#[test]
fn a_filter_alone_is_caught() {
    caught(Mistake::FilterAlone, "60,000 keys into SQLite", |planted| {
        let data = Data::generate_with(60_000, 13, SILENCE);
        let pipeline = Pipeline::with("csv-to-sqlite", &data, planted);
        pipeline.commit_every(4_000);
        pipeline.run();
        pipeline.check()
    });
}

#[test]
fn claims_outside_the_commit_are_caught() {
    for pair in ["stdin-to-sqlite", "stdin-to-parquet"] {
        for point in ["claimed", "mid-write", "commit-before"] {
            let scene = format!("{pair} fed again after a kill at {point}");
            caught(Mistake::ClaimOutsideCommit, &scene, |planted| fed_again(pair, point, planted));
        }
    }
}

/// Kills a run that reads standard input, and feeds the same records again: they come back at other places,
/// for no start knows what another one read.
fn fed_again(pair: &str, point: &str, planted: Option<Mistake>) -> Verdict {
    let data = Data::generate_with(3_000, 19, SILENCE);
    let pipeline = Pipeline::with(pair, &data, planted);
    let killed = pipeline.start(&[("HAPAX_CRASH", &format!("{point}:2"))]).wait();
    assert_eq!(killed, Ended::Signal(9));
    pipeline.run();
    pipeline.check()
}

#[test]
fn a_missing_fsync_of_directories_is_caught() {
    let mistake = Mistake::NoDirectorySync;
    for (pair, before) in [("csv-to-parquet", Before::Empty), ("csv-to-jsonl", Before::Half)] {
        let findings = Scene::new(pair, &small_data(), before, Some(mistake)).at_every_step();
        assert!(!findings.is_empty(), "NOT caught: {} in {pair}", mistake.name());
        let kinds = ["lost", "duplicated", "torn", "not started again"];
        let count = |kind: &&str| findings.iter().filter(|finding| finding.contains(kind)).count();
        let counts: Vec<String> =
            kinds.iter().map(|kind| format!("{kind} after {} power losses", count(kind))).collect();
        println!("caught {} in {pair} by: {}", mistake.name(), counts.join(", "));
        assert!(kinds.iter().take(3).any(|kind| count(kind) > 0), "{findings:?}");
    }
}
