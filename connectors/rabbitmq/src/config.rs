//! What a pipeline file says of RabbitMQ.

use hapax_engine::columns::Columns;
use hapax_engine::message::{Format, UnknownFields};
use hapax_engine::tls::Tls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many messages a worker holds that have not taken effect, unless the file says otherwise.
pub const PREFETCH: u16 = 20_000;

/// A queue to read from.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The broker: `amqp://user:password@host:port/vhost`, or `amqps://`. The virtual host `/` is written `%2f`, or left
    /// out.
    pub url: String,
    /// The files of certificates that `amqps://` needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The queue. It must exist.
    pub queue: String,
    /// What the body of a message is: `json`, one object (default), or `raw`, bytes in a column `body`.
    #[serde(default)]
    pub format: Format,
    /// Column names and their types. Needed by `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Columns>,
    /// What becomes of a field that `schema` does not name: `reject` (default) sets its message aside, `ignore` leaves
    /// the field out.
    #[serde(default)]
    pub unknown_fields: UnknownFields,
    /// What else becomes a column: `message_id`, `routing_key`, `exchange`, `timestamp`, `delivery_count`, each with a `_`
    /// before its name. A message without the `message_id` asked for is set aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<Metadata>,
    /// How many messages a worker is given before the first of them has taken effect: 1 to 65,535, 20,000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefetch: Option<u16>,
    /// How many workers share the queue: 1 by default, at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
    /// Where the broker tells about itself: `http://host:15672`, entered as the user of `url`. Without it nobody knows
    /// how often a quorum queue gives a message out before it drops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management: Option<String>,
}

/// What comes beside a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metadata {
    /// The `message-id` that the publisher gave it.
    MessageId,
    /// The routing key it was published with.
    RoutingKey,
    /// The exchange it was published to.
    Exchange,
    /// The `timestamp` that the publisher gave it.
    Timestamp,
    /// How often a quorum queue gave it out before; NULL in other queues.
    DeliveryCount,
}

/// An exchange to publish to.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// The broker: `amqp://user:password@host:port/vhost`, or `amqps://`.
    pub url: String,
    /// The files of certificates that `amqps://` needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The exchange. It must exist. Without it a message goes to the queue that its routing key names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub exchange: String,
    /// The routing key of each message: text, and columns in braces (`orders.{region}`).
    pub routing_key: String,
    /// What a message is: `json`, one object of all columns (default), or `raw`, the one column that there is.
    #[serde(default)]
    pub format: Format,
    /// The `message-id` of each message: text, and columns in braces (`order-{id}`). Without it an id that Hapax makes of
    /// the identity, or of the place in the source. Consumers tell a repeat by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// What happens to messages of which nobody knows whether the broker has them: `resend` (default: one may come
    /// twice), or `hold`, which sets their records aside (one may be missing).
    #[serde(default)]
    pub in_doubt: InDoubt,
}

/// What happens to messages in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InDoubt {
    /// They are sent again, under the same id.
    #[default]
    Resend,
    /// They are set aside.
    Hold,
}
