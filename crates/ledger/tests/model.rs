//! The ledger against a map that cannot be wrong, over random sequences of calls.
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

use std::collections::HashMap;

use hapax_ledger::memory::MemoryStore;
use hapax_ledger::{Ledger, Settings};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::ledger::{Claim, decide};
use hapax_protocol::position::SplitId;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Call {
    Claim {
        split: u8,
        arrivals: Vec<(RecordId, u64)>,
    },
    Commit,
    /// The sink's transaction is rolled back, after flushing or before.
    Abort {
        flushed: bool,
    },
    /// The process dies and another opens the store.
    Reopen,
}

/// Identities of many shapes, from sets small enough to come again.
fn identity() -> impl Strategy<Value = RecordId> {
    let spread = |n: u64| {
        let half = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&half);
        id[8..].copy_from_slice(&half);
        id
    };
    prop_oneof![
        (0..300_u128).prop_map(|n| n.to_be_bytes()),
        (0..300_u128).prop_map(|n| (u128::MAX - n).to_be_bytes()),
        (0..100_u128).prop_map(|n| (n << 120).to_be_bytes()),
        (0..300_u64).prop_map(spread),
    ]
    .prop_map(RecordId)
}

fn call() -> impl Strategy<Value = Call> {
    let arrivals = proptest::collection::vec((identity(), 0..40_u64), 0..60);
    prop_oneof![
        6 => (0..3_u8, arrivals).prop_map(|(split, arrivals)| Call::Claim { split, arrivals }),
        5 => Just(Call::Commit),
        1 => any::<bool>().prop_map(|flushed| Call::Abort { flushed }),
        1 => Just(Call::Reopen),
    ]
}

#[derive(Default, Clone)]
struct Model(HashMap<RecordId, Place>);

impl Model {
    fn claim(&mut self, split: &SplitId, arrivals: &[(RecordId, u64)]) -> Vec<Claim<Place>> {
        let mut answers = Vec::new();
        for (id, ordinal) in arrivals {
            let at = Place { split: split.clone(), ordinal: *ordinal };
            answers.push(decide(self.0.get(id).cloned(), &at));
            self.0.entry(*id).or_insert(at);
        }
        answers
    }
}

const TINY: Settings =
    Settings { page_bytes: 100, fan_in: 2, merge_entries_max: 1 << 24, cached_pages_max: 2 };

fn check(settings: Settings, calls: &[Call]) {
    let mut ledger = Ledger::with_settings(MemoryStore::default(), settings).unwrap();
    let (mut open, mut committed) = (Model::default(), Model::default());
    let mut snapshot = ledger.store_mut().clone();
    for call in calls {
        match call {
            Call::Claim { split, arrivals } => {
                let split = SplitId::new(format!("split {split}"));
                assert_eq!(ledger.claim(&split, arrivals).unwrap(), open.claim(&split, arrivals));
            }
            Call::Commit => {
                ledger.flush().unwrap();
                ledger.committed();
                snapshot = ledger.store_mut().clone();
                committed = open.clone();
            }
            Call::Abort { flushed } => {
                if *flushed {
                    ledger.flush().unwrap();
                }
                *ledger.store_mut() = snapshot.clone();
                ledger.rollback().unwrap();
                open = committed.clone();
            }
            Call::Reopen => {
                ledger = Ledger::with_settings(snapshot.clone(), settings).unwrap();
                open = committed.clone();
            }
        }
        assert_eq!(ledger.stats().identities, open.0.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_answers_as_the_map_does(calls in proptest::collection::vec(call(), 1..40)) {
        check(TINY, &calls);
    }

    #[test]
    fn so_it_does_when_merges_are_bounded(calls in proptest::collection::vec(call(), 1..40)) {
        check(Settings { merge_entries_max: 90, fan_in: 3, ..TINY }, &calls);
    }
}
