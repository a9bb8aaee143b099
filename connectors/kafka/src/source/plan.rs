//! What is read, as far as it is known before anything is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use hapax_engine::columns::Columns;
use hapax_engine::message::{self, Bodies};
use hapax_protocol::guarantee::{Retention, Window};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use regex::Regex;
use serde_json::Value;

use super::avro::Avro;
use super::beside;
use super::position::split_of;
use super::registry::Registry;
use crate::client::{Cluster, PATIENCE, Reads, Topics};
use crate::config::{Format, Isolation, Metadata, SourceConfig};
use crate::fault::{ClusterFault, ReadFault};

/// How many messages are looked at to propose a schema.
const SAMPLE_MAX: usize = 100;

/// What is read.
pub(crate) struct Plan {
    /// The partitions of each topic.
    pub topics: Topics,
    /// What values are.
    pub(super) values: Values,
    /// What is read beside them.
    pub metadata: Vec<Metadata>,
    /// All columns.
    pub schema: SchemaRef,
    /// The columns of a batch as they are read: those of values, then those beside them.
    pub read_as: SchemaRef,
    /// For each column of the schema its place among those.
    pub order: Vec<usize>,
    /// Where gaps are accepted, by split.
    pub accept_gap: BTreeMap<String, u64>,
    /// To which group offsets are published.
    pub group: Option<String>,
    /// Whether the readers do that, once what they read is committed.
    pub publishes: bool,
    /// As librdkafka calls it.
    pub isolation: &'static str,
    /// How long topics keep their messages.
    pub retention: Kept,
}

/// What the values of messages are.
pub(super) enum Values {
    Bodies(Bodies),
    Avro(Box<Avro>),
}

/// How long messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// By time.
    pub retention: Retention,
    /// Whether a topic may also delete by size.
    pub by_size: bool,
    /// Whether a topic keeps only the last message of a key.
    pub compacted: bool,
    /// Whether the settings could not be read.
    pub unknown: bool,
}

/// The settings of a consumer that reads.
pub(super) fn reading<'a>(isolation: &'a str, group: &'a str) -> [(&'a str, &'a str); 9] {
    [
        ("group.id", group),
        ("isolation.level", isolation),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "error"),
        ("fetch.wait.max.ms", "100"),
        ("queued.max.messages.kbytes", "16384"),
        // Whoever empties that queue is not kept waiting: by default nothing is fetched for a second once it was full.
        ("fetch.queue.backoff.ms", "5"),
    ]
}

/// A group to which nothing is written: a consumer needs the name of one.
pub(crate) const NO_GROUP: &str = "hapax";

pub(super) fn isolation(config: &SourceConfig) -> &'static str {
    match config.isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    }
}

impl Plan {
    /// Looks at the cluster. With `wanted`, the columns of JSON values are these.
    pub(super) async fn make(
        cluster: &Cluster,
        looker: &Arc<Reads>,
        config: &SourceConfig,
        wanted: Option<&SchemaRef>,
    ) -> Result<Self, Error> {
        let topics = topics(cluster, looker, config).await?;
        let retention = kept(cluster, &topics).await?;
        let mut metadata = config.metadata.clone();
        metadata.dedup();
        let values = match config.format {
            Format::Avro => Values::Avro(Box::new(avro(config, &topics).await?)),
            Format::Raw => Values::Bodies(bodies(message::Format::Raw, config, None)?),
            Format::Json => {
                let columns = wanted.map(columns);
                if columns.is_none() && config.schema.is_none() {
                    let proposed = propose(cluster, looker, &topics, isolation(config)).await?;
                    return Err(ReadFault::NoSchema { proposed }.into());
                }
                Values::Bodies(bodies(message::Format::Json, config, columns)?)
            }
        };
        let fields: &[FieldRef] = match &values {
            Values::Bodies(bodies) => bodies.fields(),
            Values::Avro(avro) => avro.fields(),
        };
        let beside = metadata.iter().map(|metadata| beside::field(*metadata));
        let fields: Fields = fields.iter().cloned().chain(beside).collect();
        let read_as = Arc::new(Schema::new(fields));
        let schema = wanted.cloned().unwrap_or_else(|| Arc::clone(&read_as));
        let place = |field: &FieldRef| read_as.index_of(field.name());
        let unread =
            |error: arrow::error::ArrowError| ReadFault::Config { key: "schema", what: error.to_string() };
        Ok(Self {
            order: schema.fields().iter().map(place).collect::<Result<_, _>>().map_err(unread)?,
            schema,
            read_as,
            topics,
            values,
            metadata,
            accept_gap: config.accept_gap.clone(),
            group: config.group.clone(),
            publishes: config.group.is_some(),
            isolation: isolation(config),
            retention,
        })
    }
}

/// What a look at the cluster fails with.
#[derive(Debug)]
pub(super) enum Error {
    Cluster(ClusterFault),
    Read(ReadFault),
}

impl From<ClusterFault> for Error {
    fn from(fault: ClusterFault) -> Self {
        Self::Cluster(fault)
    }
}

impl From<ReadFault> for Error {
    fn from(fault: ReadFault) -> Self {
        Self::Read(fault)
    }
}

fn bodies(
    format: message::Format,
    config: &SourceConfig,
    columns: Option<Columns>,
) -> Result<Bodies, ReadFault> {
    let columns = columns.as_ref().or(config.schema.as_ref());
    Ok(Bodies::new(format, columns, config.unknown_fields)?)
}

fn columns(schema: &SchemaRef) -> Columns {
    let column = |field: &FieldRef| (field.name().clone(), field.data_type().clone());
    // What stands beside a value is not in it.
    Columns(schema.fields().iter().filter(|field| !field.name().starts_with('_')).map(column).collect())
}

/// The topics that the file names, each with the partitions that are read.
async fn topics(cluster: &Cluster, looker: &Arc<Reads>, config: &SourceConfig) -> Result<Topics, Error> {
    let which = |what: &str| ReadFault::Config { key: "topic", what: what.to_owned() };
    let mut found = match (&config.topic, &config.topics, &config.pattern) {
        (Some(topic), None, None) => named(cluster, looker, std::slice::from_ref(topic)).await?,
        (None, Some(topics), None) if !topics.is_empty() => named(cluster, looker, topics).await?,
        (None, None, Some(pattern)) => {
            let whole = Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|error| ReadFault::Config { key: "pattern", what: error.to_string() })?;
            let mut all = cluster.topics(looker, None).await?;
            // What Kafka and Hapax keep for themselves is read only by its whole name.
            all.retain(|name, _| !name.starts_with('_') && whole.is_match(name));
            if all.is_empty() {
                let (place, pattern) = (cluster.place().to_owned(), pattern.clone());
                return Err(ReadFault::NoMatch { place, pattern }.into());
            }
            all
        }
        _ => return Err(which("give one of `topic`, `topics` and `pattern`").into()),
    };
    if let Some(only) = &config.partitions {
        for (topic, partitions) in &mut found {
            if let Some(missing) = only.iter().find(|partition| !partitions.contains(partition)) {
                let (place, topic) = (cluster.place().to_owned(), split_of(topic, *missing).to_string());
                return Err(ClusterFault::NoTopic { place, topic }.into());
            }
            partitions.retain(|partition| only.contains(partition));
        }
    }
    found.values_mut().for_each(|partitions| partitions.sort_unstable());
    Ok(found)
}

async fn named(cluster: &Cluster, looker: &Arc<Reads>, names: &[String]) -> Result<Topics, Error> {
    let mut found = Topics::new();
    for name in names {
        let mut topic = cluster.topics(looker, Some(name)).await?;
        let missing = || ClusterFault::NoTopic { place: cluster.place().to_owned(), topic: name.clone() };
        found.insert(name.clone(), topic.remove(name).ok_or_else(missing)?);
    }
    Ok(found)
}

/// How long the topics keep what they have: the shortest of all.
async fn kept(cluster: &Cluster, topics: &Topics) -> Result<Kept, ClusterFault> {
    let names: Vec<&str> = topics.keys().map(String::as_str).collect();
    let mut kept = Kept { retention: Retention::Unbounded, by_size: false, compacted: false, unknown: false };
    for settings in cluster.settings(&names).await? {
        let Some(settings) = settings else {
            kept.unknown = true;
            continue;
        };
        let number = |key: &str| settings.get(key).and_then(|value| value.parse::<i64>().ok());
        let policy = settings.get("cleanup.policy").map_or("delete", String::as_str);
        kept.compacted |= policy.contains("compact");
        if policy.contains("delete") {
            kept.by_size |= number("retention.bytes").is_some_and(|bytes| bytes >= 0);
            if let Some(ms) = number("retention.ms").and_then(|ms| u64::try_from(ms).ok()) {
                kept.retention = kept.retention.min(Retention::For(Window(ms)));
            }
        }
    }
    Ok(kept)
}

async fn avro(config: &SourceConfig, topics: &Topics) -> Result<Avro, ReadFault> {
    let needs = |key, what: &str| ReadFault::Config { key, what: what.to_owned() };
    let registry = config.registry.as_ref().ok_or_else(|| needs("registry", "`format: avro` needs it"))?;
    if config.schema.is_some() {
        return Err(needs("schema", "the columns of `format: avro` are those of the registered schema"));
    }
    let registry = Registry::read(registry)?;
    let registered = match (config.schema_id, topics.keys().next()) {
        (Some(id), _) => registry.schema(id).await?,
        (None, Some(topic)) if topics.len() == 1 => registry.newest(&format!("{topic}-value")).await?,
        _ => return Err(needs("schema_id", "several topics in Avro need it: whose fields are the columns?")),
    };
    Avro::open(registry, registered).await
}

/// What the first messages look like, as a `schema` in a pipeline file.
async fn propose(
    cluster: &Cluster,
    looker: &Arc<Reads>,
    topics: &Topics,
    isolation: &'static str,
) -> Result<Option<String>, ClusterFault> {
    for (topic, partitions) in topics {
        for partition in partitions {
            let (low, high) = cluster.watermarks(looker, topic, *partition).await?;
            if low < high {
                let reads: Reads = cluster.client(&reading(isolation, NO_GROUP))?;
                let (topic, partition) = (topic.clone(), *partition);
                let sample = cluster.ask("reading the first messages", move || {
                    let mut values = Vec::new();
                    assign(&reads, &topic, partition, low)?;
                    let until = Instant::now() + PATIENCE / 2;
                    while values.len() < SAMPLE_MAX && Instant::now() < until {
                        match reads.poll(Duration::from_millis(100)) {
                            Some(Ok(message)) => values.extend(message.payload().map(<[u8]>::to_vec)),
                            Some(Err(KafkaError::PartitionEOF(_))) => break,
                            Some(Err(_)) | None => {}
                        }
                    }
                    Ok(values)
                });
                return Ok(guess(&sample.await?));
            }
        }
    }
    Ok(None)
}

/// Lets a consumer read a partition from an offset on.
pub(crate) fn assign(reads: &Reads, topic: &str, partition: i32, offset: i64) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    reads.assign(&list)
}

/// The types that fit all values, one column a line.
fn guess(values: &[Vec<u8>]) -> Option<String> {
    let mut columns: Vec<(String, Option<&'static str>)> = Vec::new();
    for value in values {
        let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(value) else { continue };
        for (name, value) in object {
            let kind = match &value {
                Value::Null => None,
                Value::Bool(_) => Some("boolean"),
                Value::Number(number) if number.is_i64() => Some("int64"),
                Value::Number(_) => Some("float64"),
                _ => Some("string"),
            };
            match columns.iter_mut().find(|(known, _)| *known == name) {
                None => columns.push((name, kind)),
                Some((_, known)) => {
                    *known = match (*known, kind) {
                        (None, kind) => kind,
                        (known, None) => known,
                        (Some("int64"), Some("float64")) | (Some("float64"), Some("int64")) => {
                            Some("float64")
                        }
                        (Some(one), Some(other)) => Some(if one == other { one } else { "string" }),
                    };
                }
            }
        }
    }
    let lines: Vec<String> =
        columns.iter().map(|(name, kind)| format!("  {name:?}: {}", kind.unwrap_or("string"))).collect();
    (!lines.is_empty()).then(|| format!("schema:\n{}", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposed_schema_fits_what_was_seen() {
        let values = [
            br#"{"id": 1, "amount": 2, "note": null, "ok": true}"#.to_vec(),
            br#"{"id": 2, "amount": 2.5, "tags": ["a"], "ok": "yes"}"#.to_vec(),
            b"not json".to_vec(),
        ];
        let expected = "schema:\n  \"amount\": float64\n  \"id\": int64\n  \"note\": string\n  \"ok\": string\n  \
                        \"tags\": string";
        assert_eq!(guess(&values).as_deref(), Some(expected));
        assert_eq!(guess(&[b"[1]".to_vec()]), None);
    }
}
