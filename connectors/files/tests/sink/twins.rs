//! The embedded ledger: kept between runs, and deaf to an earlier holder.

use futures::executor::block_on;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::sink::Arrival;
use hapax_files::sink_config::{SinkConfig, SinkFormat};
use hapax_protocol::code::Code;
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

fn letter(ordinal: u64) -> DeadLetter {
    let place = Place { split: SplitId::new("a"), ordinal };
    let (reason, raw) = ("a reason".to_owned(), "a record".to_owned());
    DeadLetter { place, code: Code(210), reason, raw, set_aside_unix_ms: 1 }
}

#[test]
fn whoever_asks_while_others_write_never_misses_a_committed_effect() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let config = SinkConfig { format: Some(SinkFormat::Jsonl), ..config(&out) };
    let committed = std::sync::atomic::AtomicU64::new(0);
    let id = |n: u64| RecordId(u128::from(n).to_be_bytes());
    const CLAIMS: u64 = 120;
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let sink = open(&config).unwrap();
            let mut asked = 0_u64;
            loop {
                let known = committed.load(std::sync::atomic::Ordering::SeqCst);
                for n in [0, known / 2, known.saturating_sub(1)] {
                    let claimant = block_on(sink.claimant(&name(), &id(n))).unwrap();
                    let expected = (n < known).then(|| Place { split: SplitId::new("a"), ordinal: n });
                    assert!(claimant == expected || known == 0, "{n} of {known}: {claimant:?}");
                    let places = [Place { split: SplitId::new("a"), ordinal: n }];
                    let remembered = block_on(sink.remembered(&name(), &places)).unwrap().remove(0);
                    let has_all = remembered.commit.is_some() && remembered.letter.is_some();
                    assert!(has_all || n >= known, "{n} of {known}: {remembered:?}");
                    asked += 1;
                }
                if known == CLAIMS {
                    return asked;
                }
            }
        });
        // Merges every eighth commit, and a new holder every thirtieth.
        for first in (0..CLAIMS).step_by(30) {
            let run = Run::start(&config);
            let mut split = run.split("a");
            for n in first..first + 30 {
                let arrivals = [Arrival { id: id(n), ordinal: n }];
                assert_eq!(block_on(split.writer.claim(&arrivals)).unwrap(), [Claim::New]);
                block_on(split.writer.set_aside(&[letter(n)])).unwrap();
                split.commit_as(n, n + 1, n + 1);
                committed.store(n + 1, std::sync::atomic::Ordering::SeqCst);
            }
        }
        assert!(asking.join().unwrap() > CLAIMS);
    });
}
