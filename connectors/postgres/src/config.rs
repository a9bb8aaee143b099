//! What a pipeline file says of PostgreSQL.

use schemars::JsonSchema;
use serde::Deserialize;

pub use crate::address::Url;

/// A table of a PostgreSQL database to write to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// The database: `postgres://user:password@host:port/database`. The password belongs into a reference:
    /// `${env:NAME}`.
    pub url: Url,
    /// The table to write: `orders` or `sales.orders`; what contains a dot or a quote stands in double quotes.
    pub table: String,
    /// What happens to a record whose key is already in the table.
    #[serde(default)]
    pub write: Write,
    /// Whether the table is created from the records' columns if it is missing.
    #[serde(default = "created")]
    pub create: bool,
    /// What happens if the records have a column that the table has not.
    #[serde(default)]
    pub schema_changes: SchemaChanges,
    /// How long the ledger remembers an identity: `30d`, `12h`. For ever if nothing is said.
    #[serde(default)]
    pub ledger_retention: Option<String>,
    /// Whether positions, dead letters and the ledger are kept in the database (`_hapax_*` tables). `false` gives
    /// at-least-once.
    #[serde(default)]
    pub positions: Option<bool>,
}

fn created() -> bool {
    true
}

/// How a record meets the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
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

/// What happens if the records have a column that the table has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchemaChanges {
    /// The run is refused before anything moves.
    #[default]
    Refuse,
    /// The column is added, and is NULL in the rows that are there.
    Add,
}
