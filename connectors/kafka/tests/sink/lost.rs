//! Transactions that the brokers end, and ends of transactions that get lost on their way.

use hapax_engine::fault::CommitError;

use super::*;
use crate::scene::relay::{Lost, Relay};
use crate::scene::until;

/// A sink with one split taken over.
struct Open {
    records: RecordBatch,
    sink: Arc<dyn CoCommitSink>,
    lease: Lease,
    writer: Box<dyn CoCommit>,
    standing: Standing,
}

async fn opened(scene: &Scene, settings: serde_json::Value) -> Open {
    let records = batch(vec![("id", Arc::new(Int64Array::from(vec![1, 2, 3])))]);
    let sink = open(scene, settings);
    sink.prepare(&Shape { schema: records.schema(), key: Vec::new() }).await.unwrap();
    let lease = acquire(&sink).await.unwrap();
    let (writer, standing) = taken(&sink, "s", &lease).await;
    Open { records, sink, lease, writer, standing }
}

impl Open {
    /// Takes the split over anew, writes the records where they are missing, and finds each once.
    async fn goes_on(self, scene: &Scene, took_effect: bool) {
        let (mut writer, found) = taken(&self.sink, "s", &self.lease).await;
        let expected = if took_effect { next(&self.standing).standing() } else { self.standing };
        assert_eq!(found, expected);
        if !took_effect {
            writer.write(&self.records).await.unwrap();
            writer.commit(&next(&found)).await.unwrap();
        }
        assert_eq!(ids_in(scene, "t"), [1, 2, 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_time_is_over_is_lost_and_its_producer_is_thrown_away() {
    let scene = Scene::new();
    let settings = serde_json::json!({ "options": { "transaction.timeout.ms": "1000" } });
    let mut open = opened(&scene, settings).await;
    open.writer.write(&open.records).await.unwrap();
    let topic = scene.name("t");
    until("the brokers end it", || {
        scene.messages_as(&topic, "read_uncommitted").len() == 3 && scene.is_decided(&topic)
    });
    let error = open.writer.commit(&next(&open.standing)).await.unwrap_err();
    let CommitError::Refused(error) = error else { panic!("{error:?}") };
    assert_eq!((error.fault.code(), error.kind), (codes::TRANSACTION_LOST, SinkErrorKind::Unavailable));
    assert!(error.to_string().contains("transaction.timeout.ms"), "{error}");
    assert_eq!(ids_in(&scene, "t"), [] as [i64; 0]);
    // Nothing goes on with that producer.
    let error = open.writer.write(&open.records).await.unwrap_err();
    assert_eq!(error.fault.code(), codes::TRANSACTION_LOST);
    open.goes_on(&scene, false).await;
}

/// The end of a transaction gets lost, and before it can be repeated another producer has taken the name.
async fn nobody_knows(what: Lost, took_effect: bool) {
    let scene = Scene::new();
    let relay = Relay::before(&scene.brokers);
    let mut open = opened(&scene, serde_json::json!({ "brokers": relay.address() })).await;
    open.writer.write(&open.records).await.unwrap();
    relay.lose(what);
    let checkpoint = next(&open.standing);
    let after = async {
        while !relay.has_lost() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let name = format!("{}/s", scene.name("state"));
        let other = scene.producer(&[("transactional.id", &name)]);
        other.init_transactions(PATIENCE).unwrap();
        relay.heal();
        other
    };
    let (committed, other) = tokio::join!(open.writer.commit(&checkpoint), after);
    let CommitError::Unknown(error) = committed.unwrap_err() else { panic!("somebody knows") };
    assert_eq!((error.fault.code(), error.kind), (codes::COMMIT_UNKNOWN, SinkErrorKind::Unavailable));
    assert_eq!(ids_in(&scene, "t").len(), if took_effect { 3 } else { 0 });
    open.goes_on(&scene, took_effect).await;
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_did_not_arrive_is_in_doubt_and_found_not_to_be_there() {
    nobody_knows(Lost::Request, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_did_not_arrive_is_in_doubt_and_found() {
    nobody_knows(Lost::Answer, true).await;
}
