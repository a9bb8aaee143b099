//! Two holders: the earlier one never makes anything visible, whenever it wakes up.

use hapax_engine::fault::{CommitError, SinkErrorKind};
use hapax_files::sink_config::{SinkConfig, SinkFormat};

use crate::world::*;

fn out() -> (tempfile::TempDir, std::path::PathBuf, SinkConfig) {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let config = SinkConfig { format: Some(SinkFormat::Csv), ..config(&out) };
    (directory, out, config)
}

fn visible(out: &std::path::Path) -> Vec<u64> {
    let parts = names(out).into_iter().filter(|name| name.ends_with(".csv"));
    parts.flat_map(|part| ids(&read_csv(&std::fs::read(out.join(part)).unwrap()))).collect()
}

fn fenced(result: Result<(), CommitError>) {
    match result {
        Err(CommitError::Refused(error) | CommitError::Unknown(error)) => {
            assert_eq!((error.kind, code(&error)), (SinkErrorKind::Fenced, 261));
        }
        Ok(()) => panic!("an earlier holder published"),
    }
}

#[test]
fn a_holder_that_staged_and_slept_is_fenced() {
    let (_directory, out, config) = out();
    let first = Run::start(&config);
    let mut old = first.split("s");
    old.write(100, 110);
    let commit = old.stage(10);
    let second = Run::start(&config);
    let mut new = second.split("s");
    new.commit_as(0, 10, 10);
    fenced(old.publish(&commit));
    assert_eq!(visible(&out), (0..10).collect::<Vec<u64>>());
    assert!(matches!(first.try_split("s"), Err(error) if error.kind == SinkErrorKind::Fenced));
    assert!(matches!(first.try_split("new"), Err(error) if error.kind == SinkErrorKind::Fenced));
    new.commit_as(10, 20, 20);
    assert_eq!(visible(&out), (0..20).collect::<Vec<u64>>());
}

#[test]
fn the_manifest_itself_fences_when_the_lease_is_not_seen() {
    let (_directory, out, config) = out();
    let first = Run::start(&config);
    let mut old = first.split("s");
    old.write(100, 110);
    let commit = old.stage(10);
    let second = Run::start(&config);
    // The earlier holder looked for a later lease just before there was one.
    let leases = state_of(&out).join("leases");
    let later = leases.join(names(&leases).pop().unwrap());
    let aside = out.join("aside");
    std::fs::rename(&later, &aside).unwrap();
    fenced(old.publish(&commit));
    std::fs::rename(&aside, &later).unwrap();
    assert_eq!(visible(&out), Vec::<u64>::new());
    second.split("s").commit_as(0, 10, 10);
    assert_eq!(visible(&out), (0..10).collect::<Vec<u64>>());
}

#[test]
fn a_decided_commit_is_completed_by_the_next_holder() {
    let (_directory, out, config) = out();
    let first = Run::start(&config);
    let mut split = first.split("s");
    split.commit_as(0, 10, 10);
    undo_renames(&out);
    assert_eq!(visible(&out), Vec::<u64>::new());
    let second = Run::start(&config);
    let split = second.split("s");
    assert_eq!((split.stands_at(), split.standing.epoch.get(), split.standing.totals.read), (10, 1, 10));
    assert_eq!(visible(&out), (0..10).collect::<Vec<u64>>());
}

/// Puts the disk into the state of a crash between the manifest and the renames.
fn undo_renames(out: &std::path::Path) {
    let state = state_of(out);
    let splits = state.join("splits");
    for key in names(&splits) {
        let last = names(&splits.join(&key)).pop().unwrap();
        let manifest = std::fs::read(splits.join(key).join(last)).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        for file in manifest["files"].as_array().unwrap() {
            let temp = state.join("tmp").join(file["temp"].as_str().unwrap());
            std::fs::rename(out.join(file["final"].as_str().unwrap()), temp).unwrap();
        }
    }
}

#[test]
fn publishing_twice_is_one_effect() {
    let (_directory, out, config) = out();
    let run = Run::start(&config);
    let mut split = run.split("s");
    split.write(0, 10);
    let commit = split.stage(10);
    split.publish(&commit).unwrap();
    split.publish(&commit).unwrap();
    assert_eq!(visible(&out), (0..10).collect::<Vec<u64>>());
}

#[test]
fn a_commit_that_does_not_follow_is_refused() {
    let (_directory, _out, config) = out();
    let run = Run::start(&config);
    let mut split = run.split("s");
    split.write(0, 10);
    let mut checkpoint = split.checkpoint(10);
    checkpoint.after = Some(at(3));
    let error = futures::executor::block_on(split.writer.stage(&checkpoint)).unwrap_err();
    assert_eq!((error.kind, code(&error)), (SinkErrorKind::Stop, 263));
}

#[test]
fn another_definition_is_refused_once_there_are_positions() {
    let (_directory, _out, config) = out();
    Run::start(&config);
    let run = Run::try_start(&config, "changed before anything was moved").unwrap();
    run.split("s").commit_as(0, 10, 10);
    let refused = Run::try_start(&config, "changed again").err().unwrap();
    assert_eq!((refused.kind, code(&refused)), (SinkErrorKind::Stop, 260));
    assert_eq!(run.split("s").stands_at(), 10, "the holder keeps the lease");
}

#[test]
fn of_many_that_start_at_once_each_has_its_own_token() {
    let (_directory, out, config) = out();
    Run::start(&config).split("s").commit_as(0, 10, 10);
    let tokens: Vec<Result<u64, u16>> = std::thread::scope(|scope| {
        let start = || Run::try_start(&config, "definition").map(|run| run.lease.token.get());
        let runs: Vec<_> =
            (0..8).map(|_| scope.spawn(move || start().map_err(|error| code(&error)))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let mut held: Vec<u64> = tokens.iter().filter_map(|token| token.ok()).collect();
    assert!(tokens.iter().all(|token| matches!(token, Ok(_) | Err(261))), "{tokens:?}");
    held.sort_unstable();
    let last = names(&state_of(&out).join("leases")).pop().unwrap();
    let last = last.strip_suffix(".json").unwrap().parse().unwrap();
    assert_eq!(held.last(), Some(&last), "the last one is never fenced");
    let all = held.len();
    held.dedup();
    assert_eq!(held.len(), all);
}
