//! What a pipeline file says of NATS.

use hapax_engine::columns::Columns;
use hapax_engine::message::{Format, UnknownFields};
use hapax_engine::tls::Tls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stream to read from.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The server: `nats://user:password@host:port`, or `tls://`. A token is written
    /// `nats://:TOKEN@host:port`.
    pub url: String,
    /// The files of certificates that `tls://` needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The stream. It must exist.
    pub stream: String,
    /// Only messages of this subject; wildcards as NATS has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What a message is: `json`, one object (default), or `raw`, bytes in a column `body`.
    #[serde(default)]
    pub format: Format,
    /// Column names and their types. Needed by `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Columns>,
    /// What becomes of a field that `schema` does not name: `reject` (default) sets its message aside, `ignore` leaves
    /// the field out.
    #[serde(default)]
    pub unknown_fields: UnknownFields,
    /// What else becomes a column: `subject`, `sequence`, `timestamp`, `message_id`, each with a `_` before its name. A
    /// message without the `message_id` asked for is set aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<Metadata>,
    /// Messages are given out by this durable pull consumer, which others may share, and acknowledged once they have
    /// taken effect. It is made if it is missing. Without it the stream is read by sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// How many workers share the consumer: 1 by default, at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
    /// What happens where messages were removed behind the position before they were read: `stop` (default), or
    /// `accept`, which goes on behind them.
    #[serde(default)]
    pub on_gap: OnGap,
}

/// What happens where messages are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnGap {
    /// The run stops before them.
    #[default]
    Stop,
    /// It goes on behind them: they are lost, and somebody said so.
    Accept,
}

/// What comes beside a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metadata {
    /// The subject it was published to.
    Subject,
    /// Its number in the stream: an id of its own, as long as the stream is not made anew.
    Sequence,
    /// When the stream took it.
    Timestamp,
    /// The `Nats-Msg-Id` that the publisher gave it.
    MessageId,
}

/// A stream to write to.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// The server: `nats://user:password@host:port`, or `tls://`. A token is written `nats://:TOKEN@host:port`.
    pub url: String,
    /// The files of certificates that `tls://` needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The stream that takes the messages. It must exist.
    pub stream: String,
    /// The subject of each message: text, and columns in braces (`orders.{region}.{id}`). What a subject cannot hold of
    /// a value is written as `%2E`.
    pub subject: String,
    /// What a message is: `json`, one object of all columns (default), or `raw`, the one column that there is.
    #[serde(default)]
    pub format: Format,
    /// How a repeat is told: by an id, which the stream remembers for its `duplicate_window` (`message_id`, default), or
    /// by its subject, of which the stream takes one message, for good (`subject`): it names the columns of the identity.
    #[serde(default)]
    pub once: Once,
    /// What happens to records that may have been sent longer ago than the stream tells a repeat: `stop` (default),
    /// `hold`, which sets them aside as in doubt, or `resend`, which sends them again: at-least-once.
    #[serde(default)]
    pub past_window: PastWindow,
    /// Where the server tells about itself: `http://host:8222`. Without it nobody knows how often it syncs its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<String>,
}

/// How a repeat is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Once {
    /// By `Nats-Msg-Id`.
    #[default]
    MessageId,
    /// By its subject.
    Subject,
}

/// What happens to records that may have been sent too long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PastWindow {
    /// The run stops before them.
    #[default]
    Stop,
    /// They are set aside.
    Hold,
    /// They are sent again.
    Resend,
}
