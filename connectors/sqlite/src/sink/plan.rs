//! How records of one shape meet the table: decided from what the table is, before anything is written.

use arrow::datatypes::{DataType, Schema};
use hapax_engine::sink::Shape;

use crate::config::{SinkConfig, Write};
use crate::connection::{quoted, quoted_list};
use crate::declared::{self, Stored};
use crate::fault::WriteFault;
use crate::table::Table;

/// What is done for each batch, and what is done once before.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The table.
    pub table: String,
    /// The names of the columns, in the order of the records.
    pub columns: Vec<String>,
    /// The statement for one record.
    pub insert: String,
    /// The columns in which NULL is refused before SQLite sees it.
    pub never_null: Vec<usize>,
    /// The statement that creates the table; `None` if it is there.
    pub create: Option<String>,
    /// What will be done, in words.
    pub words: Vec<String>,
    /// Whether a row may leave the table as it was.
    pub(crate) may_skip: bool,
    /// Whether a row is refused where its key is there.
    pub(crate) only_absent: bool,
    insert_absent: String,
}

impl Plan {
    /// Decides, given the table or that there is none. Refuses what would not fit.
    pub(crate) fn make(
        config: &SinkConfig,
        shape: &Shape,
        table: Option<&Table>,
    ) -> Result<Self, WriteFault> {
        let schema = &shape.schema;
        distinct(schema)?;
        let key = key(config, shape)?;
        for field in schema.fields() {
            typed(field.name(), field.data_type())?;
        }
        let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let (create, words) = match table {
            None => {
                let create = creation(&config.table, schema, &key)?;
                let words = vec![format!("create the table {}: {create}", config.table)];
                (Some(create), words)
            }
            Some(table) => {
                fit(config, table, schema, &key)?;
                let word = format!(
                    "write {} of the {} columns of the table {}, which is there",
                    columns.len(),
                    table.columns.len(),
                    table.name
                );
                (None, vec![word])
            }
        };
        let alias = match table {
            Some(table) => table.rowid_alias.clone(),
            None => row_id_key(schema, &key),
        };
        let by_key = config.write != Write::Append;
        let never_null = (0..columns.len()).filter(|index| {
            let column = columns.get(*index);
            let is = |name: &String| column.is_some_and(|column| column.eq_ignore_ascii_case(name));
            (by_key && key.iter().any(is)) || alias.as_ref().is_some_and(is)
        });
        let never_null = never_null.collect();
        let table = table.map_or_else(|| config.table.clone(), |table| table.name.clone());
        let insert = insertion(config.write, &table, &columns, &key);
        let insert_absent = insertion(Write::Ignore, &table, &columns, &key);
        // An upsert whose columns are all in the key has nothing to update either.
        let may_skip = config.write == Write::Ignore || (by_key && columns.len() == key.len());
        Ok(Self {
            table,
            columns,
            insert,
            never_null,
            create,
            words,
            may_skip,
            only_absent: false,
            insert_absent,
        })
    }

    /// The same by key, but without effect on a row that is there.
    pub(crate) fn absent(&self) -> Self {
        Self { insert: self.insert_absent.clone(), only_absent: true, ..self.clone() }
    }
}

/// The key, spelt as the records spell it.
fn key(config: &SinkConfig, shape: &Shape) -> Result<Vec<String>, WriteFault> {
    let write = match config.write {
        Write::Append => None,
        Write::Upsert => Some("upsert"),
        Write::Ignore => Some("ignore"),
    };
    if let (Some(write), true) = (write, shape.key.is_empty()) {
        return Err(WriteFault::NoKey { write });
    }
    let spelt = |column: &String| {
        let mut fields = shape.schema.fields().iter();
        match fields.find(|field| field.name().eq_ignore_ascii_case(column)) {
            Some(field) => Ok(field.name().clone()),
            None => Err(WriteFault::KeyColumn { column: column.clone() }),
        }
    };
    shape.key.iter().map(spelt).collect()
}

fn distinct(schema: &Schema) -> Result<(), WriteFault> {
    let mut seen: Vec<(String, &String)> = Vec::new();
    for field in schema.fields() {
        let folded = field.name().to_ascii_lowercase();
        if let Some((_, first)) = seen.iter().find(|(name, _)| *name == folded) {
            return Err(WriteFault::SameName { first: (*first).clone(), second: field.name().clone() });
        }
        seen.push((folded, field.name()));
    }
    Ok(())
}

fn typed(column: &str, data_type: &DataType) -> Result<(String, Stored), WriteFault> {
    declared::column(data_type)
        .ok_or_else(|| WriteFault::TypeUnheld { column: column.to_owned(), data_type: data_type.to_string() })
}

/// The key column that SQLite makes the row id of a table created from this schema.
fn row_id_key(schema: &Schema, key: &[String]) -> Option<String> {
    let [only] = key else { return None };
    let field = schema.field_with_name(only).ok()?;
    let (declared, _) = declared::column(field.data_type())?;
    (declared == "INTEGER").then(|| only.clone())
}

fn creation(table: &str, schema: &Schema, key: &[String]) -> Result<String, WriteFault> {
    let mut parts = Vec::new();
    for field in schema.fields() {
        let (declared, _) = typed(field.name(), field.data_type())?;
        // SQLite allows NULL in a primary key unless told otherwise.
        let not_null = if key.contains(field.name()) { " NOT NULL" } else { "" };
        parts.push(format!("{} {declared}{not_null}", quoted(field.name())));
    }
    if !key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", quoted_list(key)));
    }
    Ok(format!("CREATE TABLE {} ({})", quoted(table), parts.join(", ")))
}

/// Refuses a table that records of this schema cannot be written to as they are.
fn fit(config: &SinkConfig, table: &Table, schema: &Schema, key: &[String]) -> Result<(), WriteFault> {
    let name = || table.name.clone();
    if table.kind != "table" {
        let kind = if table.kind == "view" { "view" } else { "virtual table" };
        return Err(WriteFault::NotATable { table: name(), kind: kind.to_owned() });
    }
    for field in schema.fields() {
        let column = field.name().clone();
        let (declared, stored) = typed(&column, field.data_type())?;
        let Some(there) = table.column(&column) else {
            return Err(WriteFault::ColumnMissing { table: name(), column, declared });
        };
        if there.generated {
            return Err(WriteFault::Generated { table: name(), column });
        }
        if !stored.kept_by(declared::affinity(&there.declared, table.strict)) {
            let (found, data_type) = (there.declared.clone(), field.data_type().to_string());
            let declared = if table.strict { strict_name(stored).to_owned() } else { declared };
            return Err(WriteFault::ColumnType { table: name(), column, found, data_type, declared });
        }
    }
    let supplied = |name: &str| schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(name));
    for column in &table.columns {
        let alias = table.rowid_alias.as_ref() == Some(&column.name);
        let demanded = column.not_null || (table.without_rowid && column.primary > 0);
        if demanded && !column.default && !column.generated && !alias && !supplied(&column.name) {
            return Err(WriteFault::ColumnDemanded { table: name(), column: column.name.clone() });
        }
    }
    if config.write != Write::Append && !table.unique_by(key) {
        let create = format!(
            "CREATE UNIQUE INDEX {} ON {} ({})",
            quoted(&format!("{}_{}", table.name, key.join("_"))),
            quoted(&table.name),
            quoted_list(key)
        );
        return Err(WriteFault::NoUniqueIndex { table: name(), key: key.join(", "), create });
    }
    Ok(())
}

fn strict_name(stored: Stored) -> &'static str {
    match stored {
        Stored::Integer | Stored::Boolean => "INTEGER",
        Stored::Real => "REAL",
        Stored::Text | Stored::Moment => "TEXT",
        Stored::Blob => "BLOB",
    }
}

fn insertion(write: Write, table: &str, columns: &[String], key: &[String]) -> String {
    let holes: Vec<String> = (1..=columns.len()).map(|index| format!("?{index}")).collect();
    let insert =
        format!("INSERT INTO {} ({}) VALUES ({})", quoted(table), quoted_list(columns), holes.join(", "));
    let others: Vec<String> = columns
        .iter()
        .filter(|column| !key.contains(column))
        .map(|column| format!("{0} = excluded.{0}", quoted(column)))
        .collect();
    match write {
        Write::Append => insert,
        Write::Upsert if !others.is_empty() => {
            format!("{insert} ON CONFLICT ({}) DO UPDATE SET {}", quoted_list(key), others.join(", "))
        }
        Write::Upsert | Write::Ignore => format!("{insert} ON CONFLICT ({}) DO NOTHING", quoted_list(key)),
    }
}
