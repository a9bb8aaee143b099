//! What a pipeline file says of Kafka.

use std::collections::BTreeMap;

use hapax_engine::columns::Columns;
use hapax_engine::message::UnknownFields;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Topics of a Kafka cluster to read from.
#[derive(Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Brokers to begin with: `host:port`, several with commas.
    pub brokers: String,
    /// The topic to read. One of `topic`, `topics` and `pattern`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The topics to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<Vec<String>>,
    /// A regular expression: all topics whose whole name matches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Only these partitions; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<i32>>,
    /// What the value of a message is.
    #[serde(default)]
    pub format: Format,
    /// The columns of JSON values: column name: type name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Columns>,
    /// What becomes of a message with a JSON field that `schema` does not name.
    #[serde(default)]
    pub unknown_fields: UnknownFields,
    /// The schema registry. Needed by `format: avro`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
    /// The registered schema whose fields are the columns; by default the newest of the subject `TOPIC-value` when the
    /// run begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_id: Option<u32>,
    /// What is read beside the value, as columns of these names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<Metadata>,
    /// Whether messages of transactions that are not committed are read.
    #[serde(default)]
    pub isolation: Isolation,
    /// A consumer group. With `follow: true` all processes that run this pipeline share the partitions through it. Offsets
    /// are published to it for lag tools; Hapax never reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Offsets by split (`"orders[3]": 120`): that messages before them were deleted unread is accepted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accept_gap: BTreeMap<String, u64>,
    /// Who one is, and whether the connection is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Settings of librdkafka, as they are, but those that Hapax rests on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// A topic of a Kafka cluster to write to.
#[derive(Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// Brokers to begin with: `host:port`, several with commas.
    pub brokers: String,
    /// The topic to write.
    pub topic: String,
    /// What the value of a message is.
    #[serde(default)]
    pub format: SinkFormat,
    /// The columns that the key of a message is made of; by default those of the identity. One column is its text,
    /// several are a JSON array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Vec<String>>,
    /// A boolean column: where it is true the message has no value, which deletes its key from a compacted topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tombstone: Option<String>,
    /// How the topic is made if it is missing. Without this a missing topic is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<Create>,
    /// How messages are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// The topic that keeps positions and dead letters; `_hapax.NAME-OF-THE-PIPELINE` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Who one is, and whether the connection is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Settings of librdkafka, as they are, but those that Hapax rests on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// How a cluster is entered.
#[derive(Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// The user, by SASL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password: `${env:KAFKA_PASSWORD}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("writeOnly" = true))]
    pub password: Option<String>,
    /// How the password is shown: `PLAIN` (the default), `SCRAM-SHA-256`, `SCRAM-SHA-512`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<String>,
    /// Whether the connection is encrypted.
    #[serde(default)]
    pub tls: bool,
    /// A file with the certificates of authorities to trust, where those of the system do not do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// A file with the certificate (PEM) by which the cluster knows this client. Needs `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// A file with the key (PEM) of `certificate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What the value of a message that is read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object, whose fields are the columns that `schema` names.
    #[default]
    Json,
    /// Avro behind the id of a registered schema (Confluent's framing).
    Avro,
    /// Bytes that nobody looks into: one column, `body`.
    Raw,
}

/// What the value of a message that is written is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SinkFormat {
    /// One JSON object with all columns.
    #[default]
    Json,
    /// The bytes of the one column that is not part of the key.
    Raw,
}

/// What a message has beside its value. Each is a column of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Metadata {
    /// The topic, a string.
    #[serde(rename = "_topic")]
    Topic,
    /// The partition, an int32.
    #[serde(rename = "_partition")]
    Partition,
    /// The offset, an int64.
    #[serde(rename = "_offset")]
    Offset,
    /// The key, a string. A message whose key is not UTF-8 becomes a dead letter.
    #[serde(rename = "_key")]
    Key,
    /// The key, bytes.
    #[serde(rename = "_key_bytes")]
    KeyBytes,
    /// When it was made, or appended, as the topic says: a timestamptz.
    #[serde(rename = "_timestamp")]
    Timestamp,
    /// The headers as JSON text: `[["name", "value"], …]`. A message with a value that is not UTF-8 becomes a dead
    /// letter.
    #[serde(rename = "_headers")]
    Headers,
    /// Whether the message has no value: a boolean. Without this column such a message becomes a dead letter.
    #[serde(rename = "_deleted")]
    Deleted,
}

impl Metadata {
    /// The name of its column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "_topic",
            Self::Partition => "_partition",
            Self::Offset => "_offset",
            Self::Key => "_key",
            Self::KeyBytes => "_key_bytes",
            Self::Timestamp => "_timestamp",
            Self::Headers => "_headers",
            Self::Deleted => "_deleted",
        }
    }
}

/// Which messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Those of no transaction, and of committed ones.
    #[default]
    ReadCommitted,
    /// All, also what is taken back later.
    ReadUncommitted,
}

/// A schema registry.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Its address: `https://registry:8081`.
    pub url: String,
    /// The user, where it asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password: `${env:REGISTRY_PASSWORD}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("writeOnly" = true))]
    pub password: Option<String>,
}

/// How a topic is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// How many partitions.
    pub partitions: i32,
    /// How many copies; as the brokers say by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<i32>,
}

/// How messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    #[default]
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// As librdkafka calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}
