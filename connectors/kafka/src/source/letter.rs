//! Dead letters: the message is read again where it stands.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::SourceError;
use rdkafka::Message;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedMessage;

use super::gather::Gather;
use super::plan::{NO_GROUP, Plan, Values, assign, reading};
use crate::client::{Cluster, PATIENCE, Reads};
use crate::fault::ReadFault;

/// Reads the record of a letter, by the schema of today.
pub(super) async fn reread(
    cluster: &Cluster,
    plan: &Plan,
    letter: &DeadLetter,
    (topic, partition): (&str, i32),
) -> Result<RecordBatch, SourceError> {
    let at = i64::try_from(letter.place.ordinal).unwrap_or(i64::MAX);
    let unreadable = |reason: String| ReadFault::Letter { place: letter.place.clone(), reason };
    let reads: Reads = cluster.client(&reading(plan.isolation, NO_GROUP))?;
    let of = topic.to_owned();
    let message = cluster.ask("reading a message again", move || first(&reads, &of, partition, at)).await?;
    let message = message
        .filter(|message| message.offset() == at)
        .ok_or_else(|| unreadable(format!("the topic does not have offset {at} any more")))?;
    let mut gather = Gather::new(plan);
    gather.push(&message);
    if let Values::Avro(avro) = &plan.values {
        avro.learn(&gather.schemas()).await?;
    }
    let gathered = gather
        .finish(plan, (topic, partition))
        .map_err(|source| ReadFault::Columns { split: letter.place.split.clone(), source })?;
    match gathered.rejected.into_iter().next() {
        Some(rejected) => Err(unreadable(rejected.reason).into()),
        None => Ok(gathered.records),
    }
}

/// The first message at or behind an offset.
fn first(reads: &Reads, topic: &str, partition: i32, at: i64) -> Result<Option<OwnedMessage>, KafkaError> {
    assign(reads, topic, partition, at)?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match reads.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => return Ok(Some(message.detach())),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
            Some(Err(_)) | None => {}
        }
    }
    Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))
}
