//! What a pipeline file says of PostgreSQL as a source.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::Url;

/// A table or a query of a PostgreSQL database to read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The database: `postgres://user:password@host:port/database`. The password belongs into a reference:
    /// `${env:NAME}`.
    pub url: Url,
    /// The table or view to read: `orders` or `sales.orders`; what contains a dot or a quote stands in double
    /// quotes. Either this or `query`.
    #[serde(default)]
    pub table: Option<String>,
    /// One SELECT to read instead of a table.
    #[serde(default)]
    pub query: Option<String>,
    /// Everything that is there, what is new since the last run, or what is not marked yet.
    #[serde(default)]
    pub read: Read,
    /// The columns by which no two rows are the same, where the catalog does not know them: of a view or a query.
    #[serde(default)]
    pub key: Option<Vec<String>>,
    /// The column that grows with every write. Needed by `incremental`.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Who sets a cursor that is a timestamp: the database in the transaction that writes the row, or a program.
    #[serde(default)]
    pub cursor_set_by: Option<SetBy>,
    /// How late a row may appear at most whose timestamp a program set: `5m`. Needed by `application`.
    #[serde(default)]
    pub lateness: Option<String>,
    /// The column that says that a row was moved. Needed by `marked`. A time is set where it is NULL, a boolean is
    /// made true; text goes from `mark_from` to `mark_to`.
    #[serde(default)]
    pub mark: Option<String>,
    /// What a text column `mark` holds in rows that wait.
    #[serde(default)]
    pub mark_from: Option<String>,
    /// What it holds in rows that were moved.
    #[serde(default)]
    pub mark_to: Option<String>,
    /// How many workers share the rows of a table that is read `marked`: 1 to 64, 4 if nothing is said.
    #[serde(default)]
    pub workers: Option<u32>,
    /// How long a run that goes on (`follow: true`) waits before it looks again, where it found nothing: 1000
    /// milliseconds if nothing is said.
    #[serde(default)]
    pub poll_ms: Option<u64>,
}

impl SourceConfig {
    /// Everything that a table holds.
    pub fn of_table(url: Url, table: impl Into<String>) -> Self {
        Self {
            url,
            table: Some(table.into()),
            query: None,
            read: Read::Snapshot,
            key: None,
            cursor: None,
            cursor_set_by: None,
            lateness: None,
            mark: None,
            mark_from: None,
            mark_to: None,
            workers: None,
            poll_ms: None,
        }
    }
}

/// What a run reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SetBy {
    /// The database, in the transaction that writes the row: `DEFAULT now()`, a trigger.
    Database,
    /// A program, at a time of its own.
    Application,
}
