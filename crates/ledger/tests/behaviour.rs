//! What a ledger promises, one sentence at a time.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

use hapax_ledger::memory::MemoryStore;
use hapax_ledger::{Broken, Damage, Error, Ledger, Settings};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::SplitId;

fn id(n: u128) -> RecordId {
    RecordId(n.to_be_bytes())
}

fn split() -> SplitId {
    SplitId::new("a")
}

fn arrivals(numbers: std::ops::Range<u64>) -> Vec<(RecordId, u64)> {
    numbers.map(|n| (id(u128::from(n)), n)).collect()
}

fn commit(ledger: &mut Ledger<MemoryStore>, numbers: std::ops::Range<u64>) {
    let answers = ledger.claim(&split(), &arrivals(numbers)).unwrap();
    assert!(answers.iter().all(|answer| *answer == Claim::New));
    ledger.flush().unwrap();
    ledger.committed();
}

#[test]
fn a_replay_passes_and_a_twin_does_not() {
    let mut ledger = Ledger::open(MemoryStore::default()).unwrap();
    let first = Place { split: split(), ordinal: 3 };
    for committed in [false, true] {
        let answers = ledger.claim(&split(), &[(id(9), 3), (id(9), 4)]).unwrap();
        let fresh = if committed { Claim::Replay } else { Claim::New };
        assert_eq!(answers, [fresh, Claim::Twin { of: first.clone() }]);
        let other = ledger.claim(&SplitId::new("b"), &[(id(9), 3)]).unwrap();
        assert_eq!(other, [Claim::Twin { of: first.clone() }]);
        ledger.flush().unwrap();
        ledger.committed();
    }
    assert_eq!(ledger.stats().suppressed, 4);
}

#[test]
fn what_was_rolled_back_is_new_again() {
    let mut ledger = Ledger::open(MemoryStore::default()).unwrap();
    commit(&mut ledger, 0..10);
    let snapshot = ledger.store_mut().clone();
    ledger.claim(&split(), &arrivals(5..20)).unwrap();
    ledger.flush().unwrap();
    *ledger.store_mut() = snapshot;
    ledger.rollback().unwrap();
    commit(&mut ledger, 10..20);
    assert_eq!(ledger.stats().identities, 20);
}

#[test]
fn a_filter_alone_would_lose_records_and_is_caught() {
    let twins = |planted| {
        hapax_planted::with(planted, || {
            let mut ledger = Ledger::open(MemoryStore::default()).unwrap();
            let mut twins = 0;
            for n in 0..20 {
                // Counted up, all different: a twin is a record lost.
                let answers = ledger.claim(&split(), &arrivals(n * 2_000..n * 2_000 + 2_000)).unwrap();
                twins += answers.iter().filter(|answer| !matches!(answer, Claim::New)).count();
                ledger.flush().unwrap();
                ledger.committed();
            }
            twins
        })
    };
    assert_eq!(twins(None), 0);
    let lost = twins(Some(hapax_planted::Mistake::FilterAlone));
    assert!(lost > 0, "NOT caught: filter-alone");
    println!("caught filter-alone in the ledger by: lost {lost}");
}

#[test]
fn segments_stay_few() {
    let settings = Settings { fan_in: 4, ..Settings::default() };
    let mut ledger = Ledger::with_settings(MemoryStore::default(), settings).unwrap();
    for n in 0..300 {
        commit(&mut ledger, n * 10..n * 10 + 10);
        assert!(ledger.stats().segments <= 3 * 5, "{} after {n}", ledger.stats().segments);
    }
    assert_eq!(ledger.stats().identities, 3000);
}

#[test]
fn damage_is_an_error_wherever_it_is_met() {
    let mut ledger = Ledger::open(MemoryStore::default()).unwrap();
    commit(&mut ledger, 0..1000);
    for page in ledger.store_mut().pages_mut() {
        let middle = page.len() / 2;
        page[middle] ^= 1;
    }
    let met = ledger.claim(&split(), &[(id(500), 1)]).unwrap_err();
    assert!(matches!(&met, Error::Broken(Broken::Page { what: Damage::Checksum, .. })), "{met}");
    // It does not go on, not even with what would be answered without reading.
    let after = ledger.claim(&split(), &[(id(1 << 90), 1)]).unwrap_err();
    assert!(matches!(after, Error::Broken(Broken::Unsettled)));
    assert!(matches!(ledger.flush().unwrap_err(), Error::Broken(Broken::Unsettled)));
    assert!(Ledger::open(ledger.into_store()).is_err());
}

#[test]
fn segments_that_say_the_same_are_one_and_contradictions_stop() {
    let settings = Settings { fan_in: 2, ..Settings::default() };
    // Two segments with the same identity, as if both had been written from the same beginning.
    let store_with = |[one, two]: [u64; 2]| {
        let mut ledger = Ledger::open(MemoryStore::default()).unwrap();
        let beginning = ledger.store_mut().clone();
        ledger.claim(&split(), &[(id(7), one)]).unwrap();
        ledger.flush().unwrap();
        let first = std::mem::replace(ledger.store_mut(), beginning);
        ledger.rollback().unwrap();
        ledger.claim(&split(), &[(id(7), two)]).unwrap();
        ledger.flush().unwrap();
        let mut store = ledger.into_store();
        store.adopt(first);
        store
    };
    let mut same = Ledger::with_settings(store_with([1, 1]), settings).unwrap();
    assert_eq!(same.claim(&split(), &[(id(7), 1), (id(8), 2)]).unwrap(), [Claim::Replay, Claim::New]);
    same.flush().unwrap();
    assert_eq!((same.stats().identities, same.stats().segments), (2, 1));

    let mut different = Ledger::with_settings(store_with([1, 2]), settings).unwrap();
    different.claim(&split(), &[(id(8), 3)]).unwrap();
    let met = different.flush().unwrap_err();
    assert!(matches!(met, Error::Broken(Broken::Contradiction(twice)) if twice == id(7)), "{met}");
}

#[test]
fn after_a_rollback_the_store_may_hold_what_another_wrote_under_the_same_number() {
    let mut ledger = Ledger::open(MemoryStore::default()).unwrap();
    let beginning = ledger.store_mut().clone();
    ledger.claim(&split(), &arrivals(0..100)).unwrap();
    ledger.flush().unwrap();
    // Reads the page, so that it is in the cache.
    assert_eq!(ledger.claim(&split(), &arrivals(0..1)).unwrap(), [Claim::Replay]);
    let mut other = Ledger::open(beginning).unwrap();
    commit(&mut other, 1000..1100);
    *ledger.store_mut() = other.into_store();
    ledger.rollback().unwrap();
    for (n, answer) in (1000..1100).zip(ledger.claim(&SplitId::new("b"), &arrivals(1000..1100)).unwrap()) {
        assert_eq!(answer, Claim::Twin { of: Place { split: split(), ordinal: n } });
    }
    commit(&mut ledger, 0..100);
}

#[test]
fn a_withdrawn_claim_is_free_until_it_is_flushed() {
    let mut ledger = Ledger::open(MemoryStore::default()).unwrap();
    ledger.claim(&split(), &arrivals(0..3)).unwrap();
    ledger.withdraw(&split(), &[(id(0), 0), (id(1), 99), (id(77), 7)]).unwrap();
    ledger.withdraw(&SplitId::new("b"), &[(id(2), 2)]).unwrap();
    let at = |ordinal| Place { split: split(), ordinal };
    assert_eq!(
        ledger.claim(&split(), &[(id(0), 10), (id(1), 11), (id(2), 12)]).unwrap(),
        [Claim::New, Claim::Twin { of: at(1) }, Claim::Twin { of: at(2) }]
    );
    ledger.flush().unwrap();
    ledger.withdraw(&split(), &[(id(0), 10)]).unwrap();
    assert_eq!(ledger.claim(&split(), &[(id(0), 20)]).unwrap(), [Claim::Twin { of: at(10) }]);
}
