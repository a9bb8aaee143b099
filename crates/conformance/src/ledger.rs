//! What every ledger must do that stands beside the destination.

use std::collections::HashMap;
use std::sync::Arc;

use hapax_engine::fault::SinkErrorKind;
use hapax_engine::ledger::Ledger;
use hapax_engine::sink::Arrival;
use hapax_protocol::guarantee::{LedgerPlace, Retention};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{FencingToken, Lease, PipelineName};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::SplitId;

/// One ledger under test.
pub trait Subject {
    /// Opens an empty ledger under a name of its own; the same name opens the same one, as another process would, once
    /// the one before was dropped.
    fn open(&self, name: &str) -> impl Future<Output = Arc<dyn Ledger>>;
    /// Opens it while another process has it open; `None` if only one may at a time.
    fn beside(&self, name: &str) -> impl Future<Output = Option<Arc<dyn Ledger>>>;
    /// A ledger that remembers for `window_ms` only; `None` if it has no such kind.
    fn windowed(&self, name: &str, window_ms: u64) -> impl Future<Output = Option<Arc<dyn Ledger>>>;
    /// Takes everything away that a ledger of this name holds.
    fn empty(&self, name: &str);
}

/// Runs every check.
pub async fn suite(subject: &impl Subject) {
    Case { subject, name: "claims" }.a_place_passes_again_and_no_other().await;
    Case { subject, name: "call" }.twins_within_one_call_are_told_apart().await;
    Case { subject, name: "mixed" }.a_call_of_old_and_new_is_answered_in_its_order().await;
    Case { subject, name: "many" }.many_claims_are_all_kept().await;
    Case { subject, name: "pipelines" }.pipelines_and_splits_stand_by_themselves().await;
    Case { subject, name: "withdrawn" }.only_own_claims_are_withdrawn().await;
    Case { subject, name: "race" }.of_two_that_race_one_is_first().await;
    Case { subject, name: "late" }.who_wakes_up_late_undoes_nothing().await;
    Case { subject, name: "window" }.a_window_ends().await;
    Case { subject, name: "emptied" }.an_emptied_ledger_is_noticed().await;
    Case { subject, name: "statistics" }.what_it_holds_is_counted().await;
}

struct Case<'a, S> {
    subject: &'a S,
    name: &'static str,
}

fn pipeline() -> PipelineName {
    PipelineName::new("conformance").unwrap()
}

fn lease(token: u64) -> Lease {
    Lease { pipeline: pipeline(), token: FencingToken::new(token) }
}

fn split() -> SplitId {
    SplitId::new("topic/0 with a space")
}

fn id(number: u64) -> RecordId {
    // Two of three differ in one half only: a ledger that looks at a part of an identity is caught.
    let bits = match number % 3 {
        0 => u128::from(number) << 64,
        _ => u128::from(number),
    };
    RecordId((u128::MAX ^ bits).to_be_bytes())
}

fn arrival(number: u64, ordinal: u64) -> Arrival {
    Arrival { id: id(number), ordinal }
}

fn at(ordinal: u64) -> Place {
    Place { split: split(), ordinal }
}

fn twin(ordinal: u64) -> Claim<Place> {
    Claim::Twin { of: at(ordinal) }
}

async fn claim(ledger: &Arc<dyn Ledger>, arrivals: &[Arrival]) -> Vec<Claim<Place>> {
    ledger.claim(&lease(1), &split(), arrivals).await.unwrap()
}

impl<S: Subject> Case<'_, S> {
    async fn open(&self, has_positions: bool) -> Arc<dyn Ledger> {
        let ledger = self.subject.open(self.name).await;
        ledger.check().await.unwrap();
        ledger.open(&pipeline(), has_positions).await.unwrap();
        ledger
    }

    async fn a_place_passes_again_and_no_other(&self) {
        let ledger = self.open(false).await;
        assert_eq!(ledger.facts().place, LedgerPlace::Outside);
        assert_eq!(ledger.claimant(&pipeline(), &id(1)).await.unwrap(), None);
        assert_eq!(claim(&ledger, &[arrival(1, 10), arrival(2, 11)]).await, [Claim::New, Claim::New]);
        assert_eq!(ledger.claimant(&pipeline(), &id(1)).await.unwrap(), Some(at(10)));
        assert_eq!(claim(&ledger, &[arrival(1, 10), arrival(2, 12)]).await, [Claim::Replay, twin(11)]);
        drop(ledger);
        // The process may have died right behind the answer.
        let ledger = self.open(true).await;
        let claims = claim(&ledger, &[arrival(2, 12), arrival(1, 10), arrival(3, 13), arrival(1, 14)]).await;
        assert_eq!(claims, [twin(11), Claim::Replay, Claim::New, twin(10)], "a claim was forgotten");
        assert_eq!(claim(&ledger, &[]).await, []);
    }

    async fn twins_within_one_call_are_told_apart(&self) {
        let ledger = self.open(false).await;
        let call = [arrival(1, 5), arrival(1, 6), arrival(2, 7), arrival(1, 5), arrival(2, 8)];
        let claims = claim(&ledger, &call).await;
        assert_eq!(claims, [Claim::New, twin(5), Claim::New, Claim::Replay, twin(7)]);
        // The whole call again, as after a crash: what passed passes.
        let claims = claim(&ledger, &call).await;
        assert_eq!(claims, [Claim::Replay, twin(5), Claim::Replay, Claim::Replay, twin(7)]);
    }

    async fn a_call_of_old_and_new_is_answered_in_its_order(&self) {
        let ledger = self.open(false).await;
        let mut first: HashMap<[u8; 16], u64> = HashMap::new();
        let mut ordinal = 0_u64;
        // Few are old at first, and most at the end; in each call some come twice, far from each other.
        for call in 0..12_u64 {
            let numbers = (0..1_000_u64).map(|n| match n % 97 {
                0..=3 if n > 500 => call * 1_000 + n - 500,
                rest if rest < call * 9 => n,
                _ => call * 1_000 + n,
            });
            let arrivals: Vec<Arrival> = numbers
                .map(|number| {
                    ordinal += 1;
                    arrival(number, ordinal)
                })
                .collect();
            let answers = claim(&ledger, &arrivals).await;
            for (answer, arrival) in answers.iter().zip(&arrivals) {
                let expected = match first.get(&arrival.id.0) {
                    None => Claim::New,
                    Some(first) => twin(*first),
                };
                assert_eq!(*answer, expected, "call {call}, {arrival:?}");
                first.entry(arrival.id.0).or_insert(arrival.ordinal);
            }
        }
    }

    async fn many_claims_are_all_kept(&self) {
        let ledger = self.open(false).await;
        let count: u64 = 30_000;
        for from in (0..count).step_by(10_000) {
            let call: Vec<Arrival> = (from..from + 10_000).map(|n| arrival(n, n * 3)).collect();
            assert!(claim(&ledger, &call).await.iter().all(|claim| *claim == Claim::New));
        }
        drop(ledger);
        let ledger = self.open(true).await;
        let call: Vec<Arrival> = (0..count).rev().map(|n| arrival(n, n * 3 + n % 2)).collect();
        for (answer, arrival) in claim(&ledger, &call).await.iter().zip(&call) {
            let claimed = arrival.ordinal / 3 * 3;
            let expected = if arrival.ordinal == claimed { Claim::Replay } else { twin(claimed) };
            assert_eq!(*answer, expected);
        }
    }

    async fn pipelines_and_splits_stand_by_themselves(&self) {
        let ledger = self.open(false).await;
        claim(&ledger, &[arrival(1, 10)]).await;
        let other = PipelineName::new("another").unwrap();
        ledger.open(&other, false).await.unwrap();
        let claims = ledger
            .claim(&Lease { pipeline: other.clone(), ..lease(1) }, &split(), &[arrival(1, 99)])
            .await
            .unwrap();
        assert_eq!(claims, [Claim::New], "another pipeline's claim counts");
        // The same number in another split is another place.
        let elsewhere = SplitId::new("topic/1");
        let claims = ledger.claim(&lease(1), &elsewhere, &[arrival(1, 10), arrival(2, 10)]).await.unwrap();
        assert_eq!(claims, [twin(10), Claim::New]);
        let of = Place { split: elsewhere, ordinal: 10 };
        assert_eq!(claim(&ledger, &[arrival(2, 10)]).await, [Claim::Twin { of: of.clone() }]);
        assert_eq!(ledger.claimant(&pipeline(), &id(2)).await.unwrap(), Some(of));
        assert_eq!(ledger.claimant(&other, &id(2)).await.unwrap(), None);
    }

    async fn only_own_claims_are_withdrawn(&self) {
        let ledger = self.open(false).await;
        claim(&ledger, &[arrival(1, 10), arrival(2, 11), arrival(3, 12)]).await;
        let withdraw = async |split: &SplitId, arrivals: &[Arrival]| {
            ledger.withdraw(&lease(1), split, arrivals).await.unwrap();
        };
        // Another place takes nothing back, and neither does the same number of another split.
        withdraw(&split(), &[arrival(1, 10), arrival(2, 99), arrival(7, 1)]).await;
        withdraw(&SplitId::new("topic/1"), &[arrival(3, 12)]).await;
        assert_eq!(ledger.claimant(&pipeline(), &id(1)).await.unwrap(), None);
        let claims = claim(&ledger, &[arrival(1, 20), arrival(1, 21), arrival(2, 22), arrival(3, 23)]).await;
        assert_eq!(claims, [Claim::New, twin(20), twin(11), twin(12)]);
        // Withdrawn, claimed, withdrawn: the last word counts, for the next process too.
        withdraw(&split(), &[arrival(2, 11), arrival(1, 20)]).await;
        assert_eq!(claim(&ledger, &[arrival(1, 30)]).await, [Claim::New]);
        drop(ledger);
        let ledger = self.open(true).await;
        let claims = claim(&ledger, &[arrival(1, 40), arrival(2, 41), arrival(2, 42), arrival(3, 12)]).await;
        assert_eq!(claims, [twin(30), Claim::New, twin(41), Claim::Replay]);
    }

    async fn of_two_that_race_one_is_first(&self) {
        let one = self.open(false).await;
        let Some(two) = self.subject.beside(self.name).await else { return };
        two.open(&pipeline(), false).await.unwrap();
        for round in 0..20_u64 {
            let calls = [0_u64, 1].map(|who| {
                let ids = (0..200).map(|n| arrival(round * 1000 + n, (round * 1000 + n) * 2 + who));
                ids.collect::<Vec<Arrival>>()
            });
            let (left, right) = futures::join!(claim(&one, &calls[0]), claim(&two, &calls[1]));
            for (n, (left, right)) in left.iter().zip(&right).enumerate() {
                let n = usize::try_from(round).unwrap() * 1000 + n;
                assert_eq!(
                    usize::from(left.passes()) + usize::from(right.passes()),
                    1,
                    "identity {n}: {left:?} and {right:?}"
                );
            }
        }
    }

    async fn who_wakes_up_late_undoes_nothing(&self) {
        let first = self.open(false).await;
        let Some(second) = self.subject.beside(self.name).await else { return };
        first.claim(&lease(1), &split(), &[arrival(1, 10), arrival(2, 11), arrival(3, 12)]).await.unwrap();
        // Here the first one stands still. Another one takes over and reads the same records: one that was refused is
        // taken now, one is refused, one is not come to yet.
        second.open(&pipeline(), true).await.unwrap();
        let now = [arrival(1, 10), arrival(2, 11)];
        assert_eq!(second.claim(&lease(2), &split(), &now).await.unwrap(), [Claim::Replay, Claim::Replay]);
        second.withdraw(&lease(2), &split(), &[arrival(2, 11)]).await.unwrap();
        // The first one wakes up, in the middle of whatever it did.
        let late = first.withdraw(&lease(1), &split(), &[arrival(1, 10)]).await;
        assert!(
            late.is_err_and(|error| error.kind == SinkErrorKind::Fenced),
            "a claim that took effect was taken back"
        );
        let late = first.claim(&lease(1), &split(), &[arrival(2, 11)]).await;
        assert!(
            late.is_err_and(|error| error.kind == SinkErrorKind::Fenced),
            "a claim that was taken back is made late"
        );
        let twins = [arrival(1, 20), arrival(2, 21), arrival(2, 22), arrival(3, 12)];
        let claims = second.claim(&lease(2), &split(), &twins).await.unwrap();
        assert_eq!(claims, [twin(10), Claim::New, twin(21), Claim::Replay]);
        // What is told late, too.
        drop(first);
        let third = self.open(true).await;
        let late = third.claim(&lease(1), &split(), &[arrival(9, 90)]).await;
        assert!(
            late.is_err_and(|error| error.kind == SinkErrorKind::Fenced),
            "an earlier holder claims anew"
        );
        third.claim(&lease(3), &split(), &[arrival(9, 90)]).await.unwrap();
        // A destination without positions counts its holders anew.
        third.open(&pipeline(), false).await.unwrap();
        assert_eq!(third.claim(&lease(1), &split(), &[arrival(9, 90)]).await.unwrap(), [Claim::Replay]);
        third.withdraw(&lease(1), &split(), &[arrival(9, 90)]).await.unwrap();
    }

    async fn a_window_ends(&self) {
        assert_eq!(self.open(false).await.facts().retention, Retention::Unbounded);
        let Some(ledger) = self.subject.windowed(self.name, 300).await else { return };
        let window = std::time::Duration::from_millis(300);
        assert!(matches!(ledger.facts().retention, Retention::For(window) if window.0 == 300));
        ledger.open(&pipeline(), false).await.unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
        // Within the window, which a busy machine may let pass between the two: then another identity tells.
        let mut first = 2;
        loop {
            let began = std::time::Instant::now();
            assert_eq!(claim(&ledger, &[arrival(first, 20)]).await, [Claim::New]);
            let again = claim(&ledger, &[arrival(first, 21)]).await;
            if began.elapsed() < window {
                assert_eq!(again, [twin(20)]);
                break;
            }
            assert!(std::time::Instant::now() < until, "two claims take longer than the window");
            first += 1;
        }
        assert_eq!(claim(&ledger, &[arrival(1, 10)]).await, [Claim::New]);
        let mut other = 1_000;
        while ledger.claimant(&pipeline(), &id(1)).await.unwrap().is_some() {
            assert!(std::time::Instant::now() < until, "a window does not end");
            // Time goes on with what is claimed.
            claim(&ledger, &[arrival(other, other)]).await;
            other += 1;
        }
        assert_eq!(claim(&ledger, &[arrival(1, 12)]).await, [Claim::New]);
    }

    async fn an_emptied_ledger_is_noticed(&self) {
        let ledger = self.open(false).await;
        claim(&ledger, &[arrival(1, 10)]).await;
        drop(ledger);
        self.subject.empty(self.name);
        let ledger = self.subject.open(self.name).await;
        ledger.open(&pipeline(), true).await.expect_err("an emptied ledger goes on");
        // A pipeline that committed nothing has nothing to lose.
        ledger.open(&pipeline(), false).await.unwrap();
        assert_eq!(claim(&ledger, &[arrival(1, 77)]).await, [Claim::New]);
    }

    async fn what_it_holds_is_counted(&self) {
        let ledger = self.open(false).await;
        assert_eq!(ledger.statistics(&pipeline()).await.unwrap().oldest_unix_ms, None);
        claim(&ledger, &[arrival(1, 10), arrival(2, 11), arrival(1, 12)]).await;
        claim(&ledger, &[arrival(1, 10), arrival(3, 13)]).await;
        ledger.withdraw(&lease(1), &split(), &[arrival(2, 11), arrival(2, 11)]).await.unwrap();
        let statistics = ledger.statistics(&pipeline()).await.unwrap();
        assert_eq!(statistics.identities, Some(2));
        assert!(statistics.bytes.is_some_and(|bytes| bytes > 0), "{statistics:?}");
        // A claim that was not made before 2020 and not after 2100.
        let plausible = 1_577_836_800_000..4_102_444_800_000;
        assert!(statistics.oldest_unix_ms.is_none_or(|oldest| plausible.contains(&oldest)), "{statistics:?}");
    }
}
