//! What a table is, as the database describes it.

use mysql_async::Row;

use crate::client::{Session, number, text};
use crate::declared::Declared;
use crate::fault::DatabaseFault;

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    /// Its type as MySQL writes it: `int(11) unsigned`.
    pub declared: String,
    /// How its texts are compared; empty where it holds none.
    pub collation: String,
    pub not_null: bool,
    /// Whether a row gets a value there that does not bring one.
    pub default: bool,
    pub counts_itself: bool,
    pub generated: bool,
}

/// A unique index. The primary key is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub name: String,
    /// Its columns in order; `None` stands for an expression, or the beginning of a column.
    pub columns: Vec<Option<String>>,
}

impl Index {
    /// Its columns, if rows are unique by their whole values.
    pub(crate) fn whole(&self) -> Option<Vec<String>> {
        self.columns.iter().cloned().collect()
    }
}

/// A table or a view.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub name: String,
    /// `BASE TABLE`, `VIEW`, …
    pub kind: String,
    pub engine: String,
    pub columns: Vec<Column>,
    /// The primary key first.
    pub unique: Vec<Index>,
}

const DOING: &str = "looking at the table";

impl Table {
    /// Describes a table of the connection's database; `None` if there is none of this name.
    pub(crate) async fn load(session: &mut Session, name: &str) -> Result<Option<Self>, DatabaseFault> {
        let sql = "SELECT TABLE_NAME, TABLE_TYPE, ENGINE, @@lower_case_table_names \
                   FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";
        let found = session.rows(DOING, sql, (name,)).await?;
        // The server may compare these names by letters alone, where its files do not.
        let same = |row: &Row| {
            let known = text(row, 0).unwrap_or_default();
            known == name || (number(row, 3) != Some(0) && known.eq_ignore_ascii_case(name))
        };
        let Some(row) = found.iter().find(|row| same(row)) else { return Ok(None) };
        let name = text(row, 0).unwrap_or_default();
        Ok(Some(Self {
            kind: text(row, 1).unwrap_or_default(),
            engine: text(row, 2).unwrap_or_default(),
            columns: columns(session, &name).await?,
            unique: unique(session, &name).await?,
            name,
        }))
    }

    /// What of it is another than it was in `before`, for whoever writes these columns; `None` if nothing is.
    pub(crate) fn differs(
        &self,
        before: &Self,
        written: impl Fn(&str) -> bool,
        by_key: bool,
    ) -> Option<String> {
        if (&self.kind, &self.engine) != (&before.kind, &before.engine) {
            return Some(format!("its engine is {} now and was {}", self.engine, before.engine));
        }
        for was in before.columns.iter().filter(|column| written(&column.name)) {
            let Some(is) = self.columns.iter().find(|column| column.name == was.name) else {
                return Some(format!("column {:?} is gone", was.name));
            };
            if is != was {
                let of = |column: &Column| match column.not_null {
                    true => format!("{} {} NOT NULL", column.declared, column.collation),
                    false => format!("{} {}", column.declared, column.collation),
                };
                return Some(format!("column {:?} is {} now and was {}", was.name, of(is), of(was)));
            }
        }
        let demands = |column: &&Column| !column.default && !column.generated && !written(&column.name);
        let was_there = |column: &&Column| before.columns.iter().any(|was| was == *column);
        if let Some(column) = self.columns.iter().filter(demands).find(|column| !was_there(column)) {
            return Some(format!("it demands column {:?} now", column.name));
        }
        (by_key && self.unique != before.unique).then(|| "its unique indexes are others now".to_owned())
    }

    /// A column by its name, as MySQL compares names.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| same_name(&column.name, name))
    }

    /// Whether an index is unique by exactly these columns, in any order.
    pub(crate) fn is_unique_by(index: &Index, key: &[String]) -> bool {
        let Some(columns) = index.whole() else { return false };
        columns.len() == key.len()
            && key.iter().all(|name| columns.iter().any(|column| same_name(column, name)))
    }

    /// The columns of the best key to read by: the primary key, else a unique index whose columns are never NULL.
    pub(crate) fn reading_key(&self) -> Option<Vec<String>> {
        let orders = |name: &String| {
            self.column(name)
                .is_some_and(|column| column.not_null && Declared::read(&column.declared).is_ordered())
        };
        let mut keys = self.unique.iter().filter_map(Index::whole);
        keys.find(|columns| columns.iter().all(orders))
    }
}

/// Whether MySQL takes two column names for one.
pub(crate) fn same_name(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

async fn columns(session: &mut Session, table: &str) -> Result<Vec<Column>, DatabaseFault> {
    let sql = "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT IS NOT NULL, EXTRA, \
               GENERATION_EXPRESSION, TABLE_NAME, COLLATION_NAME FROM information_schema.COLUMNS \
               WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION";
    let rows = session.rows(DOING, sql, (table,)).await?;
    let column = |row: &Row| {
        let extra = text(row, 4).unwrap_or_default().to_lowercase();
        let not_null = text(row, 2).as_deref() == Some("NO");
        let counts_itself = extra.contains("auto_increment");
        Column {
            name: text(row, 0).unwrap_or_default(),
            declared: text(row, 1).unwrap_or_default(),
            collation: text(row, 7).unwrap_or_default(),
            not_null,
            default: number(row, 3) == Some(1) || !not_null || counts_itself,
            counts_itself,
            generated: text(row, 5).is_some_and(|expression| !expression.is_empty()),
        }
    };
    Ok(rows.iter().filter(|row| text(row, 6).as_deref() == Some(table)).map(column).collect())
}

async fn unique(session: &mut Session, table: &str) -> Result<Vec<Index>, DatabaseFault> {
    let sql = "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART IS NOT NULL, TABLE_NAME FROM information_schema.STATISTICS \
               WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND NON_UNIQUE = 0 \
               ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX";
    let rows = session.rows(DOING, sql, (table,)).await?;
    let mut indexes: Vec<Index> = Vec::new();
    for row in rows.iter().filter(|row| text(row, 3).as_deref() == Some(table)) {
        let name = text(row, 0).unwrap_or_default();
        let column = text(row, 1).filter(|_| number(row, 2) == Some(0));
        match indexes.last_mut().filter(|index| index.name == name) {
            Some(index) => index.columns.push(column),
            None => indexes.push(Index { name, columns: vec![column] }),
        }
    }
    Ok(indexes)
}
