//! The ledger on a real server: the suite of `hapax-conformance`, and servers that forget.
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

mod scene;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hapax_conformance::ledger;
use hapax_engine::ledger::Ledger;
use hapax_engine::sink::Arrival;
use hapax_protocol::guarantee::InDoubt;
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::{FencingToken, Lease, PipelineName};
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::SplitId;
use hapax_redis::codes;
use hapax_redis::ledger::{LedgerConfig, open};
use scene::Own;

/// A database of one server for each ledger of the suite: the names of its keys are the pipelines'.
struct Databases {
    server: Own,
    numbers: Mutex<HashMap<String, usize>>,
}

impl Databases {
    fn url(&self, name: &str) -> String {
        let mut numbers = self.numbers.lock().unwrap();
        let next = numbers.len();
        format!("{}{}", self.server.url(), numbers.entry(name.to_owned()).or_insert(next))
    }
}

fn at(url: &str, more: serde_json::Value) -> Arc<dyn Ledger> {
    let mut config = serde_json::json!({ "url": url });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: LedgerConfig = serde_json::from_value(config).unwrap();
    Arc::new(open(config, InDoubt::Resend).unwrap())
}

impl ledger::Subject for Databases {
    async fn open(&self, name: &str) -> Arc<dyn Ledger> {
        at(&self.url(name), serde_json::json!({}))
    }

    async fn beside(&self, name: &str) -> Option<Arc<dyn Ledger>> {
        Some(at(&self.url(name), serde_json::json!({})))
    }

    async fn windowed(&self, name: &str, window_ms: u64) -> Option<Arc<dyn Ledger>> {
        Some(at(
            &self.url(&format!("{name}-windowed")),
            serde_json::json!({ "retention": format!("{window_ms}ms") }),
        ))
    }

    fn empty(&self, name: &str) {
        let client = redis::Client::open(self.url(name)).unwrap();
        let () = redis::cmd("FLUSHDB").query(&mut client.get_connection().unwrap()).unwrap();
    }
}

fn pipeline() -> PipelineName {
    PipelineName::new("p").unwrap()
}

fn lease() -> Lease {
    Lease { pipeline: pipeline(), token: FencingToken::new(1) }
}

fn arrivals(ids: std::ops::Range<u8>) -> Vec<Arrival> {
    ids.map(|id| Arrival { id: RecordId([id; 16]), ordinal: id.into() }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_conforms() {
    let subject = Databases { server: Own::start(&[]), numbers: Mutex::default() };
    ledger::suite(&subject).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_every_claim_that_was_answered() {
    let server = Own::start(&[]);
    let ledger = at(&server.url(), serde_json::json!({}));
    ledger.open(&pipeline(), false).await.unwrap();
    let split = SplitId::new("s");
    ledger.claim(&lease(), &split, &arrivals(0..100)).await.unwrap();
    server.kill();
    let lost = ledger.claim(&lease(), &split, &arrivals(100..110)).await.unwrap_err();
    assert_eq!(lost.fault.code(), codes::GONE, "{lost}");
    server.resume();
    let claims = ledger.claim(&lease(), &split, &arrivals(0..110)).await.unwrap();
    assert!(claims[..100].iter().all(|claim| *claim == Claim::Replay), "a claim was forgotten");
    assert!(claims.iter().all(Claim::passes));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_restarted_empty_is_noticed_in_mid_run_and_by_the_next_run() {
    let server = Own::start(&[]);
    let ledger = at(&server.url(), serde_json::json!({}));
    ledger.open(&pipeline(), false).await.unwrap();
    let split = SplitId::new("s");
    ledger.claim(&lease(), &split, &arrivals(0..100)).await.unwrap();
    server.stop();
    server.empty();
    server.resume();
    // The connection is gone, which passes; behind it stands a ledger that is not the one of before.
    let gone = ledger.claim(&lease(), &split, &arrivals(0..100)).await.unwrap_err();
    assert_eq!(gone.fault.code(), codes::GONE);
    let emptied = ledger.claim(&lease(), &split, &arrivals(0..100)).await.unwrap_err();
    assert_eq!(emptied.fault.code(), codes::LEDGER_EMPTIED);
    let next = at(&server.url(), serde_json::json!({}));
    // What is left of the attempt above is claims without a marker.
    let emptied = next.open(&pipeline(), true).await.unwrap_err();
    assert_eq!(emptied.fault.code(), codes::LEDGER_EMPTIED);
    assert!(
        emptied.fault.help().contains("SET _hapax-ledger:{p}:marker accepted"),
        "{}",
        emptied.fault.help()
    );
    let client = redis::Client::open(server.url()).unwrap();
    let set = redis::cmd("SET").arg("_hapax-ledger:{p}:marker").arg("accepted").to_owned();
    let () = set.query(&mut client.get_connection().unwrap()).unwrap();
    next.open(&pipeline(), true).await.unwrap();
    // What was claimed there before that was noticed took no effect.
    let other = SplitId::new("other");
    let claims = next.claim(&lease(), &other, &arrivals(100..110)).await.unwrap();
    assert!(claims.iter().all(|claim| *claim == Claim::New), "{claims:?}");
    let claims = next.claim(&lease(), &split, &arrivals(0..110)).await.unwrap();
    assert!(claims[..100].iter().all(|claim| *claim == Claim::New), "{claims:?}");
    let twin = |ordinal| Claim::Twin { of: Place { split: other.clone(), ordinal } };
    assert!(claims[100..].iter().zip(100..).all(|(claim, of)| *claim == twin(of)), "{claims:?}");
    let claims = next.claim(&lease(), &split, &arrivals(0..100)).await.unwrap();
    assert!(claims.iter().all(|claim| *claim == Claim::Replay), "{claims:?}");
    // Flushed under an open connection.
    let () = redis::cmd("FLUSHALL").query(&mut client.get_connection().unwrap()).unwrap();
    let emptied = next.claim(&lease(), &split, &arrivals(0..100)).await.unwrap_err();
    assert_eq!(emptied.fault.code(), codes::LEDGER_EMPTIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_forget_are_refused() {
    let code = async |options: &[&str], more: serde_json::Value| {
        let server = Own::start(options);
        let ledger = at(&server.url(), more);
        ledger.check().await.map_err(|error| {
            assert!(
                !format!("{error} {}", error.fault.help()).contains(server.url().split('@').next().unwrap())
            );
            error.fault.code()
        })
    };
    let none = || serde_json::json!({});
    assert_eq!(code(&["--maxmemory-policy", "allkeys-lru"], none()).await, Err(codes::EVICTS));
    assert_eq!(code(&["--maxmemory-policy", "volatile-ttl"], none()).await, Err(codes::EVICTS));
    assert_eq!(code(&["--appendonly", "no"], none()).await, Err(codes::NOT_PERSISTENT));
    assert_eq!(code(&["--appendonly", "no", "--save", "3600 1"], none()).await, Err(codes::NOT_PERSISTENT));
    let accepted = serde_json::json!({ "accept_loss": true });
    let lines = code(&["--appendonly", "no"], accepted).await.unwrap();
    assert!(lines[0].contains("everything"), "{lines:?}");
    let lines = code(&["--appendfsync", "everysec"], none()).await.unwrap();
    assert!(lines[0].contains("the last second or two"), "{lines:?}");
    let wrong = serde_json::json!({ "url": "redis://h", "retention": "sometimes" });
    let config: LedgerConfig = serde_json::from_value(wrong).unwrap();
    assert_eq!(open(config, InDoubt::Hold).err().unwrap().fault.code(), codes::CONFIG);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_what_the_page_lists_is_enough() {
    let server = Own::start(&[]);
    let page = include_str!("../../../docs/connectors/redis.md").replace("\\\n ", "");
    let listed = page.lines().find(|line| line.contains("~_hapax-ledger:*")).unwrap();
    let rights: Vec<&str> = listed.split_whitespace().skip_while(|word| !word.starts_with('~')).collect();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("app").arg("on").arg(">secret").arg(&rights);
    let () = user.query(&mut connection).unwrap();
    let place = server.url().rsplit_once('@').unwrap().1.to_owned();
    let pipeline = PipelineName::new("p").unwrap();
    for (nth, retention) in ["unbounded", "1h"].into_iter().enumerate() {
        let split = SplitId::new(retention);
        let url = format!("redis://app:secret@{place}");
        let ledger = at(&url, serde_json::json!({ "retention": retention }));
        ledger.check().await.unwrap();
        ledger.open(&pipeline, false).await.unwrap();
        let id = |n: u64| RecordId((nth as u128 * 1_000 + u128::from(n)).to_be_bytes());
        let arrivals: Vec<Arrival> = (0..300).map(|n| Arrival { id: id(n), ordinal: n }).collect();
        for answer in [Claim::New, Claim::Replay] {
            let claims = ledger.claim(&lease(), &split, &arrivals).await.unwrap();
            assert!(claims.iter().all(|claim| *claim == answer));
        }
        ledger.withdraw(&lease(), &split, &arrivals[..5]).await.unwrap();
        assert_eq!(ledger.claimant(&pipeline, &arrivals[0].id).await.unwrap(), None);
        assert!(ledger.claimant(&pipeline, &arrivals[9].id).await.unwrap().is_some());
        ledger.statistics(&pipeline).await.unwrap();
    }
}
