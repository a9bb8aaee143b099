//! How records of one shape meet the table: decided from what the table is, before anything is written.

use arrow::datatypes::{Field, Schema};
use hapax_engine::sink::Shape;

use crate::client::{quoted, quoted_list};
use crate::config::{SchemaChanges, SinkConfig, Write};
use crate::declared::{self, Takes};
use crate::fault::WriteFault;
use crate::server::Server;
use crate::table::{Column, Table, same_name};

/// The longest name of a table or a column, in characters.
const NAME_CHARS_MAX: usize = 64;

/// How many bytes the columns of an index may have together, with room for what InnoDB adds.
const KEY_BYTES_MAX: u32 = 3_000;

/// Bytes of one character.
const CHAR_BYTES: u32 = 4;

/// The longest text in a key of a table that Hapax creates, in characters.
const KEY_CHARS_MAX: u32 = 255;

/// One column that is written.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub name: String,
    pub takes: Takes,
    pub null: Null,
    /// Whether it is a key in which trailing spaces tell nothing apart.
    pub pads: bool,
}

/// What a NULL in a column means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Null {
    Taken,
    /// The column is NOT NULL: MySQL would refuse the row, or put a value of its own there.
    Refused,
    /// The column is part of the key.
    NoKey,
}

/// What is done for each batch, and what is done once before.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The table.
    pub table: String,
    /// The columns, in the order of the records.
    pub columns: Vec<Target>,
    /// The statement that takes rows as a file; `None` where a file could hide a conflict.
    pub load: Option<String>,
    /// What stands before the values of an insert.
    pub head: String,
    /// What stands behind them.
    pub tail: String,
    /// The statement that creates the table, or adds what it lacks; `None` if it is there and lacks nothing.
    pub prepare: Option<String>,
    /// The table as it was looked at.
    pub seen: Option<Table>,
    pub by_key: bool,
    /// What will be done, in words.
    pub words: Vec<String>,
}

impl Plan {
    /// Decides, given the table or that there is none. Refuses what would not fit.
    pub(crate) fn make(
        config: &SinkConfig,
        shape: &Shape,
        server: &Server,
        table: Option<&Table>,
    ) -> Result<Self, WriteFault> {
        let schema = &shape.schema;
        named(&config.table)?;
        distinct(schema)?;
        let key = key(config, shape)?;
        let seen = table.cloned();
        let (prepare, words, columns) = match table {
            None => {
                let create = creation(&config.table, schema, &key, server)?;
                let words = vec![format!("create the table {}: {}", config.table, create.sql)];
                (Some(create.sql), words, create.columns)
            }
            Some(table) => {
                let Fitted { columns, added } = fit(config, table, schema, &key, server)?;
                let mut words = vec![format!(
                    "write {} columns of the table {}, which is there and has {}",
                    columns.len(),
                    table.name,
                    table.columns.len()
                )];
                // One statement: all of them, or none.
                let alter = format!("ALTER TABLE {} {}", quoted(&table.name), added.join(", "));
                let alter = (!added.is_empty()).then_some(alter);
                words.extend(alter.iter().map(|alter| format!("add what is missing: {alter}")));
                (alter, words, columns)
            }
        };
        let table = table.map_or_else(|| config.table.clone(), |table| table.name.clone());
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let head = format!("INSERT INTO {} ({}) VALUES ", quoted(&table), quoted_list(&names));
        let tail = tail(config.write, &names, &key, server);
        let load = (config.write == Write::Append).then(|| loading(&table, &columns));
        let by_key = config.write != Write::Append;
        Ok(Self { table, columns, load, head, tail, prepare, seen, by_key, words })
    }

    /// Refuses a table that is not what it was when this was decided.
    pub(crate) fn still_fits(&self, table: Option<&Table>) -> Result<(), WriteFault> {
        let altered = |what: String| Err(WriteFault::TableAltered { table: self.table.clone(), what });
        let (Some(seen), Some(table)) = (&self.seen, table) else {
            return altered("it is gone".to_owned());
        };
        let written = |name: &str| self.columns.iter().any(|column| column.name == name);
        table.differs(seen, written, self.by_key).map_or(Ok(()), altered)
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
        match fields.find(|field| same_name(field.name(), column)) {
            Some(field) => Ok(field.name().clone()),
            None => Err(WriteFault::KeyColumn { column: column.clone() }),
        }
    };
    shape.key.iter().map(spelt).collect()
}

fn named(name: &str) -> Result<(), WriteFault> {
    if name.chars().count() <= NAME_CHARS_MAX {
        return Ok(());
    }
    let name = name.chars().take(NAME_CHARS_MAX).collect();
    Err(WriteFault::LongName { name, max: NAME_CHARS_MAX, unit: "characters" })
}

fn distinct(schema: &Schema) -> Result<(), WriteFault> {
    let mut seen: Vec<&String> = Vec::new();
    for field in schema.fields() {
        named(field.name())?;
        if let Some(first) = seen.iter().find(|name| same_name(name, field.name())) {
            return Err(WriteFault::SameName { first: (*first).clone(), second: field.name().clone() });
        }
        seen.push(field.name());
    }
    Ok(())
}

fn unheld(field: &Field) -> WriteFault {
    WriteFault::TypeUnheld { column: field.name().clone(), data_type: field.data_type().to_string() }
}

/// A table to be created.
struct Creation {
    sql: String,
    columns: Vec<Target>,
}

fn creation(table: &str, schema: &Schema, key: &[String], server: &Server) -> Result<Creation, WriteFault> {
    let parts = u32::try_from(key.len()).unwrap_or(u32::MAX).max(1);
    let chars = (KEY_BYTES_MAX / CHAR_BYTES / parts).min(KEY_CHARS_MAX);
    let (mut lines, mut columns) = (Vec::new(), Vec::new());
    for field in schema.fields() {
        let in_key = key.contains(field.name());
        let declared =
            declared::column(field, server, in_key.then_some(chars)).ok_or_else(|| unheld(field))?;
        let takes = declared::takes(&declared, field.data_type()).ok_or_else(|| unheld(field))?;
        let null = if in_key { " NOT NULL" } else { " NULL" };
        lines.push(format!("{} {declared}{null}", quoted(field.name())));
        let null = if in_key { Null::NoKey } else { Null::Taken };
        columns.push(Target { name: field.name().clone(), takes, null, pads: false });
    }
    if !key.is_empty() {
        lines.push(format!("PRIMARY KEY ({})", quoted_list(key)));
    }
    let sql = format!("CREATE TABLE IF NOT EXISTS {} ({}) ENGINE = InnoDB", quoted(table), lines.join(", "));
    Ok(Creation { sql, columns })
}

/// How records are written to a table that is there.
struct Fitted {
    columns: Vec<Target>,
    /// What is missing, as parts of an ALTER TABLE.
    added: Vec<String>,
}

/// Refuses a table that records of this schema cannot be written to as they are, and says how they are written.
fn fit(
    config: &SinkConfig,
    table: &Table,
    schema: &Schema,
    key: &[String],
    server: &Server,
) -> Result<Fitted, WriteFault> {
    let name = || table.name.clone();
    if table.kind != "BASE TABLE" {
        return Err(WriteFault::NotATable { table: name(), kind: table.kind.to_lowercase() });
    }
    if !table.engine.eq_ignore_ascii_case("InnoDB") {
        return Err(WriteFault::Engine { table: name(), engine: table.engine.clone() });
    }
    let by_key = config.write != Write::Append;
    let (mut columns, mut added) = (Vec::new(), Vec::new());
    for field in schema.fields() {
        let column = field.name().clone();
        let declared = declared::column(field, server, None).ok_or_else(|| unheld(field))?;
        let Some(there) = table.column(&column) else {
            if config.schema_changes == SchemaChanges::Refuse {
                return Err(WriteFault::ColumnMissing { table: name(), column, declared });
            }
            let takes = declared::takes(&declared, field.data_type()).ok_or_else(|| unheld(field))?;
            added.push(format!("ADD COLUMN {} {declared} NULL", quoted(&column)));
            columns.push(Target { name: column, takes, null: Null::Taken, pads: false });
            continue;
        };
        if there.generated {
            return Err(WriteFault::Generated { table: name(), column });
        }
        let Some(takes) = declared::takes(&there.declared, field.data_type()) else {
            let (found, data_type) = (there.declared.clone(), field.data_type().to_string());
            return Err(WriteFault::ColumnType { table: name(), column, found, data_type, declared });
        };
        let null = match (by_key && key.contains(&column), there.not_null) {
            (true, _) => Null::NoKey,
            (false, true) => Null::Refused,
            (false, false) => Null::Taken,
        };
        let is_key = by_key && key.contains(&column) && !config.accept_collation;
        let pads = is_key && tells_apart(table, there, server)?;
        columns.push(Target { name: there.name.clone(), takes, null, pads });
    }
    let supplied = |name: &str| schema.fields().iter().any(|field| same_name(field.name(), name));
    for column in &table.columns {
        if !column.default && !column.generated && !supplied(&column.name) {
            return Err(WriteFault::ColumnDemanded { table: name(), column: column.name.clone() });
        }
    }
    if by_key {
        unambiguous(table, key, supplied)?;
    }
    Ok(Fitted { columns, added })
}

/// Refuses a key whose collation takes different texts for one. Whether trailing spaces are left out of the comparison.
fn tells_apart(table: &Table, column: &Column, server: &Server) -> Result<bool, WriteFault> {
    let collation = column.collation.as_str();
    let is_member = column.declared.starts_with("enum(") || column.declared.starts_with("set(");
    if collation.is_empty() || is_member {
        return Ok(false);
    }
    if collation.ends_with("_bin") {
        return Ok(!matches!(collation, "utf8mb4_0900_bin") && !collation.ends_with("_nopad_bin"));
    }
    let set = collation.split('_').next().unwrap_or("utf8mb4");
    let exact = match (set, server.mariadb) {
        ("utf8mb4" | "uca1400", _) => server.exact_collation().to_owned(),
        (set, true) => format!("{set}_nopad_bin"),
        (set, false) => format!("{set}_bin"),
    };
    let alter = format!(
        "ALTER TABLE {} MODIFY {} {} CHARACTER SET {} COLLATE {exact}{}",
        quoted(&table.name),
        quoted(&column.name),
        column.declared,
        if set == "uca1400" { "utf8mb4" } else { set },
        if column.not_null { " NOT NULL" } else { "" }
    );
    let (table, column) = (table.name.clone(), column.name.clone());
    Err(WriteFault::KeyCollation { table, column, collation: collation.to_owned(), alter })
}

/// Refuses a table in which a record's key does not say which row it meets: ON DUPLICATE KEY looks at every unique
/// index.
fn unambiguous(table: &Table, key: &[String], supplied: impl Fn(&str) -> bool) -> Result<(), WriteFault> {
    if !table.unique.iter().any(|index| Table::is_unique_by(index, key)) {
        let create = format!(
            "CREATE UNIQUE INDEX {} ON {} ({})",
            quoted(
                &format!("{}_{}", table.name, key.join("_")).chars().take(NAME_CHARS_MAX).collect::<String>()
            ),
            quoted(&table.name),
            quoted_list(key)
        );
        return Err(WriteFault::NoUniqueIndex { table: table.name.clone(), key: key.join(", "), create });
    }
    // Where the database counts a number up by itself, no record can meet an earlier one.
    let counted = |column: &String| {
        !supplied(column) && table.column(column).is_some_and(|column| column.counts_itself)
    };
    for index in table.unique.iter().filter(|index| !Table::is_unique_by(index, key)) {
        if !index.columns.iter().flatten().any(counted) {
            let other = index.whole().map_or_else(|| index.name.clone(), |columns| columns.join(", "));
            return Err(WriteFault::SeveralKeys { table: table.name.clone(), key: key.join(", "), other });
        }
    }
    Ok(())
}

/// What makes an insert one by key. It leaves no error out, as IGNORE would.
fn tail(write: Write, columns: &[String], key: &[String], server: &Server) -> String {
    let set = |column: &String| format!("{} = {}", quoted(column), server.inserted(&quoted(column)));
    let others: Vec<String> = match write {
        Write::Append => return String::new(),
        Write::Upsert => {
            columns.iter().filter(|column| !key.iter().any(|k| same_name(k, column))).map(set).collect()
        }
        Write::Ignore => Vec::new(),
    };
    let changes = match (others.is_empty(), key.first()) {
        (true, Some(column)) => format!("{0} = {0}", quoted(column)),
        _ => others.join(", "),
    };
    let alias = if others.is_empty() { "" } else { server.alias() };
    format!("{alias} ON DUPLICATE KEY UPDATE {changes}")
}

fn loading(table: &str, columns: &[Target]) -> String {
    let (mut into, mut set) = (Vec::new(), Vec::new());
    for (index, column) in columns.iter().enumerate() {
        let name = quoted(&column.name);
        let made = match column.takes {
            Takes::Bytes(_) => format!("UNHEX(@hapax_{index})"),
            Takes::Bit => format!("CAST(@hapax_{index} AS UNSIGNED)"),
            _ => {
                into.push(name);
                continue;
            }
        };
        into.push(format!("@hapax_{index}"));
        set.push(format!("{name} = {made}"));
    }
    let set = if set.is_empty() { String::new() } else { format!(" SET {}", set.join(", ")) };
    format!(
        "LOAD DATA LOCAL INFILE 'hapax' INTO TABLE {} CHARACTER SET utf8mb4 \
         FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({}){set}",
        quoted(table),
        into.join(", ")
    )
}
