//! Writing to a real broker.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod scene;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use hapax_conformance::sink;
use hapax_engine::fault::{SinkError, SinkErrorKind};
use hapax_engine::sink::{CoCommit, CoCommitSink, Shape, Sink};
use hapax_kafka::codes;
use hapax_kafka::config::SinkConfig;
use hapax_protocol::code::Code;
use hapax_protocol::lease::{Applicant, Lease, PipelineName};
use hapax_protocol::position::{Checkpoint, Position, SplitId, Standing, Totals};
use rdkafka::Message;
use rdkafka::producer::Producer;
use scene::{PATIENCE, Scene};

/// A topic for each destination of the suite, and one for its state.
struct Topics(Scene);

fn name() -> PipelineName {
    PipelineName::new("conformance").unwrap()
}

impl sink::Subject for Topics {
    async fn open(&self, name: &str) -> Sink {
        let (topic, state) = (self.0.name(name), self.0.name(&format!("{name}-state")));
        let config = serde_json::json!({
            "brokers": self.0.brokers, "topic": topic, "state": state, "key": ["id"], "create": { "partitions": 3 },
        });
        hapax_kafka::sink::open(serde_json::from_value(config).unwrap(), &self::name()).unwrap()
    }

    fn ids(&self, name: &str) -> Vec<i64> {
        let mut ids: Vec<i64> = self
            .0
            .messages(&self.0.name(name))
            .iter()
            .map(|message| serde_json::from_slice::<serde_json::Value>(message.payload().unwrap()).unwrap())
            .map(|value| value["id"].as_i64().unwrap())
            .collect();
        ids.sort_unstable();
        ids
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_conforms() {
    sink::suite(&Topics(Scene::new())).await;
}
