use super::*;
use crate::log::Expected;

fn record(sequence: u64) -> Record {
    Record { writer: 1, sequence, hash: sequence * 7 }
}

fn log(state: State, events: impl IntoIterator<Item = Event>) -> Log {
    let mut log = Log::new(Expected { twins: Twins::Once, state, ordered: true });
    log.events.extend((0..4).map(|n| Event::Written { record: record(n), split: 0, place: n }));
    log.events.extend(events);
    log
}

fn commit(token: u64, sequences: &[u64]) -> Event {
    Event::Committed {
        split: 0,
        token,
        records: sequences.iter().map(|n| record(*n)).collect(),
        set_aside: Vec::new(),
        held: Vec::new(),
        through: None,
    }
}

fn found(sequences: &[u64]) -> Event {
    Event::Found {
        records: sequences.iter().map(|n| record(*n)).collect(),
        set_aside: Vec::new(),
        held: Vec::new(),
    }
}

/// The counts that are not 0.
fn wrong(state: State, events: impl IntoIterator<Item = Event>) -> Vec<(&'static str, u64)> {
    Counts::of(&log(state, events)).each().into_iter().filter(|(_, number)| *number > 0).collect()
}

#[test]
fn a_sound_run_counts_nothing() {
    let polled = Event::Polled { records: vec![record(0), record(1)], through: vec![(0, 2)] };
    let events = [
        Event::TookOver { split: 0, token: 1 },
        commit(1, &[0, 1]),
        Event::Acknowledged { split: 0, places: vec![0, 1] },
        polled,
        Event::Healed,
        commit(1, &[2, 3]),
        Event::Completed,
        Event::Started { idle: true },
        Event::Completed,
        found(&[0, 1, 2, 3]),
    ];
    assert_eq!(wrong(State::Every, events), []);
}

#[test]
fn each_mistake_has_its_count() {
    let cases = [
        (vec![found(&[0, 1, 3])], ("lost", 1)),
        (vec![found(&[0, 1, 1, 2, 3])], ("duplicated", 1)),
        (vec![found(&[0, 1, 2, 3, 9])], ("phantom", 1)),
        (vec![found(&[0, 2, 1, 3])], ("out-of-order", 1)),
        (vec![commit(1, &[0, 1]), Event::Polled { records: vec![record(0)], through: vec![] }], ("torn", 1)),
        (
            vec![commit(1, &[0]), Event::Polled { records: vec![record(0)], through: vec![(0, 2)] }],
            ("ahead", 1),
        ),
        (vec![Event::Polled { records: vec![record(0), record(0)], through: vec![] }], ("seen-twice", 1)),
        (vec![Event::Acknowledged { split: 0, places: vec![0] }], ("early", 1)),
        (vec![Event::TookOver { split: 0, token: 2 }, commit(1, &[0])], ("stale", 1)),
        (vec![Event::Completed, Event::Healed], ("stuck", 1)),
        (vec![Event::Started { idle: true }, commit(1, &[])], ("restless", 1)),
    ];
    for (events, expected) in cases {
        assert_eq!(wrong(State::Every, events.clone()), [expected], "{events:?}");
    }
    let other = Event::Found {
        records: vec![Record { hash: 0, ..record(3) }],
        set_aside: vec![(0, 0), (0, 1), (0, 2)],
        held: Vec::new(),
    };
    assert_eq!(wrong(State::Every, [other]), [("differs", 1)]);
}

#[test]
fn a_record_is_set_aside_once_or_moved_but_not_both() {
    let aside = |set_aside: &[(u32, u64)], sequences: &[u64]| {
        let records = sequences.iter().map(|n| record(*n)).collect();
        wrong(State::Every, [Event::Found { records, set_aside: set_aside.to_vec(), held: Vec::new() }])
    };
    assert_eq!(aside(&[(0, 0)], &[1, 2, 3]), []);
    assert_eq!(aside(&[(0, 0)], &[0, 1, 2, 3]), [("duplicated", 1)]);
    assert_eq!(aside(&[(0, 0), (0, 0)], &[1, 2, 3]), [("duplicated", 1)]);
    assert_eq!(aside(&[(0, 9)], &[0, 1, 2, 3]), [("phantom", 1)]);
}

#[test]
fn what_was_taken_back_with_the_position_is_not_in_effect() {
    let events = [
        commit(1, &[0, 1]),
        commit(1, &[2]),
        Event::RolledBack { commits: 1 },
        Event::Acknowledged { split: 0, places: vec![1, 2] },
    ];
    assert_eq!(wrong(State::Every, events), [("early", 1)]);
}

#[test]
fn where_the_last_version_counts_an_older_one_is_a_loss() {
    assert_eq!(wrong(State::Latest, [found(&[3])]), []);
    assert_eq!(wrong(State::Latest, [found(&[2])]), [("lost", 1)]);
    assert_eq!(wrong(State::Latest, [found(&[2, 3])]), [("duplicated", 1)]);
    let seen = |n| Event::Polled { records: vec![record(n)], through: vec![] };
    assert_eq!(wrong(State::Latest, [seen(2), seen(1)]), [("seen-twice", 1)]);
}

#[test]
fn the_level_that_was_kept_follows_from_the_counts() {
    let kept = |counts: Counts| counts.kept();
    assert_eq!(kept(Counts::default()), Kept::ExactlyOnce);
    assert_eq!(kept(Counts { seen_twice: 1, ..Counts::default() }), Kept::EffectivelyOnce);
    assert_eq!(kept(Counts { duplicated: 1, ..Counts::default() }), Kept::AtLeastOnce);
    assert_eq!(kept(Counts { lost: 1, ..Counts::default() }), Kept::AtMostOnce);
    assert_eq!(kept(Counts { lost: 1, duplicated: 1, ..Counts::default() }), Kept::Nothing);
    assert_eq!(kept(Counts { torn: 1, ..Counts::default() }), Kept::Nothing);
}

#[test]
fn a_log_survives_being_written() {
    let log = log(State::Latest, [commit(1, &[0]), Event::Healed, found(&[0])]);
    let mut text = Vec::new();
    log.write(&mut text).unwrap();
    assert_eq!(Log::read(text.as_slice()).unwrap(), log);
}
