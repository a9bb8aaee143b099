use hapax_engine::dead_letter::{Ending, Settlement};
use hapax_engine::sink::CommitId;
use hapax_protocol::code::Code;
use hapax_protocol::lease::FencingToken;
use hapax_protocol::position::{Epoch, Position, SplitId, Totals};

use super::*;

fn at(ordinal: u64) -> Place {
    Place { split: SplitId::new("s"), ordinal }
}

fn evidence() -> Evidence {
    Evidence {
        place: at(5),
        passage: Some(Passage::Passes),
        stands: Stands::Before,
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

fn commit(epoch: u64) -> Committed {
    Committed {
        commit: CommitId { split: SplitId::new("s"), epoch: Epoch::new(epoch) },
        token: FencingToken::new(1),
        holder: String::new(),
        records: 0..0,
        through: Position::new([].as_slice()),
        totals: Totals::default(),
        made_unix_ms: 1,
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
    assert_eq!(decide(left_out.clone()).decision, Decision::LeftOut);
    let again = Remembered { again: vec![commit(3)], ..Remembered::default() };
    assert_eq!(decide(Evidence { remembered: again, ..left_out }).decision, Decision::Moved);
    let refused = Evidence { passage: Some(Passage::Refused), ..evidence() };
    assert_eq!(decide(refused).decision, Decision::Unrecorded);
}

#[test]
fn the_last_commit_is_the_latest_of_all() {
    let remembered = Remembered {
        commit: Some(commit(1)),
        settled_in: Some(commit(5)),
        again: vec![commit(3), commit(4)],
        ..Remembered::default()
    };
    let traced = decide(Evidence { remembered, ..evidence() });
    assert_eq!(traced.last(), Some(&commit(5)));
    assert_eq!(decide(evidence()).last(), None);
}

#[test]
fn behind_the_position_nothing_is_decided() {
    for claimant in [None, Some(at(3))] {
        let behind = Evidence { stands: Stands::Behind, claimant, ..evidence() };
        assert_eq!(decide(behind).decision, Decision::NotReached);
    }
    let no_positions = Evidence { stands: Stands::NoPositions, has_ledger: false, ..evidence() };
    assert_eq!(decide(no_positions.clone()).decision, Decision::Unrecorded);
    let left_out = Evidence { passage: Some(Passage::LeftOut), ..no_positions };
    assert_eq!(decide(left_out).decision, Decision::LeftOut);
}

#[test]
fn where_the_place_says_nothing_only_what_was_written_down_counts() {
    let unknown = Evidence { stands: Stands::Unknown, ..evidence() };
    assert_eq!(decide(unknown.clone()).decision, Decision::Unrecorded);
    assert_eq!(decide(Evidence { has_ledger: false, ..unknown.clone() }).decision, Decision::Unrecorded);
    assert_eq!(decide(Evidence { claimant: Some(at(5)), ..unknown.clone() }).decision, Decision::Moved);
    let twin = decide(Evidence { claimant: Some(at(3)), ..unknown });
    assert_eq!(twin.decision, Decision::Suppressed { of: at(3) });
}
