//! The embedded ledger beside a destination: the suite of `hapax-conformance`.
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

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hapax_conformance::ledger;
use hapax_engine::clock::Clock;
use hapax_engine::fault::Fault;
use hapax_engine::ledger::Ledger;
use hapax_engine::sink::Arrival;
use hapax_ledger::codes;
use hapax_ledger::embedded::Embedded;
use hapax_protocol::guarantee::{InDoubt, Retention, Window};
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{FencingToken, Lease, PipelineName};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::SplitId;
use tempfile::TempDir;

struct Folders(TempDir);

impl Folders {
    fn at(&self, name: &str) -> Arc<dyn Ledger> {
        Arc::new(Embedded::new(self.0.path().join(name), Retention::Unbounded, InDoubt::Resend))
    }
}

impl ledger::Subject for Folders {
    async fn open(&self, name: &str) -> Arc<dyn Ledger> {
        self.at(name)
    }

    async fn beside(&self, _: &str) -> Option<Arc<dyn Ledger>> {
        None
    }

    async fn windowed(&self, name: &str, window_ms: u64) -> Option<Arc<dyn Ledger>> {
        let retention = Retention::For(Window(window_ms));
        Some(Arc::new(Embedded::new(self.0.path().join(name), retention, InDoubt::Resend)))
    }

    fn empty(&self, name: &str) {
        std::fs::remove_dir_all(self.0.path().join(name)).unwrap();
    }
}

fn lease() -> Lease {
    Lease { pipeline: PipelineName::new("p").unwrap(), token: FencingToken::new(1) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_ledger_conforms() {
    ledger::suite(&Folders(tempfile::tempdir().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_process_has_it_and_a_dead_one_lets_go() {
    let folders = Folders(tempfile::tempdir().unwrap());
    let (pipeline, split) = (PipelineName::new("p").unwrap(), SplitId::new("s"));
    let one = folders.at("l");
    one.open(&pipeline, false).await.unwrap();
    let arrivals = [Arrival { id: RecordId([1; 16]), ordinal: 1 }];
    one.claim(&lease(), &split, &arrivals).await.unwrap();
    let code = |fault: &dyn Fault| fault.code();
    let refused = folders.at("l").claim(&lease(), &split, &arrivals).await.unwrap_err();
    assert_eq!(code(refused.fault.as_ref()), codes::OTHER_WRITER, "{refused}");
    drop(one);
    let claims = folders.at("l").claim(&lease(), &split, &arrivals).await.unwrap();
    assert_eq!(claims, [Claim::Replay]);
    let lost = folders.at("elsewhere").open(&pipeline, true).await.unwrap_err();
    assert_eq!(code(lost.fault.as_ref()), codes::LOST, "{lost}");
    // What the help says helps.
    let folder = folders.0.path().join("elsewhere/p");
    assert!(lost.fault.help().contains(&format!("touch {}/amended.led", folder.display())));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("amended.led"), b"").unwrap();
    folders.at("elsewhere").open(&pipeline, true).await.unwrap();
}

/// A date that is set by hand.
struct Date(AtomicU64);

impl Date {
    fn set(&self, hours: u64) {
        self.0.store(1_790_000_000_000 + hours * 3_600_000, Ordering::SeqCst);
    }
}

impl Clock for Date {
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_remembered_for_its_time_and_then_its_place_on_the_disk_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let date = Arc::new(Date(AtomicU64::new(0)));
    let open = |retention| {
        Embedded::new(folder.path(), retention, InDoubt::Resend).dated_by(Arc::clone(&date) as Arc<dyn Clock>)
    };
    let (pipeline, split) = (PipelineName::new("p").unwrap(), SplitId::new("s"));
    let arrival = |number: u64, ordinal| Arrival { id: RecordId(u128::from(number).to_be_bytes()), ordinal };
    let twin = |ordinal| Claim::Twin { of: Place { split: split.clone(), ordinal } };
    let dated = || {
        let names =
            std::fs::read_dir(folder.path().join("p")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().starts_with("since-")).count()
    };
    date.set(0);
    let for_ever = open(Retention::Unbounded);
    for_ever.claim(&lease(), &split, &[arrival(1_000, 1)]).await.unwrap();
    drop(for_ever);
    // Each hour one identity is claimed, and again 23 hours later, after a crash, and 31 hours later.
    for hour in 0..100 {
        date.set(hour);
        let ledger = open(Retention::For(Window(24 * 3_600_000)));
        ledger.open(&pipeline, hour > 0).await.unwrap();
        let again = [arrival(hour, hour), arrival(hour.saturating_sub(23), 500), arrival(1_000, 500)];
        let claims = ledger.claim(&lease(), &split, &again).await.unwrap();
        assert_eq!(claims, [Claim::New, twin(hour.saturating_sub(23)), twin(1)], "hour {hour}");
        if let Some(old) = hour.checked_sub(31) {
            assert_eq!(ledger.claimant(&pipeline, &arrival(old, 0).id).await.unwrap(), None, "hour {hour}");
        }
        let statistics = ledger.statistics(&pipeline).await.unwrap();
        assert!(statistics.identities.unwrap() <= 1 + 31, "{statistics:?}");
        assert!(dated() <= 6, "hour {hour}: {} parts", dated());
        drop(ledger);
        // Who does not have it sees the same.
        let seen = open(Retention::For(Window(24 * 3_600_000)));
        assert_eq!(seen.statistics(&pipeline).await.unwrap(), statistics);
    }
    // What a part holds can be taken back, also by a later run; a clock that was set back forgets nothing.
    date.set(97);
    let ledger = open(Retention::For(Window(24 * 3_600_000)));
    ledger.withdraw(&lease(), &split, &[arrival(80, 80), arrival(81, 7)]).await.unwrap();
    let claims = ledger.claim(&lease(), &split, &[arrival(80, 600), arrival(81, 601)]).await.unwrap();
    assert_eq!(claims, [Claim::New, twin(81)]);
    assert_eq!(ledger.claimant(&pipeline, &arrival(80, 0).id).await.unwrap().unwrap().ordinal, 600);
    drop(ledger);
    // A part that was about to be removed when the process was killed.
    std::fs::create_dir(folder.path().join("p/gone-5")).unwrap();
    std::fs::write(folder.path().join("p/gone-5/amended.led"), b"half").unwrap();
    open(Retention::Unbounded).open(&pipeline, true).await.unwrap();
    assert!(!folder.path().join("p/gone-5").exists());
}
