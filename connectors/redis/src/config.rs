//! What a pipeline file says of Redis.

use hapax_engine::columns::Columns;
use hapax_engine::tls::Tls;
use hapax_protocol::guarantee::{Retention, Window};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Streams of a Redis to read from.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The server: `redis://user:password@host:port/0`, or `rediss://` for TLS.
    pub url: String,
    /// The files of certificates that `rediss://` needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The stream to read. Either this or `streams`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Several streams that are read beside each other, each with its own position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<Vec<String>>,
    /// The fields of an entry that become columns, in this order. By default those that `schema` names, in its order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<String>>,
    /// Types of fields; text unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Columns>,
    /// The name of a column for the entry's id, if one is wanted: `_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_column: Option<String>,
    /// The id through which entries may have been removed before they were read. Only what an error named belongs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_gap: Option<String>,
}

/// Keys of a Redis to write to.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// The server: `redis://user:password@host:port/0`, or `rediss://` for TLS.
    pub url: String,
    /// The files of certificates that `rediss://` needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The key of a record, with columns in braces: `orders:{id}`. `{{` and `}}` are braces themselves, so that
    /// `{{shop}}:orders:{id}` has the hash tag `shop`. With `write: stream`, the name of the stream.
    pub key: String,
    /// What stands at the key.
    #[serde(default)]
    pub write: Write,
    /// The column that is the value. Needed by `write: string`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// How long a record stays after it was written: `30d`. By default for ever. Not for streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// How long identities are remembered, if a ledger is kept: `unbounded`, or a time such as `7d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_retention: Option<String>,
    /// What the keys begin with that Hapax keeps beside the records.
    #[serde(default = "state", skip_serializing_if = "is_state")]
    pub state: String,
}

fn state() -> String {
    "_hapax".to_owned()
}

fn is_state(text: &str) -> bool {
    text == "_hapax"
}

/// What stands at a record's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Write {
    /// A hash with a field for each column; NULL is a field that is not there.
    #[default]
    Hash,
    /// The value of one column.
    String,
    /// The record as one JSON object.
    Json,
    /// Nothing: each record is appended to the stream that `key` names.
    Stream,
}

/// The longest time that is taken, in milliseconds: a thousand years. Far beyond it the server refuses the number.
const WINDOW_MS_MAX: u64 = 1000 * 366 * 86_400_000;

/// Reads a length of time: `90s`, `5m`, `2h`, `1d`. `None` for anything else.
pub(crate) fn window(text: &str) -> Option<Window> {
    Window::parse(text).filter(|window| window.0 <= WINDOW_MS_MAX)
}

/// Reads `unbounded` or a length of time.
pub(crate) fn retention(text: Option<&str>) -> Option<Retention> {
    let retention = text.map_or(Some(Retention::Unbounded), Retention::parse)?;
    (retention == Retention::Unbounded || retention <= Retention::For(Window(WINDOW_MS_MAX)))
        .then_some(retention)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read() {
        assert_eq!(window("90s"), Some(Window(90_000)));
        assert_eq!(retention(Some("5m")), Some(Retention::For(Window(300_000))));
        assert_eq!(retention(None), Some(Retention::Unbounded));
        for wrong in ["", "5", "m", "0s", "5 weeks", "-1s", "99999999999d"] {
            assert_eq!((window(wrong), retention(Some(wrong))), (None, None), "{wrong}");
        }
    }
}
