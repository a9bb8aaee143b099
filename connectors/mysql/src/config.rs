//! What a pipeline file says of MySQL and MariaDB.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A MySQL or MariaDB database to read from.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The database: `mysql://user:password@host:port/database`.
    pub url: String,
    /// The table or view to read. Either this or `query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// One SELECT to read instead of a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Everything that is there, what is new since the last run, or what is not marked yet.
    #[serde(default)]
    pub read: Read,
    /// The column that grows with every write. Needed by `incremental`; makes a `query` resumable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Who sets the cursor: the database at the time of the statement, or a program at a time of its own. Needed by
    /// `incremental`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor_set_by: Option<SetBy>,
    /// How late a row may appear at most whose cursor a program set: `5m`. Needed by `application`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness: Option<String>,
    /// The column that says that a row was moved. Needed by `marked`. A time is set where it is NULL, a boolean is
    /// made true; text goes from `mark_from` to `mark_to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// What a text column `mark` holds in rows that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark_from: Option<String>,
    /// What it holds in rows that were moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark_to: Option<String>,
    /// Types of columns, where the declared ones are not the ones meant: boolean, int64, float64,
    /// decimal(p,s), string, binary, date, timestamp, timestamptz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<BTreeMap<String, String>>,
    /// How often a source that is followed is looked at for new rows, in milliseconds: 1000 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_ms: Option<u64>,
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
    /// The rows that are not marked. Each is marked once it has taken effect.
    Marked,
}

/// Who sets a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SetBy {
    /// The database, when the row is written: `DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)`.
    Database,
    /// A program, at a time of its own.
    Application,
}

/// A MySQL or MariaDB database to write to.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// The database: `mysql://user:password@host:port/database`. It must exist.
    pub url: String,
    /// The table to write. Created from the records' columns if it is missing.
    pub table: String,
    /// What happens to a record whose key is already in the table.
    #[serde(default)]
    pub write: Write,
    /// What happens if the records have a column that the table has not.
    #[serde(default)]
    pub schema_changes: SchemaChanges,
    /// Whether a key may stand in a column whose collation takes different texts for one, as those that end in `_ci`
    /// do. Without it such a table is refused for `upsert` and `ignore`.
    #[serde(default)]
    pub accept_collation: bool,
    /// How long the ledger remembers an identity: `30d`, `12h`. Without it for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_retention: Option<String>,
}

/// What happens if the records have a column that the table has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchemaChanges {
    /// The run is refused before anything moves.
    #[default]
    Refuse,
    /// The column is added, and is NULL in the rows that are there.
    Add,
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
