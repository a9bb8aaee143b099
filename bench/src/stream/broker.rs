//! Topics made, filled and counted.

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::message::{Messages, field};

/// How long the broker may take for an answer.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn failed(error: KafkaError) -> io::Error {
    io::Error::other(error.to_string())
}

/// A client with these settings.
pub fn client<T: rdkafka::config::FromClientConfig>(
    brokers: &str,
    settings: &[(&str, &str)],
) -> io::Result<T> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().map_err(failed)
}

/// A consumer of all that is committed.
pub fn consumer(brokers: &str, settings: &[(&str, &str)]) -> io::Result<BaseConsumer> {
    let all = [
        ("group.id", "hapax-bench"),
        ("isolation.level", "read_committed"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("queued.max.messages.kbytes", "65536"),
    ];
    let all: Vec<_> = all.into_iter().chain(settings.iter().copied()).collect();
    client(brokers, &all)
}

/// How many partitions a topic has.
pub fn partitions(consumer: &BaseConsumer, topic: &str) -> io::Result<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).map_err(failed)?;
    let count = metadata
        .topics()
        .first()
        .filter(|topic| topic.error().is_none())
        .map(|topic| topic.partitions().len());
    count
        .and_then(|count| i32::try_from(count).ok())
        .ok_or_else(|| io::Error::other(format!("no topic {topic}")))
}

/// Begins to read all partitions.
pub fn assign(consumer: &BaseConsumer, topic: &str, from: Offset) -> io::Result<i32> {
    let count = partitions(consumer, topic)?;
    let mut list = TopicPartitionList::new();
    for partition in 0..count {
        list.add_partition_offset(topic, partition, from).map_err(failed)?;
    }
    consumer.assign(&list).map_err(failed)?;
    Ok(count)
}

/// Reads all partitions of a topic to their ends.
pub fn each(
    consumer: &BaseConsumer,
    topic: &str,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut open: HashSet<i32> = (0..assign(consumer, topic, Offset::Beginning)?).collect();
    while !open.is_empty() {
        match consumer.poll(PATIENCE) {
            Some(Ok(message)) => take(&message)?,
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) => return Err(failed(error)),
            None => return Err(io::Error::other(format!("{topic}: nothing heard for {PATIENCE:?}"))),
        }
    }
    Ok(())
}

/// A producer that waits for room, and fails with what was not taken.
pub type Writes = ThreadedProducer<rdkafka::producer::DefaultProducerContext>;

/// The best settings for many messages, without transactions.
pub fn producer(brokers: &str, settings: &[(&str, &str)]) -> io::Result<Writes> {
    let all = [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("partitioner", "murmur2_random"),
        ("linger.ms", "5"),
        // Its thread would take a processor while it waits, see connectors/kafka/src/sink/pen.rs.
        ("max.in.flight.requests.per.connection", "1"),
        ("batch.size", "1000000"),
        ("compression.type", "none"),
        ("queue.buffering.max.kbytes", "131072"),
        ("queue.buffering.max.messages", "500000"),
    ];
    let all: Vec<_> = all.into_iter().chain(settings.iter().copied()).collect();
    client(brokers, &all)
}

pub fn send(
    producer: &Writes,
    topic: &str,
    partition: Option<i32>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> io::Result<()> {
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
    (record.partition, record.key, record.payload) = (partition, key, value);
    while let Err((error, again)) = producer.send(record) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
            return Err(failed(error));
        }
        record = again;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Makes an empty topic, instead of one that was there, and removes what pipelines kept.
pub fn make(brokers: &str, topic: &str, partitions: i32) -> io::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers, &[])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let looker = consumer(brokers, &[])?;
    runtime.block_on(async {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let gone = [topic, "_hapax.bench"];
        let _ = admin.delete_topics(&gone, &options).await;
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1))
            .set("retention.ms", "-1")
            .set("segment.bytes", "268435456");
        let start = Instant::now();
        loop {
            let made = admin.create_topics([&new], &options).await.map_err(failed)?;
            match made.first() {
                Some(Ok(_)) => break,
                // One that is being deleted is there a little longer.
                Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) if start.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => return Err(io::Error::other(format!("{topic} cannot be made: {other:?}"))),
            }
        }
        while self::partitions(&looker, topic).ok() != Some(partitions) {
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("{topic} is not there")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    })
}

/// Fills a topic.
pub fn fill(brokers: &str, topic: &str, messages: u64) -> io::Result<()> {
    let producer = producer(brokers, &[])?;
    let count = u64::try_from(partitions(&consumer(brokers, &[])?, topic)?).unwrap_or(1).max(1);
    let mut values = Messages::new();
    for id in 0..messages {
        let partition = i32::try_from(id % count).unwrap_or(0);
        let value = values.value(id, partition, 0);
        send(&producer, topic, Some(partition), Some(id.to_string().as_bytes()), Some(value))?;
    }
    producer.flush(PATIENCE).map_err(failed)
}

/// Counts what a reader sees.
pub fn count(brokers: &str, topic: &str) -> io::Result<()> {
    let (mut messages, mut ids) = (0_u64, HashSet::new());
    each(&consumer(brokers, &[])?, topic, |message| {
        messages += 1;
        ids.extend(field(message.payload().unwrap_or_default(), "id"));
        Ok(())
    })?;
    writeln!(io::stdout(), "{messages} {}", ids.len())
}
