//! Dead letters follow the commit they belong to.

use futures::executor::block_on;
use hapax_engine::dead_letter::{DeadLetter, Ending, Settlement};
use hapax_files::sink_config::{SinkConfig, SinkFormat};
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::{Epoch, SplitId};

use crate::world::*;

fn place(split: &str, ordinal: u64) -> Place {
    Place { split: SplitId::new(split), ordinal }
}

fn letter(split: &str, ordinal: u64) -> DeadLetter {
    DeadLetter {
        place: place(split, ordinal),
        code: Code(210),
        reason: "no number".to_owned(),
        raw: "a,\"b\nc".to_owned(),
        set_aside_unix_ms: 1_700_000_000_000,
    }
}

fn listed(run: &Run, max: usize) -> Vec<DeadLetter> {
    block_on(run.sink.dead_letters(&name(), max)).unwrap()
}

#[test]
fn letters_appear_with_their_commit_and_stay_until_settled() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let config = SinkConfig { format: Some(SinkFormat::Jsonl), ..config(&out) };
    let run = Run::start(&config);
    let mut split = run.split("s");
    block_on(split.writer.set_aside(&[letter("s", 9), letter("s", 2)])).unwrap();
    block_on(split.writer.set_aside(&[letter("s", 2)])).unwrap();
    assert_eq!(listed(&run, 10), []);
    split.commit(10);
    assert_eq!(listed(&run, 10), [letter("s", 2), letter("s", 9)]);
    assert_eq!(listed(&run, 1), [letter("s", 2)]);
    block_on(split.writer.set_aside(&[letter("s", 11)])).unwrap();
    block_on(split.writer.abort()).unwrap();
    // Far more commits than the chain keeps manifests.
    for position in 11..40 {
        split.commit_as(position, position + 1, position);
    }
    assert_eq!(listed(&run, 10).len(), 2);

    let next = Run::start(&config);
    let mut replay = next.split("replay");
    let settlement = Settlement { ending: Ending::Moved, epoch: Epoch::new(1), settled_unix_ms: 8 };
    block_on(replay.writer.settle(&[place("s", 2)], &settlement)).unwrap();
    replay.commit(1);
    assert_eq!(listed(&next, 10), [letter("s", 9)]);
    block_on(replay.writer.settle(&[place("s", 9)], &settlement)).unwrap();
    replay.commit(2);
    assert_eq!(listed(&Run::start(&config), 10), []);
}

/// The log goes by run, split and commit, and not by time: one of the two stands before the letter that it settles.
#[test]
fn letters_of_two_splits_are_settled_by_each_other_in_one_run() {
    let directory = tempfile::tempdir().unwrap();
    let config = SinkConfig { format: Some(SinkFormat::Jsonl), ..config(&directory.path().join("out")) };
    let run = Run::start(&config);
    let (mut one, mut other) = (run.split("one"), run.split("other"));
    block_on(one.writer.set_aside(&[letter("one", 1)])).unwrap();
    block_on(other.writer.set_aside(&[letter("other", 2)])).unwrap();
    one.commit(10);
    other.commit(10);
    let settlement = Settlement { ending: Ending::Moved, epoch: Epoch::new(2), settled_unix_ms: 8 };
    block_on(one.writer.settle(&[place("other", 2)], &settlement)).unwrap();
    block_on(other.writer.settle(&[place("one", 1)], &settlement)).unwrap();
    one.commit(20);
    other.commit(20);
    assert_eq!(listed(&run, 10), []);
    let settled = block_on(run.sink.settled_letters(&name(), 10)).unwrap();
    let settled: Vec<Place> = settled.into_iter().map(|settled| settled.letter.place).collect();
    assert_eq!(settled, [place("one", 1), place("other", 2)]);
}

#[test]
fn letters_of_a_decided_commit_are_listed_before_it_is_completed() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let config = SinkConfig { format: Some(SinkFormat::Jsonl), ..config(&out) };
    let run = Run::start(&config);
    let mut split = run.split("s");
    block_on(split.writer.set_aside(&[letter("s", 4)])).unwrap();
    split.commit(10);
    let state = state_of(&out);
    let chain = state.join("splits").join(names(&state.join("splits")).remove(0));
    let manifest = std::fs::read(chain.join(names(&chain).pop().unwrap())).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let file = &manifest["files"][0];
    let temp = state.join("tmp").join(file["temp"].as_str().unwrap());
    let name = state.join("letters").join(file["final"].as_str().unwrap());
    std::fs::rename(&name, &temp).unwrap();
    assert_eq!(listed(&run, 10), [letter("s", 4)]);
    Run::start(&config);
    assert!(name.exists());
    assert_eq!(listed(&run, 10), [letter("s", 4)]);
}

#[test]
fn a_settlement_that_does_not_say_how_is_one_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let config = SinkConfig { format: Some(SinkFormat::Jsonl), ..config(&out) };
    let run = Run::start(&config);
    let mut split = run.split("s");
    block_on(split.writer.set_aside(&[letter("s", 2), letter("s", 3)])).unwrap();
    split.commit(10);
    // As the first versions wrote it.
    let log = state_of(&out).join("letters").join("00000000000000000009.old.000000000001.jsonl");
    std::fs::write(log, "{\"what\":\"settled\",\"split\":\"s\",\"record\":2}\n").unwrap();
    assert_eq!(listed(&run, 10), [letter("s", 3)]);
    let settled = block_on(run.sink.settled_letters(&name(), 10)).unwrap();
    assert_eq!((settled.len(), settled[0].settlement), (1, Settlement::UNRECORDED));
    assert_eq!(settled[0].letter.place, place("s", 2));
}
