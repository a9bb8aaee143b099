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

use hapax_conformance::ledger;
use hapax_engine::fault::Fault;
use hapax_engine::ledger::Ledger;
use hapax_engine::sink::Arrival;
use hapax_ledger::codes;
use hapax_ledger::embedded::Embedded;
use hapax_protocol::guarantee::InDoubt;
use hapax_protocol::identity::RecordId;
use hapax_protocol::lease::PipelineName;
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::SplitId;
use tempfile::TempDir;

struct Folders(TempDir);

impl Folders {
    fn at(&self, name: &str) -> Arc<dyn Ledger> {
        Arc::new(Embedded::new(self.0.path().join(name), InDoubt::Resend))
    }
}

impl ledger::Subject for Folders {
    async fn open(&self, name: &str) -> Arc<dyn Ledger> {
        self.at(name)
    }

    async fn beside(&self, _: &str) -> Option<Arc<dyn Ledger>> {
        None
    }

    async fn windowed(&self, _: &str, _: u64) -> Option<Arc<dyn Ledger>> {
        None
    }

    fn empty(&self, name: &str) {
        std::fs::remove_dir_all(self.0.path().join(name)).unwrap();
    }
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
    one.claim(&pipeline, &split, &arrivals).await.unwrap();
    let code = |fault: &dyn Fault| fault.code();
    let refused = folders.at("l").claim(&pipeline, &split, &arrivals).await.unwrap_err();
    assert_eq!(code(refused.fault.as_ref()), codes::OTHER_WRITER, "{refused}");
    drop(one);
    let claims = folders.at("l").claim(&pipeline, &split, &arrivals).await.unwrap();
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
