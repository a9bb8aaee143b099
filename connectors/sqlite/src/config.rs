//! What a pipeline file says of SQLite.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A SQLite database to read from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The database file.
    pub path: PathBuf,
    /// The table or view to read. Either this or `query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// One SELECT to read instead of a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Everything that is there, or what is new since the last run.
    #[serde(default)]
    pub read: Read,
    /// The column that grows with every write. Needed by `incremental`; makes a `query` resumable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Types of columns, where the declared ones are not the ones meant: boolean, int64, float64,
    /// decimal(p,s), string, binary, date, timestamp, timestamptz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<BTreeMap<String, String>>,
}

/// What a run reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Read {
    /// All rows.
    #[default]
    Snapshot,
    /// The rows whose cursor lies behind the last one read.
    Incremental,
}

/// A SQLite database to write to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// The database file. Created if it is missing; its directory must exist.
    pub path: PathBuf,
    /// The table to write. Created from the records' columns if it is missing.
    pub table: String,
    /// What happens to a record whose key is already in the table.
    #[serde(default)]
    pub write: Write,
    /// Whether positions, dead letters and the ledger are kept in the database (`_hapax_*` tables).
    /// `false` gives at-least-once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<bool>,
}

/// How a record meets the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Write {
    /// It is inserted.
    #[default]
    Append,
    /// It replaces the row of its key.
    Upsert,
    /// It is left out if its key is there.
    Ignore,
}
