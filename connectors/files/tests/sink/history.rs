//! What the sink remembers of commits, and what it says of one that is not over.

use futures::executor::block_on;
use hapax_engine::history::Unfinished;
use hapax_engine::sink::CommitId;
use hapax_protocol::identity::Place;
use hapax_protocol::position::{Epoch, SplitId};

use crate::world::*;

#[test]
fn a_manifest_of_a_version_without_history_is_gone_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.csv");
    let run = Run::start(&config(&out));
    let mut split = run.split("s");
    split.commit_as(0, 10, 10);
    drop((split, run));
    let state = state_of(&out);
    let chain = state.join("splits").join(names(&state.join("splits")).remove(0));
    let last = chain.join(names(&chain).pop().unwrap());
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&last).unwrap()).unwrap();
    manifest.as_object_mut().unwrap().remove("made").unwrap();
    std::fs::write(&last, manifest.to_string()).unwrap();
    let run = Run::start(&config(&out));
    let mut split = run.split("s");
    split.commit_as(10, 20, 20);
    let places = [5, 15].map(|ordinal| Place { split: SplitId::new("s"), ordinal });
    let remembered = block_on(run.sink.remembered(&name(), &places)).unwrap();
    assert_eq!(remembered[0].commit, None);
    assert_eq!(remembered[1].commit.as_ref().unwrap().records, 10..20);
}

#[test]
fn a_decided_commit_is_unfinished_until_the_next_take_over() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.csv");
    let run = Run::start(&config(&out));
    let mut split = run.split("s");
    split.commit_as(0, 10, 10);
    assert_eq!(block_on(run.sink.unfinished(&name())).unwrap(), []);
    // As a run leaves it that dies between the manifest and the renaming.
    let state = state_of(&out);
    let chain = state.join("splits").join(names(&state.join("splits")).remove(0));
    let manifest = std::fs::read(chain.join(names(&chain).pop().unwrap())).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let file = &manifest["files"][0];
    let temp = state.join("tmp").join(file["temp"].as_str().unwrap());
    std::fs::rename(state.join("parts").join(file["final"].as_str().unwrap()), &temp).unwrap();
    let decided = Unfinished::Decided(CommitId { split: SplitId::new("s"), epoch: Epoch::new(1) });
    assert_eq!(block_on(run.sink.unfinished(&name())).unwrap(), [decided]);
    assert!(temp.exists(), "asking completed it");
    Run::start(&config(&out));
    assert_eq!(block_on(run.sink.unfinished(&name())).unwrap(), []);
}
