use hapax_engine::dead_letter::{Ending, Settlement};
use hapax_protocol::code::Code;
use hapax_protocol::position::{Epoch, SplitId};

use super::*;

fn at(ordinal: u64) -> Place {
    Place { split: SplitId::new("s"), ordinal }
}

fn evidence() -> Evidence {
    Evidence {
        place: at(5),
        passage: Some(Passage::Passes),
        committed_records: 10,
        remembered: Remembered::default(),
        claimant: None,
        has_ledger: true,
    }
}

fn letter() -> DeadLetter {
    DeadLetter {
        place: at(5),
        code: Code(113),
        reason: String::new(),
        raw: String::new(),
        set_aside_unix_ms: 1,
    }
}

#[test]
fn what_the_ledger_says_decides_between_moved_and_suppressed() {
    let moved = decide(Evidence { claimant: Some(at(5)), ..evidence() });
    assert_eq!(moved.decision, Decision::Moved);
    let twin = decide(Evidence { claimant: Some(at(3)), ..evidence() });
    assert_eq!(twin.decision, Decision::Suppressed { of: at(3) });
    assert_eq!(decide(evidence()).decision, Decision::Unrecorded, "a ledger that knows nothing");
    // A ledger of former times says nothing where twins are kept now.
    let kept = Evidence { claimant: Some(at(3)), has_ledger: false, ..evidence() };
    assert_eq!(decide(kept.clone()).decision, Decision::Moved);
    assert_eq!(decide(Evidence { passage: None, ..kept }).decision, Decision::Unrecorded);
}

#[test]
fn what_was_written_down_goes_before_what_follows_from_today() {
    let settlement = Settlement { ending: Ending::Dropped, epoch: Epoch::new(2), settled_unix_ms: 9 };
    let settled = SettledLetter { letter: letter(), settlement };
    for passage in [None, Some(Passage::Passes), Some(Passage::LeftOut), Some(Passage::Refused)] {
        let claimant = Some(at(3));
        let remembered = Remembered { settled: Some(settled.clone()), ..Remembered::default() };
        let of = Evidence { passage, claimant: claimant.clone(), remembered, ..evidence() };
        assert_eq!(decide(of.clone()).decision, Decision::Settled(settled.clone()));
        let remembered = Remembered { letter: Some(letter()), ..of.remembered };
        let again = Evidence { passage, claimant, remembered, ..evidence() };
        assert_eq!(decide(again).decision, Decision::SetAside(letter()));
    }
    let left_out = Evidence { passage: Some(Passage::LeftOut), ..evidence() };
    assert_eq!(decide(left_out).decision, Decision::LeftOut);
    let refused = Evidence { passage: Some(Passage::Refused), ..evidence() };
    assert_eq!(decide(refused).decision, Decision::Unrecorded);
}

#[test]
fn behind_the_position_nothing_is_decided() {
    for claimant in [None, Some(at(3))] {
        let behind = Evidence { committed_records: 5, claimant, ..evidence() };
        assert_eq!(decide(behind).decision, Decision::NotReached);
    }
}
