//! What a table is, as the catalog describes it.

use tokio_postgres::{Error, Row};

use crate::client::Session;
use crate::column::Column;
use crate::name::{TableName, quoted};

/// What can be read or written under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Table,
    Partitioned,
    Unlogged,
    View,
    MaterializedView,
    Foreign,
    Other,
}

impl Kind {
    /// By its letters in the catalog: its kind, and what becomes of it in a crash.
    pub(crate) fn of(relkind: &str, persistence: &str) -> Self {
        match (relkind, persistence) {
            ("r", "p") => Self::Table,
            ("r", "u") => Self::Unlogged,
            ("p", _) => Self::Partitioned,
            ("v", _) => Self::View,
            ("m", _) => Self::MaterializedView,
            ("f", _) => Self::Foreign,
            _ => Self::Other,
        }
    }

    /// In words.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Partitioned => "partitioned table",
            Self::Unlogged => "unlogged table, which a crash of the server empties",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::Foreign => "foreign table",
            Self::Other => "temporary table, sequence, index or type",
        }
    }
}

/// A table, a view, or what else has columns.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: Kind,
    /// In their order, those that were dropped left out.
    pub columns: Vec<Column>,
    /// The columns of each index that makes rows unique, the primary key first. Partial indexes, those on
    /// expressions and those that are checked late are left out.
    pub unique: Vec<Vec<String>>,
}

impl Table {
    /// Describes what stands under a name, in the first schema of the search path that has it if the name gives
    /// none; `None` if there is nothing.
    pub(crate) async fn load(session: &Session, name: &TableName) -> Result<Option<Self>, Error> {
        let sql = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text \
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE c.relname = $1 AND CASE WHEN $2::text IS NULL THEN pg_table_is_visible(c.oid) \
                   ELSE n.nspname = $2 END";
        let Some(row) = session.query_opt(sql, &[&name.table, &name.schema]).await? else { return Ok(None) };
        let oid = row.try_get(0)?;
        let columns = Column::all(session, oid).await?;
        let unique = unique(session, oid).await?;
        let kind = Kind::of(row.try_get(3)?, row.try_get(4)?);
        let (schema, name) = (row.try_get(1)?, row.try_get(2)?);
        Ok(Some(Self { oid, schema, name, kind, columns, unique }))
    }

    /// Its name in SQL.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// A column by its name.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether rows are unique by exactly these columns, in any order.
    pub(crate) fn unique_by(&self, key: &[String]) -> bool {
        let same =
            |index: &Vec<String>| index.len() == key.len() && key.iter().all(|name| index.contains(name));
        self.unique.iter().any(same)
    }
}

async fn unique(session: &Session, oid: u32) -> Result<Vec<Vec<String>>, Error> {
    let sql = "SELECT array_agg(a.attname::text ORDER BY k.n) \
               FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n) \
               LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0 \
               WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL \
               AND k.n <= i.indnkeyatts GROUP BY i.indexrelid, i.indisprimary \
               HAVING bool_and(a.attname IS NOT NULL) ORDER BY i.indisprimary DESC, i.indexrelid";
    let rows = session.query(sql, &[&oid]).await?;
    rows.iter().map(|row: &Row| row.try_get(0)).collect()
}
