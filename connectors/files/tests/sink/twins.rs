//! The embedded ledger: kept between runs, and deaf to an earlier holder.

use futures::executor::block_on;
use hapax_engine::sink::Arrival;
use hapax_files::sink_config::{SinkConfig, SinkFormat};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::SplitId;

use crate::world::*;

fn claim(split: &mut Split, id: u8, ordinal: u64) -> Claim<Place> {
    let arrivals = [Arrival { id: RecordId([id; 16]), ordinal }];
    block_on(split.writer.claim(&arrivals)).unwrap().remove(0)
}

fn twin(split: &str, ordinal: u64) -> Claim<Place> {
    Claim::Twin { of: Place { split: SplitId::new(split), ordinal } }
}

#[test]
fn claims_outlive_a_run_and_cross_splits() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let config = SinkConfig { format: Some(SinkFormat::Jsonl), ..config(&out) };
    let first = Run::start(&config);
    let (mut a, mut b) = (first.split("a"), first.split("b"));
    assert_eq!(claim(&mut a, 1, 5), Claim::New);
    assert_eq!(claim(&mut b, 1, 0), twin("a", 5));
    a.commit_as(0, 6, 6);
    for round in 0..3_u8 {
        let next = Run::start(&config);
        let (mut a, mut b) = (next.split("a"), next.split("b"));
        assert_eq!(claim(&mut a, 1, 5), Claim::Replay);
        assert_eq!(claim(&mut b, 1, 0), twin("a", 5));
        assert_eq!(claim(&mut b, 10 + round, 0), Claim::New);
        b.commit_as(0, 1, b.stands_at() + 1);
    }
}

#[test]
fn what_an_earlier_holder_claims_late_is_not_seen() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let config = SinkConfig { format: Some(SinkFormat::Jsonl), ..config(&out) };
    let first = Run::start(&config);
    let mut old = first.split("a");
    assert_eq!(claim(&mut old, 1, 0), Claim::New);
    old.commit_as(0, 1, 1);
    assert_eq!(claim(&mut old, 2, 1), Claim::New);
    old.write(1, 2);
    let second = Run::start(&config);
    let late = block_on(old.writer.stage(&old.checkpoint(2)));
    if let Ok(commit) = late {
        assert!(old.publish(&commit).is_err());
    }
    let mut new = second.split("b");
    assert_eq!(claim(&mut new, 2, 0), Claim::New);
    assert_eq!(claim(&mut new, 1, 1), twin("a", 0));
    new.commit_as(0, 1, 2);
    let third = Run::start(&config);
    assert_eq!(claim(&mut third.split("a"), 2, 1), twin("b", 0));
}
