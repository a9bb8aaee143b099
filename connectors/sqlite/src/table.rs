//! What a table is, as the database describes it.

use rusqlite::Connection;

use crate::connection::quoted;

/// One column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub name: String,
    pub declared: String,
    pub not_null: bool,
    pub default: bool,
    /// Its place in the primary key, from 1; 0 if it is not part of it.
    pub primary: i64,
    pub generated: bool,
}

/// A table, a view or a virtual table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub name: String,
    /// `table`, `view`, `virtual` or `shadow`.
    pub kind: String,
    pub strict: bool,
    pub without_rowid: bool,
    pub columns: Vec<Column>,
    /// The column that is the row id by another name.
    pub rowid_alias: Option<String>,
    /// The columns of each index that makes rows unique, the primary key included.
    pub unique: Vec<Vec<String>>,
}

impl Table {
    /// Describes a table of the main schema; `None` if there is none of this name.
    pub(crate) fn load(connection: &Connection, name: &str) -> Result<Option<Self>, rusqlite::Error> {
        let sql = "SELECT name, type, strict, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([name])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let mut table = Self {
            name: row.get(0)?,
            kind: row.get(1)?,
            strict: row.get(2)?,
            without_rowid: row.get(3)?,
            columns: Vec::new(),
            rowid_alias: None,
            unique: Vec::new(),
        };
        table.columns = columns(connection, &table.name)?;
        let (unique, primary_index) = unique(connection, &table.name)?;
        table.unique = unique;
        let mut primary = table.columns.iter().filter(|column| column.primary > 0);
        if let (Some(only), None) = (primary.next(), primary.next())
            && !table.without_rowid
            && !primary_index
            && only.declared.eq_ignore_ascii_case("INTEGER")
        {
            table.rowid_alias = Some(only.name.clone());
            table.unique.push(vec![only.name.clone()]);
        }
        Ok(Some(table))
    }

    /// A column by its name, as SQLite compares names.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The row id in SQL; `None` if rows have none, or every name of it is taken by a column.
    pub(crate) fn rowid(&self) -> Option<String> {
        if self.kind != "table" || self.without_rowid {
            return None;
        }
        match &self.rowid_alias {
            Some(alias) => Some(quoted(alias)),
            None => ["rowid", "_rowid_", "oid"]
                .into_iter()
                .find(|name| self.column(name).is_none())
                .map(str::to_owned),
        }
    }

    /// The columns of the primary key, in its order.
    pub(crate) fn primary_key(&self) -> Vec<String> {
        let mut key: Vec<_> = self.columns.iter().filter(|column| column.primary > 0).collect();
        key.sort_by_key(|column| column.primary);
        key.into_iter().map(|column| column.name.clone()).collect()
    }

    /// Whether rows are unique by exactly these columns, in any order.
    pub(crate) fn unique_by(&self, key: &[String]) -> bool {
        let same = |index: &Vec<String>| {
            index.len() == key.len()
                && key.iter().all(|name| index.iter().any(|c| c.eq_ignore_ascii_case(name)))
        };
        self.unique.iter().any(same)
    }
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<Column>, rusqlite::Error> {
    let sql =
        "SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?1)";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([table], |row| {
        let hidden: i64 = row.get(5)?;
        Ok(Column {
            name: row.get(0)?,
            declared: row.get(1)?,
            not_null: row.get(2)?,
            default: row.get(3)?,
            primary: row.get(4)?,
            generated: hidden == 2 || hidden == 3,
        })
    })?;
    rows.collect()
}

/// The columns of each unique index, and whether the primary key has an index of its own.
fn unique(connection: &Connection, table: &str) -> Result<(Vec<Vec<String>>, bool), rusqlite::Error> {
    let sql = "SELECT name, origin FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0";
    let mut statement = connection.prepare(sql)?;
    let indexes =
        statement.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut unique = Vec::new();
    let mut primary = false;
    for index in indexes {
        let (name, origin) = index?;
        primary |= origin == "pk";
        let mut parts = connection.prepare("SELECT name FROM pragma_index_info(?1)")?;
        let columns: Result<Vec<Option<String>>, _> = parts.query_map([&name], |row| row.get(0))?.collect();
        // An index on an expression has no column name there.
        if let Some(columns) = columns?.into_iter().collect() {
            unique.push(columns);
        }
    }
    Ok((unique, primary))
}
